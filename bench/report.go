package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is everything that was measured; its JSON form is what -json prints.
type report struct {
	Environment  environment           `json:"environment"`
	Startup      []series              `json:"startup,omitempty"` // milliseconds from exec to the first 200 of GET /readyz
	Idle         []idleFigures         `json:"idle,omitempty"`    // ready, and nobody connected
	Devices      []crowdFigures        `json:"devices,omitempty"` // idle MQTT devices over TLS
	Registration []registrationFigures `json:"registration,omitempty"`
	Manage       []manageFigures       `json:"manage,omitempty"`
	Backend      []backendFigures      `json:"backend,omitempty"`
	Telemetry    []costFigures         `json:"telemetry,omitempty"` // microseconds of the server's CPU time per acknowledged message
	Growth       []growthFigures       `json:"growth,omitempty"`
	Soak         []soakFigures         `json:"soak,omitempty"`
	Abuse        []abuseFigures        `json:"abuse,omitempty"`
	UnderLoad    *loadFigures          `json:"afterLoad,omitempty"`
}

type environment struct {
	Go         string    `json:"go"`
	System     string    `json:"system"`
	Kernel     string    `json:"kernel"`
	Processors int       `json:"processors"`
	Processor  string    `json:"processor"`
	Peers      []string  `json:"peers,omitempty"`   // with their versions
	Missing    []string  `json:"missing,omitempty"` // peers that were not measured, and why
	Command    string    `json:"command"`
	Emulator   string    `json:"emulator"`
	Begin      time.Time `json:"begin"`
	LoadBefore string    `json:"loadAverageBefore"`
	LoadAfter  string    `json:"loadAverageAfter"`
	Seconds    float64   `json:"seconds"`
}

// series are repeated measurements of one thing.
type series struct {
	Name    string    `json:"name"`
	Median  float64   `json:"median"`
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Samples []float64 `json:"samples"`
}

func (s *series) add(v float64) {
	s.Samples = append(s.Samples, v)
	s.Median, s.Min, s.Max = median(s.Samples), slices.Min(s.Samples), slices.Max(s.Samples)
}

// idleFigures are repeated readings of a server that has just started.
type idleFigures struct {
	Resident  series `json:"resident"`  // MiB
	Anonymous series `json:"anonymous"` // MiB, without the pages of the program file
}

// crowdFigures are one server with so many devices.
type crowdFigures struct {
	Server        string  `json:"server"`
	Devices       int     `json:"devices"`
	Idle          memory  `json:"idle"`       // nobody registered
	Registered    memory  `json:"registered"` // nobody connected
	Connected     memory  `json:"connected"`
	ConnectMillis float64 `json:"connectMillis"` // CPU time of the server per connect
	QuietMillis   float64 `json:"quietMillis"`   // CPU time per second while all are silent
}

// perDevice is what a connected device adds, in KiB.
func (c crowdFigures) perDevice() float64 {
	return float64(c.Connected.Resident-c.Registered.Resident) / 1024 / float64(c.Devices)
}

// withRegistration is what a device adds that was not registered before, in KiB.
func (c crowdFigures) withRegistration() float64 {
	return float64(c.Connected.Resident-c.Idle.Resident) / 1024 / float64(c.Devices)
}

// costFigures are one way to send, on all the servers that took it.
type costFigures struct {
	Group   string            `json:"group"`
	Load    string            `json:"load"`
	Servers []series          `json:"servers"`          // microseconds
	Clients []series          `json:"clients"`          // of the client that sent to that server, microseconds
	Ratios  map[string]series `json:"ratios,omitempty"` // emulator to peer, round by round
}

// registrationFigures are what registering devices in bulk costs.
type registrationFigures struct {
	Devices   int     `json:"devices"`
	Seconds   float64 `json:"seconds"`   // for all
	CPUMicros float64 `json:"cpuMicros"` // of the server, per device
	Bytes     float64 `json:"bytes"`     // resident, per device with an empty twin
}

// roundTrip is one run of one kind of round trip, in microseconds.
type roundTrip struct {
	name          string
	count, width  int
	p50, p99, cpu float64
}

// manageFigures are the runs of one kind of round trip, in microseconds.
type manageFigures struct {
	Name      string `json:"name"`
	Count     int    `json:"count"`
	Width     int    `json:"width"`
	P50       series `json:"p50"`
	P99       series `json:"p99"`
	CPU       series `json:"cpu"`       // of the server's process, per round trip
	Loopbacks series `json:"loopbacks"` // p50 to that of a bare loopback of the same round, at the same rate
}

// backendFigures are what a back end sees of messages, and what they cost the server.
type backendFigures struct {
	Name      string  `json:"name"`
	Count     int     `json:"count"`     // messages, or what the name says
	PerSecond float64 `json:"perSecond"` // 0 where it was not measured
	P50       float64 `json:"p50"`       // microseconds from the device to a reader; 0 where it was not measured
	P99       float64 `json:"p99"`
	CPU       float64 `json:"cpu"` // of the server's process for each, in microseconds
}

type loadFigures struct {
	Messages int    `json:"messages"`
	Memory   memory `json:"memory"`
}

// start notes one start of a server.
func (r *report) start(name string, d time.Duration) {
	find(&r.Startup, name).add(d.Seconds() * 1000)
}

