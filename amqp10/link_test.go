package amqp10

import (
	"fmt"
	"strings"
	"testing"
)

func TestAttachEchoesTerminiAndModes(t *testing.T) {
	filter := Described{uint64(descSource), List{
		"node", nil, nil, nil, nil, nil, nil,
		Map{{Symbol("apache.org:selector-filter:string"), Described{uint64(0x468C00000004), "amqp.annotation.x-opt-offset > '-1'"}}},
		Described{uint64(descReleased), List{}}, []Symbol{"amqp:accepted:list"}, Symbol("one"),
	}}
	p := newTestPeer()
	p.attach = func(l *Link) (Node, *Error) {
		l.SetMaxMessageSize(4096)
		l.SetOfferedCapabilities("cap")
		l.SetProperties(Map{{Symbol("p"), "v"}})
		return &source{peer: p}, nil
	}
	r := rawOpen(t, Config{firstID: 9}, p)
	r.send(fr(0, descAttach, "l", uint32(2), true, uint8(1), uint8(1), filter, nil, nil, nil, nil, uint64(100), nil, Symbol("wish"),
		Map{{Symbol("com.microsoft:client-version"), "test"}}))
	wantFields(t, r.expect(descAttach), "l", uint32(2), false, uint8(1), uint8(1), filter, nil, nil, nil, uint32(9), uint64(4096),
		[]Symbol{"cap"}, nil, Map{{Symbol("p"), "v"}})
	l := p.links[0]
	if l.Name() != "l" || l.Role() != RoleSender || l.Address() != "node" || l.PeerMaxMessageSize() != 100 || l.Target() != nil ||
		l.SndSettleMode() != SndSettled || l.RcvSettleMode() != RcvSecond || l.DesiredCapabilities()[0] != "wish" ||
		l.Properties().Text("com.microsoft:client-version") != "test" || l.Source().Outcomes[0] != "amqp:accepted:list" ||
		l.Source().Capabilities[0] != "one" || l.Source().DefaultOutcome != (Released{}) {
		t.Errorf("link is %+v", l)
	}
	if f, ok := l.Source().Filter.Get("apache.org:selector-filter:string").(Described); !ok || f.Value != "amqp.annotation.x-opt-offset > '-1'" {
		t.Errorf("filter is %v", l.Source().Filter)
	}
}

func TestAttachAnswersWithOwnTermini(t *testing.T) {
	p := newTestPeer()
	p.attach = func(l *Link) (Node, *Error) {
		l.SetSource(&Source{Address: "mine"})
		l.SetTarget(&Target{Address: "yours", Timeout: 5})
		return &source{peer: p}, nil
	}
	r := rawOpen(t, Config{}, p)
	r.send(attachReceiver("l", 0, 0))
	wantFields(t, r.expect(descAttach), "l", uint32(0), false, uint8(2), uint8(0), src("mine"),
		Described{uint64(descTarget), List{"yours", nil, nil, uint32(5)}})
}

// TestRefusal: attach with the terminus at our end null, then detach with the error (AMQP 2.6.3).
func TestRefusal(t *testing.T) {
	p := newTestPeer()
	p.attach = func(*Link) (Node, *Error) { return nil, &Error{Condition: CondNotFound} }
	r := rawOpen(t, Config{}, p)
	r.send(attachSender("a", 4))
	g := r.expect(descAttach)
	if g.field(5) == nil || g.field(6) != nil {
		t.Errorf("refused sender: source %v, target %v", g.field(5), g.field(6))
	}
	if g := r.expectError(descDetach, 2, CondNotFound); g.field(0) != uint32(4) || g.field(1) != true {
		t.Errorf("detach is %v", g.fields)
	}
	r.send(transfer(4, 0), credit(4, 0, 5), fr(0, descDetach, uint32(4), true)) // sent before the refusal was read
	r.send(attachReceiver("b", 4, 0))
	g = r.expect(descAttach)
	if g.field(5) != nil || g.field(6) == nil || g.field(9) != uint32(0) {
		t.Errorf("refused receiver: %v", g.fields)
	}
	r.expectError(descDetach, 2, CondNotFound)
	r.expectQuiet()
}

