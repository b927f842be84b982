package hostile

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

// noticeable is how long a message of a well-behaved device may wait for its PUBACK while others misbehave. The machine may be slow.
const noticeable = 5 * time.Second

// witness is a device that sends numbered telemetry over MQTT and a back end that reads it: every acknowledged message must be read
// once, in order, and in time, whatever others do.
type witness struct {
	conn   net.Conn
	device backend.Device
	cancel context.CancelFunc
	wg     sync.WaitGroup

	acked, read atomic.Int64
	slowest     atomic.Int64 // nanoseconds

	mu  sync.Mutex
	err error
}

func newWitness(h *instance) (*witness, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &witness{cancel: cancel}
	var err error
	if w.device, err = h.backend.CreateDevice(ctx, "witness", "", ""); err != nil {
		return nil, err
	}
	started := make(chan struct{})
	w.wg.Go(func() {
		err := h.backend.Events(ctx, false, func() { close(started) }, w.see)
		if ctx.Err() == nil {
			w.fail(fmt.Errorf("the reader ended: %w", err))
		}
	})
	select {
	case <-started:
	case <-time.After(patience):
		return nil, errors.Join(errors.New("the witness cannot read"), w.failure())
	}
	token, err := h.backend.TokenFor(w.device, time.Hour)
	if err != nil {
		return nil, err
	}
	if w.conn, err = dialTLS(h, door.MQTT); err != nil {
		return nil, err
	}
	if code, err := mqttConnect(w.conn, w.device.DeviceID, token); err != nil || code != 0 {
		return nil, fmt.Errorf("the witness cannot connect: code %d, %w", code, err)
	}
	w.wg.Go(func() {
		if err := w.send(ctx); err != nil && ctx.Err() == nil {
			w.fail(fmt.Errorf("the sender ended: %w", err))
		}
	})
	return w, nil
}

// send sends a message after the other, each when the one before was acknowledged.
func (w *witness) send(ctx context.Context) error {
	topic := "devices/" + w.device.DeviceID + "/messages/events/"
	pace := time.NewTicker(4 * time.Millisecond)
	defer pace.Stop()
	ack := make([]byte, 4)
	for n := int64(0); ; n++ {
		id := uint16(n%65535 + 1)
		began := time.Now()
		_ = w.conn.SetDeadline(began.Add(patience))
		if _, err := w.conn.Write(mqttPublish(topic, 1, id, strconv.AppendInt(nil, n, 10))); err != nil {
			return err
		}
		if err := readFull(w.conn, ack); err != nil {
			return err
		}
		if want := []byte{0x40, 2, byte(id >> 8), byte(id)}; !bytes.Equal(ack, want) {
			return fmt.Errorf("message %d was answered with % x", n, ack)
		}
		w.acked.Store(n + 1)
		w.slowest.Store(max(w.slowest.Load(), int64(time.Since(began))))
		select {
		case <-ctx.Done():
			return nil
		case <-pace.C:
		}
	}
}

// see takes an event of any device.
func (w *witness) see(_ string, m *amqp.Message) error {
	if m.Annotations["iothub-connection-device-id"] != w.device.DeviceID {
		return nil
	}
	n, err := strconv.ParseInt(string(m.GetData()), 10, 64)
	if want := w.read.Load(); err != nil || n != want {
		return fmt.Errorf("read %q, want message %d", m.GetData(), want)
	}
	w.read.Add(1)
	return nil
}

func (w *witness) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *witness) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// undisturbed wants everything acknowledged up to now to be read, and that messages still flow.
func (w *witness) undisturbed(t *testing.T) {
	t.Helper()
	acked := w.acked.Load() + 10
	eventually(t, "the witness's messages are neither acknowledged nor read", func() bool {
		if err := w.failure(); err != nil {
			t.Fatal("the witness was disturbed: ", err)
		}
		return w.read.Load() >= acked
	})
	if slowest := time.Duration(w.slowest.Swap(0)); slowest > noticeable {
		t.Errorf("a message of the witness waited %v for its acknowledgement", slowest)
	}
}

// stop ends the witness and returns what disturbed it.
func (w *witness) stop() error {
	err := w.failure()
	w.cancel()
	_ = w.conn.Close()
	w.wg.Wait()
	if err == nil && w.acked.Load() == 0 {
		err = errors.New("the witness sent nothing")
	}
	return err
}

// dialTLS connects to a TLS door.
func dialTLS(h *instance, d door.Door) (net.Conn, error) {
	at, err := h.backend.Address(d)
	if err != nil {
		return nil, err
	}
	return tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", at, h.backend.TLS())
}
