package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// Limits of direct methods (article "Understand and invoke direct methods from IoT Hub").
const (
	maxMethodName      = 128       // bytes
	maxMethodPayload   = 128 << 10 // bytes, each way
	minResponseTimeout = 5 * time.Second
	maxResponseTimeout = 300 * time.Second
	defaultResponse    = 30 * time.Second
	maxConnectTimeout  = 300 * time.Second
	maxInflightMethods = 1000 // calls that wait for one identity's responses; Iolite's own limit
)

// MethodCall is a direct method to be called. Zero times mean the defaults: 30 s for the response, no waiting for a connection.
type MethodCall struct {
	Name            string
	Payload         []byte // JSON; empty for none
	ConnectTimeout  time.Duration
	ResponseTimeout time.Duration
}

// MethodResult is what a device answered.
type MethodResult struct {
	Status  int
	Payload []byte // JSON; "null" when the device answered nothing
}

// MethodRequest is a direct method on its way to a device.
type MethodRequest struct {
	ID      uint64 // 1, 2, ... on each session; the response carries it
	Name    string
	Payload []byte // JSON; "null" when the caller gave none
}

// ending is how a call ended: with what the device answered, or because it cannot answer.
type ending struct {
	result MethodResult
	err    *Error
	closed bool // the session ended
}

// pending are the calls that wait for a session's responses.
type pending struct {
	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan<- ending // of capacity 1
	over  bool                     // the session ended
}

// begin returns the id of a new call and where its ending will come; false when too many wait already.
func (p *pending) begin() (id uint64, result <-chan ending, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.calls) >= maxInflightMethods {
		return 0, nil, false
	}
	p.last++
	c := make(chan ending, 1)
	if p.over {
		c <- ending{closed: true}
		return p.last, c, true
	}
	if p.calls == nil {
		p.calls = map[uint64]chan<- ending{}
	}
	p.calls[p.last] = c
	return p.last, c, true
}

// close ends all calls, and those that begin from now on.
func (p *pending) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for _, c := range p.calls {
		c <- ending{closed: true}
	}
	p.calls = nil
}

// waits says whether the ending of a call is waited for.
func (p *pending) waits(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[id] != nil
}

// finish forgets a call and, when there is one, tells its ending.
func (p *pending) finish(id uint64, result *ending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, waiting := p.calls[id]
	delete(p.calls, id)
	if waiting && result != nil {
		c <- *result
	}
}

// SubscribeMethods has deliver called for each direct method that is called on the identity, until UnsubscribeMethods or the end of the
// session. deliver is called from any goroutine, several at once, without hub locks; it must not block, and returns false when the request
// cannot be sent. A second subscription replaces the first.
func (s *DeviceSession) SubscribeMethods(deliver func(MethodRequest) bool) error {
	return s.subscribe(func(t *tasks) {
		t.methods = deliver
		s.peer.wake()
	})
}

// UnsubscribeMethods ends what SubscribeMethods began. Calls that wait for their response may still get it.
func (s *DeviceSession) UnsubscribeMethods() { s.unsubscribe(func(t *tasks) { t.methods = nil }) }

// RespondMethod gives the response to a request: a status of the device's own choice, and a JSON payload or none. A response that nobody
// waits for is ignored. A payload that is no JSON, or longer than 128 KiB, fails the call.
func (s *DeviceSession) RespondMethod(id uint64, status int, payload []byte) {
	s.active()
	if len(payload) == 0 {
		payload = null
	}
	if t := s.tasks.Load(); t != nil && t.calls.waits(id) {
		t.calls.finish(id, &ending{result: MethodResult{Status: status, Payload: slices.Clone(payload)}})
	}
}

// FailMethod ends a call with the error that its caller gets, for a head that took a request and then could not bring it to the device,
// or cannot read the response. A call that nobody waits for is ignored.
func (s *DeviceSession) FailMethod(id uint64, why *Error) {
	if t := s.tasks.Load(); t != nil {
		t.calls.finish(id, &ending{err: why})
	}
}

// MethodWaits says whether the caller still waits for the response to a request. A head that had to keep a request until the connection
// took it asks, so that a device does not carry out what the caller has given up.
func (s *DeviceSession) MethodWaits(id uint64) bool {
	t := s.tasks.Load()
	return t != nil && t.calls.waits(id)
}

var null = []byte("null")

// InvokeMethod calls a direct method on a device or module and waits for its response, in the hub's time. ServiceConnect.
// CodeDeviceNotFound, CodeModuleNotFound, CodeDeviceNotOnline (offline, or no methods taken), CodeGatewayTimeout (no response in time),
// CodeConnectionClosed (the connection ended meanwhile), CodeBadGateway (a response that is no JSON, or too large), CodeArgumentInvalid,
// CodeMessageTooLarge, CodeTooManyMethods.
func (s *ServiceSession) InvokeMethod(ctx context.Context, key store.Key, call MethodCall) (r MethodResult, err error) {
	defer func() { err = s.hub.called(key, s.conn, len(call.Payload), len(r.Payload), err) }()
	if err := s.need(ctx, auth.ServiceConnect, twinPath(key)+"/methods"); err != nil {
		return MethodResult{}, err
	}
	return s.hub.invoke(ctx, key, call)
}

