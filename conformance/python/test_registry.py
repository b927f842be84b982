"""The identity registry through azure-iot-hub: each call's answer, and each refusal's status and name."""

import base64
import string
import time
import uuid

import pytest
from azure.core.credentials import AccessToken
from azure.iot.device import IoTHubDeviceClient
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import (
    AuthenticationMechanism, DeviceCapabilities, ExportImportDevice, PropertyContainer, SymmetricKey,
)

from conftest import Device
from devices import answer_methods, closing, connected, each_door
from events import body
from refusals import refused
from service import desiring, plain

PRIMARY = base64.b64encode(b"p" * 32).decode()
SECONDARY = base64.b64encode(b"s" * 32).decode()
ID_CHARACTERS = string.ascii_letters + string.digits + "-:.+%_#*?!(),=@;$'"
BULK = 100


def test_a_created_device_is_returned_in_full(registry, device_id):
    made = registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled", status_reason="a test")
    assert made.device_id == device_id
    assert made.authentication.type == "sas"
    assert made.authentication.symmetric_key.primary_key == PRIMARY
    assert made.authentication.symmetric_key.secondary_key == SECONDARY
    assert (made.status, made.status_reason) == ("enabled", "a test")
    assert made.connection_state == "Disconnected"
    assert made.cloud_to_device_message_count == 0
    assert made.etag and made.generation_id
    assert made.capabilities.iot_edge is False
    assert registry.get_device(device_id).as_dict() == made.as_dict()


def test_keys_are_made_where_none_are_given(registry, device_id):
    keys = registry.create_device_with_sas(device_id, None, None, "enabled").authentication.symmetric_key
    assert 16 <= len(base64.b64decode(keys.primary_key)) <= 64
    assert 16 <= len(base64.b64decode(keys.secondary_key)) <= 64
    assert keys.primary_key != keys.secondary_key


def test_a_second_device_of_the_same_id_isrefused(registry, device):
    refused(409, "DeviceAlreadyExists", registry.create_device_with_sas, device.id, None, None, "enabled")


def test_an_unknown_device_is_not_found(registry, device_id):
    refused(404, "DeviceNotFound", registry.get_device, device_id)
    refused(404, "DeviceNotFound", registry.delete_device, device_id)


def test_an_id_outside_the_grammar_isrefused(registry):
    refused(400, "ArgumentInvalid", registry.create_device_with_sas, "no spaces", None, None, "enabled")


def test_awkward_ids_survive_the_round_trip(registry):
    device_id = f"a-:.+%_#*?!(),=@;$'z{uuid.uuid4()}"
    registry.create_device_with_sas(device_id, None, None, "enabled")
    assert registry.get_device(device_id).device_id == device_id
    registry.delete_device(device_id)
    refused(404, "DeviceNotFound", registry.get_device, device_id)


def test_an_update_replaces_and_moves_the_etag(registry, device_id):
    made = registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled")
    updated = registry.update_device_with_sas(device_id, made.etag, SECONDARY, PRIMARY, "disabled", status_reason="swapped")
    assert updated.authentication.symmetric_key.primary_key == SECONDARY
    assert (updated.status, updated.status_reason) == ("disabled", "swapped")
    assert updated.generation_id == made.generation_id
    assert updated.etag != made.etag


def test_a_stale_etag_isrefused(registry, device_id):
    made = registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled")
    registry.update_device_with_sas(device_id, made.etag, PRIMARY, SECONDARY, "disabled")
    refused(412, "PreconditionFailed", registry.update_device_with_sas,
             device_id, made.etag, PRIMARY, SECONDARY, "enabled")
    refused(412, "PreconditionFailed", registry.delete_device, device_id, made.etag)
    assert registry.get_device(device_id).status == "disabled"


