"""Scheduled jobs, as azure-iot-hub makes them."""

import uuid

from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import CloudToDeviceMethod, JobRequest, QuerySpecification, Twin, TwinProperties

from conftest import make_device
from eventually import eventually
from service import plain

FINAL = ("completed", "failed", "cancelled")


class Jobs:
    """A job manager, and three devices that no other test's jobs mean."""

    def __init__(self, hub, registry):
        self.hub, self.registry = hub, registry
        self.manager = IoTHubJobManager.from_connection_string(hub.owner)
        self.group = uuid.uuid4().hex
        self.devices = [self.add() for _ in range(3)]
        self.condition = f"tags.party = '{self.group}'"

    def add(self):
        device = make_device(self.hub, self.registry)
        self.registry.update_twin(device.id, Twin(tags={"party": self.group}))
        return device

    def create(self, job_id=None, **fields):
        job_id = job_id or f"job-{uuid.uuid4()}"
        return self.manager.create_scheduled_job(job_id, JobRequest(**{
            "job_id": job_id, "query_condition": self.condition, "max_execution_time_in_seconds": 60, **fields,
        }))

    def update(self, desired=None, tags=None, etag="*", **fields):
        twin = Twin(etag=etag, tags=tags, properties=TwinProperties(desired=desired))
        return self.create(type="scheduleUpdateTwin", update_twin=twin, **fields)

    def call(self, name, payload=None, response_timeout=None, **fields):
        method = CloudToDeviceMethod(method_name=name, payload=payload, response_timeout_in_seconds=response_timeout)
        return self.create(type="scheduleDeviceMethod", cloud_to_device_method=method, **fields)

    def get(self, job_id):
        return self.manager.get_scheduled_job(job_id)

    def end(self, job_id):
        """Waits for the end of a job."""
        return eventually(lambda: (job := self.get(job_id)).status in FINAL and job)

    def rows(self, job_id, condition="IS_DEFINED(deviceId)"):
        """What the job did to each device, by its id. The SDK makes twins of the rows, and keeps what twins do not have aside."""
        text = f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job_id}' AND {condition}"
        result = self.registry.query_iot_hub(QuerySpecification(query=text))
        assert result.type == "DeviceJob"
        return {item.device_id: {"status": item.status, **item.additional_properties} for item in result.items}

    def desired(self, device):
        return plain(self.registry.get_twin(device.id).properties.desired)