// InvokeMethod is a method call by an edge module: on its own device, its device's modules, and on what lies below its device's scope.
// CodeUnauthorized for anybody else; otherwise the errors of ServiceSession.InvokeMethod.
func (s *DeviceSession) InvokeMethod(ctx context.Context, key store.Key, call MethodCall) (r MethodResult, err error) {
	defer func() { err = s.hub.called(key, s.options.Conn, len(call.Payload), len(r.Payload), err) }()
	if err := s.live(); err != nil {
		return MethodResult{}, err
	}
	if err := s.mayInvoke(ctx, key); err != nil {
		return MethodResult{}, s.hub.unauthorized(err)
	}
	return s.hub.invoke(ctx, key, call)
}

// called counts a direct method call.
func (h *Hub) called(key store.Key, c *door.Conn, request, response int, err error) error {
	if err == nil {
		h.metrics.responses[doorOf(c)].Add(int64(response))
		h.metrics.bytes.Add(int64(response))
		h.metrics.units.Add(units(response))
	}
	return h.did(opMethod, key, c, request, err)
}

// mayInvoke says why the identity may not call methods on key.
func (s *DeviceSession) mayInvoke(ctx context.Context, key store.Key) error {
	if s.key.ModuleID == "" {
		return errors.New("a device calls no methods, only its modules do")
	}
	if key.DeviceID == s.key.DeviceID {
		return nil
	}
	own, err := s.hub.registry.Get(ctx, store.Key{DeviceID: s.key.DeviceID})
	if err != nil {
		return err
	}
	other, err := s.hub.registry.Get(ctx, store.Key{DeviceID: key.DeviceID})
	if err != nil {
		return err
	}
	if !own.IoTEdge || !slices.Contains(other.ParentScopes, own.DeviceScope) {
		return fmt.Errorf("%s is not below the scope of %s", key.DeviceID, s.key.DeviceID)
	}
	return nil
}

// invoke carries a call out.
func (h *Hub) invoke(ctx context.Context, key store.Key, call MethodCall) (MethodResult, error) {
	if err := h.checkCall(&call); err != nil {
		return MethodResult{}, err
	}
	session, deliver, err := h.awaitMethods(ctx, key, call.ConnectTimeout)
	if err != nil {
		return MethodResult{}, err
	}
	return session.call(ctx, deliver, call)
}

// methodTarget is the error of a call on what is not registered: the device counts before the module.
func (h *Hub) methodTarget(ctx context.Context, key store.Key, err error) error {
	if device := (store.Key{DeviceID: key.DeviceID}); errors.Is(err, store.ErrNotFound) && key.ModuleID != "" {
		if _, err := h.registry.Get(ctx, device); errors.Is(err, store.ErrNotFound) {
			return h.notFound(device)
		}
	}
	return h.registryError(err, key)
}

// checkCall applies the limits and fills in the defaults.
func (h *Hub) checkCall(call *MethodCall) error {
	if call.ResponseTimeout == 0 {
		call.ResponseTimeout = defaultResponse
	}
	if len(call.Payload) == 0 {
		call.Payload = null
	}
	switch {
	case call.Name == "" || len(call.Name) > maxMethodName || strings.ContainsAny(call.Name, "/#+\x00") || !utf8.ValidString(call.Name):
		return h.NewError(CodeArgumentInvalid, "methodName is not of 1 to 128 characters without / # and +")
	case call.ResponseTimeout < minResponseTimeout || call.ResponseTimeout > maxResponseTimeout:
		return h.NewError(CodeArgumentInvalid, "responseTimeoutInSeconds is not from 5 to 300")
	case call.ConnectTimeout < 0 || call.ConnectTimeout > maxConnectTimeout:
		return h.NewError(CodeArgumentInvalid, "connectTimeoutInSeconds is not from 0 to 300")
	case call.ConnectTimeout > call.ResponseTimeout:
		return h.NewError(CodeArgumentInvalid, "connectTimeoutInSeconds is larger than responseTimeoutInSeconds")
	case len(call.Payload) > maxMethodPayload:
		return h.NewError(CodeMessageTooLarge, sizes(len(call.Payload), maxMethodPayload))
	case !json.Valid(call.Payload):
		return h.NewError(CodeArgumentInvalid, "the payload is no JSON")
	}
	return nil
}

