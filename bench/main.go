// Command bench measures a real emulator process: how fast it starts, what it keeps in memory, what a telemetry message costs it on
// each door, how long twins, direct methods and queries take, what grows, and what abuse does. README.md says what each number means.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the command.
type bench struct {
	program       string // the emulator; built when empty
	against       string // another emulator to compare with
	address       string
	running       string // control address of an emulator that runs already
	pid           int
	partitions    int
	rounds        int
	messages      int
	conns         int
	beside        int
	starts        int
	devices       []int
	crowds        int // rounds of idle devices
	registered    int // devices that manage registers
	exchangeCount int
	stored        int // events that are stored to be caught up with
	uploaded      int // blocks of an upload
	paced         time.Duration
	connected     []int // devices that are connected while others send
	fleets        []int // devices that are registered while others send
	retain        int   // MiB of a full event log
	soak          time.Duration
	halfOpen      int // TLS handshakes that are never finished
	storm         int // devices that reconnect
	abuse         time.Duration
	settle        time.Duration
	azurite       string
	quiet         time.Duration
	pattern       string
	peers         bool
	json          bool
	markdown      string
	parts         map[string]bool

	dir     string // for certificates and configurations; removed at the end
	peerTLS *tls.Config
	report  report
}

func main() {
	run := runBench
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "peer":
			run = func() error { return runPeer(os.Args[2:]) }
		case "abuser":
			run = func() error { return runAbuser(os.Args[2:]) }
		}
	}
	if err := run(); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

func runBench() error {
	b, err := parse(os.Args[1:])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if b.dir, err = os.MkdirTemp("", "iolite-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	if err := os.Chmod(b.dir, 0o755); err != nil { // mosquitto may read it as a user of its own
		return err
	}
	b.report.Environment = newEnvironment()
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.report.finish()
	if b.markdown != "" {
		if err := b.writeMarkdownFile(); err != nil {
			return err
		}
	}
	if b.json {
		return b.report.writeJSON(os.Stdout)
	}
	return b.report.writeText(os.Stdout)
}

func (b *bench) writeMarkdownFile() error {
	f, err := os.Create(b.markdown)
	if err != nil {
		return err
	}
	return errors.Join(b.report.writeMarkdown(f), f.Close())
}

// smoke is what -smoke gives the flags that were not named: everything once, at a small scale. Its figures mean nothing.
var smoke = map[string]string{
	"rounds": "1", "messages": "500", "connections": "10", "starts": "1", "devices": "100", "crowds": "1", "registered": "1000", "exchanges": "40", "stored": "5000", "upload": "2",
	"paced": "500ms", "connected": "10,100", "fleets": "100,1000", "retain": "2", "soak": "3s", "half-open": "200", "storm": "100", "abuse": "1s", "settle": "100ms", "quiet": "100ms",
}

// parse reads the flags.
func parse(args []string) (*bench, error) {
	b := &bench{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&b.program, "emulator", "", "the emulator's `program`; built from the module above when empty")
	f.StringVar(&b.against, "against", "", "another emulator's `program`, measured in turn with the first: for paired ratios of before and after")
	f.StringVar(&b.address, "address", "127.0.0.1", "loopback `address` for everything that is started")
	f.StringVar(&b.running, "running", "", "control `address` of an emulator that runs already: only telemetry is measured")
	f.IntVar(&b.pid, "pid", 0, "its process `id`")
	f.IntVar(&b.partitions, "partitions", 4, "its partitions")
	f.IntVar(&b.rounds, "rounds", 5, "how often each case of telemetry, growth and device management is run")
	f.IntVar(&b.messages, "messages", 20000, "messages of each run")
	f.IntVar(&b.conns, "connections", 50, "connections that send, and links on the one connection")
	f.IntVar(&b.beside, "beside", 0, "silent MQTT devices that are connected while others send")
	f.IntVar(&b.starts, "starts", 20, "starts of each kind")
	devices := f.String("devices", "2000,10000", "numbers of idle devices")
	f.IntVar(&b.crowds, "crowds", 5, "how often each number of idle devices connects to each server")
	f.IntVar(&b.registered, "registered", 100000, "devices that are registered while device management is measured")
	f.IntVar(&b.exchangeCount, "exchanges", 2000, "round trips of each kind of device management")
	f.IntVar(&b.stored, "stored", 1_000_000, "events that are stored and then read from the first on")
	f.IntVar(&b.uploaded, "upload", 50, "blocks of 5 MiB of the file that is uploaded")
	f.DurationVar(&b.paced, "paced", 10*time.Second, "how long devices send at a fixed rate to a back end")
	connected := f.String("connected", "10,1000,10000", "numbers of connected devices that growth compares")
	fleets := f.String("fleets", "100,100000", "numbers of registered devices that growth compares, up to 1,000,000")
	f.IntVar(&b.retain, "retain", 128, "size in MiB of the event log that growth and soak fill")
	f.DurationVar(&b.soak, "soak", 30*time.Second, "how long growth floods an emulator to see its memory over time")
	f.IntVar(&b.halfOpen, "half-open", 5000, "TLS handshakes that abuse begins and never finishes")
	f.IntVar(&b.storm, "storm", 2000, "devices that abuse connects and cuts, over and over")
	f.DurationVar(&b.abuse, "abuse", 10*time.Second, "how long a client is watched before, during and after each abuse")
	f.DurationVar(&b.settle, "settle", 30*time.Second, "how long after that the emulator's memory is read; a peer's, after -quiet")
	f.StringVar(&b.azurite, "azurite", "", "`path` of Azurite's azurite.js, to compare start-up")
	f.DurationVar(&b.quiet, "quiet", 5*time.Second, "how long to wait before memory is read, and to watch silent devices")
	f.StringVar(&b.pattern, "case", "", "`regexp` of telemetry's cases, as in \"MQTT, flood\", of what grows (or \"soak\"), of round trips and of abuses")
	f.BoolVar(&b.peers, "peers", true, "measure mosquitto, RabbitMQ, Qpid Proton C and bare Go too")
	f.BoolVar(&b.json, "json", false, "print JSON")
	f.StringVar(&b.markdown, "markdown", "", "`file` that the report is written to as Markdown, besides")
	small := f.Bool("smoke", false, "everything once and at a small scale, to see that it works: a minute or so")
	parts := f.String("only", strings.Join(partNames(), ","), "what to measure")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *small {
		if err := setUnnamed(f, smoke); err != nil {
			return nil, err
		}
	}
	if err := b.lists(*devices, *connected, *fleets); err != nil {
		return nil, err
	}
	return b, b.check(*parts)
}

