package store

import (
	"context"
	"time"

	"github.com/iolite-emulator/iolite/document"
)

// Job is a scheduled job: one operation on every device, or module, that a condition is true for.
type Job struct {
	ID            string
	Version       int64          // set by the engine on every write of the job itself, and never given twice
	Type          string         // scheduleUpdateTwin or scheduleDeviceMethod
	Condition     string         // of a query over devices
	Update        document.Value // updateTwin, or Undefined
	Method        document.Value // cloudToDeviceMethod, or Undefined
	MaxExecution  time.Duration
	Status        string
	FailureReason string
	StatusMessage string
	Created       time.Time
	Start         time.Time     // planned, later the one it had
	End           time.Time     // zero while the job is not over
	Statistics    JobStatistics // kept by the engine
}

// JobStatistics count the devices of a job by what has become of its operation there.
type JobStatistics struct{ Devices, Failed, Succeeded, Running, Pending int }

// DeviceJobStatus says what has become of a job at one device.
type DeviceJobStatus string

// The statuses of a job at one device.
const (
	DevicePending   DeviceJobStatus = "pending"
	DeviceRunning   DeviceJobStatus = "running"
	DeviceCompleted DeviceJobStatus = "completed"
	DeviceFailed    DeviceJobStatus = "failed"
	DeviceCanceled  DeviceJobStatus = "canceled"
)

// DeviceJob is what has become of a job at one device, or module.
type DeviceJob struct {
	Key
	Status         DeviceJobStatus
	Started, Ended time.Time       // zero when not yet
	Response       *MethodResponse // of a direct method that was answered; never changed
	Problem        *JobProblem     // of a failure; never changed
}

// MethodResponse is what a device answered to a direct method.
type MethodResponse struct {
	Status  int
	Payload document.Value
}

// JobProblem is why a job failed at a device.
type JobProblem struct{ Code, Description string }

// DeviceJobKey names a job at a device or module.
type DeviceJobKey struct {
	JobID string
	Key
}

// DeviceJobRow is a job at a device together with the job.
type DeviceJobRow struct {
	Job Job
	DeviceJob
}

// Jobs keeps scheduled jobs, and what has become of each at its devices.
type Jobs interface {
	// Create adds a job and returns it with its version; ErrExists.
	Create(ctx context.Context, job Job) (Job, error)
	// Get returns a job; ErrNotFound.
	Get(ctx context.Context, id string) (Job, error)
	// Update replaces a job, its statistics aside; ErrNotFound; ErrConflict unless the stored one has the same version.
	Update(ctx context.Context, job Job) (Job, error)
	// Delete removes a job with its devices; ErrNotFound.
	Delete(ctx context.Context, id string) error
	// List returns up to limit jobs with an id greater than after, in id order.
	List(ctx context.Context, after string, limit int) ([]Job, error)
	// AddDevices notes devices that the job is pending for, in ascending order and after those noted before; ErrNotFound.
	AddDevices(ctx context.Context, jobID string, devices []Key) error
	// SetDevice replaces what is noted of a job at a device; ErrNotFound.
	SetDevice(ctx context.Context, jobID string, device DeviceJob) error
	// Devices appends to rows up to limit jobs at devices whose keys follow after, in ascending order of job, device and module id. It appends
	// none when there are no more.
	Devices(ctx context.Context, after DeviceJobKey, limit int, rows []DeviceJobRow) ([]DeviceJobRow, error)
}
