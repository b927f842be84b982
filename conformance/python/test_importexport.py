"""Import and export jobs through azure-iot-hub, between the registry and a blob container."""

import json
import uuid

import pytest
from azure.iot.hub import IoTHubConfigurationManager, IoTHubJobManager
from azure.iot.hub.models import Configuration, ConfigurationContent, JobProperties, ManagedIdentity

from conftest import make_device, make_module
from container import Container
from eventually import eventually
from refusals import refused
from service import desiring, plain


@pytest.fixture(scope="module")
def manager(hub):
    return IoTHubJobManager.from_connection_string(hub.owner)


@pytest.fixture
def container(hub):
    with Container(hub.address) as container:
        yield container


def end(manager, job):
    """Waits for the end of a job."""
    return eventually(lambda: (now := manager.get_import_export_job(job.job_id)).status in ("completed", "failed") and now)


def lines(text):
    """The devices and modules of a devices.txt, by their ids."""
    items = [json.loads(line) for line in text.splitlines()]
    return {(item["id"], item.get("moduleId")): item for item in items}


def test_an_export_holds_the_registry_with_its_twins(hub, registry, service, manager, container, device):
    module = make_module(hub, registry, device.id)
    service.update_twin(device, desiring({"interval": 5}, tags={"site": "roof"}))
    made = manager.create_import_export_job(JobProperties(
        type="export", output_blob_container_uri=container.uri, storage_authentication_type="keyBased",
    ))
    assert made.type == "export" and made.status in ("enqueued", "running", "completed")
    done = end(manager, made)
    assert (done.status, done.progress, done.failure_reason) == ("completed", 100, None)
    assert done.start_time_utc <= done.end_time_utc
    assert "s3cret" not in json.dumps(done.as_dict())
    exported = lines(container.blobs["devices.txt"])[device.id, None]
    assert exported["authentication"]["symmetricKey"]["primaryKey"] == device.key
    assert (exported["status"], exported["tags"], exported["eTag"]) == ("enabled", {"site": "roof"}, service.identity(device).etag)
    assert plain(exported["properties"]["desired"]) == {"interval": 5}
    assert lines(container.blobs["devices.txt"])[device.id, module.module_id]["authentication"]["type"] == "sas"
    assert len(container.blobs["devices.txt"].splitlines()) >= registry.get_device_registry_statistics().total_device_count


def test_an_export_can_leave_the_keys_out(manager, container, device):
    made = manager.create_import_export_job(JobProperties(
        type="export", output_blob_container_uri=container.uri, output_blob_name="some/where.txt", exclude_keys_in_export=True,
    ))
    assert end(manager, made).exclude_keys_in_export is True
    assert device.key not in container.blobs["some/where.txt"]
    keys = lines(container.blobs["some/where.txt"])[device.id, None]["authentication"]["symmetricKey"]
    assert keys == {"primaryKey": None, "secondaryKey": None}


def test_what_was_exported_is_imported(hub, registry, service, manager, container, device):
    module = make_module(hub, registry, device.id)
    for identity in (device, module):
        service.update_twin(identity, desiring({"of": identity.module_id or "device"}, tags={"t": 1}))
    end(manager, manager.create_import_export_job(JobProperties(type="export", output_blob_container_uri=container.uri)))
    mine = [line for line in container.blobs["devices.txt"].splitlines() if device.id in line]
    service.delete(device)
    container.blobs["devices.txt"] = "\n".join(mine)
    made = manager.create_import_export_job(JobProperties(
        type="import", input_blob_container_uri=container.uri, output_blob_container_uri=container.uri,
    ))
    assert end(manager, made).status == "completed"
    assert container.blobs["importErrors.log"] == ""
    assert registry.get_device(device.id).authentication.symmetric_key.primary_key == device.key
    for identity in (device, module):
        twin = service.twin(identity)
        assert (twin.tags, plain(twin.properties.desired)) == ({"t": 1}, {"of": identity.module_id or "device"})


def test_an_import_does_what_each_line_says_and_logs_what_failed(hub, registry, manager, container, device_id):
    kept, updated, deleted = (make_device(hub, registry) for _ in range(3))
    container.blobs["in.txt"] = "\n".join(json.dumps(line) for line in (
        {"id": device_id, "importMode": "create", "status": "enabled", "tags": {"new": 1}},
        {"id": kept.id, "importMode": "create"},
        {"id": updated.id, "importMode": "update", "status": "disabled", "statusReason": "imported"},
        {"id": deleted.id, "importMode": "delete"},
        {"id": f"{device_id}-no", "importMode": "fly"},
    )) + "\nno JSON\n"
    done = end(manager, manager.create_import_export_job(JobProperties(
        type="import", input_blob_container_uri=container.uri, input_blob_name="in.txt", output_blob_container_uri=container.uri,
    )))
    assert done.status == "completed"
    assert registry.get_twin(device_id).tags == {"new": 1}
    assert registry.get_device(updated.id).status_reason == "imported"
    refused(404, "DeviceNotFound", registry.get_device, deleted.id)
    log = [json.loads(line) for line in container.blobs["importErrors.log"].splitlines()]
    assert [(line["id"], line["errorCode"]) for line in log] == [
        (kept.id, 409001), (f"{device_id}-no", 400004), ("", 400004),
    ]


