"""What the hub stored, as azure-eventhub reads it."""

import threading
import time

from azure.eventhub import EventHubConsumerClient

DEADLINE_SECONDS = 30

# The client asks its partitions in turn and waits this long at each that is silent; its default is 0.2 s, 1 s on a WebSocket.
FAST = {"socket_timeout": 0.02}


class Reader:
    """Collects events in the background, from a start position on, of one partition or of all; receive is for the SDK's receive_batch."""

    def __init__(self, connection_string, start="-1", inclusive=False, partition=None, group="$Default", receive=None, **client_options):
        self._client = EventHubConsumerClient.from_connection_string(connection_string, group, **FAST, **client_options)
        self._receive = {
            "starting_position": start, "starting_position_inclusive": inclusive, "partition_id": partition, **(receive or {})
        }
        self._arrived = threading.Condition()
        self._events = []
        self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        # The thread ends when the client has said goodbye on each link; nothing waits for it.
        self._client.close()

    def of(self, device_id, count=1):
        """Waits until the device has at least count events; returns all it has, in order of arrival."""
        return self.wait(lambda event: device_of(event) == device_id, count)

    def wait(self, wanted, count=1):
        deadline = time.monotonic() + DEADLINE_SECONDS
        with self._arrived:
            while True:
                found = [event for event in self._events if wanted(event)]
                if len(found) >= count:
                    return found
                if self._error:
                    raise self._error
                if not self._arrived.wait(deadline - time.monotonic()):
                    raise AssertionError(f"{len(found)} of {count} events after {DEADLINE_SECONDS} s")

    def so_far(self):
        with self._arrived:
            return list(self._events)

    def alive(self):
        """Whether nothing has ended it so far."""
        with self._arrived:
            return self._error is None

    def error(self):
        """Waits for what the hub ends or refuses the reader with."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self._error, DEADLINE_SECONDS), f"no error after {DEADLINE_SECONDS} s"
            return self._error

    def _run(self):
        self._client.receive_batch(on_event_batch=self._add, on_error=self._fail, **self._receive)

    def _add(self, partition, events):
        with self._arrived:
            for event in events:
                event.partition_id = partition.partition_id
                event.last_enqueued = partition.last_enqueued_event_properties
            self._events.extend(events)
            self._arrived.notify_all()

    def _fail(self, _, error):
        with self._arrived:
            self._error = error
            self._arrived.notify_all()


def annotations(event):
    """The event's message annotations with text keys; the values stay as the client decoded them."""
    return {_text(key): value for key, value in event.raw_amqp_message.annotations.items()}


def properties(event):
    """The event's application properties as text."""
    return {_text(key): _text(value) for key, value in (event.properties or {}).items()}


def body(event):
    return b"".join(event.body)


def device_of(event):
    return _text(annotations(event).get("iothub-connection-device-id"))


def _text(value):
    return value.decode() if isinstance(value, bytes) else value
