package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// ServiceSession is the handle of a back end. Every method checks that the principal has the right it needs and fails with
// CodeUnauthorized otherwise.
type ServiceSession struct {
	hub       *Hub
	principal auth.Principal
	conn      *door.Conn

	mu     sync.Mutex
	open   map[closer]struct{} // subscriptions and readers
	closed bool
}

// closer is what ends with a service session.
type closer interface{ Close() }

// OpenService returns a handle for a policy principal; CodeUnauthorized for a device.
func (h *Hub) OpenService(ctx context.Context, p auth.Principal, c *door.Conn) (*ServiceSession, error) {
	if !p.IsPolicy() {
		return nil, h.unauthorized(ctx, store.Key{DeviceID: p.DeviceID, ModuleID: p.ModuleID}, errors.New("a device may not act as a service"))
	}
	if h.closed.Load() {
		return nil, h.NewError(CodeClosed)
	}
	return &ServiceSession{hub: h, principal: p, conn: c}, nil
}

// Admin returns a handle with every right, for the control API, the command and embedding.
func (h *Hub) Admin() *ServiceSession { return &ServiceSession{hub: h, principal: admin} }

// Close ends the handle and its subscriptions and readers. It may be called more than once.
func (s *ServiceSession) Close() {
	s.mu.Lock()
	open := s.open
	s.open, s.closed = nil, true
	s.mu.Unlock()
	for c := range open {
		c.Close()
	}
}

// keep notes something that has to end with the session; it reports false when the session has ended already.
func (s *ServiceSession) keep(c closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.open == nil {
		s.open = map[closer]struct{}{}
	}
	s.open[c] = struct{}{}
	return true
}

// release forgets something that has ended before the session.
func (s *ServiceSession) release(c closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// need checks that the principal has the rights and that its token's scope covers resource, a path below the host.
func (s *ServiceSession) need(ctx context.Context, rights auth.Rights, resource string) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	switch {
	case closed || s.hub.closed.Load():
		return s.hub.NewError(CodeClosed)
	case !s.principal.Rights.Has(rights):
		return s.hub.unauthorized(ctx, store.Key{}, fmt.Errorf("%s lacks the right for %s", principalName(s.principal), resource))
	case !s.principal.Covers(resource):
		return s.hub.unauthorized(ctx, store.Key{}, fmt.Errorf("%s does not reach %s", principalName(s.principal), resource))
	}
	return nil
}

// registryError is how the hub puts an error of the registry about key.
func (h *Hub) registryError(err error, key store.Key) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return h.notFound(key)
	case errors.Is(err, store.ErrConflict):
		return h.NewError(CodePreconditionFailed)
	case errors.Is(err, store.ErrExists) && key.ModuleID != "":
		return h.NewError(CodeModuleAlreadyExists, key.DeviceID, h.cfg.Name, key.ModuleID)
	case errors.Is(err, store.ErrExists):
		return h.NewError(CodeDeviceAlreadyExists, key.DeviceID)
	}
	return err
}
