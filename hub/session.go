package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// DeviceOptions describe the connection behind a device session.
type DeviceOptions struct {
	Conn      *door.Conn
	UserAgent string
	ModelID   string // dtmi of the connection, empty when none
	// Ended is called once, from any goroutine and without hub locks, when the hub ends the session: CodeConnectionReplaced (a
	// newer connection of the same identity), CodeTokenExpired, CodeDeviceDisabled, CodeDeviceNotFound (deleted), CodeClosed. The head then closes
	// the connection (MQTT) or the identity's links (AMQP) with that error. It is not called after Close. It must not block.
	Ended func(*Error)
	// Transient is for HTTP requests: the session is no connection, replaces none, and needs neither Ended nor Close.
	Transient bool
}

// DeviceSession is the handle of one connected device or module. Its methods may be called from any goroutine; after its end
// they fail with the error it ended with.
type DeviceSession struct {
	hub     *Hub
	key     store.Key
	peer    *peer
	options DeviceOptions
	since   time.Time

	// What every message of the session is stamped with, and the era it belongs to.
	era        int64
	partition  int
	generation string
	authMethod string
	to         string

	request *requestProof // of OpenRequest; nil when the session is for one request only
	meter   telemetryMeter
	model   atomic.Pointer[string] // dtmi, nil when none was named

	ended atomic.Pointer[Error] // why, nil while the session lives
	tasks atomic.Pointer[tasks] // nil until the head subscribes to something: most connections only send

	// Guarded by the peer's lock.
	method    auth.Method
	expiry    *clock.Timer  // nil when the principal never expires
	expiresAt time.Time     // when it fires
	push      *Subscription // of the devicebound queue; nil when there is none
}

// tasks is what is brought to a connected identity besides cloud-to-device messages.
type tasks struct {
	// Guarded by the peer's lock.
	desired func(DesiredChange)      // nil when nobody listens
	methods func(MethodRequest) bool // nil when none is taken

	changes outbox  // carries DesiredChange in order
	calls   pending // methods that wait for their response
}

// subscribe changes what is brought to the identity. The head's callbacks are never called by it.
func (s *DeviceSession) subscribe(change func(*tasks)) error {
	if s.options.Transient {
		return s.hub.NewError(CodeInvalidOperation, "a single request cannot subscribe")
	}
	s.peer.mu.Lock()
	defer s.peer.unlock()
	if err := s.live(); err != nil {
		return err
	}
	if s.tasks.Load() == nil {
		s.tasks.Store(new(tasks))
	}
	change(s.tasks.Load())
	return nil
}

// unsubscribe takes back what subscribe did.
func (s *DeviceSession) unsubscribe(change func(*tasks)) {
	s.peer.mu.Lock()
	defer s.peer.unlock()
	if t := s.tasks.Load(); t != nil {
		change(t)
	}
}

// OpenDevice lets principal p act as key: it checks scope, rights and the device's status, closes an older connection of the
// same identity (unless o.Transient), and marks the identity connected. CodeUnauthorized when p may not; CodeDeviceNotFound or
// CodeModuleNotFound when a hub policy (or anybody, with authentication off) names an identity that does not exist.
func (h *Hub) OpenDevice(ctx context.Context, p auth.Principal, key store.Key, o DeviceOptions) (_ *DeviceSession, err error) {
	defer func() { err = failed(opConnect, key, err) }()
	if !mayAct(p, key) {
		return nil, h.unauthorized(fmt.Errorf("%s may not act as this identity", principalName(p)))
	}
	s := &DeviceSession{hub: h, key: key, options: o}
	peer := h.lockPeer(key)
	defer h.unlockPeer(peer)
	s.peer = peer
	if h.closed.Load() {
		return nil, h.NewError(CodeClosed)
	}
	s.era = h.era.Load() // before anything is looked up
	// Read under the peer's lock: who deletes the identity takes it afterwards, and finds the session.
	id, err := h.activeIdentity(ctx, key)
	if err != nil {
		return nil, h.openError(p, key, err)
	}
	s.stamp(id, p)
	peer.activity.Store(s.since.UnixNano())
	if !o.Transient {
		peer.install(ctx, s, p, id.ModelID)
	}
	return s, nil
}

