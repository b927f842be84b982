package amqp10

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

func FuzzValue(f *testing.F) {
	for _, s := range []string{"40", "c1 06 02 a30161 5001", "e0 06 02 a3 0161 0162", "00 5375 a0 01 61", "d0 00000007 00000002 41 5001"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, rest, err := DecodeValue(b, Limits{})
		d := newDecoder(b, Limits{})
		d.skip()
		if err != nil {
			return
		}
		if d.err != nil && d.err != errDepth || d.err == nil && d.left() != len(rest) {
			t.Fatalf("skip: %v, %d bytes left, want %d", d.err, d.left(), len(rest))
		}
		again, err := AppendValue(nil, v)
		if err != nil {
			return // arrays of lists and the like are read but not written
		}
		got, rest, err := DecodeValue(again, Limits{})
		if err != nil || len(rest) != 0 || !equalValues(v, got) {
			t.Fatalf("%#v became %#v, %v", v, got, err)
		}
	})
}

// FuzzFrame reads frames and decodes whatever performative they hold.
func FuzzFrame(f *testing.F) {
	f.Add(fr(0, descOpen, "raw", "host", uint32(512), uint16(1), uint32(5), Symbol("a"), []Symbol{"a"}, nil, nil, Map{{Symbol("p"), "v"}}))
	f.Add(begin(0))
	f.Add(attachSender("l", 0))
	f.Add(transfer(0, 0))
	f.Add(credit(0, 0, 1))
	f.Add(fr(0, descDisposition, true, uint32(0), uint32(5), true, Described{uint64(descModified), List{true, true, Map{{Symbol("k"), "v"}}}}))
	f.Add(fr(0, descDetach, uint32(0), true, Described{uint64(descError), List{Symbol("c"), "d", Map{{Symbol("k"), "v"}}}}))
	f.Add(fr(0, descSASLInit, Symbol("PLAIN"), []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			fr, size, need, perr := parseFrame(b, 65536)
			if perr != nil || size == 0 {
				if perr == nil && need <= len(b) {
					t.Fatalf("a frame of %d bytes wants %d to go on", len(b), need)
				}
				return
			}
			b = b[size:]
			decodeAny(fr.body)
		}
	})
}

func decodeAny(body []byte) error {
	d := newDecoder(body, Limits{})
	d.own = true
	switch d.descriptor() {
	case descOpen:
		new(Open).decode(&d)
	case descBegin:
		new(beginFrame).decode(&d)
	case descAttach:
		var p attachFrame
		p.decode(&d)
		decodeSource(p.source, Limits{})
		decodeTarget(p.target, Limits{})
	case descFlow:
		new(flowFrame).decode(&d)
	case descTransfer:
		new(transferFrame).decode(&d)
	case descDisposition:
		new(dispositionFrame).decode(&d)
	case descDetach:
		new(detachFrame).decode(&d)
	case descEnd, descClose:
		decodeOnlyError(&d)
	default:
		d.skip()
	}
	return d.err
}

func FuzzMessage(f *testing.F) {
	f.Add(telemetryPayload(f))
	f.Add(unhex(f, "005370 45 005371 c10100 005372 c10100 005373 45 005374 c10100 005376 45 005378 c10100"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again Message
		if m.Decode(b, Limits{}) != nil {
			return
		}
		x, err := m.Append(nil)
		if err != nil {
			return
		}
		if err := again.Decode(x, Limits{Size: 1 << 30}); err != nil {
			t.Fatalf("%+v was encoded as %x: %v", m, x, err)
		}
		y, err := again.Append(nil)
		if err != nil || !bytes.Equal(x, y) {
			t.Fatalf("%x became %x, %v", x, y, err)
		}
		m.Bytes()
	})
}

func FuzzBatch(f *testing.F) {
	f.Add([]byte("\x00\x53\x75\xa0\x06\x00\x53\x75\xa0\x01x\x00\x53\x75\xa0\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		parts, err := SplitBatch(b, Limits{})
		var m Message
		if m.Decode(b, Limits{}) != nil {
			return
		}
		if (err == nil) != (m.Body == BodyData) || err == nil && len(parts) != len(m.Data) {
			t.Fatalf("%d parts and %v, but %+v", len(parts), err, m)
		}
		for inner, err := range m.Batched(Limits{}) {
			if err == nil {
				inner.Bytes()
			}
		}
	})
}

// script is a connection that reads from a list of chunks and keeps what is written.
type script struct {
	net.Conn
	in  []byte
	cut int // size of the pieces it is read in
	out []byte
	c   *Conn

	tells bool // like door.Conn; every other read waits then
	reads int
	idle  func()
}

func (s *script) OnIdle(f func()) bool {
	s.idle = f
	return s.tells
}

// Read lets the writer finish first: a client sends transfers only once it has read that it has credit.
func (s *script) Read(b []byte) (int, error) {
	for writing := true; writing; runtime.Gosched() {
		s.c.mu.Lock()
		writing = s.c.writing
		s.c.mu.Unlock()
	}
	if s.reads++; s.tells && s.reads%2 == 0 {
		s.idle()
	}
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.in[:min(len(s.in), s.cut)])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error) {
	s.out = append(s.out, b...)
	return len(b), nil
}
func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// nullPeer lets everything happen.
type nullPeer struct {
	attached, detached int
	begun, closed      int
	lends, gathers     bool
}

// nullGatherer is a nullPeer's node that puts off what it is sent.
type nullGatherer struct {
	*nullPeer
	put    []*Delivery
	bodies []string
}

