"""The Event Hubs-compatible endpoint by each way that azure-eventhub has to it: TLS, WebSocket, plain TCP, and over uAMQP."""

import base64
import hashlib
import hmac
import time
import urllib.parse

import pytest
from azure.eventhub import EventHubConsumerClient, TransportType

from events import FAST, Reader

DOORS = {
    "amqps": lambda hub: (hub.event_hub, {"connection_verify": hub.ca_path}),
    "amqps_ws": lambda hub: (
        hub.event_hub, {"connection_verify": hub.ca_path, "transport_type": TransportType.AmqpOverWebsocket}
    ),
    "amqp": lambda hub: (hub.plain_event_hub, {}),
    "amqps_uamqp": lambda hub: (hub.event_hub, {"connection_verify": hub.ca_path, "uamqp_transport": True}),
}

each_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())

# On its uAMQP transport azure-eventhub cannot send.
each_sending_door = pytest.mark.parametrize("door", list(DOORS.values())[:3], ids=list(DOORS)[:3])

# For what concerns no door, but what the client makes of the hub's answer.
each_transport = pytest.mark.parametrize("door", [DOORS["amqps"], DOORS["amqps_uamqp"]], ids=["pyamqp", "uamqp"])


def consumer(hub, door, **more):
    connection_string, options = door(hub)
    return EventHubConsumerClient.from_connection_string(connection_string, "$Default", **FAST, **options, **more)


def read(hub, door, partition, start, inclusive=False, **more):
    connection_string, options = door(hub)
    return Reader(connection_string, start, inclusive, partition, **options, **more)


def token(hub, scope, seconds=3600, policy="service"):
    """A SAS for a path of the endpoint, as Event Hubs clients make it: signed with the text of the key, not with what it encodes."""
    resource = urllib.parse.quote(f"sb://{hub.address}{scope}", safe="")
    expiry = int(time.time()) + seconds
    signature = hmac.new(hub.key(policy).encode(), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    return (
        f"SharedAccessSignature sr={resource}&sig={urllib.parse.quote(base64.b64encode(signature), safe='')}"
        f"&se={expiry}&skn={policy}"
    )


def signed(connection_string, signature):
    """The connection string with a SAS instead of policy and key."""
    kept = [part for part in connection_string.split(";") if part and not part.startswith("SharedAccessKey")]
    return ";".join([*kept, f"SharedAccessSignature={signature}"])
