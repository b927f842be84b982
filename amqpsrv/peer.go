package amqpsrv

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// peer is one connection: what it has proven, and what stands behind its links. The engine calls it and its nodes one at a
// time; what other goroutines reach (the hub that ends a session, Server.Close) is guarded by mu.
type peer struct {
	srv     *Server
	door    *door.Conn
	log     *slog.Logger
	ctx     context.Context
	grants  grants
	replies map[replyKey]*replies

	mu       sync.Mutex // never held while calling the hub or the engine
	conn     *amqp10.Conn
	closing  *amqp10.Error
	units    map[store.Key]*unit
	services map[*hub.ServiceSession]policyScope // of back ends' links, with the token each was opened with

	outlets atomic.Int64 // bytes that wait in the outlets of all pairs

	pumps sync.WaitGroup // goroutines of event receivers; they end when there is nothing to send
}

func newPeer(s *Server, c *door.Conn) *peer {
	return &peer{
		srv:      s,
		door:     c,
		log:      s.log.With("door", c.Door().String(), "remote", c.RemoteAddr().String()),
		ctx:      s.ctx,
		replies:  map[replyKey]*replies{},
		units:    map[store.Key]*unit{},
		services: map[*hub.ServiceSession]policyScope{},
	}
}

// Open implements amqp10.Peer. Any container id and host name will do: SDKs send what they like.
func (p *peer) Open(c *amqp10.Conn, o *amqp10.Open) *amqp10.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = c
	p.log.Debug("AMQP connection opened", "category", hub.Connections, "container", o.ContainerID, "hostname", o.Hostname)
	return p.closing
}

// SessionEnded implements amqp10.Peer.
func (p *peer) SessionEnded(s *amqp10.Session) {
	delete(p.replies, replyKey{s, kindCBS})
	delete(p.replies, replyKey{s, kindManagement})
}

// Closed implements amqp10.Peer. The links' nodes have been told before.
func (p *peer) Closed(*amqp10.Conn, error) {}

// finish waits for what may still run on behalf of the connection.
func (p *peer) finish() { p.pumps.Wait() }

// shut closes the connection with err. A peer that has not opened yet is refused when it does, or cut at once.
func (p *peer) shut(err *amqp10.Error) {
	p.mu.Lock()
	p.closing = err
	c := p.conn
	p.mu.Unlock()
	if c == nil {
		p.door.Cut()
		return
	}
	c.Close(err)
}

// Attach implements amqp10.Peer: the address and the direction say which node the peer means.
func (p *peer) Attach(l *amqp10.Link) (amqp10.Node, *amqp10.Error) {
	a := parseAddress(l.Address())
	if key, differs := literalKey(l.Address()); differs && p.grants.proves(key) {
		a.key = key
	}
	var n amqp10.Node
	var err *amqp10.Error
	if l.Role() == amqp10.RoleReceiver {
		// uAMQP (azure-iot-hub for Python) asks for settle mode second wherever it sends, and then waits for us to settle first.
		l.SetRcvSettleMode(amqp10.RcvFirst)
		n, err = p.attachReceiver(l, a)
	} else {
		n, err = p.attachSender(l, a)
	}
	if err != nil {
		p.log.Debug("link refused", "category", hub.Connections, "address", l.Address(), "role", l.Role().String(), "error", err)
		return nil, p.track(err, slog.String("address", l.Address()))
	}
	return n, nil
}

// attachReceiver finds the node for a link on which the peer sends.
func (p *peer) attachReceiver(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	switch a.kind {
	case kindCBS:
		return p.attachCBS(l)
	case kindManagement:
		return p.attachManagement(l, a)
	case kindEvents:
		return p.attachTelemetry(l, a)
	case kindTwin, kindMethods:
		return p.attachPair(l, a)
	case kindC2D:
		return p.attachC2D(l, a)
	case kindHubEvents:
		return p.redirect(l, a)
	case kindProducer:
		return p.attachProducer(l, a)
	}
	return p.refuse(l, a)
}

// attachSender finds the node for a link on which the peer receives.
func (p *peer) attachSender(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	switch a.kind {
	case kindCBS, kindManagement:
		return p.attachReplies(l, a)
	case kindEvents:
		return p.attachInputs(l, a)
	case kindDevicebound:
		return p.attachDevicebound(l, a)
	case kindTwin, kindMethods:
		return p.attachPair(l, a)
	case kindFeedback, kindFileNotifications:
		return p.attachServicebound(l, a)
	case kindPartition:
		return p.attachEventReceiver(l, a)
	case kindHubEvents:
		return p.redirect(l, a)
	}
	return p.refuse(l, a)
}
