"""Processors with checkpoint stores in blobs: they balance the partitions, and whoever takes one over goes on at its checkpoint."""

import asyncio
import contextlib
import itertools

import pytest
from azure.storage.blob import ContainerClient

from conftest import make_device
from devices import DEADLINE_SECONDS, connected
from eventhub import DOORS, consumer
from eventually import eventually
from processors import AsyncProcessor, Process, Processor, Seen

PARTITIONS = {"0", "1", "2", "3"}
ALL = [str(n) for n in range(8)]


@pytest.fixture
def options(hub, group, azurite):
    """What processors of one back end are made with."""
    with ContainerClient.from_connection_string(azurite.connection_string, group) as container:
        container.create_container()
    with consumer(hub, DOORS["amqps"]) as client:
        # Behind what other tests have sent.
        start = {p: client.get_partition_properties(p)["last_enqueued_sequence_number"] for p in PARTITIONS}
    return {
        "event_hub": hub.event_hub, "ca": hub.ca_path, "group": group,
        "start": start, "storage": azurite.connection_string, "container": group,
    }


@pytest.fixture
def senders(hub, registry):
    """Connected devices, enough for all partitions."""
    with contextlib.ExitStack() as clients:
        yield [(device, clients.enter_context(connected(device))) for device in (make_device(hub, registry) for _ in range(5))]


def test_processors_balance_the_partitions(options):
    with Processor(options, ignore) as one:
        eventually(lambda: one.owned == PARTITIONS)
        with Processor(options, ignore) as other:
            eventually(lambda: len(one.owned) == len(other.owned) == 2 and one.owned | other.owned == PARTITIONS)
        eventually(lambda: one.owned == PARTITIONS)


def test_what_a_processor_leaves_when_it_dies_goes_to_another(options, senders):
    seen = Seen()
    with Process(options) as mortal:
        send(senders, ALL[:4])
        eventually(lambda: all(mortal.seen.of(device) for device, _ in senders))
        mortal.kill()
    with Processor(options, seen.add):
        send(senders, ALL[4:])
        eventually(lambda: all(seen.of(device)[-1:] == ALL[-1:] for device, _ in senders))
    for device, _ in senders:
        before, after = mortal.seen.of(device), seen.of(device)
        assert before == ALL[:len(before)]
        # Of what the dead one had begun with, the last event may lack its checkpoint.
        assert after in (ALL[len(before):], ALL[len(before) - 1:])


def test_events_that_come_while_nobody_reads_are_waiting(options, senders):
    seen = Seen()
    for part in (ALL[:3], ALL[3:]):
        send(senders, part)
        with Processor(options, seen.add):
            eventually(lambda: all(seen.of(device)[-1:] == part[-1:] for device, _ in senders))
    assert [seen.of(device) for device, _ in senders] == [ALL] * len(senders)


def test_processors_on_an_event_loop_do_the_same(options, senders):
    seen = Seen()

    async def process():
        async with AsyncProcessor(options, ignore) as one:
            await soon(lambda: one.owned == PARTITIONS)
            async with AsyncProcessor(options, ignore) as other:
                await soon(lambda: len(one.owned) == len(other.owned) == 2 and one.owned | other.owned == PARTITIONS)
        for part in (ALL[:3], ALL[3:]):
            await asyncio.to_thread(send, senders, part)
            async with AsyncProcessor(options, seen.add):
                await soon(lambda: all(seen.of(device)[-1:] == part[-1:] for device, _ in senders))

    asyncio.run(process())
    for device, _ in senders:
        # close cancels what is under way: the last event before it may lack its checkpoint, and come again.
        assert [text for text, _ in itertools.groupby(seen.of(device))] == ALL


def send(senders, texts):
    for text in texts:
        for _, client in senders:
            client.send_message(text)


def ignore(*_):
    pass


async def soon(done):
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not done():
            await asyncio.sleep(0.02)
