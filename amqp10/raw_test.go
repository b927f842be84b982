package amqp10

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/clock"
)

// rawClient plays a client frame by frame, for what a well-behaved library cannot be made to do.
type rawClient struct {
	t  testing.TB
	nc net.Conn
	in []byte

	syncAt uint16 // the engine's channel of the last session of sync
}

func rawDial(t testing.TB, cfg Config, p Peer) *rawClient {
	return &rawClient{t: t, nc: serve(t, cfg, p)}
}

// rawOpen is a client that has opened the connection and one session on channel 0, both with the given extra fields.
func rawOpen(t testing.TB, cfg Config, p Peer) *rawClient {
	t.Helper()
	r := rawDial(t, cfg, p)
	r.send(amqpHeader, fr(0, descOpen, "raw"), begin(0))
	r.header(0)
	r.expect(descOpen)
	r.expect(descBegin)
	return r
}

var (
	amqpHeader = []byte("AMQP\x00\x01\x00\x00")
	saslHeader = []byte("AMQP\x03\x01\x00\x00")
)

// fr encodes a frame with a performative.
func fr(channel uint16, desc uint64, fields ...any) []byte { return frp(channel, desc, nil, fields...) }

// frp is fr with a payload.
func frp(channel uint16, desc uint64, payload []byte, fields ...any) []byte {
	typ := frameAMQP
	if desc >= descSASLMechanisms && desc < descHeader {
		typ = frameSASL
	}
	b, start := openFrame(nil, typ, channel)
	b, err := AppendValue(b, Described{desc, List(fields)})
	if err != nil {
		panic(err)
	}
	return closeFrame(append(b, payload...), start)
}

func begin(channel uint16) []byte {
	return fr(channel, descBegin, nil, uint32(0), uint32(1000), uint32(1000))
}

func src(address string) Described { return Described{uint64(descSource), List{address}} }
func tgt(address string) Described { return Described{uint64(descTarget), List{address}} }

// attachSender attaches a link the client sends on; attachReceiver one it receives on.
func attachSender(name string, handle uint32, more ...any) []byte {
	f := []any{name, handle, false, nil, nil, src("client"), tgt("node"), nil, nil, uint32(0)}
	return fr(0, descAttach, append(f, more...)...)
}

func attachReceiver(name string, handle uint32, rcv uint8) []byte {
	return fr(0, descAttach, name, handle, true, nil, rcv, src("node"), tgt("client"))
}

// transfer is a whole message; fields override from index 3 (message-format) on.
func transfer(handle, id uint32, more ...any) []byte {
	f := []any{handle, id, []byte{byte(id)}}
	return frp(0, descTransfer, []byte("\x00\x53\x75\xa0\x01x"), append(f, more...)...)
}

func credit(handle, deliveryCount, n uint32) []byte {
	return fr(0, descFlow, uint32(0), uint32(1000), uint32(0), uint32(1000), handle, deliveryCount, n)
}