func TestUnknownTerminusIsNotImplemented(t *testing.T) {
	r := rawOpen(t, Config{}, newTestPeer())
	coordinator := Described{uint64(0x30), List{Symbol("amqp:local-transactions")}}
	r.send(fr(0, descAttach, "tx", uint32(0), false, nil, nil, src("s"), coordinator, nil, nil, uint32(0)))
	r.expect(descAttach)
	r.expectError(descDetach, 2, CondNotImplemented)
}

// TestMalformedTerminusHurtsOnlyItsLink: many devices may share a connection.
func TestMalformedTerminusHurtsOnlyItsLink(t *testing.T) {
	r := rawOpen(t, Config{}, newTestPeer())
	r.send(fr(0, descAttach, "bad", uint32(0), false, nil, nil, nil, Described{uint64(descTarget), List{List{}}}, nil, nil, uint32(0)))
	r.expect(descAttach)
	r.expectError(descDetach, 2, CondDecodeError)
	r.expectQuiet()
}

func TestNodeMustFitTheRole(t *testing.T) {
	p := newTestPeer()
	p.attach = func(*Link) (Node, *Error) { return &sink{peer: p}, nil }
	r := rawOpen(t, Config{}, p)
	r.send(attachReceiver("l", 0, 0))
	r.expect(descAttach)
	r.expectError(descDetach, 2, CondNotAllowed)
}

// TestDetachIsAnsweredAlike: closed=false could be resumed; what we answer must match (AMQP 2.6.5).
func TestDetachIsAnsweredAlike(t *testing.T) {
	p := newTestPeer()
	r := rawOpen(t, Config{}, p)
	for i, closed := range []any{nil, true} {
		for range 2 { // the same name and handle can be attached again
			r.send(attachReceiver("l", 1, 0))
			wantFields(t, r.expect(descAttach), "l", uint32(1))
			r.send(fr(0, descDetach, uint32(1), closed, Described{uint64(descError), List{Symbol("my:reason")}}))
			if g := r.expect(descDetach); g.field(0) != uint32(1) || g.field(1) != closed || g.field(2) != nil {
				t.Errorf("case %d: detach is %v", i, g.fields)
			}
		}
	}
	r.expectQuiet()
	p.wait(t, "Detached", func() bool { return len(p.detached) == 4 })
	for _, err := range p.detached {
		if err == nil || err.Condition != "my:reason" {
			t.Errorf("Detached got %v", err)
		}
	}
}

// TestLinkNames: unique per session and role only (AMQP 2.6.1); a newer link of the same takes the older one's place.
func TestLinkNames(t *testing.T) {
	p := newTestPeer()
	r := rawOpen(t, Config{}, p)
	r.send(attachReceiver("same", 0, 0), attachSender("same", 1), begin(5), fr(5, descAttach, "same", uint32(0), true))
	for range 2 {
		r.expect(descAttach)
	}
	r.sync()
	if len(p.detached) != 0 {
		t.Fatalf("detached: %v", p.detached)
	}
	r.send(attachReceiver("same", 7, 0))
	if g := r.expectError(descDetach, 2, CondStolen); g.channel != 0 || g.field(0) != uint32(0) {
		t.Errorf("channel %d, %v", g.channel, g.fields)
	}
	wantFields(t, r.expect(descAttach), "same", uint32(7))
	p.wait(t, "Detached", func() bool { return len(p.detached) == 1 })
}

func TestOwnNumbersAreOurs(t *testing.T) {
	r := rawDial(t, Config{}, newTestPeer())
	// The client may number as it likes; it takes only channel 0 and 1 and handle 0 and 1 from us.
	r.send(amqpHeader, fr(0, descOpen, "raw", nil, nil, uint16(1)))
	r.header(0)
	r.expect(descOpen)
	for i, channel := range []uint16{300, 8191} {
		r.send(fr(channel, descBegin, nil, uint32(0), uint32(10), uint32(10), uint32(1)))
		g := r.expect(descBegin)
		if g.channel != uint16(i) || g.field(0) != channel {
			t.Errorf("begin on %d for %v", g.channel, g.field(0))
		}
		for j, handle := range []uint32{1000, 77} {
			r.send(fr(channel, descAttach, fmt.Sprint(handle), handle, true))
			if g := r.expect(descAttach); g.channel != uint16(i) || g.field(1) != uint32(j) {
				t.Errorf("attach on %d with handle %v", g.channel, g.field(1))
			}
		}
		r.send(fr(channel, descAttach, "one more", uint32(5), true))
		r.expectError(descEnd, 0, CondResourceLimitExceeded)
	}
	r.send(begin(9))
	r.expectError(descClose, 0, CondResourceLimitExceeded)
}

