"""Feedback on C2D messages over HTTPS, through azure-iot-hub's IoTHubHttpRuntimeManager."""

import uuid

from azure.iot.hub import IoTHubHttpRuntimeManager

from conftest import make_device
from devices import Inbox, connected
from refusals import refused


def test_feedback_is_received_abandoned_and_completed(hub, registry):
    runtime = IoTHubHttpRuntimeManager.from_connection_string(hub.owner)
    device = make_device(hub, registry)
    with connected(device) as client:
        inbox = Inbox()
        client.on_message_received = inbox.put
        registry.send_c2d_message(device.id, "tell me", {"messageId": "asked", "iothub-ack": "full"})
        inbox.take()
        token, record = _receive(runtime, device.id)
        runtime.abandon_feedback_notification(token)
        again, same = _receive(runtime, device.id)
        assert same == record and again != token
        runtime.complete_feedback_notification(again)
    assert (record["originalMessageId"], record["statusCode"]) == ("asked", "Success")
    assert record["deviceGenerationId"] == device.generation_id
    refused(412, "DeviceMessageLockLost", runtime.complete_feedback_notification, again)
    refused(412, "DeviceMessageLockLost", runtime.abandon_feedback_notification, str(uuid.uuid4()))


def test_without_feedback_there_is_nothing_to_receive(moved):
    runtime = IoTHubHttpRuntimeManager.from_connection_string(moved.hub.owner)
    while (answer := _raw(runtime)).status_code == 200:  # what other tests have left
        runtime.complete_feedback_notification(answer.headers["ETag"].strip('"'))
    assert answer.status_code == 204
    assert runtime.receive_feedback_notification() is None


def test_feedback_is_for_the_policy_service(hub):
    narrow = IoTHubHttpRuntimeManager.from_connection_string(hub.policy("device"))
    refused(401, "IotHubUnauthorizedAccess", narrow.receive_feedback_notification)


def _raw(runtime):
    """receive_feedback_notification throws the records away; asked for the raw answer, the operation below it keeps them."""
    return runtime.protocol.cloud_to_device_messages.receive_feedback_notification(raw=True).response


def _receive(runtime, device_id):
    """Receives until a batch is about the device; completes the others, which earlier tests have left."""
    while True:
        answer = _raw(runtime)
        assert answer.status_code == 200, "no feedback"
        token = answer.headers["ETag"].strip('"')
        for record in answer.json():
            if record["deviceId"] == device_id:
                return token, record
        runtime.complete_feedback_notification(token)
