package amqp10

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// receiving is a rawOpen client with a link it receives on, at handle 0; the session takes window frames.
func receiving(t testing.TB, cfg Config, p *testPeer, rcv uint8, window uint32) *rawClient {
	t.Helper()
	r := rawDial(t, cfg, p)
	r.send(amqpHeader, fr(0, descOpen, "raw", nil, uint32(512)), fr(0, descBegin, nil, uint32(0), window, uint32(1000)), attachReceiver("l", 0, rcv))
	r.header(0)
	for _, desc := range []uint64{descOpen, descBegin, descAttach} {
		r.expect(desc)
	}
	return r
}

// grant is a flow of the session and the link: the client has seen next transfers and count deliveries.
func grant(next, window, count, credit uint32, more ...any) []byte {
	return fr(0, descFlow, append([]any{next, window, uint32(0), uint32(1000), uint32(0), count, credit}, more...)...)
}

func queued(p *testPeer, n *source) *source {
	n.peer = p
	p.attach = func(*Link) (Node, *Error) { return n, nil }
	return n
}

// TestSendingFollowsCredit: available = the receiver's delivery-count + link-credit - ours (AMQP 2.6.7).
func TestSendingFollowsCredit(t *testing.T) {
	p := newTestPeer()
	n := queued(p, &source{queue: make([][]byte, 100)})
	r := receiving(t, Config{}, p, 0, 1000)
	r.expectQuiet() // nothing without credit
	if _, err := p.links[0].Send(nil, 0, nil, false); err != ErrNoCredit {
		t.Errorf("Send: %v", err)
	}
	r.send(fr(0, descFlow, nil, uint32(1000), uint32(0), uint32(1000), uint32(0), nil, uint32(2))) // it knows neither begin nor attach
	for id := range uint32(2) {
		wantFields(t, r.expect(descTransfer), uint32(0), id, append([]byte{0, byte(id)}, make([]byte, 14)...), uint32(0), false)
	}
	r.send(grant(0, 1000, 0, 3)) // it has not seen the two: one more
	r.expect(descTransfer)
	r.send(grant(3, 1000, 3, 0), grant(3, 1000, 2, 1), grant(3, 1000, 9, 1)) // none, and none: it claims to have seen what was never sent
	r.expectQuiet()
	r.send(grant(3, 1000, 3, 1))
	r.expect(descTransfer)
	p.wait(t, "flows", func() bool { return n.flows == 6 })
}

func TestEchoIsAnswered(t *testing.T) {
	p := newTestPeer()
	queued(p, &source{queue: make([][]byte, 1)})
	r := receiving(t, Config{}, p, 0, 1000)
	r.send(grant(0, 1000, 0, 5, nil, nil, true))
	r.expect(descTransfer)
	wantFields(t, r.expect(descFlow), uint32(0), uint32(5000), uint32(1), uint32(outgoingWindow), uint32(0), uint32(1), uint32(4))
	r.send(fr(0, descFlow, uint32(1), uint32(1000), uint32(0), uint32(1000), nil, nil, nil, nil, nil, true))
	wantFields(t, r.expect(descFlow), uint32(0), uint32(5000), uint32(1), uint32(outgoingWindow))
}

// TestDrain: what there is, then the credit is used up and the client told (AMQP 2.6.7).
func TestDrain(t *testing.T) {
	p := newTestPeer()
	queued(p, &source{queue: make([][]byte, 2)})
	r := receiving(t, Config{firstID: 1<<32 - 4}, p, 0, 1000)
	first := uint32(1<<32 - 4)
	r.send(grant(first, 1000, first, 10, nil, true))
	r.expect(descTransfer)
	r.expect(descTransfer)
	wantFields(t, r.expect(descFlow), uint32(0), uint32(5000), first+2, uint32(outgoingWindow), uint32(0), first+10, uint32(0), nil, true)
	r.send(grant(first, 1000, first+10, 0, nil, true)) // drained already: it is told so again
	wantFields(t, r.expect(descFlow), uint32(0), uint32(5000), first+2, uint32(outgoingWindow), uint32(0), first+10, uint32(0), nil, true)
	p.links[0].Drained() // nothing is pending
	r.expectQuiet()
}

