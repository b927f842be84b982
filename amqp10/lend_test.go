package amqp10

import (
	"fmt"
	"slices"
	"strings"
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

// gatherer is a node that puts off what it is sent, and notes what is called.
type gatherer struct {
	*sink
	put   []*Delivery
	calls *[]string
}

func (n *gatherer) Receive(l *Link, d *Delivery) {
	n.put = append(n.put, d)
	*n.calls = append(*n.calls, l.Name()+string(d.Payload[5:]))
}

func (n *gatherer) Gathered(l *Link) {
	call := l.Name() + "="
	for _, d := range n.put {
		call += string(d.Payload[5:])
		d.Accept()
	}
	n.put = nil
	*n.calls = append(*n.calls, call)
}

func (n *gatherer) Detached(l *Link, err *Error) {
	*n.calls = append(*n.calls, l.Name()+" over")
	n.sink.Detached(l, err)
}

// TestDeliveriesAreGathered: those of one link that are read together, sixteen at most, and before anything else happens.
func TestDeliveriesAreGathered(t *testing.T) {
	p := newTestPeer()
	var calls []string
	p.attach = func(l *Link) (Node, *Error) {
		l.LendDeliveries()
		return &gatherer{sink: &sink{peer: p}, calls: &calls}, nil
	}
	r := attached(t, Config{}, p, 0)
	r.send(attachSender("m", 1))
	r.expect(descAttach)
	r.expect(descFlow)
	onM := func(id uint32, text string) []byte {
		return frp(0, descTransfer, append([]byte{0, 0x53, 0x75, 0xa0, byte(len(text))}, text...), uint32(1), id, []byte("tag"))
	}
	parts := [][]byte{
		data(0, "a"), data(1, "b", true), // the second is settled by the client
		onM(2, "c"), data(3, "d"), // another link's turn
		data(4, "e", nil, true), last(0), data(5, "f"), // one of two frames
		fr(0, descDetach, uint32(1), true), // of the other link
	}
	for id := range uint32(17) {
		parts = append(parts, data(6+id, "x"))
	}
	r.send(append(parts, fr(0, descDetach, uint32(0), true))...)
	p.wait(t, "both links over", func() bool { return len(p.detached) == 2 })
	r.sync()
	want := []string{"la", "lb", "l=ab", "mc", "m=c", "ld", "l=d", "leb", "lf", "l=ebf", "m over"}
	for range 16 {
		want = append(want, "lx")
	}
	want = append(want, "l="+strings.Repeat("x", 16), "lx", "l=x", "l over")
	if !slices.Equal(calls, want) {
		t.Errorf("calls %q,\nwant  %q", calls, want)
	}
}

// TestGatheredDeliveriesAreSettledBeforeTheReaderWaits: for the client may wait for their outcomes.
func TestGatheredDeliveriesAreSettledBeforeTheReaderWaits(t *testing.T) {
	p := newTestPeer()
	p.attach = func(l *Link) (Node, *Error) {
		l.LendDeliveries()
		return &gatherer{sink: &sink{peer: p}, calls: new([]string)}, nil
	}
	r := attached(t, Config{}, p, 0)
	r.send(data(0, "a"), data(1, "b"))
	wantFields(t, r.expect(descDisposition), true, uint32(0), uint32(1), true)
}

// TestGatheredDeliveriesOfALinkThatEndedAreForgotten: of a link that we end meanwhile; the node learns only of its end.
func TestGatheredDeliveriesOfALinkThatEndedAreForgotten(t *testing.T) {
	p := newTestPeer()
	var calls []string
	p.attach = func(l *Link) (Node, *Error) {
		l.LendDeliveries()
		return &detaching{gatherer{sink: &sink{peer: p}, calls: &calls}}, nil
	}
	r := attached(t, Config{}, p, 0)
	r.send(data(0, "a"), data(1, "b"))
	r.expect(descDetach)
	p.wait(t, "the link is over", func() bool { return len(p.detached) == 1 })
	if want := []string{"la", "l over"}; !slices.Equal(calls, want) {
		t.Errorf("calls %q, want %q", calls, want)
	}
}

// detaching ends its link when it is sent something.
type detaching struct{ gatherer }

func (n *detaching) Receive(l *Link, d *Delivery) {
	n.gatherer.Receive(l, d)
	l.Detach(nil)
}
