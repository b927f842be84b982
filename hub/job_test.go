package hub

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/store"
)

// tagJob is the body of a job that tags devices.
func tagJob(condition, rest string) []byte {
	return fmt.Appendf(nil, `{"type":"scheduleUpdateTwin","queryCondition":%q,"updateTwin":{"etag":"*","tags":{"a":1}}%s}`, condition, rest)
}

func methodJob(rest string) []byte {
	return []byte(`{"type":"scheduleDeviceMethod","queryCondition":"*","cloudToDeviceMethod":{"methodName":"m","payload":{"x":1},"responseTimeoutInSeconds":30}` + rest + `}`)
}

func schedule(t testing.TB, h *Hub, id string, body []byte) Job {
	t.Helper()
	job, err := h.Admin().ScheduleJob(ctx, id, body)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// jobWhen waits for a status of a job.
func jobWhen(t testing.TB, h *Hub, id, status string) (job Job) {
	t.Helper()
	eventually(t, id+" is "+status, func() bool {
		var err error
		if job, err = h.Admin().Job(ctx, id); err != nil {
			t.Fatal(err)
		}
		return job.Status == status
	})
	return job
}

func noJobs(h *Hub) func() bool {
	return func() bool {
		h.jobs.mu.Lock()
		defer h.jobs.mu.Unlock()
		return len(h.jobs.active) == 0
	}
}

// devicesOf returns what a job has become at its devices.
func devicesOf(t testing.TB, h *Hub, id string) map[string]store.DeviceJob {
	t.Helper()
	rows, err := h.jobs.store.Devices(ctx, store.DeviceJobKey{}, 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]store.DeviceJob{}
	for _, row := range rows {
		if row.Job.ID == id {
			found[row.Key.String()] = row.DeviceJob
		}
	}
	return found
}

func TestAJobUpdatesEveryTwinAndTellsTheDevices(t *testing.T) {
	h, c := newTestHub(t)
	for _, id := range []string{"d1", "d2", "d3"} {
		addDevice(t, h, store.Key{DeviceID: id})
	}
	var heard listener
	s := connect(t, h, "d2")
	if err := s.SubscribeDesired(heard.deliver); err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"jobId":"j1","type":"scheduleUpdateTwin","queryCondition":"*","maxExecutionTimeInSeconds":300,"startTime":"2026-01-01T00:00:00Z",
		"updateTwin":{"deviceId":null,"etag":"*","tags":{"a":1},"properties":{"desired":{"p":2}}}}`)
	if job := schedule(t, h, "j1", body); job.Status != jobEnqueued {
		t.Errorf("status %s", job.Status)
	}
	job := jobWhen(t, h, "j1", jobCompleted)
	wantJSON(t, job.AppendJSON(nil), `{"jobId":"j1","type":"scheduleUpdateTwin","status":"completed","queryCondition":"*","createdTime":"2026-01-01T00:00:00Z",
		"startTime":"2026-01-01T00:00:00Z","endTime":"2026-01-01T00:00:00Z","maxExecutionTimeInSeconds":300,
		"updateTwin":{"deviceId":null,"etag":"*","tags":{"a":1},"properties":{"desired":{"p":2}}},
		"deviceJobStatistics":{"deviceCount":3,"failedCount":0,"succeededCount":3,"runningCount":0,"pendingCount":0}}`)
	for _, id := range []string{"d1", "d2", "d3"} {
		tw, err := h.Admin().Twin(ctx, store.Key{DeviceID: id})
		if err != nil || tw.Tags.Get("a").Text() != "1" || tw.Desired.Value.Get("p").Text() != "2" {
			t.Errorf("%s: %s, %v", id, tw.AppendJSON(nil), err)
		}
	}
	eventually(t, "the device hears of it", func() bool { return len(heard.heard()) == 1 })
	rows, _ := h.jobs.store.Devices(ctx, store.DeviceJobKey{}, 1, nil)
	wantJSON(t, jobAt(&rows[0]).AppendJSON(nil), `{"deviceId":"d1","jobId":"j1","jobType":"scheduleUpdateTwin","status":"completed","startTimeUtc":"2026-01-01T00:00:00Z",
		"endTimeUtc":"2026-01-01T00:00:00Z","createdDateTimeUtc":"2026-01-01T00:00:00Z","lastUpdatedDateTimeUtc":"2026-01-01T00:00:00Z","outcome":{"deviceMethodResponse":null}}`)
	c.Advance(jobHistory + time.Second)
	if job, _ := h.Admin().Job(ctx, "j1"); job.Status != jobUnknown || len(devicesOf(t, h, "j1")) != 0 {
		t.Errorf("after 30 days the job is %s", job.Status)
	}
}

func TestAJobStartsAtItsTimeOnTheHubsClock(t *testing.T) {
	h, c := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	for id, startTime := range map[string]string{"a": "2026-01-02T00:00:00Z", "b": "2026-01-02T00:00:00.000000", "c": "2026-01-02T02:00:00+02:00"} {
		job := schedule(t, h, id, tagJob("*", `,"startTime":"`+startTime+`"`))
		if job.Status != jobScheduled || !job.Start.Equal(start.Add(24*time.Hour)) {
			t.Errorf("%s: %s at %v", id, job.Status, job.Start)
		}
	}
	c.Advance(24*time.Hour - time.Second)
	if job, _ := h.Admin().Job(ctx, "a"); job.Status != jobScheduled || job.Statistics.Devices != 0 {
		t.Fatalf("a second early the job is %s", job.Status)
	}
	c.Advance(48 * time.Hour) // a jump far over the start does not count as time that the job took
	for _, id := range []string{"a", "b", "c"} {
		if job := jobWhen(t, h, id, jobCompleted); job.Statistics.Succeeded != 1 {
			t.Errorf("%s: %+v", id, job.Statistics)
		}
	}
}

// responder answers the direct methods of a device.
func responder(t testing.TB, s *DeviceSession, status int) {
	t.Helper()
	err := s.SubscribeMethods(func(r MethodRequest) bool {
		s.RespondMethod(r.ID, status, r.Payload)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFailingDeviceLeavesTheOthersDone(t *testing.T) {
	h, _ := newTestHub(t)
	responder(t, connect(t, h, "good"), 200)
	responder(t, connect(t, h, "refuses"), 500)
	addDevice(t, h, store.Key{DeviceID: "offline"})
	schedule(t, h, "j", methodJob(""))
	job := jobWhen(t, h, "j", jobCompleted)
	if want := (store.JobStatistics{Devices: 3, Failed: 1, Succeeded: 2}); job.Statistics != want {
		t.Errorf("%+v", job.Statistics)
	}
	devices := devicesOf(t, h, "j")
	if d := devices["good"]; d.Status != store.DeviceCompleted || d.Response.Status != 200 || string(d.Response.Payload.AppendJSON(nil)) != `{"x":1}` {
		t.Errorf("good: %+v", d)
	}
	if d := devices["refuses"]; d.Status != store.DeviceCompleted || d.Response.Status != 500 {
		t.Errorf("refuses: %+v", d)
	}
	if d := devices["offline"]; d.Status != store.DeviceFailed || d.Problem.Code != "DeviceNotOnline" || d.Response != nil {
		t.Errorf("offline: %+v", d)
	}
	row := store.DeviceJobRow{Job: job.Job, DeviceJob: devices["offline"]}
	text := string(jobAt(&row).AppendJSON(nil))
	if !strings.Contains(text, `"error":{"code":"DeviceNotOnline","description":"The operation failed`) || !strings.Contains(text, `"outcome":{"deviceMethodResponse":null}`) {
		t.Error(text)
	}
}

