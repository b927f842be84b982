package hub

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

func TestRoutingIsCountedByEndpointSourceAndResult(t *testing.T) {
	h, c := newTestHub(t)
	r := metricsOf(t, h)
	m := h.metrics.routing
	builtIn := m.meter(EndpointBuiltIn, builtInEndpoint, DeviceMessages)
	builtIn.stored(0, 1, 10, c.Now())
	builtIn.stored(1, 64, 640, c.Now())
	builtIn.fall(2)
	queue := m.meter(EndpointQueues, "q", TwinChangeEvents)
	enqueued := c.Now()
	c.Advance(2 * time.Second)
	queue.delivered(store.Event{Body: []byte("123"), Enqueued: enqueued}, store.Event{Body: []byte("1"), Enqueued: enqueued})
	queue.retry(1)
	queue.drop(3)
	queue.refuse(4)
	m.orphan(DeviceMessages, 5)
	m.meter(EndpointStorage, "s", DeviceMessages).blob(99)
	if m.meter(EndpointQueues, "q", TwinChangeEvents) != queue {
		t.Error("an endpoint has two meters for one source")
	}
	want := map[string]float64{
		"iothub_routing_deliveries_total events builtin null success Device Messages":             65,
		"iothub_routing_deliveries_total q serviceBusQueues null success Twin Change Events":      2,
		"iothub_routing_deliveries_total q serviceBusQueues null failure Twin Change Events":      1,
		"iothub_routing_deliveries_total q serviceBusQueues dropped failure Twin Change Events":   3,
		"iothub_routing_deliveries_total q serviceBusQueues invalid failure Twin Change Events":   4,
		"iothub_routing_deliveries_total   orphaned failure Device Messages":                      5,
		"iothub_routing_data_size_in_bytes_delivered_total events builtin Device Messages":        650,
		"iothub_routing_data_size_in_bytes_delivered_total q serviceBusQueues Twin Change Events": 4,
		"iothub_routing_delivery_latency_seconds q serviceBusQueues Twin Change Events sum":       4,
		"iothub_routing_delivery_latency_seconds q serviceBusQueues Twin Change Events count":     2,
		"iothub_d2c_endpoints_egress_built_in_events_total":                                       65,
		"iothub_d2c_endpoints_egress_service_bus_queues_total":                                    2,
		"iothub_d2c_endpoints_egress_storage_blobs_total":                                         1,
		"iothub_d2c_endpoints_egress_storage_bytes_total":                                         99,
		"iothub_d2c_endpoints_latency_service_bus_queues_seconds sum":                             4,
		"iothub_d2c_endpoints_latency_service_bus_queues_seconds count":                           2,
		"iothub_d2c_telemetry_egress_success_total":                                               67,
		"iothub_d2c_telemetry_egress_fallback_total":                                              2,
		"iothub_d2c_telemetry_egress_dropped_total":                                               3,
		"iothub_d2c_telemetry_egress_invalid_total":                                               4,
		"iothub_d2c_telemetry_egress_orphaned_total":                                              5,
		"iothub_routing_delivery_latency_seconds events builtin Device Messages count":            1,
		"iothub_d2c_endpoints_latency_built_in_events_seconds count":                              1,
	}
	if diff := cmp.Diff(want, values(t, r)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
