package amqpsrv

import (
	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// service opens a session for a back end's link, with a policy of this connection that has ServiceConnect and whose token covers
// one of the resources (decoded paths). Links of a back end do not share sessions: each ends with its link.
func (p *peer) service(resources ...string) (*hub.ServiceSession, *amqp10.Error) {
	principal, err := p.serviceGrant(resources)
	if err == nil {
		var s *hub.ServiceSession
		if s, err = p.srv.hub.OpenService(p.ctx, principal, p.door); err == nil {
			return s, nil
		}
	}
	return nil, render(p.log, err)
}

// serviceGrant picks the principal. When nothing was proven the hub has the word: it refuses, or lets pass with authentication off.
func (p *peer) serviceGrant(resources []string) (auth.Principal, error) {
	for _, principal := range p.grants.general {
		for _, r := range resources {
			if principal.Rights.Has(auth.ServiceConnect) && principal.Covers(r) {
				return principal, nil
			}
		}
	}
	if p.grants.empty() {
		return p.srv.hub.Authenticate(p.ctx, hub.Credential{}, store.Key{})
	}
	return auth.Principal{}, p.srv.hub.NewError(hub.CodeUnauthorized)
}
