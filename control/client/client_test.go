package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/iolite-emulator/iolite/certs/certtest"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/control"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// serve starts a control API and returns its address.
func serve(t *testing.T, ready *bool) string {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	manual := clock.NewManual(start)
	h, err := hub.New(hub.Config{Engine: store.NewMemory(store.MemoryOptions{}), Clock: manual, Logger: logger})
	must(t, err)
	s := control.New(control.Config{
		Hub: h, Clock: manual, Logger: logger, Metrics: func() prometheus.Gatherer { return prometheus.NewRegistry() }, Ready: func() bool { return *ready },
		Info:  func() control.Info { return control.Info{Hub: "iolite"} },
		CAPEM: func() []byte { return certtest.NewCA(t, "development CA").PEM() },
		Reset: func(context.Context) error { return errors.New("the seed is bad") },
	})
	l, err := door.Listen(context.Background(), door.Control, "127.0.0.1:0", nil, logger)
	must(t, err)
	l.Serve(s.Serve)
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		s.Close()
		l.Close()
		h.Close()
	})
	return l.Addr().String()
}

func TestEveryCallReachesTheAPI(t *testing.T) {
	ready := true
	c := New(serve(t, &ready))
	ctx := context.Background()
	must(t, c.Ready(ctx))
	info, err := c.Info(ctx)
	must(t, err)
	if info.Hub != "iolite" {
		t.Errorf("info %+v", info)
	}
	state, err := c.Advance(ctx, 25*time.Minute)
	must(t, err)
	if again, err := c.Clock(ctx); err != nil || !again.Now.Equal(state.Now) || !state.Now.Equal(start.Add(25*time.Minute)) {
		t.Errorf("clock %v, then %v (%v)", state, again, err)
	}
	if _, err := c.Roots(ctx); err != nil {
		t.Error(err)
	}
	added, err := c.AddCAs(ctx, certtest.NewCA(t, "device CA").PEM())
	if err != nil || len(added) != 1 || added[0].Subject != "CN=device CA" {
		t.Errorf("added %v (%v)", added, err)
	}
	if v, err := c.Violations(ctx); err != nil || v.Count != 0 {
		t.Errorf("violations %v (%v)", v, err)
	}
	must(t, c.ClearViolations(ctx))
	if found, err := c.Events(ctx, url.Values{"deviceId": {"nobody"}}); err != nil || len(found.Events) != 0 || found.Cursor == "" {
		t.Errorf("events %+v, %v", found, err)
	}
	if list, err := c.Connections(ctx); err != nil || len(list) != 0 {
		t.Errorf("connections %v (%v)", list, err)
	}
	if e, err := c.PutEventHub(ctx, "alerts", control.EventHubChange{Partitions: 2, ConsumerGroups: []string{"a"}}); err != nil || len(e.Partitions) != 2 {
		t.Errorf("event hub %+v (%v)", e, err)
	}
	must(t, c.PutConsumerGroup(ctx, "alerts", "b"))
	if g, err := c.ConsumerGroup(ctx, "alerts", "B"); err != nil || g.Name != "b" {
		t.Errorf("consumer group %+v (%v)", g, err)
	}
	must(t, c.DeleteConsumerGroup(ctx, "alerts", "b"))
	if all, err := c.EventHubs(ctx); err != nil || len(all) != 2 || len(all[0].ConsumerGroups) != 2 {
		t.Errorf("event hubs %+v (%v)", all, err)
	}
	must(t, c.DeleteEventHub(ctx, "alerts"))
	set, err := c.SetRouting(ctx, hub.Routing{Endpoints: hub.Endpoints{EventHubs: []hub.EventHubEndpoint{{Name: "hot"}}},
		Routes: []hub.Route{{Name: "r", Source: hub.DeviceMessages, Condition: "a = 'b'", EndpointNames: []string{"hot"}}}})
	must(t, err)
	if r, err := c.Routing(ctx); err != nil || len(r.Routes) != 1 || len(set.Routes) != 1 || *r.Routes[0].IsEnabled != true {
		t.Errorf("routing %+v, then %+v (%v)", set, r, err)
	}
	if r, err := c.TestRoutes(ctx, hub.RouteTest{Message: hub.RouteTestMessage{AppProperties: map[string]string{"a": "b"}}}); err != nil || len(r.Routes) != 1 || r.Endpoints[0] != "hot" {
		t.Errorf("test %+v (%v)", r, err)
	}
	if r, err := c.TestRoute(ctx, hub.OneRouteTest{Route: hub.Route{Condition: "a ="}}); err != nil || r.Result != hub.RouteUndefined || r.Details == nil {
		t.Errorf("test of one route %+v (%v)", r, err)
	}
	if n, err := c.Disconnect(ctx, "a/b%2F"); err != nil || n != 0 {
		t.Errorf("disconnected %d (%v)", n, err)
	}
}

func TestErrorsSayWhatTheAPISays(t *testing.T) {
	ready := false
	address := serve(t, &ready)
	c := New(address)
	ctx := context.Background()
	if err := c.Ready(ctx); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("ready: %v", err)
	}
	if err := c.Reset(ctx); err == nil || !strings.Contains(err.Error(), "the seed is bad") {
		t.Errorf("reset: %v", err)
	}
	if _, err := c.Advance(ctx, -time.Second); err == nil || !strings.Contains(err.Error(), "positive duration") {
		t.Errorf("advance: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	free := l.Addr().String()
	must(t, l.Close())
	if err := New(free).Ready(ctx); err == nil || !strings.Contains(err.Error(), free) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestAddressOfEveryInterfaceMeansThisMachine(t *testing.T) {
	for given, want := range map[string]string{
		"0.0.0.0:8088": "127.0.0.1:8088", ":8088": "127.0.0.1:8088", "[::]:8088": "[::1]:8088", "127.0.0.2:1": "127.0.0.2:1", "localhost:8088": "localhost:8088",
	} {
		if got := New(given).address; got != want {
			t.Errorf("%s is dialled as %s, want %s", given, got, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