// errDisabled is why a disabled device and its modules may not connect.
var errDisabled = errors.New("the device is disabled")

// activeIdentity returns an identity that may connect.
func (h *Hub) activeIdentity(ctx context.Context, key store.Key) (store.Identity, error) {
	id, err := h.registry.Get(ctx, key)
	if err != nil {
		return id, err
	}
	device := id
	if key.ModuleID != "" {
		if device, err = h.registry.Get(ctx, store.Key{DeviceID: key.DeviceID}); err != nil {
			return id, err
		}
	}
	if device.Status == store.Disabled {
		return id, errDisabled
	}
	return id, nil
}

// openError is what a peer learns when its identity cannot connect: only a hub policy learns that it does not exist.
func (h *Hub) openError(p auth.Principal, key store.Key, err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound) && (p.IsPolicy() || h.cfg.AuthOff):
		return h.notFound(key)
	case errors.Is(err, store.ErrNotFound), errors.Is(err, errDisabled):
		return h.unauthorized(err)
	}
	return err
}

// stamp prepares what the session's messages will carry.
func (s *DeviceSession) stamp(id store.Identity, p auth.Principal) {
	s.key = id.Key
	s.since = s.hub.clock.Now()
	s.method = p.Method
	s.partition = PartitionOf(s.key.DeviceID, s.hub.events.Partitions())
	s.generation = id.GenerationID
	s.authMethod = authMethod(p, s.key)
	s.to = "/" + devicePath(s.key) + "/messages/events"
	if s.options.ModelID != "" {
		s.model.Store(&s.options.ModelID)
	}
}

// install makes s the peer's connection in place of an older one; oldModel is the model id of the identity so far. The caller holds the lock.
func (p *peer) install(ctx context.Context, s *DeviceSession, principal auth.Principal, oldModel string) {
	h := s.hub
	old := p.session
	if old != nil {
		p.session = nil // it stays connected, so nobody is told otherwise
		p.end(old, h.NewError(CodeConnectionReplaced))
	}
	p.session = s
	s.expireWith(principal)
	if s.logs(slog.LevelInfo) {
		p.later(func() { s.logConnect(principal) })
	}
	h.metrics.opened(s.options.Conn, s.key)
	h.touch(ctx, s.key, func(a *store.Activity) {
		a.Connected, a.ConnectedUpdated, a.LastActivity = true, s.since, s.since
		if s.options.ModelID != "" {
			a.ModelID = s.options.ModelID
		}
	})
	if old == nil || old.era != s.era { // a reset that has not yet come to the old one
		s.notifyState(ctx, opConnected, s.since)
	}
	if modelID := s.options.ModelID; modelID != "" && modelID != oldModel {
		s.notifyModel(ctx, modelID, s.since)
	}
}

// touch changes what connections change of an identity; one that was deleted meanwhile needs no change.
func (h *Hub) touch(ctx context.Context, key store.Key, change func(*store.Activity)) {
	if err := h.registry.Touch(ctx, key, change); err != nil && !errors.Is(err, store.ErrNotFound) {
		h.log.Error("the connection state cannot be stored", "category", Connections, "deviceId", key.DeviceID, "moduleId", key.ModuleID, "error", err)
	}
}

// finish ends s as far as the hub is concerned, and reports false when it has ended before. The caller holds the lock.
func (p *peer) finish(s *DeviceSession, why *Error) bool {
	if !s.ended.CompareAndSwap(nil, why) {
		return false
	}
	if s.expiry != nil {
		s.expiry.Stop()
	}
	if s.push != nil {
		p.drop(s.push)
	}
	if s.options.Transient {
		return true
	}
	if t := s.tasks.Load(); t != nil {
		t.desired, t.methods = nil, nil
		t.calls.close()
	}
	s.emptyMeter()
	if s.logs(slog.LevelError) {
		p.later(func() { s.logDisconnect(why) })
	}
	s.hub.metrics.closed(s.options.Conn, s.key)
	if p.session == s {
		p.session = nil
		now := s.hub.clock.Now()
		active := time.Unix(0, p.activity.Load()).UTC()
		s.hub.touch(context.Background(), s.key, func(a *store.Activity) {
			a.Connected, a.ConnectedUpdated, a.LastActivity = false, now, active
		})
		s.notifyState(context.Background(), opDisconnected, now)
		p.activity.Store(0) // the registry has it
	}
	return true
}

