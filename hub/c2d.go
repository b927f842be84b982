package hub

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// Limits of cloud-to-device messages (articles "Send cloud-to-device messages from an IoT hub" and "Quotas and throttling"): what a
// new hub is configured with.
const (
	c2dDepth    = 50        // messages per device, locked ones included
	c2dSize     = 64 << 10  // bytes, counted like telemetry
	c2dTTL      = time.Hour // of a message without an expiry of its own
	c2dLock     = time.Minute
	c2dAbandons = 10
)

func (h *Hub) newDeviceboundRules() *queueRules {
	return &queueRules{store: h.cfg.Engine.Devicebound(), lock: c2dLock, abandons: c2dAbandons, settled: h.c2dSettled}
}

// SendC2D queues a message; m.To names the device ("/devices/{id}/messages/devicebound", any case, percent-encoded id).
// ServiceConnect. CodeDeviceNotFound, CodeModuleNotFound, CodeQueueDepthExceeded (50), CodeMessageTooLarge (64 KiB), CodeArgumentInvalid
// (To, ack, ids), CodeInvalidMessageExpiry (in the past). An expiry before 1971 means none: some clients send a zero time.
func (s *ServiceSession) SendC2D(ctx context.Context, m store.Message) (err error) {
	key, ok := parseTo(m.To)
	defer func() { err = s.hub.did(opC2DSend, key, s.conn, 0, err) }()
	h := s.hub
	era := h.era.Load()
	if err := s.need(ctx, auth.ServiceConnect, "messages/devicebound"); err != nil {
		return err
	}
	if !ok {
		return h.NewError(CodeArgumentInvalid, "the property to does not name a device as in /devices/{id}/messages/devicebound")
	}
	m.Properties = liftReserved(&m.SystemProperties, m.Properties)
	if err := h.checkC2D(&m); err != nil {
		return err
	}
	p := h.lockPeer(key)
	defer h.unlockPeer(p)
	if !h.enter(0, era) { // any gate will do
		return h.NewError(CodeClosed)
	}
	defer h.leave(0)
	if _, err := h.registry.Get(ctx, key); err != nil {
		return h.registryError(err, key)
	}
	p.expire()
	err = p.enqueue(m, c2dDepth)
	if errors.Is(err, store.ErrFull) {
		return h.NewError(CodeQueueDepthExceeded, key.String(), strconv.Itoa(c2dDepth))
	}
	if err == nil {
		h.metrics.queued.Inc()
		h.metrics.units.Add(units(messageSize(&m.SystemProperties, m.Properties, m.Body)))
	}
	return err
}

// checkC2D applies the limits and sets the times.
func (h *Hub) checkC2D(m *store.Message) error {
	if m.MessageID != "" && !validID(m.MessageID) {
		return h.NewError(CodeArgumentInvalid, "the message id is not of 1 to 128 ASCII letters, digits and -:.+%_#*?!(),=@;$'")
	}
	// The Java service SDK writes "positiveonly" and "negativeonly".
	if m.Ack = strings.TrimSuffix(strings.ToLower(m.Ack), "only"); !validAck(m.Ack) {
		return h.NewError(CodeArgumentInvalid, "iothub-ack is none of none, positive, negative and full")
	}
	if size := messageSize(&m.SystemProperties, m.Properties, m.Body); size > c2dSize {
		return h.NewError(CodeMessageTooLarge, sizes(size, c2dSize))
	}
	m.Enqueued = h.clock.Now()
	if m.Expiry.Year() <= 1970 {
		m.Expiry = time.Time{}
		m.Deadline = m.Enqueued.Add(c2dTTL)
		return nil
	}
	if !m.Expiry.After(m.Enqueued) {
		return h.NewError(CodeInvalidMessageExpiry)
	}
	m.Deadline = m.Expiry
	return nil
}

func validAck(ack string) bool {
	switch ack {
	case "", "none", "positive", "negative", "full":
		return true
	}
	return false
}

// sizes says how large something is and may be.
func sizes(is, may int) string {
	return strconv.Itoa(is) + " bytes of at most " + strconv.Itoa(may)
}

// parseTo returns the identity that the address of a cloud-to-device message names, with or without scheme, host and leading
// slash: devices/{d}[/modules/{m}]/messages/devicebound.
func parseTo(to string) (key store.Key, ok bool) {
	if _, after, found := strings.Cut(to, "://"); found {
		_, to, _ = strings.Cut(after, "/")
	}
	parts := strings.Split(strings.Trim(to, "/"), "/")
	if len(parts) == 6 && strings.EqualFold(parts[2], "modules") {
		key.ModuleID = unescapeID(parts[3])
		if !validID(key.ModuleID) {
			return store.Key{}, false
		}
		parts = append(parts[:2], parts[4:]...)
	}
	if len(parts) != 4 || !strings.EqualFold(parts[0], "devices") || !strings.EqualFold(parts[2], "messages") || !strings.EqualFold(parts[3], "devicebound") {
		return store.Key{}, false
	}
	key.DeviceID = unescapeID(parts[1])
	return key, validID(key.DeviceID)
}

