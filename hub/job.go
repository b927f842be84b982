package hub

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

// Limits of scheduled jobs (articles "Schedule jobs on multiple devices", "IoT Hub quotas and throttling").
const (
	maxActiveJobs    = 10 // of tier S3; S1 has 1, S2 has 5
	maxJobID         = 64
	maxJobAhead      = 168 * time.Hour
	maxJobExecution  = 30 * 24 * time.Hour // Iolite's own limit
	defaultExecution = time.Hour           // as the Node SDK has it
	maxJobPage       = 1000
	defaultJobPage   = 100
)

// The types of scheduled jobs.
const (
	jobUpdateTwin = "scheduleUpdateTwin"
	jobMethod     = "scheduleDeviceMethod"
)

// The statuses of a job. Those of the last line are final.
const (
	jobUnknown   = "unknown"
	jobEnqueued  = "enqueued" // "queued" means the same
	jobScheduled = "scheduled"
	jobRunning   = "running"

	jobCompleted, jobFailed, jobCancelled = "completed", "failed", "cancelled"
)

// Job is a scheduled job.
type Job struct{ store.Job }

// JobQuery says which jobs are wanted. Empty fields mean all.
type JobQuery struct {
	Type, Status string // as in a Job; case does not matter
	Size         int    // of a page, 1..1000; 0 for 100
	Continuation string // of the page before; empty for the first
}

// JobPage is one page of jobs, in the order of their ids.
type JobPage struct {
	Jobs         []Job
	Continuation string // for the next page; empty when this is the last
}

// jobOrder is what a job does, ready to be done.
type jobOrder struct {
	condition condition
	update    twinBody
	ifMatch   string // of the twins that an update is for; "" for any
	call      MethodCall
	bytes     int // of the body it came in
}

