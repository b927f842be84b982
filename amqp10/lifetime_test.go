package amqp10

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/clock"
)

// TestHeartbeats: an idle client hears from us well before half its idle-time-out has passed (AMQP 2.4.5).
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	const idle = 2 * time.Second
	r := rawDial(t, Config{}, newTestPeer())
	r.send(amqpHeader, fr(0, descOpen, "raw", nil, nil, nil, uint32(idle.Milliseconds())))
	r.header(0)
	r.expect(descOpen)
	last := clock.Wall()
	for range 2 {
		if g := r.expect(0); g.size != 8 {
			t.Fatalf("heartbeat of %d bytes", g.size)
		}
		if gap := clock.Wall().Sub(last); gap < idle/4 || gap > idle {
			t.Errorf("%v between heartbeats", gap)
		}
		last = clock.Wall()
	}
}

// TestHeartbeatsKeepARealClient: go-amqp hangs up when it hears nothing for its idle time-out, and so do we.
func TestHeartbeatsKeepARealClient(t *testing.T) {
	t.Parallel()
	p := newTestPeer()
	conn := dial(t, Config{IdleTimeout: 600 * time.Millisecond}, p, &amqp.ConnOptions{IdleTimeout: 1000 * time.Millisecond})
	select {
	case <-conn.Done():
		t.Fatalf("the client hung up: %v", conn.Err())
	case <-elapsed(t, 2500*time.Millisecond):
	}
	session(t, conn)
}

func TestSilentClientIsClosed(t *testing.T) {
	t.Parallel()
	p := newTestPeer()
	start := clock.Wall()
	r := rawOpen(t, Config{IdleTimeout: 100 * time.Millisecond}, p)
	r.expectError(descClose, 0, CondResourceLimitExceeded)
	if d := clock.Wall().Sub(start); d < 200*time.Millisecond {
		t.Errorf("closed after %v, want twice the time-out", d)
	}
	r.send(fr(0, descClose))
	r.expectEOF()
	p.wait(t, "Closed", func() bool { return len(p.closed) == 1 })
	var perr *Error
	if !errors.As(p.closed[0], &perr) || perr.Condition != CondResourceLimitExceeded {
		t.Errorf("Closed got %v", p.closed[0])
	}
}

func TestHandshakeMustEnd(t *testing.T) {
	t.Parallel()
	for name, start := range map[string][]byte{"nothing": nil, "half a header": amqpHeader[:5], "SASL": saslHeader, "no open": amqpHeader} {
		t.Run(name, func(t *testing.T) {
			p := newTestPeer()
			r := rawDial(t, Config{HandshakeTimeout: 50 * time.Millisecond}, p)
			r.send(start)
			io.Copy(io.Discard, r.nc)
			p.wait(t, "Closed", func() bool { return len(p.closed) == 1 && errors.Is(p.closed[0], errTimeout(p.closed[0])) })
		})
	}
	t.Run("over once open", func(t *testing.T) {
		r := rawOpen(t, Config{HandshakeTimeout: time.Second}, newTestPeer())
		<-elapsed(t, 1300*time.Millisecond) // the time-out itself is what is waited for
		r.expectQuiet()
	})
}

// elapsed is closed after d.
func elapsed(t *testing.T, d time.Duration) <-chan struct{} {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx.Done()
}

// errTimeout returns err if it is a time-out.
func errTimeout(err error) error {
	var nerr net.Error
	if errors.As(err, &nerr) && nerr.Timeout() {
		return err
	}
	return errors.New("not a time-out")
}

// TestClientThatDoesNotReadIsCut: it may not keep us writing, nor reading, for ever.
func TestClientThatDoesNotReadIsCut(t *testing.T) {
	t.Parallel()
	p := newTestPeer()
	n := queued(p, &source{settled: true})
	for range 200 {
		n.queue = append(n.queue, make([]byte, 1000))
	}
	r := &rawClient{t: t, nc: servePipe(t, Config{WriteTimeout: 500 * time.Millisecond}, p)}
	r.send(amqpHeader, fr(0, descOpen, "raw"), begin(0), attachReceiver("l", 0, 0))
	r.header(0)
	for _, desc := range []uint64{descOpen, descBegin, descAttach} {
		r.expect(desc)
	}
	r.send(grant(0, 1000, 0, 1000))
	p.wait(t, "the cut", func() bool { return len(p.closed) == 1 && len(p.detached) == 1 })
	if !errors.Is(p.closed[0], errTimeout(p.closed[0])) {
		t.Errorf("Closed got %v", p.closed[0])
	}
}

