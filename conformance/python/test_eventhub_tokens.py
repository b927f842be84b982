"""SAS for the Event Hubs-compatible endpoint: what a token reaches, and for how long."""

import time

import pytest
import uamqp
from azure.core.credentials import AccessToken, AzureSasCredential
from azure.eventhub import EventHubConsumerClient
from azure.eventhub.exceptions import AuthenticationError, EventHubError

from conftest import make_device
from devices import connected
from eventhub import each_door, each_transport, signed, token
from events import DEADLINE_SECONDS, FAST, Reader
from feedback import TOKEN_TYPE, sas_token

EVENT_HUB = "/iolite"

# How long after its end the hub still takes a token.
GRACE_SECONDS = 300

def hub_token(hub):
    """A token as for every other operation of the hub."""
    return sas_token(hub.address, hub.key("service"), int(time.time()) + 3600, "service")


@each_door
@pytest.mark.parametrize("made", [hub_token, lambda hub: token(hub, EVENT_HUB)], ids=["hub", "event hub"])
def test_a_token_for_the_hub_or_the_event_hub_reads_and_asks(hub, door, sent, made):
    connection_string, options = door(hub)
    with Reader(signed(connection_string, made(hub)), sent[0].offset, True, sent[0].partition_id, **options) as events:
        assert events.wait(lambda event: True)[0].sequence_number == sent[0].sequence_number


@each_transport
@pytest.mark.parametrize("made", [
    lambda hub: token(hub, EVENT_HUB).replace("iolite", "another"), lambda hub: token(hub, ""),
], ids=["forged", "for the hub, signed as for an event hub"])
def test_a_token_that_does_not_do_is_refused(hub, door, made):
    connection_string, options = door(hub)
    with EventHubConsumerClient.from_connection_string(
            signed(connection_string, made(hub)), "$Default", retry_total=0, **FAST, **options) as client:
        with pytest.raises(AuthenticationError):
            client.get_eventhub_properties()


def test_a_credential_object_does_as_well(hub, sent):
    with EventHubConsumerClient(hub.address, "iolite", "$Default", AzureSasCredential(token(hub, EVENT_HUB)), connection_verify=hub.ca_path) as client:
        assert client.get_partition_ids() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("made", [
    lambda hub: token(hub, "/another"), lambda hub: token(hub, EVENT_HUB, policy="device"),
], ids=["for another event hub", "of a policy without the right"])
@each_transport
def test_a_token_that_does_not_reach_the_event_hub_is_refused(hub, door, made):
    connection_string, options = door(hub)
    with Reader(signed(connection_string, made(hub)), retry_total=0, **options) as events:
        assert isinstance(events.error(), EventHubError)


# Narrower tokens are of no use to azure-eventhub, which asks for all partitions before it reads one.

def test_a_token_for_a_consumer_group_reads_its_partitions(hub, group):
    scope = f"{EVENT_HUB}/ConsumerGroups/$Default"
    for partition in "03":
        receive(hub, scope, f"{scope}/Partitions/{partition}")
    refuses(hub, scope, f"{EVENT_HUB}/ConsumerGroups/{group}/Partitions/0")


def test_a_token_for_a_partition_reads_that_one(hub):
    scope = f"{EVENT_HUB}/ConsumerGroups/$Default/Partitions/1"
    receive(hub, scope, scope)
    refuses(hub, scope, f"{EVENT_HUB}/ConsumerGroups/$Default/Partitions/2")
    refuses(hub, scope, f"{EVENT_HUB}/ConsumerGroups/$Default/Partitions/10")


class Token:
    """A credential whose token the client takes for a good one."""

    token_type = TOKEN_TYPE

    def __init__(self, text):
        self._text = text

    def get_token(self, *_, **__):
        return AccessToken(self._text, int(time.time()) + 3600)


@each_transport
def test_a_stale_token_is_refused(hub, door):
    _, options = door(hub)
    stale = Token(token(hub, EVENT_HUB, seconds=-(GRACE_SECONDS + 1)))
    with EventHubConsumerClient(hub.address, "iolite", "$Default", stale, retry_total=0, **FAST, **options) as client:
        with pytest.raises(AuthenticationError):
            client.get_eventhub_properties()


def test_a_reader_ends_with_its_token(moved):
    ahead = int(moved.hub.now().timestamp() - time.time())
    brief = signed(moved.hub.event_hub, token(moved.hub, EVENT_HUB, seconds=ahead + 60))
    device = make_device(moved.hub, moved.registry)
    with connected(device) as client, Reader(brief, retry_total=0, connection_verify=moved.hub.ca_path) as events:
        client.send_message("x")
        events.of(device.id)
        moved.hub.advance(f"{60 + GRACE_SECONDS + 1}s")
        assert isinstance(events.error(), EventHubError)


def receive(hub, scope, path, seconds=0.5):
    """Receives from a node of the endpoint, with uAMQP, and a token for the scope. The time is for connecting, too."""
    def get_token():
        return AccessToken(token(hub, scope), int(time.time()) + 3600)

    uri = f"sb://{hub.address}{scope}"
    auth = uamqp.authentication.JWTTokenAuth(uri, uri, get_token, token_type=TOKEN_TYPE)
    client = uamqp.ReceiveClient(f"amqps://{hub.address}{path}", auth=auth, prefetch=1)
    try:
        return client.receive_message_batch(max_batch_size=1, timeout=int(1000 * seconds))
    finally:
        client.close()


def refuses(hub, scope, path):
    with pytest.raises(uamqp.errors.LinkDetach) as refusal:
        receive(hub, scope, path, DEADLINE_SECONDS)
    assert refusal.value.condition == uamqp.constants.ErrorCodes.UnauthorizedAccess
