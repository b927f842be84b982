package door

import (
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
)

// Conn is an accepted connection: it knows its door and its TLS state, counts bytes both ways (above TLS), and can be cut.
// Heads are handed one and never see a listener.
type Conn struct {
	net.Conn
	door Door
	tls  *tls.ConnectionState // nil without TLS
	raw  net.Conn             // the TCP connection below TLS and WebSocket, for Cut and OnIdle
	in   atomic.Int64
	out  atomic.Int64
}

// Wrap dresses an established connection. A *tls.Conn must have finished its handshake.
func Wrap(nc net.Conn, d Door) *Conn {
	nc = dress(nc)
	c := &Conn{Conn: nc, door: d, raw: nc}
	if t, ok := nc.(*tls.Conn); ok {
		state := t.ConnectionState()
		c.tls, c.raw = &state, t.NetConn()
	}
	return c
}

// Over dresses stream, a protocol carried inside c such as a WebSocket, as a connection of door d: with its own byte
// counts, the TLS state of c, and a Cut that cuts c.
func (c *Conn) Over(stream net.Conn, d Door) *Conn {
	return &Conn{Conn: stream, door: d, tls: c.tls, raw: c.raw}
}

// Door returns the door the connection came through.
func (c *Conn) Door() Door { return c.door }

// TLS returns the state after the handshake, or nil for a plain connection.
func (c *Conn) TLS() *tls.ConnectionState { return c.tls }

// BytesIn returns how many bytes were read from the peer, above TLS.
func (c *Conn) BytesIn() int64 { return c.in.Load() }

// BytesOut returns how many bytes were written to the peer, above TLS.
func (c *Conn) BytesOut() int64 { return c.out.Load() }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(int64(n))
	return n, err
}

// CloseWrite tells the peer that nothing more will come, and leaves it time to read what has: with TLS by close_notify. It
// fails with errors.ErrUnsupported for a stream that cannot be closed half, such as a WebSocket.
func (c *Conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// OnIdle has f called before a Read waits for the peer, on the goroutine that reads, once the kernel has said that nothing is there: the
// moment to send the answers to all that was. f may write to the connection; it must not read from it, and must not close it, which would
// wait for the read that it is part of. To be called before that goroutine's first Read; no other may read from then on. It reports whether
// the connection can tell: only TCP can, whatever is carried in it.
func (c *Conn) OnIdle(f func()) bool { return onIdle(c.raw, f) }

// Cut drops the connection without a goodbye of any protocol: pending data is discarded and TCP sends a reset. It does
// not block and may be called from any goroutine, more than once.
func (c *Conn) Cut() {
	if t, ok := c.raw.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0) // the reset is a courtesy; closing is what counts
	}
	_ = c.raw.Close()
}
