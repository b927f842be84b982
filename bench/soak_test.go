package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite"
)

const (
	// soakTime is how long everybody is busy: what an hour shows, as far as half a minute can.
	soakTime = 20 * time.Second
	// soakLeast are the messages that must have come in that time, or after it: a leak of seventeen bytes for each is seen.
	soakLeast = 500_000
	// soakRetain is the size of the event log, in bytes.
	soakRetain = 16 << 20
	// soakLive is how many bytes more may be reachable at the end: more than what connections and pools hold at one moment and not at
	// another, and less than any message, connection or reader may leave behind.
	soakLive = 8 << 20
	// soakResident is how many bytes more the process may have in memory at any moment. The collector lets the heap become twice what is
	// reachable, which is the log, what it costs besides, and all connections.
	soakResident = 2*soakRetain + 64<<20
	// soakRound is how many messages a sender sends between two looks at the clock.
	soakRound = 320
)

// TestMemoryIsFlatUnderAFlood keeps senders on every door busy once the event log is full, with a reader that takes everything, one that
// takes nothing, and devices and readers that come and go. What is reachable afterwards is what was reachable before, and the process
// never took much more. It does not matter how fast all that is.
func TestMemoryIsFlatUnderAFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: half a minute (-short)")
	}
	if raceDetector {
		t.Skip("SKIPPED: the race detector remembers what was used; the limits hold without -race")
	}
	e := embedWith(t, iolite.Options{EventBytes: soakRetain, ConsumerGroups: []string{"taking", "stuck", "passing"}})
	work := append(soakSenders(t, e), e.comeAndGo(), e.readAndGo())
	soakReaders(t, e)
	busy(t, work, time.Now(), 4*soakRetain/bodySize) // the log is full: an event takes more than its body

	debug.FreeOSMemory()
	before := reachable()
	idle, err := e.memory()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	peak := make(chan int64)
	go func() { peak <- e.peak(ctx) }() // ends with ctx
	begin := time.Now()
	n := busy(t, work, begin.Add(soakTime), soakLeast)
	took := time.Since(begin)
	cancel()
	most, after := <-peak, reachable()

	t.Logf("%d messages in %v; reachable %.1f MiB, then %.1f; resident %.1f MiB, %.1f at most", n, took.Round(time.Second), mib(before), mib(after), mib(idle.Resident), mib(most))
	if after > before+soakLive {
		t.Errorf("%d bytes more are reachable after %d messages: %.1f for each", after-before, n, float64(after-before)/float64(n))
	}
	if most > idle.Resident+soakResident {
		t.Errorf("resident memory grew by %.1f MiB, %.1f are allowed", mib(most-idle.Resident), mib(soakResident))
	}
}

// soakSenders are devices on every door, each of which sends a few messages when it is called.
func soakSenders(t *testing.T, e *emulator) (work []func() (int, error)) {
	for _, way := range []struct {
		dial  func(int, time.Duration) (sender, error)
		load  load
		conns int
	}{
		{e.dialMQTT, flood, 2}, {e.dialMQTT, each, 2}, {e.dialWebSocket, flood, 2}, {e.dialAMQP, flood, 2}, {e.dialAMQPWebSocket, flood, 1}, {e.dialManyLinks(10), each.times(10), 1}, {e.dialHTTPS, one, 1},
	} {
		for range way.conns {
			s, err := way.dial(len(work), benchLimit)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.close)
			work = append(work, func() (int, error) { return way.load.drive(s, soakRound) })
		}
	}
	return work
}

// soakReaders attaches a reader that takes everything and one that asks for everything and takes nothing.
func soakReaders(t *testing.T, e *emulator) {
	taking, err := e.read(reading{group: "taking"}, benchLimit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(taking.close)
	stuck, err := e.readNothing(reading{group: "stuck", earliest: true}, benchLimit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stuck.close)
}

// comeAndGo connects a device that sends nothing, another one each time, and cuts it.
func (e *emulator) comeAndGo() func() (int, error) {
	i := 0
	return func() (int, error) {
		i++
		c, err := e.connectIdle(maxConns/2 + i%(maxConns/2)) // none of those that send
		if err != nil {
			return 0, err
		}
		return 0, c.Close()
	}
}

// readAndGo attaches a reader of everything from the first event on, waits for some, and cuts it.
func (e *emulator) readAndGo() func() (int, error) {
	return func() (int, error) {
		r, err := e.read(reading{group: "passing", earliest: true}, benchLimit)
		if err != nil {
			return 0, err
		}
		defer r.close()
		return 0, r.await(100)
	}
}

// busy has everybody work at once until end and until there are so many messages, and returns how many there were.
func busy(t *testing.T, work []func() (int, error), end time.Time, least int64) int64 {
	t.Helper()
	var (
		sent   atomic.Int64
		failed atomic.Bool
	)
	err := inParallel(len(work), len(work), func(i int) error {
		for !failed.Load() && (time.Now().Before(end) || sent.Load() < least) {
			n, err := work[i]()
			sent.Add(int64(n))
			if err != nil {
				failed.Store(true)
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sent.Load()
}

// reachable is what the process cannot do without, in bytes: the heap without garbage, and stacks. Pools forget what they hold in the second collection.
func reachable() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
