package hostile

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

// another starts a second hub on free ports with the devices d0 to d7, for what the onlooker could not bear.
func another(t *testing.T, more ...string) *instance {
	t.Helper()
	flags := append([]string{"--mqtt-port", "0", "--amqp-port", "0", "--https-port", "0", "--eventhub-port", "0", "--http-poll", "log"}, more...)
	for i := range 8 {
		flags = append(flags, "--device", fmt.Sprint("d", i))
	}
	h, err := start(address+":8090", flags...)
	must(t, err)
	t.Cleanup(func() {
		if h.process.ProcessState == nil {
			if err := h.terminate(); err != nil {
				t.Error(err)
			}
		}
		if log := h.log.String(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
			t.Errorf("the log tells of a panic or a race:\n%s", tail(log))
		}
	})
	return h
}

// crowd is devices on all doors and back ends that do what they can, and begin again whenever they are cut.
type crowd struct {
	hub     *instance
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	sent    atomic.Int64 // acknowledged telemetry
	events  atomic.Int64 // read
	command atomic.Int64 // cloud-to-device messages taken
}

func gather(t *testing.T, h *instance) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{hub: h, cancel: cancel}
	keepOn := func(what func(context.Context) error) {
		c.wg.Go(func() {
			for ctx.Err() == nil {
				if err := what(ctx); err != nil {
					select { // as an SDK would
					case <-ctx.Done():
					case <-time.After(10 * time.Millisecond):
					}
				}
			}
		})
	}
	for i := range 3 {
		keepOn(func(ctx context.Context) error { return c.overMQTT(ctx, fmt.Sprint("d", i)) })
	}
	for i := range 3 {
		keepOn(func(ctx context.Context) error {
			return c.overAMQP(ctx, fmt.Sprint("d", 3+i), amqpDoors[i])
		})
	}
	keepOn(func(ctx context.Context) error { return c.overHTTP(ctx, "d6") })
	for range 2 {
		keepOn(func(ctx context.Context) error {
			return h.backend.Events(ctx, true, func() {}, func(string, *amqp.Message) error { c.events.Add(1); return nil })
		})
	}
	keepOn(func(ctx context.Context) error {
		for i := 0; ; i++ {
			if err := h.backend.SendC2D(ctx, fmt.Sprint("d", i%8), &amqp.Message{ApplicationProperties: map[string]any{"iothub-ack": "full"}, Data: [][]byte{[]byte("x")}}); err != nil {
				return err
			}
		}
	})
	t.Cleanup(c.disperse)
	return c
}

func (c *crowd) disperse() {
	c.cancel()
	c.wg.Wait()
}

func (c *crowd) key(ctx context.Context, id string) (backend.Device, error) {
	d, _, err := c.hub.backend.Device(ctx, id)
	return d, err
}

// overMQTT sends telemetry and acknowledges what comes.
func (c *crowd) overMQTT(ctx context.Context, id string) error {
	d, err := c.key(ctx, id)
	if err != nil {
		return err
	}
	token, err := c.hub.backend.TokenFor(d, time.Hour)
	if err != nil {
		return err
	}
	conn, err := dialTLS(c.hub, door.MQTT)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close()
	if code, err := mqttConnect(conn, id, token); err != nil || code != 0 {
		return fmt.Errorf("return code %d, %w", code, err)
	}
	filter := mqttPacket(0x82, []byte{0, 1}, mqttText("devices/"+id+"/messages/devicebound/#"), []byte{1})
	if _, err := conn.Write(filter); err != nil {
		return err
	}
	telemetry := mqttPublish("devices/"+id+"/messages/events/", 1, 7, []byte("load"))
	if _, err := conn.Write(telemetry); err != nil {
		return err
	}
	for {
		first, body, err := readMQTT(conn)
		if err != nil {
			return err
		}
		var answer []byte
		switch first >> 4 {
		case 4: // PUBACK
			c.sent.Add(1)
			answer = telemetry
		case 3: // PUBLISH
			c.command.Add(1)
			at := 2 + int(body[0])<<8 + int(body[1])
			answer = []byte{0x40, 2, body[at], body[at+1]}
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
	}
}

func readMQTT(c net.Conn) (first byte, body []byte, err error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 1)
	if err := readFull(c, b); err != nil {
		return 0, nil, err
	}
	first = b[0]
	n := 0
	for shift := 0; ; shift += 7 {
		if err := readFull(c, b); err != nil {
			return 0, nil, err
		}
		n |= int(b[0]&0x7F) << shift
		if b[0] < 0x80 {
			break
		}
	}
	body = make([]byte, n)
	return first, body, readFull(c, body)
}

func (c *crowd) overAMQP(ctx context.Context, id string, through door.Door) error {
	d, err := c.key(ctx, id)
	if err != nil {
		return err
	}
	token, err := c.hub.backend.TokenFor(d, time.Hour)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := c.hub.backend.DialAMQP(ctx, through)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := backend.PutToken(ctx, conn, token); err != nil {
		return err
	}
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	sender, err := session.NewSender(ctx, "/devices/"+id+"/messages/events/", nil)
	if err != nil {
		return err
	}
	receiver, err := session.NewReceiver(ctx, "/devices/"+id+"/messages/devicebound", nil)
	if err != nil {
		return err
	}
	for {
		if err := sender.Send(ctx, amqp.NewMessage([]byte("load")), nil); err != nil {
			return err
		}
		c.sent.Add(1)
		if m := receiver.Prefetched(); m != nil {
			c.command.Add(1)
			if err := receiver.AcceptMessage(ctx, m); err != nil {
				return err
			}
		}
	}
}

