"""azure-iot-device on both of its doors."""

import contextlib

import pytest
from azure.iot.device import IoTHubDeviceClient

DOORS = {"mqtt": {}, "mqtt_ws": {"websockets": True}}

each_door = pytest.mark.parametrize("options", DOORS.values(), ids=DOORS.keys())


@contextlib.contextmanager
def connected(device, **options):
    """A connected synchronous client; shut down at the end, whatever state it is in."""
    client = IoTHubDeviceClient.create_from_connection_string(device.connection_string, **options)
    with closing(client):
        client.connect()
        yield client


@contextlib.contextmanager
def closing(client):
    try:
        yield client
    finally:
        client.shutdown()
