package main

import (
	"fmt"
	"io"
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
		r.startupTable(), r.idleTable(), r.devicesTable(), r.registrationTable(), r.manageTable(), r.backendTable(), r.telemetryTable(),
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
	t := table{title: "exec to ready (ms)", head: []string{"server", "median", "min", "max", "runs"}}
	for _, s := range r.Startup {
		t.row("%s|%.1f|%.1f|%.1f|%d", s.Name, s.Median, s.Min, s.Max, len(s.Samples))
	}
	return t
}

func (r *report) idleTable() table {
	t := table{title: "resident, idle (MiB)", head: []string{"server", "median", "min", "max", "without the program's pages"}}
	for _, s := range r.Idle {
		t.row("%s|%.1f|%.1f|%.1f|%.1f", s.Resident.Name, s.Resident.Median, s.Resident.Min, s.Resident.Max, s.Anonymous.Median)
	}
	return t
}

func (r *report) devicesTable() table {
	t := table{title: "idle MQTT devices over TLS", head: []string{"server", "devices", "KiB per device", "registration included", "CPU ms per connect", "CPU ms/s when silent"}}
	for _, c := range r.Devices {
		t.row("%s|%d|%.1f|%.1f|%.2f|%.1f", c.Server, c.Devices, c.perDevice(), c.withRegistration(), c.ConnectMillis, c.QuietMillis)
	}
	return t
}

func (r *report) registrationTable() table {
	t := table{title: "devices registered, 100 in a request", head: []string{"devices", "seconds", "server CPU for each (us)", "bytes resident for each"}}
	if g := r.Registration; g != nil {
		t.row("%d|%.1f|%.1f|%.0f", g.Devices, g.Seconds, g.CPUMicros, g.Bytes)
	}
	return t
}

func (r *report) manageTable() table {
	t := table{title: "round trip (us)", head: []string{"what", "at once", "runs", "p50", "p99", "server CPU"}}
	for _, m := range r.Manage {
		t.row("%s|%d|%d|%.0f|%.0f|%.0f", m.Name, m.Width, m.Count, m.P50, m.P99, m.CPU)
	}
	return t
}

func (r *report) backendTable() table {
	t := table{title: "back end", head: []string{"what", "messages", "per second", "p50 (us)", "p99 (us)", "server CPU (us)"}}
	measured := func(v float64) string {
		if v == 0 {
			return ""
		}
		return fmt.Sprintf("%.0f", v)
	}
	for _, f := range r.Backend {
		t.row("%s|%d|%s|%s|%s|%.2f", f.Name, f.Count, measured(f.PerSecond), measured(f.P50), measured(f.P99), f.CPU)
	}
	return t
}

func (r *report) telemetryTable() table {
	t := table{title: "server CPU per acknowledged message (us)", head: []string{"group", "load", "server", "median", "min", "max", "iolite to it", "min..max"}}
	for _, c := range r.Telemetry {
		for i, s := range c.Servers {
			ratio := "|"
			if i > 0 {
				ratio = ratioText(c.Ratios[s.Name])
			}
			t.row("%s|%s|%s|%.2f|%.2f|%.2f|%s", c.Group, c.Load, s.Name, s.Median, s.Min, s.Max, ratio)
		}
	}
	return t
}

// ratioText is a ratio and its spread, in two columns.
func ratioText(s series) string { return fmt.Sprintf("%.2f|%.2f..%.2f", s.Median, s.Min, s.Max) }
