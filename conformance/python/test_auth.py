"""Who may connect: each refusal raises what azure-iot-device documents for it."""

import asyncio
import datetime
import threading
import uuid

import pytest
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.device.exceptions import ClientError, CredentialError
from azure.iot.hub import IoTHubRegistryManager

from certificates import Authority, SelfSigned
from conftest import make_device
from devices import closing, connected, each_door
from events import body, annotations
from feedback import sas_token

WRONG_KEY = "d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXkhISE="


@each_door
def test_a_wrong_key_is_refused(hub, device, options):
    _refused(hub.device(device.id, WRONG_KEY), options)


@each_door
def test_an_unknown_device_is_refused(hub, device, options):
    _refused(hub.device(f"nobody-{uuid.uuid4()}", device.key), options)


@each_door
def test_a_disabled_device_is_refused(hub, registry, options):
    _refused(make_device(hub, registry, status="disabled").connection_string, options)


@each_door
def test_the_key_of_another_device_is_refused(hub, registry, device, options):
    _refused(hub.device(device.id, make_device(hub, registry).key), options)


@each_door
def test_the_async_client_is_refused_alike(hub, device, options):
    async def connect():
        client = AsyncDeviceClient.create_from_connection_string(hub.device(device.id, WRONG_KEY), **options)
        try:
            await client.connect()
        finally:
            await client.shutdown()

    with pytest.raises(CredentialError):
        asyncio.run(connect())


@each_door
def test_a_refused_device_disturbs_nobody(hub, device, reader, options):
    with connected(device, **options) as client:
        client.send_message("before")
        _refused(hub.device(device.id, WRONG_KEY), options)
        client.send_message("after")
    assert [body(event) for event in reader.of(device.id, 2)] == [b"before", b"after"]


@each_door
def test_the_secondary_key_is_as_good_as_the_primary(hub, device, reader, options):
    second = hub.device(device.id, device.secondary_key)
    with closing(IoTHubDeviceClient.create_from_connection_string(second, **options)) as client:
        client.send_message("by the second key")
    assert body(reader.of(device.id)[0]) == b"by the second key"


@each_door
def test_a_token_made_elsewhere_is_accepted_and_its_end_closes_the_connection(moved_hub, options):
    registry = IoTHubRegistryManager.from_connection_string(moved_hub.owner)
    device = make_device(moved_hub, registry)
    resource = f"{moved_hub.address}/devices/{device.id}"
    token = sas_token(resource, device.key, int(moved_hub.now().timestamp()) + 60)

    lost = threading.Event()
    with closing(IoTHubDeviceClient.create_from_sastoken(token, connection_retry=False, **options)) as client:
        client.connect()
        client.on_connection_state_change = lambda: client.connected or lost.set()
        moved_hub.advance("6m")
        assert lost.wait(30), "the connection outlived its token"
        with pytest.raises(CredentialError):
            client.connect()


@each_door
def test_a_token_for_another_device_is_refused(hub, registry, device, options):
    other = make_device(hub, registry)
    resource = f"{hub.address}/devices/{device.id}"
    forged = sas_token(resource, other.key, int(datetime.datetime.now().timestamp()) + 600)
    with closing(IoTHubDeviceClient.create_from_sastoken(forged, **options)) as client:
        with pytest.raises(CredentialError):
            client.connect()


@each_door
def test_a_self_signed_certificate_is_known_by_its_thumbprint(hub, registry, reader, tmp_path, options):
    certificate = SelfSigned(tmp_path, "py-x509")
    device_id = f"py-x509-{uuid.uuid4()}"
    registry.create_device_with_x509(device_id, certificate.sha1, certificate.sha1, "enabled")
    with closing(_client(certificate.files, hub, device_id, options)) as client:
        client.send_message("signed")
    event = reader.of(device_id)[0]
    assert body(event) == b"signed"
    assert b'"x509' in annotations(event)["iothub-connection-auth-method"].lower()


@each_door
def test_a_sha_256_thumbprint_serves_as_the_secondary(hub, registry, tmp_path, options):
    certificate = SelfSigned(tmp_path, "py-x509")
    device_id = f"py-x509-{uuid.uuid4()}"
    registry.create_device_with_x509(device_id, "A" * 64, certificate.sha256, "enabled")
    with closing(_client(certificate.files, hub, device_id, options)) as client:
        client.connect()
        assert client.connected


@each_door
def test_another_certificate_is_refused(hub, registry, tmp_path, options):
    registered, presented = SelfSigned(tmp_path, "registered"), SelfSigned(tmp_path, "presented")
    device_id = f"py-x509-{uuid.uuid4()}"
    registry.create_device_with_x509(device_id, registered.sha1, registered.sha1, "enabled")
    with closing(_client(presented.files, hub, device_id, options)) as client:
        with pytest.raises(CredentialError):
            client.connect()


@each_door
def test_a_certificate_does_not_open_a_device_with_keys(hub, device, tmp_path, options):
    with closing(_client(SelfSigned(tmp_path, device.id).files, hub, device.id, options)) as client:
        with pytest.raises(CredentialError):
            client.connect()


@each_door
def test_a_certificate_of_a_known_ca_opens_the_device_of_its_name(hub, registry, reader, authority, device_id, options):
    registry.create_device_with_certificate_authority(device_id, "enabled")
    with closing(_client(authority.files(device_id), hub, device_id, options)) as client:
        client.send_message("signed by the CA")
        assert client.get_twin()["reported"] == {"$version": 1}
    assert body(reader.of(device_id)[0]) == b"signed by the CA"


@each_door
def test_a_certificate_of_another_name_or_another_ca_is_refused(hub, registry, authority, tmp_path, device_id, options):
    registry.create_device_with_certificate_authority(device_id, "enabled")
    for files in (authority.files(f"{device_id}-other"), Authority(tmp_path, "stranger").files(device_id)):
        with closing(_client(files, hub, device_id, options)) as client:
            with pytest.raises(CredentialError):
                client.connect()


@each_door
def test_the_ca_can_be_given_to_the_client_itself(hub, device, reader, monkeypatch, options):
    monkeypatch.delenv("SSL_CERT_FILE")
    with connected(device, server_verification_cert=hub.ca_pem, **options) as client:
        client.send_message("verified")
    assert body(reader.of(device.id)[0]) == b"verified"


@each_door
def test_without_the_ca_the_client_refuses_the_hub(device, monkeypatch, options):
    monkeypatch.delenv("SSL_CERT_FILE")
    with closing(IoTHubDeviceClient.create_from_connection_string(device.connection_string, **options)) as client:
        with pytest.raises(ClientError, match="TLS"):
            client.connect()


def _refused(connection_string, options):
    with closing(IoTHubDeviceClient.create_from_connection_string(connection_string, **options)) as client:
        with pytest.raises(CredentialError):
            client.connect()


def _client(files, hub, device_id, options):
    return IoTHubDeviceClient.create_from_x509_certificate(files, hub.address, device_id, **options)
