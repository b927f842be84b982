"""Scheduled jobs through azure-iot-hub: what they do, to whom, when, and what they tell of it."""

import datetime
import uuid

import pytest
from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import CloudToDeviceMethod, JobRequest, Twin, TwinProperties
from msrest.exceptions import DeserializationError

from conftest import make_module
from devices import answer_methods, connected, method_requests
from eventually import eventually
from jobs import Jobs
from refusals import refusal_text, refused
from rest import Rest
from service import plain

ACTIVE = 10


@pytest.fixture
def jobs(hub, registry):
    return Jobs(hub, registry)


@pytest.fixture
def moved_jobs(moved):
    return Jobs(moved.hub, moved.registry)


def counts(job):
    statistics = job.device_job_statistics
    return (statistics.device_count, statistics.succeeded_count, statistics.failed_count,
            statistics.running_count, statistics.pending_count)


def test_a_job_updates_the_twins_that_its_condition_selects(jobs, device):
    made = jobs.update(desired={"interval": 5, "o": {"a": 1}}, tags={"updated": True})
    assert made.type == "scheduleUpdateTwin"
    assert made.status in ("enqueued", "queued", "scheduled", "running", "completed")
    assert made.query_condition == jobs.condition
    assert made.max_execution_time_in_seconds == 60
    assert made.created_time and made.start_time
    done = jobs.end(made.job_id)
    assert (done.status, done.job_id) == ("completed", made.job_id)
    assert counts(done) == (3, 3, 0, 0, 0)
    assert done.start_time <= done.end_time
    for target in jobs.devices:
        twin = jobs.registry.get_twin(target.id)
        assert plain(twin.properties.desired) == {"interval": 5, "o": {"a": 1}}
        assert twin.tags == {"party": jobs.group, "updated": True}
    assert jobs.desired(device) == {}, "a device outside the condition"


def test_a_job_deletes_with_null(jobs):
    jobs.end(jobs.update(desired={"keep": 1, "gone": 1}).job_id)
    jobs.end(jobs.update(desired={"gone": None}).job_id)
    assert [jobs.desired(target) for target in jobs.devices] == [{"keep": 1}] * 3


def test_a_job_updates_by_id(jobs):
    named = [jobs.devices[0].id, jobs.devices[2].id]
    done = jobs.end(jobs.update(desired={"n": 1}, query_condition=f"deviceId IN {named}").job_id)
    assert counts(done) == (2, 2, 0, 0, 0)
    assert [jobs.desired(target) for target in jobs.devices] == [{"n": 1}, {}, {"n": 1}]


def test_a_job_tells_what_became_of_each_device(jobs):
    job_id = jobs.end(jobs.update(desired={"n": 1}).job_id).job_id
    rows = jobs.rows(job_id)
    assert set(rows) == {device.id for device in jobs.devices}
    for row in rows.values():
        assert (row["jobId"], row["jobType"], row["status"]) == (job_id, "scheduleUpdateTwin", "completed")
        times = {name: datetime.datetime.fromisoformat(value) for name, value in row.items() if name.endswith("Utc")}
        assert times["startTimeUtc"] <= times["endTimeUtc"]
        assert times["createdDateTimeUtc"] <= times["lastUpdatedDateTimeUtc"]
        assert "error" not in row


def test_what_became_of_devices_is_asked_for_by_condition(jobs):
    with connected(jobs.devices[0]) as client:
        answer_methods(client, lambda request: (207, {"n": 1}))
        job_id = jobs.end(jobs.call("m", {}).job_id).job_id
    ids = [device.id for device in jobs.devices]
    for condition, wanted in {
        "devices.jobs.status = 'completed'": ids[:1],
        "status = 'failed'": ids[1:],
        f"deviceId = '{ids[2]}'": ids[2:],
        "devices.jobs.outcome.deviceMethodResponse.status = 207": ids[:1],
        "devices.jobs.jobType = 'scheduleUpdateTwin'": [],
        "devices.jobs.createdTimeUtc > '2020-01-01'": ids,
    }.items():
        assert set(jobs.rows(job_id, condition)) == set(wanted), condition


