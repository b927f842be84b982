package hostile

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/control/client"
)

// address is this suite's own loopback address, so that suites can run side by side on the documented ports.
const address = "127.0.0.8"

// patience bounds every wait of the suite but those for the hub's own time-outs.
const patience = 20 * time.Second

// promptly is how soon the hub must hang up where it need not wait for a time-out of its own.
const promptly = 8 * time.Second

// instance is a running hub.
type instance struct {
	control *client.Client
	backend *backend.Backend
	process *exec.Cmd
	log     lockedBuffer
	address string // of the control API
}

// target is the hub under attack; it must outlive the suite.
var target *instance

// onlooker is the device of target that nobody attacks.
var onlooker *witness

// silent are the clients that say too little to target; they were there first.
var silent []*silentClient

func TestMain(m *testing.M) { os.Exit(runSuite(m)) }

func runSuite(m *testing.M) int {
	dir, err := os.MkdirTemp("", "iolite-hostile")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if emulator, err = command(dir); err != nil {
		return fail(err)
	}
	certsDir = filepath.Join(dir, "certs")
	if target, err = start(address+":8088", "--consumer-group", "idle"); err != nil {
		return fail(err)
	}
	if onlooker, err = newWitness(target); err != nil {
		fmt.Fprintln(os.Stderr, target.log.String())
		return fail(err)
	}
	silent = keepSilent()
	code := m.Run()
	if err := onlooker.stop(); err != nil {
		code = fail(err)
	}
	if err := target.terminate(); err != nil {
		code = fail(err)
	}
	if text := target.log.String(); strings.Contains(text, "panic") || strings.Contains(text, "DATA RACE") {
		code = fail(errors.New("the hub's log tells of a panic or a race"))
	}
	if code != 0 {
		fmt.Fprintf(os.Stderr, "--- the end of the hub's log\n%s", tail(target.log.String()))
	}
	return code
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "FAIL:", err)
	return 1
}

func tail(log string) string { return log[max(0, len(log)-8<<10):] }

var emulator, certsDir string

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

// start runs the command with its control API at control and waits until it is ready.
func start(control string, flags ...string) (*instance, error) {
	h := &instance{address: control, control: client.New(control)}
	args := append([]string{"serve", "--bind", address, "--hostname", address, "--control", control, "--strict-ports", "--certs-dir", certsDir}, flags...)
	h.process = exec.Command(emulator, args...)
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
	h.backend, err = backend.New(info, roots, func() time.Time {
		if state, err := h.control.Clock(context.Background()); err == nil {
			return state.Now
		}
		return time.Now()
	})
	return err
}

// terminate sends SIGTERM and wants a prompt, clean end.
func (h *instance) terminate() error {
	began := time.Now()
	if err := h.process.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("the hub was gone before it was told to stop: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.process.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("the hub did not stop cleanly: %w", err)
		}
	case <-time.After(patience):
		_ = h.process.Process.Signal(syscall.SIGQUIT)
		<-ended
		return fmt.Errorf("the hub still ran %v after SIGTERM\n%s", time.Since(began), h.log.String())
	}
	if took := time.Since(began); took > 8*time.Second {
		return fmt.Errorf("the hub took %v to stop", took)
	}
	return nil
}

// deadline returns a context that ends with the test, or with the suite's patience.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// device registers a device with a name of its own.
func (h *instance) device(t *testing.T) backend.Device {
	t.Helper()
	d, err := h.backend.CreateDevice(deadline(t), "victim-"+strings.ToLower(rand.Text()[:8]), "", "")
	must(t, err)
	return d
}

func (h *instance) token(t *testing.T, d backend.Device) string {
	t.Helper()
	token, err := h.backend.TokenFor(d, time.Hour)
	must(t, err)
	return token
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until done reports true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for !done() {
		if time.Now().After(end) {
			t.Fatalf("after %v: %s", patience, what)
		}
		<-time.After(10 * time.Millisecond) // not the test's context: it has ended when clean-up functions ask
	}
}

// untilClosed reads what the hub still says, until it closes the connection; it fails the test when it does not.
func untilClosed(t *testing.T, c net.Conn) []byte {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(promptly))
	said, err := io.ReadAll(c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the hub did not close the connection; it said %q", said)
	}
	return said
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
