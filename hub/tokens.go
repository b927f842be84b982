package hub

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// Sizes of provenTokens.
const (
	maxProven = 4096
	maxSeen   = 2048 // a power of two
)

// provenTokens remembers tokens whose signature was found right, since an HTTP client shows the same one with every request. A token
// counts only as long as its identity's row in the registry is unchanged. It is remembered when it comes a second time: the one
// of a connection that stays does not come again.
type provenTokens struct {
	mu     sync.RWMutex
	seed   maphash.Seed
	seen   [maxSeen]uint64 // hashes of tokens that came once
	proven map[string]provenToken
}

// provenToken is what a token proves.
type provenToken struct {
	principal auth.Principal
	etag      string // of the identity; empty for a policy, whose keys never change
}

// find returns the principal of a remembered token if it still counts.
func (p *provenTokens) find(ctx context.Context, h *Hub, text string) (auth.Principal, bool) {
	p.mu.RLock()
	found, ok := p.proven[text]
	p.mu.RUnlock()
	if !ok || ended(found.principal.Expiry, h.clock.Now()) {
		return auth.Principal{}, false
	}
	if found.principal.IsPolicy() {
		return found.principal, true
	}
	id, err := h.activeIdentity(ctx, store.Key{DeviceID: found.principal.DeviceID, ModuleID: found.principal.ModuleID})
	return found.principal, err == nil && id.ETag == found.etag
}

// remember notes a token that was found right.
func (p *provenTokens) remember(text string, proof provenToken) {
	hash := maphash.String(p.seed, text)
	p.mu.Lock()
	defer p.mu.Unlock()
	if slot := &p.seen[hash%maxSeen]; *slot != hash {
		*slot = hash
		return
	}
	for old := range p.proven {
		if len(p.proven) < maxProven {
			break
		}
		delete(p.proven, old) // any one: they are proven again quickly
	}
	if p.proven == nil {
		p.proven = map[string]provenToken{}
	}
	p.proven[strings.Clone(text)] = proof
}

// ended reports whether a token that ends at expiry no longer counts.
func ended(expiry, now time.Time) bool { return expiry.Add(tokenGrace).Before(now) }
