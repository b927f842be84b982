package hub

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
)

// doors is how many doors there are, with 0 for none.
const doors = int(door.Control) + 1

// doorOf is the index of a connection's door.
func doorOf(c *door.Conn) int {
	if c == nil || int(c.Door()) >= doors {
		return 0
	}
	return int(c.Door())
}

// telemetryCounts are what came in by one door.
type telemetryCounts struct{ messages, units, bytes atomic.Int64 }

// telemetryMeter counts what one session sends: senders of different sessions share nothing. It holds the number of messages above the bytes
// of them, so that a message costs one addition, and is emptied into telemetryCounts by a scrape, at the session's end, and when it is half full.
type telemetryMeter struct{ packed atomic.Uint64 }

const (
	meterShift = 40 // bits for bytes: a million million of them
	meterFull  = 1 << 21
)

// took counts messages that were stored. used is how many they are for the daily quota.
func (s *DeviceSession) took(messages, bytes int, used int64) {
	v := s.meter.packed.Add(uint64(messages)<<meterShift + uint64(bytes))
	if extra := used - int64(messages); extra > 0 {
		s.counts().units.Add(extra)
	}
	if v>>meterShift >= meterFull || s.ended.Load() != nil || s.options.Transient {
		s.emptyMeter()
	}
}

// counts is where the session's meter is emptied into.
func (s *DeviceSession) counts() *telemetryCounts {
	return &s.hub.metrics.telemetry[doorOf(s.options.Conn)]
}

func (s *DeviceSession) emptyMeter() {
	v := s.meter.packed.Swap(0)
	if v == 0 {
		return
	}
	c, messages := s.counts(), int64(v>>meterShift)
	c.messages.Add(messages)
	c.units.Add(messages)
	c.bytes.Add(int64(v & (1<<meterShift - 1)))
}

// emptyMeters brings the telemetry that connected identities have sent to the metrics.
func (h *Hub) emptyMeters() {
	var peers []*peer
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		peers = slices.AppendSeq(peers[:0], maps.Values(s.peers))
		s.mu.Unlock()
		for _, p := range peers {
			p.mu.Lock()
			if p.session != nil {
				p.session.emptyMeter()
			}
			p.mu.Unlock() // nothing has changed that unlock would have to do something about
		}
	}
}

// quota is the daily quota of messages: how many were used when the day began.
type quota struct {
	hub   *Hub
	mu    sync.Mutex
	base  int64
	timer *clock.Timer
}

// begin starts a day, and has the next one start at 00:00 UTC.
func (q *quota) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hub.emptyMeters()
	q.base = q.hub.unitsUsed()
	midnight := q.hub.clock.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	if q.timer == nil {
		q.timer = q.hub.clock.At(midnight, q.begin)
		return
	}
	if !q.hub.closed.Load() {
		q.timer.ResetAt(midnight)
	}
}

func (q *quota) used() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.hub.unitsUsed() - q.base
}

func (q *quota) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.timer.Stop()
}

// unitsUsed is how many messages of the daily quota were used since the hub's start, as far as the meters have been emptied.
func (h *Hub) unitsUsed() int64 {
	n := h.metrics.units.Load()
	for d := range doors {
		n += h.metrics.telemetry[d].units.Load()
	}
	return n
}

// collect sends the documented series.
func (h *Hub) collect(c collection) {
	h.collectTelemetry(c)
	h.metrics.collectOperations(c)
	h.metrics.collectC2D(c)
	h.collectDevices(c)
	h.metrics.routing.collect(c)
}

// collectTelemetry sends what came in. A message that was refused was an attempt all the same.
func (h *Hub) collectTelemetry(c collection) {
	h.emptyMeters()
	usage := h.metrics.bytes.Load()
	for d := range doors {
		messages := h.metrics.telemetry[d].messages.Load()
		usage += h.metrics.telemetry[d].bytes.Load()
		refused, throttled := h.metrics.operations[opTelemetry][d].failure.Load(), h.metrics.throttled[d].Load()
		label := door.Door(d).String()
		c.counter("d2c.telemetry.ingress.allProtocol", messages+refused, label)
		c.counter("d2c.telemetry.ingress.success", messages, label)
		c.counter("d2c.telemetry.ingress.sendThrottle", throttled, label)
	}
	c.counter("deviceDataUsage", usage)
	c.counter("deviceDataUsageV2", usage)
	c.gauge("dailyMessageQuotaUsed", h.quota.used())
}

// collectOperations sends successes, failures and sizes of operations.
func (m *metrics) collectOperations(c collection) {
	var changed int64
	for op, row := range operations {
		for d := range doors {
			n, label := &m.operations[op][d], door.Door(d).String()
			success := n.success.Load()
			if row.category == Configurations {
				changed += success
			}
			if row.metric != "" {
				c.counter(row.metric+".success", success, label)
				c.counter(row.metric+".failure", n.failure.Load(), label)
			}
			if row.sizes != "" {
				c.summary(row.sizes, uint64(success), float64(n.bytes.Load()), label)
			}
		}
	}
	for d := range doors {
		c.summary("c2d.methods.responseSize", uint64(m.operations[opMethod][d].success.Load()), float64(m.responses[d].Load()), door.Door(d).String())
	}
	c.counter("configurations", changed)
	c.counter("jobs.completed", m.operations[opJobCompleted][0].success.Load())
	c.counter("jobs.failed", m.operations[opJobFailed][0].success.Load())
}

// collectC2D sends what became of cloud-to-device messages.
func (m *metrics) collectC2D(c collection) {
	for d := range doors {
		label := door.Door(d).String()
		c.counter("c2d.commands.egress.complete.success", m.operations[opC2DComplete][d].success.Load(), label)
		c.counter("c2d.commands.egress.reject.success", m.operations[opC2DReject][d].success.Load(), label)
		c.counter("c2d.commands.egress.abandon.success", m.operations[opC2DAbandon][d].success.Load(), label)
	}
	c.counter("C2DMessagesExpired", m.expired.Load())
}

// collectDevices sends how many devices there are, modules not counted.
func (h *Hub) collectDevices(c collection) {
	if total, _, err := h.registry.Count(context.Background()); err == nil {
		c.gauge("devices.totalDevices", int64(total))
		c.gauge("totalDeviceCount", int64(total))
	}
	connected := h.metrics.connected.Load()
	c.gauge("devices.connectedDevices.allProtocol", connected)
	c.gauge("connectedDeviceCount", connected)
}