func TestASlowDeviceBlocksNobodyElse(t *testing.T) {
	h, c := newTestHub(t)
	slow := connect(t, h, "a-slow") // first in order
	var mu sync.Mutex
	asked := 0
	if err := slow.SubscribeMethods(func(MethodRequest) bool { mu.Lock(); defer mu.Unlock(); asked++; return true }); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		responder(t, connect(t, h, fmt.Sprintf("d%02d", i)), 200)
	}
	schedule(t, h, "j", methodJob(""))
	eventually(t, "all others are done", func() bool {
		job, _ := h.Admin().Job(ctx, "j")
		return job.Status == jobRunning && job.Statistics.Succeeded == 40 && job.Statistics.Running == 1
	})
	schedule(t, h, "k", tagJob("*", "")) // nor does it block another job
	jobWhen(t, h, "k", jobCompleted)
	c.Advance(30 * time.Second)
	job := jobWhen(t, h, "j", jobCompleted)
	if d := devicesOf(t, h, "j")["a-slow"]; job.Statistics.Failed != 1 || d.Problem.Code != "GatewayTimeout" {
		t.Errorf("%+v, %+v", job.Statistics, d)
	}
}

func TestCancelEndsAJobInEachOfItsStates(t *testing.T) {
	h, c := newTestHub(t)
	silent := connect(t, h, "silent")
	if err := silent.SubscribeMethods(func(MethodRequest) bool { return true }); err != nil {
		t.Fatal(err)
	}
	admin := h.Admin()
	schedule(t, h, "later", tagJob("*", `,"startTime":"2026-01-03T00:00:00Z"`))
	schedule(t, h, "now", methodJob(""))
	eventually(t, "the device is asked", func() bool { return devicesOf(t, h, "now")["silent"].Status == store.DeviceRunning })
	for _, id := range []string{"later", "now"} {
		job, err := admin.CancelJob(ctx, id)
		if err != nil || job.Status != jobCancelled || job.End.IsZero() {
			t.Errorf("%s: %+v, %v", id, job, err)
		}
	}
	eventually(t, "both are over", noJobs(h))
	if d := devicesOf(t, h, "now")["silent"]; d.Status != store.DeviceCanceled {
		t.Errorf("%+v", d)
	}
	c.Advance(72 * time.Hour)
	for _, id := range []string{"later", "now"} {
		if job, _ := admin.Job(ctx, id); job.Status != jobCancelled {
			t.Errorf("%s is %s", id, job.Status)
		}
		_, err := admin.CancelJob(ctx, id)
		wantCode(t, err, CodeInvalidState)
	}
	_, err := admin.CancelJob(ctx, "nobody")
	wantCode(t, err, CodeJobNotFound)
}

