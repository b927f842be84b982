"""Automatic device management through azure-iot-hub: configurations, what they write to whom, and what they count."""

import uuid

import pytest
from azure.iot.hub import IoTHubConfigurationManager
from azure.iot.hub.models import (
    Configuration, ConfigurationContent, ConfigurationMetrics, ConfigurationQueriesTestInput, Twin,
)

from conftest import make_device, make_module
from devices import connected, desired_patches
from eventually import eventually
from refusals import refused
from service import desiring, plain

MOST = 100


class Group:
    """A configuration manager, and devices under a tag that no other test's configurations mean."""

    def __init__(self, hub, registry):
        self.hub, self.registry = hub, registry
        self.manager = IoTHubConfigurationManager.from_connection_string(hub.owner)
        self.tag = uuid.uuid4().hex
        self.condition = f"tags.party = '{self.tag}'"
        self._made = []

    def configuration(self, desired=None, **fields):
        content = ConfigurationContent(device_content=desired or {"properties.desired.configured": True})
        return Configuration(**{
            "id": f"py-{uuid.uuid4()}", "content": content, "target_condition": self.condition, **fields,
        })

    def create(self, desired=None, **fields):
        made = self.manager.create_configuration(self.configuration(desired, **fields))
        self._made.append(made.id)
        return made

    def delete(self, configuration):
        self.manager.delete_configuration(configuration.id)
        self._made.remove(configuration.id)

    def device(self):
        device = make_device(self.hub, self.registry)
        self.join(device)
        return device

    def join(self, device):
        self.registry.update_twin(device.id, Twin(tags={"party": self.tag}))

    def leave(self, device):
        self.registry.update_twin(device.id, Twin(tags={"party": None}))

    def desired(self, device):
        return plain(self.registry.get_twin(device.id).properties.desired)

    def awaits(self, device, **desired):
        """Waits until the desired properties are these."""
        eventually(lambda: self.desired(device) == desired)

    def clear(self):
        for configuration_id in self._made:
            self.manager.delete_configuration(configuration_id)


@pytest.fixture
def group(hub, registry):
    group = Group(hub, registry)
    yield group
    group.clear()


def test_a_created_configuration_is_returned_in_full(group):
    made = group.create(
        labels={"made": "here"}, priority=7,
        metrics=ConfigurationMetrics(queries={"hot": f"SELECT deviceId FROM devices WHERE {group.condition}"}),
    )
    assert made.content.device_content == {"properties.desired.configured": True}
    assert (made.labels, made.priority, made.target_condition) == ({"made": "here"}, 7, group.condition)
    assert made.schema_version and made.etag
    assert made.created_time_utc and made.last_updated_time_utc
    assert set(made.system_metrics.queries) >= {"targetedCount", "appliedCount"}
    assert set(made.metrics.queries) == {"hot"}
    read = group.manager.get_configuration(made.id)
    assert (read.id, read.etag, read.created_time_utc) == (made.id, made.etag, made.created_time_utc)


def test_what_is_left_out_has_defaults(group):
    configuration = group.configuration(target_condition=None)
    made = group.manager.create_configuration(configuration)
    try:
        assert (made.priority, made.target_condition, made.labels or {}) == (0, "", {})
    finally:
        group.manager.delete_configuration(made.id)


def test_a_configuration_reaches_the_devices_it_targets(group):
    inside, outside = group.device(), make_device(group.hub, group.registry)
    with connected(inside) as client:
        patches = desired_patches(client)
        made = group.create({"properties.desired.climate": {"target": 21}, "properties.desired.mode.name": "eco"})
        group.awaits(inside, climate={"target": 21}, mode={"name": "eco"})
        assert plain(patches.take()) == {"climate": {"target": 21}, "mode": {"name": "eco"}}
    assert group.desired(outside) == {}
    twin = group.registry.get_twin(inside.id)
    assert twin.additional_properties["configurations"] == {made.id: {"status": "Applied"}}


def test_a_configuration_reaches_devices_that_come_later(group):
    group.create()
    late = group.device()
    group.awaits(late, configured=True)


def test_a_configuration_leaves_other_desired_properties(group):
    device = group.device()
    group.registry.update_twin(device.id, desiring({"mine": 1, "climate": {"mine": 2}}))
    group.create({"properties.desired.climate.target": 21})
    group.awaits(device, mine=1, climate={"mine": 2, "target": 21})


def test_the_highest_priority_wins(group):
    device = group.device()
    low = group.create({"properties.desired.mode": "low"}, priority=1)
    group.awaits(device, mode="low")
    high = group.create({"properties.desired.mode": "high"}, priority=2)
    group.awaits(device, mode="high")
    group.create({"properties.desired.mode": "lowest"}, priority=0)
    configurations = eventually(
        lambda: group.registry.get_twin(device.id).additional_properties.get("configurations"))
    assert configurations[high.id] == {"status": "Applied"}
    assert low.id not in configurations or configurations[low.id] != {"status": "Applied"}
    assert group.desired(device) == {"mode": "high"}
    group.delete(high)
    group.awaits(device, mode="low")


