package amqp10

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait in tests; nothing that works takes as long.
const patience = 20 * time.Second

// testPeer is a Peer whose parts a test can replace. Without, it lets everything in, accepts what it is sent and sends
// what is queued.
type testPeer struct {
	sasl   func(mechanism string, response []byte) SASLCode
	open   func(c *Conn, o *Open) *Error
	attach func(l *Link) (Node, *Error)

	mu       sync.Mutex
	conn     *Conn
	links    []*Link
	received []*Delivery
	settled  []settlement
	detached []*Error
	ended    int
	closed   []error
	news     chan struct{} // gets a token when any of the above changed
}

func newTestPeer() *testPeer { return &testPeer{news: make(chan struct{}, 1)} }

func (p *testPeer) change(f func()) {
	p.mu.Lock()
	f()
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// wait waits until cond, called with mu held, is true.
func (p *testPeer) wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	limit, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		p.mu.Lock()
		ok := cond()
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-p.news:
		case <-limit.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (p *testPeer) SASL(mechanism string, response []byte) SASLCode {
	if p.sasl != nil {
		return p.sasl(mechanism, response)
	}
	return SASLOK
}

func (p *testPeer) Open(c *Conn, o *Open) *Error {
	p.change(func() { p.conn = c })
	if p.open != nil {
		return p.open(c, o)
	}
	return nil
}

func (p *testPeer) Attach(l *Link) (Node, *Error) {
	p.change(func() { p.links = append(p.links, l) })
	if p.attach != nil {
		return p.attach(l)
	}
	if l.Role() == RoleReceiver {
		return &sink{peer: p, handle: (*Delivery).Accept}, nil
	}
	return &source{peer: p}, nil
}

func (p *testPeer) SessionEnded(s *Session) {
	if s.in != syncChannel {
		p.change(func() { p.ended++ })
	}
}

func (p *testPeer) Closed(_ *Conn, err error) { p.change(func() { p.closed = append(p.closed, err) }) }

// sink records and handles what it is sent.
type sink struct {
	peer   *testPeer
	handle func(*Delivery)
}

func (n *sink) Receive(l *Link, d *Delivery) {
	n.peer.change(func() { n.peer.received = append(n.peer.received, d) })
	if n.handle != nil {
		n.handle(d)
	}
}

func (n *sink) Detached(l *Link, err *Error) {
	n.peer.change(func() { n.peer.detached = append(n.peer.detached, err) })
}

// source sends queued payloads as credit allows.
type source struct {
	peer    *testPeer
	settled bool
	settle  bool // answer outcomes with accepted, for receiver settle mode second

	queue [][]byte
	sent  int
	flows int
	busy  int
}

func (n *source) Flow(l *Link, credit uint32, drain bool) {
	n.peer.change(func() { n.flows++ })
	if n.pump(l) && drain {
		l.Drained()
	}
}

func (n *source) pump(l *Link) (empty bool) {
	n.peer.mu.Lock()
	defer n.peer.mu.Unlock()
	for len(n.queue) > 0 {
		var tag [16]byte
		tag[0], tag[1] = byte(n.sent>>8), byte(n.sent)
		_, err := l.Send(tag[:], 0, n.queue[0], n.settled)
		if err != nil {
			if errors.Is(err, ErrBusy) {
				n.busy++
			}
			return errors.Is(err, ErrNoCredit)
		}
		n.sent++
		n.queue = n.queue[1:]
	}
	return true
}

func (n *source) Settled(l *Link, id uint32, tag []byte, st DeliveryState, settled bool) {
	if n.settle && !settled {
		l.Settle(id, Accepted{})
	}
	n.peer.change(func() {
		e := settlement{link: l, id: id, state: st, settled: settled}
		e.tagLen = uint8(copy(e.tag[:], tag))
		n.peer.settled = append(n.peer.settled, e)
	})
}

func (n *source) Detached(l *Link, err *Error) {
	n.peer.change(func() { n.peer.detached = append(n.peer.detached, err) })
}

// serve runs a server for p on one end of a connection over loopback TCP and returns the other. The test ends only when
// ServeConn has returned.
func serve(t testing.TB, cfg Config, p Peer) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, cfg, p, client, server)
	return client
}

// servePipe is serve over a pipe without any buffer: each side must read for the other to write.
func servePipe(t testing.TB, cfg Config, p Peer) net.Conn {
	client, server := net.Pipe()
	serveOn(t, cfg, p, client, server)
	return client
}

func serveOn(t testing.TB, cfg Config, p Peer, client, server net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewServer(cfg).ServeConn(server, p)
	}()
	t.Cleanup(func() {
		client.Close()
		limit, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		select {
		case <-done:
		case <-limit.Done():
			t.Error("ServeConn did not return")
		}
	})
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// dial connects go-amqp to a server for p.
func dial(t testing.TB, cfg Config, p Peer, opts *amqp.ConnOptions) *amqp.Conn {
	t.Helper()
	conn, err := amqp.NewConn(testContext(t), serve(t, cfg, p), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func session(t testing.TB, conn *amqp.Conn) *amqp.Session {
	t.Helper()
	s, err := conn.NewSession(testContext(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
