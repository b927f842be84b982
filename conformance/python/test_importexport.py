"""Import and export jobs through azure-iot-hub. The hub has no blob endpoint to write to, and says so as it is documented."""

import uuid

import pytest
from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import JobProperties

from refusals import refused

CONTAINER = "https://account.blob.core.windows.net/container?sv=2024-01-01&sig=secret"


@pytest.fixture(scope="module")
def manager(hub):
    return IoTHubJobManager.from_connection_string(hub.owner)


@pytest.mark.parametrize("properties", [
    JobProperties(type="export", output_blob_container_uri=CONTAINER, storage_authentication_type="keyBased"),
    JobProperties(type="import", input_blob_container_uri=CONTAINER, output_blob_container_uri=CONTAINER),
], ids=["export", "import"])
def test_a_container_out_of_reach_is_refused(manager, properties):
    text = refused(400, "BlobContainerValidationError", manager.create_import_export_job, properties)
    assert "secret" not in text


@pytest.mark.parametrize("properties", [
    JobProperties(), JobProperties(type="export"), JobProperties(type="nonsense", output_blob_container_uri=CONTAINER),
    JobProperties(type="import", output_blob_container_uri=CONTAINER),
], ids=["nothing", "no output", "an unknown type", "no input"])
def test_what_is_no_job_is_refused(manager, properties):
    refused(400, "ArgumentInvalid", manager.create_import_export_job, properties)


def test_there_are_no_jobs(manager):
    assert manager.get_import_export_jobs() == []
    unknown = str(uuid.uuid4())
    refused(404, "JobNotFound", manager.get_import_export_job, unknown)
    refused(404, "JobNotFound", manager.cancel_import_export_job, unknown)


@pytest.mark.parametrize("policy", ["service", "device", "registryRead"])
def test_jobs_are_for_who_may_write_the_registry(hub, policy):
    narrow = IoTHubJobManager.from_connection_string(hub.policy(policy))
    properties = JobProperties(type="export", output_blob_container_uri=CONTAINER)
    refused(401, "IotHubUnauthorizedAccess", narrow.create_import_export_job, properties)
