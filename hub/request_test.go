package hub

import (
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// requests opens the sessions of one connection's requests.
type requests struct {
	t    *testing.T
	h    *Hub
	last *DeviceSession
}

// ask makes a request, and returns its session and the code of its error.
func (r *requests) ask(token string, key store.Key) (*DeviceSession, Code) {
	r.t.Helper()
	s, err := r.h.OpenRequest(ctx, Credential{Token: token}, key, DeviceOptions{}, r.last)
	r.last = s
	if err != nil {
		return nil, codeOf(err)
	}
	return s, 0
}

func TestRequestsWithTheSameTokenShareASession(t *testing.T) {
	h, c := newTestHub(t)
	d1, d2, m1 := store.Key{DeviceID: "d1"}, store.Key{DeviceID: "d2"}, store.Key{DeviceID: "d1", ModuleID: "m1"}
	for _, key := range []store.Key{d1, d2, m1} {
		addDevice(t, h, key)
	}
	key1, key2 := DeriveKeys(d1)
	first, second := token(t, "host/devices/d1", key1, "", start.Add(time.Hour)), token(t, "host/devices/d1", key2, "", start.Add(time.Hour))
	r := &requests{t: t, h: h}
	s, code := r.ask(first, d1)
	c.Advance(time.Minute)
	again, _ := r.ask(first, d1)
	if code != 0 || s != again {
		t.Fatalf("the second request: another session, %d", code)
	}
	if err := again.SendTelemetry(ctx, Telemetry{}); err != nil {
		t.Fatal(err)
	}
	if got := identity(t, h, d1).LastActivity; !got.Equal(start.Add(time.Minute)) {
		t.Errorf("last activity %v", got)
	}
	other, code := r.ask(second, d1)
	if code != 0 || other == s {
		t.Errorf("another token: the same session, %d", code)
	}
	if err := s.SendTelemetry(ctx, Telemetry{}); codeOf(err) != CodeClosed {
		t.Errorf("the session that serves no more requests: %v", err)
	}
	for _, key := range []store.Key{d2, m1} {
		if _, code := r.ask(second, key); code != CodeUnauthorized {
			t.Errorf("the token of d1 for %v: %d", key, code)
		}
	}
	if _, code := r.ask(second, d1); code != 0 {
		t.Errorf("after a refusal: %d", code)
	}
	policy, _ := findPolicy("device")
	all := token(t, "host", policy.PrimaryKey, policy.Name, start.Add(time.Hour))
	for _, key := range []store.Key{d1, d2} {
		s, code := r.ask(all, key)
		if again, _ := r.ask(all, key); code != 0 || s.Key() != key || again != s {
			t.Errorf("%s for %v: %d, session of %v", policy.Name, key, code, s.Key())
		}
	}
}

// What makes a token worthless makes it so in the middle of a connection.
func TestASessionServesNoRequestThatItsTokenWouldNot(t *testing.T) {
	d, m := store.Key{DeviceID: "d"}, store.Key{DeviceID: "d", ModuleID: "m"}
	for name, c := range map[string]struct {
		change func(*testing.T, *Hub, *clock.Clock)
		want   Code
	}{
		"token ended":    {func(_ *testing.T, _ *Hub, c *clock.Clock) { c.Advance(time.Hour + tokenGrace + time.Second) }, CodeUnauthorized},
		"new keys":       {func(t *testing.T, h *Hub, _ *clock.Clock) { renewKeys(t, h, d, m) }, CodeUnauthorized},
		"disabled":       {func(t *testing.T, h *Hub, _ *clock.Clock) { disable(t, h, d) }, CodeUnauthorized},
		"deleted":        {func(t *testing.T, h *Hub, _ *clock.Clock) { remove(t, h, d) }, CodeUnauthorized},
		"deleted, added": {func(t *testing.T, h *Hub, _ *clock.Clock) { remove(t, h, d); addDevice(t, h, d); addDevice(t, h, m) }, 0},
		"a reset":        {func(t *testing.T, h *Hub, _ *clock.Clock) { reset(t, h) }, CodeUnauthorized},
		"a reset, added": {func(t *testing.T, h *Hub, _ *clock.Clock) { reset(t, h); addDevice(t, h, d); addDevice(t, h, m) }, 0},
		"hub closed":     {func(_ *testing.T, h *Hub, _ *clock.Clock) { h.Close() }, CodeClosed},
	} {
		for _, key := range []store.Key{d, m} {
			h, clk := newTestHub(t)
			addDevice(t, h, d)
			addDevice(t, h, m)
			secret, _ := DeriveKeys(key)
			sas := token(t, "host/"+devicePath(key), secret, "", start.Add(time.Hour))
			r := &requests{t: t, h: h}
			before, code := r.ask(sas, key)
			if code != 0 {
				t.Fatal(code)
			}
			c.change(t, h, clk)
			after, code := r.ask(sas, key)
			if code != c.want || after == before {
				t.Errorf("%s, %v: %d, want %d; the same session: %v", name, key, code, c.want, after == before)
			}
		}
	}
}

func TestWithoutATokenEveryRequestHasItsOwnSession(t *testing.T) {
	h, _ := newTestHub(t, func(cfg *Config) { cfg.AuthOff = true })
	key := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	r := &requests{t: t, h: h}
	s, code := r.ask("", key)
	if again, _ := r.ask("", key); code != 0 || again == s {
		t.Errorf("the same session, %d", code)
	}
}

func renewKeys(t *testing.T, h *Hub, keys ...store.Key) {
	t.Helper()
	if _, failed, err := h.Admin().RegenerateKeys(ctx, "both", keys); err != nil || len(failed) > 0 {
		t.Fatal(failed, err)
	}
}

func remove(t *testing.T, h *Hub, key store.Key) {
	t.Helper()
	if err := h.Admin().DeleteIdentity(ctx, key, "*"); err != nil {
		t.Fatal(err)
	}
}

func reset(t *testing.T, h *Hub) {
	t.Helper()
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
}
