package store

import (
	"context"
	"time"
)

// Message is one entry of a queue: a cloud-to-device message of a devicebound queue, a batch of feedback records, or a
// file notification.
type Message struct {
	SystemProperties
	Properties []Property
	Body       []byte

	Sequence      int64 // set by the engine, unique in the queue, grows
	Enqueued      time.Time
	Deadline      time.Time // when the queue gives it up: Expiry, or the time-to-live counted from Enqueued; zero when never
	DeliveryCount int       // deliveries so far, counted by Lock
	Abandons      int       // deliveries that were given back with Abandoned
	LockToken     string
	LockedUntil   time.Time // zero when not locked
}

// Release is why a locked message is given back.
type Release int

// The reasons. A lock that runs out is like Returned.
const (
	Abandoned   Release = iota // by the receiver: counted in Abandons
	Returned                   // the receiver is gone
	Undelivered                // it never got there: taken back out of DeliveryCount
)

// Queues keeps first-in-first-out queues with locks, one per key. A key without messages costs nothing. Queues have no life
// of their own: hub asks Expire when a deadline has passed.
type Queues interface {
	// Enqueue appends and returns the message with its sequence number; ErrFull when limit messages wait or are locked.
	Enqueue(ctx context.Context, key Key, m Message, limit int) (Message, error)
	// Lock gives the first message that is not locked to the caller, under token until until, and counts a delivery;
	// ok is false when there is none.
	Lock(ctx context.Context, key Key, token string, until time.Time) (m Message, ok bool, err error)
	// Remove takes a locked message out (complete, reject); ErrLockLost.
	Remove(ctx context.Context, key Key, token string) (Message, error)
	// Release unlocks a message so that it is delivered again, in its old place. ErrLockLost.
	Release(ctx context.Context, key Key, token string, why Release) (Message, error)
	// RemoveSequence takes out a message that is not locked (delivery count exceeded); ErrNotFound.
	RemoveSequence(ctx context.Context, key Key, sequence int64) (Message, error)
	// Expire unlocks messages whose lock ended at or before now and removes unlocked ones whose
	// Deadline is at or before now. The unlocked still show the lock they had. next is when there is something to do again, zero when never.
	Expire(ctx context.Context, key Key, now time.Time) (unlocked, expired []Message, next time.Time, err error)
	// Purge empties a queue, locked messages included.
	Purge(ctx context.Context, key Key) ([]Message, error)
	// Len returns how many messages wait or are locked.
	Len(ctx context.Context, key Key) (int, error)
}
