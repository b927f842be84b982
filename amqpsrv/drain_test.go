package amqpsrv

import (
	"fmt"
	"strings"
	"testing"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/store"
)

// drain gives credit with drain on a link that has had no delivery yet, and an incoming-window for its session.
func (r *raw) drain(handle, credit, window uint32) {
	r.t.Helper()
	r.send(0, performFlow, nil, uint32(0), window, uint32(0), uint32(5000), handle, uint32(0), credit, nil, true)
}

// drained reads deliveries up to the answer to a drain and returns how many there were.
func (r *raw) drained(credit uint32) int {
	r.t.Helper()
	for n := 0; ; {
		switch f := r.read(); f.kind {
		case performTransfer:
			if f.field(5) != true { // the last frame of a message
				n++
			}
		case performFlow:
			if f.field(8) == true {
				if f.field(5) != credit || f.field(6) != uint32(0) {
					r.t.Errorf("drained with delivery-count %v and link-credit %v", f.field(5), f.field(6))
				}
				return n
			}
		default:
			r.t.Fatalf("unexpected frame 0x%x %v", f.kind, f.fields)
		}
	}
}

// AMQP 2.6.7: the answer to a drain comes after what there was to send, however long that takes.
func TestDrainAnswersWhenThePushIsThrough(t *testing.T) {
	for name, c := range map[string]struct {
		queued, size int
		credit       uint32
		want         int
	}{
		"nothing queued":              {0, 0, 5, 0},
		"less than the credit":        {3, 10, 5, 3},
		"more than the credit":        {5, 10, 2, 2},
		"more than the output's room": {50, 60 << 10, 100, 50},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			key := r.device("d1")
			for i := range c.queued {
				r.c2d("d1", fmt.Sprint(i), func(m *store.Message) { m.Body = []byte(strings.Repeat("x", c.size)) })
			}
			client := rawOpen(t, r.dial(), 65536)
			client.put(r, key)
			client.attachReceiver(0, "r", 2, "/devices/d1/messages/devicebound", 2, 0, 0)
			client.drain(2, c.credit, 5000)
			if n := client.drained(c.credit); n != c.want {
				t.Errorf("%d messages before the answer, want %d", n, c.want)
			}
		})
	}
}

// A session whose window is used up is no reason to end the drain: it goes on when there is a window again.
func TestDrainWaitsForTheSessionsWindow(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	for i := range 5 {
		r.c2d("d1", fmt.Sprint(i), nil)
	}
	client := rawOpen(t, r.dial(), 65536)
	client.put(r, key)
	client.attachReceiver(0, "r", 2, "/devices/d1/messages/devicebound", 2, 0, 0)
	// $cbs has answered with one transfer, which counts: next-incoming-id is 0 as if it had not come yet.
	client.drain(2, 10, 3)
	for range 2 {
		if f := client.read(); f.kind != performTransfer {
			t.Fatalf("frame 0x%02x %v instead of a message", f.kind, f.fields)
		}
	}
	client.send(0, performFlow, nil, uint32(3), uint32(5000), uint32(0), uint32(5000))
	if n := client.drained(10); n != 3 {
		t.Errorf("%d messages after the window was opened, want 3", n)
	}
}

func TestDrainCreditOfClients(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	manual := &amqp.ReceiverOptions{Credit: -1}
	device, err := r.asDevice(key).NewReceiver(r.ctx(), "/devices/d1/messages/devicebound", manual)
	r.must(err)
	feedback, err := r.asService().NewReceiver(r.ctx(), "/messages/servicebound/feedback", manual)
	r.must(err)
	for i := range 3 {
		for _, l := range []*amqp.Receiver{device, feedback} {
			r.must(l.IssueCredit(10))
			r.must(l.DrainCredit(r.ctx(), nil))
		}
		body := fmt.Sprint(i)
		r.c2d("d1", body, func(m *store.Message) { m.Ack = "full" })
		r.must(device.IssueCredit(1))
		m := r.receive(device)
		if string(m.GetData()) != body {
			t.Errorf("%s, want %s", m.GetData(), body)
		}
		r.must(device.AcceptMessage(r.ctx(), m))
		r.must(feedback.IssueCredit(1))
		m = r.receive(feedback)
		if !strings.Contains(string(m.GetData()), `"originalMessageId":"`+body+`"`) {
			t.Errorf("feedback %s", m.GetData())
		}
		r.must(feedback.AcceptMessage(r.ctx(), m))
	}
}
