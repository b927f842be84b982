package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// A server that answers before it has read a request to its end waits half a second with closing the connection.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// start is where the clock of every test stands at first.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// rig is a control API behind a real door.
type rig struct {
	t      testing.TB
	hub    *hub.Hub
	clock  *clock.Clock
	server *Server
	door   *door.Listener
	base   string
	client *http.Client

	ready    bool
	resetErr error
}

// metrics are those of the hub.
func (r *rig) metrics() prometheus.Gatherer {
	metrics := prometheus.NewRegistry()
	must(r.t, r.hub.RegisterMetrics(metrics))
	return metrics
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.NewManual(start), ready: true}
	logger := slog.New(slog.DiscardHandler)
	var err error
	r.hub, err = hub.New(hub.Config{Engine: store.NewMemory(store.MemoryOptions{}), Clock: r.clock, Logger: logger, AuthOff: true})
	must(t, err)
	r.server = New(Config{
		Hub: r.hub, Clock: r.clock, Logger: logger, Metrics: r.metrics, Hosts: []string{"iolite.example"},
		Ready: func() bool { return r.ready }, Info: r.info, CAPEM: func() []byte { return []byte("-----BEGIN CERTIFICATE-----\n") },
		Reset: func(ctx context.Context) error { return errors.Join(r.resetErr, r.hub.Reset(ctx)) },
	})
	r.door, err = door.Listen(context.Background(), door.Control, "127.0.0.1:0", nil, logger)
	must(t, err)
	r.door.Serve(r.server.Serve)
	r.base = "http://" + r.door.Addr().String()
	r.client = &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.server.Close()
		r.door.Close()
		r.hub.Close()
	})
	return r
}

// info is what the root would tell, without lists: the API makes them empty ones.
func (r *rig) info() Info {
	return Info{Version: "v1", Hub: "iolite", Hostname: "localhost", Bind: "127.0.0.1", Control: r.door.Addr().String(), Auth: "strict", Poll: "enforce",
		PollIn: "25m0s", Doors: []Door{{Name: "mqtt", Port: 8883}}, ConnectionString: "HostName=localhost;<b>"}
}

// answer is what came back.
type answer struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   string
}

// ask sends one request. Headers are given as pairs; Host sets the host.
func (r *rig) ask(method, path, body string, headers ...string) *answer {
	r.t.Helper()
	request, err := http.NewRequest(method, r.base+path, strings.NewReader(body))
	must(r.t, err)
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
			continue
		}
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := r.client.Do(request)
	must(r.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(r.t, err)
	return &answer{r.t, response.StatusCode, response.Header, string(text)}
}

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("status %d, want %d; body %s", a.Status, status, a.Body)
	}
	return a
}

func (a *answer) has(text string) *answer {
	a.t.Helper()
	if !strings.Contains(a.Body, text) {
		a.t.Fatalf("body does not have %q:\n%s", text, a.Body)
	}
	return a
}

// connect opens a session for a device, as an MQTT head would.
func (r *rig) connect(id string) (peer net.Conn, ended <-chan struct{}) {
	r.t.Helper()
	_, err := r.hub.Admin().CreateIdentity(context.Background(), store.Identity{Key: store.Key{DeviceID: id}})
	must(r.t, err)
	server, peer := net.Pipe()
	r.t.Cleanup(func() { _ = peer.Close(); _ = server.Close() })
	gone := make(chan struct{})
	s, err := r.hub.OpenDevice(context.Background(), auth.Principal{DeviceID: id, Rights: auth.DeviceConnect, Scope: "devices/" + id, Method: auth.MethodSAS},
		store.Key{DeviceID: id}, hub.DeviceOptions{Conn: door.Wrap(server, door.MQTT), UserAgent: "test <1>", Ended: func(*hub.Error) { close(gone) }})
	must(r.t, err)
	r.t.Cleanup(s.Close)
	return peer, gone
}

// send stores telemetry of a device, which it creates unless it is there.
func (r *rig) send(id string, messages ...hub.Telemetry) {
	r.t.Helper()
	key := store.Key{DeviceID: id}
	if _, err := r.hub.Admin().Identity(context.Background(), key); err != nil {
		_, err = r.hub.Admin().CreateIdentity(context.Background(), store.Identity{Key: key})
		must(r.t, err)
	}
	s, err := r.hub.OpenDevice(context.Background(), auth.Principal{DeviceID: id, Rights: auth.DeviceConnect, Scope: "devices/" + id, Method: auth.MethodSAS},
		key, hub.DeviceOptions{Transient: true})
	must(r.t, err)
	defer s.Close()
	must(r.t, s.SendTelemetry(context.Background(), messages...))
}

// violate polls twice at once.
func (r *rig) violate(id string) {
	r.t.Helper()
	_, err := r.hub.Admin().CreateIdentity(context.Background(), store.Identity{Key: store.Key{DeviceID: id}})
	must(r.t, err)
	server, peer := net.Pipe()
	defer server.Close()
	defer peer.Close()
	for range 2 {
		s, err := r.hub.OpenDevice(context.Background(), auth.Principal{DeviceID: id, Rights: auth.DeviceConnect, Scope: "devices/" + id},
			store.Key{DeviceID: id}, hub.DeviceOptions{Conn: door.Wrap(server, door.HTTPS), Transient: true})
		must(r.t, err)
		_, _, err = s.PollC2D(context.Background())
		s.Close()
		if e, _ := hub.AsError(err); err != nil && e.Code != hub.CodePollTooSoon {
			r.t.Fatal(err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
