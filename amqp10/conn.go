package amqp10

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

// Open is what the client said in its open frame (AMQP 2.7.1).
type Open struct {
	ContainerID         string
	Hostname            string
	MaxFrameSize        uint32 // bytes
	ChannelMax          uint16
	IdleTimeout         uint32 // milliseconds; 0: none
	OutgoingLocales     []Symbol
	IncomingLocales     []Symbol
	OfferedCapabilities []Symbol
	DesiredCapabilities []Symbol
	Properties          Map
}

// phase is how far a connection has come.
type phase uint8

const (
	phaseHeader  phase = iota // protocol headers and SASL
	phaseOpening              // AMQP header exchanged, open not answered
	phaseOpen                 // frames flow
	phaseClosing              // our close is sent; only the client's close still matters
	phaseEnded                // nothing is read or written any more
)

// Conn is one client's connection.
//
// The goroutine of ServeConn reads. Where the connection tells it that it is about to wait for the client, it writes what it
// has caused itself. Whatever else there is to write, a writer goroutine does, which is started then and ends when there is
// nothing left. Lock order: calls before mu; neither is held while reading or writing the socket.
type Conn struct {
	cfg   *Config
	nc    net.Conn
	peer  Peer
	log   *slog.Logger
	start time.Time // the times below are measured from here

	in        input         // the reader's
	fresh     bool          // something was read since lastRead was set
	tells     bool          // nc calls idle
	unrested  int           // bytes read since the last rest; the reader's
	events    []settlement  // the reader's scratch
	spare     []*Delivery   // that were lent, to be used again; the reader's
	gathering []*Delivery   // of one link, handed over but perhaps not settled yet; the reader's
	lastRead  atomic.Int64  // when the last whole frame arrived
	lastWrite atomic.Int64  // when the last write began
	deadline  time.Duration // the write deadline set on nc; the writer's
	reading   atomic.Bool   // the reader is at work and will flush before it waits; cleared under mu
	shrink    atomic.Bool   // asks the reader to give its buffer back

	calls sync.Mutex  // held during every callback
	noted atomic.Bool // notes is not empty; changed under mu

	mu          sync.Mutex
	writers     sync.WaitGroup // added to under mu, never once phaseEnded
	room        *sync.Cond     // signalled when output was written
	phase       phase
	open        *Open // the client's
	maxFrame    int   // of frames we send
	closeErr    *Error
	lost        error // what ServeConn returns, set before the nodes learn of the end
	peerClosed  bool
	sessions    map[uint16]*Session // by the client's channel
	channels    map[uint32]struct{} // ours, in use
	links       int
	attachBytes int // of the attach frames of links
	partial     int // bytes in unfinished deliveries

	out      *buffer // frames to be written
	inFlight int     // bytes being written
	writing  bool    // a writer goroutine exists
	broken   bool    // the socket is dropped, for cause
	cause    error
	due      []*Session // sessions that owe dispositions or flows
	waiting  []*Link    // senders told ErrBusy
	notes    []note
	timer    *time.Timer
	user     any
}

var errAborted = errors.New("amqp10: connection aborted")

func newConn(cfg *Config, nc net.Conn, p Peer) *Conn {
	c := &Conn{cfg: cfg, nc: nc, peer: p, log: cfg.Logger, start: clock.Wall(), maxFrame: minMaxFrameSize}
	c.room = sync.NewCond(&c.mu)
	return c
}

// since returns the real time since the connection began.
func (c *Conn) since() time.Duration { return clock.Wall().Sub(c.start) }

// Open returns the client's open, nil before it came. The caller must not change it.
func (c *Conn) Open() *Open {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// Close closes in good order: close(err), a short wait for the client's close, then the socket is dropped. err may be nil.
// It does not wait. Calls after the first do nothing.
func (c *Conn) Close(err *Error) {
	c.mu.Lock()
	if c.phase == phaseHeader {
		c.mu.Unlock()
		c.Abort() // there is no AMQP connection yet to be closed
		return
	}
	c.sendClose(err)
	c.mu.Unlock()
}

// Abort drops the socket at once; the client sees no close frame. It does not wait.
func (c *Conn) Abort() {
	c.cut(errAborted)
}

// cut drops the socket because of err; the reader notices and ends.
func (c *Conn) cut(err error) {
	c.mu.Lock()
	c.fail(err)
	c.mu.Unlock()
	c.nc.Close()
}

// fail notes that the connection is broken because of err; the socket is still to be dropped. mu is held.
func (c *Conn) fail(err error) {
	if !c.broken {
		c.broken, c.cause = true, err
	}
	c.room.Broadcast()
}

// SetUserData keeps v with the connection for UserData.
func (c *Conn) SetUserData(v any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user = v
}

// UserData returns what SetUserData kept, nil before.
func (c *Conn) UserData() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user
}

