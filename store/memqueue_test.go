package store

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var queueKey = Key{DeviceID: "d"}

func newQueues() *memQueues { return NewMemory(MemoryOptions{}).devicebound }

func TestQueueCopiesWhatItKeeps(t *testing.T) {
	q := newQueues()
	body, properties := []byte("body"), []Property{{Name: "n", Value: "v"}}
	must(q.Enqueue(ctx, queueKey, Message{Body: body, Properties: properties}, 50))
	body[0], properties[0].Value = 'X', "changed"
	m, _, _ := q.Lock(ctx, queueKey, "t", start)
	if string(m.Body) != "body" || m.Properties[0].Value != "v" {
		t.Errorf("the queue holds %q %v", m.Body, m.Properties)
	}
}

func TestFullQueueRefuses(t *testing.T) {
	q := newQueues()
	for range 2 {
		must(q.Enqueue(ctx, queueKey, Message{}, 2))
	}
	must(q.Enqueue(ctx, Key{DeviceID: "other"}, Message{}, 2))
	if _, ok, _ := q.Lock(ctx, queueKey, "t", start); !ok {
		t.Fatal("nothing to lock")
	}
	_, err := q.Enqueue(ctx, queueKey, Message{}, 2)
	wantErr(t, err, ErrFull)
	must(q.Remove(ctx, queueKey, "t"))
	must(q.Enqueue(ctx, queueKey, Message{}, 2))
}

func TestQueueWithoutMessagesCostsNothing(t *testing.T) {
	q := newQueues()
	must(q.Enqueue(ctx, queueKey, Message{}, 50))
	first, _, _ := q.Lock(ctx, queueKey, "t", start)
	must(q.Remove(ctx, queueKey, "t"))
	for i := range q.shards {
		if n := len(q.shards[i].queues); n != 0 {
			t.Errorf("%d queues are remembered", n)
		}
	}
	if next := must(q.Enqueue(ctx, queueKey, Message{}, 50)); next.Sequence <= first.Sequence {
		t.Errorf("sequence number %d after %d", next.Sequence, first.Sequence)
	}
}

func TestLostLocksAndUnknownMessagesAreErrors(t *testing.T) {
	q := newQueues()
	_, err := q.Remove(ctx, queueKey, "never")
	wantErr(t, err, ErrLockLost)
	m := must(q.Enqueue(ctx, queueKey, Message{}, 50))
	_, err = q.Release(ctx, queueKey, "never", Abandoned)
	wantErr(t, err, ErrLockLost)
	if _, _, err := q.Lock(ctx, queueKey, "t", start.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, err = q.RemoveSequence(ctx, queueKey, m.Sequence)
	wantErr(t, err, ErrNotFound) // it is locked
	unlocked, _, _, _ := q.Expire(ctx, queueKey, start.Add(time.Minute))
	if len(unlocked) != 1 || unlocked[0].LockToken != "t" {
		t.Errorf("Expire unlocked %+v", unlocked)
	}
	_, err = q.Remove(ctx, queueKey, "t")
	wantErr(t, err, ErrLockLost)
	if got := must(q.RemoveSequence(ctx, queueKey, m.Sequence)); got.DeliveryCount != 1 {
		t.Errorf("delivery count %d", got.DeliveryCount)
	}
	_, err = q.RemoveSequence(ctx, queueKey, m.Sequence)
	wantErr(t, err, ErrNotFound)
}

// modelMessage is what the model of a queue knows of a message.
type modelMessage struct {
	sequence int64
	token    string
	until    time.Time
	deadline time.Time
	count    int
	abandons int
}

// queueModel compares a queue with the simplest thing that could be right: a list in order of sequence numbers.
type queueModel struct {
	q     *memQueues
	now   time.Time
	list  []*modelMessage
	token int
}

func (m *queueModel) index(t *rapid.T) int {
	if len(m.list) == 0 {
		t.Skip("empty")
	}
	return rapid.IntRange(0, len(m.list)-1).Draw(t, "message")
}

func (m *queueModel) enqueue(t *rapid.T) {
	limit := 8
	deadline := m.now.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "ttl")) * time.Second)
	got, err := m.q.Enqueue(ctx, queueKey, Message{Deadline: deadline}, limit)
	if full := len(m.list) >= limit; full != (err != nil) {
		t.Fatalf("Enqueue with %d messages: %v", len(m.list), err)
	}
	if err == nil {
		m.list = append(m.list, &modelMessage{sequence: got.Sequence, deadline: deadline})
	}
}