func (n *nullGatherer) Receive(_ *Link, d *Delivery) {
	n.put, n.bodies = append(n.put, d), append(n.bodies, string(d.Payload))
}

func (n *nullGatherer) Gathered(l *Link) {
	for i, d := range n.put {
		if d.link != l || string(d.Payload) != n.bodies[i] || i == gatherMost {
			panic("a delivery is not what was received")
		}
		n.nullPeer.Receive(l, d)
	}
	n.put, n.bodies = nil, nil
}

func (p *nullPeer) SASL(string, []byte) SASLCode { return SASLOK }
func (p *nullPeer) Open(*Conn, *Open) *Error     { return nil }
func (p *nullPeer) SessionEnded(*Session)        { p.begun-- }
func (p *nullPeer) Closed(*Conn, error)          { p.closed++ }
func (p *nullPeer) Attach(l *Link) (Node, *Error) {
	if len(l.Name())%5 == 4 {
		return nil, &Error{Condition: CondNotFound}
	}
	p.attached++
	if p.lends {
		l.LendDeliveries()
	}
	if p.gathers && p.lends {
		return &nullGatherer{nullPeer: p}, nil
	}
	return p, nil
}
func (p *nullPeer) Detached(*Link, *Error) { p.detached++ }
func (p *nullPeer) Receive(l *Link, d *Delivery) {
	switch len(d.Payload) % 4 {
	case 0:
		d.Accept()
	case 1:
		d.Reject(&Error{Condition: "c"})
	case 2:
		d.Release()
	}
}
func (p *nullPeer) Flow(l *Link, credit uint32, drain bool) {
	for i := range 5 {
		if _, err := l.Send([]byte{byte(i)}, 0, make([]byte, 300*i), i == 0); err != nil {
			break
		}
	}
	l.Drained()
}
func (p *nullPeer) Settled(l *Link, id uint32, _ []byte, st DeliveryState, settled bool) {
	l.Settle(id, st)
}

// FuzzConn feeds arbitrary bytes to a connection. Whatever comes, it must end, leave nothing behind, call back in pairs
// and write only frames that are whole, open first, close last.
func FuzzConn(f *testing.F) {
	opened := bytes.Join([][]byte{fr(0, descOpen, "fuzz", nil, uint32(512)), begin(0), attachSender("s", 0), attachReceiver("r", 1, 1)}, nil)
	add := func(mode byte, parts ...[]byte) { f.Add(mode, uint8(200), bytes.Join(parts, nil)) }
	add(0, saslHeader, fr(0, descSASLInit, Symbol("PLAIN"), []byte("\x00a\x00b")), amqpHeader, opened)
	add(1, transfer(0, 0), more(0, 1), last(0), fr(0, descDisposition, false, uint32(0), uint32(9), true))
	add(1, grant(0, 5, 0, 9, nil, true, true), fr(0, descDisposition, true, uint32(0), uint32(9), nil, Described{uint64(descAccepted), List{}}))
	add(1, grant(0, 1, 0, 9), grant(1, 100, 0, 9), fr(0, descDetach, uint32(1)), attachReceiver("again", 1, 0), fr(0, descEnd), begin(0))
	add(3, transfer(0, 0), transfer(0, 1), transfer(0, 2), transfer(0, 3))
	add(7, transfer(0, 0), more(0, 1), last(0), transfer(0, 2), transfer(0, 3, nil, true))
	add(15, transfer(0, 0), transfer(0, 1, nil, true), more(0, 2), last(0), transfer(0, 3), transfer(1, 4), fr(0, descDetach, uint32(0)))
	add(1, attachSender("s", 5), begin(1), fr(1, descEnd), fr(0, descClose), begin(2))
	f.Fuzz(func(t *testing.T, mode byte, cut uint8, b []byte) {
		s := &script{cut: int(cut) + 1, tells: mode&2 != 0}
		if mode%2 == 1 {
			s.in = append(append(s.in, amqpHeader...), opened...)
		}
		s.in = append(s.in, b...)
		p := &nullPeer{lends: mode&4 != 0, gathers: mode&8 != 0}
		c := newConn(&NewServer(Config{CreditWindow: 3, IncomingWindow: 8, MaxUnsettledPerLink: 6, MaxMessageSize: 1000, firstID: 1<<32 - 2}).cfg, s, p)
		s.c = c
		c.finish(c.serve())
		if p.closed != 1 || p.attached != p.detached {
			t.Errorf("closed %d times, %d attached, %d detached", p.closed, p.attached, p.detached)
		}
		if c.partial != 0 || c.links != 0 || len(c.sessions) != 0 || c.writing {
			t.Errorf("left over: %d bytes, %d links, %d sessions", c.partial, c.links, len(c.sessions))
		}
		checkOutput(t, s.out)
	})
}

// checkOutput checks that out is protocol headers and whole frames that can be decoded.
func checkOutput(t *testing.T, out []byte) {
	opens, closed := 0, false
	for len(out) > 0 {
		if bytes.HasPrefix(out, []byte("AMQP")) {
			out = out[8:]
			continue
		}
		f, size, _, perr := parseFrame(out, 65536)
		if perr != nil || size == 0 || closed {
			t.Fatalf("wrote %x: %v, closed %v", out, perr, closed)
		}
		out = out[size:]
		if len(f.body) == 0 {
			continue
		}
		if err := decodeAny(f.body); err != nil {
			t.Fatalf("wrote %x: %v", f.body, err)
		}
		switch f.body[2] {
		case descOpen:
			opens++
		case descClose:
			closed = true
		}
		if f.typ == frameAMQP && opens != 1 {
			t.Fatalf("%d opens before %x", opens, f.body)
		}
	}
}
