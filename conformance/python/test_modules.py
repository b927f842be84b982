"""Modules: their identities, their doors, and what a module on IoT Edge may ask of others.

Module twins and module methods are in test_twins.py and test_methods.py, beside the devices'.
"""

import asyncio
import base64
import concurrent.futures
import hashlib
import hmac
import http.server
import json
import threading
import time
import urllib.parse

import pytest
from azure.iot.device import IoTHubModuleClient, MethodResponse
from azure.iot.device.aio import IoTHubModuleClient as AsyncModuleClient
from azure.iot.device.exceptions import ClientError, CredentialError
from azure.iot.hub import IoTHubRegistryManager

from certificates import SelfSigned
from conftest import Device, make_device, make_module
from devices import Inbox, answer_methods, closing, connected, each_door, failing
from events import annotations, body, properties
from feedback import sas_token
from refusals import refused

PRIMARY = base64.b64encode(b"p" * 32).decode()
SECONDARY = base64.b64encode(b"s" * 32).decode()
MODULES = 20


def test_a_created_module_is_returned_in_full(registry, device):
    made = registry.create_module_with_sas(device.id, "camera", "operator", PRIMARY, SECONDARY)
    assert (made.device_id, made.module_id, made.managed_by) == (device.id, "camera", "operator")
    assert made.authentication.type == "sas"
    keys = made.authentication.symmetric_key
    assert (keys.primary_key, keys.secondary_key) == (PRIMARY, SECONDARY)
    assert made.connection_state == "Disconnected"
    assert made.cloud_to_device_message_count == 0
    assert made.etag and made.generation_id and made.generation_id != device.generation_id
    assert registry.get_module(device.id, "camera").as_dict() == made.as_dict()
    assert [module.as_dict() for module in registry.get_modules(device.id)] == [made.as_dict()]


def test_keys_are_made_where_none_are_given(registry, device):
    keys = registry.create_module_with_sas(device.id, "camera", None, None, None).authentication.symmetric_key
    assert 16 <= len(base64.b64decode(keys.primary_key)) <= 64
    assert keys.primary_key != keys.secondary_key


def test_x509_and_ca_modules_carry_no_keys(registry, device):
    thumbprints = ("A1" * 20, "B2" * 32)
    made = registry.create_module_with_x509(device.id, "signed", "", *thumbprints)
    assert made.authentication.type == "selfSigned"
    stored = made.authentication.x509_thumbprint
    assert (stored.primary_thumbprint, stored.secondary_thumbprint) == thumbprints
    assert made.authentication.symmetric_key.primary_key is None
    by_ca = registry.create_module_with_certificate_authority(device.id, "by-ca", "")
    assert by_ca.authentication.type == "certificateAuthority"


def test_an_update_replaces_and_moves_the_etag(registry, device):
    made = registry.create_module_with_sas(device.id, "camera", "before", PRIMARY, SECONDARY)
    updated = registry.update_module_with_sas(device.id, "camera", "after", made.etag, SECONDARY, PRIMARY)
    assert updated.managed_by == "after"
    assert updated.authentication.symmetric_key.primary_key == SECONDARY
    assert updated.generation_id == made.generation_id
    assert updated.etag != made.etag
    assert registry.update_module_with_x509(device.id, "camera", "", updated.etag, "A1" * 20, None).authentication.type == "selfSigned"
    assert registry.update_module_with_certificate_authority(device.id, "camera", "", None).authentication.type == "certificateAuthority"


def test_a_stale_etag_is_refused(registry, device):
    made = registry.create_module_with_sas(device.id, "camera", "", PRIMARY, SECONDARY)
    registry.update_module_with_sas(device.id, "camera", "newer", made.etag, PRIMARY, SECONDARY)
    refused(412, "PreconditionFailed", registry.update_module_with_sas,
            device.id, "camera", "older", made.etag, PRIMARY, SECONDARY)
    refused(412, "PreconditionFailed", registry.delete_module, device.id, "camera", made.etag)
    assert registry.get_module(device.id, "camera").managed_by == "newer"


def test_a_second_module_of_the_same_id_is_refused(registry, device, module):
    text = refused(409, "ModuleAlreadyExistsOnDevice", registry.create_module_with_sas,
                   device.id, module.module_id, "", None, None)
    assert f"Device {device.id} in IotHub iolite already contains Module {module.module_id}." == text


