package hub

import (
	"slices"
	"sync"

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

// The labels of routing's series are the dimensions of its metrics. byDoor is for what comes in by a door; what the hub's own process does itself has the door "unknown".
var (
	byEndpoint = []string{"endpoint_type", "endpoint_name", "routing_source"}
	byResult   = []string{"endpoint_type", "endpoint_name", "routing_source", "result", "failure_reason_category"}
	byDoor     = []string{"door"}
)

// metricTable holds every documented metric that Iolite has, in the order of the article.
var metricTable = []DocumentedMetric{
	{"C2DMessagesExpired", "iothub_c2d_messages_expired_total", MetricCounter, nil, "Cloud-to-device messages that expired."},
	{"c2d.commands.egress.complete.success", "iothub_c2d_commands_egress_complete_success_total", MetricCounter, byDoor, "Cloud-to-device messages that their device completed."},
	{"c2d.commands.egress.abandon.success", "iothub_c2d_commands_egress_abandon_success_total", MetricCounter, byDoor, "Deliveries of cloud-to-device messages that the device abandoned."},
	{"c2d.commands.egress.reject.success", "iothub_c2d_commands_egress_reject_success_total", MetricCounter, byDoor, "Cloud-to-device messages that their device rejected."},
	{"c2d.methods.failure", "iothub_c2d_methods_failure_total", MetricCounter, byDoor, "Direct method calls that failed."},
	{"c2d.methods.requestSize", "iothub_c2d_methods_request_size_bytes", MetricSummary, byDoor, "Payloads of the requests of successful direct method calls."},
	{"c2d.methods.responseSize", "iothub_c2d_methods_response_size_bytes", MetricSummary, byDoor, "Payloads of the responses of successful direct method calls."},
	{"c2d.methods.success", "iothub_c2d_methods_success_total", MetricCounter, byDoor, "Direct method calls that a device answered, whatever its status."},
	{"c2d.twin.read.failure", "iothub_c2d_twin_read_failure_total", MetricCounter, byDoor, "Twin reads by back ends that failed."},
	{"c2d.twin.update.failure", "iothub_c2d_twin_update_failure_total", MetricCounter, byDoor, "Twin updates by back ends that failed."},
	{"c2d.twin.read.size", "iothub_c2d_twin_read_size_bytes", MetricSummary, byDoor, "Tags and properties of the twins that back ends read."},
	{"c2d.twin.update.size", "iothub_c2d_twin_update_size_bytes", MetricSummary, byDoor, "Bodies of the twin updates by back ends."},
	{"c2d.twin.read.success", "iothub_c2d_twin_read_success_total", MetricCounter, byDoor, "Twin reads by back ends."},
	{"c2d.twin.update.success", "iothub_c2d_twin_update_success_total", MetricCounter, byDoor, "Twin updates by back ends."},
	{"configurations", "iothub_configurations_total", MetricCounter, nil, "Operations on configurations and deployments, and changes of twins that they made."},
	{"deviceDataUsage", "iothub_device_data_usage_bytes_total", MetricCounter, nil, "Bytes of telemetry, cloud-to-device messages, twins and direct methods, to and from devices."},
	{"deviceDataUsageV2", "iothub_device_data_usage_v2_bytes_total", MetricCounter, nil, "The same as deviceDataUsage."},
	{"dailyMessageQuotaUsed", "iothub_daily_message_quota_used", MetricGauge, nil, "Messages of 4 KB used since 00:00 UTC."},
	{"devices.totalDevices", "iothub_devices_total_devices", MetricGauge, nil, "Registered devices."},
	{"devices.connectedDevices.allProtocol", "iothub_devices_connected_devices_all_protocol", MetricGauge, nil, "Connected devices."},
	{"totalDeviceCount", "iothub_total_device_count", MetricGauge, nil, "Registered devices."},
	{"connectedDeviceCount", "iothub_connected_device_count", MetricGauge, nil, "Connected devices."},
	{"d2c.telemetry.ingress.sendThrottle", "iothub_d2c_telemetry_ingress_send_throttle_total", MetricCounter, byDoor, "Telemetry messages refused with 429."},
	{"d2c.telemetry.ingress.allProtocol", "iothub_d2c_telemetry_ingress_all_protocol_total", MetricCounter, byDoor, "Telemetry messages that devices tried to send."},
	{"d2c.telemetry.ingress.success", "iothub_d2c_telemetry_ingress_success_total", MetricCounter, byDoor, "Telemetry messages that the hub took."},
	{"d2c.twin.read.failure", "iothub_d2c_twin_read_failure_total", MetricCounter, byDoor, "Twin reads by devices that failed."},
	{"d2c.twin.update.failure", "iothub_d2c_twin_update_failure_total", MetricCounter, byDoor, "Updates of reported properties that failed."},
	{"d2c.twin.read.size", "iothub_d2c_twin_read_size_bytes", MetricSummary, byDoor, "Properties of the twins that devices read."},
	{"d2c.twin.update.size", "iothub_d2c_twin_update_size_bytes", MetricSummary, byDoor, "Patches of reported properties."},
	{"d2c.twin.read.success", "iothub_d2c_twin_read_success_total", MetricCounter, byDoor, "Twin reads by devices."},
	{"d2c.twin.update.success", "iothub_d2c_twin_update_success_total", MetricCounter, byDoor, "Updates of reported properties by devices."},
	{"jobs.completed", "iothub_jobs_completed_total", MetricCounter, nil, "Jobs that came to their end."},
	{"jobs.listJobs.failure", "iothub_jobs_list_jobs_failure_total", MetricCounter, byDoor, "Lists of jobs that failed."},
	{"jobs.listJobs.success", "iothub_jobs_list_jobs_success_total", MetricCounter, byDoor, "Lists of jobs."},
	{"jobs.createDirectMethodJob.failure", "iothub_jobs_create_direct_method_job_failure_total", MetricCounter, byDoor, "Creations of direct method jobs that failed."},
	{"jobs.createDirectMethodJob.success", "iothub_jobs_create_direct_method_job_success_total", MetricCounter, byDoor, "Creations of direct method jobs."},
	{"jobs.createTwinUpdateJob.failure", "iothub_jobs_create_twin_update_job_failure_total", MetricCounter, byDoor, "Creations of twin update jobs that failed."},
	{"jobs.createTwinUpdateJob.success", "iothub_jobs_create_twin_update_job_success_total", MetricCounter, byDoor, "Creations of twin update jobs."},
	{"jobs.cancelJob.failure", "iothub_jobs_cancel_job_failure_total", MetricCounter, byDoor, "Cancellations of jobs that failed."},
	{"jobs.cancelJob.success", "iothub_jobs_cancel_job_success_total", MetricCounter, byDoor, "Cancellations of jobs."},
	{"jobs.queryJobs.failure", "iothub_jobs_query_jobs_failure_total", MetricCounter, byDoor, "Queries of jobs that failed."},
	{"jobs.queryJobs.success", "iothub_jobs_query_jobs_success_total", MetricCounter, byDoor, "Queries of jobs."},
	{"jobs.failed", "iothub_jobs_failed_total", MetricCounter, nil, "Jobs that failed as a whole."},
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
	{"twinQueries.failure", "iothub_twin_queries_failure_total", MetricCounter, byDoor, "Twin queries that failed."},
	{"twinQueries.success", "iothub_twin_queries_success_total", MetricCounter, byDoor, "Pages of twin queries."},
	{"twinQueries.resultSize", "iothub_twin_queries_result_size_bytes", MetricSummary, byDoor, "Rows of the pages of twin queries."},
}

// DocumentedMetrics returns the documented metrics that Iolite has, in the order of the article.
func DocumentedMetrics() []DocumentedMetric { return slices.Clone(metricTable) }

// documentedMetric returns the row of the table with a documented name.
func documentedMetric(name string) DocumentedMetric {
	return metricTable[slices.IndexFunc(metricTable, func(m DocumentedMetric) bool { return m.Name == name })]
}

// help is what a scrape says of the series.
func (m DocumentedMetric) help() string { return m.Help + " IoT Hub: " + m.Name + "." }

// descriptions finds what Prometheus calls the description of a series by the documented name. A hub without metrics has no need of them.
var descriptions = sync.OnceValue(func() map[string]*prometheus.Desc {
	m := map[string]*prometheus.Desc{}
	for _, row := range metricTable {
		m[row.Name] = prometheus.NewDesc(row.Series, row.help(), row.Labels, nil)
	}
	return m
})

// collection is one scrape: it sends what the series are now.
type collection struct{ to chan<- prometheus.Metric }

func (c collection) counter(name string, value int64, labels ...string) {
	c.to <- prometheus.MustNewConstMetric(descriptions()[name], prometheus.CounterValue, float64(value), labels...)
}

func (c collection) gauge(name string, value int64) {
	c.to <- prometheus.MustNewConstMetric(descriptions()[name], prometheus.GaugeValue, float64(value))
}

func (c collection) summary(name string, count uint64, sum float64, labels ...string) {
	c.to <- prometheus.MustNewConstSummary(descriptions()[name], count, sum, nil, labels...)
}

// documented collects the documented series: whoever counts keeps plain numbers, which are read when somebody scrapes.
type documented struct{ collect func(collection) }

// Describe implements prometheus.Collector.
func (d documented) Describe(to chan<- *prometheus.Desc) {
	for _, row := range metricTable {
		to <- descriptions()[row.Name]
	}
}

// Collect implements prometheus.Collector.
func (d documented) Collect(to chan<- prometheus.Metric) { d.collect(collection{to}) }
