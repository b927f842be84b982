"""Producers at an event hub beside the built-in one, through azure-eventhub; the built-in one takes nothing but what devices send."""

import asyncio
import uuid

import pytest
from azure.eventhub import EventData, EventHubProducerClient
from azure.eventhub.aio import EventHubProducerClient as AsyncProducerClient
from azure.eventhub.exceptions import EventHubError

from eventhub import each_sending_door
from events import Reader, body, properties


@pytest.fixture(scope="module")
def beside(hub):
    """The name of an event hub."""
    with hub.event_hub_beside(partitions=3) as name:
        yield name


@pytest.fixture
def arrived(hub, beside):
    with Reader(hub.event_hub_named(beside), connection_verify=hub.ca_path) as events:
        yield events


@each_sending_door
def test_a_batch_goes_to_the_partition_that_it_names_in_order(hub, door, beside, arrived):
    mark = str(uuid.uuid4())
    with producer(hub, door, beside) as client:
        batch = client.create_batch(partition_id="2")
        for n in range(20):
            batch.add(event(n, mark))
        client.send_batch(batch)
    sent = of(arrived, mark, 20)
    assert [(made.partition_id, body(made)) for made in sent] == [("2", str(n).encode()) for n in range(20)]
    assert [made.sequence_number - sent[0].sequence_number for made in sent] == list(range(20))


@each_sending_door
def test_events_of_one_partition_key_stay_together(hub, door, beside, arrived):
    mark = str(uuid.uuid4())
    with producer(hub, door, beside) as client:
        for n in range(5):
            client.send_batch([event(n, mark)], partition_key="the key")
    sent = of(arrived, mark, 5)
    assert len({made.partition_id for made in sent}) == 1
    assert {made.partition_key for made in sent} == {b"the key"}
    assert [body(made) for made in sent] == [str(n).encode() for n in range(5)]


def test_the_async_client_sends_too(hub, beside, arrived):
    mark = str(uuid.uuid4())

    async def send():
        async with AsyncProducerClient.from_connection_string(
                hub.event_hub_named(beside), connection_verify=hub.ca_path) as client:
            await client.send_batch([event(n, mark) for n in range(3)])

    asyncio.run(send())
    assert len(of(arrived, mark, 3)) == 3


@each_sending_door
def test_the_built_in_endpoint_takes_nothing(hub, door):
    connection_string, options = door(hub)
    with EventHubProducerClient.from_connection_string(connection_string, retry_total=0, **options) as client:
        with pytest.raises(EventHubError, match="'Send' claim"):
            client.send_batch([EventData("x")])


def test_an_event_hub_that_is_not_there_is_not_found(hub):
    with EventHubProducerClient.from_connection_string(
            hub.event_hub_named("nobody-made-it"), retry_total=0, connection_verify=hub.ca_path) as client:
        with pytest.raises(EventHubError, match="nobody-made-it"):
            client.send_batch([EventData("x")])


def producer(hub, door, name):
    connection_string, options = door(hub)
    there = connection_string.replace("EntityPath=iolite", f"EntityPath={name}")
    return EventHubProducerClient.from_connection_string(there, **options)


def event(n, mark):
    made = EventData(str(n))
    made.properties = {"mark": mark}
    return made


def of(arrived, mark, count):
    return arrived.wait(lambda event: properties(event).get("mark") == mark, count)
