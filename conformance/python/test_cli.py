"""What the Azure CLI's extension azure-iot sends, request by request.

The extension itself is published nowhere that this suite can install it from. Its wire habits that no SDK shares are: its api-version, a
client request id, identities and lists by query, and bodies that hold whole twins and devices.
"""

import datetime
import uuid

import pytest

from conftest import make_device, make_module
from devices import answer_methods, connected
from eventually import eventually
from refusals import refusal_text
from rest import Rest

API_VERSION = "2024-03-31"


class Cli(Rest):
    def __init__(self, hub):
        super().__init__(hub, api_version=API_VERSION, headers={
            "Accept": "application/json", "accept-language": "en-US", "User-Agent": "IoTPlatformCliExtension/0.25.0",
        })

    def ask(self, method, path, body=None, headers=None, **query):
        headers = {"x-ms-client-request-id": str(uuid.uuid4()), **(headers or {})}
        answer = super().ask(method, path, body, headers, **query)
        assert answer.headers["x-ms-request-id"]
        return answer

    def done(self, *arguments, status=200, **options):
        answer = self.ask(*arguments, **options)
        assert answer.status == status, answer.body
        return answer.body

    def query(self, text, top=None):
        """All rows of all pages, as `az iot hub query` collects them."""
        rows, token = [], None
        while True:
            headers = {"x-ms-max-item-count": str(top or 100), **({"x-ms-continuation": token} if token else {})}
            answer = self.ask("POST", "/devices/query", {"query": text}, headers)
            assert answer.status == 200, answer.body
            rows += answer.body
            token = answer.headers.get("x-ms-continuation")
            if not token:
                return rows


@pytest.fixture(scope="session")
def cli(hub):
    return Cli(hub)


def test_device_identity(cli, device_id):
    path = f"/devices/{device_id}"
    made = cli.done("PUT", path, {
        "deviceId": device_id, "authentication": {"type": "sas", "symmetricKey": {"primaryKey": None, "secondaryKey": None}},
        "status": "enabled", "statusReason": None, "capabilities": {"iotEdge": False}, "deviceScope": None, "parentScopes": None,
    })
    assert made["authentication"]["symmetricKey"]["primaryKey"]
    shown = cli.ask("GET", path)
    assert shown.headers["ETag"] == f'"{shown.body["etag"]}"'
    updated = cli.done("PUT", path, {**shown.body, "status": "disabled", "statusReason": "cli"}, {"If-Match": '"*"'})
    assert (updated["status"], updated["statusReason"]) == ("disabled", "cli")
    stale = cli.ask("DELETE", path, headers={"If-Match": f'"{made["etag"]}"'})
    refusal_text(stale.status, stale.headers, stale.body, 412, "PreconditionFailed")
    cli.done("DELETE", path, headers={"If-Match": '"*"'}, status=204)
    gone = cli.ask("GET", path)
    refusal_text(gone.status, gone.headers, gone.body, 404, "DeviceNotFound")


def test_device_identity_renew_key(cli, device):
    keys = cli.done("GET", f"/devices/{device.id}")["authentication"]["symmetricKey"]
    result = cli.done("POST", "/devices/keys/regenerate", {"policyKey": "swap", "devices": [{"id": device.id}]})
    assert not result.get("errors")
    swapped = cli.done("GET", f"/devices/{device.id}")["authentication"]["symmetricKey"]
    assert (swapped["primaryKey"], swapped["secondaryKey"]) == (keys["secondaryKey"], keys["primaryKey"])
    cli.done("POST", "/devices/keys/regenerate", {"policyKey": "primary", "devices": [{"id": device.id}]})
    renewed = cli.done("GET", f"/devices/{device.id}")["authentication"]["symmetricKey"]
    assert renewed["primaryKey"] != swapped["primaryKey"] and renewed["secondaryKey"] == swapped["secondaryKey"]


def test_device_twin(cli, device):
    path = f"/twins/{device.id}"
    twin = cli.done("PATCH", path, {"tags": {"a": {"b": 1}}, "properties": {"desired": {"x": 1}}}, {"If-Match": '"*"'})
    assert (twin["tags"], twin["properties"]["desired"]["x"]) == ({"a": {"b": 1}}, 1)
    # `az iot hub device-twin update --set` sends the whole twin back.
    twin["tags"]["a"]["b"] = 2
    twin = cli.done("PATCH", path, twin, {"If-Match": f'"{twin["etag"]}"'})
    assert twin["tags"] == {"a": {"b": 2}}
    replaced = cli.done("PUT", path, {"tags": {"only": 1}, "properties": {"desired": {}}}, {"If-Match": '"*"'})
    assert replaced["tags"] == {"only": 1}
    assert "x" not in replaced["properties"]["desired"]
    assert cli.done("GET", path)["etag"] == replaced["etag"]


