package amqpsrv

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/store"
)

// Devices that come, replace each other, are deleted and cut while they send and receive leave nothing behind: no session, no
// goroutine (goleak), and no harm to one that stays.
func TestChurn(t *testing.T) {
	r := newRig(t, rigOptions{})
	steady := r.sender(r.asDevice(r.device("steady")), "/devices/steady/messages/events")
	keys := []store.Key{r.device("a"), r.device("b"), r.device("c")}
	token := r.policyToken("localhost", "device", time.Hour)
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() {
			for n := range 15 {
				r.visit(keys[(i+n)%len(keys)], token, n%3 == 0)
			}
		})
	}
	clients.Go(func() {
		for n := range 30 {
			key := keys[n%len(keys)]
			switch n % 3 {
			case 0:
				r.hub.Disconnect(key.DeviceID)
			case 1:
				_ = r.hub.Admin().DeleteIdentity(t.Context(), key, "*")
				_, _ = r.hub.Admin().CreateIdentity(t.Context(), store.Identity{Key: key, Status: store.Enabled})
			default:
				_ = r.hub.Admin().SendC2D(t.Context(), store.Message{SystemProperties: store.SystemProperties{To: "/devices/" + key.DeviceID + "/messages/devicebound"}})
			}
			if err := r.telemetry(steady, "x"); err != nil {
				t.Errorf("the steady device: %v", err)
			}
		}
	})
	clients.Wait()
	r.until("only the steady one is connected", func() bool {
		list := r.hub.Connections()
		return len(list) == 1 && list[0].DeviceID == "steady"
	})
}

// visit connects, sends, receives a little and goes, politely or not. Any step may fail: others interfere.
func (r *rig) visit(key store.Key, token string, cut bool) {
	nc := r.dial()
	defer func() { _ = nc.Close() }()
	c, err := amqp.NewConn(r.t.Context(), nc, nil)
	if err != nil {
		return
	}
	s, err := c.NewSession(r.t.Context(), nil)
	if err != nil {
		return
	}
	cbs, err := s.NewSender(r.t.Context(), "$cbs", nil)
	if err != nil || cbs.Send(r.t.Context(), putToken(token), nil) != nil {
		return
	}
	devicebound, err := s.NewReceiver(r.t.Context(), "/devices/"+key.DeviceID+"/messages/devicebound", &amqp.ReceiverOptions{Credit: 5})
	if err != nil {
		return
	}
	if events, err := s.NewSender(r.t.Context(), "/devices/"+key.DeviceID+"/messages/events", nil); err == nil {
		_ = events.Send(r.t.Context(), amqp.NewMessage([]byte("x")), nil)
	}
	if m := devicebound.Prefetched(); m != nil {
		_ = devicebound.AcceptMessage(r.t.Context(), m)
	}
	if !cut {
		_ = c.Close()
	}
}

// A client that takes its time gets everything, in order, and holds up nobody: neither the queue nor the log runs past what its
// connection may hold (ErrBusy).
func TestSlowClient(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, key)
	c.attachReceiver(0, "r", 2, "/devices/d1/messages/devicebound", 2, 0, 100)
	body := strings.Repeat("x", 60<<10)
	for i := range 50 { // three times what may wait for a client
		r.c2d("d1", strconv.Itoa(i), func(m *store.Message) { m.Body = []byte(body) })
	}
	other := r.sender(r.asDevice(r.device("d2")), "/devices/d2/messages/events")
	r.must(r.telemetry(other, "not held up"))
	for i := range 50 {
		m := c.decode(c.message())
		if m.Properties.MessageID != fmt.Sprint(i) || m.MessageAnnotations.Get("iothub-deliverycount") != uint8(0) {
			t.Fatalf("message %v, delivery %v, want %d", m.Properties.MessageID, m.MessageAnnotations.Get("iothub-deliverycount"), i)
		}
	}
}
