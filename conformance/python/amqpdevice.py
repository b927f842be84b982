"""A device on uAMQP, which settles C2D messages in every way; azure-iot-device speaks MQTT and completes all that it receives."""

import time

import uamqp
from azure.core.credentials import AccessToken

from feedback import DEADLINE_SECONDS, TOKEN_TYPE, sas_token


class AmqpDevice:
    def __init__(self, hub, device):
        resource = f"{hub.address}/devices/{device.id}"

        def token():
            expiry = int(time.time()) + 3600
            return AccessToken(sas_token(resource, device.key, expiry), expiry)

        auth = uamqp.authentication.JWTTokenAuth(resource, f"https://{hub.address}", token, token_type=TOKEN_TYPE)
        self._client = uamqp.ReceiveClient(
            f"amqps://{resource}/messages/devicebound", auth=auth, prefetch=1, auto_complete=False
        )

    def __enter__(self):
        self._client.open()
        return self

    def __exit__(self, *_):
        self._client.close()

    def take(self):
        """Waits for the next message, to accept, reject or release it; who goes away with one unsettled leaves it to be delivered again."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            for message in self._client.receive_message_batch(max_batch_size=1, timeout=500):
                return message
        raise AssertionError(f"no message after {DEADLINE_SECONDS} s")