// TestClientThatOnlyAsksIsHeldBack: answers to a client that does not read them do not pile up.
func TestClientThatOnlyAsksIsHeldBack(t *testing.T) {
	t.Parallel()
	p := newTestPeer()
	r := &rawClient{t: t, nc: servePipe(t, Config{MaxOutput: 1000}, p)}
	r.send(amqpHeader, fr(0, descOpen, "raw"))
	r.header(0)
	r.expect(descOpen)
	question := append(begin(0), fr(0, descEnd)...)
	r.nc.SetWriteDeadline(clock.Wall().Add(300 * time.Millisecond))
	sent := 0
	for {
		if _, err := r.nc.Write(question); err != nil {
			break
		}
		sent++
	}
	if sent > 1000 {
		t.Errorf("%d questions were taken", sent)
	}
	r.nc.SetWriteDeadline(time.Time{})
	for range 2 * sent {
		if _, err := r.next(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClientThatVanishes(t *testing.T) {
	tests := map[string]func(r *rawClient){
		"between frames":       func(r *rawClient) { r.nc.Close() },
		"in the middle of one": func(r *rawClient) { r.send(transfer(0, 0)[:20]); r.nc.Close() },
		"by reset": func(r *rawClient) {
			r.nc.(*net.TCPConn).SetLinger(0)
			r.nc.Close()
		},
	}
	for name, vanish := range tests {
		t.Run(name, func(t *testing.T) {
			p := newTestPeer()
			r := rawOpen(t, Config{}, p)
			r.send(attachSender("l", 0), attachReceiver("m", 1, 0), begin(1))
			r.sync()
			vanish(r)
			p.wait(t, "Closed", func() bool { return len(p.closed) == 1 })
			if len(p.detached) != 2 || p.ended != 2 || p.closed[0] == nil {
				t.Errorf("%d detached, %d ended, %v", len(p.detached), p.ended, p.closed[0])
			}
			for _, err := range p.detached {
				if err == nil || err.Condition != CondConnectionForced {
					t.Errorf("Detached got %v", err)
				}
			}
		})
	}
}

// TestHalfClose: who has sent all it has to send still hears the answers.
func TestHalfClose(t *testing.T) {
	r := attached(t, Config{}, newTestPeer(), 0)
	r.send(transfer(0, 0), transfer(0, 1))
	r.nc.(*net.TCPConn).CloseWrite()
	wantFields(t, r.expect(descDisposition), true, uint32(0), uint32(1))
	r.expectEOF()
}

func TestCloseIsAnsweredOnce(t *testing.T) {
	p := newTestPeer()
	r := attached(t, Config{}, p, 0)
	r.send(transfer(0, 0), fr(0, descClose, Described{uint64(descError), List{Symbol("my:reason"), "why"}}), fr(0, descClose), begin(5))
	r.expect(descDisposition)
	r.expect(descClose)
	r.expectEOF()
	p.wait(t, "Closed", func() bool { return len(p.closed) == 1 })
	if p.detached[0] == nil || p.detached[0].Condition != "my:reason" {
		t.Errorf("Detached got %v", p.detached[0])
	}
}

// TestCloseWaitsForTheClientOnlyAWhile (AMQP 2.4.3).
func TestCloseWaitsForTheClientOnlyAWhile(t *testing.T) {
	p := newTestPeer()
	r := rawOpen(t, Config{CloseTimeout: 50 * time.Millisecond}, p)
	p.conn.Close(nil)
	wantFields(t, r.expect(descClose))
	r.send(begin(3), transfer(0, 1)) // not close
	r.expectEOF()
	p.wait(t, "Closed", func() bool { return len(p.closed) == 1 })
	if p.closed[0] != nil {
		t.Errorf("Closed got %v", p.closed[0])
	}
}

// TestCloseWaitsOnlyAWhileForAClientThatDoesNotRead: neither what waits for it nor how long a write may hang counts then.
func TestCloseWaitsOnlyAWhileForAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	p := newTestPeer()
	r := &rawClient{t: t, nc: servePipe(t, Config{MaxOutput: 1000, WriteTimeout: time.Hour, CloseTimeout: 50 * time.Millisecond}, p)}
	r.send(amqpHeader, fr(0, descOpen, "raw"))
	r.header(0)
	r.expect(descOpen)
	question := append(begin(0), fr(0, descEnd)...)
	r.nc.SetWriteDeadline(clock.Wall().Add(300 * time.Millisecond))
	for {
		if _, err := r.nc.Write(question); err != nil {
			break
		}
	}
	p.conn.Close(nil)
	p.wait(t, "Closed", func() bool { return len(p.closed) == 1 })
}

func TestEndIsAnswered(t *testing.T) {
	p := newTestPeer()
	r := attached(t, Config{}, p, 0)
	r.send(transfer(0, 0), fr(0, descEnd, Described{uint64(descError), List{Symbol("my:reason")}}), begin(0))
	r.expect(descDisposition) // what is owed comes before the end
	wantFields(t, r.expect(descEnd))
	r.expect(descBegin)
	p.wait(t, "SessionEnded", func() bool { return p.ended == 1 && len(p.detached) == 1 })
	if p.detached[0].Condition != "my:reason" {
		t.Errorf("Detached got %v", p.detached[0])
	}
}

// TestEndingsFromWithinCallbacks: everything may be called from a callback, and each callback comes exactly once, in order.
func TestEndingsFromWithinCallbacks(t *testing.T) {
	endings := map[string]func(l *Link){
		"link":    func(l *Link) { l.Detach(nil) },
		"session": func(l *Link) { l.Session().End(nil) },
		"conn":    func(l *Link) { l.Conn().Close(nil) },
		"abort":   func(l *Link) { l.Conn().Abort() },
	}
	for name, end := range endings {
		for _, when := range []string{"attach", "receive"} {
			t.Run(name+" in "+when, func(t *testing.T) {
				p := newTestPeer()
				p.attach = func(l *Link) (Node, *Error) {
					if when == "attach" {
						end(l)
					}
					return &sink{peer: p, handle: func(*Delivery) { end(l) }}, nil
				}
				r := rawOpen(t, Config{CloseTimeout: 50 * time.Millisecond}, p)
				r.send(attachSender("l", 0))
				if when == "receive" {
					r.expect(descAttach)
					r.expect(descFlow)
					r.send(transfer(0, 0), transfer(0, 1))
				}
				p.wait(t, "Detached", func() bool { return len(p.detached) == 1 })
				if name != "link" {
					p.wait(t, "SessionEnded", func() bool { return p.ended == 1 })
				}
				r.nc.Close()
				p.wait(t, "Closed", func() bool { return len(p.closed) == 1 })
				if len(p.detached) != 1 || p.ended != 1 || when == "receive" && len(p.received) != 1 {
					t.Errorf("%d detached, %d ended, %d received", len(p.detached), p.ended, len(p.received))
				}
			})
		}
	}
}

// TestIdleConnectionHoldsNoBuffers, and shrinks after a burst.
func TestIdleConnectionHoldsNoBuffers(t *testing.T) {
	p := newTestPeer()
	p.attach = func(l *Link) (Node, *Error) {
		l.SetCreditWindow(5000)
		return &sink{peer: p, handle: (*Delivery).Accept}, nil
	}
	r := attached(t, Config{}, p, 0)
	var burst []byte
	for id := range uint32(2000) {
		burst = append(burst, transfer(0, id)...)
	}
	r.send(burst)
	p.wait(t, "all", func() bool { return len(p.received) == 2000 })
	c := p.conn
	c.mu.Lock()
	c.trim(time.Hour)
	c.mu.Unlock()
	r.send([]byte{0, 0, 0, 8, 2, 0, 0, 0})
	r.sync()
	r.send([]byte{0, 0, 0, 8, 2, 0, 0, 0})
	r.sync()
	c.nc.SetReadDeadline(clock.Wall()) // the reader leaves, so that its buffer can be looked at
	p.wait(t, "Closed", func() bool { return len(p.closed) == 1 })
	if len(c.in.buf) > smallInput {
		t.Errorf("%d bytes of input buffer", len(c.in.buf))
	}
	if c.out != nil {
		t.Error("an output buffer")
	}
}
