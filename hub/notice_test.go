package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/store"
)

// noticeRouting sends the notices of every source to an event hub with one partition.
func noticeRouting() Routing {
	r := Routing{Endpoints: hubs("notices")}
	for _, source := range routeSources {
		if source != DeviceMessages {
			r.Routes = append(r.Routes, Route{Name: string(source), Source: source, EndpointNames: []string{"notices"}})
		}
	}
	return r
}

// noticeLog reads the notices of a hub.
type noticeLog struct {
	t    testing.TB
	h    *Hub
	next int64
}

// listen has notices of every source routed from now on.
func listen(t testing.TB, h *Hub) *noticeLog {
	t.Helper()
	setRouting(t, h, noticeRouting())
	l := &noticeLog{t: t, h: h}
	l.take("") // what was before
	return l
}

// take returns what has come since the last call, of one source or of all when that is empty.
func (l *noticeLog) take(source string) (events []store.Event) {
	l.t.Helper()
	log := l.h.routings.current.Load().find("notices").log
	for {
		more, err := log.Read(ctx, 0, l.next, 1000, 1<<20)
		if err != nil {
			l.t.Fatal(err)
		}
		if len(more) == 0 {
			return events
		}
		for i := range more {
			l.next = more[i].Sequence + 1
			if source == "" || more[i].Source == source {
				events = append(events, more[i])
			}
		}
	}
}

// one is take for a single notice.
func (l *noticeLog) one(t testing.TB, source string) store.Event {
	t.Helper()
	events := l.take(source)
	if len(events) != 1 {
		t.Fatalf("%d events of %s: %s", len(events), source, brief(events))
	}
	return events[0]
}

