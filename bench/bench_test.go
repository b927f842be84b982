package main

import (
	"os"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite"
)

// benchLimit bounds one benchmark.
const benchLimit = 10 * time.Minute

// BenchmarkTelemetry sends through the doors of an emulator in this process, over TLS on loopback and on one connection. The sender
// allocates nothing, so allocations are the emulator's; time is that of both.
func BenchmarkTelemetry(b *testing.B) {
	e := embed(b)
	for _, way := range []struct {
		name  string
		dial  func(int, time.Duration) (sender, error)
		loads []load
	}{
		{"mqtt", e.dialMQTT, []load{flood, each, one}},
		{"mqtt-ws", e.dialWebSocket, []load{flood, each, one}},
		{"amqp", e.dialAMQP, []load{flood, each, one}},
		{"amqp-ws", e.dialAMQPWebSocket, []load{flood, each, one}},
		{"amqp-50-links", e.dialManyLinks(50), []load{flood.times(50), each.times(50)}},
		{"https", e.dialHTTPS, []load{one}},
	} {
		for _, l := range way.loads {
			b.Run(way.name+"/"+l.name, func(b *testing.B) { benchmarkLoad(b, l, way.dial, nil) })
		}
	}
	b.Run("mqtt-read/flood", func(b *testing.B) { benchmarkLoad(b, flood, e.dialMQTT, e.readEvents) })
	b.Run("mqtt-read/w1", func(b *testing.B) { benchmarkLoad(b, one, e.dialMQTT, e.readEvents) })
}

func benchmarkLoad(b *testing.B, l load, dial func(int, time.Duration) (sender, error), read func(time.Duration) (*reader, error)) {
	s, err := dial(0, benchLimit)
	if err != nil {
		b.Fatal(err)
	}
	defer s.close()
	c := benchCase{load: l}
	var r *reader
	if read != nil {
		if r, err = read(benchLimit); err != nil {
			b.Fatal(err)
		}
		defer r.close()
	}
	if _, err := c.send([]sender{s}, r, l.window); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	if _, err := c.send([]sender{s}, r, b.N); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkConnect connects MQTT devices one after the other: TLS handshake, CONNECT, SUBSCRIBE. Time and allocations are those of
// both ends.
func BenchmarkConnect(b *testing.B) {
	e := embed(b)
	b.ReportAllocs()
	for b.Loop() {
		c, err := e.connectIdle(0)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

// BenchmarkStart starts and ends an emulator with a CA in memory.
func BenchmarkStart(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		e, err := iolite.Start(b.Context(), iolite.Options{})
		if err != nil {
			b.Fatal(err)
		}
		e.Close()
	}
}

// embed starts an emulator in this process, with the devices that senders use.
func embed(tb testing.TB) *emulator {
	tb.Helper()
	return embedWith(tb, iolite.Options{})
}

// embedWith does the same with options of its own.
func embedWith(tb testing.TB, o iolite.Options) *emulator {
	tb.Helper()
	inside, err := iolite.Start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(inside.Close)
	e, err := attach(tb.Context(), &process{pid: os.Getpid()}, inside.Info().Control, 4)
	if err != nil {
		tb.Fatal(err)
	}
	if err := e.register(tb.Context(), allDevices); err != nil {
		tb.Fatal(err)
	}
	return e
}
