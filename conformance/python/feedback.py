"""Feedback on C2D messages and notifications of file uploads, read with uAMQP: azure-iot-hub has no receiver for them."""

import base64
import hashlib
import hmac
import json
import time
import urllib.parse

import uamqp
from azure.core.credentials import AccessToken

DEADLINE_SECONDS = 30
TOKEN_TYPE = b"servicebus.windows.net:sastoken"


class ServiceBound:
    """A receiver of what the hub tells back ends, which completes each message it reads, unless it is to settle none."""

    node = None
    content_type = None

    def __init__(self, hub, settle=True):
        self._client = uamqp.ReceiveClient(
            f"amqps://{hub.address}/messages/serviceBound/{self.node}", auth=policy_auth(hub), prefetch=10, auto_complete=False
        )
        self._settle = settle
        self._records = []

    def __enter__(self):
        self._client.open()
        return self

    def __exit__(self, *_):
        self._client.close()

    def of(self, device_id):
        """Waits for the first record about the device."""
        return self.wait(device_id, lambda records: records)[0]

    def wait(self, device_id, enough):
        """Waits until the records about the device are enough; returns them."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            records = [record for record in self._records if record["deviceId"] == device_id]
            if enough(records):
                return records
            self._receive()
        raise AssertionError(f"{records} about {device_id} after {DEADLINE_SECONDS} s")

    def _receive(self):
        for message in self._client.receive_message_batch(max_batch_size=10, timeout=500):
            assert message.properties.content_type == self.content_type
            self._records += self._records_in(json.loads(b"".join(message.get_data())))
            if self._settle:
                message.accept()

    @staticmethod
    def _records_in(body):
        return body


class FeedbackReader(ServiceBound):
    """Reads what became of C2D messages."""

    node = "feedback"
    content_type = b"application/vnd.microsoft.iothub.feedback.json"

    def until(self, device_id, message_id):
        """Waits for the record about a message of the device; returns those about the device."""
        return self.wait(device_id, lambda records: message_id in [record["originalMessageId"] for record in records])


class UploadReader(ServiceBound):
    """Reads which files have been uploaded."""

    node = "filenotifications"
    content_type = b"application/vnd.microsoft.iothub.filenotification.json"

    def until(self, device_id, blob_name):
        """Waits for the record about a blob; returns those about the device."""
        return self.wait(device_id, lambda records: blob_name in [record["blobName"] for record in records])

    @staticmethod
    def _records_in(body):
        return [body]


def policy_auth(hub):
    """A CBS token of the policy iothubowner for the whole hub, as azure-iot-hub makes it."""
    parts = dict(part.split("=", 1) for part in hub.owner.split(";"))
    host, policy, key = parts["HostName"], parts["SharedAccessKeyName"], parts["SharedAccessKey"]

    def token():
        expiry = int(time.time()) + 3600
        return AccessToken(sas_token(host, key, expiry, policy), expiry)

    return uamqp.authentication.JWTTokenAuth(
        f"https://{host}", f"https://{host}", token, token_type=TOKEN_TYPE
    )


def sas_token(resource, key, expiry, policy=None):
    resource = urllib.parse.quote(resource, safe="")
    signature = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    signature = urllib.parse.quote(base64.b64encode(signature), safe="")
    token = f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}"
    return token + f"&skn={policy}" if policy else token
