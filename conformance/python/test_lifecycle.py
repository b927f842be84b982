"""The life of connections: what ends them, what survives their ends, and what the hub tells of them."""

import pytest
from azure.iot.device.exceptions import CredentialError

from conftest import make_module
from devices import Inbox, States, answer_methods, connected, desired_patches, each_door
from eventually import eventually


@each_door
def test_disabling_a_device_cuts_it_and_its_modules(hub, registry, service, device, options):
    module = make_module(hub, registry, device.id)
    with connected(device, connection_retry=False, **options) as one, connected(module, connection_retry=False, **options) as other:
        states = [States(client) for client in (one, other)]
        registry.update_device_with_sas(device.id, None, device.key, device.secondary_key, "disabled")
        for state in states:
            state.await_lost()
        for client, identity in ((one, device), (other, module)):
            assert service.identity(identity).connection_state == "Disconnected"
            assert service.twin(identity).connection_state == "Disconnected"
            with pytest.raises(CredentialError):
                client.connect()
        registry.update_device_with_sas(device.id, None, device.key, device.secondary_key, "enabled")
        for client, identity in ((one, device), (other, module)):
            client.connect()
            assert service.twin(identity).connection_state == "Connected"


@each_door
def test_deleting_a_device_cuts_it_and_its_modules(hub, registry, device, options):
    module = make_module(hub, registry, device.id)
    with connected(device, connection_retry=False, **options) as one, connected(module, connection_retry=False, **options) as other:
        states = [States(client) for client in (one, other)]
        registry.delete_device(device.id)
        for state in states:
            state.await_lost()
        for client in (one, other):
            with pytest.raises(CredentialError):
                client.connect()


@each_door
def test_deleting_a_module_cuts_it_alone(hub, registry, service, device, options):
    deleted, kept = (make_module(hub, registry, device.id, name) for name in ("deleted", "kept"))
    with connected(deleted, connection_retry=False, **options) as client, connected(kept, **options), connected(device, **options):
        states = States(client)
        service.delete(deleted)
        states.await_lost()
        assert service.twin(kept).connection_state == service.twin(device).connection_state == "Connected"


@each_door
def test_new_keys_leave_a_connection_and_refuse_the_next(registry, device, options):
    with connected(device, connection_retry=False, **options) as client:
        registry.update_device_with_sas(device.id, None, None, None, "enabled")
        client.patch_twin_reported_properties({"still": "here"})
        client.disconnect()
        with pytest.raises(CredentialError):
            client.connect()


@each_door
def test_the_registry_knows_who_is_connected(service, registry, identity, options):
    before = registry.get_service_statistics().connected_device_count
    with connected(identity, **options) as client:
        client.get_twin()
        shown = service.identity(identity)
        assert shown.connection_state == "Connected"
        assert shown.connection_state_updated_time.year > 2000
        assert shown.last_activity_time.year > 2000
        # Modules are not counted.
        connected_devices = before + (identity.module_id is None)
        assert registry.get_service_statistics().connected_device_count == connected_devices
    after = service.identity(identity)
    assert after.connection_state == "Disconnected"
    assert after.connection_state_updated_time >= shown.connection_state_updated_time
    assert after.last_activity_time >= shown.last_activity_time
    assert registry.get_service_statistics().connected_device_count == before


@each_door
def test_a_connection_that_dies_without_a_word_is_noticed(hub, service, device, options):
    with connected(device, connection_retry=False, **options) as client:
        states = States(client)
        hub.cut(device.id)
        states.await_lost()
        assert eventually(lambda: service.twin(device).connection_state == "Disconnected")


@each_door
def test_what_was_subscribed_to_survives_a_cut(hub, service, device, options):
    with connected(device, connection_retry_interval=1, **options) as client:
        patches, states = desired_patches(client), States(client)
        answer_methods(client, lambda request: (200, request.payload))
        hub.cut(device.id)
        states.await_back()
        # The SDK subscribes once: the hub keeps the session.
        assert service.invoke(device, "m", "after").payload == "after"
        service.desire(device, {"n": 1})
        assert patches.take() == {"n": 1, "$version": 2}
        client.patch_twin_reported_properties({"n": 1})


@each_door
def test_what_was_subscribed_to_survives_a_goodbye(service, identity, options):
    with connected(identity, **options) as client:
        patches = desired_patches(client)
        answer_methods(client, lambda request: (200, request.payload))
        client.disconnect()
        assert service.twin(identity).connection_state == "Disconnected"
        client.connect()
        assert service.invoke(identity, "m", "after").payload == "after"
        service.desire(identity, {"n": 1})
        assert patches.take() == {"n": 1, "$version": 2}


@each_door
def test_a_client_that_renews_its_token_goes_on(service, identity, options):
    # The SDK renews two minutes before the end: after a second, here.
    with connected(identity, sastoken_ttl=121, **options) as client:
        patches, states = desired_patches(client), States(client)
        answer_methods(client, lambda request: (200, request.payload))
        states.await_back()
        assert service.invoke(identity, "m", "renewed").payload == "renewed"
        service.desire(identity, {"n": 1})
        assert patches.take() == {"n": 1, "$version": 2}


@each_door
def test_the_newer_connection_takes_twin_and_methods_over(service, device, options):
    with connected(device, connection_retry=False, auto_connect=False) as older:
        states = States(older)
        answer_methods(older, lambda request: (200, "older"))
        with connected(device, **options) as newer:
            states.await_lost()
            answer_methods(newer, lambda request: (200, "newer"))
            assert service.invoke(device, "who", {}).payload == "newer"
            assert service.twin(device).connection_state == "Connected"


@each_door
def test_telemetry_twin_and_methods_share_a_connection(registry, service, reader, device, options):
    with connected(device, **options) as client:
        patches, inbox = desired_patches(client), Inbox()
        client.on_message_received = inbox.put
        answer_methods(client, lambda request: (200, request.payload))
        for n in range(10):
            client.send_message(str(n))
            assert service.invoke(device, "m", n).payload == n
            service.desire(device, {"n": n})
            assert patches.take()["n"] == n
            client.patch_twin_reported_properties({"n": n})
            registry.send_c2d_message(device.id, str(n))
            assert inbox.take().data == str(n).encode()
        assert len(reader.of(device.id, 10)) == 10
