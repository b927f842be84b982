"""Routes to event hubs beside the built-in one: telemetry by condition, enriched, and the events that only a route asks for."""

import contextlib
import json
import urllib.error
import uuid

import pytest
from azure.iot.device import Message

from conftest import make_device, make_module
from devices import connected
from events import Reader, annotations, body, device_of, properties
from jobs import Jobs
from service import desiring

SOURCES = [
    "TwinChangeEvents", "DeviceLifecycleEvents", "DeviceConnectionStateEvents", "DigitalTwinChangeEvents",
    "DeviceJobLifecycleEvents",
]

MODEL = "dtmi:com:example:Thermostat;1"


@pytest.fixture(scope="module")
def routed(hub):
    """Readers of the event hubs that the routes of this module lead to: hot telemetry, and all other events."""
    routes = [
        {"name": "hot", "source": "DeviceMessages", "condition": "kind = 'heat' AND $body.temperature > 30", "endpointNames": ["hot"]},
        *({"name": source, "source": source, "endpointNames": ["changes"]} for source in SOURCES),
    ]
    enrichments = [
        {"key": "hub", "value": "$iothubname", "endpointNames": ["hot"]},
        {"key": "place", "value": "$twin.tags.place", "endpointNames": ["hot"]},
        {"key": "floor", "value": "$twin.properties.desired.floor", "endpointNames": ["hot", "events"]},
        {"key": "plain", "value": "text", "endpointNames": ["changes"]},
    ]
    with contextlib.ExitStack() as readers:
        readers.enter_context(hub.routing(
            endpoints={"eventHubs": [{"name": "hot", "partitions": 2}, {"name": "changes", "partitions": 1}]},
            routes=routes, enrichments=enrichments,
        ))
        yield {name: readers.enter_context(Reader(hub.event_hub_named(name), connection_verify=hub.ca_path))
               for name in ("hot", "changes")}


def test_a_route_takes_what_its_condition_selects_and_the_fallback_route_the_rest(registry, reader, routed, device):
    registry.update_twin(device.id, desiring({"floor": 3}, tags={"place": "roof"}))
    with connected(device) as client:
        for temperature, kind, content_type in (
                (31, "heat", "application/json"), (30, "heat", "application/json"), (31, "cold", "application/json"),
                (31, "heat", "text/plain"), (32, "heat", "application/json")):
            client.send_message(message({"temperature": temperature}, kind, content_type))
    hot, rest = routed["hot"].of(device.id, 2), reader.of(device.id, 3)
    assert [json.loads(body(event))["temperature"] for event in hot] == [31, 32]
    assert [json.loads(body(event))["temperature"] for event in rest] == [30, 31, 31]
    for event in hot:
        assert properties(event) == {"kind": "heat", "hub": "iolite", "place": "roof", "floor": "3"}
        assert annotations(event)["iothub-message-source"] == b"Telemetry"
    assert properties(rest[0]) == {"kind": "heat", "floor": "3"}


def test_an_enrichment_that_finds_nothing_is_the_text_of_its_path(routed, device):
    with connected(device) as client:
        client.send_message(message({"temperature": 31}, "heat", "application/json"))
    assert properties(routed["hot"].of(device.id)[0])["place"] == "$twin.tags.place"


def test_the_life_of_a_device_and_its_module_is_told(hub, registry, routed):
    device = make_device(hub, registry)
    module = make_module(hub, registry, device.id)
    registry.delete_module(device.id, module.module_id)
    registry.delete_device(device.id)
    told = changes(routed, device.id, "deviceLifecycleNotification", 4)
    assert [(kind["opType"], kind.get("moduleId")) for kind, _ in told] == [
        ("createDeviceIdentity", None), ("createDeviceIdentity", "camera"),
        ("deleteDeviceIdentity", "camera"), ("deleteDeviceIdentity", None),
    ]
    for kind, twin in told:
        assert (kind["hubName"], kind["deviceId"], kind["plain"]) == ("iolite", device.id, "text")
        assert twin["deviceId"] == device.id and twin["properties"]["desired"]["$version"] == 1


