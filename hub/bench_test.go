package hub

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/iolite-emulator/iolite/store"
)

// fleet registers devices through bulk requests of a hundred.
func fleet(b testing.TB, h *Hub, n int) {
	b.Helper()
	admin := h.Admin()
	items := make([]BulkItem, 0, MaxBulk)
	for i := 0; i < n; i += MaxBulk {
		items = items[:0]
		for j := range min(MaxBulk, n-i) {
			items = append(items, BulkItem{Mode: "create", Identity: store.Identity{Key: store.Key{DeviceID: fmt.Sprintf("device-%06d", i+j)}}})
		}
		failed, err := admin.Bulk(ctx, items)
		if err != nil || len(failed) > 0 {
			b.Fatal(failed, err)
		}
	}
}

func BenchmarkBulkCreate100000(b *testing.B) {
	for range b.N {
		h, _ := newTestHub(b)
		fleet(b, h, 100_000)
	}
}

// BenchmarkMemoryPerDevice reports the bytes of the heap that a registered device with an empty twin and its own keys takes.
func BenchmarkMemoryPerDevice(b *testing.B) {
	const n = 100_000
	for range b.N {
		h, _ := newTestHub(b)
		before := heap()
		fleet(b, h, n)
		b.ReportMetric(float64(heap()-before)/n, "bytes/device")
		runtime.KeepAlive(h)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkMethodRoundTrip(b *testing.B) {
	h, _ := newTestHub(b)
	responder(b, connect(b, h, "d"), 200)
	admin, key, call := h.Admin(), store.Key{DeviceID: "d"}, MethodCall{Name: "m", Payload: []byte(`{"a":1}`)}
	b.ReportAllocs()
	for b.Loop() {
		if r, err := admin.InvokeMethod(ctx, key, call); err != nil || r.Status != 200 {
			b.Fatal(r, err)
		}
	}
}

func BenchmarkTwin(b *testing.B) {
	h, _ := newTestHub(b)
	fleet(b, h, 100_000)
	admin, key := h.Admin(), store.Key{DeviceID: "device-050000"}
	tag(b, h, key, `{"tags":{"floor":1},"properties":{"desired":{"interval":5,"limits":{"low":10,"high":30}}}}`)
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		var text []byte
		for b.Loop() {
			t, err := admin.Twin(ctx, key)
			if err != nil {
				b.Fatal(err)
			}
			text = t.AppendJSON(text[:0])
		}
	})
	b.Run("patch", func(b *testing.B) { benchmarkPatch(b, admin, key) })
	b.Run("patch-routed", func(b *testing.B) {
		setRouting(b, h, Routing{Routes: []Route{{Name: "twins", Source: TwinChangeEvents, EndpointNames: []string{builtInEndpoint}}}})
		benchmarkPatch(b, admin, key)
		setRouting(b, h, Routing{})
	})
	for i := range 10 {
		putConfig(b, h, fmt.Sprintf("c%d", i), config(i, "tags.floor = 2", `{"properties.desired.p":1}`))
	}
	b.Run("patch-beside-10-configurations", func(b *testing.B) { benchmarkPatch(b, admin, key) })
}

// BenchmarkReport is a report of a device, without anybody who wants to hear of it and with.
func BenchmarkReport(b *testing.B) {
	h, _ := newTestHub(b)
	s := connect(b, h, "d")
	report := func(b *testing.B) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.UpdateReported(ctx, []byte(`{"temperature":21.5}`), 0); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("unrouted", report)
	setRouting(b, h, Routing{Routes: []Route{{Name: "twins", Source: TwinChangeEvents, EndpointNames: []string{builtInEndpoint}}}})
	b.Run("routed", report)
}

func benchmarkPatch(b *testing.B, admin *ServiceSession, key store.Key) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := admin.UpdateTwin(ctx, key, []byte(`{"properties":{"desired":{"interval":7}}}`), ""); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJobOver100000 is a job that tags every device.
func BenchmarkJobOver100000(b *testing.B) {
	h, _ := newTestHub(b)
	fleet(b, h, 100_000)
	n := 0
	b.ResetTimer()
	for range b.N {
		n++
		id := fmt.Sprintf("job-%d", n)
		schedule(b, h, id, tagJob("*", ""))
		if job := jobWhen(b, h, id, jobCompleted); job.Statistics.Succeeded != 100_000 {
			b.Fatal(job.Statistics)
		}
	}
}

// BenchmarkConfigurationOver100000 creates and deletes a configuration that reaches every device.
func BenchmarkConfigurationOver100000(b *testing.B) {
	h, _ := newTestHub(b)
	fleet(b, h, 100_000)
	b.ResetTimer()
	for range b.N {
		putConfig(b, h, "all", config(1, "*", `{"properties.desired.p":1}`))
		deleteConfig(b, h, "all")
	}
}

// TestADeviceWithAnEmptyTwinIsSmall holds the memory that a registered device takes.
func TestADeviceWithAnEmptyTwinIsSmall(t *testing.T) {
	const n, most = 20_000, 1500
	h, _ := newTestHub(t)
	before := heap()
	fleet(t, h, n)
	if got := (heap() - before) / n; got > most {
		t.Errorf("%d bytes, at most %d are wanted", got, most)
	}
	runtime.KeepAlive(h)
}

// BenchmarkListTenConfigurations counts the metrics of ten configurations over 100,000 devices.
func BenchmarkListTenConfigurations(b *testing.B) {
	h, _ := newTestHub(b)
	fleet(b, h, 100_000)
	for i := range 10 {
		putConfig(b, h, fmt.Sprintf("c%d", i), config(i, "tags.floor = 2", `{"properties.desired.p":1}`))
	}
	b.ResetTimer()
	for range b.N {
		if list, err := h.Admin().Configurations(ctx, 0); err != nil || len(list) != 10 {
			b.Fatal(len(list), err)
		}
	}
}
