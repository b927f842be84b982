"""Fixtures: two running hubs, fresh devices, and a reader of everything the hub stores."""

import dataclasses
import os
import uuid

import certifi
import pytest
from azure.iot.hub import IoTHubRegistryManager
from msrest.exceptions import HttpOperationError

import azurite as azurites
import hub as hubs
from certificates import Authority
from devices import connected
from events import Reader
from service import Service

MAIN_ADDRESS = "127.0.0.3"
MOVED_ADDRESS = "127.0.3.3"
SMALL_ADDRESS = "127.0.5.3"
OUTSIDE_ADDRESS = "127.0.7.3"


@pytest.fixture(scope="session")
def hub(binary, certs_dir, tmp_path_factory, authority):
    """The hub that every test shares. Its clock is never moved: the SDKs' tokens live by the real time."""
    yield from _running(binary, MAIN_ADDRESS, certs_dir, tmp_path_factory, f"--x509-ca={authority.path}")


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """The CA that the hub knows devices by."""
    return Authority(tmp_path_factory.mktemp("authority"), "devices")


@pytest.fixture(scope="session")
def moved_hub(binary, certs_dir, tmp_path_factory):
    """A second hub for the tests that move its clock."""
    yield from _running(binary, MOVED_ADDRESS, certs_dir, tmp_path_factory, "--upload-ttl=1m")


@pytest.fixture(scope="session")
def small(binary, certs_dir, tmp_path_factory):
    """A third hub, which keeps a mebibyte of events."""
    for running in _running(binary, SMALL_ADDRESS, certs_dir, tmp_path_factory, "--retain=1"):
        yield Moved(running, IoTHubRegistryManager.from_connection_string(running.owner))


@dataclasses.dataclass(frozen=True)
class Outside:
    """A hub whose uploads go to a storage account elsewhere, in Azurite, over HTTPS."""
    hub: hubs.Hub
    registry: IoTHubRegistryManager
    storage: azurites.Azurite
    ca_path: str  # of the storage's certificate


@pytest.fixture(scope="session")
def outside(binary, certs_dir, tmp_path_factory, authority):
    azurites.installed()
    files = authority.files("storage", OUTSIDE_ADDRESS)
    storage = azurites.Azurite(
        OUTSIDE_ADDRESS, tmp_path_factory.mktemp("storage") / "log", (files.certificate_file, files.key_file)
    )
    flags = f"--storage={storage.connection_string}", f"--trust-ca={authority.path}", "--storage-container=elsewhere"
    for running in _running(binary, OUTSIDE_ADDRESS, certs_dir, tmp_path_factory, *flags):
        registry = IoTHubRegistryManager.from_connection_string(running.owner)
        yield Outside(running, registry, storage, str(authority.path))
    storage.stop()


def _running(binary, address, certs_dir, tmp_path_factory, *flags):
    running = hubs.Hub(binary, address, certs_dir, tmp_path_factory.mktemp("hub") / "log", *flags).start()
    _hubs.append(running)
    _trust(running.ca_path)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def binary(tmp_path_factory):
    return hubs.build(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="session")
def certs_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("certs")


def _trust(ca_path):
    """Trusts the CA the way a user would: by the variables that Python's TLS and requests read.

    azure-iot-hub sends over uAMQP, which reads neither: it asks certifi for a file and
    offers no parameter for another, so certifi is told to name ours. (azure-eventhub asks
    certifi too, but has the parameter connection_verify, and the tests use it.)
    """
    os.environ["SSL_CERT_FILE"] = ca_path
    os.environ["REQUESTS_CA_BUNDLE"] = ca_path
    certifi.where = lambda: ca_path


@pytest.fixture(scope="session")
def registry(hub):
    manager = IoTHubRegistryManager.from_connection_string(hub.owner)
    yield manager
    manager.amqp_svc_client.disconnect_sync()
    manager.amqp_svc_client = None


@pytest.fixture(scope="session")
def reader(hub):
    """Reads every partition from the first event on."""
    with Reader(hub.event_hub, connection_verify=hub.ca_path) as everything:
        yield everything


@pytest.fixture(scope="session")
def sent(hub, registry, reader):
    """Ten events of one device as the hub stored them: one partition, one after the other."""
    device = make_device(hub, registry)
    with connected(device) as client:
        for n in range(10):
            client.send_message(str(n))
    return reader.of(device.id, 10)


@pytest.fixture
def group(hub):
    """A consumer group whose partitions nobody else reads."""
    with hub.consumer_group() as name:
        yield name


@pytest.fixture(scope="session")
def azurite(tmp_path_factory):
    """A storage account."""
    azurites.installed()
    running = azurites.Azurite(MAIN_ADDRESS, tmp_path_factory.mktemp("azurite") / "log")
    yield running
    running.stop()


@dataclasses.dataclass(frozen=True)
class Moved:
    """The hub whose clock is moved, and a registry manager for it."""
    hub: hubs.Hub
    registry: IoTHubRegistryManager


@pytest.fixture
def moved(moved_hub):
    """The SDK makes a token for each request, by the real time."""
    return Moved(moved_hub, IoTHubRegistryManager.from_connection_string(moved_hub.owner))


@pytest.fixture(scope="session")
def service(registry):
    return Service(registry)


@dataclasses.dataclass(frozen=True)
class Device:
    id: str
    key: str
    secondary_key: str
    generation_id: str
    connection_string: str
    module_id: None = None


@dataclasses.dataclass(frozen=True)
class Module:
    id: str  # of its device
    module_id: str
    key: str
    generation_id: str
    connection_string: str


def make_device(hub, registry, status="enabled"):
    made = registry.create_device_with_sas(f"py-{uuid.uuid4()}", None, None, status)
    keys = made.authentication.symmetric_key
    return Device(
        made.device_id, keys.primary_key, keys.secondary_key, made.generation_id,
        hub.device(made.device_id, keys.primary_key),
    )


def make_module(hub, registry, device_id, module_id="camera"):
    made = registry.create_module_with_sas(device_id, module_id, "", None, None)
    key = made.authentication.symmetric_key.primary_key
    return Module(device_id, module_id, key, made.generation_id, hub.device(device_id, key, module_id))


@pytest.fixture
def device(hub, registry):
    return make_device(hub, registry)


@pytest.fixture
def module(hub, registry, device):
    return make_module(hub, registry, device.id)


@pytest.fixture(params=["device", "module"])
def identity(request):
    """A device, then a module: for what both do alike."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["device", "module"])
def moved_identity(request, moved):
    """The same on the hub whose clock is moved."""
    device = make_device(moved.hub, moved.registry)
    return device if request.param == "device" else make_module(moved.hub, moved.registry, device.id)


@pytest.fixture
def device_id():
    return f"py-{uuid.uuid4()}"


_hubs = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what the hubs had to say."""
    report = (yield).get_result()
    if report.failed:
        if call.excinfo and isinstance(call.excinfo.value, HttpOperationError):
            report.sections.append(("the hub's answer", call.excinfo.value.response.text))
        for running in _hubs:
            report.sections.append((f"log of the hub on {running.address}", running.log_tail()))
