// Package clock is the one source of service time: every timestamp, time-out, expiry and lock of the hub asks a Clock,
// so that a test can move all of them at once. Keep-alives and socket deadlines are not service time; they use Wall.
package clock

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Clock is real time plus an offset that Advance moves, or, when made by NewManual, a time that only Advance moves.
// All methods may be called from any goroutine.
type Clock struct {
	offset atomic.Int64 // nanoseconds added to wall time; for a manual clock, nanoseconds since the Unix epoch
	manual bool

	advancing sync.Mutex // held by whoever fires timers, so that expiries happen in order; taken before mu
	mu        sync.Mutex
	timers    timerHeap
	wake      *time.Timer // fires fireDue at the earliest deadline; nil for a manual clock
	wakeAt    time.Time
	seq       uint64
	stopped   bool
}

// Timer is one pending call made with AfterFunc or At.
type Timer struct {
	clock    *Clock
	deadline time.Time
	seq      uint64
	index    int // position in the heap, -1 when not pending
	fire     func()
}

// New returns a clock that runs with real time.
func New() *Clock { return &Clock{} }

// NewManual returns a clock that stands at start until Advance moves it.
func NewManual(start time.Time) *Clock {
	c := &Clock{manual: true}
	c.offset.Store(start.UnixNano())
	return c
}

// Wall returns the real time, unmoved by any Advance: for socket deadlines and measurements only.
func Wall() time.Time { return time.Now() }

// WallAfterFunc calls f on a goroutine of its own when d of real time has passed: for keep-alives only.
func WallAfterFunc(d time.Duration, f func()) *time.Timer { return time.AfterFunc(d, f) }

// Now returns the service time in UTC, without a monotonic reading.
func (c *Clock) Now() time.Time {
	if c.manual {
		return time.Unix(0, c.offset.Load()).UTC()
	}
	return time.Unix(0, time.Now().UnixNano()+c.offset.Load()).UTC()
}

// Offset returns how far Advance has moved the clock ahead of real time. It is zero for a manual clock.
func (c *Clock) Offset() time.Duration {
	if c.manual {
		return 0
	}
	return time.Duration(c.offset.Load())
}

// AfterFunc calls f once when d of service time has passed. f runs on its own goroutine or on that of Advance; it must
// not block and must not call Advance.
func (c *Clock) AfterFunc(d time.Duration, f func()) *Timer { return c.At(c.Now().Add(d), f) }

// At calls f once when the service time reaches t; see AfterFunc.
func (c *Clock) At(t time.Time, f func()) *Timer {
	timer := &Timer{clock: c, fire: f, index: -1}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.push(timer, t)
	return timer
}

// Stop cancels the call and reports whether it was still pending.
func (t *Timer) Stop() bool {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remove(t)
}

// ResetAt moves the call to deadline, pending or not, and reports whether it was pending.
func (t *Timer) ResetAt(deadline time.Time) bool {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	pending := c.remove(t)
	c.push(t, deadline)
	return pending
}

// Sleep returns nil when d of service time has passed, or the context's error.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	done := make(chan struct{})
	t := c.AfterFunc(d, func() { close(done) })
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Advance moves the clock forward by d and returns when every call due on the way has run, each seeing Now at its own
// deadline. A negative d is ignored: service time never goes back.
func (c *Clock) Advance(d time.Duration) {
	if d <= 0 {
		return
	}
	c.advancing.Lock()
	defer c.advancing.Unlock()
	target := c.Now().Add(d)
	for {
		t, deadline := c.popDue(target)
		if t == nil {
			break
		}
		c.moveTo(deadline)
		t.fire()
	}
	c.moveTo(target)
	c.mu.Lock()
	c.arm()
	c.mu.Unlock()
}

// Settle waits for the end of an Advance under way: what counts time from then on counts none of it. Not to be called from what a timer calls.
func (c *Clock) Settle() {
	c.advancing.Lock()
	defer c.advancing.Unlock()
}

// Restore takes back every Advance, so that the clock tells real time again: only for a hub that is being reset, since what is
// pending keeps its deadline. A manual clock stays where it is.
func (c *Clock) Restore() {
	if c.manual {
		return
	}
	c.advancing.Lock()
	defer c.advancing.Unlock()
	c.offset.Store(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeAt = time.Time{}
	c.arm()
}

// Stop cancels every pending call; later ones never fire. It is the end of the clock's life.
func (c *Clock) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	for _, t := range c.timers {
		t.index = -1
	}
	c.timers = nil
	if c.wake != nil {
		c.wake.Stop()
	}
}

// moveTo sets the service time to t unless it is already past it.
func (c *Clock) moveTo(t time.Time) {
	if !t.After(c.Now()) {
		return
	}
	if c.manual {
		c.offset.Store(t.UnixNano())
		return
	}
	c.offset.Store(t.UnixNano() - time.Now().UnixNano())
}

// fireDue runs what is due in real time. It is the wake timer's function.
func (c *Clock) fireDue() {
	c.advancing.Lock()
	defer c.advancing.Unlock()
	for {
		t, _ := c.popDue(c.Now())
		if t == nil {
			break
		}
		t.fire()
	}
	c.mu.Lock()
	c.wakeAt = time.Time{}
	c.arm()
	c.mu.Unlock()
}

// popDue removes and returns the earliest timer due at or before now, or nil, and the deadline it had: it may be reset from now on.
func (c *Clock) popDue(now time.Time) (t *Timer, deadline time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timers) == 0 || c.timers[0].deadline.After(now) {
		return nil, time.Time{}
	}
	t = heap.Pop(&c.timers).(*Timer)
	return t, t.deadline
}

func (c *Clock) push(t *Timer, deadline time.Time) {
	if c.stopped {
		return
	}
	c.seq++
	t.deadline, t.seq = deadline, c.seq
	heap.Push(&c.timers, t)
	if t.index == 0 {
		c.arm()
	}
}

func (c *Clock) remove(t *Timer) bool {
	if t.index < 0 {
		return false
	}
	heap.Remove(&c.timers, t.index)
	return true
}

// arm sets the wake timer to the earliest deadline. The caller holds mu.
func (c *Clock) arm() {
	if c.manual || c.stopped || len(c.timers) == 0 {
		return
	}
	next := c.timers[0].deadline
	if !c.wakeAt.IsZero() && !next.Before(c.wakeAt) && c.wakeAt.After(c.Now()) {
		return // it wakes earlier and arms again
	}
	c.wakeAt = next
	wait := max(next.Sub(c.Now()), 0)
	if c.wake == nil {
		c.wake = time.AfterFunc(wait, c.fireDue)
		return
	}
	c.wake.Reset(wait)
}

// timerHeap orders timers by deadline, then by age.
type timerHeap []*Timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].deadline.Equal(h[j].deadline) {
		return h[i].seq < h[j].seq
	}
	return h[i].deadline.Before(h[j].deadline)
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
