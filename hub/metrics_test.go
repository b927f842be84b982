package hub

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// values returns the metrics that are not zero, by name and label.
func values(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			for part, v := range map[string]float64{
				"":       m.GetCounter().GetValue() + m.GetGauge().GetValue(),
				" sum":   m.GetSummary().GetSampleSum() + m.GetHistogram().GetSampleSum(),
				" count": float64(m.GetSummary().GetSampleCount() + m.GetHistogram().GetSampleCount()),
			} {
				if v != 0 {
					got[name+part] = v
				}
			}
		}
	}
	return got
}

func TestMetricsCountWhatHappens(t *testing.T) {
	h, _ := newTestHub(t)
	r := metricsOf(t, h)
	conn, _ := pipe(t, door.MQTT)
	s := connect(t, h, "d", func(o *DeviceOptions) { o.Conn = conn })
	connect(t, h, "e").Close()
	if err := s.SendTelemetry(ctx, Telemetry{}, Telemetry{}); err != nil {
		t.Fatal(err)
	}
	send(t, h, toDevice("d", "1"), toDevice("d", "2"))
	b, _ := subscribe(t, s, 1)
	b.expect(t, "1#1")
	if err := s.CompleteC2D(ctx, b.token(0)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the delivery is counted", func() bool { return values(t, r)["iolite_c2d_delivered_total"] == 1 })
	for range 2 {
		_, _, _ = transient(t, h, "d").PollC2D(ctx)
	}
	want := map[string]float64{
		"iolite_events_stored_total": 2, "iolite_sessions mqtt": 1, "iolite_c2d_queued_total": 2, "iolite_c2d_delivered_total": 2,
		"iolite_c2d_settled_total Success": 1, "iolite_poll_violations_total": 1, "iolite_errors_total 429001": 1,
		"iothub_c2d_commands_egress_complete_success_total mqtt": 1, "iothub_connected_device_count": 1, "iothub_devices_connected_devices_all_protocol": 1,
		"iothub_d2c_telemetry_ingress_all_protocol_total mqtt": 2, "iothub_d2c_telemetry_ingress_success_total mqtt": 2, "iothub_daily_message_quota_used": 4,
		"iothub_device_data_usage_bytes_total": 66, "iothub_device_data_usage_v2_bytes_total": 66, // two deliveries, with their addresses
		"iothub_devices_total_devices": 2, "iothub_total_device_count": 2,
		"iothub_d2c_endpoints_egress_built_in_events_total": 2, "iothub_d2c_telemetry_egress_success_total": 2,
		"iothub_routing_deliveries_total events builtin null success Device Messages":      2,
		"iothub_routing_data_size_in_bytes_delivered_total events builtin Device Messages": 52,
	}
	if diff := cmp.Diff(want, values(t, r)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestMetricsOfTwoHubsDoNotMix(t *testing.T) {
	h, _ := newTestHub(t)
	other, _ := newTestHub(t)
	if other.RegisterMetrics(metricsOf(t, h)) == nil {
		t.Error("a second hub took the first one's metrics")
	}
}

// scraped returns the metrics of a hub that are not zero and whose name has a prefix.
func scraped(t *testing.T, r *prometheus.Registry, prefix string) map[string]float64 {
	t.Helper()
	got := values(t, r)
	maps.DeleteFunc(got, func(name string, _ float64) bool { return !strings.HasPrefix(name, prefix) })
	return got
}

func TestOperationsAreCountedByDoorAndResult(t *testing.T) {
	h, _ := newTestHub(t)
	r := metricsOf(t, h)
	conn, _ := pipe(t, door.AMQP)
	s := connect(t, h, "d", func(o *DeviceOptions) { o.Conn = conn })
	responder(t, s, 200)
	service, err := h.OpenService(ctx, admin, conn)
	if err != nil {
		t.Fatal(err)
	}
	key := store.Key{DeviceID: "d"}
	for _, k := range []store.Key{key, {DeviceID: "nobody"}} {
		_, _ = service.Twin(ctx, k)
		_, _ = service.UpdateTwin(ctx, k, []byte(`{"tags":{"a":1}}`), "")
		_, _ = service.InvokeMethod(ctx, k, MethodCall{Name: "m", Payload: []byte(`"12345678"`)})
	}
	_, _ = service.Query(ctx, QueryRequest{Text: "SELECT deviceId FROM devices"})
	_, _ = service.Query(ctx, QueryRequest{Text: "SELECT"})
	_, _ = s.Twin(ctx)
	_, _ = s.UpdateReported(ctx, []byte(`{"x":1}`), 0)
	_, _ = s.UpdateReported(ctx, []byte(`{`), 0)
	_, _ = service.CancelJob(ctx, "nothing")
	_, _ = service.QueryJobs(ctx, JobQuery{})
	_ = s.SendTelemetry(ctx, Telemetry{Body: make([]byte, maxTelemetry+1)}, Telemetry{})
	want := map[string]float64{
		"iothub_c2d_twin_read_success_total amqp": 1, "iothub_c2d_twin_read_failure_total amqp": 1,
		"iothub_c2d_twin_read_size_bytes amqp count": 1, "iothub_c2d_twin_read_size_bytes amqp sum": 6,
		"iothub_c2d_twin_update_success_total amqp": 1, "iothub_c2d_twin_update_failure_total amqp": 1,
		"iothub_c2d_twin_update_size_bytes amqp count": 1, "iothub_c2d_twin_update_size_bytes amqp sum": 16,
		"iothub_c2d_methods_success_total amqp": 1, "iothub_c2d_methods_failure_total amqp": 1,
		"iothub_c2d_methods_request_size_bytes amqp count": 1, "iothub_c2d_methods_request_size_bytes amqp sum": 10,
		"iothub_c2d_methods_response_size_bytes amqp count": 1, "iothub_c2d_methods_response_size_bytes amqp sum": 10,
	}
	if diff := cmp.Diff(want, scraped(t, r, "iothub_c2d_")); diff != "" {
		t.Errorf("back ends (-want +got):\n%s", diff)
	}
	want = map[string]float64{
		"iothub_d2c_twin_read_success_total amqp": 1, "iothub_d2c_twin_read_size_bytes amqp count": 1, "iothub_d2c_twin_read_size_bytes amqp sum": 4,
		"iothub_d2c_twin_update_success_total amqp": 1, "iothub_d2c_twin_update_failure_total amqp": 1,
		"iothub_d2c_twin_update_size_bytes amqp count": 1, "iothub_d2c_twin_update_size_bytes amqp sum": 7,
		"iothub_d2c_telemetry_ingress_all_protocol_total amqp": 2,
	}
	if diff := cmp.Diff(want, scraped(t, r, "iothub_d2c_")); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	want = map[string]float64{
		"iothub_twin_queries_success_total amqp": 1, "iothub_twin_queries_failure_total amqp": 1,
		"iothub_twin_queries_result_size_bytes amqp count": 1, "iothub_twin_queries_result_size_bytes amqp sum": 16,
	}
	if diff := cmp.Diff(want, scraped(t, r, "iothub_twin_queries")); diff != "" {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
	want = map[string]float64{"iothub_jobs_cancel_job_failure_total amqp": 1, "iothub_jobs_list_jobs_success_total amqp": 1}
	if diff := cmp.Diff(want, scraped(t, r, "iothub_jobs")); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
}

func TestTheDailyQuotaBeginsAnewAtMidnight(t *testing.T) {
	h, c := newTestHub(t)
	r := metricsOf(t, h)
	s := connect(t, h, "d")
	if err := s.SendTelemetry(ctx, Telemetry{Body: make([]byte, quotaUnit+1)}, Telemetry{}); err != nil {
		t.Fatal(err)
	}
	used := func() float64 { return values(t, r)["iothub_daily_message_quota_used"] }
	if n := used(); n != 3 {
		t.Errorf("%v messages of the quota are used, want 2 for the long one and 1 for the short one", n)
	}
	c.Advance(24*time.Hour - time.Second)
	if n := used(); n != 3 {
		t.Errorf("a second before midnight %v are used", n)
	}
	c.Advance(time.Second)
	if n := used(); n != 0 {
		t.Errorf("at midnight %v are used", n)
	}
	c.Advance(72 * time.Hour)
	_ = s.SendTelemetry(ctx, Telemetry{})
	if n := used(); n != 1 {
		t.Errorf("days later %v are used", n)
	}
}

// TestEveryDocumentedMetricIsThereFromTheStart protects dashboards and alerts: a series that appears with its first event has no rate.
func TestEveryDocumentedMetricIsThereFromTheStart(t *testing.T) {
	h, _ := newTestHub(t)
	r := metricsOf(t, h)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, f := range families {
		there[f.GetName()] = true
	}
	for _, m := range DocumentedMetrics() {
		if !there[m.Series] && !strings.HasPrefix(m.Name, "Routing") { // of those every endpoint and source has its own
			t.Errorf("%s (%s) is not there", m.Series, m.Name)
		}
	}
}

// TestNoTelemetryIsCountedTwiceOrLost has scrapes and the ends of sessions come between messages.
func TestNoTelemetryIsCountedTwiceOrLost(t *testing.T) {
	h, _ := newTestHub(t)
	r := metricsOf(t, h)
	const devices, messages = 4, 500
	var senders sync.WaitGroup
	for i := range devices {
		id := string(rune('a' + i))
		connect(t, h, id).Close()
		senders.Go(func() {
			for n := 0; n < messages; {
				s := connect(t, h, id)
				for range 10 {
					if s.SendTelemetry(ctx, Telemetry{Body: []byte("12345")}, Telemetry{Body: make([]byte, 2*quotaUnit)}) == nil {
						n++
					}
				}
				s.Close()
			}
		})
	}
	done := make(chan struct{})
	go func() { senders.Wait(); close(done) }()
	last := 0.0
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		now := values(t, r)["iothub_d2c_telemetry_ingress_success_total unknown"]
		if now < last {
			t.Fatalf("the counter went back from %v to %v", last, now)
		}
		last = now
	}
	if want := float64(2 * devices * messages); last != want {
		t.Errorf("%v messages are counted, not %v", last, want)
	}
	v := values(t, r)
	if want := float64(3 * devices * messages); v["iothub_daily_message_quota_used"] != want {
		t.Errorf("%v messages of the quota are used, not %v", v["iothub_daily_message_quota_used"], want)
	}
	if want := float64((5 + 2*quotaUnit) * devices * messages); v["iothub_device_data_usage_bytes_total"] != want {
		t.Errorf("%v bytes are counted, not %v", v["iothub_device_data_usage_bytes_total"], want)
	}
}

func TestAFullMeterIsEmptied(t *testing.T) {
	h, _ := newTestHub(t)
	r := metricsOf(t, h)
	s := connect(t, h, "d")
	for range 5 {
		s.took(meterFull/2, maxTelemetry, meterFull/2)
	}
	if n := h.metrics.telemetry[0].messages.Load(); n != 2*meterFull {
		t.Errorf("%d messages left the meter by themselves, want two times a full one", n)
	}
	if n := values(t, r)["iothub_device_data_usage_bytes_total"]; n != 5*maxTelemetry {
		t.Errorf("%v bytes are counted", n)
	}
}

// BenchmarkScrape is one GET /metrics, without its text, of a hub with ten thousand connected devices.
func BenchmarkScrape(b *testing.B) {
	h, _ := newTestHub(b)
	r := metricsOf(b, h)
	const n = 10_000
	fleet(b, h, n)
	for i := range n {
		key := store.Key{DeviceID: fmt.Sprintf("device-%06d", i)}
		if _, err := h.OpenDevice(ctx, owner(key), key, DeviceOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