def test_a_deleted_device_is_gone_and_comes_back_as_another(registry, device_id):
    first = registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled")
    registry.delete_device(device_id, first.etag)
    refused(404, "DeviceNotFound", registry.get_device, device_id)
    again = registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled")
    assert again.generation_id != first.generation_id


def test_x509_and_ca_identities_carry_no_keys(registry, device_id):
    thumbprints = ("A1" * 20, "B2" * 32)
    made = registry.create_device_with_x509(device_id, *thumbprints, "enabled")
    assert made.authentication.type == "selfSigned"
    stored = made.authentication.x509_thumbprint
    assert (stored.primary_thumbprint, stored.secondary_thumbprint) == thumbprints
    assert made.authentication.symmetric_key.primary_key is None
    by_ca = registry.create_device_with_certificate_authority(f"{device_id}-ca", "enabled")
    assert by_ca.authentication.type == "certificateAuthority"


def test_the_list_is_capped(registry):
    for _ in range(3):
        registry.create_device_with_sas(f"py-{uuid.uuid4()}", None, None, "enabled")
    assert len(registry.get_devices(2)) == 2
    assert len(registry.get_devices()) >= 3


def test_bulk_creates_and_names_what_failed(registry, device_id):
    def create(name):
        keys = SymmetricKey(primary_key=PRIMARY, secondary_key=SECONDARY)
        return ExportImportDevice(
            id=name, import_mode="create", status="enabled",
            authentication=AuthenticationMechanism(type="sas", symmetric_key=keys),
        )

    names = [f"{device_id}-{n}" for n in range(3)]
    result = registry.bulk_create_or_update_devices([create(name) for name in names])
    assert result.is_successful and not result.errors
    assert registry.get_device(names[2]).authentication.symmetric_key.primary_key == PRIMARY

    result = registry.bulk_create_or_update_devices([create(names[0]), create(f"{device_id}-new")])
    assert not result.is_successful
    assert [error.device_id for error in result.errors] == [names[0]]
    assert registry.get_device(f"{device_id}-new").device_id == f"{device_id}-new"


def test_modules_live_under_their_device(registry, device):
    made = registry.create_module_with_sas(device.id, "camera", "", PRIMARY, SECONDARY)
    assert (made.device_id, made.module_id) == (device.id, "camera")
    assert registry.get_module(device.id, "camera").authentication.symmetric_key.primary_key == PRIMARY
    assert [module.module_id for module in registry.get_modules(device.id)] == ["camera"]
    refused(409, "ModuleAlreadyExistsOnDevice", registry.create_module_with_sas, device.id, "camera", "", PRIMARY, SECONDARY)
    registry.delete_module(device.id, "camera")
    refused(404, "ModuleNotFound", registry.get_module, device.id, "camera")


def test_statistics_count_devices_and_connections(registry, device, device_id):
    before = registry.get_device_registry_statistics()
    registry.create_device_with_sas(device_id, None, None, "disabled")
    after = registry.get_device_registry_statistics()
    assert after.total_device_count == before.total_device_count + 1
    assert after.disabled_device_count == before.disabled_device_count + 1
    assert after.enabled_device_count == before.enabled_device_count

    idle = registry.get_service_statistics().connected_device_count
    with connected(device):
        assert registry.get_service_statistics().connected_device_count == idle + 1
        assert registry.get_device(device.id).connection_state == "Connected"
    assert registry.get_device(device.id).connection_state == "Disconnected"


def test_a_wrong_policy_key_isrefused(hub, device):
    stranger = IoTHubRegistryManager.from_connection_string(hub.owner.split("SharedAccessKey=")[0] + f"SharedAccessKey={PRIMARY}")
    refused(401, "IotHubUnauthorizedAccess", stranger.get_device, device.id)


