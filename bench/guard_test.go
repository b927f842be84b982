package main

import (
	"context"
	"log/slog"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

const (
	// guardMessages are sent to count allocations: enough for what the process does besides to vanish.
	guardMessages = 2000
	// guardTries bounds how often a way that is over its budget is counted again, in case something else allocated meanwhile.
	guardTries = 3
	// guardMargin is what a count may be above its budget, far less than one allocation for each message.
	guardMargin = 0.25
)

// budgets are the allocations for each telemetry message that a door may do, as they were counted. Those of a read or a write are
// shared by the messages that it takes, so that they are fractions. Record a lower count with the change that brings it; a higher one
// wants a reason.
var budgets = []struct {
	way    string
	load   load
	budget float64
}{
	{"mqtt", flood, 0.21}, {"mqtt", each, 0.33}, {"mqtt", one, 3.01},
	{"mqtt-ws", flood, 1.33}, {"mqtt-ws", each, 1.45}, {"mqtt-ws", one, 6.01},
	{"amqp", flood, 0.14}, {"amqp", each, 0.26}, {"amqp", one, 2.01},
	{"amqp-ws", flood, 1.25}, {"amqp-ws", each, 1.38}, {"amqp-ws", one, 5},
	{"amqp-50-links", flood.times(50), 0.05}, {"amqp-50-links", each.times(50), 0.18},
	{"https", one, 24.05},
	{"hub", one, 0.02}, // hub.DeviceSession.SendTelemetry alone
}

// TestTelemetryStaysWithinItsAllocations counts what the emulator allocates for a message on each door; the senders allocate nothing.
// On one processor, as in testing.AllocsPerRun, goroutines take turns in the same way whatever the machine does, so that counts are
// the same each time.
func TestTelemetryStaysWithinItsAllocations(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: under the race detector pools forget at random; the budgets hold without -race")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	e := embed(t)
	dial := map[string]func(int, time.Duration) (sender, error){
		"mqtt": e.dialMQTT, "mqtt-ws": e.dialWebSocket, "amqp": e.dialAMQP, "amqp-ws": e.dialAMQPWebSocket, "amqp-50-links": e.dialManyLinks(50), "https": e.dialHTTPS,
		"hub": func(int, time.Duration) (sender, error) { return newHubSender(t), nil },
	}
	for _, b := range budgets {
		t.Run(b.way+"/"+b.load.name, func(t *testing.T) {
			s, err := dial[b.way](0, benchLimit)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			least := math.Inf(1)
			for try := 0; try < guardTries && least > b.budget+guardMargin; try++ {
				least = min(least, allocations(t, s, b.load, guardMessages))
			}
			if least > b.budget+guardMargin {
				t.Errorf("%.2f allocations per message, the budget is %.2f", least, b.budget)
			}
			t.Logf("%.2f allocations per message", least)
		})
	}
}

// allocations returns how many objects the process allocates for each of about n messages.
func allocations(t *testing.T, s sender, l load, n int) float64 {
	t.Helper()
	if _, err := l.drive(s, max(l.window, n/10)); err != nil { // warms up
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	sent, err := l.drive(s, n)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(sent)
}

// hubSender gives messages to a hub as a head does, without a door.
type hubSender struct {
	session *hub.DeviceSession
	message hub.Telemetry
	acked   int
}

func newHubSender(t *testing.T) *hubSender {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	h, err := hub.New(hub.Config{Engine: store.NewMemory(store.MemoryOptions{}), Clock: c, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Close()
		c.Stop()
	})
	key := store.Key{DeviceID: "d"}
	identity := store.Identity{Key: key}
	identity.Authentication.PrimaryKey, identity.Authentication.SecondaryKey = hub.DeriveKeys(key)
	if _, err := h.Admin().CreateIdentity(t.Context(), identity); err != nil {
		t.Fatal(err)
	}
	session, err := h.OpenDevice(t.Context(), auth.Principal{DeviceID: "d", Rights: auth.DeviceConnect, Scope: "/devices/d", Method: auth.MethodSAS}, key, hub.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &hubSender{session: session, message: hub.Telemetry{Body: body}}
}

func (s *hubSender) send(n int) error {
	s.acked = n
	for range n {
		if err := s.session.SendTelemetry(context.Background(), s.message); err != nil {
			return err
		}
	}
	return nil
}

func (s *hubSender) acks() (int, error) { return s.acked, nil }

func (s *hubSender) close() { s.session.Close() }

// TestSilentConnectionKeepsASmallStack connects devices that say nothing more. The goroutine that reads keeps the stack that it once
// needed: what needs much must run on another one.
func TestSilentConnectionKeepsASmallStack(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector makes frames larger; the budget holds without -race")
	}
	const n, budget = 256, 5 << 10 // bytes: 4 KiB, and what the process needs besides
	e := embed(t)
	least := math.Inf(1)
	for try := range guardTries {
		before := stacks()
		for i := range n {
			c, err := e.connectIdle(try*n + i)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
		}
		if least = min(least, (stacks()-before)/n); least <= budget {
			break
		}
	}
	if least > budget {
		t.Errorf("%.0f bytes of stack for each connection, the budget is %d", least, budget)
	}
	t.Logf("%.0f bytes of stack for each connection", least)
}

// stacks returns how many bytes the goroutines' stacks take.
func stacks() float64 {
	runtime.GC() // frees those of goroutines that ended
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.StackInuse)
}
