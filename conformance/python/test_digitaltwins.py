"""Digital twins through azure-iot-hub, with a Plug and Play device on each of azure-iot-device's doors."""

import pytest
from azure.iot.hub import DigitalTwinClient

from conftest import make_device
from devices import answer_methods, connected, desired_patches, each_door, method_requests
from refusals import refused
from service import calling, plain

MODEL = "dtmi:com:example:TemperatureController;2"


@pytest.fixture(scope="session")
def twins(hub):
    return DigitalTwinClient.from_connection_string(hub.owner)


@each_door
def test_a_digital_twin_shows_properties_and_components(twins, service, device, options):
    with connected(device, product_info=MODEL, **options) as client:
        client.patch_twin_reported_properties({
            "serialNumber": "abc", "thermostat1": {"__t": "c", "maxTemp": 30},
            "interval": {"value": 5, "ac": 200, "av": 2, "ad": "done"},
        })
        service.desire(device, {"interval": 5, "thermostat1": {"__t": "c", "target": 21}})
        twin = twins.get_digital_twin(device.id)
    assert twin["$dtId"] == device.id
    metadata = twin["$metadata"]
    assert metadata["$model"] == MODEL
    assert twin["serialNumber"] == "abc"
    assert twin["interval"] == 5
    interval = metadata["interval"]
    assert (interval["desiredValue"], interval["desiredVersion"]) == (5, 2)
    assert (interval["ackVersion"], interval["ackCode"], interval["ackDescription"]) == (2, 200, "done")
    assert metadata["serialNumber"]["lastUpdateTime"].endswith("Z")
    component = twin["thermostat1"]
    assert component["maxTemp"] == 30 and "__t" not in component
    assert (component["$metadata"]["target"]["desiredValue"], component["$metadata"]["target"]["desiredVersion"]) == (21, 2)


def test_a_device_without_a_model_has_a_digital_twin_too(twins, device):
    twin = twins.get_digital_twin(device.id)
    assert twin["$dtId"] == device.id
    assert not twin["$metadata"].get("$model")


@each_door
def test_a_patch_becomes_desired_properties(twins, service, device, options):
    with connected(device, product_info=MODEL, **options) as client:
        patches = desired_patches(client)
        twins.update_digital_twin(device.id, [
            {"op": "add", "path": "/interval", "value": 5}, {"op": "add", "path": "/mode", "value": {"name": "eco"}},
        ])
        assert plain(patches.take()) == {"interval": 5, "mode": {"name": "eco"}}
        twins.update_digital_twin(device.id, [
            {"op": "replace", "path": "/interval", "value": 6}, {"op": "remove", "path": "/mode"},
        ])
        assert plain(patches.take()) == {"interval": 6, "mode": None}
    assert plain(service.twin(device).properties.desired) == {"interval": 6}


@each_door
def test_a_patch_of_a_component_marks_it(twins, service, device, options):
    with connected(device, product_info=MODEL, **options) as client:
        client.patch_twin_reported_properties({"thermostat1": {"__t": "c", "maxTemp": 30}})
        patches = desired_patches(client)
        twins.update_digital_twin(device.id, [{"op": "add", "path": "/thermostat1/target", "value": 21}])
        assert plain(patches.take()) == {"thermostat1": {"__t": "c", "target": 21}}
        twins.update_digital_twin(device.id, [{"op": "replace", "path": "/thermostat1/target", "value": 22}])
        assert plain(patches.take())["thermostat1"]["target"] == 22
    assert plain(service.twin(device).properties.desired) == {"thermostat1": {"__t": "c", "target": 22}}


def test_a_whole_component_is_added(twins, service, device):
    twins.update_digital_twin(device.id, [
        {"op": "add", "path": "/thermostat1", "value": {"target": 21, "$metadata": {}}},
    ])
    assert plain(service.twin(device).properties.desired) == {"thermostat1": {"__t": "c", "target": 21}}


def test_the_etag_guards_the_patch(twins, device):
    operations = twins.protocol.digital_twin
    etag = operations.get_digital_twin(device.id, raw=True).headers["ETag"]
    assert etag.startswith('"')
    patched = operations.update_digital_twin(device.id, [{"op": "add", "path": "/n", "value": 1}], etag, raw=True)
    assert patched.response.status_code == 202
    assert patched.headers["ETag"] not in (None, etag) and patched.headers["Location"]
    refused(412, "PreconditionFailed", twins.update_digital_twin, device.id, [{"op": "add", "path": "/n", "value": 2}], etag)
    twins.update_digital_twin(device.id, [{"op": "add", "path": "/n", "value": 3}], patched.headers["ETag"])
    twins.update_digital_twin(device.id, [{"op": "add", "path": "/n", "value": 4}], "*")