// TestIncomingWindowHoldsTransfersBack: also in the middle of a delivery (AMQP 2.5.6).
func TestIncomingWindowHoldsTransfersBack(t *testing.T) {
	p := newTestPeer()
	big := bytes.Repeat([]byte("0123456789"), 120)
	n := queued(p, &source{queue: [][]byte{big, []byte("small")}})
	r := receiving(t, Config{}, p, 0, 1)
	r.send(grant(0, 1, 0, 10, nil, true))
	g := r.expect(descTransfer)
	if g.size != 512 || g.field(5) != true {
		t.Errorf("first frame has %d bytes and more=%v", g.size, g.field(5))
	}
	got := g.payload
	r.expectQuiet()
	if _, err := p.links[0].Send(nil, 0, nil, true); err != ErrBusy {
		t.Errorf("Send: %v", err)
	}
	r.send(grant(1, 1, 1, 9, nil, true))
	g = r.expect(descTransfer)
	wantFields(t, g, uint32(0), nil, nil, nil, nil, true)
	got = append(got, g.payload...)
	r.send(grant(2, 10, 1, 9, nil, true))
	g = r.expect(descTransfer)
	wantFields(t, g, uint32(0))
	if got = append(got, g.payload...); !bytes.Equal(got, big) {
		t.Errorf("payload of %d bytes, want %d", len(got), len(big))
	}
	if g := r.expect(descTransfer); string(g.payload) != "small" || g.field(1) != uint32(1) {
		t.Errorf("then %v %q", g.fields, g.payload)
	}
	if g := r.expect(descFlow); g.field(5) != uint32(10) || g.field(6) != uint32(0) || g.field(8) != true {
		t.Errorf("drained: %v", g.fields)
	}
	if n.busy == 0 {
		t.Error("Send never returned ErrBusy")
	}
}

// TestDetachInTheMiddleOfADelivery frees the session for others.
func TestDetachInTheMiddleOfADelivery(t *testing.T) {
	p := newTestPeer()
	queued(p, &source{queue: [][]byte{make([]byte, 2000), []byte("other link")}})
	r := receiving(t, Config{}, p, 0, 1)
	r.send(grant(0, 1, 0, 1))
	r.expect(descTransfer)
	r.send(attachReceiver("m", 1, 0), fr(0, descFlow, uint32(1), uint32(0), uint32(0), uint32(10), uint32(1), uint32(0), uint32(1)))
	r.expect(descAttach)
	p.links[0].Detach(nil)
	r.expect(descDetach)
	r.send(fr(0, descDetach, uint32(0), true), fr(0, descFlow, uint32(1), uint32(1), uint32(0), uint32(10)))
	if g := r.expect(descTransfer); string(g.payload) != "other link" || g.field(0) != uint32(1) || g.field(1) != uint32(1) {
		t.Errorf("transfer %v %q", g.fields, g.payload)
	}
}

func TestSendRefuses(t *testing.T) {
	p := newTestPeer()
	queued(p, &source{})
	r := rawOpen(t, Config{MaxUnsettledPerLink: 2}, p)
	r.send(fr(0, descAttach, "l", uint32(0), true, nil, nil, src("n"), nil, nil, nil, nil, uint64(10)), attachSender("s", 1), grant(0, 1000, 0, 100))
	r.sync()
	l, sender := p.links[0], p.links[1]
	if _, err := l.Send(nil, 0, make([]byte, 11), true); err != ErrTooLarge {
		t.Errorf("beyond max-message-size: %v", err)
	}
	if _, err := l.Send(make([]byte, 33), 0, nil, true); err != errTag {
		t.Errorf("long tag: %v", err)
	}
	if _, err := sender.Send(nil, 0, nil, true); err != ErrDetached {
		t.Errorf("on a link the client sends on: %v", err)
	}
	for i, want := range []error{nil, nil, ErrBusy} {
		if _, err := l.Send([]byte{byte(i)}, 0, nil, false); err != want {
			t.Errorf("unsettled %d: %v", i, err)
		}
	}
	if _, err := l.Send(nil, 0, nil, true); err != nil {
		t.Errorf("settled: %v", err)
	}
	l.Detach(nil)
	if _, err := l.Send(nil, 0, nil, true); err != ErrDetached {
		t.Errorf("after Detach: %v", err)
	}
}

