"""Feedback on C2D messages: every outcome, by AMQP and by HTTPS, in batches that come again until somebody completes them."""

import uuid

import pytest
from azure.iot.hub import IoTHubHttpRuntimeManager

from amqpdevice import AmqpDevice
from conftest import make_device
from devices import Inbox, connected
from feedback import FeedbackReader
from refusals import refused
from rest import Rest

QUEUE_LIMIT = 50
BATCH_LIMIT = 64
DELIVERIES = 10


def succeed(hub, device, count):
    with AmqpDevice(hub, device) as client:
        for _ in range(count):
            client.take().accept()


def reject(hub, device, count):
    with AmqpDevice(hub, device) as client:
        for _ in range(count):
            client.take().reject()


def give_back(hub, device, count):
    with AmqpDevice(hub, device) as client:
        for _ in range(DELIVERIES * count):
            client.take().release()


def purge(hub, device, count):
    answer = Rest(hub).ask("DELETE", f"/devices/{device.id}/commands")
    assert (answer.status, answer.body["totalMessagesPurged"]) == (200, count)


def expire(hub, *_):
    hub.advance("61s")


OUTCOMES = {
    "Success": succeed, "Rejected": reject, "DeliveryCountExceeded": give_back, "Purged": purge, "Expired": expire,
}


@pytest.mark.parametrize("ack", ["positive", "negative", "full"])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_is_told_to_who_asked_for_it(moved, outcome, ack):
    device = make_device(moved.hub, moved.registry)
    send(moved, device, "asked", ack)
    send(moved, device, "last", "full")
    with FeedbackReader(moved.hub) as feedback:
        OUTCOMES[outcome](moved.hub, device, 2)
        records = feedback.until(device.id, "last")
    asked = ack in ("full", "positive" if outcome == "Success" else "negative")
    assert [record["originalMessageId"] for record in records] == (["asked", "last"] if asked else ["last"])
    for record in records:
        assert (record["statusCode"], record["description"]) == (outcome, outcome)
        assert (record["deviceId"], record["deviceGenerationId"]) == (device.id, device.generation_id)


def test_a_device_that_goes_away_has_abandoned_nothing(moved):
    device = make_device(moved.hub, moved.registry)
    send(moved, device, "asked", "full")
    for _ in range(DELIVERIES + 1):
        with AmqpDevice(moved.hub, device) as client:
            assert client.take().properties.message_id == b"asked"
    succeed(moved.hub, device, 1)
    with FeedbackReader(moved.hub) as feedback:
        assert feedback.of(device.id)["statusCode"] == "Success"


def test_a_batch_has_at_most_64_records(moved):
    devices = [make_device(moved.hub, moved.registry) for _ in range(2)]
    drain(moved.hub)
    for device in devices:
        for n in range(QUEUE_LIMIT):
            send(moved, device, str(n), "full")
        purge(moved.hub, device, QUEUE_LIMIT)
    runtime = IoTHubHttpRuntimeManager.from_connection_string(moved.hub.owner)
    batches = [receive(runtime) for _ in range(2)]
    assert [len(records) for _, records in batches] == [BATCH_LIMIT, 2 * QUEUE_LIMIT - BATCH_LIMIT]
    assert [(record["deviceId"], record["originalMessageId"]) for _, records in batches for record in records] == [
        (device.id, str(n)) for device in devices for n in range(QUEUE_LIMIT)]
    for token, _ in batches:
        runtime.complete_feedback_notification(token)
    assert receive(runtime) is None


def test_a_batch_that_nobody_completes_comes_again_when_its_lock_is_over(moved):
    runtime = IoTHubHttpRuntimeManager.from_connection_string(moved.hub.owner)
    device = purged(moved)
    token, batch = receive_about(runtime, device)
    assert receive(runtime) is None
    moved.hub.advance("61s")
    again, same = receive_about(runtime, device)
    assert same == batch and again != token
    refused(412, "DeviceMessageLockLost", runtime.complete_feedback_notification, token)
    runtime.complete_feedback_notification(again)
    assert receive(runtime) is None


def test_what_a_receiver_leaves_unsettled_goes_to_the_next(moved):
    device = purged(moved)
    with FeedbackReader(moved.hub, settle=False) as feedback:
        record = feedback.of(device.id)
    with FeedbackReader(moved.hub) as feedback:
        assert feedback.of(device.id) == record


def test_a_batch_is_given_up_after_ten_deliveries(moved):
    runtime = IoTHubHttpRuntimeManager.from_connection_string(moved.hub.owner)
    device = purged(moved)
    for _ in range(DELIVERIES):
        token, _ = receive_about(runtime, device)
        runtime.abandon_feedback_notification(token)
    assert receive(runtime) is None


def test_feedback_is_received_abandoned_and_completed(moved):
    runtime = IoTHubHttpRuntimeManager.from_connection_string(moved.hub.owner)
    device = make_device(moved.hub, moved.registry)
    drain(moved.hub)
    with connected(device) as client:
        inbox = Inbox()
        client.on_message_received = inbox.put
        send(moved, device, "asked", "full")
        inbox.take()
        token, record = receive_about(runtime, device)
        runtime.abandon_feedback_notification(token)
        again, same = receive_about(runtime, device)
        assert same == record and again != token
        runtime.complete_feedback_notification(again)
    assert (record["originalMessageId"], record["statusCode"]) == ("asked", "Success")
    assert record["deviceGenerationId"] == device.generation_id
    refused(412, "DeviceMessageLockLost", runtime.complete_feedback_notification, again)
    refused(412, "DeviceMessageLockLost", runtime.abandon_feedback_notification, str(uuid.uuid4()))


def test_without_feedback_there_is_nothing_to_receive(moved):
    drain(moved.hub)
    assert IoTHubHttpRuntimeManager.from_connection_string(moved.hub.owner).receive_feedback_notification() is None


def test_feedback_is_for_the_policy_service(hub):
    narrow = IoTHubHttpRuntimeManager.from_connection_string(hub.policy("device"))
    refused(401, "IotHubUnauthorizedAccess", narrow.receive_feedback_notification)


def send(moved, device, message_id, ack):
    """Sends a message that is too old in a minute."""
    expiry = int(moved.hub.now().timestamp() + 60) * 1000
    moved.registry.send_c2d_message(device.id, "", {"messageId": message_id, "iothub-ack": ack, "expiryTimeUtc": expiry})


def purged(moved):
    """A device with one record of feedback, the only one there is."""
    drain(moved.hub)
    device = make_device(moved.hub, moved.registry)
    send(moved, device, "asked", "full")
    purge(moved.hub, device, 1)
    return device


def drain(hub):
    """Completes what other tests have left."""
    runtime = IoTHubHttpRuntimeManager.from_connection_string(hub.owner)
    while batch := receive(runtime):
        runtime.complete_feedback_notification(batch[0])


def receive(runtime):
    """The lock token and the records of the next batch, None without one.

    receive_feedback_notification throws the records away; asked for the raw answer, the operation below it keeps them.
    """
    answer = runtime.protocol.cloud_to_device_messages.receive_feedback_notification(raw=True).response
    return (answer.headers["ETag"].strip('"'), answer.json()) if answer.status_code == 200 else None


def receive_about(runtime, device):
    """The lock token of the next batch, and the one record in it."""
    token, (record,) = receive(runtime)
    assert record["deviceId"] == device.id
    return token, record
