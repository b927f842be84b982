package main

import (
	"fmt"
	"sync"
	"time"
)

// sender is one connection that sends prepared messages.
type sender interface {
	// send writes n messages in one TLS record; n never exceeds what the sender was made for.
	send(n int) error
	// acks waits for acknowledgements and returns how many messages they are for, at least 1.
	acks() (int, error)
	close()
}

// load says how a connection sends.
type load struct {
	name   string
	unit   int // messages in one TLS record
	window int // messages in flight at most
}

// The loads, as telemetry comes: from a gateway that empties a buffer, from an SDK that sends on while it waits, from an SDK
// whose caller waits for each message.
var (
	flood = load{"flood", 16, 16}
	each  = load{"each", 1, 16}
	one   = load{"w1", 1, 1}
)

// drive sends n messages, or a few more to fill the last record, and returns how many when all are acknowledged.
func (l load) drive(s sender, n int) (int, error) {
	sent, acked := 0, 0
	for sent < n || acked < sent {
		for sent < n && sent-acked+l.unit <= l.window {
			if err := s.send(l.unit); err != nil {
				return acked, fmt.Errorf("send: %w", err)
			}
			sent += l.unit
		}
		got, err := s.acks()
		if err != nil {
			return acked, fmt.Errorf("after %d of %d acknowledgements: %w", acked, sent, err)
		}
		acked += got
	}
	return acked, nil
}

// driveAll has every sender send its share of n messages, and returns how many were acknowledged.
func (l load) driveAll(senders []sender, n int) (int, error) {
	share := (n + len(senders) - 1) / len(senders)
	var mu sync.Mutex
	total := 0
	err := inParallel(len(senders), len(senders), func(i int) error {
		got, err := l.drive(senders[i], share)
		mu.Lock()
		defer mu.Unlock()
		total += got
		return err
	})
	return total, err
}

// inParallel calls f for 0 to n-1, width at a time, and returns the first error.
func inParallel(n, width int, f func(i int) error) error {
	var (
		mu    sync.Mutex
		next  int
		first error
		wg    sync.WaitGroup
	)
	take := func(err error) int {
		mu.Lock()
		defer mu.Unlock()
		if first == nil {
			first = err
		}
		if first != nil || next == n {
			return -1
		}
		next++
		return next - 1
	}
	for range min(n, width) {
		wg.Go(func() {
			for i := take(nil); i >= 0; {
				i = take(f(i))
			}
		})
	}
	wg.Wait()
	return first
}

// until returns the deadline of something that may take as long as limit.
func until(limit time.Duration) time.Time { return time.Now().Add(limit) }
