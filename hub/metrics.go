package hub

import (
	"context"
	"strconv"
	"sync/atomic"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/exposition"
	"github.com/iolite-emulator/iolite/store"
)

// metrics are the hub's counters, each found once: counting looks nothing up. What the engine counts itself is read when asked
// for, so that telemetry pays nothing.
type metrics struct {
	queued, delivered, violations atomic.Int64

	settled   map[outcome]*atomic.Int64
	uploads   uploadMetrics
	errors    map[Code]*atomic.Int64
	sessions  [doors]atomic.Int64 // by door; 0 for none
	connected atomic.Int64        // devices, without modules

	operations [operationCount][doors]operationCounts
	telemetry  [doors]telemetryCounts
	responses  [doors]atomic.Int64 // bytes of the responses to direct methods
	throttled  [doors]atomic.Int64 // telemetry messages refused with 429
	expired    atomic.Int64        // cloud-to-device messages
	bytes      atomic.Int64        // to and from devices, besides telemetry
	units      atomic.Int64        // of the daily quota, besides telemetry
	routing    *routingMetrics
}

func newMetrics(events store.EventLog, c *clock.Clock) *metrics {
	m := &metrics{settled: map[outcome]*atomic.Int64{}, errors: make(map[Code]*atomic.Int64, len(table)), routing: newRoutingMetrics(c, events.Partitions())}
	for _, o := range []outcome{outcomeSuccess, outcomeExpired, outcomeExceeded, outcomeRejected, outcomePurged} {
		m.settled[o] = new(atomic.Int64)
	}
	counts := make([]atomic.Int64, len(table))
	for i := range table {
		m.errors[table[i].Code] = &counts[i]
	}
	return m
}

// CollectMetrics adds the hub's metrics to p, as they are now.
func (h *Hub) CollectMetrics(p *exposition.Page) {
	collectEvents(p, h.events)
	h.metrics.collect(p)
	h.collect(collection{p})
}

// collect sends Iolite's own series.
func (m *metrics) collect(p *exposition.Page) {
	p.Counter(exposition.Family{Name: "iolite_c2d_queued_total", Help: "Cloud-to-device messages accepted into a queue."}, float64(m.queued.Load()))
	p.Counter(exposition.Family{Name: "iolite_c2d_delivered_total", Help: "Deliveries of queued messages and feedback batches, repeated ones included."}, float64(m.delivered.Load()))
	p.Counter(exposition.Family{Name: "iolite_poll_violations_total", Help: "HTTP polls for cloud-to-device messages that came too soon."}, float64(m.violations.Load()))
	m.uploads.collect(p)
	settled := exposition.Family{Name: "iolite_c2d_settled_total", Help: "Cloud-to-device messages that left their queue, by outcome.", Labels: []string{"outcome"}}
	for o, n := range m.settled {
		p.Counter(settled, float64(n.Load()), string(o))
	}
	errs := exposition.Family{Name: "iolite_errors_total", Help: "Errors answered, by IoT Hub error code.", Labels: []string{"code"}}
	for code, n := range m.errors {
		p.Counter(errs, float64(n.Load()), strconv.Itoa(int(code)))
	}
	sessions := exposition.Family{Name: "iolite_sessions", Help: "Connected devices and modules, by door.", Labels: []string{"door"}}
	for d := range m.sessions {
		p.Gauge(sessions, float64(m.sessions[d].Load()), door.Door(d).String())
	}
}

// collectEvents sends what the event log knows by itself. A reset hub begins at zero again, as counters may.
func collectEvents(p *exposition.Page, events store.EventLog) {
	stored := 0.0
	for i := range events.Partitions() {
		if info, err := events.Info(context.Background(), i); err == nil {
			stored += float64(info.LastSequence + 1)
		}
	}
	p.Counter(exposition.Family{Name: "iolite_events_stored_total", Help: "Telemetry messages stored."}, stored)
	p.Counter(exposition.Family{Name: "iolite_events_evicted_total", Help: "Telemetry messages dropped for the memory limit, oldest first."}, float64(events.Evicted()))
}

// opened and closed count sessions.
func (m *metrics) opened(c *door.Conn, key store.Key) { m.count(c, key, 1) }

func (m *metrics) closed(c *door.Conn, key store.Key) { m.count(c, key, -1) }

func (m *metrics) count(c *door.Conn, key store.Key, by int) {
	d := door.Door(0)
	if c != nil && int(c.Door()) < len(m.sessions) {
		d = c.Door()
	}
	m.sessions[d].Add(int64(by))
	if key.ModuleID == "" {
		m.connected.Add(int64(by))
	}
}