func TestLimitsOnSessionsAndLinks(t *testing.T) {
	p := newTestPeer()
	r := rawOpen(t, Config{MaxSessions: 2, MaxLinksPerSession: 2, MaxLinks: 3}, p)
	attach := func(channel uint16, handle uint32) []byte {
		return fr(channel, descAttach, fmt.Sprint(handle), handle, true, nil, nil, src("x"))
	}
	r.send(begin(1), begin(2), attach(0, 0), attach(0, 1), attach(0, 2), attach(1, 0))
	r.expect(descBegin)
	r.expect(descBegin)
	r.expectError(descEnd, 0, CondResourceLimitExceeded)
	for range 2 {
		r.expect(descAttach)
	}
	r.expect(descAttach)
	r.expectError(descDetach, 2, CondResourceLimitExceeded)
	r.send(fr(2, descEnd), fr(0, descDetach, uint32(2), true))
	r.expect(descAttach)
	r.sync()
	r.send(attach(1, 1))
	r.expect(descAttach)
	r.expectError(descDetach, 2, CondResourceLimitExceeded)
	r.send(fr(1, descDetach, uint32(1), true), fr(1, descEnd))
	r.expect(descEnd)
	r.send(begin(1), attach(1, 0)) // the ended session's link is counted no more
	r.expect(descBegin)
	r.expect(descAttach)
	r.sync()
}

// TestSmallFrames: nothing we send is larger than the client's max-frame-size (AMQP 2.7.1).
func TestSmallFrames(t *testing.T) {
	long := strings.Repeat("ä", 400)
	p := newTestPeer()
	p.attach = func(l *Link) (Node, *Error) {
		switch l.Name() {
		case "properties":
			l.SetProperties(Map{{Symbol("p"), long}})
		case "refused":
			return nil, &Error{"c", long, Map{{Symbol("k"), long}}}
		}
		return &source{peer: p}, nil
	}
	r := rawDial(t, Config{}, p)
	r.send(amqpHeader, fr(0, descOpen, "raw", nil, uint32(512)), begin(0), attachReceiver("properties", 0, 0), attachReceiver("refused", 1, 0))
	r.header(0)
	r.expect(descOpen)
	r.expect(descBegin)
	r.expect(descAttach)
	r.expectError(descDetach, 2, CondFrameSizeTooSmall)
	r.expect(descAttach)
	if g := r.expectError(descDetach, 2, "c"); g.size > 512 {
		t.Errorf("detach of %d bytes", g.size)
	}
	r.send(fr(0, descDetach, uint32(0)), attachReceiver(strings.Repeat("n", 500), 0, 0))
	if g := r.expect(descEnd); g.size > 512 {
		t.Errorf("end of %d bytes", g.size)
	}
	p.wait(t, "Detached of the node that was found", func() bool { return len(p.detached) == 2 })
}

