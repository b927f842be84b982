package amqpsrv

import (
	"crypto/x509"
	"net/url"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// maxGrants bounds the tokens one connection may hold; SDKs recommend at most 1000 devices on one.
const maxGrants = 1 << 16

// grants are the principals that a connection has proven, at most one per scope: tokens belong to the connection and
// outlive the $cbs links they came by. The engine's callbacks alone use it.
type grants struct {
	identities map[store.Key]auth.Principal // proven for a device or module, with its own key or a policy's
	general    map[string]auth.Principal    // of policies, by scope
}

// put adds or replaces the principal of the scope. It reports false when there are too many.
func (g *grants) put(p auth.Principal) bool {
	if len(g.identities)+len(g.general) >= maxGrants {
		return false
	}
	if key, ok := identity(p); ok {
		if g.identities == nil {
			g.identities = map[store.Key]auth.Principal{}
		}
		g.identities[key] = p
		return true
	}
	if g.general == nil {
		g.general = map[string]auth.Principal{}
	}
	g.general[p.Scope] = p
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

// forDevice returns who might act as key, the most specific first.
func (g *grants) forDevice(key store.Key) []auth.Principal {
	var out []auth.Principal
	if p, ok := g.identities[key]; ok {
		out = append(out, p)
	}
	if key.ModuleID != "" {
		if p, ok := g.identities[store.Key{DeviceID: key.DeviceID}]; ok {
			out = append(out, p)
		}
	}
	for _, p := range g.general {
		out = append(out, p)
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