// TestSenderSettleModeHasTheLastWord (AMQP 2.8.2).
func TestSenderSettleModeHasTheLastWord(t *testing.T) {
	for mode, want := range map[uint8][2]bool{0: {false, false}, 1: {true, true}, 2: {false, true}} {
		p := newTestPeer()
		queued(p, &source{})
		r := rawOpen(t, Config{}, p)
		r.send(fr(0, descAttach, "l", uint32(0), true, mode, nil, src("n")), grant(0, 1000, 0, 100))
		r.sync()
		for i, ask := range []bool{false, true} {
			p.links[0].Send([]byte("t"), 7, nil, ask)
			if g := r.expect(descTransfer); g.field(4) != want[i] || g.field(3) != uint32(7) {
				t.Errorf("mode %d, asked for %v: %v", mode, ask, g.fields)
			}
		}
	}
}

// TestDispositionsOfTheClient: ranges, a missing last, unknown ids, and the two settle modes (AMQP 2.7.6).
func TestDispositionsOfTheClient(t *testing.T) {
	p := newTestPeer()
	queued(p, &source{queue: make([][]byte, 10)})
	first := uint32(1<<32 - 5) // the ids wrap in the middle
	r := receiving(t, Config{firstID: first}, p, 0, 1000)
	r.send(grant(first, 1000, first, 10))
	for range 10 {
		r.expect(descTransfer)
	}
	released := Described{uint64(descReleased), List{}}
	modified := Described{uint64(descModified), List{true, true, Map{{Symbol("k"), "v"}}}}
	received := Described{uint64(descReceived), List{uint32(1), uint64(2)}}
	declared := Described{uint64(0x33), List{[]byte("tx")}}
	rejected := Described{uint64(descRejected), List{Described{uint64(descError), List{Symbol("c"), "why", Map{{Symbol("k"), "v"}}}}}}
	r.send(
		fr(0, descDisposition, true, first+1, nil, true, released),
		fr(0, descDisposition, true, first, first+2, true, modified), // the middle one is settled already
		fr(0, descDisposition, true, first+3, nil, false, received),
		fr(0, descDisposition, true, first+3, nil, nil, declared),
		fr(0, descDisposition, true, first-100, first+3, true),
		fr(0, descDisposition, true, first+20, first+40, true),
		fr(0, descDisposition, true, first+9, first+4, true), // a range backwards is empty
		fr(0, descDisposition, true, first+4, first+8, true, released),
		fr(0, descDisposition, true, first+9, first+1<<31-1, true, rejected),
	)
	r.expectQuiet()
	p.mu.Lock()
	defer p.mu.Unlock()
	want := []struct {
		id      uint32
		state   DeliveryState
		settled bool
	}{
		{1, Released{}, true}, {0, Modified{true, true, Map{{Symbol("k"), "v"}}}, true}, {2, Modified{true, true, Map{{Symbol("k"), "v"}}}, true},
		{3, Received{1, 2}, false}, {3, UnknownState{declared}, false}, {3, nil, true},
		{4, Released{}, true}, {5, Released{}, true}, {6, Released{}, true}, {7, Released{}, true}, {8, Released{}, true}, {9, Rejected{&Error{"c", "why", Map{{Symbol("k"), "v"}}}}, true},
	}
	if len(p.settled) != len(want) {
		t.Fatalf("%d settlements, want %d", len(p.settled), len(want))
	}
	for i, w := range want {
		e := p.settled[i]
		if e.id != first+w.id || e.settled != w.settled || !equalStates(e.state, w.state) || e.tag[1] != byte(w.id) {
			t.Errorf("settlement %d is %+v, want %+v", i, e, w)
		}
	}
	if l := p.links[0]; l.unsettled != 0 {
		t.Errorf("%d unsettled", l.unsettled)
	}
}

