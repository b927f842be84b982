"""Twins of devices and modules: azure-iot-device on each of its doors, azure-iot-hub behind."""

import asyncio
import re
import threading

import pytest
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties

from conftest import Device, Module
from devices import DEADLINE_SECONDS, connected, desired_patches, each_door, failing
from refusals import refused
from service import Service, desiring, plain

MODEL = "dtmi:com:example:Thermostat;1"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z")

# Limits of the article "Understand and use device twins in IoT Hub".
SECTION_BYTES = 32 * 1024
TAGS_BYTES = 8 * 1024
LARGEST_INTEGER, SMALLEST_INTEGER = 2**52 - 1, -2**52


def nested(depth):
    """An object in which depth objects stand inside each other."""
    value = {"leaf": 1}
    for _ in range(depth - 1):
        value = {"o": value}
    return {"o": value}


def filling(size):
    """An object that counts size bytes: names of three bytes, texts of up to 4093."""
    chunk = 4096
    count = size // chunk
    filled = {f"p{n:02}": "x" * (chunk - 3) for n in range(count)}
    if rest := size - count * chunk:
        filled[f"p{count:02}"] = "x" * (rest - 3)
    return filled


AWKWARD = {
    "text": "", "naïve_✓": "ünïcödé €", "emoji": "😀", "true": True, "false": False, "zero": 0, "minus": -1.5,
    "small": 1e-7, "large": 1e300, "largest": LARGEST_INTEGER, "smallest": SMALLEST_INTEGER,
    "array": [1, "two", [3], {"four": 4}, True], "empty_array": [], "empty_object": {},
    "dash-and_underscore": "\"quoted\" \\ / \n\t", "a:b/c?d=e&f%25+g": 1, "longest_text": "x" * 4096, "k" * 1024: "longest name",
    **nested(10),
}

FORBIDDEN = {
    "a dot in a name": {"a.b": 1},
    "a dollar in a name": {"$a": 1},
    "a hash in a name": {"a#b": 1},
    "a space in a name": {"a b": 1},
    "a control character in a name": {"a\u0007b": 1},
    "a forbidden name deep inside": {"a": {"b": {"c.d": 1}}},
    "a name of 1025 bytes": {"k" * 1025: 1},
    "a text of 4097 bytes": {"a": "x" * 4097},
    "a text of 4097 bytes of UTF-8": {"a": "é" * 2049},
    "an integer too large": {"a": LARGEST_INTEGER + 1},
    "an integer too small": {"a": SMALLEST_INTEGER - 1},
    "null in an array": {"a": [1, None]},
    "eleven levels": nested(11),
    "what is no JSON": {"a": float("nan")},
}


def test_a_new_twin_is_complete_and_empty(service, identity):
    twin = service.twin(identity)
    assert (twin.device_id, twin.module_id) == (identity.id, identity.module_id)
    assert twin.device_etag == service.identity(identity).etag
    assert twin.etag and twin.version == 2
    assert twin.status == "enabled"
    assert twin.connection_state == "Disconnected"
    assert twin.last_activity_time.year == twin.status_update_time.year == 1
    assert twin.cloud_to_device_message_count == 0
    assert twin.authentication_type == "sas"
    assert (twin.x509_thumbprint.primary_thumbprint, twin.x509_thumbprint.secondary_thumbprint) == (None, None)
    assert twin.capabilities.iot_edge is False
    assert twin.additional_properties["modelId"] == ""
    assert twin.tags is None, "tags are absent while there are none"
    desired, reported = twin.properties.desired, twin.properties.reported
    assert plain(desired) == plain(reported) == {}
    assert desired["$version"] == reported["$version"] == 1
    assert set(desired["$metadata"]) - {"$lastUpdatedVersion"} == set(reported["$metadata"]) == {"$lastUpdated"}
    assert TIME.fullmatch(desired["$metadata"]["$lastUpdated"]) and TIME.fullmatch(reported["$metadata"]["$lastUpdated"])


@each_door
def test_a_new_twin_is_empty_for_its_identity(identity, options):
    with connected(identity, **options) as client:
        assert client.get_twin() == {"desired": {"$version": 1}, "reported": {"$version": 1}}


@each_door
def test_the_identity_sees_properties_and_no_tags(service, identity, options):
    service.update_twin(identity, desiring({"interval": {"seconds": 5}}, tags={"site": "roof"}))
    with connected(identity, **options) as client:
        client.patch_twin_reported_properties({"interval": {"seconds": 4}})
        assert client.get_twin() == {
            "desired": {"interval": {"seconds": 5}, "$version": 2},
            "reported": {"interval": {"seconds": 4}, "$version": 2},
        }


