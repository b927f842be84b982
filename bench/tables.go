package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// table is a part of the report for people.
type table struct {
	title string
	head  []string // of the columns; the first says what a row is about
	rows  [][]string
}

// row adds a row: texts as they are, numbers with so many digits as their format says.
func (t *table) row(format string, values ...any) {
	t.rows = append(t.rows, strings.Split(fmt.Sprintf(format, values...), "|"))
}

// tables are all tables that have rows.
func (r *report) tables() (list []table) {
	for _, t := range []table{
		r.goalsTable(), r.startupTable(), r.idleTable(), r.devicesTable(), r.registrationTable(), r.manageTable(), r.backendTable(), r.telemetryTable(),
		r.growthTable(), r.soakTable(), r.abuseTable(),
	} {
		if len(t.rows) > 0 {
			list = append(list, t)
		}
	}
	return list
}

// lines says where and how the report came about.
func (e *environment) lines() []string {
	list := []string{
		fmt.Sprintf("%s, %s, Linux %s, %d processors (%s)", e.Go, e.System, e.Kernel, e.Processors, e.Processor),
		fmt.Sprintf("%s, %.0f s, load average %s before and %s after", e.Begin.Format("2006-01-02 15:04 MST"), e.Seconds, e.LoadBefore, e.LoadAfter),
		"command: " + e.Command,
	}
	if len(e.Peers) > 0 {
		list = append(list, "peers: "+strings.Join(e.Peers, ", "))
	}
	for _, m := range e.Missing {
		list = append(list, "missing: "+m)
	}
	return list
}

// writeText writes the report for a terminal.
func (r *report) writeText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(r.Environment.lines(), "\n"))
	for _, part := range r.tables() {
		fmt.Fprintf(t, "\n%s\n%s\n", part.title, strings.Join(part.head, "\t"))
		for _, row := range part.rows {
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
	}
	if line := r.underLoad(); line != "" {
		fmt.Fprintf(t, "\n%s\n", line)
	}
	return t.Flush()
}

