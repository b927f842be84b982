package httpapi

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/iolite-emulator/iolite/store"
)

// inAnHour is when a job of these tests starts if it is not to start at all.
const inAnHour = `"startTime":"2026-01-02T04:04:05Z"`

func tagJob(rest string) string {
	return `{"type":"scheduleUpdateTwin","queryCondition":"deviceId = 'd1'","updateTwin":{"etag":"*","tags":{"a":1}}` + rest + `}`
}

func TestJobLifeOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.online(store.Key{DeviceID: "d1"}, echo)
	token := r.policyToken("service")
	const path = "/jobs/v2/"
	golden(t, "job-scheduled", r.ask("PUT", path+"j1"+version, token, tagJob(","+inAnHour+`,"maxExecutionTimeInSeconds":300`)).want(200, "").text())
	golden(t, "job-exists", r.ask("PUT", path+"j1"+version, token, tagJob("")).want(409, "JobAlreadyExists").text())
	golden(t, "job-cancelled", r.ask("POST", path+"j1/cancel"+version, token, "").want(200, "").text())
	golden(t, "job-over", r.ask("POST", path+"j1/cancel"+version, token, "").want(405, "OperationNotAllowedInCurrentState").text())
	golden(t, "job-unknown", r.ask("GET", path+"nothing"+version, token, "").want(200, "").text())
	r.ask("POST", path+"nothing/cancel"+version, token, "").want(404, "JobNotFound")

	r.ask("PUT", path+"j2"+version, token, `{"jobId":"j2","type":"scheduleDeviceMethod","queryCondition":"*",
		"cloudToDeviceMethod":{"methodName":"reboot","payload":{"x":1.50},"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0}}`).want(200, "")
	var done *answer
	poll(t, "the job is done", func() bool {
		done = r.ask("GET", path+"J2"+version, token, "").want(200, "") // ids are compared as they are
		if !strings.Contains(done.Body, `"status":"unknown"`) {
			t.Fatalf("J2 is %s", done.Body)
		}
		done = r.ask("GET", path+"j2"+version, token, "").want(200, "")
		return strings.Contains(done.Body, `"status":"completed"`)
	})
	golden(t, "job-completed", done.text())
}

func TestJobsRefuseBadBodies(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("service")
	golden(t, "job-without-etag", r.ask("PUT", "/jobs/v2/j1"+version, token, `{"type":"scheduleUpdateTwin","queryCondition":"*","updateTwin":{"tags":{}}}`).want(400, "ArgumentInvalid").text())
	for name, body := range map[string]string{
		"nothing": "", "half": "{", "an array": "[]", "no type": `{"queryCondition":"*"}`, "a condition of words": strings.Replace(tagJob(""), "deviceId =", "deviceId is", 1),
		"another id": tagJob(`,"jobId":"j2"`), "a time of words": tagJob(`,"startTime":"soon"`), "deep": strings.Repeat(`{"updateTwin":`, 50_000),
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			r.ask("PUT", "/jobs/v2/j1"+version, token, body).want(400, "ArgumentInvalid")
		})
	}
	r.ask("PUT", "/jobs/v2/"+url.PathEscape("j/1")+version, token, tagJob("")).want(400, "ArgumentInvalid")
	r.ask("PUT", "/jobs/v2/j1"+version, token, tagJob(""), "Content-Type", "text/plain").want(415, "GenericUnsupportedMediaType")
	r.ask("PUT", "/jobs/v2/j1"+version, r.policyToken("registryReadWrite"), tagJob("")).want(401, "IotHubUnauthorizedAccess")
	if a := r.ask("GET", "/jobs/v2/j1"+version, token, "").want(200, ""); !strings.Contains(a.Body, `"unknown"`) {
		t.Errorf("a refused job is there: %s", a.Body)
	}
	for i := range 10 {
		r.ask("PUT", fmt.Sprint("/jobs/v2/j", i, version), token, tagJob(","+inAnHour)).want(200, "")
	}
	golden(t, "job-too-many", r.ask("PUT", "/jobs/v2/more"+version, token, tagJob(","+inAnHour)).want(429, "ThrottlingMaxActiveJobCountExceeded").text())
}