def test_a_job_for_nobody_is_done_at_once(jobs):
    done = jobs.end(jobs.update(desired={"n": 1}, query_condition="tags.party = 'nobody'").job_id)
    assert (done.status, counts(done)) == ("completed", (0, 0, 0, 0, 0))


def test_a_twin_job_writes_on_connected_devices(jobs):
    with connected(jobs.devices[0]) as client:
        patches = []
        client.on_twin_desired_properties_patch_received = patches.append
        jobs.end(jobs.update(desired={"n": 1}).job_id)
        assert eventually(lambda: patches) == [{"n": 1, "$version": 2}]


def test_a_job_calls_a_method_on_each_device(jobs):
    jobs.registry.update_twin(jobs.devices[2].id, Twin(tags={"party": None}))
    with connected(jobs.devices[0]) as one, connected(jobs.devices[1]) as two:
        answer_methods(one, lambda request: (200, {"got": request.payload, "name": request.name}))
        answer_methods(two, lambda request: (500, "no"))
        done = jobs.end(jobs.call("reboot", {"in": 5}).job_id)
    assert (done.type, done.status, counts(done)) == ("scheduleDeviceMethod", "completed", (2, 2, 0, 0, 0))
    assert done.cloud_to_device_method.method_name == "reboot"
    rows = jobs.rows(done.job_id)
    assert rows[jobs.devices[0].id]["outcome"]["deviceMethodResponse"] == {
        "status": 200, "payload": {"got": {"in": 5}, "name": "reboot"},
    }
    assert rows[jobs.devices[1].id]["outcome"]["deviceMethodResponse"] == {"status": 500, "payload": "no"}


def test_a_job_that_fails_at_one_device_is_done_at_the_others(jobs):
    with connected(jobs.devices[0]) as one, connected(jobs.devices[1]) as two:
        answer_methods(one, lambda request: (200, None))
        answer_methods(two, lambda request: (200, None))
        done = jobs.end(jobs.call("m", {}).job_id)
    assert counts(done) == (3, 2, 1, 0, 0)
    rows = jobs.rows(done.job_id)
    assert [rows[device.id]["status"] for device in jobs.devices] == ["completed", "completed", "failed"]
    error = rows[jobs.devices[2].id]["error"]
    assert "DeviceNotOnline" in error["code"] or "404103" in error["code"]
    assert error["description"]


def test_a_twin_that_cannot_take_the_update_fails_alone(jobs):
    almost_full = {"fill": {f"f{n}": "x" * 4000 for n in range(8)}}
    jobs.registry.update_twin(jobs.devices[1].id, Twin(properties=TwinProperties(desired=almost_full)))
    done = jobs.end(jobs.update(desired={"more": "x" * 4000}).job_id)
    assert counts(done) == (3, 2, 1, 0, 0)
    assert jobs.desired(jobs.devices[0]) == jobs.desired(jobs.devices[2]) == {"more": "x" * 4000}
    assert jobs.desired(jobs.devices[1]) == almost_full


def test_jobs_reach_modules(jobs):
    module = make_module(jobs.hub, jobs.registry, jobs.devices[0].id)
    jobs.registry.update_module_twin(module.id, module.module_id, Twin(tags={"party": jobs.group}))
    condition = f"FROM devices.modules WHERE tags.party = '{jobs.group}'"
    done = jobs.end(jobs.update(desired={"n": 1}, query_condition=condition).job_id)
    assert counts(done) == (1, 1, 0, 0, 0)
    assert plain(jobs.registry.get_module_twin(module.id, module.module_id).properties.desired) == {"n": 1}
    assert jobs.desired(jobs.devices[0]) == {}


def test_a_job_waits_for_its_start(moved_jobs):
    start = moved_jobs.hub.now() + datetime.timedelta(minutes=5)
    made = moved_jobs.update(desired={"n": 1}, start_time=start)
    assert made.status in ("scheduled", "enqueued", "queued")
    moved_jobs.hub.advance("4m")
    assert moved_jobs.get(made.job_id).status == "scheduled"
    assert [moved_jobs.desired(device) for device in moved_jobs.devices] == [{}, {}, {}]
    moved_jobs.hub.advance("2m")
    assert moved_jobs.end(made.job_id).status == "completed"
    assert [moved_jobs.desired(device) for device in moved_jobs.devices] == [{"n": 1}] * 3


