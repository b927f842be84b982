"""The Event Hubs-compatible endpoint through azure-eventhub: TLS, WebSocket, plain TCP, and over uAMQP."""

import asyncio
import contextlib
import datetime

import pytest
import uamqp
from azure.eventhub import EventHubConsumerClient, TransportType
from azure.eventhub.aio import EventHubConsumerClient as AsyncConsumerClient
from azure.eventhub.exceptions import AuthenticationError, EventHubError

from eventhub import DOORS, consumer, each_door, each_transport, read
from events import FAST, Reader, body, device_of
from feedback import policy_auth


@each_door
def test_the_hub_and_its_partitions_describe_themselves(hub, door, sent):
    with consumer(hub, door) as client:
        described = client.get_eventhub_properties()
        partition = client.get_partition_properties(sent[0].partition_id)
    assert described["eventhub_name"] == hub.info["hub"]
    assert described["partition_ids"] == ["0", "1", "2", "3"]
    assert described["created_at"] < datetime.datetime.now(datetime.timezone.utc)
    assert partition["id"] == sent[0].partition_id
    assert partition["eventhub_name"] == hub.info["hub"]
    assert partition["is_empty"] is False
    assert 0 <= partition["beginning_sequence_number"] <= sent[0].sequence_number
    assert partition["last_enqueued_sequence_number"] >= sent[-1].sequence_number
    assert int(partition["last_enqueued_offset"]) >= int(sent[-1].offset)
    assert partition["last_enqueued_time_utc"] >= sent[-1].enqueued_time


@each_door
def test_annotations_have_the_types_the_client_wants(hub, door, sent):
    with read(hub, door, sent[0].partition_id, sent[0].sequence_number, True) as events:
        event = events.of(device_of(sent[0]))[0]
    assert isinstance(event.sequence_number, int)
    assert isinstance(event.offset, str)
    assert isinstance(event.enqueued_time, datetime.datetime)
    assert event.partition_key == device_of(sent[0]).encode()
    assert event.system_properties[b"iothub-message-source"] == b"Telemetry"
    assert event.system_properties[b"iothub-connection-device-id"] == device_of(sent[0]).encode()


@each_door
def test_a_wrong_key_is_refused(hub, door):
    connection_string, options = door(hub)
    parts = [part for part in connection_string.split(";") if part and not part.startswith("SharedAccessKey=")]
    wrong = ";".join([*parts, "SharedAccessKey=d3Jvbmc="])
    with EventHubConsumerClient.from_connection_string(wrong, "$Default", retry_total=0, **FAST, **options) as client:
        with pytest.raises(AuthenticationError):
            client.get_eventhub_properties()


@each_door
def test_every_consumer_group_reads_everything(hub, door, sent):
    connection_string, options = door(hub)
    position = (sent[0].offset, True, sent[0].partition_id)
    with Reader(connection_string, *position, **options) as one, \
            Reader(connection_string, *position, group="a-group-of-its-own", **options) as other:
        for events in (one, other):
            assert [body(event) for event in events.of(device_of(sent[0]), 10)] == [str(n).encode() for n in range(10)]


# On its uAMQP transport the SDK stumbles over the refusal: its client has no attribute '_close_handler'.
@pytest.mark.parametrize("door", list(DOORS.values())[:3], ids=list(DOORS)[:3])
def test_an_unknown_partition_is_refused(hub, door):
    with consumer(hub, door, retry_total=0) as client:
        with pytest.raises(EventHubError, match="404"):
            client.get_partition_properties("99")


@pytest.mark.parametrize("transport", TransportType, ids=lambda transport: transport.name)
def test_the_async_client_reads_too(hub, sent, transport):
    async def receive():
        client = AsyncConsumerClient.from_connection_string(
            hub.event_hub, "$Default", transport_type=transport, connection_verify=hub.ca_path
        )
        arrived = asyncio.Queue()

        async def on_event(_, event):
            arrived.put_nowait(event)

        receiving = asyncio.ensure_future(client.receive(
            on_event, partition_id=sent[0].partition_id,
            starting_position=sent[0].sequence_number, starting_position_inclusive=True,
        ))
        event = await asyncio.wait_for(arrived.get(), 30)
        receiving.cancel()
        await client.close()
        return event

    event = asyncio.run(receive())
    assert event.sequence_number == sent[0].sequence_number
    assert device_of(event) == device_of(sent[0])


def test_the_hubs_own_address_redirects_to_the_event_hub(hub, sent):
    source = f"amqps://{hub.address}/messages/events/ConsumerGroups/$Default/Partitions/0"
    client = uamqp.ReceiveClient(source, auth=policy_auth(hub))
    with pytest.raises(uamqp.errors.LinkRedirect) as redirect:
        client.receive_message_batch(timeout=10000)
    client.close()
    assert redirect.value.hostname.decode() == hub.address
    assert redirect.value.address.decode().startswith(f"amqps://{hub.address}:5671/")


@each_transport
def test_an_unknown_consumer_group_is_refused(hub, door, sent):
    connection_string, options = door(hub)
    with Reader(connection_string, partition=sent[0].partition_id, group="nobody-made-it", retry_total=0, **options) as events:
        assert events.error().error == "not-found"
        assert "nobody-made-it" in str(events.error())


@each_transport
def test_readers_of_a_consumer_group_end_with_it(hub, door, sent):
    connection_string, options = door(hub)
    with contextlib.ExitStack() as stack:
        with hub.consumer_group() as group:
            events = stack.enter_context(
                Reader(connection_string, sent[0].offset, True, sent[0].partition_id, group, retry_total=0, **options)
            )
            events.of(device_of(sent[0]), 10)
        assert events.error().error == "not-found"


@each_transport
@pytest.mark.parametrize("beyond", ["987654321", 987654321], ids=["offset", "sequence number"])
def test_a_position_behind_the_last_event_is_refused(hub, door, sent, beyond):
    with read(hub, door, sent[0].partition_id, beyond, retry_total=0) as events:
        assert events.error().error == "argument-error"
        assert "'987654321' is invalid" in str(events.error())
