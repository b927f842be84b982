package hub

import (
	"context"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// backEnd is a session of the policy service whose token lasts for life; 0 is for ever. What it ended with comes by ends.
func backEnd(t testing.TB, h *Hub, life time.Duration) (s *ServiceSession, ends chan *Error) {
	t.Helper()
	s, err := h.OpenService(ctx, servicePrincipal(h, life), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ends = make(chan *Error, 2)
	s.OnEnded(func(e *Error) { ends <- e })
	return s, ends
}

func servicePrincipal(h *Hub, life time.Duration) auth.Principal {
	p := auth.Principal{Policy: "service", Rights: auth.ServiceConnect, Method: auth.MethodSAS}
	if life != 0 {
		p.Expiry = h.Now().Add(life)
	}
	return p
}

func wantEnd(t testing.TB, ends chan *Error, want Code) {
	t.Helper()
	select {
	case e := <-ends:
		wantCode(t, e, want)
	default:
		t.Fatalf("the session has not ended, want code %d", want)
	}
}

func wantNoEnd(t testing.TB, ends chan *Error) {
	t.Helper()
	select {
	case e := <-ends:
		t.Fatalf("the session has ended: %v", e)
	default:
	}
}

func TestServiceSessionEndsWithItsToken(t *testing.T) {
	h, c := newTestHub(t)
	s, ends := backEnd(t, h, time.Hour)
	deaf, err := h.OpenService(ctx, servicePrincipal(h, time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour + tokenGrace - time.Second)
	wantNoEnd(t, ends)
	_, err = s.EventHub(ctx, "")
	wantCode(t, err, 0)
	c.Advance(2 * time.Second)
	wantEnd(t, ends, CodeTokenExpired)
	for _, one := range []*ServiceSession{s, deaf} { // also where nobody listens
		_, err = one.EventHub(ctx, "")
		wantCode(t, err, CodeTokenExpired)
	}
	p := servicePrincipal(h, -tokenGrace-time.Second)
	_, err = h.OpenService(ctx, p, nil)
	wantCode(t, err, CodeUnauthorized)
	late := make(chan *Error, 1)
	s.OnEnded(func(e *Error) { late <- e })
	wantEnd(t, late, CodeTokenExpired)
	s.Renew(servicePrincipal(h, time.Hour)) // too late
	_, err = s.EventHub(ctx, "")
	wantCode(t, err, CodeTokenExpired)
}

func TestRenewedServiceSessionGoesOn(t *testing.T) {
	h, c := newTestHub(t)
	s, ends := backEnd(t, h, time.Hour)
	c.Advance(50 * time.Minute)
	s.Renew(owner(store.Key{DeviceID: "d"})) // a device's token is no renewal
	s.Renew(servicePrincipal(h, time.Hour))
	c.Advance(time.Hour)
	wantNoEnd(t, ends)
	_, err := s.EventHub(ctx, "")
	wantCode(t, err, 0)
	c.Advance(tokenGrace + time.Second)
	wantEnd(t, ends, CodeTokenExpired)
	wantNoEnd(t, ends) // once is enough
}

func TestClosedServiceSessionIsNotToldOfItsEnd(t *testing.T) {
	h, c := newTestHub(t)
	s, ends := backEnd(t, h, time.Hour)
	s.Close()
	s.Close()
	c.Advance(2 * time.Hour)
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	wantNoEnd(t, ends)
	_, err := s.EventHub(ctx, "")
	wantCode(t, err, CodeClosed)
	if n := len(h.services.all); n != 0 {
		t.Errorf("the hub still knows %d sessions", n)
	}
}

func TestResetAndCloseEndServiceSessions(t *testing.T) {
	for name, end := range map[string]func(*Hub) error{
		"reset": func(h *Hub) error { return h.Reset(ctx) },
		"close": func(h *Hub) error { h.Close(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newTestHub(t)
			s, ends := backEnd(t, h, 0)
			deaf, err := h.OpenService(ctx, servicePrincipal(h, 0), nil)
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: "0"})
			if err != nil {
				t.Fatal(err)
			}
			if err := end(h); err != nil {
				t.Fatal(err)
			}
			wantEnd(t, ends, CodeClosed)
			_, err = r.Next(ctx, 1)
			wantCode(t, err, CodeClosed)
			_, err = deaf.EventHub(ctx, "")
			wantCode(t, err, CodeClosed)
			_, err = deaf.OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: "0"})
			wantCode(t, err, CodeClosed)
			deaf.OnEnded(func(e *Error) { ends <- e })
			wantEnd(t, ends, CodeClosed)
		})
	}
}