func (m *queueModel) lock(t *rapid.T) {
	m.token++
	token, until := fmt.Sprint(m.token), m.now.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "lock"))*time.Second)
	got, ok, err := m.q.Lock(ctx, queueKey, token, until)
	at := slices.IndexFunc(m.list, func(x *modelMessage) bool { return x.token == "" })
	if err != nil || ok != (at >= 0) {
		t.Fatalf("Lock = %v, %v; the model's first free message is %d", ok, err, at)
	}
	if ok {
		x := m.list[at]
		x.token, x.until = token, until
		x.count++
		if got.Sequence != x.sequence || got.DeliveryCount != x.count {
			t.Fatalf("locked %d (delivery %d), want %d (%d): the first that is not locked", got.Sequence, got.DeliveryCount, x.sequence, x.count)
		}
	}
}

func (m *queueModel) remove(t *rapid.T) {
	i := m.index(t)
	x := m.list[i]
	if x.token == "" {
		t.Skip("not locked")
	}
	if got, err := m.q.Remove(ctx, queueKey, x.token); err != nil || got.Sequence != x.sequence {
		t.Fatalf("Remove = %d, %v; want %d", got.Sequence, err, x.sequence)
	}
	m.list = slices.Delete(m.list, i, i+1)
}

func (m *queueModel) release(t *rapid.T) {
	x := m.list[m.index(t)]
	if x.token == "" {
		t.Skip("not locked")
	}
	why := rapid.SampledFrom([]Release{Abandoned, Returned, Undelivered}).Draw(t, "why")
	switch why {
	case Abandoned:
		x.abandons++
	case Undelivered:
		x.count--
	}
	if got, err := m.q.Release(ctx, queueKey, x.token, why); err != nil || got.DeliveryCount != x.count || got.Abandons != x.abandons {
		t.Fatalf("Release = delivery %d, abandoned %d, %v; want %d, %d", got.DeliveryCount, got.Abandons, err, x.count, x.abandons)
	}
	x.token, x.until = "", time.Time{}
}

func (m *queueModel) expire(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "advance")) * time.Second)
	_, expired, next, err := m.q.Expire(ctx, queueKey, m.now)
	if err != nil {
		t.Fatal(err)
	}
	var want []int64
	var due time.Time
	m.list = slices.DeleteFunc(m.list, func(x *modelMessage) bool {
		if x.token != "" && !x.until.After(m.now) {
			x.token, x.until = "", time.Time{}
		}
		if x.token == "" && !x.deadline.After(m.now) {
			want = append(want, x.sequence)
			return true
		}
		at := x.deadline
		if x.token != "" {
			at = x.until
		}
		if due.IsZero() || at.Before(due) {
			due = at
		}
		return false
	})
	var got []int64
	for _, e := range expired {
		got = append(got, e.Sequence)
	}
	if !slices.Equal(got, want) || !next.Equal(due) {
		t.Fatalf("Expire at %v removed %v, next %v; want %v, %v", m.now, got, next, want, due)
	}
}

func (m *queueModel) purge(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "really") > 0 {
		t.Skip("a purge is rare")
	}
	purged := must(m.q.Purge(ctx, queueKey))
	if len(purged) != len(m.list) {
		t.Fatalf("Purge took %d of %d", len(purged), len(m.list))
	}
	for i, x := range m.list {
		if purged[i].Sequence != x.sequence {
			t.Fatalf("Purge took %d in place %d, want %d", purged[i].Sequence, i, x.sequence)
		}
	}
	m.list = nil
}

func (m *queueModel) check(t *rapid.T) {
	if n := must(m.q.Len(ctx, queueKey)); n != len(m.list) {
		t.Fatalf("Len = %d, want %d: a message was lost or came back", n, len(m.list))
	}
}

func TestQueueKeepsOrderAndLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &queueModel{q: newQueues(), now: start}
		t.Repeat(map[string]func(*rapid.T){
			"enqueue": m.enqueue, "lock": m.lock, "remove": m.remove, "release": m.release, "expire": m.expire, "purge": m.purge, "": m.check,
		})
	})
}

func BenchmarkEnqueueLockRemove(b *testing.B) {
	q := newQueues()
	body := make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		must(q.Enqueue(ctx, queueKey, Message{Body: body}, 50))
		if _, ok, _ := q.Lock(ctx, queueKey, "token", start); !ok {
			b.Fatal("nothing to lock")
		}
		must(q.Remove(ctx, queueKey, "token"))
	}
}
