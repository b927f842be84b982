"""Processors of events, as a back end runs them: they share the partitions through a checkpoint store in blobs.

Run as a program, this is such a back end's process, which can be killed: it says what it handles, a line for each event.
"""

import asyncio
import collections
import json
import subprocess
import sys
import threading

from azure.eventhub import EventHubConsumerClient
from azure.eventhub.aio import EventHubConsumerClient as AsyncConsumerClient
from azure.eventhub.extensions.checkpointstoreblob import BlobCheckpointStore
from azure.eventhub.extensions.checkpointstoreblobaio import BlobCheckpointStore as AsyncBlobCheckpointStore

from events import FAST, body, device_of

# How often processors look at the store, and when they take one of them for dead: seconds of real time, by which blobs are
# stamped.
BALANCING = {"load_balancing_interval": 0.1, "partition_ownership_expiration_interval": 1}


class Seen:
    """What processors have been handed, by device."""

    def __init__(self):
        self._lock = threading.Lock()
        self._bodies = collections.defaultdict(list)

    def add(self, device_id, text):
        with self._lock:
            self._bodies[device_id].append(text)

    def of(self, device):
        with self._lock:
            return list(self._bodies[device.id])


class Processor:
    """Handles every event by the function, and makes a checkpoint after each."""

    def __init__(self, options, handle):
        self.owned = set()
        self._handle = handle
        self._start = options["start"]
        self._client = EventHubConsumerClient.from_connection_string(
            options["event_hub"], options["group"], connection_verify=options["ca"], **FAST, **BALANCING,
            checkpoint_store=BlobCheckpointStore.from_connection_string(options["storage"], options["container"]),
        )
        self._thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._client.close()
        self._thread.join()

    def run(self):
        self._client.receive(
            self._on_event, starting_position=self._start,
            on_partition_initialize=lambda partition: self.owned.add(partition.partition_id),
            on_partition_close=lambda partition, _: self.owned.discard(partition.partition_id),
        )

    def _on_event(self, partition, event):
        self._handle(device_of(event), body(event).decode())
        partition.update_checkpoint(event)


class AsyncProcessor:
    """The same on an event loop."""

    def __init__(self, options, handle):
        self.owned = set()
        self._handle = handle
        self._options = options

    async def __aenter__(self):
        options = self._options
        self._store = AsyncBlobCheckpointStore.from_connection_string(options["storage"], options["container"])
        self._client = AsyncConsumerClient.from_connection_string(
            options["event_hub"], options["group"], connection_verify=options["ca"], checkpoint_store=self._store, **BALANCING
        )
        self._receiving = asyncio.ensure_future(self._client.receive(
            self._on_event, starting_position=self._options["start"],
            on_partition_initialize=self._on_begin, on_partition_close=self._on_end,
        ))
        return self

    async def __aexit__(self, *_):
        await self._client.close()
        await self._receiving
        await self._store.close()

    async def _on_begin(self, partition):
        self.owned.add(partition.partition_id)

    async def _on_end(self, partition, _):
        self.owned.discard(partition.partition_id)

    async def _on_event(self, partition, event):
        self._handle(device_of(event), body(event).decode())
        await partition.update_checkpoint(event)


class Process:
    """A Processor in a process of its own, for a test to kill."""

    def __init__(self, options):
        self.seen = Seen()
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(options)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._reading.join()

    def _read(self):
        for line in self._process.stdout:
            self.seen.add(*json.loads(line))


def main():
    Processor(json.loads(sys.argv[1]), lambda *event: print(json.dumps(event), flush=True)).run()


if __name__ == "__main__":
    main()
