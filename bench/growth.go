package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	// growthSenders are the devices that send while something else grows.
	growthSenders = 10
	// growthReaders are the readers that take nothing.
	growthReaders = 8
	// stuckAfter are so many events that what lies between such a reader and the server is full.
	stuckAfter = 100_000
	// leastFleet are the fewest registered devices whose memory can be told from what else the process does.
	leastFleet = 10_000
	// soakRows is how often a soak looks at the process.
	soakRows = 10
	// soakSlice is how many messages a soak sends between two looks at the clock.
	soakSlice = 5000
)

// growthFigures are the cost of a message at one stage of what grows.
type growthFigures struct {
	Kind  string `json:"kind"`
	Stage string `json:"stage"`
	Load  string `json:"load"`
	Cost  series `json:"cost"`  // microseconds of the server's CPU time per acknowledged message
	Ratio series `json:"ratio"` // to the first stage of the kind, round by round
}

// stage is an emulator that has grown so far.
type stage struct {
	kind, name string
	flags      []string
	grow       func(ctx context.Context, e *emulator) (close func(), err error)
	fresh      bool // each run wants an emulator of its own, since sending makes it grow
}

// measureGrowth sends MQTT telemetry to emulators that differ in one thing, in turn, and soaks one at last.
func (b *bench) measureGrowth(ctx context.Context) error {
	limit, err := raiseFileLimit()
	if err != nil {
		return err
	}
	for _, stages := range [][]stage{b.connectedStages(limit), b.logStages(), b.fleetStages(), b.readerStages()} {
		if len(stages) == 0 || !b.wanted(stages[0].kind) {
			continue
		}
		if err := b.measureStages(ctx, stages); err != nil {
			return err
		}
	}
	if !b.wanted("soak") {
		return nil
	}
	return b.measureSoak(ctx)
}

// connectedStages differ in how many devices are connected.
func (b *bench) connectedStages(limit int) (list []stage) {
	open := 0
	for _, n := range b.connected {
		if open += n; open+spareFiles > limit {
			fmt.Fprintf(os.Stderr, "%d connected devices need more open files than the limit of %d: left out\n", n, limit)
			continue
		}
		list = append(list, stage{kind: "connected devices", name: strconv.Itoa(n), grow: func(ctx context.Context, e *emulator) (func(), error) {
			return e.connectSilent(ctx, n-growthSenders)
		}})
	}
	return list
}

// connectSilent connects devices besides those that send.
func (e *emulator) connectSilent(ctx context.Context, n int) (func(), error) {
	n = max(n, 0)
	conns := make([]net.Conn, n)
	closeAll := func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}
	if err := e.register(ctx, growthSenders+n); err != nil {
		return closeAll, err
	}
	return closeAll, inParallel(n, dialWidth, func(i int) (err error) {
		conns[i], err = e.connectIdle(growthSenders + i)
		return err
	})
}

// logStages differ in how full the event log is.
func (b *bench) logStages() []stage {
	retain := []string{"--retain", strconv.Itoa(b.retain)}
	return []stage{
		{kind: "event log", name: "empty", flags: retain, fresh: true},
		{kind: "event log", name: fmt.Sprintf("full, %d MiB", b.retain), flags: retain, grow: func(_ context.Context, e *emulator) (func(), error) {
			_, err := e.store(growthSenders, b.retain<<20/bodySize) // an event takes more than its body
			return func() {}, err
		}},
	}
}

// fleetStages differ in how many devices are registered.
func (b *bench) fleetStages() (list []stage) {
	for _, n := range b.fleets {
		list = append(list, stage{kind: "registered devices", name: strconv.Itoa(n), grow: func(ctx context.Context, e *emulator) (func(), error) {
			if n < leastFleet {
				return func() {}, e.register(ctx, n)
			}
			return func() {}, b.measureRegistration(ctx, e, n)
		}})
	}
	return list
}

// readerStages differ in readers that ask for everything and take nothing.
func (b *bench) readerStages() []stage {
	return []stage{
		{kind: "readers that are stuck", name: "0"},
		{kind: "readers that are stuck", name: strconv.Itoa(growthReaders), flags: []string{"--consumer-group", "bench1", "--consumer-group", "bench2"},
			grow: func(_ context.Context, e *emulator) (func(), error) {
				closeAll, err := e.attachStuck(growthReaders, false)
				if err == nil {
					_, err = e.store(growthSenders, stuckAfter)
				}
				return closeAll, err
			}},
	}
}

// attachStuck attaches readers of all partitions that never read their sockets, from now on or from the first event.
func (e *emulator) attachStuck(n int, earliest bool) (func(), error) {
	var readers []*reader
	closeAll := func() {
		for _, r := range readers {
			r.close()
		}
	}
	for i := range n {
		r, err := e.readNothing(reading{group: "bench" + strconv.Itoa(1+i/groupReaders), earliest: earliest}, backendLimit)
		if err != nil {
			return closeAll, err
		}
		readers = append(readers, r)
	}
	return closeAll, nil
}

