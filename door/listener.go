package door

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

// handshakeTimeout bounds a TLS handshake, so that a silent client holds nothing for long.
const handshakeTimeout = 15 * time.Second

// category is that of the resource logs of IoT Hub, which hub.Category lists.
const category = "Connections"

// Listener is one open door: it accepts, shakes hands, wraps, and hands each connection to a head.
type Listener struct {
	door Door
	tcp  net.Listener
	tls  *tls.Config
	log  *slog.Logger
	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu     sync.Mutex
	conns  map[*Conn]struct{}
	closed bool
	wg     sync.WaitGroup // the accept loop and every connection's goroutine
}

// Listen opens door d at address. config is nil for a door without TLS.
func Listen(ctx context.Context, d Door, address string, config *tls.Config, log *slog.Logger) (*Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // Go's default for listeners: no device of a local hub has two ways to it
	tcp, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open the %s door: %w", d, err)
	}
	l := &Listener{door: d, tcp: tcp, tls: config, log: log, conns: map[*Conn]struct{}{}}
	l.ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	return l, nil
}

// Addr returns the address as bound.
func (l *Listener) Addr() *net.TCPAddr { return l.tcp.Addr().(*net.TCPAddr) }

// Door returns which door this is.
func (l *Listener) Door() Door { return l.door }

// Serve starts accepting; each connection is passed to head on a goroutine of its own, which ends when head returns. It
// returns at once; Close ends it.
func (l *Listener) Serve(head func(*Conn)) {
	l.wg.Go(func() { l.accept(head) })
}

// Close stops accepting, cuts every connection and waits for their goroutines.
func (l *Listener) Close() {
	l.mu.Lock()
	l.closed = true
	_ = l.tcp.Close()
	l.stop()
	for c := range l.conns {
		c.Cut()
	}
	l.mu.Unlock()
	l.wg.Wait()
}

func (l *Listener) accept(head func(*Conn)) {
	var pause time.Duration
	for {
		nc, err := l.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, or the peer was gone before we looked: go on, but not in a hot loop
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			l.log.Warn("accept failed", "category", category, "door", l.door.String(), "error", err, "pause", pause)
			_ = clock.New().Sleep(l.ctx, pause)
			continue
		}
		pause = 0
		l.wg.Go(func() { l.welcome(nc, head) })
	}
}

// welcome takes one connection from TCP to its head. The head gets a goroutine of its own: a goroutine keeps the stack that it once
// needed, a handshake needs much, and a head may wait for days.
func (l *Listener) welcome(nc net.Conn, head func(*Conn)) {
	nc = dress(nc)
	c := &Conn{Conn: nc, raw: nc, door: l.door}
	if !l.track(c) {
		_ = nc.Close()
		return
	}
	if l.tls != nil {
		if err := c.handshake(l.tls); err != nil {
			l.refuse(c, err)
			return
		}
	}
	l.wg.Go(func() {
		defer l.forget(c)
		head(c)
	})
}

// refuse gives up a connection whose handshake failed. As a part of welcome, what it has on the stack would double that of every handshake.
func (l *Listener) refuse(c *Conn, err error) {
	l.log.Debug("TLS handshake failed", "category", category, "door", l.door.String(), "remote", c.raw.RemoteAddr().String(), "error", err)
	l.forget(c)
}

// handshake puts TLS on a connection that nobody has used yet. Cut ends it; a context would cost a goroutine more.
func (c *Conn) handshake(config *tls.Config) error {
	t := tls.Server(c.raw, config)
	if err := c.raw.SetDeadline(clock.Wall().Add(handshakeTimeout)); err != nil {
		return err
	}
	if err := t.HandshakeContext(context.Background()); err != nil {
		return err
	}
	state := t.ConnectionState()
	c.Conn, c.tls = t, &state
	return c.raw.SetDeadline(time.Time{})
}

func (l *Listener) track(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *Listener) forget(c *Conn) {
	_ = c.Conn.Close()
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
}
