"""Device to cloud: what azure-iot-device sends is what azure-eventhub reads, names and types included."""

import asyncio
import datetime
import json
import queue
import threading

import pytest
from azure.iot.device import IoTHubModuleClient, Message
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.device.exceptions import NoConnectionError

from devices import closing, connected, each_door
from events import annotations, body, properties

MANY = 300

AWKWARD_PROPERTIES = {
    "plain": "value",
    "with space": "a b",
    "reserved": "a=b&c/d?e#f+g%h$i",
    "ünïcode": "héllo wörld €",
    "MixedCase": "Stays As It Is",
    "number": "42",
}


@each_door
def test_system_properties_arrive_under_their_amqp_names(device, reader, options):
    message = Message(json.dumps({"temperature": 21.5}))
    message.message_id = f"mid-{device.id}"
    message.correlation_id = "cid:1"
    message.user_id = "operator"
    message.content_type = "application/json"
    message.content_encoding = "utf-8"
    message.expiry_time_utc = datetime.datetime(2099, 12, 31, 23, 59, 58, tzinfo=datetime.timezone.utc)
    with connected(device, **options) as client:
        client.send_message(message)

    event = reader.of(device.id)[0]
    assert json.loads(body(event)) == {"temperature": 21.5}
    stored = event.raw_amqp_message.properties
    assert stored.message_id == f"mid-{device.id}".encode()
    assert stored.correlation_id == b"cid:1"
    assert stored.user_id == b"operator"
    assert stored.content_type == b"application/json"
    assert stored.content_encoding == b"utf-8"
    assert stored.absolute_expiry_time == int(message.expiry_time_utc.timestamp() * 1000)


@each_door
def test_application_properties_keep_every_character(device, reader, options):
    message = Message("x")
    message.custom_properties = dict(AWKWARD_PROPERTIES)
    with connected(device, **options) as client:
        client.send_message(message)
    assert properties(reader.of(device.id)[0]) == AWKWARD_PROPERTIES


@each_door
def test_the_hub_stamps_who_sent_it_and_when(device, reader, options):
    before = datetime.datetime.now(datetime.timezone.utc)
    with connected(device, **options) as client:
        client.send_message("stamped")

    event = reader.of(device.id)[0]
    stamps = annotations(event)
    assert stamps["iothub-connection-device-id"] == device.id.encode()
    assert stamps["iothub-connection-auth-generation-id"] == device.generation_id.encode()
    method = json.loads(stamps["iothub-connection-auth-method"])
    assert (method["scope"], method["type"], method["issuer"]) == ("device", "sas", "iothub")
    assert stamps["iothub-message-source"] == b"Telemetry"
    assert isinstance(stamps["iothub-enqueuedtime"], int)
    assert isinstance(stamps["x-opt-sequence-number"], int)
    assert stamps["x-opt-offset"].isdigit()
    assert stamps["x-opt-enqueued-time"] == stamps["iothub-enqueuedtime"]
    assert before - datetime.timedelta(seconds=1) <= event.enqueued_time
    assert event.enqueued_time <= datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    assert event.partition_key == device.id.encode()


@each_door
def test_a_security_message_is_marked(device, reader, options):
    message = Message("{}")
    message.set_as_security_message()
    with connected(device, **options) as client:
        client.send_message(message)
    stamps = annotations(reader.of(device.id)[0])
    assert stamps["iothub-interface-id"] == b"urn:azureiot:Security:SecurityAgent:1"


@each_door
def test_the_model_id_of_the_connection_is_stamped_on_telemetry(device, reader, options):
    model = "dtmi:com:example:Thermostat;1"
    with connected(device, product_info=model, **options) as client:
        client.send_message("{}")
    assert annotations(reader.of(device.id)[0])["dt-dataschema"] == model.encode()


@each_door
def test_an_empty_and_a_binary_body_arrive_unchanged(device, reader, options):
    binary = bytes(range(256))
    with connected(device, **options) as client:
        client.send_message(Message(b""))
        client.send_message(Message(binary))
    assert [body(event) for event in reader.of(device.id, 2)] == [b"", binary]


@each_door
def test_a_message_of_255_kib_passes(device, reader, options):
    large = b"0123456789abcdef" * (255 * 1024 // 16)
    with connected(device, **options) as client:
        client.send_message(Message(large))
    assert body(reader.of(device.id)[0]) == large


@each_door
def test_hundreds_of_messages_keep_their_order(device, reader, options):
    with connected(device, **options) as client:
        for n in range(MANY):
            client.send_message(str(n))
    events = reader.of(device.id, MANY)
    assert [int(body(event)) for event in events] == list(range(MANY))
    assert len({event.partition_id for event in events}) == 1
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))


@each_door
def test_an_async_client_has_hundreds_in_flight_and_loses_none(device, reader, options):
    """The SDK hands each coroutine to a thread, so these arrive in no order of their own."""
    async def send():
        client = AsyncDeviceClient.create_from_connection_string(device.connection_string, **options)
        await client.connect()
        await asyncio.gather(*(client.send_message(str(n)) for n in range(MANY)))
        await client.shutdown()

    asyncio.run(send())
    assert sorted(int(body(event)) for event in reader.of(device.id, MANY)) == list(range(MANY))


@each_door
def test_a_cut_connection_comes_back_and_sends_again(hub, device, reader, options):
    states = queue.Queue()
    with connected(device, connection_retry_interval=1, **options) as client:
        client.on_connection_state_change = lambda: states.put(client.connected)
        client.send_message("before")
        hub.cut(device.id)
        assert states.get(timeout=30) is False
        assert states.get(timeout=30) is True
        client.send_message("after")
    assert [body(event) for event in reader.of(device.id, 2)] == [b"before", b"after"]


@each_door
def test_a_module_sends_under_its_own_identity(hub, registry, device, reader, options):
    module = registry.create_module_with_sas(device.id, "camera", "", None, None)
    key = module.authentication.symmetric_key.primary_key
    connection_string = hub.device(device.id, key, module_id="camera")
    with closing(IoTHubModuleClient.create_from_connection_string(connection_string, **options)) as client:
        client.send_message("from the module")
        client.send_message_to_output("routed", "alarms")

    plain, routed = reader.of(device.id, 2)
    for event in (plain, routed):
        assert annotations(event)["iothub-connection-module-id"] == b"camera"
        assert annotations(event)["iothub-connection-auth-generation-id"] == module.generation_id.encode()
    assert body(routed) == b"routed"


@each_door
def test_the_newer_connection_of_a_device_closes_the_older(device, reader, options):
    lost = threading.Event()
    with connected(device, connection_retry=False, auto_connect=False) as older:
        older.on_connection_state_change = lambda: older.connected or lost.set()
        with connected(device, **options) as newer:
            assert lost.wait(30), "the older connection stayed open"
            with pytest.raises(NoConnectionError):
                older.send_message("from the older one")
            newer.send_message("from the newer one")
    assert [body(event) for event in reader.of(device.id)] == [b"from the newer one"]
