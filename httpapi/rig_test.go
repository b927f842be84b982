package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/certs"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	host    = "iolite.azure-devices.net"
	version = "?api-version=2021-04-12"
)

// start is where the clock of every test stands at first.
var start = time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)

// rig is a hub behind a real HTTPS door.
type rig struct {
	t      testing.TB
	hub    *hub.Hub
	clock  *clock.Clock
	server *Server
	door   *door.Listener
	tls    *tls.Config // of a client
	client *http.Client
	blobs  *heldBlobs
	files  *fileStorage
	log    *lockedBuffer
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	return newTunedRig(t, func(*Server) {}, change...)
}

// newTunedRig is newRig with a server that is changed before it serves.
func newTunedRig(t testing.TB, tune func(*Server), change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.NewManual(start), blobs: &heldBlobs{release: make(chan struct{})}, files: &fileStorage{}, log: &lockedBuffer{}}
	logger := slog.New(slog.NewTextHandler(r.log, nil))
	var err error
	r.hub, err = hub.New(hub.Config{Engine: store.NewMemory(store.MemoryOptions{Partitions: 4}), Clock: r.clock, Logger: logger, Blobs: r.blobs, Storage: r.files})
	must(t, err)
	ca, err := certs.Open("", certs.Options{})
	must(t, err)
	cfg := Config{Hub: r.hub, Logger: logger}
	for _, f := range change {
		f(&cfg)
	}
	r.server = New(cfg)
	tune(r.server)
	r.door, err = door.Listen(context.Background(), door.HTTPS, "127.0.0.1:0", ca.TLSConfig(), logger)
	must(t, err)
	r.door.Serve(r.server.Serve)
	r.tls = &tls.Config{RootCAs: ca.Pool(), ServerName: host}
	r.client = r.newClient(r.tls)
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.server.Close()
		r.door.Close()
		r.hub.Close()
		r.clock.Stop()
	})
	return r
}

// newClient returns a client that finds the hub behind every name.
func (r *rig) newClient(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:    config,
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, r.door.Addr().String())
		},
	}}
}

// dial returns a TLS connection to the hub.
func (r *rig) dial() *tls.Conn {
	r.t.Helper()
	c, err := tls.Dial("tcp", r.door.Addr().String(), r.tls)
	must(r.t, err)
	must(r.t, c.SetDeadline(clock.Wall().Add(20*time.Second)))
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// device registers a SAS device with fixed keys.
func (r *rig) device(id string) {
	r.t.Helper()
	primary, secondary := hub.DeriveKeys(store.Key{DeviceID: id})
	_, err := r.hub.Admin().CreateIdentity(context.Background(), store.Identity{
		Key: store.Key{DeviceID: id}, Authentication: store.Authentication{Type: store.AuthSAS, PrimaryKey: primary, SecondaryKey: secondary},
	})
	must(r.t, err)
}

// deviceToken returns the Authorization of a SAS device with derived keys.
func (r *rig) deviceToken(id string) string {
	r.t.Helper()
	primary, _ := hub.DeriveKeys(store.Key{DeviceID: id})
	token, err := auth.NewToken(host+"/devices/"+id, primary, "", r.clock.Now().Add(time.Hour))
	must(r.t, err)
	return token
}

// policyToken returns the Authorization of a policy.
func (r *rig) policyToken(name string) string {
	r.t.Helper()
	policies := r.hub.Policies()
	i := slices.IndexFunc(policies, func(p auth.Policy) bool { return p.Name == name })
	token, err := auth.NewToken(host, policies[i].PrimaryKey, name, r.clock.Now().Add(time.Hour))
	must(r.t, err)
	return token
}

// ask sends one request. Headers are given as pairs and go out in the case they are written in.
func (r *rig) ask(method, path, token, body string, headers ...string) *answer {
	r.t.Helper()
	return r.askWith(r.client, method, path, token, body, headers...)
}

func (r *rig) askWith(c *http.Client, method, path, token, body string, headers ...string) *answer {
	r.t.Helper()
	request, err := http.NewRequest(method, "https://"+host+path, strings.NewReader(body))
	must(r.t, err)
	if token != "" {
		request.Header.Set("Authorization", token)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header[headers[i]] = append(request.Header[headers[i]], headers[i+1])
	}
	response, err := c.Do(request)
	must(r.t, err)
	return readAnswer(r.t, response)
}

// answer is what came back.
type answer struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   string
}

func readAnswer(t testing.TB, response *http.Response) *answer {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return &answer{t, response.StatusCode, response.Header, string(body)}
}

// want checks the status and, unless it is "", the error code in header and body.
func (a *answer) want(status int, code string) *answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("status %d, want %d; body %s", a.Status, status, a.Body)
	}
	if got := a.Header.Get("iothub-errorcode"); got != code {
		a.t.Fatalf("iothub-errorcode %q, want %q; body %s", got, code, a.Body)
	}
	// The C# SDK knows a code only when the header and the body agree on it; two envelopes tell it as a number.
	if code != "" && !strings.Contains(a.Body, `"ErrorCode:`+code+`;`) && !strings.Contains(a.Body, `errorCode`) {
		a.t.Fatalf("body %s does not name %s", a.Body, code)
	}
	return a
}

// text writes the answer down without what differs from run to run.
func (a *answer) text() string {
	var b bytes.Buffer
	b.WriteString(http.StatusText(a.Status) + "\n")
	h := a.Header.Clone()
	h.Del("Date")
	must(a.t, h.Write(&b))
	b.WriteString("\n" + a.Body)
	return scrub(strings.ReplaceAll(b.String(), "\r\n", "\n"))
}

var volatile = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`[0-9a-f]{32}-G:0`), "TRACKING-G:0"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "GUID"},
}

func scrub(s string) string {
	for _, v := range volatile {
		s = v.pattern.ReplaceAllString(s, v.by)
	}
	return s
}

// golden compares text with a file of testdata.
func golden(t testing.TB, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(file, []byte(text), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", file, diff)
	}
}

// events returns every stored event, partition by partition.
func (r *rig) events() []store.Event {
	r.t.Helper()
	var all []store.Event
	admin := r.hub.Admin()
	endpoint, err := admin.EventHub(context.Background(), "")
	must(r.t, err)
	for _, id := range endpoint.PartitionIDs {
		reader, err := admin.OpenReader(context.Background(), hub.ReaderOptions{Group: "$Default", Partition: id})
		must(r.t, err)
		for {
			some, err := reader.Next(context.Background(), 100)
			must(r.t, err)
			if len(some) == 0 {
				break
			}
			all = append(all, some...)
		}
		reader.Close()
	}
	return all
}

// send queues a cloud-to-device message.
func (r *rig) send(device string, m store.Message) {
	r.t.Helper()
	m.To = "/devices/" + device + "/messages/devicebound"
	must(r.t, r.hub.Admin().SendC2D(context.Background(), m))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// poll waits until check is true.
func poll(t testing.TB, what string, check func() bool) {
	t.Helper()
	deadline := clock.Wall().Add(10 * time.Second)
	for !check() {
		if clock.Wall().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
		_ = clock.New().Sleep(context.Background(), time.Millisecond)
	}
}

// discarded is an answer that nobody reads.
type discarded struct{ header http.Header }

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d *discarded) WriteHeader(int)             {}
