package hub

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/iolite-emulator/iolite/door"
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
	r := prometheus.NewRegistry()
	h, _ := newTestHub(t, func(cfg *Config) { cfg.Metrics = r })
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
	}
	if diff := cmp.Diff(want, values(t, r)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestMetricsOfTwoHubsDoNotMix(t *testing.T) {
	r := prometheus.NewRegistry()
	h, c := newTestHub(t, func(cfg *Config) { cfg.Metrics = r })
	if _, err := New(Config{Engine: h.cfg.Engine, Clock: c, Logger: h.log, Metrics: r}); err == nil {
		t.Error("a second hub took the first one's metrics")
	}
}