// ScheduleJob creates a job from the JSON body of PUT /jobs/v2/{id}. It runs at its start time, at once when that has passed or is not
// given. ServiceConnect. CodeArgumentInvalid, CodeJobAlreadyExists, CodeTooManyJobs.
func (s *ServiceSession) ScheduleJob(ctx context.Context, id string, body []byte) (j Job, err error) {
	op := opCreateTwinJob
	defer func() { err = s.hub.did(op, store.Key{}, s.conn, 0, err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.ServiceConnect, "jobs/v2/"+id); err != nil {
		return Job{}, err
	}
	job, order, err := s.hub.parseJob(id, body)
	if job.Type == jobMethod {
		op = opCreateMethodJob
	}
	if err != nil {
		return Job{}, err
	}
	job, err = s.hub.jobs.begin(ctx, era, job, order)
	return Job{job}, err
}

// parseJob reads a job's body.
func (h *Hub) parseJob(id string, body []byte) (job store.Job, order jobOrder, err error) {
	v, err := h.parseDocument(body)
	if err != nil {
		return job, order, err
	}
	now := h.clock.Now()
	order.bytes = len(body)
	job = store.Job{ID: id, Created: now, Condition: v.Get("queryCondition").Text(), MaxExecution: defaultExecution}
	invalid := func(problem string) error { return h.NewError(CodeArgumentInvalid, problem) }
	if problem := checkJobID(id, v.Get("jobId")); problem != "" {
		return job, order, invalid(problem)
	}
	if job.Start, err = parseStart(v.Get("startTime"), now); err != nil {
		return job, order, invalid(err.Error())
	}
	if job.Status = jobEnqueued; job.Start.After(now) {
		job.Status = jobScheduled
	}
	if seconds := v.Get("maxExecutionTimeInSeconds"); given(seconds) {
		n, ok := seconds.Int()
		if !ok || n < 0 || n > int64(maxJobExecution/time.Second) {
			return job, order, invalid("maxExecutionTimeInSeconds is not from 0 to " + strconv.Itoa(int(maxJobExecution/time.Second)))
		}
		if n > 0 {
			job.MaxExecution = time.Duration(n) * time.Second
		}
	}
	var problem string
	switch order.condition, problem = parseCondition(job.Condition); {
	case problem != "":
		return job, order, invalid("queryCondition: " + problem)
	case order.condition.IsNone():
		return job, order, invalid("queryCondition is missing")
	}
	err = h.parseOperation(v, &job, &order)
	return job, order, err
}

// given reports whether a member is there and not null.
func given(v document.Value) bool { return v.IsDefined() && v.Kind() != document.Null }

// checkJobID returns what is wrong with a job's id, or with the one in its body.
func checkJobID(id string, inBody document.Value) string {
	other := func(c rune) bool {
		return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}
	switch {
	case id == "" || len(id) > maxJobID || strings.ContainsFunc(id, other):
		return "a job id is not of 1 to 64 ASCII letters, digits, - and _"
	case given(inBody) && inBody.Text() != id:
		return "jobId is not the one in the path"
	}
	return ""
}

// parseStart reads a start time; one without a zone is in UTC, as the Azure CLI writes it.
func parseStart(v document.Value, now time.Time) (time.Time, error) {
	if !given(v) || v.Text() == "" {
		return now, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		start, err := time.Parse(layout, v.Text())
		switch {
		case err != nil:
			continue
		case start.After(now.Add(maxJobAhead)):
			return now, errors.New("startTime is more than 168 hours ahead")
		case start.Before(now):
			return now, nil
		}
		return start.UTC(), nil
	}
	return now, errors.New("startTime is no time as ISO 8601 has it")
}

// parseOperation reads what a job is to do.
func (h *Hub) parseOperation(v document.Value, job *store.Job, order *jobOrder) (err error) {
	switch kind := v.Get("type").Text(); {
	case strings.EqualFold(kind, jobUpdateTwin):
		job.Type, job.Update = jobUpdateTwin, v.Get("updateTwin")
		return h.parseJobUpdate(job, order)
	case strings.EqualFold(kind, jobMethod):
		job.Type, job.Method = jobMethod, v.Get("cloudToDeviceMethod")
		return h.parseJobMethod(job, order)
	}
	return h.NewError(CodeArgumentInvalid, "type is neither scheduleUpdateTwin nor scheduleDeviceMethod")
}

func (h *Hub) parseJobUpdate(job *store.Job, order *jobOrder) (err error) {
	if job.Update.Kind() != document.Object {
		return h.NewError(CodeArgumentInvalid, "updateTwin is missing")
	}
	if order.ifMatch = unquoteETag(job.Update.Get("etag").Text()); order.ifMatch == "" {
		return h.newErrorText(CodeArgumentInvalid, "Missing or invalid etag for job type ScheduleUpdateTwin, job id: "+job.ID)
	}
	order.update, err = h.twinBodyOf(job.Update)
	return err
}

func (h *Hub) parseJobMethod(job *store.Job, order *jobOrder) error {
	if job.Method.Kind() != document.Object {
		return h.NewError(CodeArgumentInvalid, "cloudToDeviceMethod is missing")
	}
	order.call = MethodCall{Name: job.Method.Get("methodName").Text(), Payload: job.Method.Get("payload").AppendJSON(nil)}
	for name, timeout := range map[string]*time.Duration{
		"responseTimeoutInSeconds": &order.call.ResponseTimeout, "connectTimeoutInSeconds": &order.call.ConnectTimeout,
	} {
		v := job.Method.Get(name)
		n, ok := v.Int()
		if given(v) && (!ok || n < 0 || n > 1<<20) {
			return h.NewError(CodeArgumentInvalid, name+" is no number of seconds")
		}
		*timeout = time.Duration(n) * time.Second
	}
	return h.checkCall(&order.call)
}

// Job returns a job; of an id that is not known one whose type and status are "unknown", as IoT Hub does. ServiceConnect.
func (s *ServiceSession) Job(ctx context.Context, id string) (j Job, err error) {
	defer func() { err = s.hub.did(opGetJob, store.Key{}, s.conn, 0, err) }()
	if err := s.need(ctx, auth.ServiceConnect, "jobs/v2/"+id); err != nil {
		return Job{}, err
	}
	s.hub.jobs.expire()
	job, err := s.hub.jobs.store.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return Job{store.Job{ID: id, Type: jobUnknown, Status: jobUnknown}}, nil
	}
	return Job{job}, err
}

