"""Waiting for what the hub does in its own time."""

import time

DEADLINE_SECONDS = 30


def eventually(ask):
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"still {answer!r} after {DEADLINE_SECONDS} s"
        time.sleep(0.02)
    return answer
