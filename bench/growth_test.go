package main

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// What -smoke sets are flags that there are, and the command line has the last word.
func TestSmokeLeavesWhatWasNamed(t *testing.T) {
	b, err := parse([]string{"-smoke", "-rounds", "3", "-only", "growth,abuse"})
	if err != nil {
		t.Fatal(err)
	}
	if b.rounds != 3 || b.soak != 3*time.Second || !slices.Equal(b.connected, []int{10, 100}) || len(b.parts) != 2 {
		t.Errorf("%+v", b)
	}
	for _, args := range [][]string{{"-only", "nothing"}, {"-connected", "1"}, {"-fleets", "10,x"}, {"-soak", "24h"}, {"-retain", "0"}, {"-storm", "20001"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}

// Each abuse reaches the doors, ends when it is told to, and leaves a hub that takes messages.
func TestEveryAbuseReachesTheDoors(t *testing.T) {
	e := embed(t)
	v := e.victim()
	for name, test := range map[string]struct {
		abuse  func(context.Context, *tally) error
		enough map[string]int
	}{
		"half-open":   {func(ctx context.Context, d *tally) error { return v.halfOpen(ctx, 6, d) }, map[string]int{"begun": 6}},
		"deaf":        {func(ctx context.Context, d *tally) error { return v.neverRead(ctx, 3, d) }, map[string]int{"requests": 30}},
		"storm":       {func(ctx context.Context, d *tally) error { return v.storm(ctx, 5, d) }, map[string]int{"connected": 10, "storms": 2}},
		"garbage":     {func(ctx context.Context, d *tally) error { return v.garbage(ctx, false, d) }, map[string]int{"connections": 4}},
		"garbage-tls": {func(ctx context.Context, d *tally) error { return v.garbage(ctx, true, d) }, map[string]int{"connections": 3}},
	} {
		var done tally
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		ended := make(chan error)
		go func() { ended <- test.abuse(ctx, &done) }()
		for ctx.Err() == nil && !done.has(test.enough) {
			time.Sleep(time.Millisecond)
		}
		failed := ctx.Err()
		cancel()
		if err := <-ended; err != nil || failed != nil {
			t.Errorf("%s: %v, %v: %s", name, err, failed, &done)
		}
	}
	s, err := e.dialMQTT(0, benchLimit)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if l, err := pacedLatencies(s, 100*time.Millisecond); err != nil || l.Count != 20 || l.P50 <= 0 || l.P99 < l.P50 {
		t.Errorf("%+v, %v", l, err)
	}
}

// has says whether everything was counted so often.
func (t *tally) has(enough map[string]int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for what, n := range enough {
		if t.counts[what] < n {
			return false
		}
	}
	return true
}

// Readers that take nothing hold no device up.
func TestReadersThatTakeNothingHoldNoDeviceUp(t *testing.T) {
	e := embed(t)
	closeAll, err := e.attachStuck(1, true)
	if err == nil {
		t.Fatal("there is a consumer group that nobody made")
	}
	closeAll()
	r, err := e.readNothing(reading{group: "$Default", earliest: true}, benchLimit)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if _, err := e.store(2, 2000); err != nil {
		t.Error(err)
	}
}

func TestHalfAClientHelloIsNoHandshake(t *testing.T) {
	hello, err := clientHello()
	if err != nil || len(hello) < 100 || hello[0] != 22 { // RFC 8446: handshake record
		t.Fatalf("% x, %v", hello, err)
	}
	server, client := net.Pipe()
	go func() { // ends with the pipe
		_, _ = client.Write(hello[:len(hello)/2])
		_ = client.Close()
	}()
	if err := tls.Server(server, &tls.Config{}).Handshake(); err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("half a ClientHello: %v", err)
	}
}

// A stage's ratio is to the first of its kind, in the same round.
func TestGrowthIsPaired(t *testing.T) {
	var few, many series
	for _, v := range []float64{10, 20, 40} {
		few.add(v)
		many.add(1.5 * v)
	}
	r := report{Growth: []growthFigures{{"devices", "10", "each", few, pairedRatio(few, few)}, {"devices", "1000", "each", many, pairedRatio(many, few)}}}
	table := r.growthTable()
	if want := "devices|1000|each|30.00|15.00|60.00|1.50|1.50..1.50"; strings.Join(table.rows[1], "|") != want {
		t.Errorf("%v, want %s", table.rows[1], want)
	}
}

// Idle devices and round trips are paired by round, too.
func TestCrowdsAndRoundTripsArePaired(t *testing.T) {
	var r report
	for round := range 3 {
		base := int64(1+round) << 20
		r.crowd(crowdFigures{Server: emulatorName, Devices: 1024, Connected: memory{Resident: 3 * base}, ConnectMillis: 2})
		r.crowd(crowdFigures{Server: "peer", Devices: 1024, Connected: memory{Resident: 2 * base}, ConnectMillis: 4})
		r.exchange(roundTrip{loopbackName, 10, 1, float64(10 + round), 20, 5})
		r.exchange(roundTrip{"method", 10, 1, float64(5 * (10 + round)), 100, 50})
		r.exchange(roundTrip{pacedLoopbackName, 10, 20, float64(20 + round), 20, 5})
		r.exchange(roundTrip{pacedReaderName, 10, 20, float64(3 * (20 + round)), 100, 50})
	}
	r.finish()
	want := "peer|1024|4.00 (2.00..6.00)|1.50|1.50..1.50|4.00 (2.00..6.00)|4.00 (4.00..4.00)|0.50|0.50..0.50|0.00 (0.00..0.00)"
	if got := strings.Join(r.devicesTable().rows[1], "|"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	rows := r.manageTable().rows
	for i, want := range map[int]string{
		1: "method|1|3 x 10|55|50..60|100|50|5.00|5.00..5.00",
		3: pacedReaderName + "|20|3 x 10|63|60..66|100|50|3.00|3.00..3.00",
	} {
		if got := strings.Join(rows[i], "|"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
