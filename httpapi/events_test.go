package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

const eventsOf = "/devices/d1/messages/events" + version

func TestTelemetryCarriesPropertiesInReceivedCaseAndOrder(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	c := r.dial()
	body := `{"temperature":21}`
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nIoTHub-MessageId: m1\r\niothub-app-fooBar: one\r\n"+
		"IOTHUB-APP-Zeta:two  \r\niothub-app-empty:\r\niothub-app-folded: a\r\n  b\r\niothub-correlationid: c1\r\niothub-userid: u1\r\n"+
		"iothub-contenttype: application/json\r\niothub-contentencoding: utf-8\r\niothub-ack: full\r\ndt-subject: thermostat\r\n"+
		"iothub-creationtimeutc: 2026-01-01T00:00:00Z\r\niothub-messageschema: s1\r\niothub-interface-id: i1\r\niothub-operation: o1\r\n"+
		"iothub-expiry: 2026-01-03T00:00:00Z\r\niothub-app-fooBar: again\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%s",
		eventsOf, host, r.deviceToken("d1"), len(body), body)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	a := readAnswer(t, response).want(204, "")
	golden(t, "events-204", a.text())
	want := store.SystemProperties{
		MessageID: "m1", CorrelationID: "c1", UserID: "u1", To: "/devices/d1/messages/events", ContentType: "application/json", ContentEncoding: "utf-8",
		Ack: "full", Subject: "thermostat", CreationTime: "2026-01-01T00:00:00Z", MessageSchema: "s1", InterfaceID: "i1", Operation: "o1",
		Expiry: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC),
	}
	got := r.events()
	if len(got) != 1 {
		t.Fatalf("%d events, want 1", len(got))
	}
	if diff := cmp.Diff(want, got[0].SystemProperties); diff != "" {
		t.Errorf("system properties (-want +got):\n%s", diff)
	}
	properties := []store.Property{
		{Name: "fooBar", Value: "one"}, {Name: "Zeta", Value: "two"}, {Name: "empty"}, {Name: "folded", Value: "a b"}, {Name: "fooBar", Value: "again"},
	}
	if diff := cmp.Diff(properties, got[0].Properties); diff != "" {
		t.Errorf("application properties (-want +got):\n%s", diff)
	}
	if string(got[0].Body) != body {
		t.Errorf("body %q, want %q", got[0].Body, body)
	}
}