func (r *rawClient) send(parts ...[]byte) {
	r.t.Helper()
	if _, err := r.nc.Write(bytes.Join(parts, nil)); err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

func (r *rawClient) fill(n int) error {
	for len(r.in) < n {
		r.nc.SetReadDeadline(clock.Wall().Add(patience))
		var b [64 << 10]byte
		m, err := r.nc.Read(b[:])
		r.in = append(r.in, b[:m]...)
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *rawClient) header(id byte) {
	r.t.Helper()
	if err := r.fill(8); err != nil {
		r.t.Fatalf("want header: %v", err)
	}
	want := []byte{'A', 'M', 'Q', 'P', id, 1, 0, 0}
	if !bytes.Equal(r.in[:8], want) {
		r.t.Fatalf("header is %q, want %q", r.in[:8], want)
	}
	r.in = r.in[8:]
}

// got is a frame received.
type got struct {
	channel uint16
	desc    uint64
	fields  List
	payload []byte
	size    int
}

// field returns a field, nil when it is missing at the end.
func (g got) field(i int) any {
	if i < len(g.fields) {
		return g.fields[i]
	}
	return nil
}

// next returns the next frame; an empty one has descriptor 0.
func (r *rawClient) next() (got, error) {
	if err := r.fill(8); err != nil {
		return got{}, err
	}
	size := int(be.Uint32(r.in))
	if err := r.fill(size); err != nil {
		return got{}, err
	}
	g := got{channel: be.Uint16(r.in[6:]), size: size}
	body := r.in[8:size]
	r.in = r.in[size:]
	if len(body) == 0 {
		return g, nil
	}
	v, payload, err := DecodeValue(body, Limits{})
	if err != nil {
		return g, err
	}
	described := v.(Described)
	g.desc, g.fields, g.payload = described.Descriptor.(uint64), described.Value.(List), payload
	return g, nil
}

// expect returns the next frame, which must have that descriptor.
func (r *rawClient) expect(desc uint64) got {
	r.t.Helper()
	g, err := r.next()
	if err != nil {
		r.t.Fatalf("want 0x%02x: %v", desc, err)
	}
	if g.desc != desc {
		r.t.Fatalf("got 0x%02x %v, want 0x%02x", g.desc, g.fields, desc)
	}
	return g
}

// expectError expects a frame whose error field i has that condition.
func (r *rawClient) expectError(desc uint64, i int, cond Symbol) got {
	r.t.Helper()
	g := r.expect(desc)
	e, _ := g.field(i).(Described)
	fields, _ := e.Value.(List)
	if len(fields) == 0 || fields[0] != cond {
		r.t.Fatalf("0x%02x has error %v, want %s", desc, g.field(i), cond)
	}
	return g
}

func (r *rawClient) expectEOF() {
	r.t.Helper()
	if g, err := r.next(); !errors.Is(err, io.EOF) {
		r.t.Fatalf("got 0x%02x %v and %v, want the end", g.desc, g.fields, err)
	}
}

// syncChannel carries the sessions of sync.
const syncChannel = 8000

// sync returns all that was sent in answer to what the client sent so far. Answers that may wait for the next write do
// so no longer than a session that is begun and ended meanwhile.
func (r *rawClient) sync() (before []got) {
	r.t.Helper()
	for range 2 {
		r.send(begin(syncChannel), fr(syncChannel, descEnd))
		for {
			g, err := r.next()
			if err != nil {
				r.t.Fatalf("while waiting for the end of a session: %v", err)
			}
			if g.channel == r.syncAt && g.desc == descEnd {
				break
			}
			if g.desc == descBegin && g.field(0) == uint16(syncChannel) {
				r.syncAt = g.channel
				continue
			}
			before = append(before, g)
		}
	}
	return before
}

// expectQuiet makes sure that nothing else was sent.
func (r *rawClient) expectQuiet() {
	r.t.Helper()
	if before := r.sync(); len(before) > 0 {
		r.t.Fatalf("got 0x%02x %v, want nothing", before[0].desc, before[0].fields)
	}
}

func wantFields(t testing.TB, g got, want ...any) {
	t.Helper()
	have := g.fields
	if len(have) > len(want) {
		have = have[:len(want)]
	}
	if diff := cmp.Diff(append(List{}, want...), have); diff != "" {
		t.Fatalf("0x%02x: fields (-want +got):\n%s", g.desc, diff)
	}
}

// TestPipelinedConversation: a client may send everything before it has read anything (AMQP 2.4.1).
func TestPipelinedConversation(t *testing.T) {
	conversation := [][]byte{
		amqpHeader, fr(0, descOpen, "raw"), begin(7),
		fr(7, descAttach, "l", uint32(3), false, nil, nil, src("s"), tgt("t"), nil, nil, uint32(0)),
		fr(7, descDetach, uint32(3), true), fr(7, descEnd), fr(0, descClose),
	}
	check := func(t *testing.T, r *rawClient) {
		r.header(0)
		wantFields(t, r.expect(descOpen), "amqp10", nil, uint32(65536), uint16(8191), uint32(240000))
		wantFields(t, r.expect(descBegin), uint16(7), uint32(0), uint32(5000), uint32(outgoingWindow), uint32(ownHandleMax))
		wantFields(t, r.expect(descAttach), "l", uint32(3), true, uint8(2), uint8(0), src("s"), tgt("t"))
		r.expect(descFlow)
		r.expect(descDetach)
		r.expect(descEnd)
		r.expect(descClose)
		r.expectEOF()
	}
	t.Run("bare", func(t *testing.T) {
		r := rawDial(t, Config{}, newTestPeer())
		r.send(conversation...)
		check(t, r)
	})
	t.Run("sasl", func(t *testing.T) {
		r := rawDial(t, Config{}, newTestPeer())
		r.send(append([][]byte{saslHeader, fr(0, descSASLInit, Symbol("MSSBCBS"))}, conversation...)...)
		r.header(3)
		wantFields(t, r.expect(descSASLMechanisms), []Symbol{"MSSBCBS", "ANONYMOUS", "PLAIN", "EXTERNAL"})
		wantFields(t, r.expect(descSASLOutcome), uint8(0))
		check(t, r)
	})
	t.Run("byte by byte", func(t *testing.T) {
		r := rawDial(t, Config{}, newTestPeer())
		for _, b := range bytes.Join(conversation, nil) {
			r.send([]byte{b})
		}
		check(t, r)
	})
}

func TestUnsupportedHeaderIsAnsweredWithASupportedOne(t *testing.T) {
	for header, want := range map[string]byte{
		"AMQP\x02\x01\x00\x00": 0, // TLS
		"AMQP\x00\x00\x09\x01": 0,
		"AMQP\x01\x01\x00\x0a": 0, // 0-10
		"AMQP\x03\x01\x01\x00": 3,
		"AMQP\x00\x02\x00\x00": 0,
		"GET / HTTP/1.1\r\n\r": 0,
	} {
		p := newTestPeer()
		r := rawDial(t, Config{}, p)
		r.send([]byte(header))
		r.header(want)
		r.expectEOF()
		r.nc.Close()
		p.wait(t, "Closed", func() bool { return len(p.closed) == 1 && errors.Is(p.closed[0], errHeader) })
	}
}

func TestSASLRefusals(t *testing.T) {
	tests := map[string][]byte{
		"unknown mechanism": fr(0, descSASLInit, Symbol("SCRAM-SHA-1"), []byte("x")),
		"refused by peer":   fr(0, descSASLInit, Symbol("PLAIN"), []byte("\x00a\x00b")),
	}
	for name, init := range tests {
		t.Run(name, func(t *testing.T) {
			p := newTestPeer()
			p.sasl = func(string, []byte) SASLCode { return SASLAuth }
			r := rawDial(t, Config{}, p)
			r.send(saslHeader, init, amqpHeader, fr(0, descOpen, "raw"))
			r.header(3)
			r.expect(descSASLMechanisms)
			wantFields(t, r.expect(descSASLOutcome), uint8(1))
			r.expectEOF()
		})
	}
	t.Run("frame beyond 64 KiB", func(t *testing.T) {
		r := rawDial(t, Config{}, newTestPeer())
		r.send(saslHeader, []byte{0, 1, 0, 1, 2, 1, 0, 0})
		r.header(3)
		r.expect(descSASLMechanisms)
		r.expectEOF()
	})
}

// TestBadFrames: what breaks framing or decoding closes the connection with the error that fits (AMQP 2.3, 2.4.7).
func TestBadFrames(t *testing.T) {
	opened := [][]byte{amqpHeader, fr(0, descOpen, "raw")}
	tests := map[string]struct {
		send [][]byte
		cond Symbol
	}{
		"begin before open":     {[][]byte{amqpHeader, begin(0)}, CondFramingError},
		"size below 8":          {append(opened, []byte{0, 0, 0, 7, 2, 0, 0, 0}), CondFramingError},
		"size above limit":      {append(opened, []byte{0, 1, 0, 1, 2, 0, 0, 0}), CondFramingError},
		"huge size":             {append(opened, []byte{255, 255, 255, 255, 2, 0, 0, 0}), CondFramingError},
		"doff below 2":          {append(opened, []byte{0, 0, 0, 8, 1, 0, 0, 0}), CondFramingError},
		"doff beyond size":      {append(opened, []byte{0, 0, 0, 8, 3, 0, 0, 0}), CondFramingError},
		"SASL frame":            {append(opened, []byte{0, 0, 0, 8, 2, 1, 0, 0}), CondFramingError},
		"channel above max":     {append(opened, begin(9000)), CondFramingError},
		"handle above max":      {append(opened, begin(0), attachSender("l", 1<<20)), CondFramingError},
		"not a performative":    {append(opened, []byte{0, 0, 0, 9, 2, 0, 0, 0, 0x41}), CondDecodeError},
		"unknown performative":  {append(opened, fr(0, 0x99)), CondNotImplemented},
		"cut list":              {append(opened, []byte{0, 0, 0, 14, 2, 0, 0, 0, 0, 0x53, 0x11, 0xc0, 9, 4}), CondDecodeError},
		"wrong field type":      {append(opened, fr(0, descBegin, nil, "x")), CondDecodeError},
		"second open":           {append(opened, fr(0, descOpen, "raw")), CondIllegalState},
		"begin twice":           {append(opened, begin(0), begin(0)), CondNotAllowed},
		"no session":            {append(opened, attachSender("l", 0)), CondNotAllowed},
		"end without begin":     {append(opened, fr(3, descEnd)), CondNotAllowed},
		"max-frame-size of 511": {[][]byte{amqpHeader, fr(0, descOpen, "raw", nil, uint32(511))}, CondInvalidField},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := newTestPeer()
			r := rawDial(t, Config{}, p)
			r.send(tt.send...)
			r.header(0)
			r.expect(descOpen)
			g, err := r.next()
			for err == nil && g.desc == descBegin {
				g, err = r.next()
			}
			if err != nil || g.desc != descClose {
				t.Fatalf("got 0x%02x %v, %v, want close", g.desc, g.fields, err)
			}
			e := g.field(0).(Described).Value.(List)
			if e[0] != tt.cond {
				t.Errorf("closed with %v, want %s", e, tt.cond)
			}
			r.expectEOF()
			r.nc.Close()
			p.wait(t, "Closed", func() bool { return len(p.closed) == 1 })
			var perr *Error
			if !errors.As(p.closed[0], &perr) || perr.Condition != tt.cond {
				t.Errorf("Closed got %v", p.closed[0])
			}
		})
	}
}

