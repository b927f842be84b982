"""Owner levels (epochs): who reads a partition of a consumer group alone, and what the others are told."""

import asyncio
import contextlib

import pytest
from azure.eventhub.aio import EventHubConsumerClient as AsyncConsumerClient
from azure.eventhub.exceptions import ConnectionLostError

from eventhub import DOORS, each_door, each_transport, read

MOST_READERS = 5


@each_door
def test_a_reader_with_an_owner_level_pushes_out_one_without(hub, door, sent, group):
    with owning(hub, door, sent, group, None) as displaced, owning(hub, door, sent, group, 0):
        assert_stolen(displaced.error(), "higher epoch of '0'")


@each_transport
@pytest.mark.parametrize("level", [3, 4], ids=["the same", "a higher"])
def test_the_same_or_a_higher_owner_level_takes_the_partition(hub, door, sent, group, level):
    with owning(hub, door, sent, group, 3) as displaced, owning(hub, door, sent, group, level):
        assert_stolen(displaced.error(), f"epoch of '{level}'", "epoch '3'")


@each_transport
def test_a_lower_owner_level_or_none_is_refused(hub, door, sent, group):
    with owning(hub, door, sent, group, 2) as owner:
        for level, text in ((1, "higher epoch '2' already exists"), (None, "created with epoch of '2'")):
            with read_from(hub, door, sent, group, level) as refused:
                assert_stolen(refused.error(), text)
                assert refused.so_far() == []
        assert owner.alive()


@each_transport
def test_a_partition_without_its_owner_is_free_again(hub, door, sent, group):
    with owning(hub, door, sent, group, 5):
        pass
    with owning(hub, door, sent, group, 1):
        pass
    with owning(hub, door, sent, group, None):
        pass


def test_consumer_groups_and_partitions_have_owners_of_their_own(hub, sent, group):
    door = DOORS["amqps"]
    with hub.consumer_group() as another, owning(hub, door, sent, group, 1) as one, owning(hub, door, sent, another, 7) as other:
        elsewhere = next(p for p in "0123" if p != sent[0].partition_id)
        with read(hub, door, elsewhere, "-1", group=group, receive={"owner_level": 9}):
            assert one.alive() and other.alive()


@each_transport
def test_the_sixth_reader_without_an_owner_level_is_refused(hub, door, sent, group):
    with contextlib.ExitStack() as readers:
        five = [readers.enter_context(owning(hub, door, sent, group, None)) for _ in range(MOST_READERS)]
        with read_from(hub, door, sent, group, None, retry_total=0) as sixth:  # the SDK would try for ever
            assert sixth.error().error == "resource-limit-exceeded"
        assert all(reader.alive() for reader in five)


def test_the_async_client_is_told_too(hub, sent, group):
    async def displaced():
        options = {"starting_position": sent[0].offset, "partition_id": sent[0].partition_id}
        client = AsyncConsumerClient.from_connection_string(hub.event_hub, group, connection_verify=hub.ca_path)
        started, lost = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def on_event(_, event):
            started.set()

        async def on_error(_, error):
            lost.done() or lost.set_result(error)

        receiving = asyncio.ensure_future(client.receive(on_event, on_error=on_error, owner_level=1, **options))
        await asyncio.wait_for(started.wait(), 30)
        thief = AsyncConsumerClient.from_connection_string(hub.event_hub, group, connection_verify=hub.ca_path)
        stealing = asyncio.ensure_future(thief.receive(on_event, owner_level=2, **options))
        error = await asyncio.wait_for(lost, 30)
        for task, owner in ((receiving, client), (stealing, thief)):
            task.cancel()
            await owner.close()
        return error

    assert_stolen(asyncio.run(displaced()), "higher epoch of '2'")


def read_from(hub, door, sent, group, level, **more):
    return read(
        hub, door, sent[0].partition_id, sent[0].offset, True, group=group, receive={"owner_level": level}, **more
    )


@contextlib.contextmanager
def owning(hub, door, sent, group, level):
    """A reader that is reading already."""
    with read_from(hub, door, sent, group, level) as reader:
        reader.wait(lambda event: event.sequence_number == sent[0].sequence_number)
        yield reader


def assert_stolen(error, *texts):
    assert isinstance(error, ConnectionLostError)
    assert error.error == "link:stolen"
    for text in texts:
        assert text in str(error)
