// Command bench measures a real emulator process: how fast it starts, what it keeps in memory, what a telemetry message costs it on
// each door, and how long twins, direct methods and queries take. README.md says what each number means.
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
	registered    int // devices that manage registers
	exchangeCount int
	stored        int // events that are stored to be caught up with
	quiet         time.Duration
	pattern       string
	peers         bool
	json          bool
	parts         map[string]bool

	dir     string // for certificates and configurations; removed at the end
	peerTLS *tls.Config
	report  report
}

func main() {
	run := runBench
	if len(os.Args) > 1 && os.Args[1] == "peer" {
		run = func() error { return runPeer(os.Args[2:]) }
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
	if b.json {
		return b.report.writeJSON(os.Stdout)
	}
	return b.report.writeText(os.Stdout)
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
	f.IntVar(&b.rounds, "rounds", 5, "how often each telemetry case is run")
	f.IntVar(&b.messages, "messages", 20000, "messages of each run")
	f.IntVar(&b.conns, "connections", 50, "connections that send, and links on the one connection")
	f.IntVar(&b.beside, "beside", 0, "silent MQTT devices that are connected while others send")
	f.IntVar(&b.starts, "starts", 20, "starts of each kind")
	devices := f.String("devices", "2000,10000", "numbers of idle devices")
	f.IntVar(&b.registered, "registered", 100000, "devices that are registered while device management is measured")
	f.IntVar(&b.exchangeCount, "exchanges", 2000, "round trips of each kind of device management")
	f.IntVar(&b.stored, "stored", 1_000_000, "events that are stored and then read from the first on")
	f.DurationVar(&b.quiet, "quiet", 5*time.Second, "how long to wait before memory is read, and to watch silent devices")
	f.StringVar(&b.pattern, "case", "", "`regexp` of the telemetry cases, as in \"MQTT, flood\"")
	f.BoolVar(&b.peers, "peers", true, "measure mosquitto and bare Go too")
	f.BoolVar(&b.json, "json", false, "print JSON")
	parts := f.String("only", "startup,devices,manage,backend,telemetry", "what to measure")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	return b, b.check(*devices, *parts)
}

// check makes sense of the flags that are lists, and refuses what cannot be.
func (b *bench) check(devices, parts string) error {
	for text := range strings.SplitSeq(devices, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxDevices {
			return fmt.Errorf("-devices: %q is not a number between 1 and %d", text, maxDevices)
		}
		b.devices = append(b.devices, n)
	}
	b.parts = map[string]bool{}
	for part := range strings.SplitSeq(parts, ",") {
		if part != "startup" && part != "devices" && part != "manage" && part != "backend" && part != "telemetry" {
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
	case b.rounds < 1 || b.messages < 1 || b.starts < 1 || b.exchangeCount < 1 || b.stored < 1:
		return errors.New("-rounds, -messages, -exchanges, -stored and -starts: at least 1")
	case b.registered < minRegistered || b.registered > maxRegistered:
		return fmt.Errorf("-registered: not between %d and %d", minRegistered, maxRegistered)
	}
	return nil
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
	if b.parts["startup"] {
		if err := b.measureStartup(); err != nil {
			return err
		}
	}
	if b.parts["devices"] {
		if err := b.measureDevices(ctx); err != nil {
			return err
		}
	}
	if b.parts["manage"] {
		if err := b.measureManage(ctx); err != nil {
			return err
		}
	}
	if b.parts["backend"] {
		if err := b.measureBackend(ctx); err != nil {
			return err
		}
	}
	if b.parts["telemetry"] {
		return b.measureTelemetry(ctx)
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
