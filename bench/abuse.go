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
	Server  string    `json:"server"`
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

// abused is a server, new for each abuse.
type abused struct {
	name string
	*process
	dial   func(limit time.Duration) (sender, error) // the client that is watched
	abuser []string                                  // flags that say where it is
	settle time.Duration
}

// measureAbuse does every abuse to a new server of each kind.
func (b *bench) measureAbuse(ctx context.Context) error {
	limit, err := raiseFileLimit()
	if err != nil {
		return err
	}
	for _, a := range b.abuses(limit) {
		if !b.wanted(a.name) {
			continue
		}
		for _, open := range []func(context.Context, abuse) (*abused, error){b.abusedEmulator, b.abusedOther, b.abusedMosquitto, b.abusedBare} {
			if err := ctx.Err(); err != nil {
				return err
			}
			s, err := open(ctx, a)
			if err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			if s == nil {
				continue
			}
			f, err := b.watchAbuse(ctx, s, a)
			s.stop()
			if err != nil {
				return fmt.Errorf("%s, %s: %w", a.name, s.name, err)
			}
			b.report.Abuse = append(b.report.Abuse, f)
		}
	}
	return nil
}

func (b *bench) abusedEmulator(ctx context.Context, a abuse) (*abused, error) {
	return b.openAbused(ctx, emulatorName, b.program, a)
}

func (b *bench) abusedOther(ctx context.Context, a abuse) (*abused, error) {
	if b.against == "" {
		return nil, nil
	}
	return b.openAbused(ctx, againstName, b.against, a)
}

func (b *bench) openAbused(ctx context.Context, name, program string, a abuse) (*abused, error) {
	e, err := launch(ctx, program, b.address, filepath.Join(b.dir, "kept"), "--consumer-group", "bench1", "--consumer-group", "bench2")
	if err != nil {
		return nil, err
	}
	s := &abused{name, e.process, func(limit time.Duration) (sender, error) { return e.dialMQTT(0, limit) }, []string{"-control", e.control}, b.settle}
	if err := e.prepareAbuse(ctx, a); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (b *bench) abusedMosquitto(_ context.Context, a abuse) (*abused, error) {
	if !b.peers || a.kind == stuckKind || a.kind == deafKind {
		return nil, nil
	}
	p, err := b.startMosquitto()
	if errors.Is(err, errNoMosquitto) {
		b.report.Environment.missing(err)
		return nil, nil
	}
	return b.abusedPeer(mosquittoName, p), err
}

func (b *bench) abusedBare(_ context.Context, a abuse) (*abused, error) {
	if !b.peers || a.kind == stuckKind || a.kind == deafKind {
		return nil, nil
	}
	p, err := b.startPeer("mqtt")
	return b.abusedPeer(bareName, p), err
}

func (b *bench) abusedPeer(name string, p *peerProcess) *abused {
	if p == nil {
		return nil
	}
	return &abused{name, p.process, func(limit time.Duration) (sender, error) { return p.dialMQTT(b.peerTLS)(0, limit) }, []string{"-peer", p.address, "-certs", b.dir}, b.quiet}
}

// watchAbuse watches a client before, during and after.
func (b *bench) watchAbuse(ctx context.Context, s *abused, a abuse) (f abuseFigures, err error) {
	f.Name, f.Server = a.name, s.name
	client, err := s.dial(3*b.abuse + b.settle + backendLimit)
	if err != nil {
		return f, err
	}
	defer client.close()
	if f.Idle, err = b.settled(s.process); err != nil {
		return f, err
	}
	if f.Before, err = pacedLatencies(client, b.abuse); err != nil {
		return f, err
	}
	if err := b.during(ctx, s, client, a, &f); err != nil {
		return f, err
	}
	if f.After, err = pacedLatencies(client, b.abuse); err != nil {
		return f, err
	}
	time.Sleep(s.settle)
	f.Settled, err = s.memory()
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
func (b *bench) during(ctx context.Context, s *abused, client sender, a abuse, f *abuseFigures) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	abuser, err := start(self, append([]string{"abuser", "-kind", a.kind, "-n", strconv.Itoa(a.n)}, s.abuser...)...)
	if err != nil {
		return err
	}
	defer abuser.stop()
	looked := make(chan struct{})
	stop, cancel := context.WithCancel(ctx)
	go func() { // ends with stop
		defer close(looked)
		f.Peak = s.peak(stop)
	}()
	before, err := s.cpu()
	begin := time.Now()
	if err == nil {
		f.During, err = pacedLatencies(client, b.abuse)
	}
	took := time.Since(begin)
	after, cpuErr := s.cpu()
	f.Busy = (after - before).Seconds() / took.Seconds()
	cancel()
	<-looked
	if failed := abuser.failed(); failed != nil {
		return failed
	}
	abuser.stop()
	f.Done = firstLine(abuser.stderr.String())
	return errors.Join(err, cpuErr, s.failed())
}

// peak returns the largest VmRSS until ctx ends.
func (p *process) peak(ctx context.Context) (most int64) {
	tick := time.NewTicker(abuseLook)
	defer tick.Stop()
	for {
		if m, err := p.memory(); err == nil {
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
		"abuse", "server", "p50 before (us)", "during", "after", "p99 before (us)", "during", "after", "resident before (MiB)", "peak", "settled", "processors used", "done"}}
	for _, a := range r.Abuse {
		t.row("%s|%s|%.0f|%.0f|%.0f|%.0f|%.0f|%.0f|%.1f|%.1f|%.1f|%.2f|%s", a.Name, a.Server, a.Before.P50, a.During.P50, a.After.P50, a.Before.P99, a.During.P99, a.After.P99,
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
