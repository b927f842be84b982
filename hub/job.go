package hub

import (
	"context"
	"strconv"

	"github.com/iolite-emulator/iolite/store"
)

// Job is a scheduled job.
type Job struct{ store.Job }

// JobQuery says which jobs are wanted. Empty fields mean all.
type JobQuery struct {
	Type, Status string // as in a Job; case does not matter
	Size         int    // of a page, 1..100; 0 for 100
	Continuation string // of the page before; empty for the first
}

// JobPage is one page of jobs.
type JobPage struct {
	Jobs         []Job
	Continuation string // for the next page; empty when this is the last
}

// ScheduleJob creates a job from the JSON body of PUT /jobs/v2/{id}. ServiceConnect. CodeArgumentInvalid, CodeJobAlreadyExists, CodeTooManyJobs.
func (s *ServiceSession) ScheduleJob(_ context.Context, _ string, _ []byte) (Job, error) {
	return Job{}, s.hub.NewError(CodeNotImplemented, "scheduled jobs")
}

// Job returns a job; of an id that is not known one whose type and status are "unknown". ServiceConnect.
func (s *ServiceSession) Job(_ context.Context, _ string) (Job, error) {
	return Job{}, s.hub.NewError(CodeNotImplemented, "scheduled jobs")
}

// CancelJob ends a job; what is under way at devices is not waited for. ServiceConnect. CodeJobNotFound, CodeInvalidState (it is over).
func (s *ServiceSession) CancelJob(_ context.Context, _ string) (Job, error) {
	return Job{}, s.hub.NewError(CodeNotImplemented, "scheduled jobs")
}

// QueryJobs returns a page of jobs. ServiceConnect. CodeArgumentInvalid.
func (s *ServiceSession) QueryJobs(_ context.Context, _ JobQuery) (JobPage, error) {
	return JobPage{}, s.hub.NewError(CodeNotImplemented, "scheduled jobs")
}

// AppendJSON appends the job as GET /jobs/v2/{id} answers it.
func (j *Job) AppendJSON(b []byte) []byte {
	b = appendText(append(b, `{"jobId":`...), j.ID)
	b = appendText(append(b, `,"type":`...), j.Type)
	b = appendText(append(b, `,"status":`...), j.Status)
	if j.Created.IsZero() { // unknown
		return append(b, '}')
	}
	b = appendText(append(b, `,"queryCondition":`...), j.Condition)
	b = appendTime(append(b, `,"createdTime":`...), j.Created)
	b = appendTime(append(b, `,"startTime":`...), j.Start)
	if !j.End.IsZero() {
		b = appendTime(append(b, `,"endTime":`...), j.End)
	}
	b = strconv.AppendInt(append(b, `,"maxExecutionTimeInSeconds":`...), int64(j.MaxExecution.Seconds()), 10)
	return append(j.appendDetails(b), '}')
}

// appendDetails appends what a job may have or not.
func (j *Job) appendDetails(b []byte) []byte {
	if j.Method.IsDefined() {
		b = j.Method.AppendJSON(append(b, `,"cloudToDeviceMethod":`...))
	}
	if j.Update.IsDefined() {
		b = j.Update.AppendJSON(append(b, `,"updateTwin":`...))
	}
	if j.FailureReason != "" {
		b = appendText(append(b, `,"failureReason":`...), j.FailureReason)
	}
	if j.StatusMessage != "" {
		b = appendText(append(b, `,"statusMessage":`...), j.StatusMessage)
	}
	st := j.Statistics
	b = strconv.AppendInt(append(b, `,"deviceJobStatistics":{"deviceCount":`...), int64(st.Devices), 10)
	b = strconv.AppendInt(append(b, `,"failedCount":`...), int64(st.Failed), 10)
	b = strconv.AppendInt(append(b, `,"succeededCount":`...), int64(st.Succeeded), 10)
	b = strconv.AppendInt(append(b, `,"runningCount":`...), int64(st.Running), 10)
	b = strconv.AppendInt(append(b, `,"pendingCount":`...), int64(st.Pending), 10)
	return append(b, '}')
}