func TestJobsAreListedInPages(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("service")
	for i := range 3 {
		r.ask("PUT", fmt.Sprint("/jobs/v2/j", i, version), token, tagJob(","+inAnHour)).want(200, "")
	}
	const path = "/jobs/v2/query" + version
	first := r.ask("GET", path+"&jobType=scheduleUpdateTwin&jobStatus=scheduled", token, "", "x-ms-max-item-count", "2").want(200, "")
	golden(t, "jobs-page", first.text())
	next := first.Header.Get("x-ms-continuation")
	for _, last := range []*answer{
		r.ask("GET", path, token, "", "x-ms-max-item-count", "2", "x-ms-continuation", next).want(200, ""),
		r.ask("GET", path+"&pageSize=2&continuationToken="+url.QueryEscape(next), token, "").want(200, ""),
	} {
		var jobs []struct{ JobID string }
		must(t, json.Unmarshal([]byte(last.Body), &jobs))
		if _, more := last.Header["X-Ms-Continuation"]; more || len(jobs) != 1 || jobs[0].JobID != "j2" || last.Header.Get("x-ms-item-type") != "JobResponse" {
			t.Errorf("the last page is %s with %v", last.Body, last.Header)
		}
	}
	golden(t, "jobs-none", r.ask("GET", path+"&jobStatus=failed", token, "").want(200, "").text())
	r.ask("GET", path+"&jobStatus=lost", token, "").want(400, "ArgumentInvalid")
	for _, size := range []string{"0", "-1", "many", "1001", "99999999999999999999"} {
		r.ask("GET", path, token, "", "x-ms-max-item-count", size).want(400, "ArgumentInvalid")
	}
	r.ask("GET", path, token, "", "x-ms-continuation", "!").want(400, "ArgumentInvalid")
}

// Every route of a back end proves who asks before it looks at anything else.
func TestEveryServiceRouteNeedsItsRight(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	for _, route := range []struct{ method, path, without string }{
		{"GET", "/twins/d1", "registryReadWrite"}, {"PATCH", "/twins/d1", "registryReadWrite"}, {"PUT", "/twins/d1/modules/m1", "device"},
		{"POST", "/twins/d1/methods", "registryReadWrite"}, {"POST", "/twins/d1/modules/m1/methods", "device"}, {"POST", "/devices/keys/regenerate", "registryRead"},
		{"POST", "/devices/query", "registryReadWrite"},
		{"PUT", "/jobs/v2/j1", "registryReadWrite"}, {"GET", "/jobs/v2/j1", "device"}, {"POST", "/jobs/v2/j1/cancel", "device"}, {"GET", "/jobs/v2/query", "registryRead"},
		{"GET", "/jobs", "service"}, {"POST", "/jobs/create", "service"}, {"GET", "/jobs/j1", "service"}, {"DELETE", "/jobs/j1", "service"},
		{"GET", "/configurations", "service"}, {"GET", "/configurations/c1", "service"}, {"PUT", "/configurations/c1", "registryRead"}, {"DELETE", "/configurations/c1", "registryRead"},
		{"POST", "/configurations/testQueries", "service"}, {"POST", "/devices/d1/applyConfigurationContent", "service"},
		{"GET", "/digitaltwins/d1", "registryReadWrite"}, {"PATCH", "/digitaltwins/d1", "registryReadWrite"}, {"POST", "/digitaltwins/d1/commands/c1", "registryReadWrite"},
		{"POST", "/digitaltwins/d1/components/p1/commands/c1", "device"},
	} {
		t.Run(route.method+" "+route.path, func(t *testing.T) {
			for name, token := range map[string]string{"nobody": "", "a device": r.deviceToken("d1"), route.without: r.policyToken(route.without)} {
				if a := r.ask(route.method, route.path+version, token, "{}"); a.Status != 401 || a.Header.Get("iothub-errorcode") != "IotHubUnauthorizedAccess" {
					t.Errorf("%s: status %d: %s", name, a.Status, a.Body)
				}
			}
			if a := r.ask(route.method, route.path, r.policyToken("iothubowner"), "{}"); a.Status != 400 || a.Header.Get("iothub-errorcode") != "InvalidProtocolVersion" {
				t.Errorf("without an api-version: status %d: %s", a.Status, a.Body)
			}
		})
	}
}
