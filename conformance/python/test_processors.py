"""Processors that share the partitions through a checkpoint store in blobs, synchronous and asyncio, as a back end runs them."""

import asyncio
import collections
import threading

import pytest
from azure.eventhub import EventHubConsumerClient
from azure.eventhub.aio import EventHubConsumerClient as AsyncConsumerClient
from azure.eventhub.extensions.checkpointstoreblob import BlobCheckpointStore
from azure.eventhub.extensions.checkpointstoreblobaio import BlobCheckpointStore as AsyncBlobCheckpointStore
from azure.storage.blob import ContainerClient

from conftest import make_device
from devices import connected
from eventually import eventually
from events import FAST, body, device_of

# How often processors look at the store, and when they take one of them for dead: seconds of real time, since the store's
# clock is Azurite's.
BALANCING = {"load_balancing_interval": 0.1, "partition_ownership_expiration_interval": 1}

PARTITIONS = {"0", "1", "2", "3"}


class Seen:
    """What all processors of a test have been handed."""

    def __init__(self):
        self._lock = threading.Lock()
        self._bodies = collections.defaultdict(list)

    def add(self, event):
        with self._lock:
            self._bodies[device_of(event)].append(body(event).decode())

    def of(self, device):
        with self._lock:
            return list(self._bodies[device.id])


class Processor:
    """One process of a back end: it owns partitions, and makes a checkpoint after every event unless it is told to forget it."""

    def __init__(self, hub, group, store, seen, checkpoints=True):
        self.owned = set()
        self.checkpoints = checkpoints
        self._seen = seen
        self._client = EventHubConsumerClient.from_connection_string(
            hub.event_hub, group, checkpoint_store=store, connection_verify=hub.ca_path, **FAST, **BALANCING
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._client.close()
        self._thread.join()

    def _run(self):
        self._client.receive(
            self._handle, starting_position="-1",
            on_partition_initialize=lambda partition: self.owned.add(partition.partition_id),
            on_partition_close=lambda partition, _: self.owned.discard(partition.partition_id),
        )

    def _handle(self, partition, event):
        self._seen.add(event)
        if self.checkpoints:
            partition.update_checkpoint(event)


@pytest.fixture
def container(azurite, group):
    """An empty container of blobs."""
    with ContainerClient.from_connection_string(azurite.connection_string, group) as made:
        made.create_container()
        yield made


@pytest.fixture
def store(azurite, container):
    return lambda: BlobCheckpointStore.from_connection_string(azurite.connection_string, container.container_name)


def test_processors_balance_the_partitions(hub, group, store):
    seen = Seen()
    with Processor(hub, group, store(), seen) as one:
        eventually(lambda: one.owned == PARTITIONS)
        with Processor(hub, group, store(), seen) as other:
            eventually(lambda: len(one.owned) == len(other.owned) == 2 and one.owned | other.owned == PARTITIONS)
        eventually(lambda: one.owned == PARTITIONS)
