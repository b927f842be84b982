"""The query language through azure-iot-hub: what is selected, how it is shown, and how pages follow each other."""

import re
import uuid

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import AuthenticationMechanism, ExportImportDevice, PropertyContainer, QuerySpecification, Twin

from conftest import make_device, make_module
from devices import connected
from refusals import refused
from service import desiring

SIZE = 10
MODEL = "dtmi:com:example:Pump;2"


class Fleet:
    """Ten devices with tags of their own, numbered; conditions are asked about them only."""

    def __init__(self, registry):
        self.id = uuid.uuid4().hex[:12]
        self._registry = registry
        mixed = [1, "1", True, {"a": 1}, [1], 1.5]
        items = []
        for n in range(SIZE):
            tags = {
                "fleet": self.id, "n": n, "half": n / 2, "even": n % 2 == 0, "name": f"Device-{n}",
                "floor": {"level": n // 3, "room": "abc"[n % 3]}, "list": [n, n + 1, "x"],
            }
            if n < len(mixed):
                tags["mixed"] = mixed[n]
            items.append(ExportImportDevice(
                id=self.device(n), import_mode="create", status="disabled" if n == 9 else "enabled",
                authentication=AuthenticationMechanism(type="certificateAuthority" if n == 8 else "sas"),
                tags=tags, properties=PropertyContainer(desired={"interval": n * 10}),
            ))
        assert registry.bulk_create_or_update_devices(items).is_successful

    def device(self, n):
        return f"{self.id}-{n}"

    def select(self, condition):
        """The numbers of the devices that a condition selects."""
        items = self.ask(f"SELECT * FROM devices WHERE tags.fleet = '{self.id}' AND ({condition})").items
        return sorted(item.tags["n"] for item in items)

    def rows(self, text):
        """What a query of other than whole twins shows. The SDK makes twins of everything, and keeps what they do not have aside."""
        result = self.ask(text.replace("FLEET", f"tags.fleet = '{self.id}'"))
        assert result.type == "Raw"
        return [{**item.serialize(), **item.additional_properties} for item in result.items]

    def ask(self, text, **paging):
        return self._registry.query_iot_hub(QuerySpecification(query=text), **paging)


@pytest.fixture(scope="module")
def fleet(registry):
    return Fleet(registry)


def every(*but):
    return [n for n in range(SIZE) if n not in but]


SELECTIONS = {
    # comparison
    "tags.n = 3": [3],
    "tags.n == 3": [3],
    "tags.n != 3": every(3),
    "tags.n <> 3": every(3),
    "tags.n < 2": [0, 1],
    "tags.n <= 2": [0, 1, 2],
    "tags.n > 7": [8, 9],
    "tags.n >= 7": [7, 8, 9],
    "tags.half = 1.5": [3],
    "tags.name = 'Device-4'": [4],
    'tags.name = "Device-4"': [4],
    "tags.name > 'Device-7'": [8, 9],
    "tags.even = true": [0, 2, 4, 6, 8],
    "tags.n = -1": [],
    # logic and its order
    "tags.n = 1 OR tags.n = 2 AND tags.even = false": [1],
    "(tags.n = 1 OR tags.n = 2) AND tags.even = true": [2],
    "NOT tags.even = true": [1, 3, 5, 7, 9],
    "NOT (tags.n < 8)": [8, 9],
    "not tags.n > 0 or tags.n in [5]": [0, 5],
    "tags.n IN [1, 3, 42]": [1, 3],
    "tags.name IN ['Device-1', 'nobody']": [1],
    "tags.n NIN [0, 1, 2, 3, 4, 5, 6, 7]": [8, 9],
    # what is not there is undefined: neither true nor false
    "tags.absent = 1": [],
    "tags.absent != 1": [],
    "NOT tags.absent = 1": [],
    "tags.absent = 1 OR tags.n = 1": [1],
    "NOT (tags.absent = 1 AND tags.n = 1)": every(1),
    "tags.mixed = 1": [0],
    "IS_DEFINED(tags.mixed)": [0, 1, 2, 3, 4, 5],
    "NOT IS_DEFINED(tags.mixed)": [6, 7, 8, 9],
    # types
    "IS_NUMBER(tags.mixed)": [0, 5],
    "IS_STRING(tags.mixed)": [1],
    "IS_BOOL(tags.mixed)": [2],
    "IS_OBJECT(tags.mixed)": [3],
    "IS_ARRAY(tags.mixed)": [4],
    "IS_PRIMITIVE(tags.mixed)": [0, 1, 2, 5],
    "IS_NULL(tags.mixed)": [],
    # arithmetic and mathematics
    "tags.n + 1 = 4": [3],
    "tags.n - 5 = -2": [3],
    "tags.n * 2 > 15": [8, 9],
    "tags.n / 2 = 1.5": [3],
    "tags.n % 4 = 1": [1, 5, 9],
    "1 + 2 * tags.n = 7": [3],
    "(1 + 2) * tags.n = 9": [3],
    "ABS(tags.n - 5) = 2": [3, 7],
    "CEILING(tags.half) = 2": [3, 4],
    "FLOOR(tags.half) = 1": [2, 3],
    "SIGN(tags.n - 8) = 1": [9],
    "SQUARE(tags.n) = 9": [3],
    "SQRT(tags.n) = 2": [4],
    "POWER(tags.n, 2) = 16": [4],
    "EXP(tags.n) > 1000": [7, 8, 9],
    # texts
    "STARTSWITH(tags.name, 'Device-')": every(),
    "STARTSWITH(tags.name, 'device-')": [],
    "STARTS_WITH(tags.floor.room, 'a')": [0, 3, 6, 9],
    "ENDSWITH(tags.name, '-4')": [4],
    "ENDS_WITH(tags.name, '-4')": [4],
    "CONTAINS(tags.name, 'ice-5')": [5],
    "LENGTH(tags.name) = 8": every(),
    "LOWER(tags.name) = 'device-2'": [2],
    "UPPER(tags.name) = 'DEVICE-2'": [2],
    "SUBSTRING(tags.name, 7) = '6'": [6],
    "SUBSTRING(tags.name, 0, 6) = 'Device' AND tags.n = 6": [6],
    "INDEX_OF(tags.name, '7') = 7": [7],
    "CONCAT(tags.floor.room, '-', tags.floor.room) = 'b-b'": [1, 4, 7],
    # arrays
    "ARRAY_CONTAINS(tags.list, 3)": [2, 3],
    "ARRAY_CONTAINS(tags.list, 'x')": every(),
    "ARRAY_LENGTH(tags.list) = 3": every(),
    # paths
    "tags.floor.level = 1": [3, 4, 5],
    "tags.[[floor]].level = 1": [3, 4, 5],
    "devices.tags.n = 1": [1],
    "tags.Floor.level = 1": [],
    "properties.desired.interval > 75": [8, 9],
    "properties.desired.$version >= 1": every(),
    "properties.desired.$metadata.interval.$lastUpdated > '2020-01-01T00:00:00Z'": every(),
    # what the registry knows
    "status = 'disabled'": [9],
    "authenticationType = 'certificateAuthority'": [8],
    "connectionState = 'Connected'": [],
    "capabilities.iotEdge = true": [],
    "version > 0": every(),
    "lastActivityTime < '2020-01-01T00:00:00Z'": every(),
}


@pytest.mark.parametrize("condition", SELECTIONS)
def test_a_condition_selects(fleet, condition):
    assert fleet.select(condition) == SELECTIONS[condition]


def test_select_all_shows_whole_twins(fleet, registry):
    result = fleet.ask(f"SELECT * FROM devices WHERE deviceId = '{fleet.device(4)}'")
    assert result.type == "Twin" and result.continuation_token is None
    assert [item.as_dict() for item in result.items] == [registry.get_twin(fleet.device(4)).as_dict()]


def test_keywords_are_written_in_any_case(fleet):
    assert len(fleet.ask(f"select * from devices where tags.fleet = '{fleet.id}'").items) == SIZE
    assert len(fleet.ask(f"Select * From devices Where tags.fleet = '{fleet.id}' And tags.n In [1]").items) == 1


def test_select_shows_what_it_names(fleet):
    rows = fleet.rows("SELECT deviceId, tags.n AS number, tags.floor, tags.absent FROM devices WHERE FLEET AND tags.n = 4")
    assert rows == [{"deviceId": fleet.device(4), "number": 4, "floor": {"level": 1, "room": "b"}}]


def test_top_ends_early(fleet):
    assert len(fleet.rows("SELECT TOP 3 deviceId FROM devices WHERE FLEET")) == 3
    assert len(fleet.ask(f"SELECT TOP 3 * FROM devices WHERE tags.fleet = '{fleet.id}'").items) == 3


def test_aggregates_count_up(fleet):
    assert fleet.rows("SELECT COUNT() AS numberOfDevices FROM devices WHERE FLEET") == [{"numberOfDevices": SIZE}]
    assert fleet.rows(
        "SELECT COUNT() AS c, SUM(tags.n) AS s, AVG(tags.n) AS a, MIN(tags.half) AS least, MAX(tags.half) AS most "
        "FROM devices WHERE FLEET"
    ) == [{"c": SIZE, "s": 45, "a": 4.5, "least": 0, "most": 4.5}]
    assert fleet.rows("SELECT COUNT() AS c FROM devices WHERE FLEET AND tags.n = 42") == [{"c": 0}]


def test_group_by_makes_a_row_for_each_group(fleet):
    rows = fleet.rows(
        "SELECT tags.floor.room AS room, COUNT() AS devices, MAX(tags.n) AS last FROM devices WHERE FLEET GROUP BY tags.floor.room")
    assert sorted(rows, key=lambda row: row["room"]) == [
        {"room": "a", "devices": 4, "last": 9}, {"room": "b", "devices": 3, "last": 7}, {"room": "c", "devices": 3, "last": 8},
    ]


def test_reported_properties_and_the_connection_are_asked_about(fleet, hub, registry, service):
    device = make_device(hub, registry)
    service.update_twin(device, Twin(tags={"fleet": fleet.id + "-live"}))
    where = f"SELECT * FROM devices WHERE tags.fleet = '{fleet.id}-live' AND "
    with connected(device, product_info=MODEL) as client:
        client.patch_twin_reported_properties({"health": {"battery": 55}})
        for condition in (
            "properties.reported.health.battery < 60", "connectionState = 'Connected'", f"modelId = '{MODEL}'",
            "properties.reported.$metadata.health.battery.$lastUpdated >= '2020-01-01'", "properties.reported.$version = 2",
        ):
            assert [item.device_id for item in fleet.ask(where + condition).items] == [device.id], condition
    assert fleet.ask(where + "connectionState = 'Connected'").items == []


def test_an_answer_is_as_fresh_as_the_twin(fleet, service, device):
    text = f"SELECT * FROM devices WHERE tags.fresh = '{device.id}'"
    assert fleet.ask(text).items == []
    service.update_twin(device, Twin(tags={"fresh": device.id}))
    assert len(fleet.ask(text).items) == 1
    service.update_twin(device, Twin(tags={"fresh": None}))
    assert fleet.ask(text).items == []


def test_modules_are_asked_about_by_themselves(fleet, hub, registry, service, device):
    for name in ("one", "two"):
        service.update_twin(make_module(hub, registry, device.id, name), desiring({"name": name}))
    result = fleet.ask(f"SELECT * FROM devices.modules WHERE devices.deviceId = '{device.id}'")
    assert result.type == "Twin"
    assert {(item.device_id, item.module_id) for item in result.items} == {(device.id, "one"), (device.id, "two")}
    result = fleet.ask(
        f"SELECT moduleId FROM devices.modules WHERE deviceId = '{device.id}' AND properties.desired.name = 'two'")
    assert (result.type, [item.module_id for item in result.items]) == ("Raw", ["two"])


def test_pages_follow_each_other(fleet):
    text, token, pages = f"SELECT * FROM devices WHERE tags.fleet = '{fleet.id}'", None, []
    while True:
        page = fleet.ask(text, continuation_token=token, max_item_count=4)
        assert page.type == "Twin"
        pages.append([item.tags["n"] for item in page.items])
        token = page.continuation_token
        if not token:
            break
    assert [len(page) for page in pages] == [4, 4, 2]
    assert sorted(sum(pages, [])) == every()


def test_a_page_that_holds_the_last_row_is_the_last(fleet):
    text = f"SELECT deviceId FROM devices WHERE tags.fleet = '{fleet.id}'"
    first = fleet.ask(text, max_item_count=5)
    second = fleet.ask(text, continuation_token=first.continuation_token, max_item_count=5)
    assert len(first.items) == len(second.items) == 5
    if second.continuation_token:  # the hub may not know yet that nothing follows
        last = fleet.ask(text, continuation_token=second.continuation_token, max_item_count=5)
        assert last.items == [] and last.continuation_token is None


def test_a_page_outlives_the_devices_on_it(fleet, registry, service):
    tag = f"{fleet.id}-passing"
    for n in range(6):
        registry.create_device_with_sas(f"{tag}-{n}", None, None, "enabled")
        registry.update_twin(f"{tag}-{n}", Twin(tags={"passing": tag}))
    text = f"SELECT * FROM devices WHERE tags.passing = '{tag}'"
    first = fleet.ask(text, max_item_count=2)
    for item in first.items:
        registry.delete_device(item.device_id)
    rest, token = [], first.continuation_token
    while token:
        page = fleet.ask(text, continuation_token=token, max_item_count=2)
        rest, token = rest + page.items, page.continuation_token
    assert len({item.device_id for item in first.items + rest}) == 6


def test_a_page_has_100_rows_unless_it_is_told(registry, fleet):
    tag = f"{fleet.id}-many"
    for start in range(0, 120, 60):
        registry.bulk_create_or_update_devices([
            ExportImportDevice(
                id=f"{tag}-{n}", import_mode="create", status="enabled", tags={"many": tag},
                authentication=AuthenticationMechanism(type="certificateAuthority"),
            ) for n in range(start, start + 60)
        ])
    text = f"SELECT * FROM devices WHERE tags.many = '{tag}'"
    first = fleet.ask(text)
    assert (len(first.items), bool(first.continuation_token)) == (100, True)
    assert len(fleet.ask(text, continuation_token=first.continuation_token).items) == 20
    assert len(fleet.ask(text, max_item_count=1000).items) == 120


def test_a_forged_continuation_is_refused(fleet):
    refused(400, "ArgumentInvalid", fleet.ask, "SELECT * FROM devices", continuation_token="forged")


NONSENSE = {
    "nothing": "",
    "no FROM": "SELECT *",
    "no list": "SELECT FROM devices",
    "an unknown collection": "SELECT * FROM gadgets",
    "an open parenthesis": "SELECT * FROM devices WHERE (tags.n = 1",
    "an open text": "SELECT * FROM devices WHERE tags.n = 'x",
    "an open array": "SELECT * FROM devices WHERE tags.n IN [1, 2",
    "an unknown function": "SELECT * FROM devices WHERE NONSENSE(tags.n)",
    "an argument too few": "SELECT * FROM devices WHERE STARTSWITH(tags.n)",
    "an operator too many": "SELECT * FROM devices WHERE tags.n = = 1",
    "something left over": "SELECT * FROM devices WHERE tags.n = 1 1",
    "an attribute beside an aggregate": "SELECT deviceId, COUNT() FROM devices",
    "a regular expression": "SELECT * FROM devices WHERE REGEX_MATCH(deviceId, '(a+)+$')",
    "a join": "SELECT * FROM devices JOIN m IN devices.modules",
    "ORDER BY": "SELECT * FROM devices ORDER BY deviceId",
    "a control character": "SELECT * FROM devices WHERE tags.n = \u0000",
    "deep parentheses": "SELECT * FROM devices WHERE " + "(" * 4000 + "1 = 1" + ")" * 4000,
    "many negations": "SELECT * FROM devices WHERE " + "NOT " * 2000 + "tags.n = 1",
    "a thousand clauses": "SELECT * FROM devices WHERE " + " OR ".join(["tags.n=1"] * 1500),
    "a very long text": "SELECT * FROM devices WHERE tags.n = '" + "x" * 100_000 + "'",
}


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE.keys())
def test_what_is_no_query_is_refused_and_the_place_named(fleet, text):
    assert re.search(r"\d", refused(400, "ArgumentInvalid", fleet.ask, text))


@pytest.mark.parametrize("policy", ["device", "registryRead", "registryReadWrite"])
def test_queries_are_for_the_policy_service(hub, policy):
    query = QuerySpecification(query="SELECT * FROM devices")
    narrow = IoTHubRegistryManager.from_connection_string(hub.policy(policy))
    refused(401, "IotHubUnauthorizedAccess", narrow.query_iot_hub, query)
    IoTHubRegistryManager.from_connection_string(hub.policy("service")).query_iot_hub(query)