@pytest.mark.parametrize("name, patch", [
    ("InvalidDigitalTwinJsonPatch", [{"op": "fly", "path": "/n", "value": 1}]),
    ("InvalidDigitalTwinJsonPatch", [{"op": "add", "path": "/n"}]),
    ("InvalidDigitalTwinJsonPatch", [{"path": "/n", "value": 1}]),
    ("InvalidDigitalTwinPatchPath", [{"op": "add", "path": "no-slash", "value": 1}]),
    ("InvalidDigitalTwinPatchPath", [{"op": "add", "path": "", "value": 1}]),
], ids=["an unknown op", "no value", "no op", "no slash", "no path"])
def test_what_is_no_patch_is_refused(twins, service, device, name, patch):
    refused(400, name, twins.update_digital_twin, device.id, [{"op": "add", "path": "/first", "value": 1}, *patch])
    assert plain(service.twin(device).properties.desired) == {}, "all of it or nothing"


@each_door
def test_a_command_is_a_direct_method(twins, device, options):
    with connected(device, product_info=MODEL, **options) as client:
        answer_methods(client, lambda request: (200, {"name": request.name, "got": request.payload}))
        for payload in ({"a": [1, None]}, "text", 5, []):
            assert twins.invoke_command(device.id, "reboot", payload) == {"name": "reboot", "got": payload}
        assert twins.invoke_component_command(device.id, "thermostat1", "report", {}) == {
            "name": "thermostat1*report", "got": {},
        }


@each_door
def test_the_status_of_a_command_is_in_a_header(twins, device, options):
    operations = twins.protocol.digital_twin
    with connected(device, product_info=MODEL, **options) as client:
        answer_methods(client, lambda request: (418, "short and stout"))
        root = operations.invoke_root_level_command(device.id, "brew", {}, raw=True)
        component = operations.invoke_component_command(device.id, "pot", "brew", {}, raw=True)
    for answer in (root, component):
        assert answer.output == "short and stout"
        assert answer.headers["x-ms-command-statuscode"] == 418
        assert answer.headers["x-ms-request-id"]


def test_a_command_has_time_outs(moved):
    twins = DigitalTwinClient.from_connection_string(moved.hub.owner)
    device = make_device(moved.hub, moved.registry)
    with connected(device) as client:
        requests = method_requests(client)
        with calling(twins.invoke_command, device.id, "sleep", {}, 0, 10) as call:
            requests.take()
            moved.hub.advance("9s")
            assert not call.done()
            moved.hub.advance("1s")
            refused(504, "GatewayTimeout", call.result)


def test_a_command_to_nobody_is_refused(twins, device, device_id):
    refused(404, "DeviceNotOnline", twins.invoke_command, device.id, "c", {})
    refused(404, "DeviceNotOnline", twins.invoke_component_command, device.id, "p", "c", {})
    refused(404, "DeviceNotFound", twins.invoke_command, device_id, "c", {})
    refused(400, "ArgumentInvalid", twins.invoke_command, device.id, "c", {}, 0, 301)


def test_unknown_digital_twins_are_not_found(twins, device_id):
    refused(404, "DeviceNotFound", twins.get_digital_twin, device_id)
    refused(404, "DeviceNotFound", twins.update_digital_twin, device_id, [{"op": "add", "path": "/n", "value": 1}])


@pytest.mark.parametrize("policy", ["device", "registryRead", "registryReadWrite"])
def test_digital_twins_are_for_the_policy_service(hub, device, policy):
    narrow = DigitalTwinClient.from_connection_string(hub.policy(policy))
    refused(401, "IotHubUnauthorizedAccess", narrow.get_digital_twin, device.id)
    refused(401, "IotHubUnauthorizedAccess", narrow.update_digital_twin, device.id, [])
    refused(401, "IotHubUnauthorizedAccess", narrow.invoke_command, device.id, "c", {})
    allowed = DigitalTwinClient.from_connection_string(hub.policy("service"))
    assert allowed.get_digital_twin(device.id)["$dtId"] == device.id
