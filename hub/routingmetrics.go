package hub

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// EndpointType is the dimension EndpointType of routing's metrics.
type EndpointType string

// The types of endpoints.
const (
	EndpointBuiltIn   EndpointType = "builtin"
	EndpointEventHubs EndpointType = "eventHubs"
	EndpointQueues    EndpointType = "serviceBusQueues"
	EndpointTopics    EndpointType = "serviceBusTopics"
	EndpointStorage   EndpointType = "blobStorage"
)

// egressName is how an endpoint type stands in the names of metrics.
var egressName = map[EndpointType]string{
	EndpointBuiltIn: "builtIn.events", EndpointEventHubs: "eventHubs", EndpointQueues: "serviceBusQueues", EndpointTopics: "serviceBusTopics", EndpointStorage: "storage",
}

// routingSource is how a source stands in the dimension RoutingSource.
var routingSource = map[RouteSource]string{
	DeviceMessages: "Device Messages", TwinChangeEvents: "Twin Change Events", DeviceLifecycleEvents: "Device Lifecycle Events",
	DeviceConnectionStateEvents: "Device Connection State Events", DigitalTwinChangeEvents: "Digital Twin Change Events", DeviceJobLifecycleEvents: "Device Job Lifecycle Events",
}

// sampleEvery is how many messages stored in this process there are for one whose latency is measured: asking for the time costs as
// much as counting a hundred of them.
const sampleEvery = 64

// latencyBuckets are for endpoints in this process as well as for those far away, in seconds.
var latencyBuckets = []float64{1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 60, 600, 3600}

// routingMetrics are what routing has done, by endpoint and source.
type routingMetrics struct {
	clock      *clock.Clock
	partitions int
	latency    *prometheus.HistogramVec

	mu       sync.Mutex
	meters   map[meterKey]*routeMeter
	orphaned map[RouteSource]*atomic.Int64
}

type meterKey struct {
	kind   EndpointType
	name   string
	source RouteSource
}

func newRoutingMetrics(c *clock.Clock, partitions int) *routingMetrics {
	row := documentedMetric("RoutingDeliveryLatency")
	r := &routingMetrics{
		clock: c, partitions: partitions, meters: map[meterKey]*routeMeter{}, orphaned: map[RouteSource]*atomic.Int64{},
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: row.Series, Help: row.help(), Buckets: latencyBuckets}, row.Labels),
	}
	for source := range routingSource {
		r.orphaned[source] = new(atomic.Int64)
	}
	return r
}

// routeMeter counts what routing does with the messages of one source for one endpoint. Routes keep theirs, so that counting looks
// nothing up. It outlives them: counters do not go back.
type routeMeter struct {
	key   meterKey
	clock *clock.Clock
	parts []meterPart // one for each partition that messages come from

	retried, dropped, invalid, fallback, blobs, blobBytes atomic.Int64

	latency              prometheus.Observer
	waited, observations atomic.Int64 // sum of the latencies in nanoseconds, and how many they are
}

// meterPart is on a cache line of its own.
type meterPart struct {
	messages, bytes atomic.Int64
	_               [48]byte
}

// meter returns the meter of an endpoint and a source, the same one for the same arguments.
func (r *routingMetrics) meter(kind EndpointType, name string, source RouteSource) *routeMeter {
	key := meterKey{kind, name, source}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.meters[key]
	if m == nil {
		m = &routeMeter{key: key, clock: r.clock, parts: make([]meterPart, r.partitions), latency: r.latency.WithLabelValues(key.labels()...)}
		r.meters[key] = m
	}
	return m
}

// orphan counts messages that no route took, not even the fallback route.
func (r *routingMetrics) orphan(source RouteSource, messages int) {
	r.orphaned[source].Add(int64(messages))
}

// stored counts messages of one partition that were stored in an event hub of this process. bytes are as messageSize counts, since is when
// they came in. It is for the hot path: the latency of one in sampleEvery is measured.
func (m *routeMeter) stored(partition, messages, bytes int, since time.Time) {
	p := &m.parts[partition]
	n := p.messages.Add(int64(messages))
	p.bytes.Add(int64(bytes))
	if n/sampleEvery != (n-int64(messages))/sampleEvery {
		m.observe(m.clock.Now().Sub(since))
	}
}

