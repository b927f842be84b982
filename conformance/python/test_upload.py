"""File upload: azure-iot-device asks where to, azure-storage-blob puts it there, and back ends are told."""

import asyncio
import contextlib
import datetime
import urllib.parse
import uuid

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.storage.blob import BlobClient, BlobServiceClient
from azure.storage.blob.aio import BlobClient as AsyncBlobClient

from certificates import SelfSigned
from conftest import make_device
from devices import closing, each_door, failing
from feedback import UploadReader

ACTIVE_UPLOADS = 10
BLOCK = 256 << 10
IN_BLOCKS = {"max_single_put_size": BLOCK, "max_block_size": BLOCK}
SEVERAL_BLOCKS = bytes(range(256)) * (5 * BLOCK // 256) + b"the end"


@each_door
@pytest.mark.parametrize("data", [b"small", SEVERAL_BLOCKS, b""], ids=["at once", "in blocks", "empty"])
def test_a_file_is_uploaded_and_notified(hub, storage, device, options, data):
    before = datetime.datetime.now(datetime.timezone.utc)
    with uploading(device, **options) as client, UploadReader(hub) as notifications:
        info = client.get_storage_info_for_blob("logs/today ü.txt")
        with blob_of(info) as blob:
            blob.upload_blob(data, metadata={"kind": "log"})
        client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
        record = notifications.of(device.id)

    name = f"{device.id}/logs/today ü.txt"
    stored = storage.get_blob_client(info["containerName"], name)
    assert info["blobName"] == record["blobName"] == name
    assert record["blobSizeInBytes"] == len(data)
    assert urllib.parse.unquote(urllib.parse.urlsplit(record["blobUri"]).path) == f"/{info['containerName']}/{name}"
    assert before - datetime.timedelta(seconds=1) <= datetime.datetime.fromisoformat(record["enqueuedTimeUtc"][:19] + "+00:00")
    assert stored.download_blob().readall() == data
    assert stored.get_blob_properties().metadata == {"kind": "log"}


def test_the_async_clients_upload_too(hub, storage, device):
    async def upload():
        client = AsyncDeviceClient.create_from_connection_string(device.connection_string)
        info = await client.get_storage_info_for_blob("async.bin")
        async with AsyncBlobClient.from_blob_url(uri_of(info), connection_verify=hub.ca_path, **IN_BLOCKS) as blob:
            await blob.upload_blob(SEVERAL_BLOCKS)
        await client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
        await client.shutdown()
        return info

    info = asyncio.run(upload())
    assert storage.get_blob_client(info["containerName"], info["blobName"]).download_blob().readall() == SEVERAL_BLOCKS
    with UploadReader(hub) as notifications:
        assert notifications.of(device.id)["blobSizeInBytes"] == len(SEVERAL_BLOCKS)


def test_a_device_known_by_its_certificate_uploads_too(hub, registry, storage, tmp_path):
    device_id = f"py-{uuid.uuid4()}"
    certificate = SelfSigned(tmp_path, device_id)
    registry.create_device_with_x509(device_id, certificate.sha1, certificate.sha256, "enabled")
    with closing(IoTHubDeviceClient.create_from_x509_certificate(certificate.files, hub.address, device_id)) as client:
        upload(client, "by certificate")
    assert storage.get_blob_client("uploads", f"{device_id}/by certificate").exists()


@pytest.mark.parametrize("data", [b"small", SEVERAL_BLOCKS], ids=["at once", "in blocks"])
def test_a_storage_account_elsewhere_takes_the_files(outside, data):
    device = make_device(outside.hub, outside.registry)
    with uploading(device) as client, UploadReader(outside.hub) as notifications:
        info = client.get_storage_info_for_blob("logs/far away")
        with failing("400"):
            client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
        with blob_of(info, connection_verify=outside.ca_path) as blob:
            blob.upload_blob(data)
        client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
        record = notifications.of(device.id)
    assert (record["blobName"], record["blobSizeInBytes"]) == (f"{device.id}/logs/far away", len(data))
    with BlobServiceClient.from_connection_string(
            outside.storage.connection_string, connection_verify=outside.ca_path) as account:
        assert account.get_blob_client("elsewhere", record["blobName"]).download_blob().readall() == data


def test_a_notification_that_nobody_completes_comes_again(hub, device):
    with uploading(device) as client:
        upload(client, "a")
    with UploadReader(hub, settle=False) as notifications:
        record = notifications.of(device.id)
    with UploadReader(hub) as notifications:
        assert notifications.of(device.id) == record


def test_an_upload_that_failed_is_notified_to_nobody_and_counts_no_more(hub, device):
    with uploading(device) as client, UploadReader(hub) as notifications:
        for _ in range(ACTIVE_UPLOADS + 1):
            info = client.get_storage_info_for_blob("failed")
            client.notify_blob_upload_status(info["correlationId"], False, 500, "it would not fit")
        upload(client, "done")
        assert len(notifications.until(device.id, f"{device.id}/done")) == 1


def test_the_11th_active_upload_is_refused(device):
    with uploading(device) as client:
        infos = [client.get_storage_info_for_blob(str(n)) for n in range(ACTIVE_UPLOADS)]
        with failing("403"):
            client.get_storage_info_for_blob("one too many")
        blob_of(infos[0]).upload_blob(b"x")
        client.notify_blob_upload_status(infos[0]["correlationId"], True, 200, "OK")
        client.get_storage_info_for_blob("in its place")


def test_an_upload_that_has_not_happened_cannot_be_completed(device):
    with uploading(device) as client:
        info = client.get_storage_info_for_blob("missing")
        with failing("400"):
            client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
        blob_of(info).upload_blob(b"x")
        client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
        for unknown in (info["correlationId"], "never heard of"):
            with failing("400"):
                client.notify_blob_upload_status(unknown, True, 200, "OK")


def test_a_device_completes_its_own_uploads_only(hub, registry, device):
    with uploading(device) as client, uploading(make_device(hub, registry)) as other:
        info = client.get_storage_info_for_blob("mine")
        blob_of(info).upload_blob(b"x")
        with failing("400"):
            other.notify_blob_upload_status(info["correlationId"], True, 200, "OK")


@pytest.mark.parametrize("name", ["", "../other", "x" * 1025], ids=["empty", "out of the folder", "too long"])
def test_a_name_that_cannot_be_is_refused(device, name):
    with uploading(device) as client, failing("400"):
        client.get_storage_info_for_blob(name)


def test_a_sas_is_for_one_blob_and_for_its_time(moved):
    device = make_device(moved.hub, moved.registry)
    with uploading(device) as client:
        info = client.get_storage_info_for_blob("mine")
    with blob_of({**info, "blobName": f"{device.id}/another"}) as another, pytest.raises(HttpResponseError) as refusal:
        another.upload_blob(b"x")
    assert (refusal.value.status_code, refusal.value.error_code) == (403, "AuthenticationFailed")
    with blob_of({**info, "sasToken": info["sasToken"].replace("sp=rw", "sp=rwd")}) as forged, pytest.raises(ClientAuthenticationError):
        forged.delete_blob()
    with blob_of(info) as blob:
        blob.upload_blob(b"in time")
        moved.hub.advance("61s")
        with pytest.raises(HttpResponseError) as refusal:
            blob.upload_blob(b"stale", overwrite=True)
    assert (refusal.value.status_code, refusal.value.error_code) == (403, "AuthenticationFailed")


@pytest.fixture(scope="session")
def storage(hub):
    """The account that the files are in, as a back end has it."""
    with BlobServiceClient.from_connection_string(hub.info["storageConnectionString"]) as account:
        yield account


@contextlib.contextmanager
def uploading(device, **options):
    """A client that need not connect: it asks over HTTPS."""
    with closing(IoTHubDeviceClient.create_from_connection_string(device.connection_string, **options)) as client:
        yield client


def uri_of(info):
    return f"https://{info['hostName']}/{info['containerName']}/{urllib.parse.quote(info['blobName'])}{info['sasToken']}"


def blob_of(info, **options):
    return BlobClient.from_blob_url(uri_of(info), **IN_BLOCKS, **options)


def upload(client, name):
    info = client.get_storage_info_for_blob(name)
    with blob_of(info) as blob:
        blob.upload_blob(b"x")
    client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
