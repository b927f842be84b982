package hub

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/store"
)

// Bounds on what a hub remembers and does of jobs. The first is the real hub's, the others Iolite's own.
const (
	jobHistory      = 30 * 24 * time.Hour // after a job's end
	maxJobsKept     = 10_000              // that are over; the oldest go first
	maxDevicesKept  = 500_000             // of jobs that are over
	maxBytesKept    = 64 << 20            // of their bodies and of what their devices answered
	maxJobResponses = 16 << 20            // bytes of payloads that the devices of one job answered
	jobScan         = 256                 // twins looked at in one go
	jobCalls        = 500                 // direct methods of one job that wait for responses at once
)

var (
	errJobTimedOut  = errors.New("maxExecutionTimeInSeconds is over")
	errJobCancelled = errors.New("the job was cancelled")
)

// jobs runs the scheduled jobs of a hub. mu is of level 0.
type jobs struct {
	hub   *Hub
	store store.Jobs

	mu       sync.Mutex
	active   map[string]*jobRun
	finished []finishedJob // in the order of their ends
	devices  int           // of finished ones
	bytes    int           // of finished ones
}

// finishedJob is a job that is over, and when.
type finishedJob struct {
	id      string
	era     int64
	end     time.Time
	devices int
	bytes   int
}

// jobRun is a job that is not over yet.
type jobRun struct {
	id    string
	era   int64
	body  int // bytes
	order jobOrder
	most  time.Duration // that it may take
	start *clock.Timer  // nil when it began at once
	ctx   context.Context
	stop  context.CancelCauseFunc

	mu        sync.Mutex
	responses int // bytes that devices answered and that are kept
}

// begin stores a job and has it run at its time.
func (j *jobs) begin(ctx context.Context, era int64, job store.Job, order jobOrder) (store.Job, error) {
	j.expire()
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.store.Get(ctx, job.ID); err == nil {
		return store.Job{}, j.hub.NewError(CodeJobAlreadyExists, job.ID)
	}
	if len(j.active) >= maxActiveJobs {
		return store.Job{}, j.hub.NewError(CodeTooManyJobs, strconv.Itoa(maxActiveJobs))
	}
	if j.hub.closed.Load() || !j.hub.enter(0, era) { // Close is not kept waiting for a job that it does not see
		return store.Job{}, j.hub.NewError(CodeClosed)
	}
	defer j.hub.leave(0)
	created, err := j.store.Create(ctx, job)
	if errors.Is(err, store.ErrExists) {
		return store.Job{}, j.hub.NewError(CodeJobAlreadyExists, job.ID)
	}
	if err != nil {
		return store.Job{}, err
	}
	r := &jobRun{id: created.ID, era: era, body: order.bytes, order: order, most: job.MaxExecution}
	r.ctx, r.stop = context.WithCancelCause(context.Background())
	j.active[r.id] = r
	if job.Status == jobScheduled {
		r.start = j.hub.clock.At(job.Start, func() { j.launch(r) })
		return created, nil
	}
	j.launch(r)
	return created, nil
}

// launch has a job run on a goroutine of its own, which ends with the job, its time limit, a reset or the hub.
func (j *jobs) launch(r *jobRun) {
	if !j.hub.pushes.run(func() { j.run(r) }) {
		r.end()
	}
}

// bytes is how much is remembered of a job, besides its devices.
func (r *jobRun) bytes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.body + r.responses
}

// end lets go of a run.
func (r *jobRun) end() {
	r.stop(errJobCancelled)
	if r.start != nil {
		r.start.Stop()
	}
}