def test_the_21st_module_is_refused(registry, device):
    for n in range(MODULES):
        registry.create_module_with_sas(device.id, f"m{n:02}", "", None, None)
    refused(413, "TooManyModulesOnDevice", registry.create_module_with_sas, device.id, "m20", "", None, None)
    refused(409, "ModuleAlreadyExistsOnDevice", registry.create_module_with_sas, device.id, "m19", "", None, None)
    assert len(registry.get_modules(device.id)) == MODULES
    registry.delete_module(device.id, "m00")
    registry.create_module_with_sas(device.id, "m20", "", None, None)


def test_unknown_modules_are_not_found(registry, device, device_id):
    refused(404, "ModuleNotFound", registry.get_module, device.id, "nobody")
    refused(404, "ModuleNotFound", registry.delete_module, device.id, "nobody")
    refused(404, "ModuleNotFound", registry.update_module_with_sas, device.id, "nobody", "", None, None, None)
    refused(404, "DeviceNotFound", registry.get_modules, device_id)
    assert registry.get_modules(device.id) == []


def test_ids_follow_the_grammar_of_devices(registry, device):
    module_id = "a-:.+%_#*?!(),=@;$'z"
    registry.create_module_with_sas(device.id, module_id, "", None, None)
    assert registry.get_module(device.id, module_id).module_id == module_id
    registry.create_module_with_sas(device.id, "m" * 128, "", None, None)
    registry.create_module_with_sas(device.id, "Camera", "", None, None)
    refused(404, "ModuleNotFound", registry.get_module, device.id, "camera")
    for outside in ("no spaces", "m" * 129, "ü", "$mine"):
        refused(400, "ArgumentInvalid", registry.create_module_with_sas, device.id, outside, "", None, None)


def test_modules_go_with_their_device(registry, device, module):
    registry.delete_device(device.id)
    registry.create_device_with_sas(device.id, None, None, "enabled")
    assert registry.get_modules(device.id) == []
    refused(404, "ModuleNotFound", registry.get_module, device.id, module.module_id)


@each_door
def test_a_module_speaks_through_its_outputs_and_listens_to_inputs(reader, module, options):
    with connected(module, **options) as client:
        inputs = Inbox()
        client.on_message_received = inputs.put  # only an edge hub puts anything there
        client.send_message("plain")
        client.send_message_to_output("routed", "alarms")
        plain, routed = reader.of(module.id, 2)
        assert client.connected and inputs.empty()
    for event in (plain, routed):
        assert annotations(event)["iothub-connection-module-id"] == module.module_id.encode()
        assert json.loads(annotations(event)["iothub-connection-auth-method"])["scope"] == "module"
    assert (body(plain), properties(plain)) == (b"plain", {})
    assert (body(routed), properties(routed)) == (b"routed", {"iothub-outputname": "alarms"})


@each_door
def test_an_async_module_client_does_all_of_it(reader, service, module, options):
    async def use():
        client = AsyncModuleClient.create_from_connection_string(module.connection_string, **options)

        async def on_request(request):
            await client.send_method_response(MethodResponse.create_from_method_request(request, 200, request.payload))

        await client.connect()
        client.on_method_request_received = on_request
        await client.patch_twin_reported_properties({"by": "coroutine"})
        await client.send_message_to_output("from the coroutine", "out")
        result = await asyncio.to_thread(service.invoke, module, "m", [1])
        twin = await client.get_twin()
        await client.shutdown()
        return result.payload, twin["reported"]

    assert asyncio.run(use()) == ([1], {"by": "coroutine", "$version": 2})
    assert body(reader.of(module.id)[0]) == b"from the coroutine"


@each_door
def test_a_token_made_elsewhere_opens_the_module_it_names(hub, module, options):
    def client(resource):
        token = sas_token(resource, module.key, int(time.time()) + 600)
        return closing(IoTHubModuleClient.create_from_sastoken(token, **options))

    own = f"{hub.address}/devices/{module.id}/modules/{module.module_id}"
    with client(own) as accepted:
        assert accepted.get_twin()["desired"] == {"$version": 1}
    with client(own + "x") as refused_client:
        with pytest.raises(CredentialError):
            refused_client.connect()


@each_door
def test_a_module_and_its_device_are_connected_beside_each_other(registry, device, module, options):
    with connected(module, **options):
        assert registry.get_module(device.id, module.module_id).connection_state == "Connected"
        assert registry.get_device(device.id).connection_state == "Disconnected"
        with connected(device, **options):
            assert registry.get_device(device.id).connection_state == "Connected"
        assert registry.get_module(device.id, module.module_id).connection_state == "Connected"
    assert registry.get_module(device.id, module.module_id).connection_state == "Disconnected"