func TestMaxExecutionTimeFailsWhatIsNotDone(t *testing.T) {
	h, c := newTestHub(t)
	silent := connect(t, h, "silent")
	if err := silent.SubscribeMethods(func(MethodRequest) bool { return true }); err != nil {
		t.Fatal(err)
	}
	responder(t, connect(t, h, "quick"), 200)
	schedule(t, h, "j", methodJob(`,"maxExecutionTimeInSeconds":10`))
	eventually(t, "the devices are asked", func() bool {
		d := devicesOf(t, h, "j")
		return d["silent"].Status == store.DeviceRunning && d["quick"].Status == store.DeviceCompleted
	})
	c.Advance(10 * time.Second)
	job := jobWhen(t, h, "j", jobFailed)
	if d := devicesOf(t, h, "j")["silent"]; job.FailureReason == "" || d.Status != store.DeviceFailed || d.Problem.Code != "GatewayTimeout" {
		t.Errorf("%+v, %+v", job, d)
	}
}

func TestJobsThatAreNotOverAreLimited(t *testing.T) {
	h, _ := newTestHub(t)
	admin := h.Admin()
	for i := range 3 * maxActiveJobs { // finished ones do not count
		id := fmt.Sprintf("done-%d", i)
		schedule(t, h, id, tagJob("*", ""))
		eventually(t, "it is over", noJobs(h))
	}
	for i := range maxActiveJobs {
		schedule(t, h, fmt.Sprintf("later-%d", i), tagJob("*", `,"startTime":"2026-01-03T00:00:00Z"`))
	}
	_, err := admin.ScheduleJob(ctx, "one-more", tagJob("*", ""))
	wantCode(t, err, CodeTooManyJobs)
	_, err = admin.ScheduleJob(ctx, "later-1", tagJob("*", "")) // an id that is taken counts first
	wantCode(t, err, CodeJobAlreadyExists)
	if _, err := admin.CancelJob(ctx, "later-1"); err != nil {
		t.Fatal(err)
	}
	schedule(t, h, "one-more", tagJob("*", ""))
}