def test_a_cancelled_job_does_nothing(moved_jobs):
    start = moved_jobs.hub.now() + datetime.timedelta(minutes=1)
    made = moved_jobs.update(desired={"n": 1}, start_time=start)
    assert moved_jobs.manager.cancel_scheduled_job(made.job_id).status == "cancelled"
    moved_jobs.hub.advance("2m")
    assert moved_jobs.get(made.job_id).status == "cancelled"
    assert [moved_jobs.desired(device) for device in moved_jobs.devices] == [{}, {}, {}]
    refused(405, "OperationNotAllowedInCurrentState", moved_jobs.manager.cancel_scheduled_job, made.job_id)


def test_a_job_can_be_cancelled_while_devices_are_silent(jobs):
    with connected(jobs.devices[0]) as client:
        requests = method_requests(client)
        made = jobs.call("sleep", {}, response_timeout=300, query_condition=f"deviceId = '{jobs.devices[0].id}'")
        requests.take()
        assert eventually(lambda: (job := jobs.get(made.job_id)).status == "running" and job)
        assert jobs.manager.cancel_scheduled_job(made.job_id).status == "cancelled"
    assert jobs.end(made.job_id).status == "cancelled"


def test_a_job_ends_when_its_time_is_over(moved_jobs):
    with connected(moved_jobs.devices[0]) as client:
        requests = method_requests(client)
        made = moved_jobs.call("sleep", {}, response_timeout=300, max_execution_time_in_seconds=30,
                               query_condition=f"deviceId = '{moved_jobs.devices[0].id}'")
        requests.take()
        moved_jobs.hub.advance("31s")
        done = moved_jobs.end(made.job_id)
    assert counts(done) == (1, 0, 1, 0, 0)


def test_a_silent_device_holds_up_no_other_device_and_no_other_job(jobs):
    with connected(jobs.devices[0]) as silent, connected(jobs.devices[1]) as quick, connected(jobs.devices[2]) as third:
        requests = method_requests(silent)
        for client in (quick, third):
            answer_methods(client, lambda request: (200, None))
        made = jobs.call("m", {}, response_timeout=60)
        requests.take()
        eventually(lambda: counts(jobs.get(made.job_id))[1] == 2)
        assert jobs.end(jobs.update(desired={"n": 1}).job_id).status == "completed"
        jobs.manager.cancel_scheduled_job(made.job_id)


def test_a_job_that_is_over_cannot_be_cancelled(jobs):
    done = jobs.end(jobs.update(desired={"n": 1}).job_id)
    refused(405, "OperationNotAllowedInCurrentState", jobs.manager.cancel_scheduled_job, done.job_id)


def test_an_unknown_job_is_of_unknown_type_and_status(jobs):
    unknown = jobs.get(f"job-{uuid.uuid4()}")
    assert (unknown.type, unknown.status) == ("unknown", "unknown")
    refused(404, "JobNotFound", jobs.manager.cancel_scheduled_job, f"job-{uuid.uuid4()}")


def test_a_job_id_serves_once(jobs):
    done = jobs.end(jobs.update(desired={"n": 1}).job_id)
    refused(409, "JobAlreadyExists", jobs.update, desired={"n": 2}, job_id=done.job_id)
    assert jobs.desired(jobs.devices[0]) == {"n": 1}


def test_the_ids_of_microsofts_samples_are_accepted(jobs):
    for prefix in ("twinjob-", "methodJob-"):
        assert jobs.end(jobs.update(desired={"n": 1}, job_id=prefix + str(uuid.uuid4())).job_id).status == "completed"


def test_a_start_without_a_zone_is_in_utc(jobs):
    made = jobs.update(desired={"n": 1}, start_time=datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None).isoformat())
    assert jobs.end(made.job_id).status == "completed"


def test_a_twin_job_needs_an_etag(jobs):
    text = refused(400, "ArgumentInvalid", jobs.update, desired={"n": 1}, etag=None)
    assert text.startswith("Missing or invalid etag for job type ScheduleUpdateTwin")


