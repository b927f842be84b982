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
	"text/tabwriter"
	"time"
)

// report is everything that was measured; its JSON form is what -json prints.
type report struct {
	Environment  environment          `json:"environment"`
	Startup      []series             `json:"startup,omitempty"` // milliseconds from exec to the first 200 of GET /readyz
	Idle         []idleFigures        `json:"idle,omitempty"`    // ready, and nobody connected
	Devices      []crowdFigures       `json:"devices,omitempty"` // idle MQTT devices over TLS
	Registration *registrationFigures `json:"registration,omitempty"`
	Manage       []manageFigures      `json:"manage,omitempty"`
	Backend      []backendFigures     `json:"backend,omitempty"`
	Telemetry    []costFigures        `json:"telemetry,omitempty"` // microseconds of the server's CPU time per acknowledged message
	UnderLoad    *loadFigures         `json:"afterLoad,omitempty"`
}

type environment struct {
	Go         string    `json:"go"`
	System     string    `json:"system"`
	Processors int       `json:"processors"`
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
	Group   string             `json:"group"`
	Load    string             `json:"load"`
	Servers []series           `json:"servers"`          // microseconds
	Ratios  map[string]float64 `json:"ratios,omitempty"` // emulator to peer: the median of the rounds' ratios
}

// registrationFigures are what registering devices in bulk costs.
type registrationFigures struct {
	Devices   int     `json:"devices"`
	Seconds   float64 `json:"seconds"`   // for all, one request after the other
	CPUMicros float64 `json:"cpuMicros"` // of the server, per device
	Bytes     float64 `json:"bytes"`     // resident, per device with an empty twin
}

// manageFigures are the times of one kind of round trip, in microseconds.
type manageFigures struct {
	Name  string  `json:"name"`
	Count int     `json:"count"`
	Width int     `json:"width"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	CPU   float64 `json:"cpu"` // of the server's process, per round trip
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

func (r *report) crowd(c crowdFigures) { r.Devices = append(r.Devices, c) }

// cost notes one run of a case.
func (r *report) cost(group, load, server string, micros float64) {
	i := slices.IndexFunc(r.Telemetry, func(f costFigures) bool { return f.Group == group && f.Load == load })
	if i < 0 {
		i = len(r.Telemetry)
		r.Telemetry = append(r.Telemetry, costFigures{Group: group, Load: load})
	}
	find(&r.Telemetry[i].Servers, server).add(micros)
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
		for _, peer := range c.Servers[1:] {
			if c.Ratios == nil {
				c.Ratios = map[string]float64{}
			}
			c.Ratios[peer.Name] = medianRatio(c.Servers[0].Samples, peer.Samples)
		}
	}
	r.Environment.LoadAfter = loadAverage()
	r.Environment.Seconds = math.Round(time.Since(r.Environment.Begin).Seconds())
}

// medianRatio pairs what was measured in the same round.
func medianRatio(a, b []float64) float64 {
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
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
	return environment{Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Processors: runtime.NumCPU(), Begin: time.Now().UTC(), LoadBefore: loadAverage()}
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

// writeText writes the tables for people.
func (r *report) writeText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	e := &r.Environment
	fmt.Fprintf(t, "%s, %s, %d processors, load average %s before and %s after, %.0f s\n", e.Go, e.System, e.Processors, e.LoadBefore, e.LoadAfter, e.Seconds)
	if len(r.Startup) > 0 {
		fmt.Fprint(t, "\nexec to GET /readyz = 200 (ms)\tmedian\tmin\tmax\truns\n")
	}
	for _, s := range r.Startup {
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%.1f\t%d\n", s.Name, s.Median, s.Min, s.Max, len(s.Samples))
	}
	if len(r.Idle) > 0 {
		fmt.Fprint(t, "\nresident, idle (MiB)\tmedian\tmin\tmax\twithout the program's pages\n")
	}
	for _, s := range r.Idle {
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%.1f\t%.1f\n", s.Resident.Name, s.Resident.Median, s.Resident.Min, s.Resident.Max, s.Anonymous.Median)
	}
	r.writeDevices(t)
	r.writeManage(t)
	r.writeBackend(t)
	r.writeTelemetry(t)
	return t.Flush()
}

func (r *report) writeManage(t io.Writer) {
	if g := r.Registration; g != nil {
		fmt.Fprintf(t, "\n%d devices registered, 100 in a request: %.1f s, server CPU %.1f us and %.0f bytes resident for each\n", g.Devices, g.Seconds, g.CPUMicros, g.Bytes)
	}
	if len(r.Manage) > 0 {
		fmt.Fprint(t, "\nround trip (us)\tat once\truns\tp50\tp99\tserver CPU\n")
	}
	for _, m := range r.Manage {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.0f\t%.0f\t%.0f\n", m.Name, m.Width, m.Count, m.P50, m.P99, m.CPU)
	}
}

func (r *report) writeBackend(t io.Writer) {
	if len(r.Backend) > 0 {
		fmt.Fprint(t, "\nback end\tmessages\tper second\tp50 (us)\tp99 (us)\tserver CPU (us)\n")
	}
	measured := func(v float64) string {
		if v == 0 {
			return ""
		}
		return fmt.Sprintf("%.0f", v)
	}
	for _, f := range r.Backend {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%.2f\n", f.Name, f.Count, measured(f.PerSecond), measured(f.P50), measured(f.P99), f.CPU)
	}
}

func (r *report) writeDevices(t io.Writer) {
	if len(r.Devices) > 0 {
		fmt.Fprint(t, "\nidle MQTT devices over TLS\tdevices\tKiB per device\tregistration included\tCPU ms per connect\tCPU ms/s when silent\n")
	}
	for _, c := range r.Devices {
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%.1f\t%.2f\t%.1f\n", c.Server, c.Devices, c.perDevice(), c.withRegistration(), c.ConnectMillis, c.QuietMillis)
	}
}

func (r *report) writeTelemetry(t io.Writer) {
	if len(r.Telemetry) > 0 {
		fmt.Fprint(t, "\nserver CPU per acknowledged message (us)\tload\tserver\tmedian\tmin\tmax\tiolite to it\n")
	}
	for _, c := range r.Telemetry {
		for i, s := range c.Servers {
			ratio := ""
			if i > 0 {
				ratio = fmt.Sprintf("%.2f", c.Ratios[s.Name])
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%.2f\t%.2f\t%.2f\t%s\n", c.Group, c.Load, s.Name, s.Median, s.Min, s.Max, ratio)
		}
	}
	if u := r.UnderLoad; u != nil {
		fmt.Fprintf(t, "\nresident after %d messages: %.1f MiB\n", u.Messages, mib(u.Memory.Resident))
	}
}
