"""The identity registry through azure-iot-hub: each call's answer, and each refusal's status and name."""

import base64
import uuid

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.protocol.models import (
    AuthenticationMechanism, ExportImportDevice, SymmetricKey,
)
from msrest.exceptions import HttpOperationError

from devices import connected

PRIMARY = base64.b64encode(b"p" * 32).decode()
SECONDARY = base64.b64encode(b"s" * 32).decode()


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


def test_a_second_device_of_the_same_id_is_refused(registry, device):
    _refused(409, "DeviceAlreadyExists", registry.create_device_with_sas, device.id, None, None, "enabled")


def test_an_unknown_device_is_not_found(registry, device_id):
    _refused(404, "DeviceNotFound", registry.get_device, device_id)
    _refused(404, "DeviceNotFound", registry.delete_device, device_id)


def test_an_id_outside_the_grammar_is_refused(registry):
    _refused(400, "ArgumentInvalid", registry.create_device_with_sas, "no spaces", None, None, "enabled")


def test_awkward_ids_survive_the_round_trip(registry):
    device_id = f"a-:.+%_#*?!(),=@;$'z{uuid.uuid4()}"
    registry.create_device_with_sas(device_id, None, None, "enabled")
    assert registry.get_device(device_id).device_id == device_id
    registry.delete_device(device_id)
    _refused(404, "DeviceNotFound", registry.get_device, device_id)


def test_an_update_replaces_and_moves_the_etag(registry, device_id):
    made = registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled")
    updated = registry.update_device_with_sas(device_id, made.etag, SECONDARY, PRIMARY, "disabled", status_reason="swapped")
    assert updated.authentication.symmetric_key.primary_key == SECONDARY
    assert (updated.status, updated.status_reason) == ("disabled", "swapped")
    assert updated.generation_id == made.generation_id
    assert updated.etag != made.etag


def test_a_stale_etag_is_refused(registry, device_id):
    made = registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled")
    registry.update_device_with_sas(device_id, made.etag, PRIMARY, SECONDARY, "disabled")
    _refused(412, "PreconditionFailed", registry.update_device_with_sas,
             device_id, made.etag, PRIMARY, SECONDARY, "enabled")
    _refused(412, "PreconditionFailed", registry.delete_device, device_id, made.etag)
    assert registry.get_device(device_id).status == "disabled"


def test_a_deleted_device_is_gone_and_comes_back_as_another(registry, device_id):
    first = registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled")
    registry.delete_device(device_id, first.etag)
    _refused(404, "DeviceNotFound", registry.get_device, device_id)
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
    _refused(409, None, registry.create_module_with_sas, device.id, "camera", "", PRIMARY, SECONDARY)
    registry.delete_module(device.id, "camera")
    _refused(404, "ModuleNotFound", registry.get_module, device.id, "camera")


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


def test_a_wrong_policy_key_is_refused(hub, device):
    stranger = IoTHubRegistryManager.from_connection_string(hub.owner.split("SharedAccessKey=")[0] + f"SharedAccessKey={PRIMARY}")
    _refused(401, "IotHubUnauthorizedAccess", stranger.get_device, device.id)


@pytest.fixture
def device_id():
    return f"py-{uuid.uuid4()}"


def _refused(status, name, call, *arguments):
    with pytest.raises(HttpOperationError) as refusal:
        call(*arguments)
    response = refusal.value.response
    assert response.status_code == status
    if name:
        assert response.headers["iothub-errorcode"] == name
        assert f"ErrorCode:{name};" in response.json()["Message"]