// run does what a job is to do. Its time counts from here: a clock that jumps over its start and on does not end it.
func (j *jobs) run(r *jobRun) {
	j.mu.Lock()
	current := j.active[r.id] == r
	j.mu.Unlock()
	if !current { // a reset came first
		return
	}
	defer j.finish(r)
	j.hub.clock.Settle()
	limit := j.hub.clock.AfterFunc(r.most, func() { r.stop(errJobTimedOut) })
	defer limit.Stop()
	_, err := j.change(r.ctx, r.era, r.id, func(job *store.Job) error {
		if isFinal(job.Status) {
			return errJobCancelled
		}
		job.Status = jobRunning
		return nil
	})
	if err != nil {
		return
	}
	targets, err := j.targets(r)
	switch {
	case err != nil:
		for _, key := range targets {
			if !j.settle(r, store.DeviceJob{Key: key}, err) {
				return
			}
		}
	case r.order.call.Name != "":
		j.callAll(r, targets)
	default:
		for _, key := range targets {
			if !j.updateOne(r, key) {
				return
			}
		}
	}
}

// targets finds the devices or modules of a job, and notes them.
func (j *jobs) targets(r *jobRun) (all []store.Key, err error) {
	if ids, bounded := r.order.condition.DeviceIDs(); bounded && !r.order.condition.modules() {
		return j.chosen(r, ids)
	}
	var rows []store.TwinRow
	for after := (store.Key{}); ; after = rows[len(rows)-1].Key {
		if rows, err = j.hub.twins.Scan(r.ctx, r.order.condition.modules(), after, jobScan, rows[:0]); err != nil || len(rows) == 0 {
			return all, err
		}
		before := len(all)
		for i := range rows {
			if r.ctx.Err() != nil {
				return all[:before], context.Cause(r.ctx)
			}
			completeTwin(&rows[i])
			if r.order.condition.matches(j.hub.queryRow(r.ctx, &rows[i])) {
				all = append(all, rows[i].Key)
			}
		}
		if err := j.inEra(r, 0, func() error { return j.store.AddDevices(r.ctx, r.id, all[before:]) }); err != nil {
			return all[:before], err
		}
	}
}

// chosen is targets for a condition that names all devices it can be true for, in ascending order.
func (j *jobs) chosen(r *jobRun, ids []string) (all []store.Key, err error) {
	for _, id := range ids {
		row, err := j.hub.twinRow(r.ctx, store.Key{DeviceID: id})
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.order.condition.matches(j.hub.queryRow(r.ctx, &row)) {
			all = append(all, row.Key)
		}
	}
	return all, j.inEra(r, 0, func() error { return j.store.AddDevices(r.ctx, r.id, all) })
}

// errEraOver ends a run whose job a reset has forgotten.
var errEraOver = errors.New("the hub was reset")

// inEra does something that belongs to the era of a run, through a gate. errEraOver when that is over.
func (j *jobs) inEra(r *jobRun, gate int, f func() error) error {
	if !j.hub.enter(gate, r.era) {
		return errEraOver
	}
	defer j.hub.leave(gate)
	return f()
}

// callAll calls the job's method on every target. Slow devices hold up nobody until there are jobCalls of them.
func (j *jobs) callAll(r *jobRun, targets []store.Key) {
	places := make(chan struct{}, jobCalls)
	var calls sync.WaitGroup
	defer calls.Wait()
	for _, key := range targets {
		places <- struct{}{} // each place comes free when its call's time is over, at the latest
		if j.hub.era.Load() != r.era {
			return
		}
		calls.Go(func() {
			defer func() { <-places }()
			j.callOne(r, key)
		})
	}
}

func (j *jobs) callOne(r *jobRun, key store.Key) {
	d := store.DeviceJob{Key: key, Status: store.DeviceRunning, Started: j.hub.clock.Now()}
	if err := context.Cause(r.ctx); err != nil {
		j.settle(r, d, err)
		return
	}
	j.note(r, d)
	result, err := j.hub.invoke(r.ctx, key, r.order.call)
	if err == nil {
		d.Response = r.response(j.hub, result)
	}
	j.settle(r, d, err)
}