@each_door
def test_a_module_is_refused_with_any_key_but_its_own(hub, registry, device, module, options):
    other = make_module(hub, registry, device.id, "other")
    for key in (device.key, other.key, PRIMARY):
        _refused_connection(hub.device(device.id, key, module.module_id), options)
    _refused_connection(hub.device(device.id, module.key, "nobody"), options)
    secondary = registry.get_module(device.id, module.module_id).authentication.symmetric_key.secondary_key
    with closing(IoTHubModuleClient.create_from_connection_string(
        hub.device(device.id, secondary, module.module_id), **options
    )) as client:
        client.connect()
        assert client.connected


@each_door
def test_a_module_is_known_by_the_thumbprint_of_its_certificate(hub, registry, device, tmp_path, options):
    registered, other = SelfSigned(tmp_path, "registered"), SelfSigned(tmp_path, "other")
    registry.create_module_with_x509(device.id, "signed", "", registered.sha1, registered.sha256)

    def client(certificate):
        return IoTHubModuleClient.create_from_x509_certificate(
            certificate.files, hub.address, device.id, "signed", **options
        )

    with closing(client(registered)) as accepted:
        accepted.connect()
        assert accepted.get_twin()["desired"] == {"$version": 1}
    with closing(client(other)) as stranger:
        with pytest.raises(CredentialError):
            stranger.connect()


def test_a_module_of_a_disabled_device_is_refused(hub, registry, device, module):
    registry.update_device_with_sas(device.id, None, device.key, device.secondary_key, "disabled")
    _refused_connection(module.connection_string, {})


@pytest.mark.parametrize("policy", ["service", "device"])
def test_modules_are_no_business_of_other_policies(hub, device, module, policy):
    narrow = IoTHubRegistryManager.from_connection_string(hub.policy(policy))
    refused(401, "IotHubUnauthorizedAccess", narrow.get_module, device.id, module.module_id)
    refused(401, "IotHubUnauthorizedAccess", narrow.get_modules, device.id)
    refused(401, "IotHubUnauthorizedAccess", narrow.create_module_with_sas, device.id, "new", "", None, None)
    refused(401, "IotHubUnauthorizedAccess", narrow.delete_module, device.id, module.module_id)


def test_registry_read_reads_and_registry_read_write_writes(hub, device, module):
    reader = IoTHubRegistryManager.from_connection_string(hub.policy("registryRead"))
    assert reader.get_module(device.id, module.module_id).module_id == module.module_id
    refused(401, "IotHubUnauthorizedAccess", reader.delete_module, device.id, module.module_id)
    writer = IoTHubRegistryManager.from_connection_string(hub.policy("registryReadWrite"))
    writer.create_module_with_sas(device.id, "new", "", None, None)
    writer.delete_module(device.id, "new")
    assert [module.module_id for module in writer.get_modules(device.id)] == [module.module_id]


# What a module on IoT Edge asks of others: invoke_method goes over HTTPS to the gateway, which here is the hub itself. The SDK
# allows it only to a client made from the edge environment: the variables that the runtime sets, or those of the debugger.


def test_an_edge_module_calls_a_method_on_its_own_device(edge, device):
    with connected(device) as target:
        answer_methods(target, lambda request: (201, {request.name: request.payload}))
        result = edge.invoke_method({"methodName": "reboot", "payload": {"in": [1, None]}}, device.id)
    assert result == {"status": 201, "payload": {"reboot": {"in": [1, None]}}}


def test_an_edge_module_calls_a_method_on_another_module(edge, hub, registry, device):
    other = make_module(hub, registry, device.id, "other")
    with connected(other) as target:
        answer_methods(target, lambda request: (200, request.payload))
        for payload in ("text", 7, [], None):
            result = edge.invoke_method({"methodName": "echo", "payload": payload}, device.id, "other")
            assert result == {"status": 200, "payload": payload}
        assert edge.invoke_method({"methodName": "echo"}, device.id, "other")["payload"] is None


def test_an_edge_module_calls_what_is_below_its_device(hub, registry, monkeypatch, device_id):
    parent = registry.create_device_with_sas(device_id, None, None, "enabled", True)
    child = registry.create_device_with_sas(
        f"{device_id}-child", None, None, "enabled", device_scope=parent.device_scope)
    key = child.authentication.symmetric_key.primary_key
    below = Device(child.device_id, key, None, None, hub.device(child.device_id, key))
    caller = make_module(hub, registry, device_id, "caller")
    with _edge_client(hub, caller, monkeypatch) as edge, connected(below) as target:
        answer_methods(target, lambda request: (200, "below"))
        assert edge.invoke_method({"methodName": "m"}, child.device_id) == {"status": 200, "payload": "below"}


