// Package egress lets routes of the real command lead to endpoints outside: a RabbitMQ, a second hub, and Azurite.
package egress

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/control"
	"github.com/iolite-emulator/iolite/control/client"
	"github.com/iolite-emulator/iolite/hub"
)

// The loopback addresses of this suite's own: suites run side by side on the documented ports.
const (
	nearAddress = "127.0.0.31" // of the hub whose routes are tested, and of the broker and the storage, on other ports
	farAddress  = "127.0.0.32" // of the hub that they lead to
)

// patience bounds every wait of the suite.
const patience = 30 * time.Second

// instance is a running hub.
type instance struct {
	address string
	process *exec.Cmd
	log     lockedBuffer
	control *client.Client
	backend *backend.Backend
	tls     *tls.Config
}

// near routes to far, and both have certificates of one authority.
var near, far *instance

func TestMain(m *testing.M) { os.Exit(runSuite(m)) }

func runSuite(m *testing.M) int {
	dir, err := os.MkdirTemp("", "iolite-egress")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	bin, err := command(dir)
	if err != nil {
		return fail(err)
	}
	certs := filepath.Join(dir, "certs")
	if far, err = start(bin, farAddress, certs); err != nil {
		return fail(err)
	}
	defer far.process.Process.Kill()
	if near, err = start(bin, nearAddress, certs, "--trust-ca", filepath.Join(certs, "ca.pem")); err != nil {
		return fail(err)
	}
	code := m.Run()
	for _, h := range []*instance{near, far} {
		if err := h.terminate(); err != nil {
			code = fail(err)
		}
	}
	if code != 0 {
		fmt.Fprintf(os.Stderr, "--- the hub's log\n%s", near.log.String())
	}
	return code
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "FAIL:", err)
	return 1
}

// command returns the path of the command under test.
func command(dir string) (string, error) {
	if bin := os.Getenv("IOLITE_BIN"); bin != "" {
		return bin, nil
	}
	bin := filepath.Join(dir, "emulator")
	build := exec.Command("go", "build", "-o", bin, "./cmd/emulator")
	build.Dir = filepath.Join("..", "..")
	build.Stderr = os.Stderr
	return bin, build.Run()
}

// start runs a hub on the documented ports of an address and waits until it is ready.
func start(bin, address, certs string, flags ...string) (*instance, error) {
	h := &instance{address: address, control: client.New(address + ":8088")}
	args := []string{"serve", "--bind", address, "--hostname", address, "--control", address + ":8088", "--strict-ports", "--certs-dir", certs}
	h.process = exec.Command(bin, append(args, flags...)...)
	h.process.Stdout, h.process.Stderr = &h.log, &h.log
	if err := h.process.Start(); err != nil {
		return nil, err
	}
	if err := h.connect(); err != nil {
		_ = h.process.Process.Kill()
		_ = h.process.Wait()
		return nil, fmt.Errorf("the hub did not become ready: %w\n%s", err, h.log.String())
	}
	return h, nil
}

func (h *instance) connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for h.control.Ready(ctx) != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	info, err := h.control.Info(ctx)
	if err != nil {
		return err
	}
	roots, err := h.control.Roots(ctx)
	if err != nil {
		return err
	}
	h.backend, err = backend.New(info, roots, nil)
	if err == nil {
		h.tls = h.backend.TLS()
	}
	return err
}

// terminate wants a clean end.
func (h *instance) terminate() error {
	_ = h.process.Process.Signal(syscall.SIGTERM)
	if err := h.process.Wait(); err != nil {
		return fmt.Errorf("the hub did not stop cleanly: %w", err)
	}
	if log := h.log.String(); strings.Contains(log, "panic:") || strings.Contains(log, "DATA RACE") {
		return fmt.Errorf("the hub panicked or raced")
	}
	return nil
}

// lockedBuffer collects what a process says.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// deadline returns a context that ends with the test, or with the suite's patience.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lacks skips a test whose other end is not there, and fails it in CI.
func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing, and CI must not skip", what)
	}
	t.Skipf("SKIPPED: %s is missing on this machine", what)
}

// route sends what a condition selects to the endpoints given, all of them, until the test ends.
func route(t *testing.T, endpoints hub.Endpoints, names ...string) {
	t.Helper()
	r := hub.Routing{Endpoints: endpoints, Enrichments: []hub.Enrichment{{Key: "hub", Value: "$iothubname", EndpointNames: names}}}
	for _, name := range names {
		r.Routes = append(r.Routes, hub.Route{Name: "to-" + name, Source: hub.DeviceMessages, EndpointNames: []string{name}})
	}
	_, err := near.control.SetRouting(deadline(t), r)
	must(t, err)
	t.Cleanup(func() {
		if _, err := near.control.SetRouting(context.Background(), hub.Routing{}); err != nil {
			t.Error(err)
		}
	})
}

// health returns that of an endpoint.
func health(t *testing.T, name string) control.EndpointHealthData {
	t.Helper()
	all, err := near.control.EndpointHealth(deadline(t))
	must(t, err)
	for _, one := range all.Value {
		if one.EndpointID == name {
			return one
		}
	}
	t.Fatalf("there is no endpoint %s: %+v", name, all)
	return control.EndpointHealthData{}
}

// eventually waits for something that the hub does by itself.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := deadline(t)
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("never happened: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// device is one that sends by MQTT.
type device struct {
	id   string
	mqtt mqtt.Client
}

// newDevice registers and connects one with a name of its own.
func newDevice(t *testing.T) *device {
	t.Helper()
	id := strings.NewReplacer("/", "-", "_", "-").Replace(strings.ToLower(t.Name())) + "-" + rand.Text()[:6]
	d, err := near.backend.CreateDevice(deadline(t), id, "", "")
	must(t, err)
	token, err := near.backend.DeviceToken(id, d.Authentication.SymmetricKey.PrimaryKey)
	must(t, err)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + nearAddress + ":8883").SetClientID(id).SetProtocolVersion(4).
		SetUsername(nearAddress + "/" + id + "/?api-version=2021-04-12").SetPassword(token).SetTLSConfig(near.tls.Clone()).SetAutoReconnect(false))
	must(t, done(deadline(t), c.Connect()))
	t.Cleanup(func() { c.Disconnect(0) })
	return &device{id, c}
}

// send publishes a JSON body and waits until it is acknowledged.
func (d *device) send(t *testing.T, bodies ...string) {
	t.Helper()
	ctx := deadline(t)
	var tokens []mqtt.Token
	for _, body := range bodies {
		tokens = append(tokens, d.mqtt.Publish("devices/"+d.id+"/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8&%24.mid=m1&level=hot", 1, false, body))
	}
	for _, token := range tokens {
		must(t, done(ctx, token))
	}
}

func done(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// numbered returns bodies from..to-1.
func numbered(from, to int) (bodies []string) {
	for i := from; i < to; i++ {
		bodies = append(bodies, fmt.Sprintf(`{"n":%d}`, i))
	}
	return bodies
}