// TestLenience: symbolic descriptors are as good as numbers, and fields we do not know are skipped (AMQP 1.4, 1.5).
func TestLenience(t *testing.T) {
	r := rawDial(t, Config{}, newTestPeer())
	symbolic := func(name Symbol, fields ...any) []byte {
		b, start := openFrame(nil, frameAMQP, 0)
		b, _ = AppendValue(b, Described{name, List(fields)})
		return closeFrame(b, start)
	}
	extended := fr(0, descBegin, nil, int32(0), uint64(10), int64(10), nil, nil, nil, nil, "from", List{"the"}, "future")
	extended = append(extended[:8:8], append([]byte("more"), extended[8:]...)...) // an extended header is skipped
	extended[3] += 4
	extended[4] = 3
	r.send(amqpHeader, symbolic("amqp:open:list", "raw"), extended, []byte{0, 0, 0, 8, 2, 0, 0, 0})
	r.header(0)
	r.expect(descOpen)
	r.expect(descBegin)
	r.send(symbolic("amqp:attach:list", "l", uint64(0), true, nil, nil, Described{Symbol("amqp:source:list"), List{Symbol("addr")}}))
	if g := r.expect(descAttach); g.field(5) == nil {
		t.Errorf("attach %v", g.fields)
	}
	r.expectQuiet()
}

// TestPerformativesAreWrittenInFull: pyamqp (azure-eventhub) takes their fields, and the payload of a transfer, by index.
func TestPerformativesAreWrittenInFull(t *testing.T) {
	want := map[uint64]int{
		descOpen: 10, descBegin: 8, descAttach: 14, descFlow: 11, descTransfer: 11, descDisposition: 6, descDetach: 3, descEnd: 1, descClose: 1,
	}
	p := newTestPeer()
	p.attach = func(l *Link) (Node, *Error) {
		if l.Role() == RoleReceiver {
			return &sink{peer: p, handle: (*Delivery).Accept}, nil
		}
		return &source{peer: p, queue: [][]byte{make([]byte, 600)}}, nil
	}
	r := rawDial(t, Config{}, p)
	r.send(amqpHeader, fr(0, descOpen, "raw", nil, uint32(512)), begin(0), attachSender("s", 0), attachReceiver("r", 1, 0))
	r.send(fr(0, descFlow, uint32(0), uint32(1000), uint32(0), uint32(1000), uint32(1), uint32(0), uint32(1)))
	r.header(0)
	seen := map[uint64]bool{}
	for len(seen) < len(want) {
		g, err := r.next()
		if err != nil {
			t.Fatalf("after %v: %v", seen, err)
		}
		if len(g.fields) != want[g.desc] {
			t.Errorf("0x%02x has %d fields, want %d", g.desc, len(g.fields), want[g.desc])
		}
		seen[g.desc] = true
		switch g.desc {
		case descFlow:
			r.send(transfer(0, 0))
		case descDisposition:
			r.send(fr(0, descDetach, uint32(0), true), fr(0, descEnd), fr(0, descClose))
		}
	}
}

// TestNodeChoosesTheReceiverSettleMode where we receive (AMQP 2.6.12): uAMQP asks for second and waits for us to settle.
func TestNodeChoosesTheReceiverSettleMode(t *testing.T) {
	p := newTestPeer()
	p.attach = func(l *Link) (Node, *Error) {
		l.SetRcvSettleMode(RcvFirst)
		return &sink{peer: p, handle: (*Delivery).Accept}, nil
	}
	r := rawOpen(t, Config{}, p)
	r.send(fr(0, descAttach, "l", uint32(0), false, uint8(0), uint8(1), nil, tgt("n"), nil, nil, uint32(0)))
	wantFields(t, r.expect(descAttach), "l", uint32(0), true, uint8(0), uint8(0))
	r.expect(descFlow)
	r.send(transfer(0, 0))
	wantFields(t, r.expect(descDisposition), true, uint32(0), nil, true)
}

func TestAccessors(t *testing.T) {
	p := newTestPeer()
	r := attached(t, Config{}, p, 0)
	r.send(transfer(0, 3))
	r.sync()
	l := p.links[0]
	s, c := l.Session(), l.Conn()
	if s.Conn() != c || c.Open().ContainerID != "raw" || string(p.received[0].Tag()) != "\x03" {
		t.Errorf("open is %+v, tag is %q", c.Open(), p.received[0].Tag())
	}
	for i, holder := range []interface {
		SetUserData(any)
		UserData() any
	}{l, s, c} {
		if holder.UserData() != nil {
			t.Error("user data before it was set")
		}
		if holder.SetUserData(i); holder.UserData() != i {
			t.Errorf("user data is %v, want %d", holder.UserData(), i)
		}
	}
}