// PurgeC2D empties a device's queue and returns how many messages went. ServiceConnect.
func (s *ServiceSession) PurgeC2D(ctx context.Context, deviceID string) (_ int, err error) {
	defer func() { err = s.hub.did(opC2DPurge, store.Key{DeviceID: deviceID}, s.conn, 0, err) }()
	key := store.Key{DeviceID: deviceID}
	if err := s.need(ctx, auth.ServiceConnect, devicePath(key)+"/commands"); err != nil {
		return 0, err
	}
	p := s.hub.lockPeer(key)
	defer s.hub.unlockPeer(p)
	if _, err := s.hub.registry.Get(ctx, key); err != nil {
		return 0, s.hub.registryError(err, key)
	}
	p.expire()
	purged := p.purge()
	p.settle(outcomePurged, purged...)
	return len(purged), nil
}

// SubscribeC2D pushes the device's messages to deliver, in order, at most as many as the subscription has credit. deliver
// is called without hub locks, one call at a time, must not block, and returns false when it could not take the message, which then
// goes back in its place uncounted and sets the credit to 0, unless that was set anew since the call began. A second subscription
// replaces the first. A later message may be pushed while an earlier one is not settled; one that comes back goes before those that
// were not pushed yet.
func (s *DeviceSession) SubscribeC2D(deliver func(store.Message) bool) (*Subscription, error) {
	if s.options.Transient {
		return nil, s.hub.NewError(CodeInvalidOperation, "a single request cannot subscribe")
	}
	p := s.peer
	p.mu.Lock()
	defer p.unlock()
	if err := s.live(); err != nil {
		return nil, err
	}
	if s.push != nil {
		p.drop(s.push)
	}
	s.push = p.subscribe(deliver)
	return s.push, nil
}

// CompleteC2D removes a locked message: the device has handled it. CodeLockLost.
func (s *DeviceSession) CompleteC2D(_ context.Context, lockToken string) error {
	return s.withQueue(opC2DComplete, func(p *peer) error { return p.remove(lockToken, outcomeSuccess) })
}

// RejectC2D dead-letters a locked message. CodeLockLost.
func (s *DeviceSession) RejectC2D(_ context.Context, lockToken string) error {
	return s.withQueue(opC2DReject, func(p *peer) error { return p.remove(lockToken, outcomeRejected) })
}

// AbandonC2D gives a locked message back to be delivered again. CodeLockLost.
func (s *DeviceSession) AbandonC2D(_ context.Context, lockToken string) error {
	return s.withQueue(opC2DAbandon, func(p *peer) error { return p.release(lockToken, store.Abandoned) })
}

// withQueue does something with the session's queue.
func (s *DeviceSession) withQueue(op operation, do func(*peer) error) (err error) {
	defer func() { err = s.hub.did(op, s.key, s.options.Conn, 0, err) }()
	if err := s.live(); err != nil {
		return err
	}
	p := s.hub.lockPeer(s.key)
	defer s.hub.unlockPeer(p)
	return do(p)
}

// c2dSettled notes that messages have left a devicebound queue.
func (h *Hub) c2dSettled(key store.Key, messages []store.Message, o outcome) {
	h.metrics.settled[o].Add(float64(len(messages)))
	if o == outcomeExpired {
		h.metrics.expired.Add(int64(len(messages)))
	}
	h.logSettled(key, messages, o)
	h.feedback.report(h, key, messages, o)
}

// logSettled says which messages came to an end that nobody wanted. IoT Hub: messageExpired, at Error; what a device rejects is no error of
// the hub's.
func (h *Hub) logSettled(key store.Key, messages []store.Message, o outcome) {
	var op operation
	level := slog.LevelError
	switch o {
	case outcomeExpired:
		op = opC2DExpired
	case outcomeExceeded:
		op = opC2DExceeded
	case outcomeRejected:
		op, level = opC2DRejected, slog.LevelInfo
	default:
		return
	}
	now := h.clock.Now()
	for i := range messages {
		m := &messages[i]
		h.note(level, op, key, "cloud-to-device message dead-lettered", slog.String("messageId", m.MessageID), slog.String("outcome", string(o)),
			slog.Int("messageSizeInBytes", messageSize(&m.SystemProperties, m.Properties, m.Body)), slog.String("deliveryAcknowledgement", cmp.Or(m.Ack, "none")),
			slog.Int("deliveryCount", m.Abandons), slog.Time("expiryTime", m.Deadline), slog.String("timeInSystem", now.Sub(m.Enqueued).String()))
	}
}
