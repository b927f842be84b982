package amqpsrv

import (
	"slices"
	"time"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// service opens a session for a back end's link, with a policy of this connection that has ServiceConnect and whose token covers
// one of the resources (decoded paths). Links of a back end do not share sessions: each ends with its link, and the link with its
// session, when its token ends without renewal or the hub is reset. leaveService closes it.
func (p *peer) service(l *amqp10.Link, resources ...string) (*hub.ServiceSession, *amqp10.Error) {
	principal, err := p.serviceGrant(resources)
	if err != nil {
		return nil, p.render(err)
	}
	s, err := p.srv.hub.OpenService(p.ctx, principal, p.door)
	if err != nil {
		return nil, p.render(err)
	}
	p.mu.Lock()
	p.services[s] = policyScope{principal.Policy, principal.Scope}
	p.mu.Unlock()
	s.OnEnded(func(e *hub.Error) { l.Detach(p.render(e)) })
	return s, nil
}

// leaveService closes the session of a link that is gone. Any goroutine.
func (p *peer) leaveService(s *hub.ServiceSession) {
	p.mu.Lock()
	delete(p.services, s)
	p.mu.Unlock()
	s.Close()
}

// renewServices gives a new token to the sessions that were opened with the one it replaces.
func (p *peer) renewServices(principal auth.Principal) {
	if !principal.IsPolicy() {
		return
	}
	token := policyScope{principal.Policy, principal.Scope}
	p.mu.Lock()
	var renewed []*hub.ServiceSession
	for s, opened := range p.services {
		if opened == token {
			renewed = append(renewed, s)
		}
	}
	p.mu.Unlock()
	for _, s := range renewed {
		s.Renew(principal)
	}
}

// serviceGrant picks the principal, of several the one whose token lasts longest. When nothing was proven the hub has the word: it
// refuses, or lets pass with authentication off.
func (p *peer) serviceGrant(resources []string) (auth.Principal, error) {
	var best *auth.Principal
	for _, principal := range p.grants.general {
		covers := slices.ContainsFunc(resources, principal.Covers)
		if principal.Rights.Has(auth.ServiceConnect) && covers && (best == nil || outlasts(principal.Expiry, best.Expiry)) {
			best = &principal
		}
	}
	if best != nil {
		return *best, nil
	}
	if p.grants.empty() {
		return p.srv.hub.Authenticate(p.ctx, hub.Credential{}, store.Key{})
	}
	return auth.Principal{}, p.srv.hub.NewError(hub.CodeUnauthorized)
}

// outlasts compares when tokens end; the zero time is never.
func outlasts(a, b time.Time) bool { return !b.IsZero() && (a.IsZero() || a.After(b)) }
