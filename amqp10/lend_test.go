package amqp10

import (
	"fmt"
	"slices"
	"testing"
)

// lender is a node on a link that lends: it notes what it is sent during Receive, when that is valid, and settles what it is told to.
type lender struct {
	*sink
	settle func(*Delivery)
	bodies []string
}

func (n *lender) Receive(_ *Link, d *Delivery) {
	n.peer.change(func() {
		n.bodies = append(n.bodies, fmt.Sprintf("%d:%s", d.id, d.Payload[5:]))
		n.peer.received = append(n.peer.received, d)
	})
	n.settle(d)
}

func lending(p *testPeer, settle func(*Delivery)) *lender {
	n := &lender{sink: &sink{peer: p}, settle: settle}
	p.attach = func(l *Link) (Node, *Error) {
		l.LendDeliveries()
		return n, nil
	}
	return n
}

// data is the one frame of a message whose body is text.
func data(id uint32, text string, more ...any) []byte {
	payload := append([]byte{0, 0x53, 0x75, 0xa0, byte(len(text))}, text...)
	return frp(0, descTransfer, payload, append([]any{uint32(0), id, []byte("tag"), nil}, more...)...)
}

// TestLentDeliveriesAreUsedAgain: of one frame or of several, settled by either side, each has its own payload while it is received.
func TestLentDeliveriesAreUsedAgain(t *testing.T) {
	p := newTestPeer()
	n := lending(p, (*Delivery).Accept)
	r := attached(t, Config{}, p, 0)
	r.send(data(0, "one"), data(1, "two"), data(2, "set", true), data(3, "thr", nil, true), last(0), data(4, "four"))
	wantFields(t, r.expect(descDisposition), true, uint32(0), uint32(1), true)
	wantFields(t, r.expect(descDisposition), true, uint32(3), uint32(4), true)
	if want := []string{"0:one", "1:two", "2:set", "3:thrb", "4:four"}; !slices.Equal(n.bodies, want) {
		t.Errorf("received %q, want %q", n.bodies, want)
	}
	for _, d := range p.received {
		if d != p.received[0] {
			t.Error("a delivery was allocated though one was free")
		}
	}
}

// TestOnlySettledDeliveriesAreUsedAgain: what the node, against its promise, has not settled yet, or the client is still to settle, stays
// what it is.
func TestOnlySettledDeliveriesAreUsedAgain(t *testing.T) {
	t.Run("not settled by the node", func(t *testing.T) {
		p := newTestPeer()
		lending(p, func(*Delivery) {})
		r := attached(t, Config{}, p, 0)
		r.send(data(0, "one"), data(1, "two"))
		r.sync()
		if p.received[0] == p.received[1] {
			t.Fatal("used again")
		}
		p.received[0].Accept()
		wantFields(t, r.expect(descDisposition), true, uint32(0), nil, true)
	})
	t.Run("not settled by the client", func(t *testing.T) {
		p := newTestPeer()
		lending(p, (*Delivery).Accept)
		r := attached(t, Config{}, p, 1)
		r.send(data(0, "one"), data(1, "two"))
		r.sync()
		if p.received[0] == p.received[1] {
			t.Error("used again")
		}
		r.send(fr(0, descDisposition, false, uint32(0), uint32(1), true))
		r.sync()
		if n := p.links[0].unsettled; n != 0 {
			t.Errorf("%d unsettled", n)
		}
	})
}
