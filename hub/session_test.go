package hub

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// ends notes how a session was ended.
type ends struct {
	mu    sync.Mutex
	codes []Code
}

func (e *ends) note(err *Error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.codes = append(e.codes, err.Code)
}

func (e *ends) option(o *DeviceOptions) { o.Ended = e.note }

func (e *ends) expect(t *testing.T, want ...Code) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if diff := cmp.Diff(want, e.codes); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
}

func identity(t testing.TB, h *Hub, key store.Key) Device {
	t.Helper()
	d, err := h.Admin().Identity(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestNewerConnectionEndsTheOlder(t *testing.T) {
	h, _ := newTestHub(t)
	var first, second ends
	old := connect(t, h, "d", first.option)
	now := connect(t, h, "d", second.option)
	first.expect(t, CodeConnectionReplaced)
	wantCode(t, old.SendTelemetry(ctx, Telemetry{}), CodeConnectionReplaced)
	old.Close()
	if !identity(t, h, now.Key()).Connected {
		t.Error("closing the older connection disconnected the newer")
	}
	if err := now.SendTelemetry(ctx, Telemetry{}); err != nil {
		t.Error(err)
	}
	now.Close()
	now.Close()
	second.expect(t)
	if identity(t, h, now.Key()).Connected {
		t.Error("still connected")
	}
}

func TestModuleAndDeviceAndSingleRequestsDoNotReplaceEachOther(t *testing.T) {
	h, _ := newTestHub(t)
	var e ends
	connect(t, h, "d", e.option)
	module := store.Key{DeviceID: "d", ModuleID: "m"}
	addDevice(t, h, module)
	if _, err := h.OpenDevice(ctx, owner(module), module, DeviceOptions{Ended: e.note}); err != nil {
		t.Fatal(err)
	}
	transient(t, h, "d").Close()
	transient(t, h, "d")
	e.expect(t)
	if n := len(h.Connections()); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestConnectionStateFollowsTheSession(t *testing.T) {
	h, c := newTestHub(t)
	s := connect(t, h, "d", func(o *DeviceOptions) { o.ModelID = "dtmi:x;1" })
	key := s.Key()
	c.Advance(time.Minute)
	if err := s.SendTelemetry(ctx, Telemetry{}); err != nil {
		t.Fatal(err)
	}
	want := func(connected bool, updated, active time.Duration) {
		t.Helper()
		got := identity(t, h, key)
		if got.Connected != connected || !got.ConnectedUpdated.Equal(start.Add(updated)) || !got.LastActivity.Equal(start.Add(active)) || got.ModelID != "dtmi:x;1" {
			t.Errorf("connected %v since %v, active %v, model %q", got.Connected, got.ConnectedUpdated, got.LastActivity, got.ModelID)
		}
	}
	want(true, 0, time.Minute)
	c.Advance(time.Minute)
	s.Close()
	want(false, 2*time.Minute, time.Minute)
	if n := len(h.peerKeys()); n != 0 {
		t.Errorf("%d peers are remembered", n)
	}
	transient(t, h, "d")
	want(false, 2*time.Minute, 2*time.Minute)
}

// withToken is the principal of a token that ends at a time.
func withToken(key store.Key, expiry time.Time) auth.Principal {
	p := owner(key)
	p.Expiry = expiry
	return p
}

func TestSessionEndsWithItsTokenAndTheGrace(t *testing.T) {
	h, c := newTestHub(t)
	key := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	var e ends
	s, err := h.OpenDevice(ctx, withToken(key, start.Add(time.Hour)), key, DeviceOptions{Ended: e.note})
	if err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour + tokenGrace - 1)
	e.expect(t)
	c.Advance(1)
	e.expect(t, CodeTokenExpired)
	wantCode(t, s.SendTelemetry(ctx, Telemetry{}), CodeTokenExpired)
	if identity(t, h, key).Connected {
		t.Error("still connected")
	}
}

func TestRenewalRestartsTheExpiry(t *testing.T) {
	h, c := newTestHub(t)
	key := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	var e ends
	s, err := h.OpenDevice(ctx, withToken(key, start.Add(time.Hour)), key, DeviceOptions{Ended: e.note})
	if err != nil {
		t.Fatal(err)
	}
	s.Renew(withToken(key, start.Add(3*time.Hour)))
	s.Renew(withToken(store.Key{DeviceID: "other"}, start.Add(9*time.Hour))) // ignored
	c.Advance(3*time.Hour + tokenGrace - 1)
	e.expect(t)
	c.Advance(1)
	e.expect(t, CodeTokenExpired)
}

func TestDisablingAndDeletingEndSessionsAtOnce(t *testing.T) {
	h, _ := newTestHub(t)
	var device, module ends
	s := connect(t, h, "d", device.option)
	key := store.Key{DeviceID: "d", ModuleID: "m"}
	addDevice(t, h, key)
	open := func() {
		if _, err := h.OpenDevice(ctx, owner(key), key, DeviceOptions{Ended: module.note}); err != nil {
			t.Fatal(err)
		}
	}
	open()
	id := identity(t, h, s.Key()).Identity
	id.Status = store.Disabled
	if _, err := h.Admin().UpdateIdentity(ctx, id, "*"); err != nil {
		t.Fatal(err)
	}
	device.expect(t, CodeDeviceDisabled)
	module.expect(t, CodeDeviceDisabled)
	for _, k := range []store.Key{s.Key(), key} {
		_, err := h.OpenDevice(ctx, owner(k), k, DeviceOptions{})
		wantCode(t, err, CodeUnauthorized)
	}
	id.Status = store.Enabled
	if _, err := h.Admin().UpdateIdentity(ctx, id, "*"); err != nil {
		t.Fatal(err)
	}
	open()
	connect(t, h, "d", device.option)
	if err := h.Admin().DeleteIdentity(ctx, s.Key(), "*"); err != nil {
		t.Fatal(err)
	}
	device.expect(t, CodeDeviceDisabled, CodeDeviceNotFound)
	module.expect(t, CodeDeviceDisabled, CodeModuleNotFound)
	if n := len(h.peerKeys()); n != 0 {
		t.Errorf("%d peers are remembered", n)
	}
}

func TestEndedIsCalledWithoutLocks(t *testing.T) {
	h, _ := newTestHub(t)
	var s *DeviceSession
	called := false
	s = connect(t, h, "d", func(o *DeviceOptions) {
		o.Ended = func(*Error) {
			called = true
			s.Close()
			h.Connections()
			_, _ = s.SubscribeC2D(func(store.Message) bool { return true })
			send(t, h, toDevice("d", "1"))
		}
	})
	connect(t, h, "d")
	if !called {
		t.Error("Ended was not called")
	}
}

func TestWhoMayOpenADevice(t *testing.T) {
	h, _ := newTestHub(t)
	d1, m1 := store.Key{DeviceID: "d1"}, store.Key{DeviceID: "d1", ModuleID: "m1"}
	addDevice(t, h, d1)
	addDevice(t, h, m1)
	addDevice(t, h, store.Key{DeviceID: "d10"})
	policy := func(rights auth.Rights, scope string) auth.Principal {
		return auth.Principal{Policy: "p", Rights: rights, Scope: scope, Method: auth.MethodSAS}
	}
	for name, c := range map[string]struct {
		p    auth.Principal
		key  store.Key
		want Code
	}{
		"its own key":                      {owner(d1), d1, 0},
		"another device's key":             {owner(store.Key{DeviceID: "d10"}), d1, CodeUnauthorized},
		"the device's key for its module":  {owner(d1), m1, CodeUnauthorized},
		"the module's key for its device":  {owner(m1), d1, CodeUnauthorized},
		"a policy":                         {policy(auth.DeviceConnect, ""), d1, 0},
		"a policy for all devices":         {policy(auth.DeviceConnect, "devices"), m1, 0},
		"a policy for the device":          {policy(auth.DeviceConnect, "devices/d1"), m1, 0},
		"a policy for a longer name":       {policy(auth.DeviceConnect, "devices/d1"), store.Key{DeviceID: "d10"}, CodeUnauthorized},
		"a policy for another case":        {policy(auth.DeviceConnect, "devices/D1"), d1, CodeUnauthorized},
		"a policy for the telemetry of it": {policy(auth.DeviceConnect, "devices/d1/messages/events"), d1, 0},
		"a policy for something else":      {policy(auth.DeviceConnect, "messages"), d1, CodeUnauthorized},
		"a policy without the right":       {policy(auth.ServiceConnect|auth.RegistryWrite, ""), d1, CodeUnauthorized},
		"an unknown device's key":          {owner(store.Key{DeviceID: "x"}), store.Key{DeviceID: "x"}, CodeUnauthorized},
		"a policy for an unknown device":   {policy(auth.DeviceConnect, ""), store.Key{DeviceID: "x"}, CodeDeviceNotFound},
		"a policy for an unknown module":   {policy(auth.DeviceConnect, ""), store.Key{DeviceID: "d1", ModuleID: "x"}, CodeModuleNotFound},
	} {
		_, err := h.OpenDevice(ctx, c.p, c.key, DeviceOptions{Transient: true})
		if got := codeOf(err); got != c.want {
			t.Errorf("%s: code %d, want %d", name, got, c.want)
		}
	}
	for _, key := range h.peerKeys() {
		if key.DeviceID == "x" || key.ModuleID == "x" {
			t.Errorf("%v is remembered although it does not exist", key)
		}
	}
}

// pipe returns a connection of a door that reports whether it was cut.
func pipe(t testing.TB, d door.Door) (c *door.Conn, cut func() bool) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return door.Wrap(near, d), func() bool {
		_ = far.SetReadDeadline(time.Unix(1, 0))
		_, err := far.Read(make([]byte, 1))
		return err != nil && err.Error() == "EOF"
	}
}

func TestConnectionsAreListedByID(t *testing.T) {
	h, c := newTestHub(t)
	conn, _ := pipe(t, door.AMQPWS)
	for _, id := range []string{"b", "a"} {
		connect(t, h, id, func(o *DeviceOptions) { o.Conn, o.UserAgent = conn, "agent of "+id })
		c.Advance(time.Second)
	}
	module := store.Key{DeviceID: "a", ModuleID: "m"}
	addDevice(t, h, module)
	if _, err := h.OpenDevice(ctx, owner(module), module, DeviceOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []Connection{
		{Key: store.Key{DeviceID: "a"}, Door: "amqp-ws", Remote: "pipe", Since: start.Add(time.Second), UserAgent: "agent of a", Method: auth.MethodSAS},
		{Key: module, Since: start.Add(2 * time.Second), Method: auth.MethodSAS},
		{Key: store.Key{DeviceID: "b"}, Door: "amqp-ws", Remote: "pipe", Since: start, UserAgent: "agent of b", Method: auth.MethodSAS},
	}
	if diff := cmp.Diff(want, h.Connections(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
	if n, err := h.Admin().ConnectedDevices(ctx); n != 2 || err != nil {
		t.Errorf("ConnectedDevices = %d, %v; want 2", n, err)
	}
}

func TestDisconnectCutsOnlyWhatNobodyElseUses(t *testing.T) {
	h, _ := newTestHub(t)
	shared, sharedCut := pipe(t, door.AMQP)
	own, ownCut := pipe(t, door.MQTT)
	var a, b, c ends
	connect(t, h, "a", a.option, func(o *DeviceOptions) { o.Conn = shared })
	connect(t, h, "b", b.option, func(o *DeviceOptions) { o.Conn = shared })
	connect(t, h, "c", c.option, func(o *DeviceOptions) { o.Conn = own })
	if n := h.Disconnect("a") + h.Disconnect("c") + h.Disconnect("nobody"); n != 2 {
		t.Errorf("%d sessions were ended", n)
	}
	a.expect(t, CodeClosed)
	b.expect(t)
	c.expect(t, CodeClosed)
	if sharedCut() || !ownCut() {
		t.Error("the shared connection was cut, or the own one was not")
	}
	h.Disconnect("b")
	if !sharedCut() {
		t.Error("nobody uses the shared connection any more, and it was not cut")
	}
}

func TestResetEndsEverything(t *testing.T) {
	h, _ := newTestHub(t)
	var e ends
	s := connect(t, h, "d", e.option)
	if err := s.SendTelemetry(ctx, Telemetry{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := transient(t, h, "d").PollC2D(ctx); err != nil {
		t.Fatal(err)
	}
	_, _, err := transient(t, h, "d").PollC2D(ctx)
	wantCode(t, err, CodePollTooSoon)
	send(t, h, toDevice("d", "1", withAck("full")))
	if _, err := h.Admin().PurgeC2D(ctx, "d"); err != nil {
		t.Fatal(err)
	}
	send(t, h, toDevice("d", "2"))
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	e.expect(t, CodeClosed)
	if n := len(drainFeedback(t, h)); n != 0 {
		t.Errorf("%d records of feedback are left", n)
	}
	if h.ViolationCount() != 0 || len(h.peerKeys()) != 0 || len(readAll(t, h, "d")) != 0 {
		t.Error("violations, peers or events are left")
	}
	wantCode(t, s.SendTelemetry(ctx, Telemetry{}), CodeClosed)
	if _, _, err := transient(t, h, "d").PollC2D(ctx); err != nil {
		t.Errorf("first poll after the reset: %v", err)
	}
	if n := count(t, h, "d"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestClosedHubRefuses(t *testing.T) {
	h, _ := newTestHub(t)
	var e ends
	connect(t, h, "d", e.option)
	h.Close()
	e.expect(t, CodeClosed)
	key := store.Key{DeviceID: "d"}
	_, err := h.OpenDevice(ctx, owner(key), key, DeviceOptions{})
	wantCode(t, err, CodeClosed)
	_, err = h.Admin().Identity(ctx, key)
	wantCode(t, err, CodeClosed)
}

func TestManyConnectionsOfOneDeviceLeaveOne(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	var mu sync.Mutex
	var alive []*DeviceSession
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				s := connect(t, h, "d")
				_ = s.SendTelemetry(ctx, Telemetry{})
				mu.Lock()
				alive = append(alive, s)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	n := 0
	for _, s := range alive {
		if s.live() == nil {
			n++
			s.Close()
		}
	}
	if n != 1 || identity(t, h, store.Key{DeviceID: "d"}).Connected || h.metrics.connected.Load() != 0 {
		t.Errorf("%d sessions were alive, %d are counted", n, h.metrics.connected.Load())
	}
}

func TestOpeningAndDeletingAtTheSameTimeLeavesNoSession(t *testing.T) {
	h, _ := newTestHub(t)
	key := store.Key{DeviceID: "d"}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 300 {
			_, _ = h.Admin().CreateIdentity(ctx, store.Identity{Key: key})
			_ = h.Admin().DeleteIdentity(ctx, key, "*")
		}
	})
	for range 2 {
		wg.Go(func() {
			for range 300 {
				if s, err := h.OpenDevice(ctx, owner(key), key, DeviceOptions{}); err == nil {
					_, _ = s.SubscribeC2D(func(store.Message) bool { return true })
				}
				_ = h.Admin().SendC2D(ctx, toDevice("d", "x"))
			}
		})
	}
	wg.Wait()
	_ = h.Admin().DeleteIdentity(ctx, key, "*")
	if len(h.Connections()) != 0 || len(h.peerKeys()) != 0 {
		t.Errorf("left: %v", h.peerKeys())
	}
	if n, _ := h.devicebound.store.Len(ctx, key); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestConnectedDeviceTakesUnderOneKilobyteBesideItsRegistration(t *testing.T) {
	h, _ := newTestHub(t)
	const n = 5000
	keys := make([]store.Key, n)
	for i := range keys {
		keys[i] = addDevice(t, h, store.Key{DeviceID: fmt.Sprint("device-", i)}).Key
	}
	sessions := make([]*DeviceSession, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i, key := range keys {
		s, err := h.OpenDevice(ctx, withToken(key, start.Add(time.Hour)), key, DeviceOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sessions[i] = s
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	t.Logf("a session takes %d bytes", per)
	if per > 1024 {
		t.Error("that is too much")
	}
	runtime.KeepAlive(sessions)
}

func BenchmarkOpenTransient(b *testing.B) {
	h, _ := newTestHub(b)
	key := addDevice(b, h, store.Key{DeviceID: "d"}).Key
	p := owner(key)
	b.ReportAllocs()
	for b.Loop() {
		s, err := h.OpenDevice(ctx, p, key, DeviceOptions{Transient: true})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

func BenchmarkOpenConnection(b *testing.B) {
	h, _ := newTestHub(b)
	key := addDevice(b, h, store.Key{DeviceID: "d"}).Key
	p := withToken(key, start.Add(time.Hour))
	b.ReportAllocs()
	for b.Loop() {
		s, err := h.OpenDevice(ctx, p, key, DeviceOptions{})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

func BenchmarkResetOf10000ConnectedDevices(b *testing.B) {
	h, _ := newTestHub(b)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		for i := range 10_000 {
			connect(b, h, fmt.Sprintf("device-%d", i))
		}
		b.StartTimer()
		if err := h.Reset(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
