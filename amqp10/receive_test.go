package amqp10

import (
	"bytes"
	"fmt"
	"math/rand"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// attached is a rawOpen client with a link it sends on, at handle 0, and the first credit seen.
func attached(t testing.TB, cfg Config, p *testPeer, rcv uint8) *rawClient {
	t.Helper()
	r := rawOpen(t, cfg, p)
	r.send(fr(0, descAttach, "l", uint32(0), false, nil, rcv, src("client"), tgt("node"), nil, nil, cfg.firstID))
	r.expect(descAttach)
	r.expect(descFlow)
	return r
}

// more sends the first frame of a message; last the rest of it.
func more(handle, id uint32) []byte {
	return frp(0, descTransfer, []byte("\x00\x53\x75\xa0\x02a"), handle, id, []byte("tag"), nil, nil, true)
}

func last(handle uint32, fields ...any) []byte {
	return frp(0, descTransfer, []byte("b"), append([]any{handle}, fields...)...)
}

func bodies(t testing.TB, ds []*Delivery) []string {
	var out []string
	for _, d := range ds {
		var m Message
		if err := m.Decode(d.Payload, Limits{}); err != nil {
			t.Fatal(err)
		}
		out = append(out, string(m.Data[0]))
	}
	return out
}

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes atomic.Int32
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// TestAcknowledgementsLeaveTogether: what arrives together is acknowledged in one disposition, in one write.
func TestAcknowledgementsLeaveTogether(t *testing.T) {
	p := newTestPeer()
	clientEnd, serverEnd := net.Pipe()
	counting := &countingConn{Conn: serverEnd}
	serveOn(t, Config{}, p, clientEnd, counting)
	r := &rawClient{t: t, nc: clientEnd}
	r.send(amqpHeader, fr(0, descOpen, "raw"), begin(0), attachSender("l", 0))
	r.header(0)
	r.expect(descOpen)
	r.expect(descBegin)
	r.expect(descAttach)
	r.expect(descFlow)
	if n := counting.writes.Load(); n != 1 {
		t.Errorf("%d writes to open, want 1", n)
	}
	var burst []byte
	for id := range uint32(20) {
		burst = append(burst, transfer(0, id)...)
	}
	r.send(burst)
	wantFields(t, r.expect(descDisposition), true, uint32(0), uint32(19), true, Described{uint64(descAccepted), List{}})
	if n := counting.writes.Load(); n != 2 {
		t.Errorf("%d writes, want one for all", n-1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.received) != 20 {
		t.Errorf("%d received", len(p.received))
	}
}

// TestOutcomesSplitRanges: a disposition names only deliveries that share its outcome.
func TestOutcomesSplitRanges(t *testing.T) {
	p := newTestPeer()
	p.attach = func(*Link) (Node, *Error) {
		return &sink{peer: p, handle: func(d *Delivery) {
			switch d.id {
			case 3:
				d.Release()
			case 4:
				d.Reject(&Error{Condition: "c"})
			default:
				d.Accept()
			}
			d.Accept() // the second outcome does not count
		}}, nil
	}
	r := attached(t, Config{}, p, 0)
	var burst []byte
	for id := range uint32(7) {
		burst = append(burst, transfer(0, id)...)
	}
	r.send(burst)
	accepted := Described{uint64(descAccepted), List{}}
	wantFields(t, r.expect(descDisposition), true, uint32(0), uint32(2), true, accepted)
	wantFields(t, r.expect(descDisposition), true, uint32(3), nil, true, Described{uint64(descReleased), List{}})
	g := r.expect(descDisposition)
	wantFields(t, g, true, uint32(4), nil, true)
	if st := g.field(4).(Described); st.Descriptor != uint64(descRejected) {
		t.Errorf("outcome %v", st)
	}
	wantFields(t, r.expect(descDisposition), true, uint32(5), uint32(6), true, accepted)
	r.expectQuiet()
}

func TestReceivingTraps(t *testing.T) {
	flowCredit := func(n uint32) func(*testing.T, *rawClient, *testPeer) {
		return func(t *testing.T, r *rawClient, p *testPeer) {
			if got := p.links[0].Credit(); got != n {
				t.Errorf("credit is %d, want %d", got, n)
			}
		}
	}
	tests := map[string]struct {
		send   [][]byte
		bodies []string
		check  func(*testing.T, *rawClient, *testPeer)
	}{
		"continuation carries only the handle": {[][]byte{more(0, 0), last(0)}, []string{"ab"}, nil},
		"aborted in its middle":                {[][]byte{more(0, 0), last(0, nil, nil, nil, nil, nil, nil, nil, nil, true), transfer(0, 1)}, []string{"x"}, flowCredit(248)},
		"aborted at once":                      {[][]byte{transfer(0, 0, nil, nil, nil, nil, nil, nil, true), transfer(0, 1)}, []string{"x"}, flowCredit(248)},
		"settled only on the last frame":       {[][]byte{more(0, 0), last(0, nil, nil, nil, true)}, []string{"ab"}, nil},
		"settled only on the first frame":      {[][]byte{frp(0, descTransfer, []byte("\x00\x53\x75\xa0\x02a"), uint32(0), uint32(0), []byte("t"), nil, true, true), last(0)}, []string{"ab"}, nil},
		"empty frames":                         {[][]byte{frp(0, descTransfer, nil, uint32(0), uint32(0), []byte("t"), nil, nil, true), frp(0, descTransfer, nil, uint32(0), nil, nil, nil, nil, true), transfer(0, 0)}, []string{"x"}, nil},
		"ids may have gaps":                    {[][]byte{transfer(0, 10), transfer(0, 1<<30)}, []string{"x", "x"}, flowCredit(248)},
		"interleaved links":                    {[][]byte{attachSender("m", 1), more(0, 0), more(1, 1), transfer(1, 1), last(0)}, nil, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := newTestPeer()
			r := attached(t, Config{}, p, 0)
			if name == "interleaved links" {
				r.send(tt.send[0])
				r.sync()
				r.send(more(0, 0), more(1, 1), last(0), last(1))
				tt.bodies = []string{"ab", "ab"}
			} else {
				r.send(tt.send...)
			}
			before := r.sync()
			p.mu.Lock()
			defer p.mu.Unlock()
			if got := bodies(t, p.received); fmt.Sprint(got) != fmt.Sprint(tt.bodies) {
				t.Errorf("received %q, want %q", got, tt.bodies)
			}
			for _, d := range p.received {
				if d.Settled() {
					for _, g := range before {
						if g.desc == descDisposition {
							t.Errorf("a settled delivery was answered by %v", g.fields)
						}
					}
				}
			}
			c := p.conn
			c.mu.Lock()
			if c.partial != 0 || p.links[0].unsettled != 0 || p.links[0].partial != nil {
				t.Errorf("left over: %d bytes, %d unsettled", c.partial, p.links[0].unsettled)
			}
			c.mu.Unlock()
			if tt.check != nil {
				tt.check(t, r, p)
			}
		})
	}
}

// TestReceiverSettlesSecond: our outcome goes unsettled, and the client's settlement ends the delivery (AMQP 2.6.12).
func TestReceiverSettlesSecond(t *testing.T) {
	p := newTestPeer()
	r := attached(t, Config{}, p, 1)
	r.send(transfer(0, 0), transfer(0, 1), transfer(0, 2, nil, nil, nil, uint8(0))) // the last overrides the link's mode
	accepted := Described{uint64(descAccepted), List{}}
	wantFields(t, r.expect(descDisposition), true, uint32(0), uint32(1), nil, accepted)
	wantFields(t, r.expect(descDisposition), true, uint32(2), nil, true, accepted)
	unsettled := func() int {
		p.conn.mu.Lock()
		defer p.conn.mu.Unlock()
		return p.links[0].unsettled
	}
	if n := unsettled(); n != 2 {
		t.Errorf("%d unsettled before the client settled", n)
	}
	r.send(fr(0, descDisposition, false, uint32(0), uint32(1<<32-1), true)) // all there may ever be
	r.expectQuiet()
	if n := unsettled(); n != 2 {
		t.Errorf("%d unsettled: a range of that length is behind the deliveries, not around them", n)
	}
	r.send(fr(0, descDisposition, false, uint32(0), uint32(1<<31-1), true))
	r.expectQuiet()
	if n := unsettled(); n != 0 {
		t.Errorf("%d unsettled after the client settled", n)
	}
}

func TestTooLargeMessageIsRejected(t *testing.T) {
	p := newTestPeer()
	r := attached(t, Config{MaxMessageSize: 10}, p, 0)
	big := make([]byte, 8)
	first := frp(0, descTransfer, big, uint32(0), uint32(0), []byte("t"), nil, nil, true)
	r.send(first, frp(0, descTransfer, big, uint32(0), nil, nil, nil, nil, true), frp(0, descTransfer, big, uint32(0)), transfer(0, 1))
	g := r.expect(descDisposition)
	wantFields(t, g, true, uint32(0), nil, true)
	if rejected := g.field(4).(Described); rejected.Descriptor != uint64(descRejected) ||
		rejected.Value.(List)[0].(Described).Value.(List)[0] != CondMessageSizeExceeded {
		t.Errorf("outcome %v", rejected)
	}
	wantFields(t, r.expect(descDisposition), true, uint32(1), nil, true)
	r.send(frp(0, descTransfer, make([]byte, 11), uint32(0), uint32(2), []byte("t"), nil, true)) // settled: it hears of no outcome
	r.expectError(descDetach, 2, CondMessageSizeExceeded)
	p.wait(t, "Detached", func() bool { return len(p.received) == 1 && len(p.detached) == 1 })
}

func TestUnfinishedMessagesAreBounded(t *testing.T) {
	r := attached(t, Config{MaxPartialBytes: 100}, newTestPeer(), 0)
	r.send(frp(0, descTransfer, make([]byte, 99), uint32(0), uint32(0), []byte("t"), nil, nil, true))
	r.expectQuiet()
	r.send(frp(0, descTransfer, make([]byte, 2), uint32(0), nil, nil, nil, nil, true))
	r.expectError(descClose, 0, CondResourceLimitExceeded)
}

func TestTransferWithoutCreditDetaches(t *testing.T) {
	p := newTestPeer()
	p.attach = func(l *Link) (Node, *Error) {
		l.SetCreditWindow(2)
		return &sink{peer: p}, nil
	}
	r := attached(t, Config{MaxUnsettledPerLink: 2}, p, 0)
	r.send(transfer(0, 0), transfer(0, 1))
	r.expectQuiet() // no credit comes while both are unsettled
	p.mu.Lock()
	d := p.received[0]
	p.mu.Unlock()
	d.Accept()
	r.expect(descDisposition)
	g := r.expect(descFlow)
	if g.field(4) != uint32(0) || g.field(5) != uint32(2) || g.field(6) != uint32(1) {
		t.Errorf("flow %v, want one credit", g.fields)
	}
	r.send(transfer(0, 2), transfer(0, 3))
	r.expectError(descDetach, 2, CondTransferLimitExceeded)
	p.received[1].Accept() // of a link that is gone: nothing
	r.expectQuiet()
}

func TestCreditIsToppedUpAtHalf(t *testing.T) {
	p := newTestPeer()
	r := attached(t, Config{CreditWindow: 10}, p, 0)
	for id := range uint32(5) {
		r.send(transfer(0, id))
		r.expect(descDisposition)
	}
	wantFields(t, r.expect(descFlow), uint32(5), uint32(5000), uint32(0), uint32(outgoingWindow), uint32(0), uint32(5), uint32(10))
	p.links[0].SetCreditWindow(0)
	for id := range uint32(10) {
		r.send(transfer(0, 5+id))
		r.expect(descDisposition)
	}
	if got := p.links[0].Credit(); got != 0 {
		t.Errorf("credit %d with a window of 0", got)
	}
	p.links[0].SetCreditWindow(3)
	wantFields(t, r.expect(descFlow), uint32(15), uint32(5000), uint32(0), uint32(outgoingWindow), uint32(0), uint32(15), uint32(3))
	// A sender may use up credit without sending.
	r.send(fr(0, descFlow, uint32(0), uint32(10), uint32(0), uint32(10), uint32(0), uint32(17), uint32(1)))
	wantFields(t, r.expect(descFlow), uint32(15), uint32(5000), uint32(0), uint32(outgoingWindow), uint32(0), uint32(17), uint32(3))
}

// TestSessionWindow counts frames, not messages, and is opened again before it is empty (AMQP 2.5.6).
func TestSessionWindow(t *testing.T) {
	p := newTestPeer()
	r := attached(t, Config{IncomingWindow: 4}, p, 0)
	r.send(more(0, 0))
	r.send(last(0))
	r.expect(descDisposition)
	wantFields(t, r.expect(descFlow), uint32(2), uint32(4))
}

func TestSessionWindowViolation(t *testing.T) {
	// Over a pipe the engine cannot open the window a second time before the client has read the first flow.
	r := &rawClient{t: t, nc: servePipe(t, Config{IncomingWindow: 4}, newTestPeer())}
	r.send(amqpHeader, fr(0, descOpen, "raw"), begin(0), attachSender("l", 0))
	r.header(0)
	for _, desc := range []uint64{descOpen, descBegin, descAttach, descFlow} {
		r.expect(desc)
	}
	r.send(bytes.Repeat(frp(0, descTransfer, []byte("x"), uint32(0), uint32(9), []byte("t"), nil, nil, true), 9))
	for {
		g, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if g.desc == descEnd {
			if e := g.field(0).(Described).Value.(List); e[0] != CondWindowViolation {
				t.Errorf("ended with %v", e)
			}
			return
		}
	}
}

func TestSerialNumbersWrap(t *testing.T) {
	p := newTestPeer()
	cfg := Config{firstID: 1<<32 - 3, CreditWindow: 4}
	r := rawDial(t, cfg, p)
	first := uint32(1<<32 - 3)
	r.send(amqpHeader, fr(0, descOpen, "raw"), fr(0, descBegin, nil, first, uint32(1000), uint32(1000)),
		fr(0, descAttach, "l", uint32(0), false, nil, nil, nil, tgt("n"), nil, nil, first))
	r.header(0)
	for _, desc := range []uint64{descOpen, descBegin, descAttach} {
		r.expect(desc)
	}
	wantFields(t, r.expect(descFlow), first, uint32(5000), first, uint32(outgoingWindow), uint32(0), first, uint32(4))
	for i := range uint32(8) {
		r.send(transfer(0, first+i))
		wantFields(t, r.expect(descDisposition), true, first+i)
		if i%2 == 1 {
			wantFields(t, r.expect(descFlow), first+i+1, uint32(5000), first, uint32(outgoingWindow), uint32(0), first+i+1, uint32(4))
		}
	}
}

// TestSettlingFromManyGoroutines: each delivery is settled exactly once whoever does it, in whatever order.
func TestSettlingFromManyGoroutines(t *testing.T) {
	const n = 2000
	p := newTestPeer()
	var wg sync.WaitGroup
	p.attach = func(l *Link) (Node, *Error) {
		l.SetCreditWindow(n)
		return &sink{peer: p}, nil
	}
	r := attached(t, Config{}, p, 0)
	var burst []byte
	for id := range uint32(n) {
		burst = append(burst, transfer(0, id)...)
	}
	r.send(burst)
	p.wait(t, "all", func() bool { return len(p.received) == n })
	ds := append([]*Delivery(nil), p.received...)
	rand.Shuffle(n, func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
	for part := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for _, d := range ds[part*n/4 : (part+1)*n/4] {
				d.Accept()
			}
		}()
	}
	seen := map[uint32]bool{}
	for len(seen) < n {
		g, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if g.desc != descDisposition {
			continue
		}
		first := g.field(1).(uint32)
		end, ok := g.field(2).(uint32)
		if !ok {
			end = first
		}
		for id := first; id <= end; id++ {
			if seen[id] {
				t.Fatalf("%d settled twice", id)
			}
			seen[id] = true
		}
	}
	wg.Wait()
}