def test_an_edge_module_calls_nobody_else(edge, hub, registry):
    stranger = make_device(hub, registry)
    with connected(stranger) as target:
        answer_methods(target, lambda request: (200, "never"))
        with failing("401 UnauthorizedError"):
            edge.invoke_method({"methodName": "m"}, stranger.id)


def test_an_edge_module_is_told_what_failed(edge, device):
    with failing("404"):
        edge.invoke_method({"methodName": "m"}, device.id)
    with failing("404"):
        edge.invoke_method({"methodName": "m"}, device.id, "nobody")
    with failing("400 ArgumentError"):
        edge.invoke_method({"methodName": "m", "responseTimeoutInSeconds": 301}, device.id)
    with failing("400 ArgumentError"):
        edge.invoke_method({"methodName": ""}, device.id)


def test_edge_modules_call_each_other_at_once(edge, hub, registry, device):
    other = make_module(hub, registry, device.id, "other")
    with connected(other) as target, concurrent.futures.ThreadPoolExecutor(8) as pool:
        answer_methods(target, lambda request: (200, request.payload))
        results = list(pool.map(lambda n: edge.invoke_method({"methodName": "m", "payload": n}, device.id, "other"), range(20)))
    assert results == [{"status": 200, "payload": n} for n in range(20)]


def test_an_edge_module_has_everything_else_that_modules_have(edge, reader, service, module):
    edge.connect()
    edge.patch_twin_reported_properties({"on": "edge"})
    assert service.twin(module).properties.reported["on"] == "edge"
    edge.send_message_to_output("from the edge", "out")
    assert body(reader.of(module.id)[0]) == b"from the edge"


def test_a_module_whose_token_the_edge_runtime_signs(hub, registry, device, module, monkeypatch):
    other = make_module(hub, registry, device.id, "other")
    with Workload(hub, module) as workload, connected(other) as target:
        workload.environment(monkeypatch)
        answer_methods(target, lambda request: (200, "signed elsewhere"))
        with closing(IoTHubModuleClient.create_from_edge_environment()) as client:
            client.connect()
            assert client.invoke_method({"methodName": "m"}, device.id, "other")["payload"] == "signed elsewhere"


def test_a_module_without_the_edge_environment_cannot_call(module, device):
    with connected(module) as client:
        with pytest.raises(ClientError):
            client.invoke_method({"methodName": "m"}, device.id)


@pytest.fixture
def edge(hub, module, monkeypatch):
    """A client of the module, made from the edge environment."""
    with _edge_client(hub, module, monkeypatch) as client:
        yield client


def _edge_client(hub, module, monkeypatch):
    monkeypatch.setenv("EdgeHubConnectionString", f"{module.connection_string};GatewayHostName={hub.address}")
    monkeypatch.setenv("EdgeModuleCACertificateFile", hub.ca_path)
    return closing(IoTHubModuleClient.create_from_edge_environment())


class Workload:
    """The workload API of the IoT Edge runtime, as far as a module needs it: the CA, and signatures with the module's key."""

    def __init__(self, hub, module):
        self._hub, self._module = hub, module
        answer = self._answer

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self, None)

            def do_POST(self):
                answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer((hub.address, 0), Handler)

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def environment(self, monkeypatch):
        for name, value in {
            "IOTHUBHOSTNAME": self._hub.address, "GATEWAYHOSTNAME": self._hub.address, "APIVERSION": "2019-01-30",
            "DEVICEID": self._module.id, "MODULEID": self._module.module_id, "MODULEGENERATIONID": self._module.generation_id,
            "WORKLOADURI": f"http://{self._hub.address}:{self._server.server_port}",
        }.items():
            monkeypatch.setenv(f"IOTEDGE_{name}", value)

    def _answer(self, handler, request):
        path = urllib.parse.urlsplit(handler.path).path
        if path == "/trust-bundle":
            reply = {"certificate": self._hub.ca_pem}
        else:
            assert path == f"/modules/{self._module.module_id}/genid/{self._module.generation_id}/sign"
            key = base64.b64decode(self._module.key)
            digest = hmac.new(key, base64.b64decode(request["data"]), hashlib.sha256).digest()
            reply = {"digest": base64.b64encode(digest).decode()}
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(json.dumps(reply).encode())


def _refused_connection(connection_string, options):
    with closing(IoTHubModuleClient.create_from_connection_string(connection_string, **options)) as client:
        with pytest.raises(CredentialError):
            client.connect()