func TestAJobsBodyIsChecked(t *testing.T) {
	h, _ := newTestHub(t)
	admin := h.Admin()
	update := func(rest string) string {
		return `{"type":"scheduleUpdateTwin","queryCondition":"*","updateTwin":{"etag":"*"}` + rest + `}`
	}
	for body, text := range map[string]string{
		``:                                       "",
		`[]`:                                     "a JSON object",
		`{"type":"reboot","queryCondition":"*"}`: "type",
		update(`,"jobId":"other"`):               "jobId",
		update(`,"startTime":"tomorrow"`):        "startTime",
		update(`,"startTime":"2026-01-08T00:00:01Z"`):                                   "168 hours",
		update(`,"maxExecutionTimeInSeconds":-1`):                                       "maxExecutionTimeInSeconds",
		update(`,"maxExecutionTimeInSeconds":"1"`):                                      "maxExecutionTimeInSeconds",
		update(`,"queryCondition":""`):                                                  "queryCondition",
		update(`,"updateTwin":{"tags":{}}`):                                             "Missing or invalid etag for job type ScheduleUpdateTwin",
		update(`,"updateTwin":null`):                                                    "updateTwin",
		update(`,"updateTwin":{"etag":"*","tags":{"a.b":1}}`):                           "tags",
		`{"type":"scheduleDeviceMethod","queryCondition":"*"}`:                          "cloudToDeviceMethod",
		`{"type":"scheduleDeviceMethod","queryCondition":"*","cloudToDeviceMethod":{}}`: "methodName",
		`{"type":"scheduleDeviceMethod","queryCondition":"*","cloudToDeviceMethod":{"methodName":"m","responseTimeoutInSeconds":1}}`:   "responseTimeoutInSeconds",
		`{"type":"scheduleDeviceMethod","queryCondition":"*","cloudToDeviceMethod":{"methodName":"m","responseTimeoutInSeconds":"5"}}`: "responseTimeoutInSeconds",
	} {
		_, err := admin.ScheduleJob(ctx, "j", []byte(body))
		wantCode(t, err, CodeArgumentInvalid)
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v does not say %q", body, err, text)
		}
	}
	for _, id := range []string{"", "a b", "a/b", strings.Repeat("x", 65), "ü"} {
		_, err := admin.ScheduleJob(ctx, id, tagJob("*", ""))
		wantCode(t, err, CodeArgumentInvalid)
	}
	for _, id := range []string{"a", "JavaJob-0_1", strings.Repeat("x", 64)} {
		schedule(t, h, id, tagJob("*", ""))
	}
	if job, err := admin.Job(ctx, "nobody"); err != nil || string(job.AppendJSON(nil)) != `{"jobId":"nobody","type":"unknown","status":"unknown"}` {
		t.Errorf("%s, %v", job.AppendJSON(nil), err)
	}
}

func TestAnETagGuardsEachTwinOfAJob(t *testing.T) {
	h, _ := newTestHub(t)
	fresh, changed := store.Key{DeviceID: "fresh"}, store.Key{DeviceID: "changed"}
	addDevice(t, h, fresh)
	addDevice(t, h, changed)
	if _, err := h.Admin().UpdateTwin(ctx, changed, []byte(`{"tags":{"b":1}}`), ""); err != nil {
		t.Fatal(err)
	}
	schedule(t, h, "j", []byte(`{"type":"scheduleUpdateTwin","queryCondition":"*","updateTwin":{"etag":"AAAAAAAAAAE=","tags":{"a":1}}}`))
	jobWhen(t, h, "j", jobCompleted)
	d := devicesOf(t, h, "j")
	if d["fresh"].Status != store.DeviceCompleted || d["changed"].Status != store.DeviceFailed || d["changed"].Problem.Code != "PreconditionFailed" {
		t.Errorf("%+v", d)
	}
}