def test_every_character_an_id_may_have_survives_the_round_trip(registry, device_id):
    made = [f"{device_id}{character}" for character in ID_CHARACTERS] + [f"{ID_CHARACTERS}{uuid.uuid4()}".ljust(128, "x")]
    for name in made:
        registry.create_device_with_sas(name, None, None, "enabled")
    for name in made:
        assert registry.get_device(name).device_id == name
        assert registry.get_twin(name).device_id == name
        assert registry.update_device_with_sas(name, None, PRIMARY, SECONDARY, "disabled").status == "disabled"
    for name in made:
        registry.delete_device(name)
        refused(404, "DeviceNotFound", registry.get_device, name)


@pytest.mark.parametrize("outside", ["a b", "a/b", "a\\b", "a&b", "a<b", "a\"b", "ü", "a\nb", "x" * 129])
def test_what_no_id_may_have_is_refused(registry, outside):
    refused(400, "ArgumentInvalid", registry.create_device_with_sas, outside, None, None, "enabled")


def test_ids_differ_by_case(registry, device_id):
    registry.create_device_with_sas(device_id.lower(), None, None, "enabled")
    refused(404, "DeviceNotFound", registry.get_device, device_id.upper())
    registry.create_device_with_sas(device_id.upper(), None, None, "disabled")
    assert registry.get_device(device_id.lower()).status == "enabled"


@each_door
def test_a_device_with_an_awkward_id_does_all_that_others_do(hub, registry, service, reader, options):
    # In MQTT no topic to publish on may hold # or +, and the SDK does not encode ids.
    for characters in (ID_CHARACTERS, ID_CHARACTERS.replace("#", "").replace("+", "")):
        device_id = f"{characters}{uuid.uuid4().hex[:16]}"
        registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled")
        device = Device(device_id, PRIMARY, SECONDARY, None, None)  # a connection string cannot hold a semicolon
        with closing(IoTHubDeviceClient.create_from_symmetric_key(PRIMARY, hub.address, device_id, **options)) as client:
            client.patch_twin_reported_properties({"a": 1})
            answer_methods(client, lambda request: (200, "here"))
            assert service.invoke(device, "m", {}).payload == "here"
            if "#" not in device_id:
                client.send_message("awkward")
                assert body(reader.of(device_id)[0]) == b"awkward"
        assert plain(registry.get_twin(device_id).properties.reported) == {"a": 1}


def test_authentication_can_change_its_kind(registry, device_id):
    registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled")
    signed = registry.update_device_with_x509(device_id, None, "A1" * 20, "B2" * 32, "enabled")
    assert signed.authentication.type == "selfSigned" and signed.authentication.symmetric_key.primary_key is None
    by_ca = registry.update_device_with_certificate_authority(device_id, signed.etag, "enabled")
    assert by_ca.authentication.type == "certificateAuthority"
    assert by_ca.authentication.x509_thumbprint.primary_thumbprint is None
    again = registry.update_device_with_sas(device_id, by_ca.etag, None, None, "enabled")
    assert again.authentication.type == "sas" and again.authentication.symmetric_key.primary_key not in (None, PRIMARY)


@pytest.mark.parametrize("keys", [
    (PRIMARY, None), (None, SECONDARY), ("not base64!", SECONDARY), (base64.b64encode(b"x" * 15).decode(), SECONDARY),
    (base64.b64encode(b"x" * 65).decode(), SECONDARY),
], ids=["no secondary", "no primary", "no base64", "15 bytes", "65 bytes"])
def test_bad_keys_are_refused(registry, device_id, keys):
    refused(400, "ArgumentInvalid", registry.create_device_with_sas, device_id, *keys, "enabled")


@pytest.mark.parametrize("thumbprint", ["A1" * 19, "A1" * 33, "Z1" * 20, "A1:" * 20])
def test_bad_thumbprints_are_refused(registry, device_id, thumbprint):
    refused(400, "ArgumentInvalid", registry.create_device_with_x509, device_id, thumbprint, None, "enabled")