def test_module_identity_and_twin(cli, device):
    path = f"/devices/{device.id}/modules/m1"
    made = cli.ask("PUT", path, {
        "deviceId": device.id, "moduleId": "m1",
        "authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "A1" * 20, "secondaryThumbprint": None}},
    })
    assert made.status in (200, 201)
    assert [module["moduleId"] for module in cli.done("GET", f"/devices/{device.id}/modules")] == ["m1"]
    twin = cli.done("PATCH", f"/twins/{device.id}/modules/m1", {"tags": {"a": 1}}, {"If-Match": '"*"'})
    assert (twin["moduleId"], twin["tags"]) == ("m1", {"a": 1})
    cli.done("DELETE", path, headers={"If-Match": '"*"'}, status=204)


def test_invoke_device_and_module_method(hub, registry, cli, device):
    module = make_module(hub, registry, device.id)
    body = {"methodName": "reboot", "payload": {"in": 5}, "responseTimeoutInSeconds": 30, "connectTimeoutInSeconds": 10}
    with connected(device) as device_client, connected(module) as module_client:
        answer_methods(device_client, lambda request: (200, request.payload))
        answer_methods(module_client, lambda request: (201, None))
        assert cli.done("POST", f"/twins/{device.id}/methods", body) == {"status": 200, "payload": {"in": 5}}
        assert cli.done("POST", f"/twins/{device.id}/modules/{module.module_id}/methods", body) == {
            "status": 201, "payload": None,
        }


def test_the_queries_of_the_tools(hub, registry, cli, service, device_id):
    """Each text as an official tool writes it."""
    tag = uuid.uuid4().hex
    edge = registry.create_device_with_sas(f"{device_id}-edge", None, None, "enabled", True)
    leaf = registry.create_device_with_sas(f"{device_id}-leaf", None, None, "enabled", device_scope=edge.device_scope)
    cli.done("PATCH", f"/twins/{leaf.device_id}", {"tags": {"x": tag}})
    make_module(hub, registry, leaf.device_id, "m1")
    for_both, only_edge, only_leaf = {edge.device_id, leaf.device_id}, {edge.device_id}, {leaf.device_id}
    for text, wanted in {
        "select * from devices": for_both,
        "SELECT deviceId FROM devices": for_both,
        "SELECT deviceId, deviceScope FROM devices": for_both,
        "select * from devices where capabilities.iotEdge = true": only_edge,
        f"select * from devices where deviceId = '{edge.device_id}'": only_edge,
        f"select * from devices where deviceId in ['{edge.device_id}','{leaf.device_id}']": for_both,
        f"select * from devices where tags.x = '{tag}'": only_leaf,
        f"select deviceId from devices where array_contains(parentScopes, '{edge.device_scope}')": only_leaf,
        f"SELECT * FROM devices WHERE STARTSWITH(id, '{device_id}')": for_both,
        f"select * from devices.modules where devices.deviceId = '{leaf.device_id}'": only_leaf,
        "select * from devices.modules where moduleId = '$edgeHub'": only_edge,
    }.items():
        found = {row["deviceId"] for row in cli.query(text)}
        assert found & for_both == wanted, text
    assert cli.query("select count() AS numberOfDevices from devices")[0]["numberOfDevices"] >= 2
    row = cli.query(f"SELECT deviceId, deviceScope FROM devices WHERE deviceId = '{leaf.device_id}'")
    assert row == [{"deviceId": leaf.device_id, "deviceScope": edge.device_scope}]


def test_a_query_for_more_than_a_page(hub, registry, cli):
    tag = uuid.uuid4().hex
    for _ in range(5):
        cli.done("PATCH", f"/twins/{make_device(hub, registry).id}", {"tags": {"page": tag}})
    assert len(cli.query(f"select * from devices where tags.page = '{tag}'", top=2)) == 5