func TestPropertyNamesKeepTheirCaseOnEveryRequestOfAConnection(t *testing.T) {
	chunked := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(s), s) }
	plain := func(s string) string { return s }
	// What a body holds must not be taken for headers.
	body := "POST / HTTP/1.1\r\niothub-app-FOO0: no\r\n\r\n"
	for _, test := range []struct {
		name      string
		framing   string
		encode    func(string) string
		pipelined bool
	}{
		{"with a length", fmt.Sprintf("Content-Length: %d", len(body)), plain, false},
		{"with a length, pipelined", fmt.Sprintf("Content-Length: %d", len(body)), plain, true},
		{"chunked", "Transfer-Encoding: chunked", chunked, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.device("d1")
			c := r.dial()
			in := bufio.NewReader(c)
			const n = 5
			var all string
			for i := range n {
				request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\niothub-app-fOo%d: %d\r\n%s\r\n\r\n%s",
					eventsOf, host, r.deviceToken("d1"), i, i, test.framing, test.encode(body))
				if test.pipelined {
					all += request
					continue
				}
				_, err := io.WriteString(c, request)
				must(t, err)
				readResponse(t, in).want(204, "")
			}
			if test.pipelined {
				_, err := io.WriteString(c, all)
				must(t, err)
				for range n {
					readResponse(t, in).want(204, "")
				}
			}
			for i, e := range r.events() {
				want := []store.Property{{Name: fmt.Sprintf("fOo%d", i), Value: fmt.Sprint(i)}}
				if diff := cmp.Diff(want, e.Properties); diff != "" {
					t.Errorf("event %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

func readResponse(t testing.TB, in *bufio.Reader) *answer {
	t.Helper()
	response, err := http.ReadResponse(in, nil)
	must(t, err)
	return readAnswer(t, response)
}

func TestBatchIsStoredAllOrNone(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	post := func(body string) *answer {
		return r.ask("POST", eventsOf, r.deviceToken("d1"), body, "Content-Type", "application/vnd.microsoft.iothub.json; charset=utf-8")
	}
	post(`[{"body":"aGVsbG8=","properties":{"iothub-app-Xy":"v","iothub-messageid":"m1","iothub-app-n":3,"iothub-app-b":true}},
		{"body":"raw text","base64Encoded":false,"properties":{"iothub-creation-time-utc":"2024-02-29T12:34:56.0000789Z"}},
		{"body":"","base64Encoded":true,"properties":null,"unknown":{}}]`).want(204, "")
	got := r.events()
	if len(got) != 3 {
		t.Fatalf("%d events, want 3", len(got))
	}
	if string(got[0].Body) != "hello" || string(got[1].Body) != "raw text" || len(got[2].Body) != 0 {
		t.Errorf("bodies %q %q %q", got[0].Body, got[1].Body, got[2].Body)
	}
	want := []store.Property{{Name: "Xy", Value: "v"}, {Name: "n", Value: "3"}, {Name: "b", Value: "true"}}
	if diff := cmp.Diff(want, got[0].Properties); diff != "" || got[0].MessageID != "m1" {
		t.Errorf("message id %q, properties (-want +got):\n%s", got[0].MessageID, diff)
	}
	if got[1].CreationTime != "2024-02-29T12:34:56.0000789Z" {
		t.Errorf("creation time %q under the name that the Java SDK gives it", got[1].CreationTime)
	}
	for name, bad := range map[string]string{
		"no JSON":                "[{",
		"garbage behind":         `[{"body":"aGVsbG8="}] x`,
		"an object":              `{"body":"aGVsbG8="}`,
		"null":                   `null`,
		"empty":                  ``,
		"no message":             `[]`,
		"no body":                `[{"body":"aGVsbG8="},{}]`,
		"body of another kind":   `[{"body":{}}]`,
		"not base64":             `[{"body":"aGVsbG8="},{"body":"%%%"}]`,
		"property is an object":  `[{"body":"","properties":{"iothub-app-x":{}}}]`,
		"properties are a list":  `[{"body":"","properties":["iothub-app-x"]}]`,
		"property without name":  `[{"body":"","properties":{"iothub-app-":"v"}}]`,
		"expiry is no time":      `[{"body":"","properties":{"iothub-expiry":"soon"}}]`,
		"message id not allowed": `[{"body":""},{"body":"","properties":{"iothub-messageid":"ä"}}]`,
	} {
		t.Run(name, func(t *testing.T) { post(bad).want(400, "ArgumentInvalid") })
	}
	if n := len(r.events()); n != 3 {
		t.Errorf("%d events after bad batches, want 3", n)
	}
}

func TestBatchWarnsOfPropertiesThatItLeavesOut(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.ask("POST", eventsOf, r.deviceToken("d1"), `[{"body":"","properties":{"colour":"red"}}]`, "Content-Type", batchType).want(204, "")
	if !strings.Contains(r.log.String(), "colour") {
		t.Errorf("no warning in the log:\n%s", r.log)
	}
}

func TestMessageLargerThan256KiBIsRefused(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.deviceToken("d1")
	r.ask("POST", eventsOf, token, strings.Repeat("x", 256<<10-100)).want(204, "")
	for name, size := range map[string]int{"by a byte": 256<<10 + 1, "with its properties": 256 << 10, "by far": 4 << 20} {
		t.Run(name, func(t *testing.T) {
			r.ask("POST", eventsOf, token, strings.Repeat("x", size), "iothub-app-x", "y").want(413, "MessageTooLarge")
		})
	}
	t.Run("batch", func(t *testing.T) {
		body := `[{"base64Encoded":false,"body":"` + strings.Repeat("x", 256<<10) + `"}]`
		r.ask("POST", eventsOf, token, body, "Content-Type", batchType).want(413, "MessageTooLarge")
	})
	if n := len(r.events()); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestModulesHaveNoTelemetryOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.ask("POST", "/devices/d1/modules/m1/messages/events"+version, r.deviceToken("d1"), "x").want(404, "GenericNotFound")
}

func TestConnectionThatDiesInABodyStoresNothing(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	c := r.dial()
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Length: 10\r\n\r\nhalf", eventsOf, host, r.deviceToken("d1"))
	must(t, c.CloseWrite())
	readResponse(t, bufio.NewReader(c)).want(400, "ArgumentInvalid")
	if n := len(r.events()); n != 0 {
		t.Errorf("%d events, want 0", n)
	}
}