@each_door
def test_a_reported_patch_is_merged_and_null_deletes(service, identity, options):
    with connected(identity, **options) as client:
        client.patch_twin_reported_properties({"a": 1, "o": {"p": {"x": 1, "y": 2}, "q": [1, 2, 3]}, "gone": True})
        client.patch_twin_reported_properties({"gone": None, "never": None, "o": {"p": {"x": None}, "q": [4]}})
        want = {"a": 1, "o": {"p": {"y": 2}, "q": [4]}}
        assert plain(client.get_twin()["reported"]) == want
        client.patch_twin_reported_properties({"o": {"p": {"y": None}}})
        assert client.get_twin()["reported"] == {"a": 1, "o": {"p": {}, "q": [4]}, "$version": 4}
    assert plain(service.twin(identity).properties.reported) == {"a": 1, "o": {"p": {}, "q": [4]}}


@each_door
def test_every_kind_of_value_survives_both_ways(service, identity, options):
    with connected(identity, **options) as client:
        patches = desired_patches(client)
        service.desire(identity, AWKWARD)
        assert plain(patches.take()) == AWKWARD
        client.patch_twin_reported_properties(AWKWARD)
        twin = client.get_twin()
    stored = service.twin(identity).properties
    for section in (twin["desired"], twin["reported"], stored.desired, stored.reported):
        assert plain(section) == AWKWARD
        # == takes 1 for 1.0 and for True.
        assert isinstance(section["largest"], int) and section["true"] is True and isinstance(section["zero"], int)


@each_door
def test_a_desired_patch_is_pushed_as_it_was_made(service, identity, options):
    with connected(identity, **options) as client:
        patches = desired_patches(client)
        service.desire(identity, {"keep": 1, "o": {"a": 1, "b": [1]}})
        assert patches.take() == {"keep": 1, "o": {"a": 1, "b": [1]}, "$version": 2}
        service.desire(identity, {"o": {"a": None, "c": {}}, "gone": None})
        assert patches.take() == {"o": {"a": None, "c": {}}, "gone": None, "$version": 3}
        assert client.get_twin()["desired"] == {"keep": 1, "o": {"b": [1], "c": {}}, "$version": 3}


@each_door
def test_desired_patches_arrive_in_order(service, identity, options):
    with connected(identity, **options) as client:
        # The SDK runs handlers in four threads; the older call hands patches out in order.
        client.receive_twin_desired_properties_patch(block=False)
        for n in range(30):
            service.desire(identity, {"n": n})
        patches = [client.receive_twin_desired_properties_patch(timeout=DEADLINE_SECONDS) for _ in range(30)]
    assert patches == [{"n": n, "$version": 2 + n} for n in range(30)]


@each_door
def test_a_replacement_is_pushed_with_null_for_what_went(service, identity, options):
    service.update_twin(identity, desiring({"keep": 1, "change": 1, "drop": 1, "o": {"a": 1, "b": 2}}, tags={"old": 1}))
    with connected(identity, **options) as client:
        patches = desired_patches(client)
        replaced = service.replace_twin(identity, desiring({"keep": 1, "change": 2, "o": {"b": 2}}, tags={"new": 1}))
        assert replaced.tags == {"new": 1}
        assert plain(replaced.properties.desired) == {"keep": 1, "change": 2, "o": {"b": 2}}
        assert patches.take() == {"keep": 1, "change": 2, "drop": None, "o": {"a": None, "b": 2}, "$version": 3}


def test_a_replacement_clears_what_it_does_not_name(service, identity):
    service.update_twin(identity, desiring({"a": 1}, tags={"t": 1}))
    replaced = service.replace_twin(identity, Twin(tags={}))
    assert replaced.tags is None and plain(replaced.properties.desired) == {}


@each_door
def test_a_replacement_leaves_reported_properties(service, identity, options):
    with connected(identity, **options) as client:
        client.patch_twin_reported_properties({"mine": 1})
    service.replace_twin(identity, Twin(properties=TwinProperties(desired={"a": 1}, reported={"mine": "theirs"})))
    reported = service.twin(identity).properties.reported
    assert (plain(reported), reported["$version"]) == ({"mine": 1}, 2)