// TestSessionErrors: a client that breaks a session's rules loses that session, not the connection.
func TestSessionErrors(t *testing.T) {
	sender, receiver := attachSender("a", 0), attachReceiver("a", 0, 0)
	tests := map[string]struct {
		attach []byte
		send   [][]byte
		cond   Symbol
	}{
		"handle in use":        {sender, [][]byte{attachSender("b", 0)}, CondHandleInUse},
		"transfer nowhere":     {nil, [][]byte{transfer(5, 0)}, CondUnattachedHandle},
		"flow nowhere":         {nil, [][]byte{credit(5, 0, 1)}, CondUnattachedHandle},
		"detach nowhere":       {nil, [][]byte{fr(0, descDetach, uint32(5))}, CondUnattachedHandle},
		"wrong direction":      {receiver, [][]byte{transfer(0, 0)}, CondErrantLink},
		"no delivery-id":       {sender, [][]byte{frp(0, descTransfer, nil, uint32(0), nil, []byte("t"))}, CondInvalidField},
		"delivery-id twice":    {sender, [][]byte{transfer(0, 4), transfer(0, 4)}, CondInvalidField},
		"delivery-id back":     {sender, [][]byte{transfer(0, 4), transfer(0, 3)}, CondInvalidField},
		"delivery-id far away": {sender, [][]byte{transfer(0, 4), transfer(0, 4+1<<31)}, CondInvalidField},
		"long tag":             {sender, [][]byte{frp(0, descTransfer, nil, uint32(0), uint32(0), make([]byte, 33))}, CondInvalidField},
		"id changes":           {sender, [][]byte{transfer(0, 4, nil, nil, true), transfer(0, 5)}, CondInvalidField},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := newTestPeer()
			r := rawOpen(t, Config{}, p)
			r.send(tt.attach)
			r.sync()
			r.send(tt.send...)
			r.send(transfer(0, 77), fr(0, descFlow), attachSender("late", 9)) // dropped: the session is over
			for {
				g, err := r.next()
				if err != nil {
					t.Fatal(err)
				}
				if g.desc == descEnd {
					if e := g.field(0).(Described).Value.(List); e[0] != tt.cond {
						t.Errorf("ended with %v, want %s", e, tt.cond)
					}
					break
				}
			}
			r.send(fr(0, descEnd), begin(0)) // the channel can be used again
			wantFields(t, r.expect(descBegin), uint16(0))
			r.expectQuiet()
			p.wait(t, "SessionEnded", func() bool { return p.ended == 1 && len(p.detached) == len(p.links) })
		})
	}
}
