package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// abuseRate is how many messages a second the well-behaved client sends, one after the other.
	abuseRate = 200
	// abuseLook is how long lies between two looks at the memory.
	abuseLook = 20 * time.Millisecond
	// abuseStored are the events that readers who take nothing ask for.
	abuseStored = 50_000
)

// abuseFigures are one kind of abuse as a well-behaved MQTT client and the process's memory see it.
type abuseFigures struct {
	Name    string    `json:"name"`
	Before  latencies `json:"before"`
	During  latencies `json:"during"`
	After   latencies `json:"after"`
	Idle    memory    `json:"memoryBefore"`
	Peak    int64     `json:"peak"` // largest VmRSS that was seen, bytes
	Settled memory    `json:"memorySettled"`
	Busy    float64   `json:"busy"` // processors that the server used meanwhile
	Done    string    `json:"done"` // what the abuser says it did
}

// latencies are how long acknowledgements took, in microseconds.
type latencies struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

// measureAbuse does every abuse to an emulator of its own.
func (b *bench) measureAbuse(ctx context.Context) error {
	limit, err := raiseFileLimit()
	if err != nil {
		return err
	}
	for _, a := range b.abuses(limit) {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := b.measureOneAbuse(ctx, a)
		if err != nil {
			return fmt.Errorf("abuse, %s: %w", a.name, err)
		}
		b.report.Abuse = append(b.report.Abuse, f)
	}
	return nil
}

// measureOneAbuse watches a client before, during and after.
func (b *bench) measureOneAbuse(ctx context.Context, a abuse) (f abuseFigures, err error) {
	f.Name = a.name
	e, err := launch(ctx, b.program, b.address, filepath.Join(b.dir, "kept"), "--consumer-group", "bench1", "--consumer-group", "bench2")
	if err != nil {
		return f, err
	}
	defer e.stop()
	if err := e.prepareAbuse(ctx, a); err != nil {
		return f, err
	}
	client, err := e.dialMQTT(0, 3*b.abuse+b.settle+backendLimit)
	if err != nil {
		return f, err
	}
	defer client.close()
	if f.Idle, err = b.settled(e.process); err != nil {
		return f, err
	}
	if f.Before, err = pacedLatencies(client, b.abuse); err != nil {
		return f, err
	}
	if err := b.during(ctx, e, client, a, &f); err != nil {
		return f, err
	}
	if f.After, err = pacedLatencies(client, b.abuse); err != nil {
		return f, err
	}
	time.Sleep(b.settle)
	f.Settled, err = e.memory()
	return f, err
}

// prepareAbuse registers the devices and stores the events that an abuse wants.
func (e *emulator) prepareAbuse(ctx context.Context, a abuse) error {
	if err := e.register(ctx, max(a.devices, 1)+growthSenders); err != nil || a.stored == 0 {
		return err
	}
	_, err := e.store(growthSenders, a.stored)
	return err
}

// during has another process do the abuse while the client sends, so that the client does not wait for the abuser's goroutines.
func (b *bench) during(ctx context.Context, e *emulator, client sender, a abuse, f *abuseFigures) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	abuser, err := start(self, "abuser", "-kind", a.kind, "-control", e.control, "-pid", strconv.Itoa(e.pid), "-n", strconv.Itoa(a.n), "-devices", strconv.Itoa(max(a.devices, 1)+growthSenders))
	if err != nil {
		return err
	}
	defer abuser.stop()
	looked := make(chan struct{})
	stop, cancel := context.WithCancel(ctx)
	go func() { // ends with stop
		defer close(looked)
		f.Peak = e.peak(stop)
	}()
	before, err := e.cpu()
	begin := time.Now()
	if err == nil {
		f.During, err = pacedLatencies(client, b.abuse)
	}
	took := time.Since(begin)
	after, cpuErr := e.cpu()
	f.Busy = (after - before).Seconds() / took.Seconds()
	cancel()
	<-looked
	if failed := abuser.failed(); failed != nil {
		return failed
	}
	abuser.stop()
	f.Done = firstLine(abuser.stderr.String())
	return errors.Join(err, cpuErr, e.failed())
}

// peak returns the largest VmRSS until ctx ends.
func (e *emulator) peak(ctx context.Context) (most int64) {
	tick := time.NewTicker(abuseLook)
	defer tick.Stop()
	for {
		if m, err := e.memory(); err == nil {
			most = max(most, m.Resident)
		}
		select {
		case <-ctx.Done():
			return most
		case <-tick.C:
		}
	}
}

// pacedLatencies sends messages one after the other at abuseRate and returns how long their acknowledgements took. A message that is
// late since the one before it took long counts from when it was due.
func pacedLatencies(s sender, d time.Duration) (latencies, error) {
	const interval = time.Second / abuseRate
	times := make([]float64, 0, d/interval)
	begin := time.Now()
	for due := begin; due.Before(begin.Add(d)); due = due.Add(interval) {
		from := due
		if early := time.Until(due); early > 0 {
			time.Sleep(early)
			from = time.Now() // not the clock's own delay
		}
		if _, err := one.drive(s, 1); err != nil {
			return latencies{}, err
		}
		times = append(times, micros(time.Since(from)))
	}
	slices.Sort(times)
	return latencies{len(times), percentile(times, 50), percentile(times, 99)}, nil
}

// abuseTable puts the client's latencies and the memory side by side.
func (r *report) abuseTable() table {
	t := table{title: fmt.Sprintf("abuse, and an MQTT client that sends %d messages/s one after the other", abuseRate), head: []string{
		"abuse", "p50 before (us)", "during", "after", "p99 before (us)", "during", "after", "resident before (MiB)", "peak", "settled", "processors used", "done"}}
	for _, a := range r.Abuse {
		t.row("%s|%.0f|%.0f|%.0f|%.0f|%.0f|%.0f|%.1f|%.1f|%.1f|%.2f|%s", a.Name, a.Before.P50, a.During.P50, a.After.P50, a.Before.P99, a.During.P99, a.After.P99,
			mib(a.Idle.Resident), mib(a.Peak), mib(a.Settled.Resident), a.Busy, a.Done)
	}
	return t
}

// tally counts what an abuser did.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (t *tally) add(what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts[what] += n
}

// String lists the counts by name.
func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := ""
	for _, what := range slices.Sorted(maps.Keys(t.counts)) {
		text += fmt.Sprintf(", %d %s", t.counts[what], what)
	}
	return text[min(2, len(text)):]
}
