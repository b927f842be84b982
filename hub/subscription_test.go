package hub

import (
	"testing"

	"github.com/iolite-emulator/iolite/store"
)

// scripted is a receiver that does with each message what the test says.
type scripted struct {
	entered chan store.Message // a deliver call has begun
	answer  chan bool          // what it returns
}

func newScripted(t testing.TB, s *DeviceSession) (*scripted, *Subscription) {
	t.Helper()
	r := &scripted{entered: make(chan store.Message), answer: make(chan bool)}
	sub, err := s.SubscribeC2D(func(m store.Message) bool {
		r.entered <- m
		return <-r.answer
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, sub
}

// next waits for a delivery of body and answers it, after meanwhile.
func (r *scripted) next(t testing.TB, body string, take bool, meanwhile func()) {
	t.Helper()
	if m := <-r.entered; string(m.Body) != body {
		t.Errorf("pushed %q, want %q", m.Body, body)
	}
	meanwhile()
	r.answer <- take
}

func nothing() {}

// idle waits until nobody pushes and returns the credit that is left.
func idle(t testing.TB, s *Subscription) int {
	t.Helper()
	credit := 0
	eventually(t, "the push rests", func() bool {
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		credit = s.credit
		return !s.pushing
	})
	return credit
}

func TestCreditSetDuringARefusedDeliveryStays(t *testing.T) {
	for name, grant := range map[string]func(*Subscription){
		"set":   func(s *Subscription) { s.SetCredit(10) },
		"added": func(s *Subscription) { s.AddCredit(1) },
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newTestHub(t)
			r, sub := newScripted(t, connect(t, h, "d"))
			send(t, h, toDevice("d", "1"))
			sub.SetCredit(1)
			r.next(t, "1", false, func() { grant(sub) })
			r.next(t, "1", true, nothing) // it comes again, without another word of the receiver
		})
	}
}

func TestRefusedDeliveryTakesTheOldCredit(t *testing.T) {
	h, _ := newTestHub(t)
	r, sub := newScripted(t, connect(t, h, "d"))
	send(t, h, toDevice("d", "1"))
	sub.SetCredit(5)
	r.next(t, "1", false, nothing)
	if credit := idle(t, sub); credit != 0 {
		t.Errorf("%d credit after a refused delivery", credit)
	}
	sub.SetCredit(1) // a later refusal is measured from its own delivery, not from this
	r.next(t, "1", false, nothing)
	if credit := idle(t, sub); credit != 0 {
		t.Errorf("%d credit after the second refusal", credit)
	}
}

// AMQP 2.6.7: what there is, then the credit is used up.
func TestDrainEndsWhenThePushIsThrough(t *testing.T) {
	for name, c := range map[string]struct {
		credit int
		script func(t *testing.T, r *scripted, done chan struct{})
	}{
		"nothing to push": {5, func(*testing.T, *scripted, chan struct{}) {}},
		"no credit":       {0, func(*testing.T, *scripted, chan struct{}) {}},
		"queue used up": {5, func(t *testing.T, r *scripted, done chan struct{}) {
			r.next(t, "1", true, nothing)
			r.next(t, "2", true, func() {
				select {
				case <-done:
					t.Error("done before the last deliver returned")
				default:
				}
			})
		}},
		"credit used up": {1, func(t *testing.T, r *scripted, _ chan struct{}) { r.next(t, "1", true, nothing) }},
		"refused":        {5, func(t *testing.T, r *scripted, _ chan struct{}) { r.next(t, "1", false, nothing) }},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newTestHub(t)
			r, sub := newScripted(t, connect(t, h, "d"))
			if name != "nothing to push" {
				send(t, h, toDevice("d", "1"), toDevice("d", "2"))
			}
			done := make(chan struct{}, 2)
			sub.Drain(c.credit, func() { done <- struct{}{} })
			c.script(t, r, done)
			<-done
			if credit := idle(t, sub); credit != 0 {
				t.Errorf("%d credit after the drain", credit)
			}
			send(t, h, toDevice("d", "3")) // would be pushed if there were credit
			if len(done) != 0 {
				t.Error("done was called twice")
			}
		})
	}
}

func TestDrainIsOverWhenCreditIsSetOrTheSubscriptionEnds(t *testing.T) {
	for name, over := range map[string]func(*Subscription){
		"credit set": func(s *Subscription) { s.SetCredit(7) },
		"closed":     (*Subscription).Close,
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newTestHub(t)
			r, sub := newScripted(t, connect(t, h, "d"))
			send(t, h, toDevice("d", "1"))
			sub.Drain(5, func() { t.Error("done was called") })
			r.next(t, "1", true, func() { over(sub) })
			if credit := idle(t, sub); name == "credit set" && credit != 7 {
				t.Errorf("%d credit, want the 7 that were set", credit)
			}
		})
	}
}