def test_a_status_reason_has_up_to_128_characters(registry, device_id):
    made = registry.create_device_with_sas(device_id, None, None, "disabled", status_reason="r" * 128)
    assert made.status_reason == "r" * 128
    refused(400, "ArgumentInvalid", registry.update_device_with_sas,
            device_id, None, None, None, "disabled", status_reason="r" * 129)
    refused(400, "ArgumentInvalid", registry.update_device_with_sas, device_id, None, None, None, "broken")


def test_status_changes_are_timed(registry, device_id):
    made = registry.create_device_with_sas(device_id, None, None, "enabled")
    assert made.status_updated_time.year == 1
    disabled = registry.update_device_with_sas(device_id, None, None, None, "disabled")
    assert disabled.status_updated_time.year > 2000
    again = registry.update_device_with_sas(device_id, None, None, None, "disabled")
    assert again.status_updated_time == disabled.status_updated_time


def test_an_edge_device_has_a_scope_and_system_modules(registry, device_id):
    edge = registry.create_device_with_sas(device_id, None, None, "enabled", True)
    assert edge.capabilities.iot_edge is True
    assert edge.device_scope == f"ms-azure-iot-edge://{device_id}-{edge.generation_id}"
    assert registry.get_twin(device_id).device_scope == edge.device_scope
    assert registry.get_twin(device_id).capabilities.iot_edge is True
    modules = {module.module_id: module for module in registry.get_modules(device_id)}
    assert set(modules) == {"$edgeAgent", "$edgeHub"}
    for module in modules.values():
        assert (module.managed_by, module.authentication.type) == ("iotEdge", "none")


def test_a_leaf_device_has_the_scope_of_its_parent(registry, device_id):
    edge = registry.create_device_with_sas(f"{device_id}-edge", None, None, "enabled", True)
    leaf = registry.create_device_with_sas(f"{device_id}-leaf", None, None, "enabled", device_scope=edge.device_scope)
    assert leaf.device_scope == edge.device_scope
    assert leaf.parent_scopes == [edge.device_scope]
    twin = registry.get_twin(leaf.device_id)
    assert (twin.device_scope, twin.parent_scopes) == (edge.device_scope, [edge.device_scope])
    free = registry.update_device_with_sas(leaf.device_id, None, None, None, "enabled")
    assert (free.device_scope or None, free.parent_scopes or None) == (None, None)


def test_edge_devices_nest(registry, device_id):
    top = registry.create_device_with_sas(f"{device_id}-top", None, None, "enabled", True)
    low = registry.create_device_with_sas(f"{device_id}-low", None, None, "enabled", True, parent_scopes=top.device_scope)
    assert low.parent_scopes == [top.device_scope]
    assert low.device_scope == f"ms-azure-iot-edge://{low.device_id}-{low.generation_id}"


def test_the_scope_of_an_edge_device_cannot_change(registry, device_id):
    edge = registry.create_device_with_sas(device_id, None, None, "enabled", True)
    refused(400, "InvalidDeviceScope", registry.update_device_with_sas,
            device_id, None, None, None, "enabled", True, device_scope="ms-azure-iot-edge://another-1")
    same = registry.update_device_with_sas(
        device_id, None, None, None, "enabled", True, device_scope=edge.device_scope)
    assert same.device_scope == edge.device_scope


def test_the_list_has_its_bounds(registry, device):
    assert len(registry.get_devices(1)) == 1
    assert device.id in {listed.device_id for listed in registry.get_devices(1000)}
    for outside in (0, -1, 1001):
        refused(400, "ArgumentInvalid", registry.get_devices, outside)


def item(device_id, mode, **fields):
    keys = AuthenticationMechanism(type="sas", symmetric_key=SymmetricKey(primary_key=PRIMARY, secondary_key=SECONDARY))
    return ExportImportDevice(**{
        "id": device_id, "import_mode": mode, "status": "enabled", "authentication": keys, **fields,
    })


