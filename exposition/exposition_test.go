package exposition

import (
	"bytes"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// parsed is what Prometheus's own parser reads in a page.
func parsed(t *testing.T, p *Page) map[string]*dto.MetricFamily {
	t.Helper()
	var text bytes.Buffer
	if _, err := p.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(&text)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func TestSeriesOfANameStandTogetherInOrder(t *testing.T) {
	var p Page
	door := Family{Name: "b_total", Help: "Doors.", Labels: []string{"result", "door"}}
	p.Counter(door, 1e6, "ok", "mqtt")
	p.Gauge(Family{Name: "a", Help: "One."}, -0.5)
	p.Counter(door, 7, "ok", "amqp")
	p.Summary(Family{Name: "c", Help: "Two."}, 3, 1.5)
	p.Histogram(Family{Name: "d", Help: "Three.", Labels: []string{"x"}}, []float64{0.1, 2}, []uint64{1, 0, 4}, 9, "y")
	var text bytes.Buffer
	n, err := p.WriteTo(&text)
	if err != nil || n != int64(text.Len()) {
		t.Fatal(n, err)
	}
	want := `# HELP a One.
# TYPE a gauge
a -0.5
# HELP b_total Doors.
# TYPE b_total counter
b_total{door="amqp",result="ok"} 7
b_total{door="mqtt",result="ok"} 1e+06
# HELP c Two.
# TYPE c summary
c_sum 1.5
c_count 3
# HELP d Three.
# TYPE d histogram
d_bucket{x="y",le="0.1"} 1
d_bucket{x="y",le="2"} 1
d_bucket{x="y",le="+Inf"} 5
d_sum{x="y"} 9
d_count{x="y"} 5
`
	if text.String() != want {
		t.Errorf("got\n%s", text.String())
	}
}

func TestWhatStandsInLabelsIsReadBack(t *testing.T) {
	for _, value := range []string{"", `a\b`, `"quoted"`, "two\nlines", "ä, {b}=1"} {
		var p Page
		p.Gauge(Family{Name: "g", Help: "A \\ and\na line.", Labels: []string{"l"}}, math.Inf(1), value)
		f := parsed(t, &p)["g"]
		if got := f.GetMetric()[0].GetLabel()[0].GetValue(); got != value {
			t.Errorf("label %q was read as %q", value, got)
		}
		if f.GetHelp() != "A \\ and\na line." || !math.IsInf(f.GetMetric()[0].GetGauge().GetValue(), 1) {
			t.Errorf("read %v", f)
		}
	}
}

func TestAHistogramIsReadBack(t *testing.T) {
	var p Page
	p.Histogram(Family{Name: "h", Help: "Latency."}, []float64{1, 10}, []uint64{2, 3, 1}, 25.5)
	h := parsed(t, &p)["h"].GetMetric()[0].GetHistogram()
	if h.GetSampleCount() != 6 || h.GetSampleSum() != 25.5 || h.GetBucket()[1].GetCumulativeCount() != 5 || h.GetBucket()[1].GetUpperBound() != 10 {
		t.Errorf("read %v", h)
	}
}

func TestLabelsThatDoNotFitTheirFamilyAreNotShown(t *testing.T) {
	for name, add := range map[string]func(*Page){
		"too few labels":  func(p *Page) { p.Counter(Family{Name: "c", Labels: []string{"l"}}, 1) },
		"too many labels": func(p *Page) { p.Summary(Family{Name: "s"}, 1, 1, "l") },
		"too few buckets": func(p *Page) { p.Histogram(Family{Name: "h"}, []float64{1}, []uint64{1}, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			add(new(Page))
		})
	}
}

func TestAProcessIsShownAsTheKernelKnowsIt(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	var p Page
	p.Process()
	families := parsed(t, &p)
	gauge := func(name string) float64 { return families[name].GetMetric()[0].GetGauge().GetValue() }
	if n := gauge("go_goroutines"); n < 1 {
		t.Errorf("%v goroutines", n)
	}
	if n := gauge("process_resident_memory_bytes"); n < 1<<20 || n > 1<<34 || n > gauge("process_virtual_memory_bytes") {
		t.Errorf("%v bytes are resident", n)
	}
	if n := gauge("process_open_fds"); n < 3 {
		t.Errorf("%v files are open", n)
	}
	info, err := os.Stat("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	// The kernel makes the directory when somebody first looks; that is after the start, which is counted from a whole second.
	if late := float64(info.ModTime().UnixMilli())/1000 - gauge("process_start_time_seconds"); late < -1 || late > 3600 {
		t.Errorf("the process began %v s before it was seen", late)
	}
}

func TestANameInBracketsDoesNotMoveTheFields(t *testing.T) {
	stat := []byte("7 (a) b (c) S " + strings.Repeat("0 ", 10) + "150 50 0 0 0 0 0 0 900 4096 3\n")
	var p Page
	p.kernel(stat)
	families := parsed(t, &p)
	if n := families["process_cpu_seconds_total"].GetMetric()[0].GetCounter().GetValue(); n != 2 {
		t.Errorf("%v s of CPU time, want 2", n)
	}
	if n := families["process_virtual_memory_bytes"].GetMetric()[0].GetGauge().GetValue(); n != 4096 {
		t.Errorf("%v bytes of virtual memory", n)
	}
	if n := statField(stat, statStart); n != 900 {
		t.Errorf("start %v", n)
	}
	if n := statField([]byte("7 (a) S 1"), statResident); n != 0 {
		t.Errorf("%v pages in a line that is cut short", n)
	}
}