// setUnnamed sets the flags that the command line did not.
func setUnnamed(f *flag.FlagSet, values map[string]string) error {
	named := map[string]bool{}
	f.Visit(func(given *flag.Flag) { named[given.Name] = true })
	for name, value := range values {
		if named[name] {
			continue
		}
		if err := f.Set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// lists makes sense of the flags that are lists of numbers.
func (b *bench) lists(devices, connected, fleets string) (err error) {
	if b.devices, err = numbers("devices", devices, 1, maxDevices); err != nil {
		return err
	}
	if b.connected, err = numbers("connected", connected, growthSenders, maxDevices); err != nil {
		return err
	}
	b.fleets, err = numbers("fleets", fleets, growthSenders, maxRegistered)
	return err
}

// numbers reads a list of numbers between two bounds.
func numbers(name, list string, least, most int) (numbers []int, err error) {
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return nil, fmt.Errorf("-%s: %q is not a number between %d and %d", name, text, least, most)
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// check refuses what cannot be.
func (b *bench) check(parts string) error {
	b.parts = map[string]bool{}
	for part := range strings.SplitSeq(parts, ",") {
		if !slices.Contains(partNames(), part) {
			return fmt.Errorf("-only: there is no %q", part)
		}
		b.parts[part] = true
	}
	if b.running != "" {
		b.parts = map[string]bool{"telemetry": true}
	}
	if _, err := regexp.Compile(b.pattern); err != nil {
		return err
	}
	switch {
	case b.running != "" && b.pid == 0:
		return errors.New("-running needs -pid")
	case b.conns < 1 || b.conns > maxConns:
		return fmt.Errorf("-connections: not between 1 and %d", maxConns)
	case b.beside < 0 || b.beside > maxDevices:
		return fmt.Errorf("-beside: not between 0 and %d", maxDevices)
	case b.rounds < 1 || b.messages < 1 || b.starts < 1 || b.exchangeCount < 1 || b.stored < 1 || b.uploaded < 1 || b.crowds < 1 || b.halfOpen < 1 || b.storm < 1:
		return errors.New("-rounds, -messages, -exchanges, -stored, -starts, -crowds, -upload, -half-open and -storm: at least 1")
	case b.retain < 1 || b.retain > maxRetain:
		return fmt.Errorf("-retain: not between 1 and %d", maxRetain)
	case b.storm > maxDevices:
		return fmt.Errorf("-storm: at most %d", maxDevices)
	case b.paced <= 0 || b.soak <= 0 || b.abuse <= 0 || b.settle < 0 || b.quiet < 0 || b.soak > tokenLife/2:
		return fmt.Errorf("-paced, -soak and -abuse: longer than 0; -soak: at most %v", tokenLife/2)
	case b.registered < minRegistered || b.registered > maxRegistered:
		return fmt.Errorf("-registered: not between %d and %d", minRegistered, maxRegistered)
	}
	return nil
}

// maxRetain bounds the event log that growth fills, in MiB.
const maxRetain = 4096

// part is one kind of measurement.
type part struct {
	name    string
	measure func(*bench, context.Context) error
}

// parts is the table of what there is, in the order in which it is measured.
var parts = []part{
	{"startup", (*bench).measureStartup}, {"devices", (*bench).measureDevices}, {"manage", (*bench).measureManage},
	{"backend", (*bench).measureBackend}, {"telemetry", (*bench).measureTelemetry}, {"growth", (*bench).measureGrowth}, {"abuse", (*bench).measureAbuse},
}

func partNames() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// measure does what was asked for, one part after the other.
func (b *bench) measure(ctx context.Context) (err error) {
	if b.peerTLS, err = makeCertificate(b.dir); err != nil {
		return err
	}
	if b.program == "" && b.running == "" {
		if b.program, err = build(ctx, b.dir); err != nil {
			return err
		}
	}
	b.report.Environment.Emulator = filepath.Base(b.program)
	for _, p := range parts {
		if !b.parts[p.name] {
			continue
		}
		begin := time.Now()
		if err := p.measure(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: done in %.0f s\n", p.name, time.Since(begin).Seconds())
	}
	return nil
}

// emulator returns the running emulator that was named, or a new one.
func (b *bench) emulator(ctx context.Context) (*emulator, error) {
	if b.running == "" {
		return launch(ctx, b.program, b.address, filepath.Join(b.dir, "kept"))
	}
	return attach(ctx, &process{pid: b.pid}, b.running, b.partitions)
}

// reportMemoryUnderLoad notes what the emulator keeps after all that was sent to it.
func (b *bench) reportMemoryUnderLoad(e *emulator) {
	m, err := e.memory()
	if err != nil {
		return
	}
	sent := 0
	for _, c := range b.report.Telemetry {
		sent += len(c.Servers[0].Samples) * b.messages
	}
	b.report.UnderLoad = &loadFigures{Messages: sent, Memory: m}
}
