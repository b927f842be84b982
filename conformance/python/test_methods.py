"""Direct methods on devices and modules: azure-iot-hub calls, azure-iot-device answers on each of its doors."""

import asyncio
import concurrent.futures
import json

import pytest
from azure.iot.device import MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.hub import IoTHubRegistryManager
from msrest.exceptions import HttpOperationError

from conftest import Device, Module, make_device, make_module
from devices import DEADLINE_SECONDS, States, answer_methods, connected, each_door, method_requests
from refusals import refused
from service import Service, calling

PAYLOAD_BYTES = 128 * 1024

PAYLOADS = {
    "an object": {"a": {"b": [1, None, {"c": "d"}]}, "": ""},
    "an empty object": {},
    "an array": [1, "two", None, [], {}],
    "an empty array": [],
    "a text": "hello",
    "an empty text": "",
    "awkward text": "ünïcödé € 😀 \" \\ / \n\t",
    "an integer": 42,
    "zero": 0,
    "a large integer": 2**62,
    "a fraction": -1.5,
    "true": True,
    "false": False,
}


@each_door
def test_a_payload_of_every_kind_goes_there_and_back(service, identity, options):
    with connected(identity, **options) as client:
        received = []

        def echo(request):
            received.append((request.name, request.payload))
            return 200, request.payload

        answer_methods(client, echo)
        for kind, payload in PAYLOADS.items():
            result = service.invoke(identity, "echo", payload)
            assert received.pop() == ("echo", payload), kind
            assert (result.status, result.payload) == (200, payload), kind
            assert type(result.payload) is type(payload), kind


@each_door
def test_no_payload_is_null_for_the_device_and_for_the_caller(service, identity, options):
    with connected(identity, **options) as client:
        requests = method_requests(client)
        with calling(service.invoke, identity, "quiet") as call:
            request = requests.take()
            assert request.payload is None
            client.send_method_response(MethodResponse.create_from_method_request(request, 200))
            assert (call.result(DEADLINE_SECONDS).status, call.result().payload) == (200, None)


@each_door
def test_the_status_is_the_devices_own(service, identity, options):
    with connected(identity, **options) as client:
        answer_methods(client, lambda request: (request.payload, None))
        for status in (200, 202, 0, -1, 404, 500, 501, 2**31 - 1):
            assert service.invoke(identity, "status", status).status == status


@each_door
def test_the_name_arrives_as_it_was_called(service, identity, options):
    with connected(identity, **options) as client:
        answer_methods(client, lambda request: (200, request.name))
        for name in ("reboot", "Reboot", "component*command", "a.b-c_d:e", "with space", "ünïcödé €", "n" * 128):
            assert service.invoke(identity, name, {}).payload == name


@each_door
def test_many_calls_to_one_identity_get_each_their_own_answer(service, identity, options):
    with connected(identity, **options) as client, concurrent.futures.ThreadPoolExecutor(16) as pool:
        answer_methods(client, lambda request: (request.payload, {"n": request.payload}))
        results = list(pool.map(lambda n: service.invoke(identity, "count", n), range(60)))
    assert [(result.status, result.payload) for result in results] == [(n, {"n": n}) for n in range(60)]


@each_door
def test_answers_may_come_in_any_order(service, identity, options):
    with connected(identity, **options) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        requests = method_requests(client)
        calls = [pool.submit(service.invoke, identity, "later", n) for n in range(8)]
        waiting = [requests.take() for _ in calls]
        assert len({request.request_id for request in waiting}) == 8
        for request in reversed(waiting):
            client.send_method_response(MethodResponse.create_from_method_request(request, 200, request.payload))
        assert [call.result(DEADLINE_SECONDS).payload for call in calls] == list(range(8))


@each_door
def test_a_silent_device_holds_up_nobody_else(hub, registry, service, device, options):
    other = make_device(hub, registry)
    with connected(device, **options) as silent, connected(other, **options) as quick:
        requests = method_requests(silent)
        answer_methods(quick, lambda request: (200, "quick"))
        with calling(service.invoke, device, "wait", {}) as call:
            request = requests.take()
            assert service.invoke(other, "now", {}).payload == "quick"
            assert not call.done()
            silent.send_method_response(MethodResponse.create_from_method_request(request, 200, "slow"))
            assert call.result(DEADLINE_SECONDS).payload == "slow"


