package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
)

// memJobs keeps jobs in a map, and their ids in order beside it.
type memJobs struct {
	mu     sync.RWMutex
	jobs   map[string]*memJob
	order  orderedIDs
	writes int64 // counts writes; the versions come from it
}

// memJob is a job with its devices, in ascending order of their ids.
type memJob struct {
	Job
	devices []DeviceJob
}

// reset empties it. Versions are not given a second time.
func (m *memJobs) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs, m.order = map[string]*memJob{}, orderedIDs{}
}

// Create implements Jobs.
func (m *memJobs) Create(_ context.Context, job Job) (Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.jobs[job.ID] != nil {
		return Job{}, ErrExists
	}
	m.writes++
	job.ID, job.Version, job.Statistics = strings.Clone(job.ID), m.writes, JobStatistics{}
	m.jobs[job.ID] = &memJob{Job: job}
	m.order.add(job.ID)
	return job, nil
}

// Get implements Jobs.
func (m *memJobs) Get(_ context.Context, id string) (Job, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if j := m.jobs[id]; j != nil {
		return j.Job, nil
	}
	return Job{}, ErrNotFound
}

// Update implements Jobs.
func (m *memJobs) Update(_ context.Context, job Job) (Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[job.ID]
	if j == nil {
		return Job{}, ErrNotFound
	}
	if j.Version != job.Version {
		return Job{}, ErrConflict
	}
	m.writes++
	job.ID, job.Version, job.Statistics = j.ID, m.writes, j.Statistics
	j.Job = job
	return job, nil
}

// Delete implements Jobs.
func (m *memJobs) Delete(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.jobs[id] == nil {
		return ErrNotFound
	}
	delete(m.jobs, id)
	m.order.remove(id)
	return nil
}

// List implements Jobs.
func (m *memJobs) List(_ context.Context, after string, limit int) ([]Job, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	ids := m.order.after(after, limit)
	list := make([]Job, len(ids))
	for i, id := range ids {
		list[i] = m.jobs[id].Job
	}
	return list, nil
}

// AddDevices implements Jobs.
func (m *memJobs) AddDevices(_ context.Context, jobID string, devices []Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[jobID]
	if j == nil {
		return ErrNotFound
	}
	for _, key := range devices {
		j.devices = append(j.devices, DeviceJob{Key: key, Status: DevicePending})
	}
	j.Statistics.Devices += len(devices)
	j.Statistics.Pending += len(devices)
	return nil
}

// SetDevice implements Jobs.
func (m *memJobs) SetDevice(_ context.Context, jobID string, device DeviceJob) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[jobID]
	if j == nil {
		return ErrNotFound
	}
	at, found := j.locate(device.Key)
	if !found {
		return ErrNotFound
	}
	j.Statistics.count(j.devices[at].Status, -1)
	j.Statistics.count(device.Status, 1)
	device.Key = j.devices[at].Key
	j.devices[at] = device
	return nil
}

// count adds to the number that a status belongs to. A device where the job was canceled is none of failed, succeeded, running and pending.
func (s *JobStatistics) count(status DeviceJobStatus, by int) {
	switch status {
	case DevicePending:
		s.Pending += by
	case DeviceRunning:
		s.Running += by
	case DeviceCompleted:
		s.Succeeded += by
	case DeviceFailed:
		s.Failed += by
	case DeviceCanceled:
	}
}

func (j *memJob) locate(key Key) (at int, found bool) {
	return slices.BinarySearchFunc(j.devices, key, func(d DeviceJob, key Key) int {
		return cmp.Or(strings.Compare(d.DeviceID, key.DeviceID), strings.Compare(d.ModuleID, key.ModuleID))
	})
}

// Devices implements Jobs.
func (m *memJobs) Devices(_ context.Context, after DeviceJobKey, limit int, rows []DeviceJobRow) ([]DeviceJobRow, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	until := len(rows) + limit
	if j := m.jobs[after.JobID]; j != nil {
		at, found := j.locate(after.Key)
		if found {
			at++
		}
		rows = j.appendRows(rows, at, until)
	}
	for last := after.JobID; len(rows) < until; {
		ids := m.order.after(last, 1)
		if len(ids) == 0 {
			break
		}
		last = ids[0]
		rows = m.jobs[last].appendRows(rows, 0, until)
	}
	return rows, nil
}

func (j *memJob) appendRows(rows []DeviceJobRow, from, until int) []DeviceJobRow {
	for _, d := range j.devices[from:] {
		if len(rows) == until {
			break
		}
		rows = append(rows, DeviceJobRow{Job: j.Job, DeviceJob: d})
	}
	return rows
}