// brief names the operations of events and whom they are about.
func brief(events []store.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%s %s; ", propertyOf(e, "opType"), store.Key{DeviceID: e.DeviceID, ModuleID: e.ModuleID})
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func propertyOf(e store.Event, name string) string {
	for _, p := range e.Properties {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// wantNotice compares a notice with what is documented.
func wantNotice(t *testing.T, e store.Event, source, schema, opType, at, body string) {
	t.Helper()
	wantJSON(t, e.Body, body)
	want := fmt.Sprintf("%s %s %s %s iolite utf-8", source, schema, opType, at)
	got := fmt.Sprintf("%s %s %s %s %s %s", e.Source, e.MessageSchema, propertyOf(e, "opType"), propertyOf(e, "operationTimestamp"), e.UserID, e.ContentEncoding)
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if propertyOf(e, "hubName") != "iolite" || propertyOf(e, "deviceId") != e.DeviceID || propertyOf(e, "moduleId") != e.ModuleID {
		t.Errorf("properties %v of %s/%s", e.Properties, e.DeviceID, e.ModuleID)
	}
	wantType := "application/json"
	if source == "digitalTwinChangeEvents" {
		wantType += "-patch+json"
	}
	if e.ContentType != wantType || e.CorrelationID == "" {
		t.Errorf("content type %q, correlation id %q", e.ContentType, e.CorrelationID)
	}
	if e.AuthMethod != "" || e.GenerationID != "" || e.ModelID != "" || e.PartitionKey != "" || e.To != "" || e.MessageID != "" {
		t.Errorf("the real hub says less: %+v", e)
	}
}

func TestNobodyIsToldOfWhatNoRouteWants(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d", func(o *DeviceOptions) { o.ModelID = "dtmi:com:example:Thermostat;1" })
	tag(t, h, s.Key(), `{"tags":{"a":1}}`)
	s.Close()
	for p := range h.events.Partitions() {
		if info, err := h.events.Info(ctx, p); err != nil || info.LastSequence >= info.FirstSequence {
			t.Errorf("partition %d: %+v, %v", p, info, err)
		}
	}
}

// order checks that the notices of every identity come in an order in which things can happen.
type order struct {
	t  *testing.T
	of map[store.Key]*orderState
}

type orderState struct {
	exists, connected bool
	version           int64 // of the twin
	sequence          string
}

func (o *order) check(e store.Event) {
	key := store.Key{DeviceID: e.DeviceID, ModuleID: e.ModuleID}
	s := o.of[key]
	if s == nil {
		s = &orderState{}
		o.of[key] = s
	}
	body, err := document.Parse(e.Body)
	if err != nil {
		o.t.Errorf("%s: %v", e.Body, err)
	}
	op := propertyOf(e, "opType")
	switch op {
	case opCreate:
		o.want(key, op, !s.exists && !s.connected)
		*s = orderState{exists: true, version: firstVersion, sequence: s.sequence}
	case opDelete:
		v, _ := body.Get("version").Int()
		o.want(key, op, s.exists && !s.connected && v == s.version)
		s.exists = false
	case opConnected, opDisconnected:
		n := body.Get("sequenceNumber").Text()
		o.want(key, op, s.connected == (op == opDisconnected) && len(n) == 64 && n > s.sequence)
		o.want(key, op, s.exists || op == opDisconnected) // who was deleted goes before the hub tells of it
		s.connected, s.sequence = op == opConnected, n
	case "updateTwin", "replaceTwin":
		if e.Source == "digitalTwinChangeEvents" {
			o.want(key, op, s.exists)
			return
		}
		v, _ := body.Get("version").Int()
		o.want(key, op, s.exists && v == s.version+1)
		s.version = v
	}
}

func (o *order) want(key store.Key, op string, ok bool) {
	if !ok {
		o.t.Errorf("%s: %s comes where it cannot: %+v", key, op, *o.of[key])
	}
}

// TestNoticesTellEverythingInOrder: whatever happens at once, a listener can follow each identity without a gap.
func TestNoticesTellEverythingInOrder(t *testing.T) {
	h, c := newTestHub(t)
	o := &order{t: t, of: map[store.Key]*orderState{}}
	l := listen(t, h)
	s := &storm{t: t, h: h, tick: func() { c.Advance(500 * time.Millisecond) }}
	var working sync.WaitGroup
	for name, act := range stormActs {
		if slices.Contains([]string{"reset", "route", "job", "invoke"}, name) { // those tell nothing, or wait for time to pass
			continue
		}
		for range 2 {
			working.Go(func() {
				for range stormTurns {
					if err := act(s); codeOf(err) < 0 || codeOf(err) == CodeServerError {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
			})
		}
	}
	working.Wait()
	for _, e := range l.take("") {
		o.check(e)
	}
	for key, s := range o.of {
		row, err := h.twinRow(ctx, key)
		if s.exists != (err == nil) {
			t.Errorf("%s: exists %t, %v", key, s.exists, err)
		}
		if err == nil && (row.Twin.Version != s.version || row.Connected != s.connected) {
			t.Errorf("%s: version %d, connected %t; was told %+v", key, row.Twin.Version, row.Connected, *s)
		}
	}
}

// TestNothingComesBetweenALifeAndItsEvents: a device that is made and deleted again and again, while others use it.
func TestNothingComesBetweenALifeAndItsEvents(t *testing.T) {
	h, _ := newTestHub(t)
	o := &order{t: t, of: map[store.Key]*orderState{}}
	l := listen(t, h)
	device, module := store.Key{DeviceID: "d"}, store.Key{DeviceID: "d", ModuleID: "m"}
	var living, using sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		living.Go(func() {
			for range 500 {
				_, _ = h.Admin().CreateIdentity(ctx, store.Identity{Key: device})
				_, _ = h.Admin().CreateIdentity(ctx, store.Identity{Key: module})
				_ = h.Admin().DeleteIdentity(ctx, device, "*")
			}
		})
	}
	for _, key := range []store.Key{device, module} {
		using.Go(func() {
			for range 2000 { // the event hub keeps no more events than these make
				select {
				case <-done:
					return
				default:
				}
				_, _ = h.Admin().UpdateTwin(ctx, key, []byte(`{"tags":{"a":1}}`), "")
				if s, err := h.OpenDevice(ctx, owner(key), key, DeviceOptions{}); err == nil {
					_, _ = s.UpdateReported(ctx, []byte(`{"r":1}`), 0)
					s.Close()
				}
			}
		})
	}
	living.Wait()
	close(done)
	using.Wait()
	for _, e := range l.take("") {
		o.check(e)
	}
}

// brokenEngine is an engine whose events cannot be stored while it is broken.
type brokenEngine struct {
	store.Engine
	broken atomic.Bool
}

func (e *brokenEngine) Events() store.EventLog { return brokenLog{e.Engine.Events(), e} }

type brokenLog struct {
	store.EventLog
	engine *brokenEngine
}

var errBroken = errors.New("broken")

func (l brokenLog) Append(ctx context.Context, partition int, events ...store.Event) (int64, error) {
	if l.engine.broken.Load() {
		return 0, errBroken
	}
	return l.EventLog.Append(ctx, partition, events...)
}

// TestAChangeWhoseEventCannotBeStoredIsNotAcknowledged: so that no acknowledged change is without its event.
func TestAChangeWhoseEventCannotBeStoredIsNotAcknowledged(t *testing.T) {
	engine := &brokenEngine{Engine: store.NewMemory(store.MemoryOptions{})}
	var log bytes.Buffer
	h, _ := newTestHub(t, func(c *Config) {
		c.Engine, c.Routing, c.Logger = engine, noticeRouting(), slog.New(slog.NewTextHandler(&log, nil))
		for i := range c.Routing.Routes {
			c.Routing.Routes[i].EndpointNames = []string{builtInEndpoint}
		}
	})
	s := connect(t, h, "d")
	gone := addDevice(t, h, store.Key{DeviceID: "gone"})
	engine.broken.Store(true)
	for name, try := range map[string]func() error{
		"patch":  func() error { _, err := h.Admin().UpdateTwin(ctx, s.Key(), []byte(`{"tags":{"a":1}}`), ""); return err },
		"report": func() error { _, err := s.UpdateReported(ctx, []byte(`{"a":1}`), 0); return err },
		"create": func() error {
			_, err := h.Admin().CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "new"}})
			return err
		},
		"delete": func() error { return h.Admin().DeleteIdentity(ctx, gone.Key, "*") },
	} {
		if err := try(); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Close() // a connection ends whatever happens
	if h.metrics.connected.Load() != 0 || !strings.Contains(log.String(), "deviceDisconnected") {
		t.Errorf("the log says %s", log.String())
	}
}

func TestAResetTellsNothing(t *testing.T) {
	h, _ := newTestHub(t, func(c *Config) { c.Routing = noticeRouting() })
	l := &noticeLog{t: t, h: h}
	connect(t, h, "d")
	if got := brief(l.take("")); got != "createDeviceIdentity d; deviceConnected d" {
		t.Errorf("told of %s", got)
	}
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	l.next = 0 // events are counted anew
	if got := l.take(""); len(got) > 0 {
		t.Errorf("told of %s", brief(got))
	}
	connect(t, h, "d")
	if got := brief(l.take("")); got != "createDeviceIdentity d; deviceConnected d" {
		t.Errorf("told of %s", got)
	}
	h.Close()
	if got := l.take(""); len(got) > 0 {
		t.Errorf("closing told of %s", brief(got))
	}
}

func TestConnectionStateEventsHaveTheDocumentedShape(t *testing.T) {
	h, c := newTestHub(t)
	l := listen(t, h)
	s := connect(t, h, "d")
	l.take("")
	s.Close()
	wantNotice(t, l.one(t, ""), "deviceConnectionStateEvents", "deviceConnectionStateNotification", "deviceDisconnected", "2026-01-01T00:00:00.0000000Z",
		`{"sequenceNumber":"000000000000000001DC7AB1928100000000000200000000`+`0000000000000002"}`)
	m := addDevice(t, h, store.Key{DeviceID: "d", ModuleID: "m"})
	l.take("")
	c.Advance(1500 * time.Millisecond)
	if _, err := h.OpenDevice(ctx, owner(m.Key), m.Key, DeviceOptions{}); err != nil {
		t.Fatal(err)
	}
	e := l.one(t, "")
	wantNotice(t, e, "deviceConnectionStateEvents", "deviceConnectionStateNotification", "deviceConnected", "2026-01-01T00:00:01.5000000Z",
		`{"sequenceNumber":"000000000000000001DC7AB1928100000000000200000000`+`0000000000000003"}`)
	if e.ModuleID != "m" || !e.Enqueued.Equal(h.Now()) {
		t.Errorf("%+v", e)
	}
}

func TestEveryEndOfAConnectionIsToldOnce(t *testing.T) {
	module := store.Key{DeviceID: "d", ModuleID: "m"}
	ends := map[string]struct {
		end  func(h *Hub, device, module *DeviceSession, tick func(time.Duration)) error
		want string
	}{
		"close": {func(_ *Hub, d, m *DeviceSession, _ func(time.Duration)) error {
			d.Close()
			d.Close()
			m.Close()
			return nil
		},
			"deviceDisconnected d; deviceDisconnected d/m"},
		"replaced": {func(h *Hub, d, _ *DeviceSession, _ func(time.Duration)) error {
			_, err := h.OpenDevice(ctx, owner(d.Key()), d.Key(), DeviceOptions{})
			d.Close()
			return err
		}, ""},
		"a single request": {func(h *Hub, d, _ *DeviceSession, _ func(time.Duration)) error {
			s, err := h.OpenDevice(ctx, owner(d.Key()), d.Key(), DeviceOptions{Transient: true})
			s.Close()
			return err
		}, ""},
		"disabled": {func(h *Hub, d, _ *DeviceSession, _ func(time.Duration)) error {
			_, err := h.Admin().UpdateIdentity(ctx, store.Identity{Key: d.Key(), Status: store.Disabled}, "*")
			return err
		}, "deviceDisconnected d; deviceDisconnected d/m"},
		"cut": {func(h *Hub, _, _ *DeviceSession, _ func(time.Duration)) error { h.Disconnect("d"); return nil }, "deviceDisconnected d; deviceDisconnected d/m"},
		"deleted": {func(h *Hub, d, _ *DeviceSession, _ func(time.Duration)) error {
			return h.Admin().DeleteIdentity(ctx, d.Key(), "*")
		},
			"deviceDisconnected d; deviceDisconnected d/m; deleteDeviceIdentity d/m; deleteDeviceIdentity d"},
		"the module is deleted": {func(h *Hub, _, m *DeviceSession, _ func(time.Duration)) error {
			return h.Admin().DeleteIdentity(ctx, m.Key(), "*")
		},
			"deviceDisconnected d/m; deleteDeviceIdentity d/m"},
		"the token ends": {func(_ *Hub, d, _ *DeviceSession, tick func(time.Duration)) error {
			d.Renew(auth.Principal{DeviceID: "d", Rights: auth.DeviceConnect, Expiry: d.since.Add(time.Minute), Scope: devicePath(d.Key())})
			tick(time.Hour)
			return nil
		}, "deviceDisconnected d"},
	}
	for name, try := range ends {
		t.Run(name, func(t *testing.T) {
			h, c := newTestHub(t)
			d := connect(t, h, "d")
			addDevice(t, h, module)
			m, err := h.OpenDevice(ctx, owner(module), module, DeviceOptions{})
			if err != nil {
				t.Fatal(err)
			}
			l := listen(t, h)
			if err := try.end(h, d, m, func(d time.Duration) { c.Advance(d) }); err != nil {
				t.Fatal(err)
			}
			got := ""
			eventually(t, "the end is told", func() bool {
				if more := brief(l.take("")); more != "" {
					got = strings.TrimPrefix(got+"; "+more, "; ")
				}
				return len(got) >= len(try.want)
			})
			if got != try.want && !(name == "cut" && got == "deviceDisconnected d/m; deviceDisconnected d") {
				t.Errorf("told of %s, want %s", got, try.want)
			}
		})
	}
}

func TestLifecycleEventsHaveTheDocumentedShape(t *testing.T) {
	h, c := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	l := listen(t, h)
	c.Advance(time.Second)
	m := addDevice(t, h, store.Key{DeviceID: "d", ModuleID: "m"})
	wantNotice(t, l.one(t, ""), "deviceLifecycleEvents", "deviceLifecycleNotification", "createDeviceIdentity", "2026-01-01T00:00:01.0000000Z",
		`{"deviceId":"d","moduleId":"m","etag":"AAAAAAAAAAE=","version":2,"properties":{
			"desired":{"$metadata":{"$lastUpdated":"2026-01-01T00:00:01Z"},"$version":1},"reported":{"$metadata":{"$lastUpdated":"2026-01-01T00:00:01Z"},"$version":1}}}`)
	tag(t, h, m.Key, `{"tags":{"a":1},"properties":{"desired":{"p":1}}}`)
	l.take("")
	c.Advance(time.Second)
	if err := h.Admin().DeleteIdentity(ctx, m.Key, "*"); err != nil {
		t.Fatal(err)
	}
	wantNotice(t, l.one(t, ""), "deviceLifecycleEvents", "deviceLifecycleNotification", "deleteDeviceIdentity", "2026-01-01T00:00:02.0000000Z",
		`{"deviceId":"d","moduleId":"m","etag":"AAAAAAAAAAI=","version":3,"tags":{"a":1},"properties":{
			"desired":{"p":1,"$metadata":{"$lastUpdated":"2026-01-01T00:00:01Z","$lastUpdatedVersion":2,"p":{"$lastUpdated":"2026-01-01T00:00:01Z","$lastUpdatedVersion":2}},"$version":2},
			"reported":{"$metadata":{"$lastUpdated":"2026-01-01T00:00:01Z"},"$version":1}}}`)
}

func TestEveryWayOfMakingAndDeletingIdentitiesIsTold(t *testing.T) {
	h, blobs := newBlobHub(t)
	l := listen(t, h)
	edge := store.Identity{Key: store.Key{DeviceID: "e"}, IoTEdge: true}
	bulk := func(mode string) func() error {
		return func() error {
			failed, err := h.Admin().Bulk(ctx, []BulkItem{{Mode: mode, Identity: store.Identity{Key: store.Key{DeviceID: "b"}}, Tags: documentOf(t, `{"a":1}`)}})
			if len(failed) > 0 {
				return failed[0].Err
			}
			return err
		}
	}
	for _, try := range []struct {
		name string
		do   func() error
		want string
	}{
		{"an edge device", func() error { _, err := h.Admin().CreateIdentity(ctx, edge); return err },
			"createDeviceIdentity e; createDeviceIdentity e/$edgeAgent; createDeviceIdentity e/$edgeHub"},
		{"the same once more", func() error {
			_, err := h.Admin().CreateIdentity(ctx, edge)
			wantCode(t, err, CodeDeviceAlreadyExists)
			return nil
		}, ""},
		{"bulk", bulk("createOrUpdate"), "createDeviceIdentity b; updateTwin b"},
		{"bulk update", bulk("updateTwin"), "updateTwin b"},
		{"bulk delete", bulk("delete"), "deleteDeviceIdentity b"},
		{"import", func() error {
			blobs.blobs["http://storage/c?sig=s|devices.txt"] = `{"id":"i","importMode":"create"}` + "\n" + `{"id":"e","importMode":"delete"}`
			transferDone(t, h, transferBody("import", ""))
			return nil
		},
			"createDeviceIdentity i; deleteDeviceIdentity e/$edgeHub; deleteDeviceIdentity e/$edgeAgent; deleteDeviceIdentity e"},
		{"update", func() error {
			_, err := h.Admin().UpdateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "i"}, StatusReason: "x"}, "*")
			return err
		}, ""},
		{"a failed delete", func() error {
			wantCode(t, h.Admin().DeleteIdentity(ctx, store.Key{DeviceID: "i"}, "other"), CodePreconditionFailed)
			return nil
		}, ""},
		{"update to an edge device", func() error {
			_, err := h.Admin().UpdateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "i"}, IoTEdge: true}, "*")
			return err
		}, "createDeviceIdentity i/$edgeAgent; createDeviceIdentity i/$edgeHub"},
		{"a deployment makes a module", func() error {
			return h.Admin().ApplyConfiguration(ctx, "i", []byte(`{"modulesContent":{"m":{"properties.desired.x":1}}}`))
		}, "createDeviceIdentity i/m; updateTwin i/m"},
	} {
		if err := try.do(); err != nil {
			t.Fatalf("%s: %v", try.name, err)
		}
		if got := brief(l.take("")); got != try.want {
			t.Errorf("%s: told of %s", try.name, got)
		}
	}
}

