package amqpsrv

import (
	"sync"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// unit is one device or module on a connection: its session with the hub, shared by its links. It is connected from its
// first link to its last; the connection and the other units do not notice.
type unit struct {
	key     store.Key
	session *hub.DeviceSession
	scope   string // of the token that opened it

	// Used by the engine's callbacks alone:
	bound            *pushed // the devicebound link, nil when there is none
	desired, methods bool    // what the hub was asked to bring

	methodIDs methodIDs // set by the first link for methods

	mu    sync.Mutex // may be held while calling Link.Send and Link.Detach, never while calling the hub, FailMethod and MethodWaits excepted
	pairs []*pair    // of links to the twin and to methods, in the order they came

	// Guarded by peer.mu:
	links map[*amqp10.Link]struct{}
	ended *amqp10.Error
}

// join finds or opens the session of key and adds the link to it.
func (p *peer) join(l *amqp10.Link, key store.Key) (*unit, *amqp10.Error) {
	p.mu.Lock()
	u := p.units[key]
	p.mu.Unlock()
	if u == nil {
		var err error
		if u, err = p.openUnit(l, key); err != nil {
			return nil, p.render(err)
		}
	}
	u.session.SetModel(p.ctx, l.Properties().Text("com.microsoft:model-id")) // C# and Java name it on some links alone
	p.mu.Lock()
	defer p.mu.Unlock()
	if u.ended != nil { // in the meantime
		return nil, u.ended
	}
	u.links[l] = struct{}{}
	p.units[key] = u
	return u, nil
}

// openUnit opens a session with the first of the connection's principals that may act as key.
func (p *peer) openUnit(l *amqp10.Link, key store.Key) (*unit, error) {
	var first error
	for _, principal := range p.grants.forDevice(key) {
		u, err := p.openAs(l, principal, key)
		if err == nil {
			return u, nil
		}
		if first == nil {
			first = err
		}
	}
	certificates := p.certificates()
	if first != nil && certificates == nil {
		return nil, first
	}
	// A device with a certificate puts no token; the identity is the one in the link's address.
	principal, err := p.srv.hub.Authenticate(p.ctx, hub.Credential{Certificates: certificates}, key)
	if err != nil {
		return nil, err
	}
	return p.openAs(l, principal, key)
}

func (p *peer) openAs(l *amqp10.Link, principal auth.Principal, key store.Key) (*unit, error) {
	u := &unit{key: key, scope: principal.Scope, links: map[*amqp10.Link]struct{}{}}
	session, err := p.srv.hub.OpenDevice(p.ctx, principal, key, hub.DeviceOptions{
		Conn:      p.door,
		UserAgent: p.userAgent(l),
		Ended:     func(e *hub.Error) { p.end(u, hubError(e)) },
	})
	if err != nil {
		return nil, err
	}
	u.session = session
	return u, nil
}

// userAgent is what the client says it is, on the link or on the connection.
func (p *peer) userAgent(l *amqp10.Link) string {
	const key = "com.microsoft:client-version"
	if v := l.Properties().Text(key); v != "" {
		return v
	}
	if o := l.Conn().Open(); o != nil {
		return o.Properties.Text(key)
	}
	return ""
}

// end detaches the links of a unit whose session the hub has ended, and nobody else's. Any goroutine.
func (p *peer) end(u *unit, err *amqp10.Error) {
	p.mu.Lock()
	u.ended = err
	if p.units[u.key] == u {
		delete(p.units, u.key)
	}
	links := make([]*amqp10.Link, 0, len(u.links))
	for l := range u.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.Detach(err)
	}
}

// part takes a link out of its unit; with the last one the device is gone from this connection.
func (p *peer) part(u *unit, l *amqp10.Link) {
	p.mu.Lock()
	delete(u.links, l)
	last, closing := len(u.links) == 0, p.closing != nil
	if last && p.units[u.key] == u {
		delete(p.units, u.key)
	}
	p.mu.Unlock()
	if !last {
		return
	}
	if err := l.Conn().Lost(); err != nil && !closing {
		u.session.Lost(err)
		return
	}
	u.session.Close()
}

// renew gives a new token to the sessions that were opened with the one it replaces.
func (p *peer) renew(principal auth.Principal) {
	p.mu.Lock()
	var units []*unit
	for _, u := range p.units {
		if u.scope == principal.Scope {
			units = append(units, u)
		}
	}
	p.mu.Unlock()
	for _, u := range units {
		u.session.Renew(principal)
	}
}
