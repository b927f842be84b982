package amqp10

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

// tellingConn tells when a read is about to wait, as door.Conn does. Close waits for a read under way, as that of a socket does.
type tellingConn struct {
	net.Conn
	idle     func()
	chunks   chan []byte // as they were written at the other end
	rest     []byte
	expired  chan struct{} // closed by a read deadline that is past
	once     sync.Once
	reading  sync.Mutex
	writes   atomic.Int32
	began    chan struct{} // unless nil, closed by the next write
	writeErr atomic.Pointer[error]
}

// newTellingConn gathers up to 1,000 chunks ahead of the reader; the goroutine ends with nc.
func newTellingConn(nc net.Conn) *tellingConn {
	c := &tellingConn{Conn: nc, chunks: make(chan []byte, 1000), expired: make(chan struct{})}
	go func() {
		defer close(c.chunks)
		for {
			buf := make([]byte, 32<<10)
			n, err := nc.Read(buf)
			if err != nil {
				return
			}
			c.chunks <- buf[:n]
		}
	}()
	return c
}

func (c *tellingConn) OnIdle(f func()) bool {
	c.idle = f
	return true
}

func (c *tellingConn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(c.rest) == 0 {
		select {
		case c.rest = <-c.chunks:
		default:
			c.idle()
			select {
			case c.rest = <-c.chunks:
			case <-c.expired:
				return 0, os.ErrDeadlineExceeded
			}
		}
	}
	if len(c.rest) == 0 {
		return 0, net.ErrClosed
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *tellingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	if c.began != nil {
		close(c.began)
	}
	if err := c.writeErr.Load(); err != nil {
		return 0, *err
	}
	return c.Conn.Write(b)
}

func (c *tellingConn) Close() error {
	err := c.Conn.Close()
	c.reading.Lock()
	defer c.reading.Unlock()
	return err
}

// SetDeadline and SetReadDeadline end reads only; deadlines to come play no part in these tests.
func (c *tellingConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }
func (c *tellingConn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && !t.After(clock.Wall()) {
		c.once.Do(func() { close(c.expired) })
	}
	return nil
}

// teller is a server on a tellingConn with a client that has a link at handle 0.
type teller struct {
	*rawClient
	conn   *tellingConn
	peer   *testPeer
	held   chan struct{} // messages are accepted when it is closed
	served chan error
}

func telling(t *testing.T) *teller {
	clientEnd, serverEnd := net.Pipe()
	x := &teller{rawClient: &rawClient{t: t, nc: clientEnd}, conn: newTellingConn(serverEnd), peer: newTestPeer(), held: make(chan struct{}), served: make(chan error, 1)}
	x.peer.attach = func(*Link) (Node, *Error) {
		return &sink{peer: x.peer, handle: func(d *Delivery) {
			<-x.held
			d.Accept()
		}}, nil
	}
	go func() { x.served <- NewServer(Config{}).ServeConn(x.conn, x.peer) }()
	t.Cleanup(func() { clientEnd.Close() })
	x.send(amqpHeader, fr(0, descOpen, "raw"), begin(0), attachSender("l", 0))
	x.header(0)
	for _, desc := range []uint64{descOpen, descBegin, descAttach, descFlow} {
		x.expect(desc)
	}
	return x
}

// release has everything sent so far read before the first message is accepted: when the server has a heartbeat, it has what was before it.
func (x *teller) release() {
	x.send([]byte{0, 0, 0, 8, 2, 0, 0, 0})
	close(x.held)
}

// end waits for the end of ServeConn.
func (x *teller) end() error {
	x.t.Helper()
	select {
	case err := <-x.served:
		return err
	case <-testContext(x.t).Done():
		x.t.Fatal("ServeConn does not return")
		return nil
	}
}

// TestReaderWritesBeforeItWaits: what arrived in many reads is acknowledged in one write, when there is nothing left to read.
func TestReaderWritesBeforeItWaits(t *testing.T) {
	x := telling(t)
	before := x.conn.writes.Load()
	for id := range uint32(20) {
		x.send(transfer(0, id))
	}
	x.release()
	wantFields(t, x.expect(descDisposition), true, uint32(0), uint32(19), true)
	if n := x.conn.writes.Load() - before; n != 1 {
		t.Errorf("%d writes, want one for all", n)
	}
	x.nc.Close()
	_ = x.end()
}

// TestReaderThatNeverWaitsAnswersAllTheSame: a client that sends faster than it is served hears of it meanwhile.
func TestReaderThatNeverWaitsAnswersAllTheSame(t *testing.T) {
	x := telling(t)
	const n, size = 24, 8 << 10
	for id := range uint32(n) {
		x.send(frp(0, descTransfer, make([]byte, size), uint32(0), id, []byte("tag")))
	}
	x.release()
	first, ok := x.expect(descDisposition).field(2).(uint32)
	if most := uint32((maxUnrested + largeInput) / size); !ok || first > most {
		t.Errorf("the first disposition is for all up to %d, want %d at most", first, most)
	}
	x.nc.Close()
	_ = x.end()
}

// TestFailedWriteOfTheReaderEndsTheConnection: though the socket cannot be closed within the read that it happens in.
func TestFailedWriteOfTheReaderEndsTheConnection(t *testing.T) {
	x := telling(t)
	failure := errors.New("no more")
	x.conn.writeErr.Store(&failure)
	x.send(transfer(0, 0))
	close(x.held)
	if err := x.end(); !errors.Is(err, failure) {
		t.Errorf("ended with %v", err)
	}
}

// TestAbortEndsAReaderThatWrites: a client that does not read holds the reader up, within a read that Close waits for.
func TestAbortEndsAReaderThatWrites(t *testing.T) {
	x := telling(t)
	x.conn.began = make(chan struct{})
	x.send(transfer(0, 0))
	close(x.held)
	<-x.conn.began
	x.peer.conn.Abort()
	if err := x.end(); !errors.Is(err, errAborted) {
		t.Errorf("ended with %v", err)
	}
}