func equalStates(a, b DeliveryState) bool {
	var fa, fb fields
	fa.state(a, true)
	fb.state(b, true)
	return bytes.Equal(fa.b, fb.b)
}

// TestSettleAnswersReceiverSettleModeSecond: neighbours are answered together (AMQP 2.6.12).
func TestSettleAnswersReceiverSettleModeSecond(t *testing.T) {
	p := newTestPeer()
	queued(p, &source{queue: make([][]byte, 5), settle: true})
	r := receiving(t, Config{}, p, 1, 1000)
	r.send(grant(0, 1000, 0, 10))
	for range 5 {
		r.expect(descTransfer)
	}
	accepted := Described{uint64(descAccepted), List{}}
	r.send(fr(0, descDisposition, true, uint32(0), uint32(3), nil, accepted))
	wantFields(t, r.expect(descDisposition), false, uint32(0), uint32(3), true, accepted)
	p.links[0].Settle(4, Released{}) // unasked
	wantFields(t, r.expect(descDisposition), false, uint32(4), nil, true, Described{uint64(descReleased), List{}})
	p.links[0].Settle(4, Released{})
	r.send(fr(0, descDisposition, true, uint32(4), nil, true, accepted)) // crossed ours
	r.expectQuiet()
}

// TestSlowReaderOfEvents: output is bounded, and goes on when the client reads again.
func TestSlowReaderOfEvents(t *testing.T) {
	p := newTestPeer()
	n := queued(p, &source{settled: true})
	payload := []byte(strings.Repeat("e", 10000))
	for range 2000 {
		n.queue = append(n.queue, payload)
	}
	r := rawOpen(t, Config{MaxOutput: 100 << 10}, p)
	r.send(attachReceiver("l", 0, 0), grant(0, 1<<31-1, 0, 1<<31-1))
	r.expect(descAttach)
	p.wait(t, "ErrBusy", func() bool { return n.busy > 0 })
	c := p.conn
	c.mu.Lock()
	if got := c.pending(); got > 200<<10 {
		t.Errorf("%d bytes wait to be written", got)
	}
	c.mu.Unlock()
	for range 2000 {
		r.expect(descTransfer)
	}
	r.expectQuiet()
}

// TestLedger: against a map, whatever is entered and taken out in whatever order.
func TestLedger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Uint32().Draw(t, "first")
		var g ledger[int]
		model := map[uint32]int{}
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			near := id - uint32(rapid.IntRange(0, 40).Draw(t, "back"))
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				id += uint32(rapid.IntRange(1, 3).Draw(t, "gap"))
				if !g.add(id, i) {
					t.Fatalf("add(%d) refused", id)
				}
				model[id] = i
				if g.add(id, i) || g.add(id-1, i) {
					t.Fatalf("an id not after %d was accepted", id)
				}
			case 2:
				_, ok := model[near]
				if v := g.get(near); (v != nil) != ok || ok && *v != model[near] {
					t.Fatalf("get(%d) = %v, want %v", near, v, model[near])
				}
				if g.remove(near) != ok {
					t.Fatalf("remove(%d) != %v", near, ok)
				}
				delete(model, near)
			case 3:
				last, prev := near+uint32(rapid.IntRange(0, 10).Draw(t, "length")), near-1
				g.removeIf(near, last, func(id uint32, v *int) bool {
					if w, ok := model[id]; !ok || w != *v || int32(id-prev) <= 0 || int32(id-last) > 0 {
						t.Fatalf("visited %d after %d with %d, want %d", id, prev, *v, w)
					}
					prev = id
					if id%2 == 0 {
						delete(model, id)
					}
					return id%2 == 0
				})
			}
			if g.live != len(model) || len(g.entries) > 4*len(model)+200 {
				t.Fatalf("%d live of %d, want %d", g.live, len(g.entries), len(model))
			}
		}
	})
}