def test_tags_are_merged_by_the_same_rules(service, identity):
    service.update_twin(identity, Twin(tags={"site": {"floor": 1, "room": "a"}, "gone": 1}))
    twin = service.update_twin(identity, Twin(tags={"site": {"room": None}, "gone": None, "list": [{"a": 1}]}))
    assert twin.tags == service.twin(identity).tags == {"site": {"floor": 1}, "list": [{"a": 1}]}


def test_a_patch_of_tags_leaves_the_desired_version(service, identity):
    before = service.twin(identity)
    after = service.update_twin(identity, Twin(tags={"a": 1}))
    assert after.properties.desired == before.properties.desired
    assert after.version == before.version + 1 and after.etag != before.etag


@each_door
def test_versions_and_etags_move_with_what_was_written(service, identity, options):
    seen = [service.twin(identity)]
    with connected(identity, **options) as client:
        client.patch_twin_reported_properties({"a": 1})
        seen.append(service.twin(identity))
    seen.append(service.desire(identity, {"a": 1}))
    assert [twin.properties.reported["$version"] for twin in seen] == [1, 2, 2]
    assert [twin.properties.desired["$version"] for twin in seen] == [1, 1, 2]
    assert [twin.version for twin in seen] == [2, 3, 4]
    assert seen[0].etag == seen[1].etag, "a reported patch leaves the etag"
    assert seen[1].etag != seen[2].etag


@each_door
def test_metadata_tells_when_each_property_was_written(service, identity, options):
    service.desire(identity, {"old": 1, "o": {"p": 1}})
    old = service.twin(identity).properties.desired["$metadata"]
    desired = service.desire(identity, {"o": {"q": [1]}}).properties.desired["$metadata"]
    assert (desired["$lastUpdatedVersion"], desired["o"]["$lastUpdatedVersion"]) == (3, 3)
    assert desired["o"]["q"]["$lastUpdatedVersion"] == 3
    assert desired["old"] == old["old"] and desired["old"]["$lastUpdatedVersion"] == 2
    assert desired["o"]["p"] == old["o"]["p"]
    assert desired["$lastUpdated"] == desired["o"]["$lastUpdated"] == desired["o"]["q"]["$lastUpdated"]
    assert desired["$lastUpdated"] > old["old"]["$lastUpdated"]

    with connected(identity, **options) as client:
        client.patch_twin_reported_properties({"o": {"p": 1}})
    reported = service.twin(identity).properties.reported["$metadata"]
    for level in (reported, reported["o"], reported["o"]["p"]):
        assert TIME.fullmatch(level["$lastUpdated"]) and "$lastUpdatedVersion" not in level


def test_a_stale_etag_is_refused_and_changes_nothing(service, identity):
    stale = service.twin(identity).etag
    current = service.update_twin(identity, Twin(tags={"n": 1}), stale)
    for write in (service.update_twin, service.replace_twin):
        refused(412, "PreconditionFailed", write, identity, desiring({"n": 2}, tags={"n": 2}), stale)
    assert service.twin(identity).as_dict() == current.as_dict()
    assert service.replace_twin(identity, Twin(tags={"n": 3}), current.etag).tags == {"n": 3}
    assert service.update_twin(identity, Twin(tags={"n": 4}), "*").tags == {"n": 4}


def test_of_two_writers_with_one_etag_one_wins(service, identity):
    etag = service.twin(identity).etag
    service.update_twin(identity, Twin(tags={"winner": "first"}), etag)
    refused(412, "PreconditionFailed", service.update_twin, identity, Twin(tags={"winner": "second"}), etag)
    assert service.twin(identity).tags == {"winner": "first"}


def test_a_whole_twin_can_be_sent_back(service, identity):
    service.update_twin(identity, desiring({"a": {"b": 1}}, tags={"t": 1}))
    read = service.twin(identity)
    read.tags["t"] = 2
    written = service.update_twin(identity, read, read.etag)
    assert written.tags == {"t": 2}
    assert plain(written.properties.desired) == {"a": {"b": 1}}
    written = service.replace_twin(identity, written, written.etag)
    assert (written.tags, plain(written.properties.desired)) == ({"t": 2}, {"a": {"b": 1}})


