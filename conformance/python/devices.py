"""azure-iot-device on both of its doors."""

import contextlib
import queue

import pytest
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, MethodResponse
from azure.iot.device.exceptions import ClientError, ServiceError

DEADLINE_SECONDS = 30

DOORS = {"mqtt": {}, "mqtt_ws": {"websockets": True}}

each_door = pytest.mark.parametrize("options", DOORS.values(), ids=DOORS.keys())


@contextlib.contextmanager
def connected(identity, **options):
    """A connected synchronous client of a device or module; shut down at the end, whatever state it is in."""
    kind = IoTHubModuleClient if identity.module_id else IoTHubDeviceClient
    client = kind.create_from_connection_string(identity.connection_string, **options)
    with closing(client):
        client.connect()
        yield client


@contextlib.contextmanager
def closing(client):
    try:
        yield client
    finally:
        client.shutdown()


class Inbox(queue.Queue):
    """What a client was handed, in order; take waits for the next."""

    def take(self):
        return self.get(timeout=DEADLINE_SECONDS)


class States(Inbox):
    """What a client says of its connection from now on."""

    def __init__(self, client):
        super().__init__()
        client.on_connection_state_change = lambda: self.put(client.connected)

    def await_lost(self):
        while self.take():
            pass

    def await_connected(self):
        while not self.take():
            pass

    def await_back(self):
        """Lost and connected again. The client tells the state that it has when it gets round to it: of the loss, perhaps that it is back."""
        self.take()
        self.await_connected()


@contextlib.contextmanager
def failing(text):
    """Expects the hub to refuse what a synchronous client asks; it raises ClientError and hides the hub's word in the cause."""
    with pytest.raises(ClientError) as raised:
        yield
    assert isinstance(raised.value.__cause__, ServiceError)
    assert text in str(raised.value.__cause__)


def desired_patches(client):
    """Subscribes to changes of the desired properties."""
    inbox = Inbox()
    client.on_twin_desired_properties_patch_received = inbox.put
    return inbox


def method_requests(client):
    """Subscribes to direct methods and answers none."""
    inbox = Inbox()
    client.on_method_request_received = inbox.put
    return inbox


def answer_methods(client, answer):
    """Subscribes to direct methods; answer(request) returns the status and the payload of the response."""
    def respond(request):
        client.send_method_response(MethodResponse.create_from_method_request(request, *answer(request)))

    client.on_method_request_received = respond