func (r *report) idle(name string, m memory) {
	i := slices.IndexFunc(r.Idle, func(f idleFigures) bool { return f.Resident.Name == name })
	if i < 0 {
		i = len(r.Idle)
		r.Idle = append(r.Idle, idleFigures{series{Name: name}, series{Name: name}})
	}
	r.Idle[i].Resident.add(mib(m.Resident))
	r.Idle[i].Anonymous.add(mib(m.Anonymous))
}

// paced reports whether these were at visibleRate.
func (f *manageFigures) paced() bool { return strings.HasPrefix(f.Name, pacedPrefix) }

// exchange notes one run of a round trip.
func (r *report) exchange(t roundTrip) {
	i := slices.IndexFunc(r.Manage, func(f manageFigures) bool { return f.Name == t.name })
	if i < 0 {
		i = len(r.Manage)
		r.Manage = append(r.Manage, manageFigures{Name: t.name, Count: t.count, Width: t.width})
	}
	f := &r.Manage[i]
	f.P50.add(t.p50)
	f.P99.add(t.p99)
	f.CPU.add(t.cpu)
}

// loopback is the p50 of the least that round trips take, at visibleRate or without a pause; it has no samples when that was not measured.
func (r *report) loopback(paced bool) series {
	name := loopbackName
	if paced {
		name = pacedLoopbackName
	}
	i := slices.IndexFunc(r.Manage, func(f manageFigures) bool { return f.Name == name })
	if i < 0 {
		return series{}
	}
	return r.Manage[i].P50
}

func (r *report) crowd(c crowdFigures) { r.Devices = append(r.Devices, c) }

// cost notes one run of a case.
func (r *report) cost(group, load, server string, s spent) {
	i := slices.IndexFunc(r.Telemetry, func(f costFigures) bool { return f.Group == group && f.Load == load })
	if i < 0 {
		i = len(r.Telemetry)
		r.Telemetry = append(r.Telemetry, costFigures{Group: group, Load: load})
	}
	find(&r.Telemetry[i].Servers, server).add(s.server)
	find(&r.Telemetry[i].Clients, server).add(s.client)
}

// find returns the series of that name, a new one if need be.
func find(list *[]series, name string) *series {
	i := slices.IndexFunc(*list, func(s series) bool { return s.Name == name })
	if i < 0 {
		i = len(*list)
		*list = append(*list, series{Name: name})
	}
	return &(*list)[i]
}

// finish computes what compares.
func (r *report) finish() {
	for i := range r.Telemetry {
		c := &r.Telemetry[i]
		at := max(slices.IndexFunc(c.Servers, func(s series) bool { return s.Name == emulatorName }), 0)
		c.Servers[0], c.Servers[at] = c.Servers[at], c.Servers[0]
	}
	for i := range r.Telemetry {
		c := &r.Telemetry[i]
		if own := r.bare(*c); own != nil {
			c.Servers = append(c.Servers, *own)
		}
		for _, peer := range c.Servers[1:] {
			if c.Ratios == nil {
				c.Ratios = map[string]series{}
			}
			c.Ratios[peer.Name] = pairedRatio(c.Servers[0], peer)
		}
	}
	for i := range r.Manage {
		m := &r.Manage[i]
		m.Loopbacks = pairedRatio(m.P50, r.loopback(m.paced()))
	}
	r.Environment.LoadAfter = loadAverage()
	r.Environment.Seconds = math.Round(time.Since(r.Environment.Begin).Seconds())
}

// bare is what c cost the emulator without a WebSocket, under the same load; nil where that does not compare.
func (r *report) bare(c costFigures) *series {
	group, name := groupMQTT, ownMQTTName
	switch c.Group {
	case groupWebSocket:
	case groupAMQPWS:
		group, name = groupAMQP, ownAMQPName
	default:
		return nil
	}
	i := slices.IndexFunc(r.Telemetry, func(o costFigures) bool { return o.Group == group && o.Load == c.Load })
	if i < 0 {
		return nil
	}
	own := r.Telemetry[i].Servers[0]
	own.Name = name
	return &own
}

// pairedRatio divides what was measured in the same round.
func pairedRatio(a, b series) series {
	ratio := series{Name: a.Name + " to " + b.Name}
	for i := range min(len(a.Samples), len(b.Samples)) {
		ratio.add(a.Samples[i] / b.Samples[i])
	}
	return ratio
}

func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	if len(s) == 0 {
		return 0
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func newEnvironment() environment {
	e := environment{Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Processors: runtime.NumCPU(), Begin: time.Now().UTC(), LoadBefore: loadAverage()}
	e.Command = strings.Join(append([]string{"go run ."}, os.Args[1:]...), " ")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	e.Kernel = strings.TrimSpace(string(kernel))
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(cpu)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			e.Processor = strings.TrimSpace(value)
		}
	}
	return e
}

// peer notes a peer that is measured, once.
func (e *environment) peer(name string) {
	if !slices.Contains(e.Peers, name) {
		e.Peers = append(e.Peers, name)
	}
}

// missing notes a peer that is not measured, once.
func (e *environment) missing(why error) {
	if !slices.Contains(e.Missing, why.Error()) {
		e.Missing = append(e.Missing, why.Error())
		fmt.Fprintln(os.Stderr, "missing:", why)
	}
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