// response keeps what a device answered, as long as the job has room for it.
func (r *jobRun) response(h *Hub, result MethodResult) *store.MethodResponse {
	kept := &store.MethodResponse{Status: result.Status, Payload: document.NullValue}
	r.mu.Lock()
	room := r.responses+len(result.Payload) <= maxJobResponses
	if room {
		r.responses += len(result.Payload)
	}
	r.mu.Unlock()
	if !room {
		h.log.Warn("a job's devices answered too much: this payload is forgotten", "category", JobsOperations, "jobId", r.id, "bytes", len(result.Payload), "limit", maxJobResponses)
		return kept
	}
	if v, err := document.Parse(result.Payload); err == nil { // too deep, at the worst
		kept.Payload = v
	}
	return kept
}

// updateOne reports false when the job is forgotten.
func (j *jobs) updateOne(r *jobRun, key store.Key) bool {
	d := store.DeviceJob{Key: key, Started: j.hub.clock.Now()}
	err := context.Cause(r.ctx)
	if err == nil {
		_, err = j.hub.changeTwin(r.ctx, r.era, key, r.order.ifMatch, twinWrite(mergeTwin).with(r.order.update))
	}
	return j.settle(r, d, err)
}

// settle notes how a job went at a device. It reports false when the job is forgotten.
func (j *jobs) settle(r *jobRun, d store.DeviceJob, err error) bool {
	d.Ended, d.Status = j.hub.clock.Now(), store.DeviceCompleted
	if cause := context.Cause(r.ctx); err != nil && cause != nil {
		err = cause
	}
	switch {
	case err == nil:
	case errors.Is(err, errJobCancelled):
		d.Status = store.DeviceCanceled
	case errors.Is(err, errJobTimedOut):
		d.Status, d.Problem = store.DeviceFailed, &store.JobProblem{Code: "GatewayTimeout", Description: err.Error()}
	default:
		e, created := AsError(err)
		if created {
			j.hub.log.Error("a job failed at a device", "category", JobsOperations, "jobId", r.id, "deviceId", d.Key.DeviceID, "moduleId", d.Key.ModuleID, "error", err, "trackingId", e.TrackingID)
		}
		d.Status, d.Problem = store.DeviceFailed, &store.JobProblem{Code: e.Name, Description: e.Text}
	}
	return j.note(r, d)
}

// note stores what has become of a job at a device. It reports false when a reset has forgotten the job.
func (j *jobs) note(r *jobRun, d store.DeviceJob) bool {
	wanted := j.hub.noticed(r.ctx, &jobNotice)
	gate := j.hub.gateFor(wanted, d.Key)
	err := j.inEra(r, gate, func() error {
		err := j.store.SetDevice(context.WithoutCancel(r.ctx), r.id, d)
		if err == nil && wanted {
			err = j.notify(r.ctx, gate, r.id, d)
		}
		return err
	})
	if err != nil && !errors.Is(err, errEraOver) {
		j.hub.log.Error("what has become of a job cannot be stored", "category", JobsOperations, "jobId", r.id, "deviceId", d.Key.DeviceID, "moduleId", d.Key.ModuleID, "error", err)
	}
	return !errors.Is(err, errEraOver)
}

// finish gives a job its last status, unless somebody else has.
func (j *jobs) finish(r *jobRun) {
	cause := context.Cause(r.ctx)
	r.end()
	job, err := j.change(context.Background(), r.era, r.id, func(job *store.Job) error {
		if isFinal(job.Status) {
			return nil
		}
		job.Status, job.End = jobCompleted, j.hub.clock.Now()
		switch {
		case errors.Is(cause, errJobTimedOut):
			job.Status, job.FailureReason = jobFailed, cause.Error()
		case cause != nil:
			job.Status = jobCancelled
		}
		return nil
	})
	if err == nil {
		j.hub.jobEnded(job)
	}
	j.retire(r, job, err)
}

