package amqpsrv

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// Pairs that come and go while back ends write twins and call methods: every call ends, what waits is accounted for, and a device that
// stays hears of every change, in order.
func TestPairsThatComeAndGo(t *testing.T) {
	r := newRig(t, rigOptions{})
	steady := r.duplex(r.asDevice(r.device("steady")), twinAddress(store.Key{DeviceID: "steady"}), "")
	steady.asked(200, "PUT", resourceNotify, "")
	key := r.device("a")
	c := r.connect(nil)
	r.put(c, r.deviceToken(key, time.Hour))
	const rounds = 20
	var devices, backends sync.WaitGroup
	for i := range 3 {
		devices.Go(func() {
			for n := range rounds {
				r.servePairs(c, key, fmt.Sprint(i), n)
				r.clock.Advance(6 * time.Second) // ends calls whose request was lost with its link
			}
		})
	}
	fair := []hub.Code{hub.CodeDeviceNotOnline, hub.CodeConnectionClosed, hub.CodeGatewayTimeout}
	gone := make(chan struct{})
	for range 4 {
		backends.Go(func() {
			for {
				select {
				case <-gone:
					return
				default:
				}
				_, err := r.hub.Admin().InvokeMethod(t.Context(), key, hub.MethodCall{Name: "m", ResponseTimeout: 5 * time.Second})
				if e := (*hub.Error)(nil); err != nil && (!errors.As(err, &e) || !slices.Contains(fair, e.Code)) {
					t.Errorf("call: %v", err)
				}
			}
		})
	}
	backends.Go(func() {
		for n := range rounds {
			r.desire(key, fmt.Sprintf(`{"n":%d}`, n))
			r.desire(store.Key{DeviceID: "steady"}, fmt.Sprintf(`{"n":%d}`, n))
		}
	})
	devices.Wait()
	_ = c.Close() // ends the calls of requests that nobody will answer
	close(gone)
	backends.Wait()
	for n := range rounds {
		if got, want := r.receive(steady.out).Annotations["version"], int64(2+n); got != want {
			t.Fatalf("notification of version %v, want %d", got, want)
		}
	}
	r.until("nothing waits", func() bool { return r.outlets() == 0 })
}

// servePairs attaches both pairs, answers methods for as long as a twin request takes, and goes: link by link, or with the session.
func (r *rig) servePairs(c *amqp.Conn, key store.Key, id string, n int) {
	s, err := c.NewSession(r.t.Context(), nil)
	if err != nil {
		r.t.Error(err)
		return
	}
	var answering sync.WaitGroup
	defer answering.Wait()
	defer func() { _ = s.Close(r.t.Context()) }() // ends what answers
	attach := func(address string, credit int32) (*amqp.Sender, *amqp.Receiver) {
		in, err := s.NewSender(r.t.Context(), address, &amqp.SenderOptions{Properties: channel(id)})
		if err != nil {
			r.t.Error(err)
		}
		out, err := s.NewReceiver(r.t.Context(), address, &amqp.ReceiverOptions{Properties: channel(id), Credit: credit})
		if err != nil {
			r.t.Error(err)
		}
		return in, out
	}
	in, out := attach(methodsAddress(key), 1+int32(n%3))
	twinIn, twinOut := attach(twinAddress(key), 10)
	if r.t.Failed() {
		return
	}
	answering.Go(func() {
		for {
			m, err := out.Receive(r.t.Context(), nil)
			if err != nil {
				return
			}
			if n%4 != 2 {
				_ = (&duplex{r, in, out}).respond(m, m.Properties.CorrelationID, int32(200))
			}
		}
	})
	if twinIn.Send(r.t.Context(), twinRequestMessage("x", "PUT", resourceNotify, ""), nil) == nil {
		_, _ = twinOut.Receive(r.t.Context(), nil)
	}
	if n%4 == 1 { // not the receiver: go-amqp grants credit on one that is being closed while it receives
		_ = in.Close(r.t.Context())
		_ = twinOut.Close(r.t.Context())
	}
}