@each_door
def test_an_identity_that_does_not_answer_in_time(moved, moved_identity, options):
    service = Service(moved.registry)
    with connected(moved_identity, **options) as client:
        requests = method_requests(client)
        with calling(service.invoke, moved_identity, "sleep", {}, response_timeout=20) as call:
            late = requests.take()
            moved.hub.advance("19s")
            assert not call.done()
            moved.hub.advance("1s")
            text = refused(504, "GatewayTimeout", call.result, DEADLINE_SECONDS)
        assert text == "Timed out waiting for the response from device."
        # An answer that comes too late disturbs nothing.
        client.send_method_response(MethodResponse.create_from_method_request(late, 200, "late"))
        answer_methods(client, lambda request: (200, "in time"))
        assert service.invoke(moved_identity, "wake", {}).payload == "in time"


def test_the_time_out_is_30_seconds_unless_it_is_given(moved, moved_identity):
    service = Service(moved.registry)
    with connected(moved_identity) as client:
        requests = method_requests(client)
        with calling(service.invoke, moved_identity, "sleep", {}) as call:
            requests.take()
            moved.hub.advance("29s")
            assert not call.done()
            moved.hub.advance("1s")
            refused(504, "GatewayTimeout", call.result, DEADLINE_SECONDS)


def test_the_hub_waits_for_a_connection_as_long_as_it_is_told(moved, moved_identity):
    service = Service(moved.registry)
    call_options = {"connect_timeout": 10, "response_timeout": 30}
    with calling(service.invoke, moved_identity, "early", {}, **call_options) as call:
        moved_by = 0
        while not call.done():  # the call may reach the hub after the first seconds have passed
            moved.hub.advance("1s")
            moved_by += 1
        text = refused(404, "DeviceNotOnline", call.result)
    assert moved_by >= 10
    assert text == "Timed out waiting for device to connect."


@each_door
def test_a_call_finds_an_identity_that_connects_in_time(service, identity, options):
    with calling(service.invoke, identity, "early", {}, connect_timeout=60, response_timeout=60) as call:
        with connected(identity, **options) as client:
            assert not call.done()
            answer_methods(client, lambda request: (200, "here I am"))
            assert call.result(DEADLINE_SECONDS).payload == "here I am"


def test_an_offline_identity_is_not_online(service, identity):
    with pytest.raises(HttpOperationError) as refusal:
        service.invoke(identity, "anyone", {})
    response = refusal.value.response
    assert (response.status_code, response.headers["iothub-errorcode"]) == (404, "DeviceNotOnline")
    error = json.loads(response.json()["Message"])
    assert error["errorCode"] == 404103
    assert error["info"] == {"timeout": "00:00:00"}
    assert "https://aka.ms/iothub404103" in error["message"]


@each_door
def test_an_identity_that_takes_no_methods_is_not_online(service, identity, options):
    with connected(identity, **options) as client:
        refused(404, "DeviceNotOnline", service.invoke, identity, "anyone", {})
        answer_methods(client, lambda request: (200, None))
        assert service.invoke(identity, "anyone", {}).status == 200
        client.on_method_request_received = None
        refused(404, "DeviceNotOnline", service.invoke, identity, "anyone", {})
    refused(404, "DeviceNotOnline", service.invoke, identity, "anyone", {})


@each_door
def test_payloads_of_128_kib_pass_and_no_more(service, identity, options):
    longest = "x" * (PAYLOAD_BYTES - 2)  # and two quotes
    with connected(identity, **options) as client:
        answer_methods(client, lambda request: (200, longest + request.payload["more"]))
        assert service.invoke(identity, "large", {"more": ""}).payload == longest
        refused(502, "GenericBadGateway", service.invoke, identity, "larger", {"more": "x"})
        answer_methods(client, lambda request: (200, len(request.payload)))
        assert service.invoke(identity, "large", longest).payload == len(longest)
        refused(413, "MessageTooLarge", service.invoke, identity, "larger", longest + "x")
        assert service.invoke(identity, "small", "x").payload == 1


@each_door
def test_a_response_that_is_no_json_fails_the_call_alone(service, identity, options):
    with connected(identity, **options) as client:
        answer_methods(client, lambda request: (200, float("nan") if request.payload else "fine"))
        refused(502, "GenericBadGateway", service.invoke, identity, "odd", True)
        assert service.invoke(identity, "even", False).payload == "fine"