// jobEnded counts a job that has come to its end and says so.
func (h *Hub) jobEnded(job store.Job) {
	op, level := opJobCompleted, slog.LevelInfo
	switch job.Status {
	case jobFailed:
		op, level = opJobFailed, slog.LevelError
	case jobCancelled:
		return // CancelJob has said so
	}
	h.metrics.operations[op][0].success.Add(1)
	h.note(level, op, store.Key{}, "job ended", slog.String("jobId", job.ID), slog.String("status", job.Status), slog.String("filter", job.Condition),
		slog.Int("devices", job.Statistics.Devices), slog.Int("failed", job.Statistics.Failed))
}

// change changes a job until nobody has come in between. CodeClosed when the era is over, CodeJobNotFound.
func (j *jobs) change(ctx context.Context, era int64, id string, change func(*store.Job) error) (store.Job, error) {
	for {
		job, err := j.store.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return job, j.hub.NewError(CodeJobNotFound, id)
		}
		if err != nil {
			return job, err
		}
		if err := change(&job); err != nil {
			return job, err
		}
		if !j.hub.enter(0, era) {
			return job, j.hub.NewError(CodeClosed)
		}
		updated, err := j.store.Update(ctx, job)
		j.hub.leave(0)
		if !errors.Is(err, store.ErrConflict) {
			return updated, err
		}
	}
}

// cancel stops a job that CancelJob has ended.
func (j *jobs) cancel(id string, job store.Job) {
	j.mu.Lock()
	r := j.active[id]
	j.mu.Unlock()
	if r == nil {
		return
	}
	waiting := r.start != nil && r.start.Stop() // then it will never run
	r.end()
	if waiting {
		j.retire(r, job, nil)
	}
}

// retire takes a run from the active ones and remembers that its job is over, unless it cannot be found any more.
func (j *jobs) retire(r *jobRun, job store.Job, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.active[r.id] == r {
		delete(j.active, r.id)
	}
	if err != nil {
		return // forgotten by a reset
	}
	f := finishedJob{id: r.id, era: r.era, end: job.End, devices: job.Statistics.Devices, bytes: r.bytes()}
	j.finished = append(j.finished, f)
	j.devices, j.bytes = j.devices+f.devices, j.bytes+f.bytes
	for len(j.finished) > 1 && (len(j.finished) > maxJobsKept || j.devices > maxDevicesKept || j.bytes > maxBytesKept) {
		j.forgetOldest()
	}
}

// expire forgets jobs that have been over for longer than the history goes.
func (j *jobs) expire() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.finished) > 0 && j.finished[0].end.Add(jobHistory).Before(j.hub.clock.Now()) {
		j.forgetOldest()
	}
}

// forgetOldest forgets the job that has been over for the longest time. The caller holds mu.
func (j *jobs) forgetOldest() {
	old := j.finished[0]
	j.finished = j.finished[1:]
	j.devices, j.bytes = j.devices-old.devices, j.bytes-old.bytes
	if !j.hub.enter(0, old.era) {
		return
	}
	defer j.hub.leave(0)
	if err := j.store.Delete(context.Background(), old.id); err != nil {
		j.hub.log.Error("an old job cannot be deleted", "category", JobsOperations, "jobId", old.id, "error", err)
	}
}

// clear ends all jobs of former eras, and in a closed hub every job. What they still do has no effect.
func (j *jobs) clear() {
	j.mu.Lock()
	defer j.mu.Unlock()
	era, closed := j.hub.era.Load(), j.hub.closed.Load()
	for id, r := range j.active {
		if closed || r.era != era {
			r.end()
			delete(j.active, id)
		}
	}
	j.finished = slices.DeleteFunc(j.finished, func(f finishedJob) bool { return f.era != era })
	j.devices, j.bytes = 0, 0
	for _, f := range j.finished {
		j.devices, j.bytes = j.devices+f.devices, j.bytes+f.bytes
	}
}
