// Package broker is the MQTT head: it speaks IoT Hub's dialect of MQTT 3.1.1 with devices and modules, and calls hub for every
// rule. Packets are decoded by mochi's codec. mochi's server is not used: IoT Hub is no general broker, and what a server brings
// along (subscriptions, sessions, take-over, retained and in-flight messages, acknowledging what it refuses) is either hub's
// business or not IoT Hub's behaviour.
package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
)

// Config configures a Broker.
type Config struct {
	Hub    *hub.Hub
	Logger *slog.Logger // [nowhere]
}

// Broker serves MQTT connections. Its methods may be called from any goroutine.
type Broker struct {
	hub      *hub.Hub
	log      *slog.Logger
	sessions *sessions
	ctx      context.Context // of calls to the hub; ends with Close
	cancel   context.CancelFunc

	connectTimeout, writeTimeout time.Duration // tests shorten them

	mu     sync.Mutex
	conns  map[*connection]struct{}
	served sync.WaitGroup // one for each Serve
}

// New returns a broker that serves no connection yet. Close ends it.
func New(cfg Config) *Broker {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &Broker{hub: cfg.Hub, log: log, ctx: ctx, cancel: cancel, connectTimeout: connectTimeout, writeTimeout: writeTimeout, conns: map[*connection]struct{}{}}
	b.sessions = newSessions(b.generation)
	return b
}

// Serve speaks MQTT on c until the connection ends; c may also be a stream of bytes inside something else, as long as its
// Read ends when it is closed. c is closed on return.
func (b *Broker) Serve(c *door.Conn) {
	conn := newConnection(b, c)
	if !b.admit(conn) {
		_ = c.Close()
		return
	}
	defer b.forget(conn)
	err := conn.run()
	conn.close()
	<-conn.done
	conn.end(err)
}

// Close ends every connection and waits for their Serve to return. Clients find the connection closed; sessions that they
// asked to be kept are forgotten.
func (b *Broker) Close() {
	b.cancel() // first: what ends from here on ends because of it
	b.mu.Lock()
	for c := range b.conns {
		c.close()
	}
	b.mu.Unlock()
	b.served.Wait()
}

func (b *Broker) admit(c *connection) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosed() {
		return false
	}
	b.conns[c] = struct{}{}
	b.served.Add(1)
	return true
}

func (b *Broker) forget(c *connection) {
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
	b.served.Done()
}

// isClosed reports whether Close was called.
func (b *Broker) isClosed() bool { return b.ctx.Err() != nil }