// end is finish for an end that the head must be told of.
func (p *peer) end(s *DeviceSession, why *Error) {
	if p.finish(s, why) && s.options.Ended != nil {
		p.later(func() { s.options.Ended(why) })
	}
}

// Key returns the identity.
func (s *DeviceSession) Key() store.Key { return s.key }

// SetModel names the model of the connection, for a head that learns it only after the session was opened (a later AMQP link).
func (s *DeviceSession) SetModel(ctx context.Context, modelID string) {
	if modelID == "" || modelID == s.modelID() {
		return
	}
	s.peer.mu.Lock() // so that changes are told in their order
	defer s.peer.unlock()
	s.model.Store(&modelID)
	newModel := false
	s.hub.touch(ctx, s.key, func(a *store.Activity) {
		newModel = a.ModelID != modelID
		a.ModelID = modelID
	})
	if newModel {
		s.notifyModel(ctx, modelID, s.hub.clock.Now())
	}
}

func (s *DeviceSession) modelID() string {
	if m := s.model.Load(); m != nil {
		return *m
	}
	return ""
}

// Renew replaces the principal after a token renewal (AMQP $cbs) and restarts the expiry timer. A principal that may not act as
// the identity changes nothing.
func (s *DeviceSession) Renew(p auth.Principal) {
	if !mayAct(p, s.key) {
		s.hub.log.Warn("a token renewal was ignored: it is for somebody else", "category", Connections, "deviceId", s.key.DeviceID, "moduleId", s.key.ModuleID, "principal", principalName(p))
		return
	}
	s.peer.mu.Lock()
	defer s.peer.unlock()
	if s.ended.Load() == nil {
		s.expireWith(p)
	}
}

// expireWith ends the session when the principal's token ends, and tokenGrace later. The caller holds the peer's lock.
func (s *DeviceSession) expireWith(p auth.Principal) {
	s.method = p.Method
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	if !p.Expiry.IsZero() {
		s.expiresAt = p.Expiry.Add(tokenGrace)
		s.expiry = s.hub.clock.At(s.expiresAt, s.expire)
	}
}

func (s *DeviceSession) expire() {
	s.peer.mu.Lock()
	if s.expiry != nil && !s.hub.clock.Now().Before(s.expiresAt) { // else it was renewed while the timer fired
		s.peer.end(s, s.hub.NewError(CodeTokenExpired))
	}
	s.hub.unlockPeer(s.peer)
}

// Close ends the session from the head's side: the connection is gone or the last link was detached. Unsettled messages of
// its subscription are released. It may be called more than once.
func (s *DeviceSession) Close() {
	if s.ended.Load() != nil {
		return
	}
	if s.options.Transient {
		s.ended.CompareAndSwap(nil, errSessionClosed)
		return
	}
	s.close(errSessionClosed)
}

func (s *DeviceSession) close(why *Error) {
	s.peer.mu.Lock()
	s.peer.finish(s, why)
	s.hub.unlockPeer(s.peer)
}

// Lost is Close for a connection that ended without a goodbye: the log has it as IoT Hub does, with 404104
// DeviceConnectionClosedRemotely. cause is what the connection failed with.
func (s *DeviceSession) Lost(cause error) {
	if s.ended.Load() != nil {
		return
	}
	e := newError(CodeConnectionClosed, s.hub.clock.Now()) // nobody is answered with it
	e.Text, e.cause = "The connection ended without a goodbye", cause
	s.close(e)
}

// errSessionClosed is what the methods of a session fail with after Close.
var errSessionClosed = newError(CodeClosed, time.Unix(0, 0), "the session was closed")

// live returns the error the session ended with, or nil.
func (s *DeviceSession) live() error {
	if e := s.ended.Load(); e != nil {
		return e
	}
	return nil
}
