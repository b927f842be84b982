package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// errorCode returns the number of an error, whatever its envelope, or the name that the classic one has.
func errorCode(body string) string {
	var flat struct {
		ErrorCode int    `json:"errorCode"`
		Message   string `json:"Message"`
	}
	if json.Unmarshal([]byte(body), &flat) != nil {
		return "no JSON: " + body
	}
	if flat.ErrorCode != 0 {
		return fmt.Sprint(flat.ErrorCode)
	}
	if strings.HasPrefix(flat.Message, "{") {
		return errorCode(flat.Message)
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(flat.Message, "ErrorCode:"), ";")
	return name
}

func TestHTTPAnswersBadManagement(t *testing.T) {
	attack(t)
	d := target.device(t)
	twin := "/twins/" + d.DeviceID
	long := strings.Repeat("x", 4097)
	deep := strings.Repeat(`{"a":`, 12) + "1" + strings.Repeat("}", 12)
	wide := func(n int) string { // n texts of 1000 bytes
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":"%s"`, i, strings.Repeat("x", 1000))
		}
		return "{" + b.String()[1:] + "}"
	}
	query := func(text string) string {
		b, err := json.Marshal(map[string]string{"query": text})
		must(t, err)
		return string(b)
	}
	for name, test := range map[string]struct {
		method, path, body, ifMatch string
		status                      int
		code                        string
	}{
		"twin: no JSON":                 {"PATCH", twin, "hello", "", 400, "ArgumentInvalid"},
		"twin: deep beyond parsers":     {"PATCH", twin, strings.Repeat(`{"tags":`, 100_000), "", 400, "ArgumentInvalid"},
		"twin: twelve levels":           {"PATCH", twin, `{"tags":` + deep + `}`, "", 400, "ArgumentInvalid"},
		"twin: a text too long":         {"PATCH", twin, `{"properties":{"desired":{"a":"` + long + `"}}}`, "", 400, "ArgumentInvalid"},
		"twin: a key too long":          {"PATCH", twin, `{"tags":{"` + long + `":1}}`, "", 400, "ArgumentInvalid"},
		"twin: a forbidden key":         {"PUT", twin, `{"tags":{"a$b":1}}`, "", 400, "ArgumentInvalid"},
		"twin: an integer of 2^52":      {"PUT", twin, `{"tags":{"a":4503599627370496}}`, "", 400, "ArgumentInvalid"},
		"twin: tags of 9 KB":            {"PATCH", twin, `{"tags":` + wide(9) + `}`, "", 400, "ArgumentInvalid"},
		"twin: desired of 34 KB":        {"PATCH", twin, `{"properties":{"desired":` + wide(34) + `}}`, "", 400, "ArgumentInvalid"},
		"twin: a stale etag":            {"PATCH", twin, `{}`, `"AAAAAAAAAAA="`, 412, "PreconditionFailed"},
		"twin: an etag of nonsense":     {"PUT", twin, `{}`, `"` + strings.Repeat("e", 10_000) + `"`, 412, "PreconditionFailed"},
		"twin: an empty etag":           {"PUT", twin, `{}`, `""`, 412, "PreconditionFailed"},
		"twin: nobody":                  {"GET", "/twins/nobody-at-all", "", "", 404, "DeviceNotFound"},
		"twin: a module that is not":    {"GET", twin + "/modules/nobody", "", "", 404, "DeviceNotFound"},
		"twin: an id of 4000 bytes":     {"GET", "/twins/" + strings.Repeat("d", 4000), "", "", 404, "DeviceNotFound"},
		"method: nobody online":         {"POST", twin + "/methods", `{"methodName":"m"}`, "", 404, "404103"},
		"method: no name":               {"POST", twin + "/methods", `{"payload":1}`, "", 400, "400004"},
		"method: a time of 2^63-1":      {"POST", twin + "/methods", `{"methodName":"m","responseTimeoutInSeconds":9223372036854775807}`, "", 400, "400004"},
		"method: 128 KiB and one":       {"POST", twin + "/methods", `{"methodName":"m","payload":"` + strings.Repeat("x", 128<<10-1) + `"}`, "", 413, "413001"},
		"method: a module that is not":  {"POST", twin + "/modules/nobody/methods", `{"methodName":"m"}`, "", 404, "404010"},
		"module: an id of the hub's":    {"PUT", "/devices/" + d.DeviceID + "/modules/$edgeAgent", `{"moduleId":"$edgeAgent"}`, "", 400, "ArgumentInvalid"},
		"module: of nobody":             {"PUT", "/devices/nobody-at-all/modules/m", `{"moduleId":"m"}`, "", 404, "DeviceNotFound"},
		"query: no query":               {"POST", "/devices/query", `{}`, "", 400, "ArgumentInvalid"},
		"query: 100,000 brackets":       {"POST", "/devices/query", query("SELECT * FROM devices WHERE " + strings.Repeat("(", 100_000)), "", 400, "ArgumentInvalid"},
		"query: 100,000 NOTs":           {"POST", "/devices/query", query("SELECT * FROM devices WHERE " + strings.Repeat("NOT ", 100_000) + "TRUE"), "", 400, "ArgumentInvalid"},
		"query: 50,000 clauses":         {"POST", "/devices/query", query("SELECT * FROM devices WHERE " + strings.Repeat("tags.a=1 OR ", 50_000) + "TRUE"), "", 400, "ArgumentInvalid"},
		"query: a literal of 900 KB":    {"POST", "/devices/query", query("SELECT * FROM devices WHERE tags.a = '" + strings.Repeat("x", 900_000) + "'"), "", 400, "ArgumentInvalid"},
		"query: a list of 100,000":      {"POST", "/devices/query", query("SELECT * FROM devices WHERE tags.a IN [" + strings.Repeat("1,", 100_000) + "1]"), "", 400, "ArgumentInvalid"},
		"query: a list in a list":       {"POST", "/devices/query", query("SELECT * FROM devices WHERE tags.a IN " + strings.Repeat("[", 50_000)), "", 400, "ArgumentInvalid"},
		"query: over 1 MiB":             {"POST", "/devices/query", query(strings.Repeat(" ", 1<<20)), "", 413, "MessageTooLarge"},
		"job: no condition":             {"PUT", "/jobs/v2/j1", `{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*"}}`, "", 400, "ArgumentInvalid"},
		"job: 100,000 brackets":         {"PUT", "/jobs/v2/j1", `{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*"},"queryCondition":"` + strings.Repeat("(", 100_000) + `"}`, "", 400, "ArgumentInvalid"},
		"job: a year ahead":             {"PUT", "/jobs/v2/j1", `{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*"},"queryCondition":"*","startTime":"2999-01-01T00:00:00Z"}`, "", 400, "ArgumentInvalid"},
		"configuration: deep":           {"PUT", "/configurations/c1", strings.Repeat(`{"content":`, 50_000), "", 400, "ArgumentInvalid"},
		"configuration: 100,000 NOTs":   {"PUT", "/configurations/c1", `{"content":{"deviceContent":{}},"targetCondition":"` + strings.Repeat("NOT ", 100_000) + `TRUE"}`, "", 400, ""},
		"digital twin: 101 operations":  {"PATCH", "/digitaltwins/" + d.DeviceID, "[" + strings.TrimSuffix(strings.Repeat(`{"op":"remove","path":"/a"},`, 101), ",") + "]", "", 400, "InvalidDigitalTwinJsonPatch"},
		"digital twin: deep":            {"PATCH", "/digitaltwins/" + d.DeviceID, strings.Repeat("[", 500_000), "", 400, "InvalidDigitalTwinJsonPatch"},
		"bulk: deep tags":               {"POST", "/devices", `[{"id":"q","importMode":"create","tags":` + strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000) + `}]`, "", 400, "ArgumentInvalid"},
		"keys: of a policy that is not": {"POST", "/devices/keys/regenerate", `{"policyKey":"none","devices":[]}`, "", 400, "InvalidPolicyKey"},
		"keys: 101 at once":             {"POST", "/devices/keys/regenerate", `{"policyKey":"both","devices":[` + strings.TrimSuffix(strings.Repeat(`{"id":"q"},`, 101), ",") + `]}`, "", 413, "TooManyDevices"},
		"export: to a file":             {"POST", "/jobs/create", `{"type":"export","outputBlobContainerUri":"file:///tmp"}`, "", 400, "BlobContainerValidationError"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			status, body := rest(t, test.method, test.path, test.body, test.ifMatch)
			if got := errorCode(body); status != test.status || test.code != "" && got != test.code {
				t.Errorf("status %d, code %s, want %d and %s: %.300s", status, got, test.status, test.code, body)
			}
			if took := time.Since(began); took > promptly {
				t.Errorf("the answer took %v", took)
			}
		})
	}
}

