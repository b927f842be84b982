package main

import (
	"fmt"
	"slices"
	"strings"
)

// goal is what a figure should be at most.
type goal struct {
	what string
	most float64
	of   string // what most is measured in: a peer, or a unit
	find func(*report) finding
}

// finding is what a report says about a goal: figure is what most bounds; it has no samples when it was not measured.
type finding struct {
	figure, own, peer series
	floor             series // the least that this machine allows, where a server shows it
	unit              string // of own, peer and floor
}

// goals are those of docs/performance.md, in its order.
var goals = []goal{
	{"MQTT telemetry, flood", 0.20, mosquittoName, sending(groupMQTT, "flood", mosquittoName, gatheredName)},
	{"MQTT telemetry, each", 0.45, mosquittoName, sending(groupMQTT, "each", mosquittoName, gatheredName)},
	{"MQTT telemetry, w1", 0.90, mosquittoName, sending(groupMQTT, "w1", mosquittoName, bareName)},
	{"MQTT, one reader of everything, flood", 0.25, "mosquitto with one subscriber", sending(groupMQTTRead, "flood", mosquittoName, "")},
	{"MQTT, one reader of everything, each", 0.45, "mosquitto with one subscriber", sending(groupMQTTRead, "each", mosquittoName, "")},
	{"MQTT over WebSocket, flood", 1.15, "our own MQTT", sending(groupWebSocket, "flood", ownMQTTName, "")},
	{"MQTT over WebSocket, each", 1.15, "our own MQTT", sending(groupWebSocket, "each", ownMQTTName, "")},
	{"MQTT over WebSocket, w1", 1.15, "our own MQTT", sending(groupWebSocket, "w1", ownMQTTName, "")},
	{"MQTT over WebSocket, flood", 0.20, mochiName + " over WebSocket", sending(groupWebSocket, "flood", mochiName, "")},
	{"MQTT over WebSocket, each", 0.50, mochiName + " over WebSocket", sending(groupWebSocket, "each", mochiName, "")},
	{"HTTPS telemetry, connection kept open", 1.10, netHTTPName, sending(groupHTTPS, "w1", netHTTPName, "")},
	{"AMQP telemetry, flood", 0.10, rabbitmqName, sending(groupAMQP, "flood", rabbitmqName, "")},
	{"AMQP telemetry, each", 0.18, rabbitmqName, sending(groupAMQP, "each", rabbitmqName, "")},
	{"AMQP telemetry, flood", 1.25, protonName, sending(groupAMQP, "flood", protonName, "")},
	{"AMQP telemetry, each", 1.25, protonName, sending(groupAMQP, "each", protonName, "")},
	{"AMQP, 50 devices on one connection, flood", 0.08, rabbitmqName, sending(groupLinks, "flood", rabbitmqName, protonName)},
	{"AMQP, 50 devices on one connection, each", 0.15, rabbitmqName, sending(groupLinks, "each", rabbitmqName, protonName)},
	{"CPU per connect, ECDSA P-256", 1.10, bareName, crowded(bareName, "", "ms", func(c crowdFigures) float64 { return c.ConnectMillis })},
	{"resident for each of 10,000 idle connections", 1.25, mosquittoName, crowded(mosquittoName, bareName, "KiB", crowdFigures.perDevice)},
	{"CPU while 10,000 connections are silent, ms/s", 2.5, "", crowded("", bareName, "ms/s", func(c crowdFigures) float64 { return c.QuietMillis })},
	{"start to ready, CA kept", 1.3, bareStartName, starting(", CA kept")},
	{"start to ready, new CA", 2.6, bareStartName, starting(", new CA")},
	{"resident when ready, MiB", 16, "", idling},
	{"device to Event Hubs reader, 1,000 messages/s, p50", 3, "bare loopbacks at that rate", tripping(pacedReaderName)},
	{"direct method: REST, MQTT device, REST, p50", 6, "bare loopbacks", tripping(methodName)},
}

// sending finds what a way to send costs, beside a peer.
func sending(group, load, peer, floor string) func(*report) finding {
	return func(r *report) finding {
		i := slices.IndexFunc(r.Telemetry, func(c costFigures) bool { return c.Group == group && c.Load == load })
		if i < 0 {
			return finding{}
		}
		c := &r.Telemetry[i]
		return finding{figure: c.Ratios[peer], own: c.Servers[0], peer: named(c.Servers, peer), floor: named(c.Servers, floor), unit: "us"}
	}
}

// crowdOfGoals is how many idle connections the goals speak of.
const crowdOfGoals = 10_000

// crowded finds a figure of idle connections, beside a peer unless that is "".
func crowded(peer, floor, unit string, figure func(crowdFigures) float64) func(*report) finding {
	return func(r *report) finding {
		f := finding{own: r.crowdSeries(emulatorName, crowdOfGoals, figure), floor: r.crowdSeries(floor, crowdOfGoals, figure), unit: unit}
		if peer == "" {
			f.figure = f.own
			return f
		}
		f.peer = r.crowdSeries(peer, crowdOfGoals, figure)
		f.figure = pairedRatio(f.own, f.peer)
		return f
	}
}

// starting finds how long a start takes, beside a bare server's.
func starting(suffix string) func(*report) finding {
	return func(r *report) finding {
		own, bare := named(r.Startup, emulatorName+suffix), named(r.Startup, bareStartName)
		return finding{figure: pairedRatio(own, bare), own: own, peer: bare, unit: "ms"}
	}
}

// idling finds what a server that is ready takes.
func idling(r *report) finding {
	i := slices.IndexFunc(r.Idle, func(f idleFigures) bool { return f.Resident.Name == emulatorName })
	if i < 0 {
		return finding{}
	}
	return finding{figure: r.Idle[i].Resident}
}

// tripping finds how long something takes, beside a bare loopback at the same rate.
func tripping(name string) func(*report) finding {
	return func(r *report) finding {
		i := slices.IndexFunc(r.Manage, func(m manageFigures) bool { return m.Name == name })
		if i < 0 {
			return finding{}
		}
		m := &r.Manage[i]
		return finding{figure: m.Loopbacks, own: m.P50, peer: r.loopback(m.paced()), unit: "us"}
	}
}

// goalsTable puts each goal beside what was measured.
func (r *report) goalsTable() table {
	t := table{title: "goals", head: []string{"what", "at most", "measured", "min..max", "iolite", "peer", "floor", "met"}}
	for _, g := range goals {
		f := g.find(r)
		if len(f.figure.Samples) == 0 {
			continue
		}
		met := "yes"
		if f.figure.Median > g.most {
			met = "no"
		}
		t.row("%s|%s|%.2f|%.2f..%.2f|%s|%s|%s|%s", g.what, strings.TrimSuffix(fmt.Sprintf("%.4g of %s", g.most, g.of), " of "),
			f.figure.Median, f.figure.Min, f.figure.Max, f.text(f.own), f.text(f.peer), f.text(f.floor), met)
	}
	return t
}

// text is a median with its unit, "" when there are no samples.
func (f finding) text(s series) string {
	if len(s.Samples) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f %s", s.Median, f.unit)
}
