package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// logbook is a log that tests read.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// withLog has a hub write its log, from level on, into a logbook.
func withLog(l *logbook, level slog.Level) func(*Config) {
	return func(cfg *Config) { cfg.Logger = slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: level})) }
}

// take returns the lines that were written, with the values of some keys, and begins anew.
func (l *logbook) take(t *testing.T, keys ...string) [][]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines [][]any
	for d := json.NewDecoder(&l.b); d.More(); {
		var line map[string]any
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		var values []any
		for _, k := range keys {
			values = append(values, line[k])
		}
		lines = append(lines, values)
	}
	l.b.Reset()
	return lines
}

func TestConnectionsAreLogged(t *testing.T) {
	var log logbook
	h, _ := newTestHub(t, withLog(&log, slog.LevelInfo))
	keys := []string{"level", "category", "operation", "deviceId", "door", "resultType", "cause"}
	want := func(what string, lines ...[]any) {
		t.Helper()
		if diff := cmp.Diff(lines, log.take(t, keys...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	conn, _ := pipe(t, door.MQTT)
	open := func() *DeviceSession { return connect(t, h, "d", func(o *DeviceOptions) { o.Conn = conn }) }
	connected := []any{"INFO", "Connections", "deviceConnect", "d", "mqtt", nil, nil}
	s := open()
	want("connected", connected)
	s.Close()
	want("goodbye", []any{"INFO", "Connections", "deviceDisconnect", "d", "mqtt", nil, nil})
	s = open()
	s.Lost(errors.New("the cable is cut"))
	s.Lost(errors.New("again"))
	want("lost", connected, []any{"ERROR", "Connections", "deviceDisconnect", "d", "mqtt", 404104.0, "the cable is cut"})
	open()
	open().Close()
	want("replaced", connected, []any{"ERROR", "Connections", "deviceDisconnect", "d", "mqtt", 400027.0, nil}, connected,
		[]any{"INFO", "Connections", "deviceDisconnect", "d", "mqtt", nil, nil})
}

func TestAnAnsweredErrorHasOneLineWithItsTrackingID(t *testing.T) {
	var log logbook
	h, _ := newTestHub(t, withLog(&log, slog.LevelInfo))
	s := transient(t, h, "d")
	key := store.Key{DeviceID: "nobody", ModuleID: "m"}
	admin := h.Admin()
	log.take(t)
	for _, test := range []struct {
		want []any
		err  func() error
	}{
		{[]any{"C2DTwinOperations", "read", "nobody", "m", 404001.0}, func() error { _, err := admin.Twin(ctx, key); return err }},
		{[]any{"C2DTwinOperations", "update", "nobody", "m", 404001.0}, func() error { _, err := admin.UpdateTwin(ctx, key, []byte(`{}`), ""); return err }},
		{[]any{"DirectMethods", "send", "nobody", "m", 404001.0}, func() error { _, err := admin.InvokeMethod(ctx, key, MethodCall{Name: "m"}); return err }},
		{[]any{"TwinQueries", "query", nil, nil, 400004.0}, func() error { _, err := admin.Query(ctx, QueryRequest{Text: "x"}); return err }},
		{[]any{"JobsOperations", "cancelJob", nil, nil, 404002.0}, func() error { _, err := admin.CancelJob(ctx, "x"); return err }},
		{[]any{"Configurations", "ReadConfiguration", nil, nil, 404301.0}, func() error { _, err := admin.Configuration(ctx, "x"); return err }},
		{[]any{"DeviceIdentityOperations", "get", "nobody", "m", 404010.0}, func() error { _, err := admin.Identity(ctx, key); return err }},
		{[]any{"C2DCommands", "send", "nobody", nil, 404001.0}, func() error { return admin.SendC2D(ctx, toDevice("nobody", "1")) }},
		{[]any{"C2DCommands", "feedback", nil, nil, 412002.0}, func() error { return admin.CompleteFeedback(ctx, newUUID()) }},
		{[]any{"C2DCommands", "complete", "d", nil, 412002.0}, func() error { return s.CompleteC2D(ctx, newUUID()) }},
		{[]any{"DeviceTelemetry", "ingress", "d", nil, 413001.0}, func() error { return s.SendTelemetry(ctx, Telemetry{Body: make([]byte, maxTelemetry+1)}) }},
		{[]any{"D2CTwinOperations", "update", "d", nil, 400004.0}, func() error { _, err := s.UpdateReported(ctx, []byte(`{`), 0); return err }},
		{[]any{"Connections", "deviceConnect", "d", nil, 401002.0}, func() error { _, err := h.Authenticate(ctx, Credential{}, s.Key()); return err }},
		{[]any{"Connections", "deviceConnect", nil, nil, 400004.0}, func() error { _, err := h.PutToken(ctx, "no token"); return err }},
		{[]any{"FileUploadOperations", nil, "d", nil, 500001.0}, func() error { return errors.New("disk on fire") }},
	} {
		e := h.Answer(Peer{Key: s.Key(), Category: FileUploadOperations}, test.err())
		want := append([]any{"ERROR", e.TrackingID}, test.want...)
		if test.want[2] == nil { // nobody is named by the request: then it is who is on the connection
			want[4] = "d"
		}
		if diff := cmp.Diff([][]any{want}, log.take(t, "level", "trackingId", "category", "operation", "deviceId", "moduleId", "resultType")); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.want, diff)
		}
	}
}

func TestAViolationHasOneLineWithTheTrackingIDOfItsRefusal(t *testing.T) {
	var log logbook
	h, _ := newTestHub(t, withLog(&log, slog.LevelInfo))
	s := transient(t, h, "d")
	_, _, _ = s.PollC2D(ctx)
	_, _, err := s.PollC2D(ctx)
	e := h.Answer(Peer{}, err)
	want := [][]any{{"WARN", "C2DCommands", "receive", "d", 429001.0, e.TrackingID}}
	if diff := cmp.Diff(want, log.take(t, "level", "category", "operation", "deviceId", "resultType", "trackingId")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMessagesThatNobodyTookAreLoggedApart(t *testing.T) {
	var log logbook
	h, c := newTestHub(t, withLog(&log, slog.LevelWarn))
	s := transient(t, h, "d")
	send(t, h, toDevice("d", "abandoned"))
	for range c2dAbandons {
		c.Advance(25 * time.Minute / c2dAbandons)
		m, ok := s.peer.poll()
		if !ok {
			break
		}
		if err := s.AbandonC2D(ctx, m.LockToken); err != nil {
			t.Fatal(err)
		}
	}
	send(t, h, toDevice("d", "expired"))
	c.Advance(c2dTTL)
	want := [][]any{
		{"ERROR", "C2DCommands", "deliveryCountExceeded", "d", "abandoned", 10.0, "none"},
		{"ERROR", "C2DCommands", "messageExpired", "d", "expired", 0.0, "none"},
	}
	if diff := cmp.Diff(want, log.take(t, "level", "category", "operation", "deviceId", "messageId", "deliveryCount", "deliveryAcknowledgement")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