def test_jobs(cli, device):
    job_id = uuid.uuid4().hex
    cli.done("PUT", f"/jobs/v2/{job_id}", {
        "jobId": job_id, "type": "scheduleUpdateTwin", "queryCondition": f"deviceId = '{device.id}'",
        "updateTwin": {"tags": {"job": 1}, "etag": "*"},
        "startTime": datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None).isoformat(timespec="seconds"),
        "maxExecutionTimeInSeconds": 60,
    })
    done = eventually(lambda: (job := cli.done("GET", f"/jobs/v2/{job_id}"))["status"] == "completed" and job)
    assert done["deviceJobStatistics"]["succeededCount"] == 1
    rows = cli.query(f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job_id}'")
    assert [(row["deviceId"], row["jobId"], row["status"]) for row in rows] == [(device.id, job_id, "completed")]
    assert job_id in {job["jobId"] for job in cli.done("GET", "/jobs/v2/query")}
    finished = cli.ask("POST", f"/jobs/v2/{job_id}/cancel")
    refusal_text(finished.status, finished.headers, finished.body, 405, "OperationNotAllowedInCurrentState")


def test_configurations(cli, device):
    configuration_id = f"cli-{uuid.uuid4()}"
    path = f"/configurations/{configuration_id}"
    made = cli.done("PUT", path, {
        "id": configuration_id, "schemaVersion": "2.0", "labels": {}, "priority": 3, "etag": "*",
        "content": {"deviceContent": {"properties.desired.cli": True}}, "targetCondition": f"deviceId = '{device.id}'",
        "metrics": {"queries": {}},
    })
    try:
        eventually(lambda: cli.done("GET", f"/twins/{device.id}")["properties"]["desired"].get("cli"))
        applied = cli.query(f"select deviceId from devices where configurations.[[{configuration_id}]].status = 'Applied'")
        assert applied == [{"deviceId": device.id}]
        updated = cli.done("PUT", path, {**made, "priority": 4}, {"If-Match": f'"{made["etag"]}"'})
        assert updated["priority"] == 4
        assert configuration_id in {one["id"] for one in cli.done("GET", "/configurations", top=100)}
    finally:
        cli.done("DELETE", path, headers={"If-Match": '"*"'}, status=204)


def test_edge_deployments(registry, cli, device_id):
    registry.create_device_with_sas(device_id, None, None, "enabled", True)
    deployment_id = f"cli-{uuid.uuid4()}"
    path = f"/configurations/{deployment_id}"
    cli.done("PUT", path, {
        "id": deployment_id, "schemaVersion": "2.0", "labels": {}, "priority": 3, "etag": "*",
        "content": {"modulesContent": {
            "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {}}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
        }},
        "targetCondition": f"deviceId = '{device_id}'", "metrics": {"queries": {}},
    })
    try:
        eventually(lambda: "modules" in cli.done("GET", f"/twins/{device_id}/modules/$edgeAgent")["properties"]["desired"])
        applied = f"configurations.[[{deployment_id}]].status = 'Applied'"
        assert cli.query(f"select deviceId from devices.modules where moduleId = '$edgeAgent' and {applied}") == [
            {"deviceId": device_id},
        ]
        # What `az iot edge deployment show-metric` does: each query of the configuration itself.
        metrics = cli.done("GET", path)["systemMetrics"]
        for name in ("targetedCount", "appliedCount"):
            assert [row["deviceId"] for row in cli.query(metrics["queries"][name])] == [device_id], name
            assert metrics["results"][name] == 1
        assert cli.query(metrics["queries"]["reportedSuccessfulCount"]) == []
    finally:
        cli.done("DELETE", path, headers={"If-Match": '"*"'}, status=204)


def test_set_modules(registry, cli, device_id):
    registry.create_device_with_sas(device_id, None, None, "enabled", True)
    content = {"modulesContent": {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {}}},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
    }}
    applied = cli.ask("POST", f"/devices/{device_id}/applyConfigurationContent", content)
    assert applied.status in (200, 204)
    assert cli.done("GET", f"/twins/{device_id}/modules/$edgeHub")["properties"]["desired"]["routes"] == {}


def test_statistics(cli):
    assert set(cli.done("GET", "/statistics/devices")) == {"totalDeviceCount", "enabledDeviceCount", "disabledDeviceCount"}
    assert set(cli.done("GET", "/statistics/service")) == {"connectedDeviceCount"}


def test_digital_twin(cli, device):
    assert cli.done("GET", f"/digitaltwins/{device.id}")["$dtId"] == device.id
    patched = cli.ask("PATCH", f"/digitaltwins/{device.id}", [{"op": "add", "path": "/cli", "value": 1}], {"If-Match": "*"})
    assert patched.status == 202
