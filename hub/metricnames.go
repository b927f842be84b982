package hub

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// DocumentedMetric is one metric that IoT Hub documents (article "Azure IoT Hub monitoring data reference"), and its series on /metrics.
//
// A series is the metric's name in words of lower case, joined by underscores, with iothub_ before it. A counter ends with _total, bytes
// and durations with their unit, and durations are in seconds, as Prometheus wants it; the real hub's are in milliseconds.
type DocumentedMetric struct {
	Name   string     // as documented: the name in the REST API of Azure Monitor
	Series string     // its name for Prometheus
	Kind   MetricKind // of the series
	Labels []string
	Help   string
}

// MetricKind is the Prometheus type of a series.
type MetricKind string

// The kinds. A summary has a sum and a count, and no quantiles.
const (
	MetricCounter   MetricKind = "counter"
	MetricGauge     MetricKind = "gauge"
	MetricSummary   MetricKind = "summary"
	MetricHistogram MetricKind = "histogram"
)

// The labels of routing's series are the dimensions of its metrics.
var (
	byEndpoint = []string{"endpoint_type", "endpoint_name", "routing_source"}
	byResult   = []string{"endpoint_type", "endpoint_name", "routing_source", "result", "failure_reason_category"}
	byDoor     = []string{"door"}
)

// metricTable holds every documented metric that Iolite has, in the order of the article.
var metricTable = []DocumentedMetric{
	{"RoutingDeliveries", "iothub_routing_deliveries_total", MetricCounter, byResult, "Attempts of routing to deliver a message to an endpoint, and messages that it gave up."},
	{"RoutingDataSizeInBytesDelivered", "iothub_routing_data_size_in_bytes_delivered_total", MetricCounter, byEndpoint, "Bytes of the messages that routing has delivered."},
	{"RoutingDeliveryLatency", "iothub_routing_delivery_latency_seconds", MetricHistogram, byEndpoint, "Time from a message's ingress to its ingress into an endpoint."},
	{"d2c.endpoints.egress.builtIn.events", "iothub_d2c_endpoints_egress_built_in_events_total", MetricCounter, nil, "Messages that routing delivered to the built-in endpoint."},
	{"d2c.endpoints.egress.eventHubs", "iothub_d2c_endpoints_egress_event_hubs_total", MetricCounter, nil, "Messages that routing delivered to endpoints of type Event Hubs."},
	{"d2c.endpoints.egress.serviceBusQueues", "iothub_d2c_endpoints_egress_service_bus_queues_total", MetricCounter, nil, "Messages that routing delivered to Service Bus queues."},
	{"d2c.endpoints.egress.serviceBusTopics", "iothub_d2c_endpoints_egress_service_bus_topics_total", MetricCounter, nil, "Messages that routing delivered to Service Bus topics."},
	{"d2c.endpoints.egress.storage", "iothub_d2c_endpoints_egress_storage_total", MetricCounter, nil, "Messages that routing delivered to storage."},
	{"d2c.endpoints.egress.storage.blobs", "iothub_d2c_endpoints_egress_storage_blobs_total", MetricCounter, nil, "Blobs that routing delivered to storage."},
	{"d2c.endpoints.egress.storage.bytes", "iothub_d2c_endpoints_egress_storage_bytes_total", MetricCounter, nil, "Bytes that routing delivered to storage."},
	{"d2c.endpoints.latency.builtIn.events", "iothub_d2c_endpoints_latency_built_in_events_seconds", MetricSummary, nil, "Time from a message's ingress to the built-in endpoint."},
	{"d2c.endpoints.latency.eventHubs", "iothub_d2c_endpoints_latency_event_hubs_seconds", MetricSummary, nil, "Time from a message's ingress to endpoints of type Event Hubs."},
	{"d2c.endpoints.latency.serviceBusQueues", "iothub_d2c_endpoints_latency_service_bus_queues_seconds", MetricSummary, nil, "Time from a message's ingress to Service Bus queues."},
	{"d2c.endpoints.latency.serviceBusTopics", "iothub_d2c_endpoints_latency_service_bus_topics_seconds", MetricSummary, nil, "Time from a message's ingress to Service Bus topics."},
	{"d2c.endpoints.latency.storage", "iothub_d2c_endpoints_latency_storage_seconds", MetricSummary, nil, "Time from a message's ingress to storage."},
	{"d2c.telemetry.egress.success", "iothub_d2c_telemetry_egress_success_total", MetricCounter, nil, "Messages that routing delivered, once for each endpoint."},
	{"d2c.telemetry.egress.fallback", "iothub_d2c_telemetry_egress_fallback_total", MetricCounter, nil, "Messages that the fallback route took."},
	{"d2c.telemetry.egress.dropped", "iothub_d2c_telemetry_egress_dropped_total", MetricCounter, nil, "Messages that routing dropped because their endpoint is dead."},
	{"d2c.telemetry.egress.invalid", "iothub_d2c_telemetry_egress_invalid_total", MetricCounter, nil, "Messages that an endpoint will never take."},
	{"d2c.telemetry.egress.orphaned", "iothub_d2c_telemetry_egress_orphaned_total", MetricCounter, nil, "Messages that no route took, not even the fallback route."},
}

// DocumentedMetrics returns the documented metrics that Iolite has, in the order of the article.
func DocumentedMetrics() []DocumentedMetric { return slices.Clone(metricTable) }

// metricRows finds a row of the table by its documented name.
var metricRows = func() map[string]DocumentedMetric {
	m := map[string]DocumentedMetric{}
	for _, row := range metricTable {
		m[row.Name] = row
	}
	return m
}()

// help is what a scrape says of the series.
func (m DocumentedMetric) help() string { return m.Help + " IoT Hub: " + m.Name + "." }

// descriptions finds what Prometheus calls the description of a series by the documented name.
var descriptions = func() map[string]*prometheus.Desc {
	m := map[string]*prometheus.Desc{}
	for _, row := range metricTable {
		m[row.Name] = prometheus.NewDesc(row.Series, row.help(), row.Labels, nil)
	}
	return m
}()

// collection is one scrape: it sends what the series are now.
type collection struct{ to chan<- prometheus.Metric }

func (c collection) counter(name string, value int64, labels ...string) {
	c.to <- prometheus.MustNewConstMetric(descriptions[name], prometheus.CounterValue, float64(value), labels...)
}

func (c collection) gauge(name string, value int64, labels ...string) {
	c.to <- prometheus.MustNewConstMetric(descriptions[name], prometheus.GaugeValue, float64(value), labels...)
}

func (c collection) summary(name string, count uint64, sum float64, labels ...string) {
	c.to <- prometheus.MustNewConstSummary(descriptions[name], count, sum, nil, labels...)
}

// documented collects the documented series: whoever counts keeps plain numbers, which are read when somebody scrapes.
type documented struct{ collect func(collection) }

// Describe implements prometheus.Collector.
func (d documented) Describe(to chan<- *prometheus.Desc) {
	for _, row := range metricTable {
		to <- descriptions[row.Name]
	}
}

// Collect implements prometheus.Collector.
func (d documented) Collect(to chan<- prometheus.Metric) { d.collect(collection{to}) }