func documentOf(t testing.TB, text string) document.Value {
	t.Helper()
	v, err := document.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestJobsTellWhatBecameOfThemAtEachDevice(t *testing.T) {
	h, _ := newTestHub(t)
	d := connect(t, h, "d")
	responder(t, d, 200)
	addDevice(t, h, store.Key{DeviceID: "e"})
	l := listen(t, h)
	schedule(t, h, "twins", tagJob("deviceId = 'e'", ""))
	jobWhen(t, h, "twins", jobCompleted)
	wantNotice(t, l.one(t, "deviceJobLifecycleEvents"), "deviceJobLifecycleEvents", "deviceJobLifecycleNotification", "deviceJobCompleted", "2026-01-01T00:00:00.0000000Z",
		`{"createdDateTimeUtc":"2026-01-01T00:00:00Z","deviceId":"e","endTimeUtc":"2026-01-01T00:00:00Z","jobId":"twins","jobType":"scheduleUpdateTwin",
			"lastUpdatedDateTimeUtc":"2026-01-01T00:00:00Z","outcome":{"deviceMethodResponse":null},"startTimeUtc":"2026-01-01T00:00:00Z","status":"completed"}`)
	schedule(t, h, "calls", methodJob(""))
	jobWhen(t, h, "calls", jobCompleted)
	got := map[string]string{}
	for _, e := range l.take("deviceJobLifecycleEvents") {
		got[e.DeviceID] += propertyOf(e, "opType") + " "
	}
	if got["d"] != "deviceJobRunning deviceJobCompleted " || got["e"] != "deviceJobRunning deviceJobFailed " {
		t.Errorf("told of %v", got)
	}
}

func TestCorrelationIdsGrow(t *testing.T) {
	h, _ := newTestHub(t)
	last := int64(0)
	for range 100 {
		n, err := strconv.ParseInt(h.newCorrelationID(), 16, 64)
		if err != nil || n <= last {
			t.Fatalf("%d after %d, %v", n, last, err)
		}
		last = n
	}
}