def test_of_two_with_one_priority_the_newer_wins(group):
    device = group.device()
    group.create({"properties.desired.mode": "older"}, priority=5)
    group.create({"properties.desired.mode": "newer"}, priority=5)
    group.awaits(device, mode="newer")


def test_a_device_that_is_targeted_no_more_loses_what_it_got(group):
    device = group.device()
    group.registry.update_twin(device.id, desiring({"mine": 1}))
    made = group.create()
    group.awaits(device, configured=True, mine=1)
    group.leave(device)
    group.awaits(device, mine=1)
    assert not group.registry.get_twin(device.id).additional_properties.get("configurations")
    assert group.manager.get_configuration(made.id).system_metrics.results["targetedCount"] == 0


def test_metrics_count_devices(group):
    devices = [group.device() for _ in range(3)]
    made = group.create(metrics=ConfigurationMetrics(queries={
        "ready": f"SELECT deviceId FROM devices WHERE {group.condition} AND properties.reported.ready = true",
    }))
    with connected(devices[0]) as client:
        client.patch_twin_reported_properties({"ready": True})
    read = eventually(
        lambda: (read := group.manager.get_configuration(made.id)).system_metrics.results.get("appliedCount") == 3
        and read.metrics.results.get("ready") == 1 and read
    )
    assert read.system_metrics.results["targetedCount"] == 3
    assert read.metrics.queries == made.metrics.queries


def test_a_configuration_of_modules_reaches_modules(group):
    device = group.device()
    camera = make_module(group.hub, group.registry, device.id, "camera")
    other = make_module(group.hub, group.registry, device.id, "other")
    for module in (camera, other):
        group.registry.update_module_twin(device.id, module.module_id, Twin(tags={"party": group.tag}))
    group.create(
        content=ConfigurationContent(module_content={"properties.desired.zoom": 3}),
        target_condition=f"FROM devices.modules WHERE moduleId = 'camera' AND {group.condition}",
    )
    eventually(lambda: plain(group.registry.get_module_twin(device.id, "camera").properties.desired) == {"zoom": 3})
    assert plain(group.registry.get_module_twin(device.id, "other").properties.desired) == {}
    assert group.desired(device) == {}


def test_a_deployment_reaches_the_modules_of_edge_devices(group, device_id):
    group.registry.create_device_with_sas(device_id, None, None, "enabled", True)
    group.registry.create_module_with_sas(device_id, "camera", "iotEdge", None, None)
    group.registry.update_twin(device_id, Twin(tags={"party": group.tag}))
    made = group.create(content=ConfigurationContent(modules_content={
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {"camera": {"type": "docker"}}}},
        "camera": {"properties.desired": {"zoom": 3}, "properties.desired.light.on": True},
    }))
    eventually(lambda: plain(group.registry.get_module_twin(device_id, "camera").properties.desired) ==
               {"zoom": 3, "light": {"on": True}})
    agent = group.registry.get_module_twin(device_id, "$edgeAgent")
    assert plain(agent.properties.desired) == {"schemaVersion": "1.1", "modules": {"camera": {"type": "docker"}}}
    assert set(group.manager.get_configuration(made.id).system_metrics.queries) >= {
        "targetedCount", "appliedCount", "reportedSuccessfulCount", "reportedFailedCount",
    }


def test_an_update_changes_all_but_the_content(group):
    one, other = group.device(), make_device(group.hub, group.registry)
    made = group.create(priority=1)
    group.awaits(one, configured=True)
    made.target_condition = f"deviceId = '{other.id}'"
    made.priority, made.labels = 9, {"new": "label"}
    made.content.device_content = {"properties.desired.ignored": True}
    updated = group.manager.update_configuration(made, f'"{made.etag}"')
    assert (updated.priority, updated.labels, updated.target_condition) == (9, {"new": "label"}, made.target_condition)
    assert updated.content.device_content == {"properties.desired.configured": True}
    assert updated.etag != made.etag and updated.created_time_utc == made.created_time_utc
    group.awaits(other, configured=True)


def test_an_update_needs_the_etag_in_quotes(group):
    made = group.create()
    # The SDK passes the etag on as it is, and without quotes the hub takes it for none: Azure/azure-iot-hub-python issue 2.
    refused(409, "ConfigurationAlreadyExists", group.manager.update_configuration, made, made.etag)
    updated = group.manager.update_configuration(made, f'"{made.etag}"')
    refused(412, "PreconditionFailed", group.manager.update_configuration, made, f'"{made.etag}"')
    refused(412, "PreconditionFailed", group.manager.delete_configuration, made.id, f'"{made.etag}"')
    assert group.manager.update_configuration(made, '"*"').etag != updated.etag


def test_an_id_serves_once_until_it_is_deleted(group):
    made = group.create()
    refused(409, "ConfigurationAlreadyExists", group.manager.create_configuration, made)
    group.manager.delete_configuration(made.id)
    refused(404, "ConfigurationNotFound", group.manager.get_configuration, made.id)
    refused(404, "ConfigurationNotFound", group.manager.delete_configuration, made.id)
    refused(404, "ConfigurationNotFound", group.manager.update_configuration, made, '"*"')
    group.manager.create_configuration(made)


