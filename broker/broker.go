// Package broker is the MQTT head: it speaks IoT Hub's dialect of MQTT 3.1.1 with devices and modules, on the MQTT library
// mochi, and calls hub for every rule. mochi frames and decodes packets and leads the connection through its life; its
// subscriptions, sessions, retained and in-flight messages are not used, because IoT Hub is no general broker.
package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
)

const (
	// maxMessage is the largest telemetry message. IoT Hub: "device-to-cloud messages can be at most 256 KB".
	maxMessage = 256 << 10
	// maxPacket is the largest packet that is read: a topic and a payload of full size, so that the hub can judge
	// every message that might be small enough.
	maxPacket = maxMessage + 1<<16 + 8
	// readBuffer is mochi's buffer per connection; what is longer is read past it.
	readBuffer = 1 << 10
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
	server   *mqtt.Server
	sessions *sessions
	ctx      context.Context // of calls to the hub; ends with Close
	cancel   context.CancelFunc

	connectTimeout, writeTimeout time.Duration // tests shorten them

	mu     sync.Mutex
	closed bool
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
	b.server = mqtt.New(options())
	if err := b.server.AddHook(&hook{}, nil); err != nil {
		panic(fmt.Sprintf("broker: mochi refused a hook that needs nothing: %v", err)) // cannot happen: hook.Init returns nil
	}
	return b
}

// options switches off what mochi brings along. Its event loop ($SYS topics, expiry of sessions) never starts, because
// Serve of mochi's server is never called.
func options() *mqtt.Options {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumClientWritesPending = 1 // nothing is ever queued there: stream gathers writes
	c.MaximumPacketSize = maxPacket
	c.MinimumProtocolVersion = 4
	c.MaximumQos = 1
	c.TopicAliasMaximum = 0
	c.RetainAvailable, c.SharedSubAvailable, c.WildcardSubAvailable, c.SubIDAvailable = 0, 0, 0, 0
	return &mqtt.Options{
		Capabilities:             c,
		ClientNetReadBufferSize:  readBuffer,
		ClientNetWriteBufferSize: readBuffer,
		Logger:                   slog.New(slog.DiscardHandler), // it would log passwords and payloads; connection.report tells what matters
	}
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
	err := b.server.EstablishConnection(c.Door().String(), conn)
	_ = conn.Close() // mochi has done so already
	<-conn.done
	conn.end(err)
}

// Close ends every connection and waits for their Serve to return. Clients find the connection closed; sessions that they
// asked to be kept are forgotten.
func (b *Broker) Close() {
	b.mu.Lock()
	b.closed = true
	for c := range b.conns {
		_ = c.Close()
	}
	b.mu.Unlock()
	b.cancel()
	b.served.Wait()
}

func (b *Broker) admit(c *connection) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
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
