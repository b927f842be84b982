package hub

import (
	"context"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// requestProof is what a session of requests was opened with. While it counts, the session is what opening another would give.
type requestProof struct {
	token  string
	expiry time.Time // of the token
	etag   string    // of the identity's row in the registry, which a change of its keys or status changes
}

// OpenRequest proves who makes a request as Authenticate does, and opens a transient session for it. last is what it returned for the
// request before on the same connection, nil for the first: a client shows the same token with every request, so last serves this
// one too as long as the token counts and neither the identity nor the hub has changed. Otherwise last is closed.
func (h *Hub) OpenRequest(ctx context.Context, shown Credential, key store.Key, o DeviceOptions, last *DeviceSession) (*DeviceSession, error) {
	if last != nil {
		if last.serves(ctx, shown, key) {
			return last, nil
		}
		last.Close()
	}
	row, _ := h.registry.Get(ctx, key) // as it is before anything is proved with it; OpenDevice finds out if there is none
	p, err := h.Authenticate(ctx, shown, key)
	if err != nil {
		return nil, err
	}
	o.Transient = true
	s, err := h.OpenDevice(ctx, p, key, o)
	if err != nil {
		return nil, err
	}
	if p.Method == auth.MethodSAS && (p.IsPolicy() || p.DeviceID == key.DeviceID && p.ModuleID == key.ModuleID) { // else another row counts, too
		s.request = &requestProof{token: strings.Clone(shown.Token), expiry: p.Expiry, etag: row.ETag}
	}
	return s, nil
}

// serves reports whether a request with this credential may go on with the session of the one before. It is an activity of the identity.
func (s *DeviceSession) serves(ctx context.Context, shown Credential, key store.Key) bool {
	h, r := s.hub, s.request
	if r == nil || r.token != shown.Token || s.key != key || s.live() != nil || h.closed.Load() || h.era.Load() != s.era {
		return false
	}
	now := h.clock.Now()
	if ended(r.expiry, now) {
		return false
	}
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock() // nothing has changed that unlockPeer would have to do something about
	if s.peer.gone {
		return false
	}
	id, err := h.activeIdentity(ctx, key)
	if err != nil || id.ETag != r.etag {
		return false
	}
	s.peer.activity.Store(now.UnixNano())
	return true
}