def test_bulk_creates_devices_with_their_twins(registry, device_id):
    result = registry.bulk_create_or_update_devices([
        item(f"{device_id}-{n}", "create", tags={"n": n}, properties=PropertyContainer(desired={"d": {"n": n}}))
        for n in range(3)
    ])
    assert result.is_successful
    for n in range(3):
        twin = registry.get_twin(f"{device_id}-{n}")
        assert (twin.tags, plain(twin.properties.desired)) == ({"n": n}, {"d": {"n": n}})


def test_bulk_updates_and_deletes(registry, device_id):
    names = [f"{device_id}-{n}" for n in range(4)]
    made = [registry.create_device_with_sas(name, PRIMARY, SECONDARY, "enabled") for name in names]
    result = registry.bulk_create_or_update_devices([
        item(names[0], "update", status="disabled", status_reason="bulk"),
        item(names[1], "updateIfMatchETag", e_tag=made[1].etag, status="disabled"),
        item(names[2], "delete"),
        item(names[3], "deleteIfMatchETag", e_tag=made[3].etag),
    ])
    assert result.is_successful and not result.errors
    assert (registry.get_device(names[0]).status, registry.get_device(names[0]).status_reason) == ("disabled", "bulk")
    assert registry.get_device(names[1]).status == "disabled"
    for gone in names[2:]:
        refused(404, "DeviceNotFound", registry.get_device, gone)


def test_bulk_updates_twins(registry, device_id):
    names = [f"{device_id}-{n}" for n in range(2)]
    for name in names:
        registry.create_device_with_sas(name, PRIMARY, SECONDARY, "enabled")
        registry.update_twin(name, desiring({"keep": 1, "gone": 1}, tags={"keep": 1}))
    etag = registry.get_twin(names[1]).etag
    result = registry.bulk_create_or_update_devices([
        item(names[0], "updateTwin", tags={"new": 1}, properties=PropertyContainer(desired={"gone": None})),
        item(names[1], "updateTwinIfMatchETag", twin_etag=etag, tags={"new": 1}, properties=PropertyContainer(desired={"gone": None})),
    ])
    assert result.is_successful, result.as_dict()
    for name in names:
        twin = registry.get_twin(name)
        assert (twin.tags, plain(twin.properties.desired)) == ({"keep": 1, "new": 1}, {"keep": 1})
        assert registry.get_device(name).status == "enabled"


def test_bulk_names_each_failure_and_does_the_rest(registry, device_id):
    names = [f"{device_id}-{n}" for n in range(6)]
    for name in names[1:4]:
        registry.create_device_with_sas(name, PRIMARY, SECONDARY, "enabled")
    result = registry.bulk_create_or_update_devices([
        item(names[0], "create"),
        item(names[1], "create"),
        item(names[2], "updateIfMatchETag", e_tag="c3RhbGU=", status="disabled"),
        item(names[3], "updateTwinIfMatchETag", twin_etag="c3RhbGU=", tags={"a": 1}),
        item(names[4], "delete"),
        item(names[5], "create", properties=PropertyContainer(desired={"a.b": 1})),
    ])
    assert result.is_successful is False
    failed = {error.device_id: error.error_code for error in result.errors}
    assert failed == {
        names[1]: "DeviceAlreadyExists", names[2]: "PreconditionFailed", names[3]: "PreconditionFailed",
        names[4]: "DeviceNotFound", names[5]: "ArgumentInvalid",
    } or failed == {
        names[1]: "409001", names[2]: "412001", names[3]: "412001", names[4]: "404001", names[5]: "400004",
    }
    assert all(error.error_status for error in result.errors)
    assert registry.get_device(names[0]).status == "enabled"
    assert registry.get_device(names[2]).status == "enabled"
    assert registry.get_twin(names[3]).tags is None
    refused(404, "DeviceNotFound", registry.get_device, names[5])


