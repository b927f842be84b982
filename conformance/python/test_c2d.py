"""Cloud to device: azure-iot-hub sends over AMQP, azure-iot-device receives on each of its doors."""

import asyncio
import datetime
import queue
import time
import uuid

import pytest
import uamqp
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.hub import IoTHubRegistryManager
from uamqp import TransportType

from conftest import make_device
from devices import connected, each_door
from feedback import FeedbackReader

QUEUE_LIMIT = 50

each_service_door = pytest.mark.parametrize(
    "transport", [TransportType.Amqp, TransportType.AmqpOverWebsocket], ids=["amqps", "amqps_ws"]
)


@each_door
def test_a_message_arrives_with_all_its_properties(registry, device, options):
    expiry = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=10)
    with connected(device, **options) as client:
        inbox = listen(client)
        registry.send_c2d_message(device.id, "hello", {
            "messageId": "mid-1",
            "correlationId": "cid-1",
            "contentType": "application/json",
            "contentEncoding": "utf-8",
            "expiryTimeUtc": int(expiry.timestamp() * 1000),
            "iothub-ack": "full",
            "plain": "value",
            "with space": "a=b&c/d?e#f+g%h",
            "ünïcode": "€",
        })
        message = inbox.get(timeout=30)

    assert message.data == b"hello"
    assert message.message_id == "mid-1"
    assert message.correlation_id == "cid-1"
    assert message.content_type == "application/json"
    assert message.content_encoding == "utf-8"
    assert message.ack == "full"
    assert datetime.datetime.fromisoformat(message.expiry_time_utc.replace("Z", "+00:00")[:19]) == \
        expiry.replace(tzinfo=None, microsecond=0)
    assert message.custom_properties == {
        "plain": "value", "with space": "a=b&c/d?e#f+g%h", "ünïcode": "€",
    }


@each_service_door
def test_the_service_can_send_through_either_amqp_door(hub, device, transport):
    service = IoTHubRegistryManager.from_connection_string(hub.owner, transport_type=transport)
    with connected(device) as client:
        inbox = listen(client)
        service.send_c2d_message(device.id, "through " + transport.name)
        assert inbox.get(timeout=30).data == b"through " + transport.name.encode()


@each_door
def test_an_async_client_receives_too(registry, device, options):
    async def receive():
        client = AsyncDeviceClient.create_from_connection_string(device.connection_string, **options)
        arrived = asyncio.get_running_loop().create_future()

        async def on_message(message):  # runs on a loop of the SDK's own
            arrived.get_loop().call_soon_threadsafe(arrived.set_result, message)

        await client.connect()
        client.on_message_received = on_message
        await asyncio.to_thread(registry.send_c2d_message, device.id, "to the coroutine", {})
        message = await asyncio.wait_for(arrived, 30)
        await client.shutdown()
        return message

    assert asyncio.run(receive()).data == b"to the coroutine"


@each_door
def test_messages_wait_for_an_offline_device_in_order(registry, device, options):
    sent = [f"message {n}" for n in range(QUEUE_LIMIT)]
    for text in sent:
        registry.send_c2d_message(device.id, text)
    with connected(device, **options) as client:
        inbox = listen(client)
        received = [inbox.get(timeout=30).data.decode() for _ in sent]
    assert received == sent


@each_door
def test_a_message_sent_while_disconnected_arrives_without_a_new_subscription(registry, device, options):
    with connected(device, **options) as client:
        inbox = listen(client)
        client.disconnect()
        registry.send_c2d_message(device.id, "while you were away")
        client.connect()
        assert inbox.get(timeout=30).data == b"while you were away"


def test_a_completed_message_is_not_delivered_again(registry, device):
    with connected(device) as client:
        inbox = listen(client)
        registry.send_c2d_message(device.id, "once")
        assert inbox.get(timeout=30).data == b"once"
    with connected(device) as client:
        inbox = listen(client)
        registry.send_c2d_message(device.id, "next")
        assert inbox.get(timeout=30).data == b"next"


def test_the_51st_queued_message_is_refused(registry, device):
    for n in range(QUEUE_LIMIT):
        registry.send_c2d_message(device.id, str(n))
    with pytest.raises(Exception, match="C2D message send failure"):
        registry.send_c2d_message(device.id, "one too many")
    assert registry.get_device(device.id).cloud_to_device_message_count == QUEUE_LIMIT


def test_a_message_to_an_unknown_device_is_refused(registry):
    with pytest.raises(Exception, match="C2D message send failure"):
        registry.send_c2d_message(f"nobody-{uuid.uuid4()}", "hello?")


def test_a_message_over_64_kib_is_refused(registry, device):
    with pytest.raises(Exception, match="C2D message send failure"):
        registry.send_c2d_message(device.id, "x" * (64 * 1024 + 1))


def test_a_wrong_policy_key_cannot_send(hub, device):
    wrong = hub.owner.split("SharedAccessKey=")[0] + "SharedAccessKey=d3Jvbmc="
    service = IoTHubRegistryManager.from_connection_string(wrong)
    with pytest.raises(uamqp.errors.AuthenticationException):
        service.send_c2d_message(device.id, "forged")


@each_door
def test_success_feedback_names_the_message(hub, registry, device, options):
    with connected(device, **options) as client, FeedbackReader(hub) as feedback:
        inbox = listen(client)
        registry.send_c2d_message(device.id, "tell me", {"messageId": "asked", "iothub-ack": "positive"})
        assert inbox.get(timeout=30).data == b"tell me"
        record = feedback.of(device.id)

    assert record["originalMessageId"] == "asked"
    assert record["statusCode"] == "Success"
    assert record["description"] == "Success"
    assert record["deviceGenerationId"] == device.generation_id
    assert abs(_utc(record["enqueuedTimeUtc"]).timestamp() - time.time()) < 60


def test_an_expired_message_is_not_delivered_and_is_reported(moved_hub):
    registry = IoTHubRegistryManager.from_connection_string(moved_hub.owner)
    device = make_device(moved_hub, registry)
    expiry = moved_hub.now() + datetime.timedelta(seconds=60)
    registry.send_c2d_message(device.id, "stale", {
        "messageId": "stale", "iothub-ack": "negative", "expiryTimeUtc": int(expiry.timestamp() * 1000),
    })
    registry.send_c2d_message(device.id, "fresh")
    with FeedbackReader(moved_hub) as feedback:
        moved_hub.advance("61s")
        record = feedback.of(device.id)
    assert (record["originalMessageId"], record["statusCode"]) == ("stale", "Expired")
    with connected(device) as client:
        assert listen(client).get(timeout=30).data == b"fresh"


def listen(client):
    """Subscribes for C2D messages; what arrives is in the queue."""
    inbox = queue.Queue()
    client.on_message_received = inbox.put
    return inbox


def _utc(text):
    return datetime.datetime.fromisoformat(text[:19]).replace(tzinfo=datetime.timezone.utc)