// delivered counts messages that an endpoint outside has taken.
func (m *routeMeter) delivered(messages ...store.Event) {
	now := m.clock.Now()
	for i := range messages {
		e := &messages[i]
		m.parts[0].bytes.Add(int64(messageSize(&e.SystemProperties, e.Properties, e.Body)))
		m.observe(now.Sub(e.Enqueued))
	}
	m.parts[0].messages.Add(int64(len(messages)))
}

// retry counts messages whose delivery failed and is tried again.
func (m *routeMeter) retry(messages int) { m.retried.Add(int64(messages)) }

// drop counts messages that were given up because the endpoint is dead.
func (m *routeMeter) drop(messages int) { m.dropped.Add(int64(messages)) }

// refuse counts messages that the endpoint will never take (ErrUndeliverable).
func (m *routeMeter) refuse(messages int) { m.invalid.Add(int64(messages)) }

// fall counts messages that came by the fallback route, besides what stored counts.
func (m *routeMeter) fall(messages int) { m.fallback.Add(int64(messages)) }

// blob counts a blob that was written with some of the messages that delivered counts.
func (m *routeMeter) blob(bytes int) {
	m.blobs.Add(1)
	m.blobBytes.Add(int64(bytes))
}

func (m *routeMeter) observe(latency time.Duration) {
	m.latency.Observe(latency.Seconds())
	m.waited.Add(int64(latency))
	m.observations.Add(1)
}

func (m *routeMeter) total() (messages, bytes int64) {
	for i := range m.parts {
		messages += m.parts[i].messages.Load()
		bytes += m.parts[i].bytes.Load()
	}
	return messages, bytes
}

// labels are the dimensions in the order of byEndpoint.
func (k meterKey) labels() []string { return []string{string(k.kind), k.name, routingSource[k.source]} }

// egress is what routing has done for all endpoints of one type.
type egress struct{ messages, blobs, blobBytes, waited, observations int64 }

// collect sends routing's series.
func (r *routingMetrics) collect(c collection) {
	r.latency.Collect(c.to)
	types := map[EndpointType]egress{}
	var success, fallback, dropped, invalid, orphaned int64
	for _, m := range r.all() {
		messages := m.collect(c)
		t := types[m.key.kind]
		types[m.key.kind] = egress{
			t.messages + messages, t.blobs + m.blobs.Load(), t.blobBytes + m.blobBytes.Load(), t.waited + m.waited.Load(), t.observations + m.observations.Load(),
		}
		success, fallback, dropped, invalid = success+messages, fallback+m.fallback.Load(), dropped+m.dropped.Load(), invalid+m.invalid.Load()
	}
	for source, n := range r.orphaned {
		orphaned += n.Load()
		if n.Load() > 0 {
			c.counter("RoutingDeliveries", n.Load(), "", "", routingSource[source], "failure", "orphaned")
		}
	}
	for kind, name := range egressName {
		c.counter("d2c.endpoints.egress."+name, types[kind].messages)
		c.summary("d2c.endpoints.latency."+name, uint64(types[kind].observations), time.Duration(types[kind].waited).Seconds())
	}
	c.counter("d2c.endpoints.egress.storage.blobs", types[EndpointStorage].blobs)
	c.counter("d2c.endpoints.egress.storage.bytes", types[EndpointStorage].blobBytes)
	c.counter("d2c.telemetry.egress.success", success)
	c.counter("d2c.telemetry.egress.fallback", fallback)
	c.counter("d2c.telemetry.egress.dropped", dropped)
	c.counter("d2c.telemetry.egress.invalid", invalid)
	c.counter("d2c.telemetry.egress.orphaned", orphaned)
}

func (r *routingMetrics) all() []*routeMeter {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.meters))
}

// collect sends the series of one endpoint and source and returns how many messages it has taken.
func (m *routeMeter) collect(c collection) (messages int64) {
	labels := m.key.labels()
	messages, bytes := m.total()
	c.counter("RoutingDeliveries", messages, append(slices.Clone(labels), "success", "null")...)
	c.counter("RoutingDataSizeInBytesDelivered", bytes, labels...)
	for category, n := range map[string]*atomic.Int64{"null": &m.retried, "dropped": &m.dropped, "invalid": &m.invalid} {
		if v := n.Load(); v > 0 {
			c.counter("RoutingDeliveries", v, append(slices.Clone(labels), "failure", category)...)
		}
	}
	return messages
}