def test_changes_of_a_twin_are_told_as_they_were_written(registry, routed, device):
    registry.update_twin(device.id, desiring({"a": {"b": 1}}, tags={"place": "roof"}))
    with connected(device) as client:
        client.patch_twin_reported_properties({"c": [1, 2]})
    told = changes(routed, device.id, "twinChangeNotification", 2)
    assert [kind["opType"] for kind, _ in told] == ["updateTwin", "updateTwin"]
    (_, desired), (_, reported) = told
    assert desired["tags"] == {"place": "roof"}
    assert desired["properties"]["desired"]["a"] == {"b": 1} and "reported" not in desired["properties"]
    assert reported["properties"]["reported"]["c"] == [1, 2] and reported["version"] == desired["version"] + 1


def test_coming_and_going_is_told(routed, device):
    with connected(device):
        pass
    told = changes(routed, device.id, "deviceConnectionStateNotification", 2)
    assert [kind["opType"] for kind, _ in told] == ["deviceConnected", "deviceDisconnected"]
    first, second = (state["sequenceNumber"] for _, state in told)
    assert len(first) == len(second) == 64 and first < second


def test_changes_of_a_digital_twin_are_told_as_a_patch(routed, device):
    with connected(device, product_info=MODEL) as client:
        client.patch_twin_reported_properties({"targetTemperature": 20.5})
    told = changes(routed, device.id, "digitalTwinChangeNotification", 2)
    assert told[0][1] == [{"op": "replace", "path": "/$metadata/$model", "value": MODEL}]
    assert {"op": "add", "path": "/targetTemperature", "value": 20.5} in told[1][1]


def test_what_a_job_does_to_a_device_is_told(hub, registry, routed):
    jobs = Jobs(hub, registry)
    job = jobs.update({"interval": 5})
    for device in jobs.devices:
        (kind, row), = changes(routed, device.id, "deviceJobLifecycleNotification", 1)
        assert (kind["opType"], row["jobId"], row["status"]) == ("deviceJobCompleted", job.job_id, "completed")


def test_a_routing_with_a_broken_condition_is_refused_with_the_place_and_changes_nothing(hub, routed, device):
    with pytest.raises(urllib.error.HTTPError) as refusal:
        hub.put_routing({"endpoints": {}, "enrichments": [], "routes": [
            {"name": "broken", "source": "DeviceMessages", "condition": "a = ", "endpointNames": ["events"]}]})
    assert refusal.value.code == 400
    assert "routes[0] (broken).condition: line 1, column 5:" in json.loads(refusal.value.read())["error"]
    with connected(device) as client:
        client.send_message(message({"temperature": 31}, "heat", "application/json"))
    assert len(routed["hot"].of(device.id)) == 1


def test_one_call_waits_for_an_event_that_matches(hub, routed, device):
    with connected(device) as client:
        client.send_message(message({"engine": {"temperature": 29}}, "heat", "application/json"))
        client.send_message(message({"engine": {"temperature": 30}}, "heat", "application/json"))
        (event,) = hub.events(deviceId=device.id, timeout="10s", **{"property.kind": "heat", "body.engine.temperature": "30"})
        assert event["json"] == {"engine": {"temperature": 30}}
        assert event["systemProperties"]["content-type"] == "application/json"
        client.send_message(message({"temperature": 99}, "heat", "application/json"))
        (hot,) = hub.events(deviceId=device.id, timeout="10s", eventHub="hot", condition="$body.temperature > 98")
        assert hot["json"] == {"temperature": 99}
    with pytest.raises(urllib.error.HTTPError) as refusal:
        hub.events(deviceId=device.id, timeout="10ms", **{"property.kind": str(uuid.uuid4())})
    assert refusal.value.code == 404


def test_events_are_told_as_they_come(hub, device):
    with connected(device) as client, contextlib.closing(hub.follow_events(deviceId=device.id, timeout="30s")) as followed:
        for n in range(3):
            client.send_message(message({"n": n}, "heat", "application/json"))
            assert next(followed)["json"] == {"n": n}


def message(content, kind, content_type):
    made = Message(json.dumps(content))
    made.content_type, made.content_encoding = content_type, "utf-8"
    made.custom_properties = {"kind": kind}
    return made


def changes(routed, device_id, schema, count):
    """The properties and the bodies of a device's events of a schema."""
    def wanted(event):
        return device_of(event) == device_id and properties(event).get("iothub-message-schema") == schema

    return [(properties(event), json.loads(body(event))) for event in routed["changes"].wait(wanted, count)]
