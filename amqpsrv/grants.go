package amqpsrv

import (
	"crypto/x509"
	"net/url"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// maxGrants bounds the tokens one connection may hold; SDKs recommend at most 1000 devices on one.
const maxGrants = 1 << 16

// grants are the principals that a connection has proven: tokens belong to the connection and outlive the $cbs links they came
// by. The newest counts for an identity, and for a policy and scope. The engine's callbacks alone use it.
type grants struct {
	identities map[store.Key]auth.Principal // proven for a device or module, with its own key or a policy's
	general    map[policyScope]auth.Principal
}

// policyScope tells apart tokens that reach further than one device.
type policyScope struct{ policy, scope string }

// put adds or replaces a principal. It reports false when there are too many.
func (g *grants) put(p auth.Principal) bool {
	if g.identities == nil {
		g.identities, g.general = map[store.Key]auth.Principal{}, map[policyScope]auth.Principal{}
	}
	if key, ok := identity(p); ok {
		return putInto(g.identities, key, p)
	}
	return putInto(g.general, policyScope{p.Policy, p.Scope}, p)
}

func putInto[K comparable](m map[K]auth.Principal, key K, p auth.Principal) bool {
	if _, renewed := m[key]; !renewed && len(m) >= maxGrants {
		return false
	}
	m[key] = p
	return true
}

// identity returns the device or module that p is proven for.
func identity(p auth.Principal) (store.Key, bool) {
	if !p.IsPolicy() {
		return store.Key{DeviceID: p.DeviceID, ModuleID: p.ModuleID}, true
	}
	device, module, ok := auth.ScopeIdentity(p.Scope)
	return store.Key{DeviceID: once(device), ModuleID: once(module)}, ok
}

// once decodes an id that was percent-encoded before the whole resource was.
func once(id string) string {
	if decoded, err := url.PathUnescape(id); err == nil {
		return decoded
	}
	return id
}

// proves reports whether the identity itself has been proven.
func (g *grants) proves(key store.Key) bool {
	_, ok := g.identities[key]
	return ok
}

// forDevice returns who might act as key, the most specific first. Policies without DeviceConnect are named only when there is
// nobody else, for the hub to refuse.
func (g *grants) forDevice(key store.Key) []auth.Principal {
	var out, hopeless []auth.Principal
	if p, ok := g.identities[key]; ok {
		out = append(out, p)
	}
	if p, ok := g.identities[store.Key{DeviceID: key.DeviceID}]; ok && key.ModuleID != "" && p.IsPolicy() {
		out = append(out, p)
	}
	for _, p := range g.general {
		if p.Rights.Has(auth.DeviceConnect) {
			out = append(out, p)
		} else {
			hopeless = append(hopeless, p)
		}
	}
	if len(out) == 0 {
		return hopeless
	}
	return out
}

// empty says whether nothing has been proven.
func (g *grants) empty() bool { return len(g.identities) == 0 && len(g.general) == 0 }

// certificates returns those of the peer's TLS handshake, leaf first.
func (p *peer) certificates() []*x509.Certificate {
	if state := p.door.TLS(); state != nil {
		return state.PeerCertificates
	}
	return nil
}