func TestTheTwentyFirstModuleIsRefused(t *testing.T) {
	attack(t)
	d := target.device(t)
	var made, refused atomic.Int32
	var all sync.WaitGroup
	for i := range 40 { // at once: the limit holds all the same
		all.Go(func() {
			switch status, body := rest(t, http.MethodPut, fmt.Sprintf("/devices/%s/modules/m%d", d.DeviceID, i), fmt.Sprintf(`{"moduleId":"m%d"}`, i), ""); {
			case status == http.StatusOK:
				made.Add(1)
			case status == http.StatusRequestEntityTooLarge && errorCode(body) == "TooManyModulesOnDevice":
				refused.Add(1)
			default:
				t.Errorf("status %d: %s", status, body)
			}
		})
	}
	all.Wait()
	if made.Load() != 20 || refused.Load() != 20 {
		t.Errorf("%d modules made, %d refused", made.Load(), refused.Load())
	}
}

// TestOneOfManyWritersHoldsTheETag: of writers that all read the same twin, one writes it.
func TestOneOfManyWritersHoldsTheETag(t *testing.T) {
	attack(t)
	d := target.device(t)
	_, text := rest(t, http.MethodGet, "/twins/"+d.DeviceID, "", "")
	var twin struct{ ETag string }
	must(t, json.Unmarshal([]byte(text), &twin))
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			switch status, body := rest(t, http.MethodPatch, "/twins/"+d.DeviceID, fmt.Sprintf(`{"tags":{"writer":%d}}`, i), `"`+twin.ETag+`"`); status {
			case http.StatusOK:
				won.Add(1)
			case http.StatusPreconditionFailed:
			default:
				t.Errorf("status %d: %s", status, body)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d writers have written", won.Load())
	}
}