// CancelJob ends a job; what devices are doing already is not waited for. ServiceConnect. CodeJobNotFound, CodeInvalidState (it is over).
func (s *ServiceSession) CancelJob(ctx context.Context, id string) (j Job, err error) {
	defer func() { err = s.hub.did(opCancelJob, store.Key{}, s.conn, 0, err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.ServiceConnect, "jobs/v2/"+id); err != nil {
		return Job{}, err
	}
	s.hub.jobs.expire()
	job, err := s.hub.jobs.change(ctx, era, id, func(j *store.Job) error {
		if isFinal(j.Status) {
			return s.hub.NewError(CodeInvalidState, "the job is "+j.Status)
		}
		j.Status, j.End = jobCancelled, s.hub.clock.Now()
		return nil
	})
	if err != nil {
		return Job{}, err
	}
	s.hub.jobs.cancel(id, job)
	return Job{job}, nil
}

func isFinal(status string) bool {
	return status == jobCompleted || status == jobFailed || status == jobCancelled
}

// QueryJobs returns a page of jobs. ServiceConnect. CodeArgumentInvalid.
func (s *ServiceSession) QueryJobs(ctx context.Context, q JobQuery) (p JobPage, err error) {
	defer func() { err = s.hub.did(opListJobs, store.Key{}, s.conn, 0, err) }()
	if err := s.need(ctx, auth.ServiceConnect, "jobs/v2/query"); err != nil {
		return JobPage{}, err
	}
	after, err := base64.RawURLEncoding.DecodeString(q.Continuation)
	if problem := q.check(); problem != "" || err != nil {
		return JobPage{}, s.hub.NewError(CodeArgumentInvalid, cmp.Or(problem, "the continuation token is not one of this hub's"))
	}
	if q.Size == 0 {
		q.Size = defaultJobPage
	}
	s.hub.jobs.expire()
	var page JobPage
	for last := string(after); ; {
		jobs, err := s.hub.jobs.store.List(ctx, last, defaultJobPage)
		if err != nil || len(jobs) == 0 {
			return page, err
		}
		for _, job := range jobs {
			if !q.wants(job) {
				continue
			}
			if len(page.Jobs) == q.Size {
				page.Continuation = base64.RawURLEncoding.EncodeToString([]byte(page.Jobs[q.Size-1].ID))
				return page, nil
			}
			page.Jobs = append(page.Jobs, Job{job})
		}
		last = jobs[len(jobs)-1].ID
	}
}

// Words of the SDKs' enumerations, in lower case.
var (
	jobTypes    = []string{"", "unknown", "export", "import", "backup", "scheduleupdatetwin", "scheduledevicemethod"}
	jobStatuses = []string{"", jobUnknown, jobEnqueued, "queued", jobScheduled, jobRunning, jobCompleted, jobFailed, jobCancelled}
)

// check returns what is wrong with a query.
func (q *JobQuery) check() string {
	q.Type, q.Status = strings.ToLower(q.Type), strings.ToLower(q.Status)
	switch {
	case !slices.Contains(jobTypes, q.Type):
		return "there is no job type " + strconv.Quote(q.Type)
	case !slices.Contains(jobStatuses, q.Status):
		return "there is no job status " + strconv.Quote(q.Status)
	case q.Size < 0 || q.Size > maxJobPage:
		return "the page size is not from 1 to 1000"
	}
	if q.Status == "queued" {
		q.Status = jobEnqueued
	}
	return ""
}

func (q *JobQuery) wants(job store.Job) bool {
	return (q.Type == "" || strings.EqualFold(q.Type, job.Type)) && (q.Status == "" || q.Status == job.Status)
}

// jobAt returns a row of devices.jobs as queries see it (article "Queries for IoT Hub jobs").
func jobAt(row *store.DeviceJobRow) document.Value {
	members := []document.Member{
		{Name: "createdDateTimeUtc", Value: timeValue(row.Job.Created)}, {Name: "deviceId", Value: document.OfString(row.DeviceID)},
		{Name: "jobId", Value: document.OfString(row.Job.ID)}, {Name: "jobType", Value: document.OfString(row.Job.Type)},
		{Name: "lastUpdatedDateTimeUtc", Value: timeValue(latest(row.Job.Created, row.Started, row.Ended))},
		{Name: "status", Value: document.OfString(string(row.Status))},
	}
	add := func(name string, v document.Value) { members = append(members, document.Member{Name: name, Value: v}) }
	if row.ModuleID != "" {
		add("moduleId", document.OfString(row.ModuleID))
	}
	if !row.Started.IsZero() {
		add("startTimeUtc", timeValue(row.Started))
	}
	if !row.Ended.IsZero() {
		add("endTimeUtc", timeValue(row.Ended))
		add("outcome", object("deviceMethodResponse", responseValue(row.Response)))
	}
	if p := row.Problem; p != nil {
		add("error", object("code", document.OfString(p.Code), "description", document.OfString(p.Description)))
	}
	return document.OfMembers(members)
}

func responseValue(r *store.MethodResponse) document.Value {
	if r == nil {
		return document.NullValue
	}
	return object("status", document.OfInt(int64(r.Status)), "payload", r.Payload)
}

// object returns an object of names and values in turn.
func object(pairs ...any) document.Value {
	members := make([]document.Member, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		members = append(members, document.Member{Name: pairs[i].(string), Value: pairs[i+1].(document.Value)})
	}
	return document.OfMembers(members)
}

func timeValue(t time.Time) document.Value {
	return document.OfString(t.UTC().Format(twin.TimeFormat))
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

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