@pytest.mark.parametrize("part", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_may_not_stand_in_a_twin_is_refused_to_services(service, device, part):
    before = service.twin(device).as_dict()
    for twin in (desiring(part), Twin(tags=part)):
        refused(400, "ArgumentInvalid", service.update_twin, device, twin)
        refused(400, "ArgumentInvalid", service.replace_twin, device, twin)
    assert service.twin(device).as_dict() == before


@each_door
def test_what_may_not_stand_in_a_twin_is_refused_to_devices(service, identity, options):
    with connected(identity, **options) as client:
        for part in FORBIDDEN.values():
            with failing("status 400"):
                client.patch_twin_reported_properties(part)
        for no_object in ([1], "text", 1, None):
            with failing("status 400"):
                client.patch_twin_reported_properties(no_object)
        client.patch_twin_reported_properties({"still": "connected"})
    assert plain(service.twin(identity).properties.reported) == {"still": "connected"}


def test_tags_hold_8_kib_and_desired_properties_32(service, identity):
    full = service.update_twin(identity, desiring(filling(SECTION_BYTES), tags=filling(TAGS_BYTES)))
    refused(400, "ArgumentInvalid", service.desire, identity, {"p00": full.properties.desired["p00"] + "x"})
    refused(400, "ArgumentInvalid", service.update_twin, identity, Twin(tags={"p00": full.tags["p00"] + "x"}))
    refused(400, "ArgumentInvalid", service.replace_twin, identity, Twin(tags=filling(TAGS_BYTES + 4)))
    assert service.twin(identity).as_dict() == full.as_dict()
    service.desire(identity, {"p00": None, "new": 1})


@each_door
def test_a_full_section_is_pushed_whole(service, identity, options):
    with connected(identity, **options) as client:
        patches = desired_patches(client)
        service.desire(identity, filling(SECTION_BYTES))
        assert plain(patches.take()) == filling(SECTION_BYTES)
        client.patch_twin_reported_properties(filling(SECTION_BYTES))
        twin = client.get_twin()
    assert plain(twin["desired"]) == plain(twin["reported"]) == filling(SECTION_BYTES)


@each_door
def test_reported_properties_hold_32_kib(service, identity, options):
    with connected(identity, **options) as client:
        client.patch_twin_reported_properties(filling(SECTION_BYTES))
        with failing("status 400"):
            client.patch_twin_reported_properties({"new": 1})
        client.patch_twin_reported_properties({"p00": None, "new": 1})
        assert client.get_twin()["reported"]["new"] == 1


@each_door
def test_after_the_handler_is_gone_nothing_is_pushed(service, identity, options):
    with connected(identity, ensure_desired_properties=False, **options) as client:
        patches = desired_patches(client)
        service.desire(identity, {"n": 1})
        assert patches.take()["n"] == 1
        client.on_twin_desired_properties_patch_received = None
        service.desire(identity, {"n": 2})
        patches = desired_patches(client)
        service.desire(identity, {"n": 3})
        assert patches.take() == {"n": 3, "$version": 4}


@each_door
def test_what_changed_while_disconnected_is_made_up_for(service, identity, options):
    with connected(identity, **options) as client:
        patches = desired_patches(client)
        client.get_twin()  # subscribes to answers, too: without that the SDK waits for its own question's in vain
        service.desire(identity, {"n": 1, "m": 1})
        assert patches.take()["$version"] == 2
        client.disconnect()
        service.desire(identity, {"n": 2})
        service.desire(identity, {"m": None})
        client.connect()
        # The SDK asks for the twin again; the hub does not repeat itself.
        assert patches.take() == {"n": 2, "$version": 4}
        service.desire(identity, {"n": 3})
        assert patches.take() == {"n": 3, "$version": 5}


@each_door
def test_the_twin_knows_whether_its_identity_is_connected(service, identity, options):
    with connected(identity, **options) as client:
        client.get_twin()
        twin = service.twin(identity)
        assert twin.connection_state == "Connected"
        assert twin.last_activity_time.year > 2000
    assert service.twin(identity).connection_state == "Disconnected"


@each_door
def test_the_twin_keeps_the_model_that_its_identity_connects_with(service, identity, options):
    with connected(identity, product_info=MODEL, **options):
        assert service.twin(identity).additional_properties["modelId"] == MODEL


def test_a_module_and_its_device_have_twins_of_their_own(service, device, module):
    with connected(device) as device_client, connected(module) as module_client:
        device_patches, module_patches = desired_patches(device_client), desired_patches(module_client)
        service.desire(module, {"for": "module"})
        service.desire(device, {"for": "device"})
        assert device_patches.take() == {"for": "device", "$version": 2}
        assert module_patches.take() == {"for": "module", "$version": 2}
        module_client.patch_twin_reported_properties({"by": "module"})
        device_client.patch_twin_reported_properties({"by": "device"})
    assert plain(service.twin(device).properties.reported) == {"by": "device"}
    assert plain(service.twin(module).properties.reported) == {"by": "module"}


@each_door
def test_many_writers_lose_nothing(service, identity, options):
    writers, writes = 4, 10

    def desire(writer):
        for n in range(writes):
            service.desire(identity, {f"w{writer}": {f"n{n}": n}})

    def report(client, writer):
        for n in range(writes):
            client.patch_twin_reported_properties({f"w{writer}": {f"n{n}": n}})

    with connected(identity, **options) as client:
        threads = [threading.Thread(target=desire, args=[writer]) for writer in range(writers)]
        threads += [threading.Thread(target=report, args=[client, writer]) for writer in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    want = {f"w{writer}": {f"n{n}": n for n in range(writes)} for writer in range(writers)}
    properties = service.twin(identity).properties
    for section in (properties.desired, properties.reported):
        assert plain(section) == want
        assert section["$version"] == 1 + writers * writes


def test_unknown_twins_are_not_found(service, device, device_id):
    nobody = Device(device_id, None, None, None, None)
    no_module = Module(device.id, "nobody", None, None, None)
    for unknown in (nobody, no_module):
        refused(404, "DeviceNotFound", service.twin, unknown)
        refused(404, "DeviceNotFound", service.update_twin, unknown, Twin(tags={}))
        refused(404, "DeviceNotFound", service.replace_twin, unknown, Twin(tags={}))


def test_a_twin_goes_with_its_identity(registry, service, device):
    service.update_twin(device, desiring({"a": 1}, tags={"a": 1}))
    service.delete(device)
    registry.create_device_with_sas(device.id, None, None, "enabled")
    twin = service.twin(device)
    assert (twin.version, twin.tags, plain(twin.properties.desired)) == (2, None, {})


def test_the_twin_shows_what_the_registry_knows(registry, service, device_id):
    thumbprints = ("A1" * 20, "B2" * 32)
    registry.create_device_with_x509(device_id, *thumbprints, "disabled", status_reason="in repair")
    twin = registry.get_twin(device_id)
    assert (twin.status, twin.status_reason) == ("disabled", "in repair")
    assert twin.authentication_type == "selfSigned"
    assert (twin.x509_thumbprint.primary_thumbprint, twin.x509_thumbprint.secondary_thumbprint) == thumbprints
    registry.send_c2d_message(device_id, "waiting")
    assert registry.get_twin(device_id).cloud_to_device_message_count == 1


@pytest.mark.parametrize("policy", ["device", "registryRead", "registryReadWrite"])
def test_twins_are_for_the_policy_service(hub, identity, policy):
    narrow = Service(IoTHubRegistryManager.from_connection_string(hub.policy(policy)))
    refused(401, "IotHubUnauthorizedAccess", narrow.twin, identity)
    refused(401, "IotHubUnauthorizedAccess", narrow.update_twin, identity, Twin(tags={}))
    refused(401, "IotHubUnauthorizedAccess", narrow.replace_twin, identity, Twin(tags={}))
    allowed = Service(IoTHubRegistryManager.from_connection_string(hub.policy("service")))
    assert allowed.update_twin(identity, Twin(tags={"a": 1})).tags == {"a": 1}


@each_door
def test_an_async_client_has_a_twin_too(service, device, options):
    async def use():
        client = AsyncDeviceClient.create_from_connection_string(device.connection_string, **options)
        pushed = asyncio.get_running_loop().create_future()

        async def on_patch(patch):  # runs on a loop of the SDK's own
            pushed.get_loop().call_soon_threadsafe(pushed.set_result, patch)

        await client.connect()
        client.on_twin_desired_properties_patch_received = on_patch
        await client.patch_twin_reported_properties({"by": "coroutine"})
        await asyncio.to_thread(service.desire, device, {"for": "coroutine"})
        patch = await asyncio.wait_for(pushed, DEADLINE_SECONDS)
        twin = await client.get_twin()
        await client.shutdown()
        return patch, twin

    patch, twin = asyncio.run(use())
    assert patch == {"for": "coroutine", "$version": 2}
    assert twin == {
        "desired": {"for": "coroutine", "$version": 2}, "reported": {"by": "coroutine", "$version": 2},
    }
