package hub

import (
	"context"

	"github.com/iolite-emulator/iolite/store"
)

// jobOperations are the operations of job lifecycle events. Their names are Iolite's own.
var jobOperations = map[store.DeviceJobStatus]string{
	store.DeviceRunning:   "deviceJobRunning",
	store.DeviceCompleted: "deviceJobCompleted",
	store.DeviceFailed:    "deviceJobFailed",
	store.DeviceCanceled:  "deviceJobCanceled",
}

// notify tells what has become of a job at a device: the body is the row that a query over devices.jobs has. The caller is inside the gate.
func (j *jobs) notify(ctx context.Context, gate int, id string, d store.DeviceJob) error {
	job, err := j.store.Get(context.WithoutCancel(ctx), id)
	if err != nil {
		return err
	}
	n := notice{kind: &jobNotice, opType: jobOperations[d.Status], correlationID: j.hub.newCorrelationID(), at: latest(d.Started, d.Ended)}
	n.body = jobAt(&store.DeviceJobRow{Job: job, DeviceJob: d}).AppendJSON(nil)
	return j.hub.notify(ctx, gate, d.Key, n)
}
