package hub

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// metrics are the hub's counters, each found once: counting looks nothing up. What the engine counts itself is read when asked
// for, so that telemetry pays nothing.
type metrics struct {
	queued, delivered, violations prometheus.Counter

	settled   map[outcome]prometheus.Counter
	uploads   *prometheus.CounterVec // by event
	errors    map[Code]prometheus.Counter
	sessions  [doors]prometheus.Gauge // by door; 0 for none
	connected atomic.Int64            // devices, without modules

	operations [operationCount][doors]operationCounts
	telemetry  [doors]telemetryCounts
	responses  [doors]atomic.Int64 // bytes of the responses to direct methods
	throttled  [doors]atomic.Int64 // telemetry messages refused with 429
	expired    atomic.Int64        // cloud-to-device messages
	bytes      atomic.Int64        // to and from devices, besides telemetry
	units      atomic.Int64        // of the daily quota, besides telemetry
	routing    *routingMetrics
	collectors []prometheus.Collector // of Iolite's own metrics
}

// newMetrics makes the metrics; RegisterMetrics shows them to somebody.
func newMetrics(events store.EventLog, c *clock.Clock) *metrics {
	m := &metrics{
		queued:     counter("iolite_c2d_queued_total", "Cloud-to-device messages accepted into a queue."),
		delivered:  counter("iolite_c2d_delivered_total", "Deliveries of queued messages and feedback batches, repeated ones included."),
		violations: counter("iolite_poll_violations_total", "HTTP polls for cloud-to-device messages that came too soon."),
		settled:    map[outcome]prometheus.Counter{},
		uploads:    newUploadMetrics(),
		errors:     map[Code]prometheus.Counter{},
		routing:    newRoutingMetrics(c, events.Partitions()),
	}
	settled := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "iolite_c2d_settled_total", Help: "Cloud-to-device messages that left their queue, by outcome."}, []string{"outcome"})
	for _, o := range []outcome{outcomeSuccess, outcomeExpired, outcomeExceeded, outcomeRejected, outcomePurged} {
		m.settled[o] = settled.WithLabelValues(string(o))
	}
	errs := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "iolite_errors_total", Help: "Errors answered, by IoT Hub error code."}, []string{"code"})
	for _, row := range table {
		m.errors[row.Code] = errs.WithLabelValues(strconv.Itoa(int(row.Code)))
	}
	sessions := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "iolite_sessions", Help: "Connected devices and modules, by door."}, []string{"door"})
	for d := range m.sessions {
		m.sessions[d] = sessions.WithLabelValues(door.Door(d).String())
	}
	m.collectors = append(eventMetrics(events), m.queued, m.delivered, m.violations, m.uploads, settled, errs, sessions)
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

// eventMetrics are what the event log knows by itself. A reset hub begins at zero again, as counters may.
func eventMetrics(events store.EventLog) []prometheus.Collector {
	stored := func() (n float64) {
		for p := range events.Partitions() {
			if info, err := events.Info(context.Background(), p); err == nil {
				n += float64(info.LastSequence + 1)
			}
		}
		return n
	}
	return []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "iolite_events_stored_total", Help: "Telemetry messages stored."}, stored),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "iolite_events_evicted_total", Help: "Telemetry messages dropped for the memory limit, oldest first."},
			func() float64 { return float64(events.Evicted()) }),
	}
}

// RegisterMetrics registers the hub's metrics with r. Nobody should call it before somebody asks for
// them: it would take a twentieth of the time from start to ready.
func (h *Hub) RegisterMetrics(r prometheus.Registerer) error {
	for _, c := range slices.Concat(h.metrics.collectors, []prometheus.Collector{documented{h.collect}}) {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// opened and closed count sessions.
func (m *metrics) opened(c *door.Conn, key store.Key) { m.count(c, key, 1) }

func (m *metrics) closed(c *door.Conn, key store.Key) { m.count(c, key, -1) }

func (m *metrics) count(c *door.Conn, key store.Key, by int) {
	d := door.Door(0)
	if c != nil && int(c.Door()) < len(m.sessions) {
		d = c.Door()
	}
	m.sessions[d].Add(float64(by))
	if key.ModuleID == "" {
		m.connected.Add(int64(by))
	}
}
