package hub

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

// transient opens the session of one HTTP request.
func transient(t testing.TB, h *Hub, deviceID string) *DeviceSession {
	t.Helper()
	return connect(t, h, deviceID, func(o *DeviceOptions) { o.Transient = true })
}

func TestPollRule(t *testing.T) {
	type poll struct {
		at         time.Duration // since the first
		want       Code
		retryAfter int
		previous   time.Duration // of the violation, if there is one
		violation  bool
	}
	const m = time.Minute
	for name, c := range map[string]struct {
		mode     PollMode
		interval time.Duration
		polls    []poll
	}{
		"the first poll is free, and every one that keeps the interval": {PollEnforce, 0, []poll{{at: 0}, {at: 25 * m}, {at: 50 * m}, {at: 80 * m}}},
		"one that comes sooner is refused and does not start the time anew": {PollEnforce, 0, []poll{
			{at: 0},
			{at: time.Second, want: CodePollTooSoon, retryAfter: 25*60 - 1, violation: true},
			{at: 24*m + 59*time.Second + 1, want: CodePollTooSoon, retryAfter: 1, violation: true},
			{at: 25*m - 1, want: CodePollTooSoon, retryAfter: 1, violation: true},
			{at: 25 * m},
			{at: 26 * m, want: CodePollTooSoon, retryAfter: 24 * 60, previous: 25 * m, violation: true},
		}},
		"log lets it through and measures the next one from it": {PollLog, 0, []poll{
			{at: 0}, {at: m, violation: true}, {at: 25 * m, previous: m, violation: true}, {at: 50 * m},
		}},
		"off sees nothing":        {PollOff, 0, []poll{{at: 0}, {at: 1}, {at: 2}}},
		"the interval can be set": {PollEnforce, 10 * time.Second, []poll{{at: 0}, {at: 9 * time.Second, want: CodePollTooSoon, retryAfter: 1, violation: true}, {at: 10 * time.Second}}},
	} {
		t.Run(name, func(t *testing.T) {
			var told []Violation
			h, clock := newTestHub(t, func(cfg *Config) {
				cfg.Poll, cfg.PollInterval = c.mode, c.interval
				cfg.OnViolation = func(v Violation) { told = append(told, v) }
			})
			var want []Violation
			for _, p := range c.polls {
				clock.Advance(start.Add(p.at).Sub(clock.Now()))
				_, _, err := transient(t, h, "d").PollC2D(ctx)
				if codeOf(err) != p.want {
					t.Fatalf("poll at %v: %v, want code %d", p.at, err, p.want)
				}
				if err != nil {
					if e, _ := AsError(err); e.RetryAfter != p.retryAfter {
						t.Errorf("poll at %v: RetryAfter %d, want %d", p.at, e.RetryAfter, p.retryAfter)
					}
				}
				if p.violation {
					want = append(want, Violation{
						DeviceID: "d", At: start.Add(p.at), Previous: start.Add(p.previous), Elapsed: p.at - p.previous,
						Interval: h.cfg.PollInterval, Refused: c.mode == PollEnforce,
					})
				}
			}
			if diff := cmp.Diff(want, h.Violations()); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, told); diff != "" || h.ViolationCount() != len(want) {
				t.Errorf("told of violations (-want +got):\n%s", diff)
			}
			h.ClearViolations()
			if h.ViolationCount() != 0 || len(h.Violations()) != 0 {
				t.Error("ClearViolations left some")
			}
		})
	}
}

func TestRefusedPollSaysWhyAndLocksNothing(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	send(t, h, toDevice("d", "1"), toDevice("d", "2"))
	if m, ok, err := transient(t, h, "d").PollC2D(ctx); !ok || err != nil || string(m.Body) != "1" {
		t.Fatalf("first poll: %v, %v", ok, err)
	}
	_, ok, err := transient(t, h, "d").PollC2D(ctx)
	if ok || err == nil {
		t.Fatalf("second poll: %v, %v", ok, err)
	}
	for _, part := range []string{"25m0s", "--http-poll", "poll rule"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not mention %s", err, part)
		}
	}
}

func TestEachDeviceHasItsOwnPollsAndDeletionForgetsThem(t *testing.T) {
	h, _ := newTestHub(t)
	for _, id := range []string{"a", "b"} {
		if _, _, err := transient(t, h, id).PollC2D(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := h.Admin().DeleteIdentity(ctx, store.Key{DeviceID: "a"}, "*"); err != nil {
		t.Fatal(err)
	}
	if keys := h.peerKeys(); len(keys) != 1 {
		t.Errorf("remembered: %v", keys)
	}
	if _, _, err := transient(t, h, "a").PollC2D(ctx); err != nil {
		t.Errorf("first poll of a new device of the same name: %v", err)
	}
}

func TestNewestViolationsAreKeptAndAllAreCounted(t *testing.T) {
	h, _ := newTestHub(t)
	for i := range maxViolations + 10 {
		h.violations.add(Violation{Elapsed: time.Duration(i)})
	}
	kept := h.Violations()
	if len(kept) != maxViolations || kept[0].Elapsed != 10 || kept[maxViolations-1].Elapsed != maxViolations+9 {
		t.Errorf("%d are kept, from %d to %d", len(kept), kept[0].Elapsed, kept[len(kept)-1].Elapsed)
	}
	if n := h.ViolationCount(); n != maxViolations+10 {
		t.Errorf("ViolationCount = %d", n)
	}
}
