package store

import (
	"bytes"
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// queueShards is the number of locks that the queues share, a power of two.
const queueShards = 32

// memQueues keeps queues by key. A queue without messages is forgotten. Sequence numbers come from one counter for all
// queues: that keeps them growing in a queue that was forgotten in between.
type memQueues struct {
	seed     maphash.Seed
	sequence atomic.Int64
	shards   [queueShards]queueShard
}

type queueShard struct {
	mu     sync.Mutex
	queues map[Key]*memQueue
}

// memQueue holds messages in the order of their sequence numbers. A locked message keeps its place.
type memQueue struct {
	messages []*Message
	locked   map[string]*Message // by lock token
}

func newMemQueues() *memQueues {
	q := &memQueues{seed: maphash.MakeSeed()}
	q.reset()
	return q
}

// reset forgets every queue; sequence numbers go on.
func (q *memQueues) reset() {
	for i := range q.shards {
		s := &q.shards[i]
		s.mu.Lock()
		s.queues = map[Key]*memQueue{}
		s.mu.Unlock()
	}
}

// lock returns the shard of key, locked.
func (q *memQueues) lock(key Key) *queueShard {
	s := &q.shards[maphash.Comparable(q.seed, key)%queueShards]
	s.mu.Lock()
	return s
}

// Enqueue implements Queues. It copies the body and the properties; what Lock and the others hand out later shares those copies
// and must not be changed.
func (q *memQueues) Enqueue(_ context.Context, key Key, m Message, limit int) (Message, error) {
	m.Body, m.Properties = bytes.Clone(m.Body), slices.Clone(m.Properties)
	s := q.lock(key)
	defer s.mu.Unlock()
	queue := s.queues[key]
	if queue == nil {
		queue = &memQueue{}
	}
	if len(queue.messages) >= limit {
		return Message{}, ErrFull
	}
	m.Sequence = q.sequence.Add(1)
	m.LockToken, m.LockedUntil, m.DeliveryCount, m.Abandons = "", time.Time{}, 0, 0
	queue.messages = append(queue.messages, &m)
	s.queues[key] = queue
	return m, nil
}

// Lock implements Queues.
func (q *memQueues) Lock(_ context.Context, key Key, token string, until time.Time) (m Message, ok bool, err error) {
	s := q.lock(key)
	defer s.mu.Unlock()
	queue := s.queues[key]
	if queue == nil {
		return Message{}, false, nil
	}
	for _, m := range queue.messages {
		if m.LockToken != "" {
			continue
		}
		m.LockToken, m.LockedUntil = token, until
		m.DeliveryCount++
		if queue.locked == nil {
			queue.locked = map[string]*Message{}
		}
		queue.locked[token] = m
		return *m, true, nil
	}
	return Message{}, false, nil
}

// Remove implements Queues.
func (q *memQueues) Remove(_ context.Context, key Key, token string) (Message, error) {
	s := q.lock(key)
	defer s.mu.Unlock()
	m := s.held(key, token)
	if m == nil {
		return Message{}, ErrLockLost
	}
	s.drop(key, m)
	return *m, nil
}

// Release implements Queues.
func (q *memQueues) Release(_ context.Context, key Key, token string, why Release) (Message, error) {
	s := q.lock(key)
	defer s.mu.Unlock()
	m := s.held(key, token)
	if m == nil {
		return Message{}, ErrLockLost
	}
	s.queues[key].unlock(m)
	switch why {
	case Abandoned:
		m.Abandons++
	case Undelivered:
		m.DeliveryCount--
	case Returned:
	}
	return *m, nil
}

// RemoveSequence implements Queues.
func (q *memQueues) RemoveSequence(_ context.Context, key Key, sequence int64) (Message, error) {
	s := q.lock(key)
	defer s.mu.Unlock()
	queue := s.queues[key]
	if queue == nil {
		return Message{}, ErrNotFound
	}
	at, found := queue.locate(sequence)
	if !found || queue.messages[at].LockToken != "" {
		return Message{}, ErrNotFound
	}
	m := queue.messages[at]
	s.drop(key, m)
	return *m, nil
}

// Expire implements Queues.
func (q *memQueues) Expire(_ context.Context, key Key, now time.Time) (unlocked, expired []Message, next time.Time, err error) {
	s := q.lock(key)
	defer s.mu.Unlock()
	queue := s.queues[key]
	if queue == nil {
		return nil, nil, time.Time{}, nil
	}
	for _, m := range queue.messages {
		if m.LockToken != "" && !m.LockedUntil.After(now) {
			unlocked = append(unlocked, *m) // with the token it had, so that its holder can be told
			queue.unlock(m)
		}
	}
	queue.messages = slices.DeleteFunc(queue.messages, func(m *Message) bool {
		if m.LockToken != "" || m.Deadline.IsZero() || m.Deadline.After(now) {
			return false
		}
		expired = append(expired, *m)
		return true
	})
	s.forgetEmpty(key)
	return unlocked, expired, queue.deadline(), nil
}

// Purge implements Queues.
func (q *memQueues) Purge(_ context.Context, key Key) ([]Message, error) {
	s := q.lock(key)
	defer s.mu.Unlock()
	queue := s.queues[key]
	if queue == nil {
		return nil, nil
	}
	delete(s.queues, key)
	purged := make([]Message, len(queue.messages))
	for i, m := range queue.messages {
		purged[i] = *m
	}
	return purged, nil
}

// Len implements Queues.
func (q *memQueues) Len(_ context.Context, key Key) (int, error) {
	s := q.lock(key)
	defer s.mu.Unlock()
	if queue := s.queues[key]; queue != nil {
		return len(queue.messages), nil
	}
	return 0, nil
}

// held returns the message locked under token, or nil.
func (s *queueShard) held(key Key, token string) *Message {
	if queue := s.queues[key]; queue != nil {
		return queue.locked[token]
	}
	return nil
}

// drop takes m out of the queue of key.
func (s *queueShard) drop(key Key, m *Message) {
	queue := s.queues[key]
	delete(queue.locked, m.LockToken)
	if at, found := queue.locate(m.Sequence); found {
		queue.messages = slices.Delete(queue.messages, at, at+1)
	}
	s.forgetEmpty(key)
}

func (s *queueShard) forgetEmpty(key Key) {
	if queue := s.queues[key]; queue != nil && len(queue.messages) == 0 {
		delete(s.queues, key)
	}
}

func (q *memQueue) locate(sequence int64) (at int, found bool) {
	return slices.BinarySearchFunc(q.messages, sequence, func(m *Message, want int64) int {
		switch {
		case m.Sequence < want:
			return -1
		case m.Sequence > want:
			return 1
		}
		return 0
	})
}

func (q *memQueue) unlock(m *Message) {
	delete(q.locked, m.LockToken)
	m.LockToken, m.LockedUntil = "", time.Time{}
}

// deadline returns when Expire next has something to do; zero when never.
func (q *memQueue) deadline() time.Time {
	var next time.Time
	for _, m := range q.messages {
		at := m.Deadline
		if m.LockToken != "" {
			at = m.LockedUntil
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}
