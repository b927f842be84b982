package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// ServiceSession is the handle of a back end. Its methods may be called from any goroutine. Each checks that the principal has the
// right it needs and fails with CodeUnauthorized otherwise; after the session's end they fail with the error it ended with:
// CodeTokenExpired (tokenGrace after the end of the token), or CodeClosed (Close, a reset of the hub, its end).
type ServiceSession struct {
	hub     *Hub
	conn    *door.Conn
	lasting bool  // survives resets: Admin's
	era     int64 // it was opened in; a lasting one belongs to none

	mu        sync.Mutex
	principal auth.Principal
	open      map[closer]struct{} // subscriptions and readers
	ended     *Error              // why, nil while the session lives
	onEnded   func(*Error)        // nil when nobody listens
	expiry    *clock.Timer        // nil when nobody listens, or the principal never expires
}

// closer is what ends with a service session.
type closer interface {
	Close()
	end() // Close when the hub wants it, not the head
}

// OpenService returns a handle for a policy principal; CodeUnauthorized for a device, or when its token has ended. It costs nothing to the hub until it has a
// reader, a subscription, or somebody who listens for its end.
func (h *Hub) OpenService(_ context.Context, p auth.Principal, c *door.Conn) (_ *ServiceSession, err error) {
	defer func() { err = failed(opServiceOpen, store.Key{DeviceID: p.DeviceID, ModuleID: p.ModuleID}, err) }()
	if !p.IsPolicy() {
		return nil, h.unauthorized(errors.New("a device may not act as a service"))
	}
	if h.closed.Load() {
		return nil, h.NewError(CodeClosed)
	}
	if !p.Expiry.IsZero() && ended(p.Expiry, h.clock.Now()) {
		return nil, h.unauthorized(fmt.Errorf("the token of %s has ended", principalName(p)))
	}
	return &ServiceSession{hub: h, principal: p, conn: c, era: h.era.Load()}, nil
}

// Admin returns a handle with every right, for the control API, the command and embedding. It goes on after resets; the readers and
// subscriptions it opened end with a reset like all others.
func (h *Hub) Admin() *ServiceSession {
	return &ServiceSession{hub: h, principal: admin, lasting: true}
}

// OnEnded has f called once, from any goroutine and without hub locks, when the hub ends the session: CodeTokenExpired, CodeClosed
// (a reset of the hub, or its end). The head then ends the session's links with that error. When the session has ended already, f
// is called at once. It is not called after Close, and never for Admin's handles. It must not block.
func (s *ServiceSession) OnEnded(f func(*Error)) {
	if s.lasting {
		return
	}
	s.mu.Lock()
	why := s.ended
	if why == nil {
		s.onEnded = f
		s.expireWith(s.principal)
	}
	s.mu.Unlock()
	switch {
	case why != nil:
		f(why)
	case !s.hub.services.add(s, s.era):
		s.end(s.hub.NewError(CodeClosed))
	}
}