func TestAdminSurvivesAResetButNotItsReaders(t *testing.T) {
	h, _ := newTestHub(t)
	admin := h.Admin()
	told := make(chan struct{}, 2)
	r, err := admin.OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: "0", Ready: func() { told <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	if events, err := r.Next(ctx, 1); len(events) > 0 || err != nil {
		t.Fatalf("Next = %v, %v", events, err)
	}
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 {
		t.Errorf("the waiting reader was told %d times, want once", len(told))
	}
	_, err = r.Next(ctx, 1)
	wantCode(t, err, CodeClosed)
	for range 2 {
		r, err := admin.OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: "0"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Next(ctx, 1)
		wantCode(t, err, 0)
		r.Close()
	}
	if n := len(h.services.all); n != 0 {
		t.Errorf("the hub still knows %d sessions", n)
	}
}

func TestFeedbackSubscriptionsEndWithAReset(t *testing.T) {
	h, _ := newTestHub(t)
	old, ends := backEnd(t, h, 0)
	var stale inbox
	sub, err := old.SubscribeFeedback(stale.deliver)
	if err != nil {
		t.Fatal(err)
	}
	sub.SetCredit(10)
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, ends, CodeClosed)
	b, _ := subscribeFeedback(t, h, 10)
	s := connect(t, h, "d")
	send(t, h, toDevice("d", "1", withAck("full")))
	settleNext(t, s, (*DeviceSession).CompleteC2D)
	eventually(t, "feedback of after the reset", func() bool { return len(b.all()) == 1 })
	if n := len(stale.all()); n != 0 {
		t.Errorf("%d batches went to the subscription of before", n)
	}
}

// slowEngine waits in a reset until the test lets it go on, with the registry emptied or not.
type slowEngine struct {
	store.Engine
	inside, proceed chan struct{}
	before          bool // wait before the reset, not after it
}

func (e *slowEngine) Reset(ctx context.Context) error {
	if !e.before {
		defer e.wait()
	} else {
		e.wait()
	}
	return e.Engine.Reset(ctx)
}

func (e *slowEngine) wait() {
	e.inside <- struct{}{}
	<-e.proceed
}

// What is sent on a session of before the reset never is in the log after it, whenever in the reset it is sent.
func TestNothingSentBeforeAResetIsThereAfterwards(t *testing.T) {
	for name, before := range map[string]bool{"before the store is emptied": true, "after the store was emptied": false} {
		t.Run(name, func(t *testing.T) {
			engine := &slowEngine{Engine: store.NewMemory(store.MemoryOptions{}), inside: make(chan struct{}), proceed: make(chan struct{}), before: before}
			h, _ := newTestHub(t, func(c *Config) { c.Engine = engine })
			s := connect(t, h, "d")
			transient, err := h.OpenDevice(ctx, owner(s.Key()), s.Key(), DeviceOptions{Transient: true})
			if err != nil {
				t.Fatal(err)
			}
			results := make(chan error, 5)
			go func() { results <- h.Reset(ctx) }()
			<-engine.inside
			go func() { results <- s.SendTelemetry(ctx, Telemetry{Body: []byte("old")}) }()
			go func() { results <- transient.SendTelemetry(ctx, Telemetry{Body: []byte("old")}) }()
			go func() { results <- s.SendWill(ctx, Telemetry{Body: []byte("old")}) }()
			service, _ := backEnd(t, h, 0)
			go func() { results <- service.SendC2D(ctx, toDevice("d", "old")) }()
			close(engine.proceed)
			for range 5 {
				if code := codeOf(<-results); code != 0 && code != CodeClosed {
					t.Errorf("code %d", code)
				}
			}
			wantCode(t, s.SendWill(ctx, Telemetry{}), CodeClosed)
			wantCode(t, transient.SendTelemetry(ctx, Telemetry{}), CodeClosed)
			addDevice(t, h, s.Key())
			if events := readAll(t, h, "d"); len(events) != 0 {
				t.Errorf("%d events of before", len(events))
			}
			if n := count(t, h, "d"); n != 0 {
				t.Errorf("%d messages of before", n)
			}
		})
	}
}
