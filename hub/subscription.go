package hub

import (
	"maps"
	"slices"

	"github.com/iolite-emulator/iolite/store"
)

// Subscription is a push of queued messages towards one receiver. Pushing happens on goroutines of the hub, one at a time,
// which end when the queue or the credit is used up.
type Subscription struct {
	queue   *queue
	deliver func(store.Message) bool
	service *ServiceSession // that it ends with; nil for a device's

	// Guarded by queue.mu.
	credit    int
	changes   uint64              // how often the credit was set from outside
	pushedAt  uint64              // changes when the last deliver began
	drained   func()              // to be called when the push is through; nil when nobody wants to know
	pushing   bool                // a goroutine is at it
	unsettled map[string]struct{} // tokens of what was pushed
}

// subscribe adds a subscription. It has no credit yet.
func (q *queue) subscribe(deliver func(store.Message) bool) *Subscription {
	s := &Subscription{queue: q, deliver: deliver, unsettled: map[string]struct{}{}}
	q.subs = append(q.subs, s)
	return s
}

// drop ends a subscription and gives back what it was pushed and did not settle (IoT Hub: a message whose receiver
// is gone returns to the queue). Dropping it twice does nothing.
func (q *queue) drop(s *Subscription) {
	at := slices.Index(q.subs, s)
	if at < 0 {
		return
	}
	q.subs = slices.Delete(q.subs, at, at+1)
	s.drained = nil
	for token := range maps.Keys(s.unsettled) {
		_ = q.release(token, store.Returned) // settled or timed out in this very moment: nothing to give back
	}
	clear(s.unsettled)
}

// SetCredit sets how many more messages may be pushed (AMQP link credit). It starts at 0.
func (s *Subscription) SetCredit(n int) { s.changeCredit(func(int) int { return n }, nil) }

// AddCredit adds to it (MQTT window).
func (s *Subscription) AddCredit(n int) { s.changeCredit(func(old int) int { return old + n }, nil) }

// Drain sets the credit to n, pushes what there is, takes back the credit that is left, and then calls done (AMQP 2.6.7). done is
// called once, from any goroutine and without hub locks, after the last deliver has returned: when the queue has nothing more, the
// credit is used up, or deliver has refused a message. When the credit is set anew before that, or the subscription ends, there is
// nothing to wait for any more, and done is not called.
func (s *Subscription) Drain(n int, done func()) {
	s.changeCredit(func(int) int { return n }, done)
}

func (s *Subscription) changeCredit(change func(int) int, drained func()) {
	q := s.queue
	q.mu.Lock()
	s.credit = max(change(s.credit), 0)
	s.changes++
	if q.contains(s) {
		s.drained = drained
	}
	q.dirty = true
	q.unlock()
}

// finishDrains ends the drains of subscriptions to which nothing is being pushed, although wake has just looked.
func (q *queue) finishDrains() {
	for _, s := range q.subs {
		if s.drained != nil && !s.pushing {
			s.credit = 0
			q.later(s.drained)
			s.drained = nil
		}
	}
}

// wake starts pushing to the subscriptions that have credit, as long as there are messages. It is for unlock alone: whoever changes
// something that matters here sets dirty.
func (q *queue) wake() {
	for _, s := range q.subs {
		if s.pushing || s.credit <= 0 {
			continue
		}
		m, ok := q.takeFor(s)
		if !ok {
			return
		}
		s.pushing = true
		if !q.hub.pushes.run(func() { q.push(s, m) }) { // the hub is closed
			s.pushing = false
			return
		}
	}
}

// takeFor locks the next message for a subscription.
func (q *queue) takeFor(s *Subscription) (store.Message, bool) {
	if s.credit <= 0 || !q.contains(s) {
		return store.Message{}, false
	}
	m, ok := q.take()
	if ok {
		s.credit--
		s.pushedAt = s.changes
		s.unsettled[m.LockToken] = struct{}{}
	}
	return m, ok
}

// push delivers m and what follows.
func (q *queue) push(s *Subscription, m store.Message) {
	for more := true; more; {
		delivered := s.deliver(m)
		q.mu.Lock()
		if delivered {
			q.delivered(&m)
		} else {
			q.takeBack(s, m)
		}
		m, more = q.takeFor(s)
		s.pushing = more
		q.unlock()
	}
}

// takeBack undoes the delivery of a message that the receiver could not take. Credit that was set since that delivery began stays:
// it may be for the very message that was refused, and would not be set again.
func (q *queue) takeBack(s *Subscription, m store.Message) {
	if s.changes == s.pushedAt {
		s.credit = 0
	}
	if _, held := s.unsettled[m.LockToken]; held {
		_ = q.release(m.LockToken, store.Undelivered) // timed out in this very moment: it is back already
	}
}

// Close ends the push and releases what was pushed and not settled. A delivery that is under way may still end after it.
func (s *Subscription) Close() {
	q := s.queue
	q.mu.Lock()
	q.drop(s)
	q.unlock()
	if s.service != nil {
		s.service.release(s)
	}
}

// end is Close: whoever has to learn of the end listens to the session's.
func (s *Subscription) end() { s.Close() }