// Renew replaces the principal after a token renewal (AMQP $cbs) and puts off the session's end to that of the new token. A device's
// principal changes nothing.
func (s *ServiceSession) Renew(p auth.Principal) {
	if !p.IsPolicy() {
		s.hub.log.Warn("a token renewal was ignored: a device may not act as a service", "category", Connections, "principal", principalName(p))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil && !s.lasting {
		s.expireWith(p)
	}
}

// expireWith makes p the principal; who listens is told when its token has ended. The caller holds mu.
func (s *ServiceSession) expireWith(p auth.Principal) {
	s.principal = p
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	if s.onEnded != nil && !p.Expiry.IsZero() {
		s.expiry = s.hub.clock.At(p.Expiry.Add(tokenGrace), s.expire)
	}
}

// expire is the function of the timer expiry. A renewal may have overtaken it.
func (s *ServiceSession) expire() {
	s.mu.Lock()
	expired := !s.principal.Expiry.IsZero() && !s.principal.Expiry.Add(tokenGrace).After(s.hub.clock.Now())
	s.mu.Unlock()
	if expired {
		s.end(s.hub.NewError(CodeTokenExpired))
	}
}

// Close ends the handle and its subscriptions and readers. It may be called more than once.
func (s *ServiceSession) Close() {
	open, _ := s.finish(errSessionClosed)
	for c := range open {
		c.Close()
	}
}

// end is Close for an end that the head must be told of.
func (s *ServiceSession) end(why *Error) {
	open, tell := s.finish(why)
	for c := range open {
		c.end()
	}
	if tell != nil {
		tell(why)
	}
}

// finish notes the end, and returns what has to end now and who has to be told. The second time it returns nothing.
func (s *ServiceSession) finish(why *Error) (open map[closer]struct{}, tell func(*Error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, nil
	}
	open, tell = s.open, s.onEnded
	if open != nil || tell != nil {
		s.hub.services.remove(s)
	}
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.ended, s.open, s.onEnded, s.expiry = why, nil, nil, nil
	return open, tell
}

// swept is what Reset and Close do to a session.
func (s *ServiceSession) swept(why *Error) {
	if !s.lasting {
		s.end(why)
		return
	}
	s.mu.Lock()
	open := s.open
	s.open = nil
	s.hub.services.remove(s) // it may have come back since
	s.mu.Unlock()
	for c := range open {
		c.end()
	}
}

// keep notes something that has to end with the session, and was opened in an era. It fails when either has ended already.
func (s *ServiceSession) keep(c closer, era int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	if !s.hub.services.add(s, era) {
		return s.hub.NewError(CodeClosed)
	}
	if s.open == nil {
		s.open = map[closer]struct{}{}
	}
	s.open[c] = struct{}{}
	return nil
}

// release forgets something that has ended before the session.
func (s *ServiceSession) release(c closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, kept := s.open[c]; !kept {
		return
	}
	delete(s.open, c)
	if len(s.open) == 0 {
		s.open = nil
		if s.onEnded == nil {
			s.hub.services.remove(s)
		}
	}
}

// live returns the error the session ended with, or nil.
func (s *ServiceSession) live() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	return nil
}

// need checks that the session lives, that the principal has the rights and that its token's scope covers resource, a path below
// the host.
func (s *ServiceSession) need(_ context.Context, rights auth.Rights, resource string) error {
	s.mu.Lock()
	why, p := s.ended, s.principal
	s.mu.Unlock()
	switch {
	case why != nil:
		return why
	case s.hub.closed.Load(), !s.lasting && s.era != s.hub.era.Load():
		return s.hub.NewError(CodeClosed)
	case !p.Expiry.IsZero() && ended(p.Expiry, s.hub.clock.Now()):
		return s.hub.NewError(CodeTokenExpired)
	case !p.Rights.Has(rights):
		return s.hub.unauthorized(fmt.Errorf("%s lacks the right for %s", principalName(p), resource))
	case !p.Covers(resource):
		return s.hub.unauthorized(fmt.Errorf("%s does not reach %s", principalName(p), resource))
	}
	return nil
}

// services are the sessions of back ends that have something to end: listeners, readers, subscriptions.
type services struct {
	hub *Hub
	mu  sync.Mutex
	all map[*ServiceSession]struct{}
}

// add notes a session for the sweeps to come. It reports false when the era's sweep is due or over, or the hub is closed.
func (v *services) add(s *ServiceSession, era int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.hub.closed.Load() || v.hub.era.Load() != era {
		return false
	}
	if v.all == nil {
		v.all = map[*ServiceSession]struct{}{}
	}
	v.all[s] = struct{}{}
	return true
}

func (v *services) remove(s *ServiceSession) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.all, s)
}

// sweep ends all that is there, for Reset and Close.
func (v *services) sweep(why *Error) {
	v.mu.Lock()
	all := v.all
	v.all = nil
	v.mu.Unlock()
	for s := range all {
		s.swept(why)
	}
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
