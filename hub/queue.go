package hub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// outcome is how a message leaves its queue, in the words of a feedback record's statusCode.
type outcome string

// The outcomes of a cloud-to-device message (article "Send cloud-to-device messages from an IoT hub", section Message feedback).
const (
	outcomeSuccess  outcome = "Success"
	outcomeExpired  outcome = "Expired"
	outcomeExceeded outcome = "DeliveryCountExceeded"
	outcomeRejected outcome = "Rejected"
	outcomePurged   outcome = "Purged"
)

// queueRules are what the devicebound queues have in common, and what the feedback queue has.
type queueRules struct {
	store    store.Queues
	lock     time.Duration // how long a delivery is locked
	abandons int           // a message abandoned as often is dead-lettered
	settled  func(key store.Key, messages []store.Message, o outcome)
	refill   func() // called under the lock when a receiver waits and the queue has nothing for it; may be nil
}

// queue runs the messages of one key of a store.Queues: it locks, settles and expires them and pushes them to subscriptions. It
// has at most one timer, and only while there are messages. mu guards it.
type queue struct {
	mu    sync.Mutex
	hub   *Hub
	rules *queueRules
	key   store.Key
	subs  []*Subscription // competing; a devicebound queue has one at most
	next  time.Time       // no later than the next time-out or expiry; zero when nothing is queued
	timer *clock.Timer    // fires at next; made when first needed
	after []func()        // to be called when mu is free
	dirty bool            // there may be something to push that there was not
}

// later puts f off until mu is free.
func (q *queue) later(f func()) { q.after = append(q.after, f) }

// unlock pushes what has become possible, ends the drains for which nothing has, frees mu and does what had to wait.
func (q *queue) unlock() {
	for q.dirty { // taking a message may let others expire
		q.dirty = false
		q.wake()
	}
	q.finishDrains()
	after := q.after
	q.after = nil
	q.mu.Unlock()
	for _, f := range after {
		f()
	}
}

// enqueue appends m.
func (q *queue) enqueue(m store.Message, limit int) error {
	m, err := q.rules.store.Enqueue(context.Background(), q.key, m, limit)
	if err != nil {
		return err
	}
	q.due(m.Deadline)
	q.dirty = true
	return nil
}

// take locks the next message under a new token. It fails with ok false when there is none.
func (q *queue) take() (m store.Message, ok bool) {
	q.expire()
	until := q.hub.clock.Now().Add(q.rules.lock)
	m, ok, err := q.rules.store.Lock(context.Background(), q.key, newUUID(), until)
	if !ok && err == nil && q.rules.refill != nil {
		q.rules.refill()
		m, ok, err = q.rules.store.Lock(context.Background(), q.key, newUUID(), until)
	}
	if err != nil {
		q.hub.log.Error("a queue cannot be read", "category", C2DCommands, "deviceId", q.key.DeviceID, "moduleId", q.key.ModuleID, "error", err)
		return store.Message{}, false
	}
	if ok {
		q.due(until)
	}
	return m, ok
}

// remove takes out the message locked under token, because it was completed or rejected.
func (q *queue) remove(token string, o outcome) error {
	q.expire()
	m, err := q.rules.store.Remove(context.Background(), q.key, token)
	if err != nil {
		return q.storeError(err)
	}
	q.disown(token)
	q.settle(o, m)
	q.restIfEmpty()
	return nil
}

// release gives the message locked under token back.
func (q *queue) release(token string, why store.Release) error {
	q.expire()
	m, err := q.rules.store.Release(context.Background(), q.key, token, why)
	if err != nil {
		return q.storeError(err)
	}
	q.disown(token)
	q.due(m.Deadline)
	q.retire(m)
	q.dirty = true
	return nil
}

// retire dead-letters a released message that was abandoned too often. Nothing else counts: a message whose lock runs out, or whose receiver
// is gone, comes again until it expires (IoT Hub: "increments the delivery count only when your device explicitly abandons a message").
func (q *queue) retire(m store.Message) {
	if m.Abandons < q.rules.abandons {
		return
	}
	m, err := q.rules.store.RemoveSequence(context.Background(), q.key, m.Sequence)
	if err != nil {
		return // it has expired, or somebody else holds it again
	}
	q.settle(outcomeExceeded, m)
	q.restIfEmpty()
}

// purge empties the queue and returns the messages that went.
func (q *queue) purge() []store.Message {
	messages, err := q.rules.store.Purge(context.Background(), q.key)
	if err != nil {
		q.hub.log.Error("a queue cannot be purged", "category", C2DCommands, "deviceId", q.key.DeviceID, "moduleId", q.key.ModuleID, "error", err)
	}
	for _, s := range q.subs {
		clear(s.unsettled)
	}
	q.rest()
	return messages
}

// expire lets locks run out and messages expire, if it is time.
func (q *queue) expire() {
	now := q.hub.clock.Now()
	if q.next.IsZero() || q.next.After(now) {
		return
	}
	unlocked, expired, next, err := q.rules.store.Expire(context.Background(), q.key, now)
	if err != nil {
		q.hub.log.Error("a queue cannot expire", "category", C2DCommands, "deviceId", q.key.DeviceID, "moduleId", q.key.ModuleID, "error", err)
		return
	}
	q.rest()
	q.due(next)
	for _, m := range unlocked {
		q.disown(m.LockToken)
	}
	q.settle(outcomeExpired, expired...)
	q.dirty = q.dirty || len(unlocked) > 0
}

// settle notes that messages left the queue.
func (q *queue) settle(o outcome, messages ...store.Message) {
	if len(messages) > 0 {
		q.later(func() { q.rules.settled(q.key, messages, o) })
	}
}

// due makes sure that the timer fires at t at the latest.
func (q *queue) due(t time.Time) {
	if t.IsZero() || (!q.next.IsZero() && !t.Before(q.next)) {
		return
	}
	q.next = t
	if q.timer == nil {
		q.timer = q.hub.clock.At(t, q.onTimer)
		return
	}
	q.timer.ResetAt(t)
}

// rest stops the timer.
func (q *queue) rest() {
	if q.timer != nil {
		q.timer.Stop()
	}
	q.next = time.Time{}
}

func (q *queue) restIfEmpty() {
	if n, err := q.rules.store.Len(context.Background(), q.key); err == nil && n == 0 {
		q.rest()
	}
}

// onTimer is the timer's function.
func (q *queue) onTimer() {
	q.mu.Lock()
	q.expire()
	q.unlock()
}

// disown makes subscriptions forget a token that is settled or has timed out.
func (q *queue) disown(token string) {
	for _, s := range q.subs {
		delete(s.unsettled, token)
	}
}

// storeError is how the hub puts an error of the queues.
func (q *queue) storeError(err error) error {
	if errors.Is(err, store.ErrLockLost) {
		return q.hub.NewError(CodeLockLost)
	}
	return err
}

// poll locks the next message for a receiver that asks once.
func (q *queue) poll() (store.Message, bool) {
	m, ok := q.take()
	if ok {
		q.delivered(&m)
	}
	return m, ok
}

// delivered counts a delivery.
func (q *queue) delivered(m *store.Message) {
	q.hub.metrics.delivered.Inc()
	if q.key.DeviceID != "" { // else it is feedback
		q.hub.metrics.bytes.Add(int64(messageSize(&m.SystemProperties, m.Properties, m.Body)))
	}
}

// contains reports whether s still is one of the queue's subscriptions.
func (q *queue) contains(s *Subscription) bool { return slices.Contains(q.subs, s) }