@pytest.mark.parametrize("fields", [
    {"job_id": "no spaces allowed"}, {"job_id": "x" * 65}, {"query_condition": "tags.n = "}, {"query_condition": ""},
    {"type": "scheduleNothing"}, {"update_twin": None},
    {"update_twin": Twin(etag="*", properties=TwinProperties(desired={"a.b": 1}))},
    {"start_time": datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=170)},
    {"max_execution_time_in_seconds": -1},
    {"type": "scheduleDeviceMethod", "cloud_to_device_method": None},
    {"type": "scheduleDeviceMethod", "cloud_to_device_method": CloudToDeviceMethod(method_name="")},
    {"type": "scheduleDeviceMethod", "cloud_to_device_method": CloudToDeviceMethod(method_name="m", response_timeout_in_seconds=301)},
], ids=[
    "a space in the id", "an id of 65", "a condition that ends early", "no condition", "an unknown type", "no update",
    "a forbidden name", "a start too far ahead", "a negative limit", "no method", "no name", "a time-out too long",
])
def test_what_is_no_job_is_refused(jobs, fields):
    twin = Twin(etag="*", properties=TwinProperties(desired={"n": 1}))
    refused(400, "ArgumentInvalid", jobs.create, **{"type": "scheduleUpdateTwin", "update_twin": twin, **fields})


def test_active_jobs_have_a_limit(moved_jobs):
    start = moved_jobs.hub.now() + datetime.timedelta(hours=24)
    made = [moved_jobs.update(desired={"n": n}, start_time=start) for n in range(ACTIVE)]
    try:
        refused(429, "ThrottlingMaxActiveJobCountExceeded", moved_jobs.update, desired={}, start_time=start)
    finally:
        for job in made:
            moved_jobs.manager.cancel_scheduled_job(job.job_id)
    moved_jobs.end(moved_jobs.update(desired={"n": 1}).job_id)


def test_jobs_are_listed_by_type_and_status_in_pages(jobs):
    made = [jobs.end(jobs.update(desired={"n": n}).job_id).job_id for n in range(3)]
    # azure-iot-hub takes the bare array for an object, whatever hub it speaks to.
    with pytest.raises(DeserializationError):
        jobs.manager.query_scheduled_jobs("scheduleUpdateTwin", "completed")

    rest, found, token = Rest(jobs.hub), [], None
    while True:
        headers = {"x-ms-max-item-count": "2", **({"x-ms-continuation": token} if token else {})}
        page = rest.ask("GET", "/jobs/v2/query", headers=headers, jobType="scheduleUpdateTwin", jobStatus="completed")
        assert (page.status, page.headers["x-ms-item-type"]) == (200, "JobResponse")
        assert len(page.body) <= 2
        found += page.body
        token = page.headers.get("x-ms-continuation")
        if not token:
            break
    assert set(made) <= {job["jobId"] for job in found}
    assert {(job["type"], job["status"]) for job in found} == {("scheduleUpdateTwin", "completed")}
    none = rest.ask("GET", "/jobs/v2/query", jobType="scheduleDeviceMethod", jobStatus="scheduled")
    assert none.body == []
    wrong = rest.ask("GET", "/jobs/v2/query", jobStatus="nonsense")
    refusal_text(wrong.status, wrong.headers, wrong.body, 400, "ArgumentInvalid")


@pytest.mark.parametrize("policy", ["device", "registryRead", "registryReadWrite"])
def test_jobs_are_for_the_policy_service(hub, policy):
    narrow = IoTHubJobManager.from_connection_string(hub.policy(policy))
    refused(401, "IotHubUnauthorizedAccess", narrow.get_scheduled_job, "job")
    refused(401, "IotHubUnauthorizedAccess", narrow.cancel_scheduled_job, "job")
    refused(401, "IotHubUnauthorizedAccess", narrow.create_scheduled_job, "job", JobRequest(job_id="job"))
    assert IoTHubJobManager.from_connection_string(hub.policy("service")).get_scheduled_job("job").status == "unknown"