// measureStages runs every load against each stage in turn, round after round.
func (b *bench) measureStages(ctx context.Context, stages []stage) error {
	emulators := make([]*emulator, len(stages))
	for i, s := range stages {
		if s.fresh {
			continue
		}
		e, closeAll, err := b.openStage(ctx, s)
		defer closeAll()
		if err != nil {
			return fmt.Errorf("%s, %s: %w", s.kind, s.name, err)
		}
		emulators[i] = e
	}
	var list []growthFigures
	for _, l := range []load{flood, each, one} {
		costs := make([]series, len(stages))
		for round := range b.rounds {
			for j := range stages {
				i := (j + round) % len(stages) // nobody is always the first
				micros, err := b.stageCost(ctx, stages[i], emulators[i], l)
				if err != nil {
					return fmt.Errorf("%s, %s, %s: %w", stages[i].kind, stages[i].name, l.name, err)
				}
				costs[i].add(micros)
			}
		}
		for i, s := range stages {
			list = append(list, growthFigures{s.kind, s.name, l.name, costs[i], pairedRatio(costs[i], costs[0])})
		}
	}
	b.report.Growth = append(b.report.Growth, list...)
	return nil
}

// openStage starts an emulator and has it grow. close is never nil.
func (b *bench) openStage(ctx context.Context, s stage) (e *emulator, closeAll func(), err error) {
	if e, err = launch(ctx, b.program, b.address, filepath.Join(b.dir, "kept"), s.flags...); err != nil {
		return nil, func() {}, err
	}
	if err := e.register(ctx, growthSenders); err != nil || s.grow == nil {
		return e, e.stop, err
	}
	shrink, err := s.grow(ctx, e)
	return e, func() {
		shrink()
		e.stop()
	}, err
}

// stageCost is the server's CPU time per message, in microseconds.
func (b *bench) stageCost(ctx context.Context, s stage, e *emulator, l load) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if s.fresh {
		own, closeAll, err := b.openStage(ctx, s)
		defer closeAll()
		if err != nil {
			return 0, err
		}
		e = own
	}
	c := benchCase{load: l, conns: growthSenders}
	cost, err := c.run(target{process: e.process, dial: e.dialMQTT}, b.messages)
	return cost.server, err
}

// soakFigures are one look at a process that is flooded.
type soakFigures struct {
	Seconds  float64 `json:"seconds"`  // since the flood began
	Messages int     `json:"messages"` // since then
	Memory   memory  `json:"memory"`
	CPU      float64 `json:"cpu"` // microseconds per message since the last look
}

// measureSoak floods an emulator and looks at its memory again and again.
func (b *bench) measureSoak(ctx context.Context) error {
	e, err := launch(ctx, b.program, b.address, filepath.Join(b.dir, "kept"), "--retain", strconv.Itoa(b.retain))
	if err != nil {
		return err
	}
	defer e.stop()
	if err := e.register(ctx, growthSenders); err != nil {
		return err
	}
	senders := make([]sender, growthSenders)
	for i := range senders {
		if senders[i], err = e.dialMQTT(i, b.soak+loadLimit); err != nil {
			return err
		}
		defer senders[i].close()
	}
	begin := time.Now()
	if err := b.lookAt(e, begin, 0, 0); err != nil {
		return err
	}
	total := 0
	for row := range soakRows {
		n, cpu, err := e.soak(ctx, senders, begin.Add(b.soak*time.Duration(row+1)/soakRows))
		if err != nil {
			return fmt.Errorf("soak: %w", err)
		}
		total += n
		if err := b.lookAt(e, begin, total, cpu); err != nil {
			return err
		}
	}
	return nil
}

// soak floods until end, at least once, and returns how many messages that took and what each cost the server in microseconds.
func (e *emulator) soak(ctx context.Context, senders []sender, end time.Time) (int, float64, error) {
	before, err := e.cpu()
	if err != nil {
		return 0, 0, err
	}
	n := 0
	for more := true; more; more = time.Now().Before(end) {
		if err := ctx.Err(); err != nil {
			return n, 0, err
		}
		sent, err := flood.driveAll(senders, soakSlice)
		if err != nil {
			return n, 0, err
		}
		n += sent
	}
	after, err := e.cpu()
	return n, micros(after-before) / float64(n), err
}

// lookAt notes a row of the soak.
func (b *bench) lookAt(e *emulator, begin time.Time, messages int, cpu float64) error {
	m, err := e.memory()
	b.report.Soak = append(b.report.Soak, soakFigures{time.Since(begin).Seconds(), messages, m, cpu})
	return err
}

func (r *report) growthTable() table {
	t := table{title: "server CPU per acknowledged MQTT message while something grows (us)", head: []string{"what grows", "to", "load", "median", "min", "max", "to the first", "min..max"}}
	for _, g := range r.Growth {
		t.row("%s|%s|%s|%.2f|%.2f|%.2f|%s", g.Kind, g.Stage, g.Load, g.Cost.Median, g.Cost.Min, g.Cost.Max, ratioText(g.Ratio))
	}
	return t
}

func (r *report) soakTable() table {
	t := table{title: "a flood of MQTT telemetry", head: []string{"seconds", "messages", "resident (MiB)", "without the program's pages", "server CPU per message (us)"}}
	for _, s := range r.Soak {
		t.row("%.0f|%d|%.1f|%.1f|%.2f", s.Seconds, s.Messages, mib(s.Memory.Resident), mib(s.Memory.Anonymous), s.CPU)
	}
	return t
}