def test_bulk_handles_modules(registry, device):
    result = registry.bulk_create_or_update_devices([
        item(device.id, "create", module_id="bulk", tags={"a": 1}),
        item(device.id, "create", module_id="other"),
    ])
    assert result.is_successful, result.as_dict()
    assert registry.get_module_twin(device.id, "bulk").tags == {"a": 1}
    result = registry.bulk_create_or_update_devices([
        item(device.id, "updateTwin", module_id="bulk", tags={"a": 2}), item(device.id, "delete", module_id="other"),
    ])
    assert result.is_successful, result.as_dict()
    assert registry.get_module_twin(device.id, "bulk").tags == {"a": 2}
    assert [module.module_id for module in registry.get_modules(device.id)] == ["bulk"]


def test_bulk_makes_edge_devices_and_children(registry, device_id):
    registry.bulk_create_or_update_devices([item(device_id, "create", capabilities=DeviceCapabilities(iot_edge=True))])
    edge = registry.get_device(device_id)
    assert {module.module_id for module in registry.get_modules(device_id)} == {"$edgeAgent", "$edgeHub"}
    registry.bulk_create_or_update_devices([item(f"{device_id}-leaf", "create", device_scope=edge.device_scope)])
    assert registry.get_device(f"{device_id}-leaf").parent_scopes == [edge.device_scope]


def test_bulk_takes_100_operations_and_no_more(registry, device_id):
    names = [f"{device_id}-{n}" for n in range(BULK + 1)]
    refused(413, "TooManyDevices", registry.bulk_create_or_update_devices, [item(name, "create") for name in names])
    refused(404, "DeviceNotFound", registry.get_device, names[0])
    assert registry.bulk_create_or_update_devices([item(name, "create") for name in names[:BULK]]).is_successful
    assert registry.bulk_create_or_update_devices([item(name, "delete") for name in names[:BULK]]).is_successful


def test_each_policy_has_its_rights_in_the_registry(hub, device, device_id):
    def manager(policy):
        return IoTHubRegistryManager.from_connection_string(hub.policy(policy))

    for policy in ("service", "device"):
        refused(401, "IotHubUnauthorizedAccess", manager(policy).get_device, device.id)
        refused(401, "IotHubUnauthorizedAccess", manager(policy).get_devices)
        refused(401, "IotHubUnauthorizedAccess", manager(policy).get_device_registry_statistics)
    reads, writes = manager("registryRead"), manager("registryReadWrite")
    assert reads.get_device(device.id).device_id == device.id
    assert reads.get_device_registry_statistics().total_device_count > 0
    refused(401, "IotHubUnauthorizedAccess", reads.create_device_with_sas, device_id, None, None, "enabled")
    refused(401, "IotHubUnauthorizedAccess", reads.delete_device, device.id)
    refused(401, "IotHubUnauthorizedAccess", reads.bulk_create_or_update_devices, [item(device_id, "create")])
    writes.create_device_with_sas(device_id, None, None, "enabled")
    writes.delete_device(device_id)


def test_tokens_of_microsoft_entra_are_refused(hub, device):
    class Credential:
        def get_token(self, *_, **__):
            return AccessToken("header.payload.signature", int(time.time()) + 3600)

    manager = IoTHubRegistryManager.from_token_credential(hub.address, Credential())
    refused(401, "IotHubUnauthorizedAccess", manager.get_device, device.id)
    manager.amqp_svc_client = None  # which the SDK would otherwise say goodbye to


def test_a_purge_empties_the_queue_and_counts(registry, device):
    for n in range(3):
        registry.send_c2d_message(device.id, str(n))
    purge = registry.protocol.cloud_to_device_messages.purge_cloud_to_device_message_queue
    result = purge(device.id)
    assert (result.device_id, result.module_id, result.total_messages_purged) == (device.id, None, 3)
    assert purge(device.id).total_messages_purged == 0
    assert registry.get_device(device.id).cloud_to_device_message_count == 0
    refused(404, "DeviceNotFound", purge, f"nobody-{uuid.uuid4()}")
