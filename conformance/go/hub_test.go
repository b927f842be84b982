// Package conformance runs published Go clients against the real command on its documented ports.
package conformance

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
	"syscall"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/control/client"
)

// address is this suite's own loopback address, so that suites can run side by side on the documented ports.
const address = "127.0.0.5"

// patience bounds every wait of the suite.
const patience = 20 * time.Second

// running is the hub under test.
var running struct {
	control *client.Client
	backend *backend.Backend
	tls     *tls.Config
}

func TestMain(m *testing.M) { os.Exit(runSuite(m)) }

func runSuite(m *testing.M) int {
	dir, err := os.MkdirTemp("", "iolite-conformance")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin, err := command(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var log bytes.Buffer
	hub := exec.Command(bin, "serve", "--bind", address, "--hostname", address, "--control", address+":8088", "--strict-ports", "--certs-dir", filepath.Join(dir, "certs"))
	hub.Stdout, hub.Stderr = &log, &log
	if err := hub.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := 1
	if err := connect(); err != nil {
		fmt.Fprintln(os.Stderr, "the hub did not become ready:", err)
	} else {
		code = m.Run()
	}
	_ = hub.Process.Signal(syscall.SIGTERM)
	if err := hub.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "the hub did not stop cleanly:", err)
		code = 1
	}
	if code != 0 {
		fmt.Fprintf(os.Stderr, "--- the hub's log\n%s", log.Bytes())
	}
	return code
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

// connect waits until the hub is ready and sets up its clients.
func connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	running.control = client.New(address + ":8088")
	for running.control.Ready(ctx) != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	info, err := running.control.Info(ctx)
	if err != nil {
		return err
	}
	roots, err := running.control.Roots(ctx)
	if err != nil {
		return err
	}
	running.backend, err = backend.New(info, roots, nil)
	if err == nil {
		running.tls = running.backend.TLS()
	}
	return err
}

// deadline returns a context that ends with the test, or with the suite's patience.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// newDevice registers a device with a name of its own.
func newDevice(t *testing.T) backend.Device {
	t.Helper()
	id := strings.ToLower(strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())) + "-" + rand.Text()[:6]
	d, err := running.backend.CreateDevice(deadline(t), id, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// deviceToken returns a token for the device.
func deviceToken(t *testing.T, d backend.Device) string {
	t.Helper()
	token, err := running.backend.DeviceToken(d.DeviceID, d.Authentication.SymmetricKey.PrimaryKey)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