func (c *crowd) overHTTP(ctx context.Context, id string) error {
	d, err := c.key(ctx, id)
	if err != nil {
		return err
	}
	for {
		if err := c.hub.backend.PostTelemetry(ctx, d, []byte("load"), nil); err != nil {
			return err
		}
		c.sent.Add(1)
	}
}

// busy waits until everybody has got something done since it was called.
func (c *crowd) busy(t *testing.T) {
	t.Helper()
	sent, events, command := c.sent.Load(), c.events.Load(), c.command.Load()
	eventually(t, "the crowd does not get on", func() bool {
		return c.sent.Load() > sent+50 && c.events.Load() > events+50 && c.command.Load() > command+3
	})
}

// fresh wants a message sent now to be read by a new reader, and is the proof that a hub works.
func fresh(t *testing.T, h *instance, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	mark := rand.Text()
	started, seen := make(chan struct{}), make(chan struct{})
	go func() {
		_ = h.backend.Events(ctx, false, func() { close(started) }, func(_ string, m *amqp.Message) error {
			if string(m.GetData()) == mark {
				close(seen)
			}
			return nil
		})
	}()
	wait := func(what string, done chan struct{}) {
		select {
		case <-done:
		case <-ctx.Done():
			t.Fatal("not ", what)
		}
	}
	wait("reading", started)
	d, _, err := h.backend.Device(ctx, id)
	must(t, err)
	must(t, h.backend.PostTelemetry(ctx, d, []byte(mark), nil))
	wait("read", seen)
}

// TestResetUnderLoad: whoever is connected is cut and comes back; nothing of before is left, and new telemetry arrives.
func TestResetUnderLoad(t *testing.T) {
	h := another(t)
	c := gather(t, h)
	c.busy(t)
	for range 10 {
		must(t, h.control.Reset(deadline(t)))
		fresh(t, h, "d7")
	}
	c.busy(t)
	for range 3 { // resets at the same time
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := h.control.Reset(context.Background()); err != nil {
					t.Error("resets at the same time: ", err)
				}
			})
		}
		wg.Wait()
	}
	fresh(t, h, "d7")
	c.busy(t)
	c.disperse()
	must(t, h.control.Reset(deadline(t)))
	eventually(t, "connections are left after a reset", func() bool {
		connections, err := h.control.Connections(deadline(t))
		return err == nil && len(connections) == 0
	})
	eventually(t, "goroutines are left after a reset", func() bool { return h.gauge(t, "go_goroutines") < 40 })
}

// TestClockMovedUnderLoad: tokens, locks and messages expire by the thousand, and the hub goes on.
func TestClockMovedUnderLoad(t *testing.T) {
	h := another(t)
	c := gather(t, h)
	c.busy(t)
	for i := range 60 {
		_, err := h.control.Advance(deadline(t), []time.Duration{time.Second, time.Minute, 25 * time.Minute, 2 * time.Hour}[i%4])
		must(t, err)
	}
	fresh(t, h, "d7")
	c.busy(t)
	_, err := h.control.Advance(deadline(t), 90*365*24*time.Hour)
	must(t, err)
	fresh(t, h, "d7")
	must(t, h.control.Reset(deadline(t)))
	fresh(t, h, "d7")
	c.busy(t)
}

// TestStopsPromptlyUnderLoad: SIGTERM ends a busy hub with clients that do not read, with status 0.
func TestStopsPromptlyUnderLoad(t *testing.T) {
	for range 3 {
		h := another(t)
		c := gather(t, h)
		c.busy(t)
		for range 20 {
			for _, d := range tlsDoors {
				conn, err := dialTLS(h, d)
				must(t, err)
				defer conn.Close()
				at, err := h.backend.Address(d)
				must(t, err)
				raw, err := net.Dial("tcp", at)
				must(t, err)
				defer raw.Close()
			}
		}
		d, _, err := h.backend.Device(deadline(t), "d7")
		must(t, err)
		token, err := h.backend.TokenFor(d, time.Hour)
		must(t, err)
		deaf, err := dialTLS(h, door.MQTT)
		must(t, err)
		defer deaf.Close()
		if code, err := mqttConnect(deaf, "d7", token); err != nil || code != 0 {
			t.Fatal("return code ", code, err)
		}
		_ = deaf.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		for {
			if _, err := deaf.Write([]byte(strings.Repeat("\xC0\x00", 8<<10))); err != nil {
				break
			}
		}
		began := time.Now()
		must(t, h.terminate())
		t.Logf("it stopped after %v; telemetry %d, events %d, commands %d", time.Since(began), c.sent.Load(), c.events.Load(), c.command.Load())
		c.disperse()
		http.DefaultClient.CloseIdleConnections()
	}
}