// serve reads and handles frames until the connection is over. An error of type *Error is ours to report to the client.
func (c *Conn) serve() error {
	if nc, ok := c.nc.(idler); ok {
		c.tells = nc.OnIdle(c.idle)
	}
	_ = c.nc.SetReadDeadline(clock.Wall().Add(c.cfg.HandshakeTimeout))
	if err := c.handshake(); err != nil {
		return err
	}
	defer c.gathered()
	for {
		f, err := c.readFrame(c.cfg.MaxFrameSize)
		if err != nil {
			return c.readFailed(err)
		}
		over, err := c.handle(f)
		if err != nil || over {
			return err
		}
		c.runNotes()
	}
}

// readFailed says what a failed read means: nothing, when we closed and the client hung up or kept silent.
func (c *Conn) readFailed(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.broken:
		return c.cause
	case c.phase == phaseClosing && c.closeErr == nil:
		return nil
	case c.phase == phaseClosing:
		return c.closeErr
	}
	return err
}

// readFrame returns the next frame. Before it waits for the network, whatever is ready is written.
func (c *Conn) readFrame(max uint32) (frame, error) {
	for {
		f, size, need, perr := parseFrame(c.in.unread(), max)
		if perr != nil {
			return f, perr
		}
		if size > 0 {
			c.in.consume(size)
			if c.fresh {
				c.fresh = false
				c.lastRead.Store(int64(c.since()))
			}
			return f, nil
		}
		if err := c.fill(need); err != nil {
			return f, err
		}
	}
}

func (c *Conn) fill(need int) error {
	c.gathered() // the payloads are in the buffer
	if c.shrink.CompareAndSwap(true, false) {
		c.in.shrink()
	}
	if (!c.tells || c.unrested >= maxUnrested) && c.rest() {
		return net.ErrClosed
	}
	n, err := c.in.fill(c.nc, need)
	c.reading.Store(true)
	c.fresh = true
	c.unrested += n
	if errors.Is(err, io.EOF) && len(c.in.unread()) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// idler is a connection that can tell when a read is about to wait: see door.Conn.OnIdle.
type idler interface{ OnIdle(f func()) bool }

// idle is called within a read of the reader, which is about to wait. The socket cannot be closed here: that would wait for the
// read to be over.
func (c *Conn) idle() {
	if c.rest() {
		_ = c.nc.SetReadDeadline(c.start) // which is past: the read is over
	}
}

// rest is called by the reader before it waits, or when it has read much without waiting. What there is to write, it writes
// itself if that is little, for then it hardly ever takes long; from now on, others must start the writer. A client that
// sends without reading what we answer is left waiting here. It says whether the connection is broken.
func (c *Conn) rest() (broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unrested = 0
	if c.tells {
		c.writeSelf()
	}
	c.reading.Store(false)
	c.signal()
	for c.pending() > 4*c.cfg.MaxOutput && !c.broken {
		c.room.Wait()
	}
	return c.broken
}

// finish ends the connection for err, the result of serve: says goodbye if we owe it, drops the socket and tells the
// nodes. It returns err.
func (c *Conn) finish(err error) error {
	c.mu.Lock()
	c.reading.Store(false)
	goodbye, linger := c.goodbye(err)
	c.phase = phaseEnded
	_ = c.nc.SetDeadline(clock.Wall().Add(c.cfg.CloseTimeout)) // for our last words and for lingering
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	if !goodbye {
		c.nc.Close()
	}
	c.writers.Wait()
	if linger {
		c.linger()
	}
	c.nc.Close()
	c.bury(err)
	return err
}

// goodbye queues what the client must still hear. It says whether there is anything, and whether to linger until the
// client has read it. mu is held.
func (c *Conn) goodbye(err error) (any, linger bool) {
	var perr *Error
	switch {
	case c.broken:
		return false, false
	case c.phase == phaseHeader:
		linger = errors.Is(err, errHeader) || errors.Is(err, errSASL)
		any = linger
	case c.phase == phaseClosing, errors.Is(err, io.EOF): // who ends its sending may still read
		any = true
	case errors.As(err, &perr):
		c.sendClose(perr)
		any, linger = true, true
	}
	c.gather()
	c.signal()
	return any, linger
}

// linger reads and drops what the client still sends, until it hangs up or time is over: closing a socket with unread
// input would reset the connection and could destroy our last words on their way.
func (c *Conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	scrap := make([]byte, 4<<10)
	for {
		if _, err := c.nc.Read(scrap); err != nil {
			return
		}
	}
}

// bury tells every node, session and the peer that the connection is over.
func (c *Conn) bury(err error) {
	c.mu.Lock()
	c.lost = err
	reason := c.epitaph(err)
	for _, s := range c.sessions {
		s.bury(reason)
	}
	clear(c.sessions)
	c.mu.Unlock()
	c.runNotes()
	c.calls.Lock()
	defer c.calls.Unlock()
	c.peer.Closed(c, err)
}

// Lost returns why the connection ended, when neither side closed it in good order; nil before its end.
func (c *Conn) Lost() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// epitaph is the error that nodes are given for the end of the connection.
func (c *Conn) epitaph(err error) *Error {
	var perr *Error
	switch {
	case c.closeErr != nil:
		return c.closeErr
	case errors.As(err, &perr):
		return perr
	case err != nil:
		return &Error{Condition: CondConnectionForced, Description: "connection lost: " + err.Error()}
	}
	return nil
}
