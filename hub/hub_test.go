package hub

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ctx   = context.Background()
)

// newTestHub returns a hub on a clock that only the test moves. change may adjust its configuration.
func newTestHub(t testing.TB, change ...func(*Config)) (*Hub, *clock.Clock) {
	t.Helper()
	c := clock.NewManual(start)
	cfg := Config{Engine: store.NewMemory(store.MemoryOptions{}), Clock: c, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Close()
		c.Stop()
	})
	return h, c
}

// metricsOf returns a registry of a hub's metrics.
func metricsOf(t testing.TB, h *Hub) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewRegistry()
	if err := h.RegisterMetrics(r); err != nil {
		t.Fatal(err)
	}
	return r
}

// addDevice registers a device or module with its derived keys.
func addDevice(t testing.TB, h *Hub, key store.Key) Device {
	t.Helper()
	id := store.Identity{Key: key}
	id.Authentication.PrimaryKey, id.Authentication.SecondaryKey = DeriveKeys(key)
	d, err := h.Admin().CreateIdentity(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// owner is the principal of an identity's own credential that never ends.
func owner(key store.Key) auth.Principal {
	return auth.Principal{DeviceID: key.DeviceID, ModuleID: key.ModuleID, Rights: auth.DeviceConnect, Scope: devicePath(key), Method: auth.MethodSAS}
}

// connect registers a device if need be and connects it.
func connect(t testing.TB, h *Hub, deviceID string, change ...func(*DeviceOptions)) *DeviceSession {
	t.Helper()
	key := store.Key{DeviceID: deviceID}
	if _, err := h.registry.Get(ctx, key); err != nil {
		addDevice(t, h, key)
	}
	var o DeviceOptions
	for _, f := range change {
		f(&o)
	}
	s, err := h.OpenDevice(ctx, owner(key), key, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// codeOf returns the hub code of an error, 0 for nil and -1 for one that is no hub error.
func codeOf(err error) Code {
	if err == nil {
		return 0
	}
	if e, created := AsError(err); !created {
		return e.Code
	}
	return -1
}

func wantCode(t testing.TB, err error, want Code) {
	t.Helper()
	if got := codeOf(err); got != want {
		t.Fatalf("error = %v (code %d), want code %d", err, got, want)
	}
}

// eventually waits for what a goroutine of the hub will do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := clock.Wall().Add(10 * time.Second)
	for !ok() {
		if clock.Wall().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		_ = clock.New().Sleep(ctx, time.Millisecond)
	}
}