def test_what_a_deleted_configuration_wrote_goes_with_it(group):
    device = group.device()
    group.registry.update_twin(device.id, desiring({"mine": 1}))
    made = group.create()
    group.awaits(device, configured=True, mine=1)
    group.delete(made)
    group.awaits(device, mine=1)
    assert not group.registry.get_twin(device.id).additional_properties.get("configurations")


def test_configurations_are_listed(group):
    made = [group.create(priority=n) for n in range(3)]
    listed = {configuration.id: configuration for configuration in group.manager.get_configurations()}
    assert {configuration.id for configuration in made} <= set(listed)
    assert listed[made[0].id].content.device_content == {"properties.desired.configured": True}
    assert len(group.manager.get_configurations(2)) == 2


def test_queries_are_tested_before_they_are_used(group):
    good = group.manager.test_configuration_queries(ConfigurationQueriesTestInput(
        target_condition="tags.a = 1", custom_metric_queries={"m": "SELECT deviceId FROM devices WHERE tags.a = 1"},
    ))
    assert (good.target_condition_error, good.custom_metric_query_errors) == (None, {})
    bad = group.manager.test_configuration_queries(ConfigurationQueriesTestInput(
        target_condition="tags.a = ", custom_metric_queries={"good": "SELECT deviceId FROM devices", "bad": "SELECT FROM"},
    ))
    assert bad.target_condition_error
    assert set(bad.custom_metric_query_errors) == {"bad"} and bad.custom_metric_query_errors["bad"]


@pytest.mark.parametrize("name, fields", [
    ("ArgumentInvalid", {"id": "Capital"}),
    ("ArgumentInvalid", {"id": "x" * 129}),
    ("ArgumentInvalid", {"id": "a b"}),
    ("ArgumentInvalid", {"priority": -1}),
    ("InvalidConfigurationTargetCondition", {"target_condition": "tags.a = "}),
    ("InvalidConfigurationCustomMetricsQuery", {"metrics": ConfigurationMetrics(queries={"m": "SELECT FROM"})}),
    ("InvalidConfigurationContent", {"content": ConfigurationContent()}),
    ("InvalidConfigurationContent", {"content": ConfigurationContent(device_content={"properties.reported.a": 1})}),
    ("InvalidConfigurationContent", {"content": ConfigurationContent(device_content={"properties.desired.a": {"b.c": 1}})}),
    ("InvalidConfigurationContent", {"content": ConfigurationContent(modules_content={"m": {"tags.a": 1}})}),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_configuration_is_refused(group, name, fields):
    refused(400, name, group.manager.create_configuration, group.configuration(**fields))


def test_ids_keep_their_characters(group):
    made = group.create(id=f"a-z+%_*!'0-{uuid.uuid4()}")
    assert group.manager.get_configuration(made.id).id == made.id


def test_configurations_have_a_limit(moved):
    group = Group(moved.hub, moved.registry)
    try:
        for _ in range(MOST - len(group.manager.get_configurations())):
            group.create(target_condition="")
        refused(413, "ConfigurationCountLimitExceeded", group.manager.create_configuration, group.configuration())
    finally:
        group.clear()


def test_a_content_is_applied_to_one_edge_device(group, device_id):
    group.registry.create_device_with_sas(device_id, None, None, "enabled", True)
    group.registry.create_module_with_sas(device_id, "camera", "iotEdge", None, None)
    content = ConfigurationContent(modules_content={
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1"}}, "camera": {"properties.desired.zoom": 4},
    })
    group.manager.apply_configuration_on_edge_device(device_id, content)
    assert plain(group.registry.get_module_twin(device_id, "camera").properties.desired) == {"zoom": 4}
    assert plain(group.registry.get_module_twin(device_id, "$edgeAgent").properties.desired) == {"schemaVersion": "1.1"}


def test_a_content_is_for_edge_devices_only(group, device, device_id):
    content = ConfigurationContent(modules_content={"$edgeAgent": {"properties.desired": {"schemaVersion": "1.1"}}})
    refused(400, "InvalidOperation", group.manager.apply_configuration_on_edge_device, device.id, content)
    refused(404, "DeviceNotFound", group.manager.apply_configuration_on_edge_device, device_id, content)


def test_each_policy_has_its_rights_over_configurations(group):
    made = group.create()

    def manager(policy):
        return IoTHubConfigurationManager.from_connection_string(group.hub.policy(policy))

    for policy in ("service", "device"):
        refused(401, "IotHubUnauthorizedAccess", manager(policy).get_configuration, made.id)
        refused(401, "IotHubUnauthorizedAccess", manager(policy).get_configurations)
    assert manager("registryRead").get_configuration(made.id).id == made.id
    refused(401, "IotHubUnauthorizedAccess", manager("registryRead").delete_configuration, made.id)
    refused(401, "IotHubUnauthorizedAccess", manager("registryRead").create_configuration, group.configuration())
    assert manager("registryReadWrite").update_configuration(made, '"*"').id == made.id
