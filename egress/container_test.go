package egress

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

// storage is as much of Blob Storage as the sink uses; fail has some requests refused.
type storage struct {
	*httptest.Server
	mu    sync.Mutex
	blobs map[string]string // by their path in the container
	fail  func(path string) int
}

func newStorage(t *testing.T) *storage {
	t.Helper()
	s := &storage{blobs: map[string]string{}, fail: func(string) int { return 0 }}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, found := strings.CutPrefix(r.URL.Path, "/account/routed/")
	body, _ := io.ReadAll(r.Body)
	_, exists := s.blobs[path]
	switch q, status := r.URL.Query(), s.fail(path); {
	case status != 0:
		w.WriteHeader(status)
	case !found || r.Method != http.MethodPut || q.Get("sr") != "c" || !strings.Contains(q.Get("sp"), "c") || q.Get("sig") == "":
		w.WriteHeader(http.StatusForbidden)
	case exists && r.Header.Get("If-None-Match") == "*":
		w.Header().Set("x-ms-error-code", "BlobAlreadyExists")
		w.WriteHeader(http.StatusConflict)
	default:
		s.blobs[path] = string(body)
		w.WriteHeader(http.StatusCreated)
	}
}

// names are the paths of the blobs, sorted.
func (s *storage) names() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.blobs {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (s *storage) config() ContainerConfig {
	return ContainerConfig{
		ConnectionString: "AccountName=account;AccountKey=c2VjcmV0;BlobEndpoint=" + s.URL + "/account", Container: "routed",
		FileNameFormat: "{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}/{mm}", MaxChunk: 10 << 20, Wrote: func(int) {},
	}
}

func container(t *testing.T, cfg ContainerConfig) *Container {
	t.Helper()
	c, err := newEgress().Container(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// of returns a message of a device; newEgress deals devices out by the length of their names.
func of(device string, sequence int64) store.Event {
	return store.Event{DeviceID: device, PartitionKey: device, Body: fmt.Appendf(nil, "%d", sequence), Sequence: sequence, Enqueued: start}
}

func TestABatchBecomesOneBlobForEachPartition(t *testing.T) {
	s := newStorage(t)
	var wrote int
	cfg := s.config()
	cfg.Wrote = func(bytes int) { wrote += bytes }
	c := container(t, cfg)
	if taken, err := c.Deliver(testContext(t), []store.Event{of("a", 0), of("bb", 1), of("a", 2)}); taken != 3 || err != nil {
		t.Fatal(taken, err)
	}
	want := []string{"iolite/1/2026/01/02/03/04", "iolite/2/2026/01/02/03/04"}
	if diff := cmp.Diff(want, s.names()); diff != "" {
		t.Fatalf("blobs (-want +got):\n%s", diff)
	}
	if got := strings.Count(s.blobs[want[0]], "\n"); got != 2 || strings.Count(s.blobs[want[1]], "\n") != 1 {
		t.Errorf("%q", s.blobs)
	}
	if got := len(s.blobs[want[0]]) + len(s.blobs[want[1]]); wrote != got {
		t.Errorf("%d bytes were told, %d written", wrote, got)
	}
}

func TestNoBlobReplacesAnother(t *testing.T) {
	s := newStorage(t)
	for i := range int64(3) { // as many hubs that know nothing of each other
		if taken, err := container(t, s.config()).Deliver(testContext(t), []store.Event{of("a", i)}); taken != 1 || err != nil {
			t.Fatal(taken, err)
		}
	}
	want := []string{"iolite/1/2026/01/02/03/04", "iolite/1/2026/01/02/03/04_01", "iolite/1/2026/01/02/03/04_02"}
	if diff := cmp.Diff(want, s.names()); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
}

func TestABlobIsNoLargerThanMaxChunk(t *testing.T) {
	s := newStorage(t)
	cfg := s.config()
	cfg.MaxChunk = 1000
	var messages []store.Event
	for i := range int64(50) {
		messages = append(messages, of("a", i))
	}
	if taken, err := container(t, cfg).Deliver(testContext(t), messages); taken != 50 || err != nil {
		t.Fatal(taken, err)
	}
	lines := 0
	for name, blob := range s.blobs {
		if len(blob) > cfg.MaxChunk {
			t.Errorf("%s has %d bytes", name, len(blob))
		}
		lines += strings.Count(blob, "\n")
	}
	if lines != 50 {
		t.Errorf("%d messages were written", lines)
	}
}

func TestWhenAPartitionCannotBeWrittenNothingIsTakenAndNothingIsWrittenTwice(t *testing.T) {
	s := newStorage(t)
	for status, kind := range map[int]Kind{500: InternalError, 503: Throttled, 403: Unauthorized, 404: NotFound} {
		s.mu.Lock()
		clear(s.blobs)
		s.fail = func(path string) int {
			if strings.HasPrefix(path, "iolite/2/") {
				return status
			}
			return 0
		}
		s.mu.Unlock()
		c := container(t, s.config())
		messages := []store.Event{of("a", 10), of("bb", 11), of("ccc", 12)}
		taken, err := c.Deliver(testContext(t), messages)
		var e *Error
		if taken != 0 || !errors.As(err, &e) || e.Kind != kind || strings.Contains(err.Error(), "sig") {
			t.Fatalf("%d: %d, %v", status, taken, err)
		}
		s.mu.Lock()
		s.fail = func(string) int { return 0 }
		s.mu.Unlock()
		messages = append(messages, of("a", 13))
		if taken, err := c.Deliver(testContext(t), messages); taken != 4 || err != nil {
			t.Fatal(taken, err)
		}
		bodies := map[string]int{}
		for _, blob := range s.blobs {
			for line := range strings.Lines(blob) {
				bodies[line]++
			}
		}
		if len(bodies) != 4 {
			t.Errorf("%d: %d messages were written", status, len(bodies))
		}
		for line, n := range bodies {
			if n != 1 {
				t.Errorf("%d: written %d times: %s", status, n, line)
			}
		}
	}
}

func TestBadContainersAreRefused(t *testing.T) {
	s := newStorage(t)
	for why, change := range map[string]func(*ContainerConfig){
		"AccountKey":     func(c *ContainerConfig) { c.ConnectionString = "AccountName=x" },
		"3 to 63":        func(c *ContainerConfig) { c.Container = "Upper" },
		"single hyphens": func(c *ContainerConfig) { c.Container = "a--b" },
		"no {mm}":        func(c *ContainerConfig) { c.FileNameFormat = "{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}" },
		"braces":         func(c *ContainerConfig) { c.FileNameFormat += "{ss}" },
		"empty part":     func(c *ContainerConfig) { c.FileNameFormat = "/" + c.FileNameFormat },
		"dots alone":     func(c *ContainerConfig) { c.FileNameFormat = "../" + c.FileNameFormat },
		"longer":         func(c *ContainerConfig) { c.FileNameFormat += strings.Repeat("x", maxFileName) },
	} {
		cfg := s.config()
		change(&cfg)
		if _, err := newEgress().Container(cfg); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v does not say %q", err, why)
		}
	}
}

func TestTokensOfFileNamesMayStandInAnyOrder(t *testing.T) {
	f, err := parseFileName("{mm}-{HH}_{DD}.{MM}.{YYYY}/p{partition}/{iothub}.json")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 9, 8, 7, 6, 0, time.FixedZone("", 3600))
	if got, want := f.name("hub", 3, at, 0), "07-07_09.11.2026/p3/hub.json"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if got, want := f.name("hub", 3, at, 12), "07-07_09.11.2026/p3/hub.json_12"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// The line is that of article "Message enrichments for device-to-cloud IoT Hub messages", with the names of article "Create and read
// messages".
func TestALineIsWrittenAsDocumented(t *testing.T) {
	e := store.Event{
		DeviceID: "Contoso-Test-Device", AuthMethod: `{"scope":"device"}`, GenerationID: "636930642531278483", Body: []byte("{\n \"a\": 1.50\n}"),
		Properties: []store.Property{{Name: "level", Value: "old"}, {Name: "level", Value: "storage"}, {Name: "q\"", Null: true}},
		Enqueued:   time.Date(2019, 5, 10, 6, 6, 32, 722000000, time.UTC),
	}
	const head = `{"EnqueuedTimeUtc":"2019-05-10T06:06:32.7220000Z","Properties":{"level":"storage","q\"":null},"SystemProperties":{` +
		`"connectionDeviceId":"Contoso-Test-Device","connectionAuthMethod":"{\"scope\":\"device\"}","connectionDeviceGenerationId":"636930642531278483",`
	const time = `"enqueuedTime":"2019-05-10T06:06:32.7220000Z"},"Body":`
	for _, try := range []struct{ contentType, encoding, body, want string }{
		{"", "", "", time + `"ewogImEiOiAxLjUwCn0="`},
		{"application/json", "utf-8", "", `"contentType":"application/json","contentEncoding":"utf-8",` + time + `{"a":1.50}`},
		{"Application/JSON", "UTF-8", "", `"contentType":"Application/JSON","contentEncoding":"UTF-8",` + time + `{"a":1.50}`},
		{"application/json; charset=utf-8", "utf-8", "", `"contentType":"application/json; charset=utf-8","contentEncoding":"utf-8",` + time + `"ewogImEiOiAxLjUwCn0="`},
		{"application/json", "", "", `"contentType":"application/json",` + time + `"ewogImEiOiAxLjUwCn0="`},
		{"application/json", "utf-16", "", `"contentType":"application/json","contentEncoding":"utf-16",` + time + `"ewogImEiOiAxLjUwCn0="`},
		{"text/plain", "utf-8", "", `"contentType":"text/plain","contentEncoding":"utf-8",` + time + `"ewogImEiOiAxLjUwCn0="`},
		{"application/json", "utf-8", "{broken", `"contentType":"application/json","contentEncoding":"utf-8",` + time + `"e2Jyb2tlbg=="`},
		{"application/json", "utf-8", "\"\xff\"", `"contentType":"application/json","contentEncoding":"utf-8",` + time + `"Iv8i"`},
	} {
		m := e
		m.ContentType, m.ContentEncoding = try.contentType, try.encoding
		if try.body != "" {
			m.Body = []byte(try.body)
		}
		if got := string(appendLine(nil, &m)); got != head+try.want+"}\n" {
			t.Errorf("%s %s:\n%s, not\n%s", try.contentType, try.encoding, got, head+try.want)
		}
	}
	all := event(0, "x")
	line := appendLine(nil, &all)
	for _, want := range []string{`"messageId":"m1"`, `"correlationId":"c1"`, `"userId":"u1"`, `"connectionModuleId":"mod-1"`, `"dt-dataschema":"dtmi:x;1"`, `"dt-subject":"thermostat"`, `"iothub-creation-time-utc":"2026-01-01T00:00:00Z"`} {
		if !strings.Contains(string(line), want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("application/json", "utf-8", []byte(`{"a":[1,"x"]}`), "name", "value")
	f.Add("application/json;charset=utf-8", "UTF-8", []byte("\"\xff"), "iothub-ack", "\x00\"\\")
	f.Fuzz(func(t *testing.T, contentType, encoding string, body []byte, name, value string) {
		e := store.Event{SystemProperties: store.SystemProperties{ContentType: contentType, ContentEncoding: encoding}, Body: body, Properties: []store.Property{{Name: name, Value: value}}}
		line := appendLine(nil, &e)
		if !json.Valid(line) || !utf8.Valid(line) || strings.IndexByte(string(line), '\n') != len(line)-1 {
			t.Errorf("no line of JSON: %q", line)
		}
	})
}

func FuzzFileName(f *testing.F) {
	f.Add("{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}/{mm}")
	f.Add("{mm}{HH}{DD}{MM}{YYYY}{partition}{iothub}")
	f.Fuzz(func(t *testing.T, format string) {
		n, err := parseFileName(format)
		if err != nil {
			return
		}
		if name := n.name("iolite", 31, start, maxCopies-1); len(name) > 1024 || strings.ContainsAny(name, "{}?#\\") || !strings.Contains(name, "2026") {
			t.Errorf("%q makes %q", format, name)
		}
	})
}