// writeMarkdown writes the report as Markdown.
func (r *report) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	for _, line := range r.Environment.lines() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	for _, part := range r.tables() {
		fmt.Fprintf(&b, "\n**%s**\n\n| %s |\n|%s\n", part.title, strings.Join(part.head, " | "), strings.Repeat("---|", len(part.head)))
		for _, row := range part.rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
	}
	if line := r.underLoad(); line != "" {
		fmt.Fprintf(&b, "\n%s\n", line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) underLoad() string {
	if r.UnderLoad == nil {
		return ""
	}
	return fmt.Sprintf("resident after %d messages: %.1f MiB", r.UnderLoad.Messages, mib(r.UnderLoad.Memory.Resident))
}

func (r *report) startupTable() table {
	t := table{title: "exec to ready (ms)", head: []string{"server", "median", "min", "max", "runs", "to bare Go", "min..max"}}
	bare := named(r.Startup, bareStartName)
	for _, s := range r.Startup {
		t.row("%s|%.1f|%.1f|%.1f|%d|%s", s.Name, s.Median, s.Min, s.Max, len(s.Samples), ratioText(pairedRatio(s, bare)))
	}
	return t
}

// named returns the series of that name, or one without samples.
func named(list []series, name string) series {
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	return series{}
}

func (r *report) idleTable() table {
	t := table{title: "resident, idle (MiB)", head: []string{"server", "median", "min", "max", "without the program's pages"}}
	for _, s := range r.Idle {
		t.row("%s|%.1f|%.1f|%.1f|%.1f", s.Resident.Name, s.Resident.Median, s.Resident.Min, s.Resident.Max, s.Anonymous.Median)
	}
	return t
}

func (r *report) devicesTable() table {
	t := table{title: "idle MQTT devices over TLS, medians (min..max)", head: []string{"server", "devices", "KiB per device", "iolite to it", "min..max",
		"KiB, registration included", "CPU ms per connect", "iolite to it", "min..max", "CPU ms/s when silent"}}
	for _, n := range r.crowdSizes() {
		of := func(name string, figure func(crowdFigures) float64) series { return r.crowdSeries(name, n, figure) }
		connect, quiet := func(c crowdFigures) float64 { return c.ConnectMillis }, func(c crowdFigures) float64 { return c.QuietMillis }
		for _, name := range r.crowdServers() {
			size, cpu := of(name, crowdFigures.perDevice), of(name, connect)
			var sizes, cpus series
			if name != emulatorName {
				sizes, cpus = pairedRatio(of(emulatorName, crowdFigures.perDevice), size), pairedRatio(of(emulatorName, connect), cpu)
			}
			t.row("%s|%d|%s|%s|%s|%s|%s|%s", name, n, spread(size), ratioText(sizes), spread(of(name, crowdFigures.withRegistration)), spread(cpu), ratioText(cpus), spread(of(name, quiet)))
		}
	}
	return t
}

// crowdSeries are the runs of a server with n devices.
func (r *report) crowdSeries(server string, n int, figure func(crowdFigures) float64) (s series) {
	for _, c := range r.Devices {
		if c.Server == server && c.Devices == n {
			s.add(figure(c))
		}
	}
	return s
}

// crowdSizes are the numbers of devices that were measured.
func (r *report) crowdSizes() (sizes []int) {
	for _, c := range r.Devices {
		if !slices.Contains(sizes, c.Devices) {
			sizes = append(sizes, c.Devices)
		}
	}
	return sizes
}

// crowdServers are the servers that were measured with idle devices.
func (r *report) crowdServers() (names []string) {
	for _, c := range r.Devices {
		if !slices.Contains(names, c.Server) {
			names = append(names, c.Server)
		}
	}
	return names
}

// spread is a median with the smallest and the largest.
func spread(s series) string { return fmt.Sprintf("%.2f (%.2f..%.2f)", s.Median, s.Min, s.Max) }

func (r *report) registrationTable() table {
	t := table{title: "devices registered, 100 in a request", head: []string{"devices", "seconds", "server CPU for each (us)", "bytes resident for each"}}
	for _, g := range r.Registration {
		t.row("%d|%.1f|%.1f|%.0f", g.Devices, g.Seconds, g.CPUMicros, g.Bytes)
	}
	return t
}

func (r *report) manageTable() table {
	t := table{title: "round trip (us)", head: []string{"what", "at once", "runs", "p50", "min..max", "p99", "server CPU", "p50 in bare loopbacks", "min..max"}}
	for _, m := range r.Manage {
		t.row("%s|%d|%d x %d|%.0f|%.0f..%.0f|%.0f|%.0f|%s", m.Name, m.Width, len(m.P50.Samples), m.Count, m.P50.Median, m.P50.Min, m.P50.Max, m.P99.Median, m.CPU.Median, ratioText(m.Loopbacks))
	}
	return t
}

func (r *report) backendTable() table {
	t := table{title: "back end", head: []string{"what", "messages", "per second", "p50 (us)", "p99 (us)", "server CPU (us)", "p50 in bare loopbacks"}}
	measured := func(format string, v float64) string {
		if v == 0 || math.IsInf(v, 0) {
			return ""
		}
		return fmt.Sprintf(format, v)
	}
	for _, f := range r.Backend {
		t.row("%s|%d|%s|%s|%s|%.2f|%s", f.Name, f.Count, measured("%.0f", f.PerSecond), measured("%.0f", f.P50), measured("%.0f", f.P99), f.CPU,
			measured("%.1f", f.P50/r.loopback(false).Median))
	}
	return t
}

func (r *report) telemetryTable() table {
	t := table{title: "server CPU per acknowledged message (us)", head: []string{"group", "load", "server", "median", "min", "max", "iolite to it", "min..max", "this client's"}}
	for _, c := range r.Telemetry {
		for i, s := range c.Servers {
			ratio := "|"
			if i > 0 {
				ratio = ratioText(c.Ratios[s.Name])
			}
			client := ""
			if of := named(c.Clients, s.Name); len(of.Samples) > 0 {
				client = fmt.Sprintf("%.2f", of.Median)
			}
			t.row("%s|%s|%s|%.2f|%.2f|%.2f|%s|%s", c.Group, c.Load, s.Name, s.Median, s.Min, s.Max, ratio, client)
		}
	}
	return t
}

// ratioText is a ratio and its spread, in two columns, which are empty where nothing compares.
func ratioText(s series) string {
	if len(s.Samples) == 0 {
		return "|"
	}
	return fmt.Sprintf("%.2f|%.2f..%.2f", s.Median, s.Min, s.Max)
}
