package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// bodies returns the bodies of an answer's events.
func (a *answer) bodies() []string {
	a.t.Helper()
	var got Events
	must(a.t, json.Unmarshal([]byte(a.want(200).Body), &got))
	list := []string{}
	for _, e := range got.Events {
		list = append(list, *e.Body)
	}
	return list
}

func TestEventsAreFoundByWhatTheyAre(t *testing.T) {
	r := newRig(t)
	text := func(body string, properties ...store.Property) hub.Telemetry {
		return hub.Telemetry{Body: []byte(body), Properties: properties}
	}
	r.send("d1", text(`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`, store.Property{Name: "level", Value: "hot"}))
	r.clock.Advance(time.Minute)
	r.send("d2", text(`{"t":"21.5","on":false}`, store.Property{Name: "level", Value: "cold"}))
	r.clock.Advance(time.Minute)
	r.send("d1", hub.Telemetry{Body: []byte(`no JSON`), SystemProperties: store.SystemProperties{MessageSchema: "s1"}})
	for query, want := range map[string][]string{
		"":                                    {`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`, `{"t":"21.5","on":false}`, "no JSON"},
		"deviceId=d1":                         {`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`, "no JSON"},
		"deviceId=d1&limit=1":                 {`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`},
		"property.iothub-message-schema=s1":   {"no JSON"},
		"moduleId=m":                          {},
		"source=telemetry&deviceId=d2":        {`{"t":"21.5","on":false}`},
		"source=twinChangeEvents":             {},
		"property.level=hot":                  {`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`},
		"property.level=hot&property.level=c": {},
		"body.t=21.5":                         {`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`, `{"t":"21.5","on":false}`},
		"body.t=21.5&body.on=true":            {`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`},
		"body.list[0].a=x":                    {`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`},
		"body.list[1]=null":                   {`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`},
		"body.list[0]=" + url.QueryEscape(`{"a":"x"}`):                     {`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`},
		"body.list[2]=null":                                                {},
		"body.t[0]=2":                                                      {},
		"since=2026-01-02T03:05:05Z":                                       {`{"t":"21.5","on":false}`, "no JSON"},
		"since=2026-01-02T03:05:05Z&until=2026-01-02T03:06:05Z":            {`{"t":"21.5","on":false}`},
		"condition=" + url.QueryEscape(`level = 'cold' OR level = 'none'`): {`{"t":"21.5","on":false}`},
		"condition=" + url.QueryEscape(`$body.on`):                         {}, // of messages that do not say that they are JSON
		"eventHub=IOLITE&deviceId=d2":                                      {`{"t":"21.5","on":false}`},
		"cursor=end":                                                       {},
		"cursor=0.0.0.0.0":                                                 {`{"t":21.50,"on":true,"list":[{"a":"x"},null]}`, `{"t":"21.5","on":false}`, "no JSON"},
		"timeout=1m&limit":                                                 nil,
	} {
		if want == nil {
			continue
		}
		if diff := cmp.Diff(want, r.ask("GET", "/iolite/v1/events?"+query, "").bodies()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
}

func TestEventCursorGoesOnWhereTheAnswerEnded(t *testing.T) {
	r := newRig(t)
	var first Events
	r.send("d1", hub.Telemetry{Body: []byte("1")}, hub.Telemetry{Body: []byte("2")})
	must(t, json.Unmarshal([]byte(r.ask("GET", "/iolite/v1/events?limit=1", "").want(200).Body), &first))
	r.send("d1", hub.Telemetry{Body: []byte("3")})
	if diff := cmp.Diff([]string{"2", "3"}, r.ask("GET", "/iolite/v1/events?cursor="+first.Cursor, "").bodies()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEventCursorOfBeforeAResetIsRefused(t *testing.T) {
	r := newRig(t)
	var before Events
	r.send("d1", hub.Telemetry{Body: []byte("1")})
	must(t, json.Unmarshal([]byte(r.ask("GET", "/iolite/v1/events", "").want(200).Body), &before))
	r.ask("POST", "/iolite/v1/reset", "").want(204)
	r.ask("GET", "/iolite/v1/events?cursor="+before.Cursor, "").want(400).has("before a reset")
}

func TestOnlySoManyRequestsWaitForEventsAtOnce(t *testing.T) {
	r := newRig(t)
	for range maxLasting {
		response, err := r.client.Get(r.base + "/iolite/v1/events?follow=true")
		must(t, err)
		defer response.Body.Close()
	}
	r.ask("GET", "/iolite/v1/events?timeout=5s", "").want(503).has("100 requests")
	r.ask("GET", "/iolite/v1/events", "").want(200)
}

func TestEventThatIsWaitedForIsAnsweredWhenItComes(t *testing.T) {
	r := newRig(t)
	r.send("d1", hub.Telemetry{Body: []byte(`{"n":1}`)})
	got := make(chan []string)
	go func() { got <- r.ask("GET", "/iolite/v1/events?timeout=10m&count=2&body.n=2", "").bodies() }()
	for _, body := range []string{`{"n":2}`, `{"n":3}`, `{"n":2}`} {
		r.send("d1", hub.Telemetry{Body: []byte(body)})
	}
	if diff := cmp.Diff([]string{`{"n":2}`, `{"n":2}`}, <-got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEventThatDoesNotComeIsNotFound(t *testing.T) {
	r := newRig(t)
	r.send("d1", hub.Telemetry{Body: []byte("1")})
	r.ask("GET", "/iolite/v1/events?timeout=10ms&deviceId=d1&count=2", "").want(404).has("1 events matched within 10ms, and not 2")
}

func TestMoreEventsThanAnAnswerHoldsAreNotWaitedFor(t *testing.T) {
	r := newRig(t)
	large := hub.Telemetry{Body: bytes.Repeat([]byte("x"), 255<<10)}
	for range 34 {
		r.send("d1", large)
	}
	r.ask("GET", "/iolite/v1/events?timeout=10m&count=34", "").want(400).has("33 events fill an answer")
}

func TestFollowerGetsEachEventAndEndsWithAReset(t *testing.T) {
	r := newRig(t)
	r.send("d1", hub.Telemetry{Body: []byte("1")})
	response, err := r.client.Get(r.base + "/iolite/v1/events?follow=true")
	must(t, err)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for _, want := range []string{"1", "2", "3"} {
		if want != "1" {
			r.send("d1", hub.Telemetry{Body: []byte(want)})
		}
		var e Event
		if !lines.Scan() {
			t.Fatal("the stream has ended")
		}
		must(t, json.Unmarshal(lines.Bytes(), &e))
		if *e.Body != want || e.DeviceID != "d1" || e.Source != "Telemetry" {
			t.Errorf("got %s", lines.Text())
		}
	}
	r.ask("POST", "/iolite/v1/reset", "").want(204)
	if lines.Scan() {
		t.Errorf("after a reset comes %s", lines.Text())
	}
}

func TestEventsOfAnUnknownEventHubAreNotFound(t *testing.T) {
	newRig(t).ask("GET", "/iolite/v1/events?eventHub=nothing", "").want(404).has("nothing")
}

func TestBadRequestsForEventsAreToldWhatIsWrong(t *testing.T) {
	r := newRig(t)
	for query, why := range map[string]string{
		"nonsense=1":       "nonsense: there is no such parameter",
		"limit=0":          "between 1 and 1000",
		"limit=1001":       "between 1 and 1000",
		"count=2":          "needs a timeout",
		"timeout=0s":       "not between",
		"timeout=11m":      "not between",
		"timeout=soon":     "timeout",
		"since=yesterday":  "since",
		"cursor=0.1.2":     "the cursor is of 2 partitions, and there are 4",
		"cursor=0.1.2.3.x": "no cursor",
		"cursor=-1.0.0.0":  "no cursor",
		"cursor=7.0.0.0.0": "before a reset",
		"cursor=7":         "no cursor",
		"condition=a+%3D":  "condition",
		"follow=perhaps":   "follow",
		"body.=1":          "empty name",
		"body.a..b=1":      "empty name",
		"body.a[x]=1":      "index that is no number",
		"body.a[1=1":       "index that is no number",
		"body.a[=1":        "index that is no number",
		"body." + strings.Repeat("a.", 70) + "a=1": "more than 64",
	} {
		r.ask("GET", "/iolite/v1/events?"+query, "").want(400).has(why)
	}
}