def test_time_outs_have_their_bounds(service, identity):
    for bounds in (
        {"response_timeout": 4}, {"response_timeout": 301}, {"response_timeout": -1}, {"connect_timeout": -1},
        {"connect_timeout": 301, "response_timeout": 300}, {"connect_timeout": 31, "response_timeout": 30},
    ):
        refused(400, "ArgumentInvalid", service.invoke, identity, "m", {}, **bounds)
    for bounds in ({"response_timeout": 5}, {"response_timeout": 300}):
        refused(404, "DeviceNotOnline", service.invoke, identity, "m", {}, **bounds)


def test_a_name_has_its_bounds(service, identity):
    for name in ("", "n" * 129):
        refused(400, "ArgumentInvalid", service.invoke, identity, name, {})


def test_unknown_identities_are_not_found(service, device, device_id):
    refused(404, "DeviceNotFound", service.invoke, Device(device_id, None, None, None, None), "m", {})
    refused(404, "ModuleNotFound", service.invoke, Module(device.id, "nobody", None, None, None), "m", {})


@each_door
def test_a_call_ends_with_the_connection_that_carries_it(hub, service, device, options):
    with connected(device, connection_retry=False, **options) as client:
        requests, states = method_requests(client), States(client)
        with calling(service.invoke, device, "cut", {}) as call:
            requests.take()
            hub.cut(device.id)
            refused(404, "DeviceConnectionClosedRemotely", call.result, DEADLINE_SECONDS)
        states.await_lost()


@each_door
def test_a_call_ends_when_its_target_disconnects_or_is_deleted(service, identity, options):
    with connected(identity, connection_retry=False, **options) as client:
        requests, states = method_requests(client), States(client)
        with calling(service.invoke, identity, "leave", {}) as call:
            requests.take()
            client.disconnect()
            refused(404, "DeviceConnectionClosedRemotely", call.result, DEADLINE_SECONDS)
        states.await_lost()  # before the next change: the client tells the state that it has when it gets round to it
        client.connect()
        states.await_connected()
        with calling(service.invoke, identity, "vanish", {}) as call:
            requests.take()
            service.delete(identity)
            refused(404, "DeviceConnectionClosedRemotely", call.result, DEADLINE_SECONDS)
        states.await_lost()


def test_a_module_and_its_device_answer_for_themselves(hub, registry, service, device):
    modules = [make_module(hub, registry, device.id, name) for name in ("one", "two")]
    with connected(device) as device_client, connected(modules[0]) as one, connected(modules[1]) as two:
        answer_methods(device_client, lambda request: (200, "device"))
        answer_methods(one, lambda request: (200, "one"))
        answer_methods(two, lambda request: (200, "two"))
        assert [service.invoke(identity, "who", {}).payload for identity in (device, *modules)] == ["device", "one", "two"]


@pytest.mark.parametrize("policy", ["device", "registryRead", "registryReadWrite"])
def test_methods_are_for_the_policy_service(hub, identity, policy):
    narrow = Service(IoTHubRegistryManager.from_connection_string(hub.policy(policy)))
    refused(401, "IotHubUnauthorizedAccess", narrow.invoke, identity, "m", {})
    allowed = Service(IoTHubRegistryManager.from_connection_string(hub.policy("service")))
    refused(404, "DeviceNotOnline", allowed.invoke, identity, "m", {})


@each_door
def test_a_handler_that_asks_for_its_methods_by_name(service, identity, options):
    with connected(identity, **options) as client, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name in ("first", "second"):  # the first subscribes, and each has its own queue from now on
            assert client.receive_method_request(name, block=False) is None
        calls = [pool.submit(service.invoke, identity, name, name) for name in ("first", "second")]
        for name in ("second", "first"):
            request = client.receive_method_request(name, timeout=DEADLINE_SECONDS)
            client.send_method_response(MethodResponse.create_from_method_request(request, 200, request.payload))
        assert [call.result(DEADLINE_SECONDS).payload for call in calls] == ["first", "second"]


@each_door
def test_an_async_client_answers_too(service, device, options):
    async def use():
        client = AsyncDeviceClient.create_from_connection_string(device.connection_string, **options)

        async def on_request(request):
            response = MethodResponse.create_from_method_request(request, 200, [request.payload])
            await client.send_method_response(response)

        await client.connect()
        client.on_method_request_received = on_request
        results = await asyncio.gather(*(asyncio.to_thread(service.invoke, device, "m", n) for n in range(8)))
        await client.shutdown()
        return [result.payload for result in results]

    assert asyncio.run(use()) == [[n] for n in range(8)]