def test_configurations_travel_along(hub, manager, container):
    configurations = IoTHubConfigurationManager.from_connection_string(hub.owner)
    content = ConfigurationContent(device_content={"properties.desired.a": 1})
    made = configurations.create_configuration(Configuration(id=f"py-{uuid.uuid4()}", content=content, priority=7))
    try:
        end(manager, manager.create_import_export_job(JobProperties(
            type="export", output_blob_container_uri=container.uri, include_configurations=True,
        )))
        configurations.delete_configuration(made.id)
        container.blobs["devices.txt"] = ""
        end(manager, manager.create_import_export_job(JobProperties(
            type="import", input_blob_container_uri=container.uri, output_blob_container_uri=container.uri,
            include_configurations=True,
        )))
        back = configurations.get_configuration(made.id)
        assert (back.priority, back.content.device_content) == (7, {"properties.desired.a": 1})
    finally:
        configurations.delete_configuration(made.id)


def test_one_job_at_a_time(manager, container):
    container.open.clear()
    properties = JobProperties(type="export", output_blob_container_uri=container.uri)
    first = manager.create_import_export_job(properties)
    assert container.asked.wait(30)
    assert manager.get_import_export_job(first.job_id).status == "running"
    refused(403, "JobQuotaExceeded", manager.create_import_export_job, properties)
    container.open.set()
    assert end(manager, first).status == "completed"
    second = end(manager, manager.create_import_export_job(properties))
    assert [job.job_id for job in manager.get_import_export_jobs()][:2] == [second.job_id, first.job_id]


def test_a_job_can_be_cancelled(manager, container):
    container.open.clear()
    made = manager.create_import_export_job(JobProperties(type="export", output_blob_container_uri=container.uri))
    assert container.asked.wait(30)
    manager.cancel_import_export_job(made.job_id)
    assert manager.get_import_export_job(made.job_id).status == "cancelled"
    container.open.set()
    manager.cancel_import_export_job(made.job_id)
    assert manager.get_import_export_job(made.job_id).status == "cancelled"


@pytest.mark.parametrize("spoil", [lambda uri: uri.replace("s3cret", "forged"), lambda uri: "http://127.0.0.1:1/container?sig=s3cret"],
                         ids=["a forged SAS", "nobody there"])
def test_a_container_that_does_not_answer_fails_the_job(manager, container, spoil):
    done = end(manager, manager.create_import_export_job(JobProperties(
        type="import", input_blob_container_uri=spoil(container.uri), output_blob_container_uri=container.uri,
    )))
    assert done.status == "failed" and done.failure_reason
    assert "s3cret" not in done.failure_reason and "forged" not in done.failure_reason


@pytest.mark.parametrize("name, properties", [
    ("ArgumentInvalid", JobProperties()),
    ("ArgumentInvalid", JobProperties(type="nonsense", output_blob_container_uri="https://a/b")),
    ("BlobContainerValidationError", JobProperties(type="export")),
    ("BlobContainerValidationError", JobProperties(type="import", output_blob_container_uri="https://a/b")),
    ("BlobContainerValidationError", JobProperties(type="export", output_blob_container_uri="ftp://a/b")),
], ids=["nothing", "an unknown type", "no output", "no input", "another scheme"])
def test_what_is_no_job_is_refused(manager, name, properties):
    refused(400, name, manager.create_import_export_job, properties)


def test_managed_identities_are_not_to_be_had(manager, container):
    refused(501, "NotImplemented", manager.create_import_export_job, JobProperties(
        type="export", output_blob_container_uri=container.uri, storage_authentication_type="identityBased",
        identity=ManagedIdentity(user_assigned_identity="/subscriptions/s/me"),
    ))


def test_unknown_jobs_are_not_found(manager):
    refused(404, "JobNotFound", manager.get_import_export_job, str(uuid.uuid4()))
    refused(404, "JobNotFound", manager.cancel_import_export_job, str(uuid.uuid4()))


def test_jobs_are_for_who_may_write_the_registry(hub, manager, container):
    for policy in ("service", "device", "registryRead"):
        narrow = IoTHubJobManager.from_connection_string(hub.policy(policy))
        refused(401, "IotHubUnauthorizedAccess", narrow.create_import_export_job,
                JobProperties(type="export", output_blob_container_uri=container.uri))
    allowed = IoTHubJobManager.from_connection_string(hub.policy("registryReadWrite"))
    end(manager, allowed.create_import_export_job(JobProperties(type="export", output_blob_container_uri=container.uri)))