// methodCall returns a method call that waits a while for the device to connect.
func methodCall(t *testing.T, deviceID string, seconds int) []byte {
	t.Helper()
	token, err := target.backend.Token()
	must(t, err)
	body := fmt.Sprintf(`{"methodName":"m","connectTimeoutInSeconds":%d,"responseTimeoutInSeconds":%d}`, seconds, seconds)
	return fmt.Appendf(nil, "POST /twins/%s/methods?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s", deviceID, token, len(body), body)
}

// TestMethodCallersThatHangUp: a call ends with its caller, whether the caller says goodbye or not; attack counts what is left.
func TestMethodCallersThatHangUp(t *testing.T) {
	attack(t)
	d := target.device(t)
	call := methodCall(t, d.DeviceID, 300)
	before := target.gauge(t, "go_goroutines")
	var callers []net.Conn
	for range 200 {
		c := httpsDial(t)
		_, err := c.Write(call)
		must(t, err)
		callers = append(callers, c)
	}
	eventually(t, "the calls wait", func() bool { return target.gauge(t, "go_goroutines") >= before+200 })
	for i, c := range callers {
		if i%2 == 0 {
			drop(c)
		} else {
			_ = c.Close()
		}
	}
}

// TestMethodCallersThatGoOnTalking: what a caller sends behind its call is not gathered while the call waits. Since the hub does not read it, it
// does not see the end of the connection behind it either: the call ends with its time-outs.
func TestMethodCallersThatGoOnTalking(t *testing.T) {
	attack(t)
	d := target.device(t)
	call := methodCall(t, d.DeviceID, 5)
	before := target.gauge(t, "process_resident_memory_bytes")
	chatter := bytes.Repeat([]byte("x"), 1<<20)
	var all sync.WaitGroup
	for range 20 {
		c := httpsDial(t)
		_, err := c.Write(call)
		must(t, err)
		all.Go(func() {
			_ = c.SetDeadline(time.Now().Add(2 * time.Second))
			for range 50 {
				if _, err := c.Write(chatter); err != nil { // the hub reads no further
					return
				}
			}
			t.Error("the hub read 50 MiB behind a call")
		})
	}
	all.Wait()
	if grown := target.gauge(t, "process_resident_memory_bytes") - before; grown > 200<<20 {
		t.Errorf("the hub grew by %.0f MiB", grown/(1<<20))
	}
}