func TestQueryJobsFiltersAndPages(t *testing.T) {
	h, _ := newTestHub(t)
	admin := h.Admin()
	for i := range 7 {
		schedule(t, h, fmt.Sprintf("t%d", i), tagJob("*", ""))
		eventually(t, "it is over", noJobs(h))
	}
	schedule(t, h, "m", methodJob(""))
	jobWhen(t, h, "m", jobCompleted)
	schedule(t, h, "later", tagJob("*", `,"startTime":"2026-01-03T00:00:00Z"`))
	ids := func(q JobQuery) (all [][]string) {
		for {
			page, err := admin.QueryJobs(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, job := range page.Jobs {
				ids = append(ids, job.ID)
			}
			all = append(all, ids)
			if q.Continuation = page.Continuation; q.Continuation == "" {
				return all
			}
		}
	}
	for _, try := range []struct {
		q    JobQuery
		want [][]string
	}{
		{JobQuery{}, [][]string{{"later", "m", "t0", "t1", "t2", "t3", "t4", "t5", "t6"}}},
		{JobQuery{Size: 4}, [][]string{{"later", "m", "t0", "t1"}, {"t2", "t3", "t4", "t5"}, {"t6"}}},
		{JobQuery{Size: 3}, [][]string{{"later", "m", "t0"}, {"t1", "t2", "t3"}, {"t4", "t5", "t6"}}},
		{JobQuery{Type: "ScheduleDeviceMethod"}, [][]string{{"m"}}},
		{JobQuery{Status: "scheduled"}, [][]string{{"later"}}},
		{JobQuery{Status: "queued"}, [][]string{nil}},
		{JobQuery{Type: "scheduleUpdateTwin", Status: "completed", Size: 5}, [][]string{{"t0", "t1", "t2", "t3", "t4"}, {"t5", "t6"}}},
	} {
		if diff := cmp.Diff(try.want, ids(try.q)); diff != "" {
			t.Errorf("%+v (-want +got)\n%s", try.q, diff)
		}
	}
	for _, q := range []JobQuery{{Type: "reboot"}, {Status: "lost"}, {Size: -1}, {Size: 1001}, {Continuation: "?"}} {
		_, err := admin.QueryJobs(ctx, q)
		wantCode(t, err, CodeArgumentInvalid)
	}
}

func TestAResetForgetsJobsAndEndsThem(t *testing.T) {
	h, c := newTestHub(t)
	silent := connect(t, h, "silent")
	if err := silent.SubscribeMethods(func(MethodRequest) bool { return true }); err != nil {
		t.Fatal(err)
	}
	schedule(t, h, "running", methodJob(""))
	schedule(t, h, "later", tagJob("*", `,"startTime":"2026-01-03T00:00:00Z"`))
	eventually(t, "the device is asked", func() bool { return devicesOf(t, h, "running")["silent"].Status == store.DeviceRunning })
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	addDevice(t, h, store.Key{DeviceID: "new"})
	schedule(t, h, "running", tagJob("*", "")) // the id is free again, and nothing of the old job gets into the new one
	job := jobWhen(t, h, "running", jobCompleted)
	c.Advance(100 * time.Hour) // not before: that would be longer than the new job may run
	if job.Type != jobUpdateTwin || job.Statistics.Devices != 1 {
		t.Errorf("%+v", job)
	}
	if job, _ := h.Admin().Job(ctx, "later"); job.Status != jobUnknown {
		t.Errorf("later is %s", job.Status)
	}
	eventually(t, "nothing runs", noJobs(h))
}

func TestTheOldestFinishedJobsAreForgottenFirst(t *testing.T) {
	h, _ := newTestHub(t)
	r := func(id string) *jobRun { return &jobRun{id: id} }
	for _, f := range []struct {
		id      string
		devices int
	}{{"a", maxDevicesKept / 2}, {"b", maxDevicesKept / 2}, {"c", maxDevicesKept / 4}} {
		if _, err := h.jobs.store.Create(ctx, store.Job{ID: f.id}); err != nil {
			t.Fatal(err)
		}
		h.jobs.retire(r(f.id), store.Job{Statistics: store.JobStatistics{Devices: f.devices}, End: start}, nil)
	}
	want := func(kept map[string]bool) {
		t.Helper()
		for id, there := range kept {
			if _, err := h.jobs.store.Get(ctx, id); (err == nil) != there {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
	want(map[string]bool{"a": false, "b": true, "c": true})
	if _, err := h.jobs.store.Create(ctx, store.Job{ID: "d"}); err != nil {
		t.Fatal(err)
	}
	big := r("d")
	big.body = maxBytesKept + 1
	h.jobs.retire(big, store.Job{End: start}, nil)
	want(map[string]bool{"b": false, "c": false, "d": true})
}

func TestAJobsConditionChoosesItsDevicesAndModules(t *testing.T) {
	h, _ := newTestHub(t)
	for _, key := range []store.Key{{DeviceID: "a"}, {DeviceID: "b"}, {DeviceID: "c"}, {DeviceID: "a", ModuleID: "m"}, {DeviceID: "b", ModuleID: "n"}} {
		addDevice(t, h, key)
	}
	tag(t, h, store.Key{DeviceID: "b"}, `{"tags":{"floor":2}}`)
	for condition, want := range map[string]string{
		"deviceId IN ['c','a','nobody','a']": "a c", "deviceId = 'a' AND tags.floor = 2": "", "tags.floor = 2": "b", "NOT IS_DEFINED(tags.floor)": "a c", "*": "a b c",
		"FROM devices.modules WHERE ModuleId = 'm'": "a/m", "FROM devices.modules": "a/m b/n", "deviceId = 'nobody'": "",
	} {
		id := newUUID()
		schedule(t, h, id, tagJob(condition, ""))
		job := jobWhen(t, h, id, jobCompleted)
		eventually(t, "it is over", noJobs(h))
		found := devicesOf(t, h, id)
		var got []string
		for key, d := range found {
			if got = append(got, key); d.Status != store.DeviceCompleted {
				t.Errorf("%s: %+v", key, d)
			}
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != want || job.Statistics.Devices != len(got) {
			t.Errorf("%s: %q, want %q", condition, s, want)
		}
	}
	for _, condition := range []string{"tags.", "FROM devices.jobs", " ", "SELECT * FROM devices"} {
		_, err := h.Admin().ScheduleJob(ctx, "bad", tagJob(condition, ""))
		wantCode(t, err, CodeArgumentInvalid)
	}
}

func TestAJobKeepsOnlySoMuchOfWhatDevicesAnswer(t *testing.T) {
	h, _ := newTestHub(t)
	r := &jobRun{id: "j"}
	answer := MethodResult{Status: 200, Payload: []byte(`"` + strings.Repeat("x", maxMethodPayload-2) + `"`)}
	kept := 0
	for range maxJobResponses/maxMethodPayload + 5 {
		if r.response(h, answer).Payload.Kind() == document.String {
			kept++
		}
	}
	if kept != maxJobResponses/maxMethodPayload || r.bytes() != maxJobResponses {
		t.Errorf("%d payloads, %d bytes", kept, r.bytes())
	}
}

func TestAClosedHubBeginsNothing(t *testing.T) {
	h, _ := newTestHub(t)
	h.Close()
	_, err := h.jobs.begin(ctx, h.era.Load(), store.Job{ID: "j", Status: jobScheduled, Start: start.Add(time.Hour)}, jobOrder{})
	wantCode(t, err, CodeClosed)
	if !noJobs(h)() {
		t.Error("a job waits for its time")
	}
	_, err = h.transfers.begin(h.era.Load(), ImportExportJob{})
	wantCode(t, err, CodeClosed)
}