// awaitMethods finds the connection that takes methods for key, or waits for one.
func (h *Hub) awaitMethods(ctx context.Context, key store.Key, patience time.Duration) (*DeviceSession, func(MethodRequest) bool, error) {
	wait := h.newPatience(patience)
	defer wait.stop()
	for {
		if _, err := h.registry.Get(ctx, key); err != nil { // or it was deleted meanwhile
			return nil, nil, h.methodTarget(ctx, key, err)
		}
		session, deliver, online, err := h.findMethods(key, patience > 0)
		if err != nil || session != nil {
			return session, deliver, err
		}
		if online == nil {
			e := h.NewError(CodeDeviceNotOnline)
			e.Timeout = "00:00:00"
			return nil, nil, e
		}
		select {
		case <-online:
			continue
		case <-wait.over:
		case <-ctx.Done():
		}
		h.stopWaiting(key, online)
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		e := h.newErrorText(CodeDeviceNotOnline, "Timed out waiting for device to connect.")
		e.Timeout = timeSpan(patience)
		return nil, nil, e
	}
}

// findMethods returns the session that takes methods for key and, when there is none and the caller would wait, what is closed when there is.
func (h *Hub) findMethods(key store.Key, wait bool) (s *DeviceSession, deliver func(MethodRequest) bool, online chan struct{}, err error) {
	if h.closed.Load() {
		return nil, nil, nil, h.NewError(CodeClosed)
	}
	if !wait {
		p := h.findPeer(key)
		if p == nil {
			return nil, nil, nil, nil
		}
		defer h.unlockPeer(p)
		s, deliver = p.takesMethods()
		return s, deliver, nil, nil
	}
	p := h.lockPeer(key)
	defer h.unlockPeer(p)
	if s, deliver = p.takesMethods(); s != nil {
		return s, deliver, nil, nil
	}
	if p.online == nil {
		p.online = make(chan struct{})
	}
	p.waiting++
	return nil, nil, p.online, nil
}

// takesMethods returns the session if it takes methods. The caller holds the lock.
func (p *peer) takesMethods() (*DeviceSession, func(MethodRequest) bool) {
	if p.session == nil {
		return nil, nil
	}
	t := p.session.tasks.Load()
	if t == nil || t.methods == nil {
		return nil, nil
	}
	return p.session, t.methods
}

// wake has all who wait for the identity to take methods look again. The caller holds the lock.
func (p *peer) wake() {
	if p.online != nil {
		close(p.online)
	}
	p.online, p.waiting = nil, 0
}

func (h *Hub) stopWaiting(key store.Key, online chan struct{}) {
	p := h.findPeer(key)
	if p == nil {
		return
	}
	if p.online == online {
		if p.waiting--; p.waiting == 0 {
			p.online = nil
		}
	}
	h.unlockPeer(p)
}

// call sends the request and waits.
func (s *DeviceSession) call(ctx context.Context, deliver func(MethodRequest) bool, call MethodCall) (MethodResult, error) {
	calls := &s.tasks.Load().calls // there are some, or nobody would deliver
	id, result, ok := calls.begin()
	if !ok {
		return MethodResult{}, s.hub.NewError(CodeTooManyMethods, s.key.String(), strconv.Itoa(maxInflightMethods))
	}
	defer calls.finish(id, nil)
	wait := s.hub.newPatience(call.ResponseTimeout)
	defer wait.stop()
	if !deliver(MethodRequest{ID: id, Name: call.Name, Payload: call.Payload}) {
		return MethodResult{}, s.hub.NewError(CodeConnectionClosed, s.key.String())
	}
	select {
	case r := <-result:
		return s.checkResult(r)
	case <-wait.over:
		return MethodResult{}, s.hub.NewError(CodeGatewayTimeout)
	case <-ctx.Done():
		return MethodResult{}, ctx.Err()
	}
}

// checkResult refuses what a caller cannot be given.
func (s *DeviceSession) checkResult(e ending) (MethodResult, error) {
	r := e.result
	switch {
	case e.closed:
		return r, s.hub.NewError(CodeConnectionClosed, s.key.String())
	case e.err != nil:
		return r, e.err
	case len(r.Payload) > maxMethodPayload:
		return r, s.hub.NewError(CodeBadGateway, "the device's response has "+sizes(len(r.Payload), maxMethodPayload))
	case !json.Valid(r.Payload):
		return r, s.hub.NewError(CodeBadGateway, "the device's response is no JSON")
	}
	return r, nil
}

// patience ends at a time of the hub's clock.
type patience struct {
	over  chan struct{}
	timer *clock.Timer
}

func (h *Hub) newPatience(d time.Duration) patience {
	over := make(chan struct{})
	if d <= 0 {
		return patience{over: over}
	}
	return patience{over: over, timer: h.clock.AfterFunc(d, func() { close(over) })}
}

func (p patience) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

// timeSpan writes a duration as .NET does: 00:00:30.
func timeSpan(d time.Duration) string {
	s := int(d / time.Second)
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}
