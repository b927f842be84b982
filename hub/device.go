package hub

import (
	"context"

	"github.com/iolite-emulator/iolite/auth"
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
	// Transient is for one HTTP request: the session is no connection, replaces none and needs no Ended.
	Transient bool
}

// DeviceSession is the handle of one connected device or module. Its methods may be called from any goroutine; after its end
// they fail with the error it ended with.
type DeviceSession struct{}

// OpenDevice lets principal p act as key: it checks scope, rights and the device's status, closes an older connection of the
// same identity (unless o.Transient), and marks the identity connected. CodeUnauthorized when p may not.
func (h *Hub) OpenDevice(ctx context.Context, p auth.Principal, key store.Key, o DeviceOptions) (*DeviceSession, error) {
	panic("contract")
}

// Key returns the identity.
func (s *DeviceSession) Key() store.Key { panic("contract") }

// Renew replaces the principal after a token renewal (AMQP $cbs) and restarts the expiry timer.
func (s *DeviceSession) Renew(p auth.Principal) { panic("contract") }

// Close ends the session from the head's side: the connection is gone or the last link was detached. Unsettled messages of
// its subscription are released. It may be called more than once.
func (s *DeviceSession) Close() { panic("contract") }

// Telemetry is one device-to-cloud message as a device sent it. Reserved application properties (iothub-creation-time-utc,
// iothub-message-schema, iothub-operation, iothub-ack, ...) may stand in Properties: SendTelemetry moves them where they belong.
type Telemetry struct {
	store.SystemProperties
	Properties []store.Property
	Body       []byte
}

// SendTelemetry checks size (256 KiB for all together) and stores the messages, all or none; on return they are durable as
// far as the engine goes, and may be acknowledged. The messages are not kept: the caller may reuse their memory.
// CodeMessageTooLarge, CodeArgumentInvalid (bad ids).
func (s *DeviceSession) SendTelemetry(ctx context.Context, messages ...Telemetry) error {
	panic("contract")
}

// SendWill stores the message of an MQTT Will with the property iothub-MessageType=Will.
func (s *DeviceSession) SendWill(ctx context.Context, m Telemetry) error { panic("contract") }

// PollC2D is an HTTP device's GET: it applies the poll rule (CodePollTooSoon with RetryAfter) and locks the next message. ok is
// false when the queue is empty.
func (s *DeviceSession) PollC2D(ctx context.Context) (m store.Message, ok bool, err error) {
	panic("contract")
}

// SubscribeC2D pushes the device's messages to deliver, in order, at most as many as the subscription has credit. deliver
// is called without hub locks, one call at a time, must not block, and returns false when it could not take the message, which then
// goes back in its place uncounted and sets the credit to 0. A second subscription replaces the first.
func (s *DeviceSession) SubscribeC2D(deliver func(store.Message) bool) (*Subscription, error) {
	panic("contract")
}

// CompleteC2D removes a locked message: the device has handled it. CodeLockLost.
func (s *DeviceSession) CompleteC2D(ctx context.Context, lockToken string) error { panic("contract") }

// RejectC2D dead-letters a locked message. CodeLockLost.
func (s *DeviceSession) RejectC2D(ctx context.Context, lockToken string) error { panic("contract") }

// AbandonC2D gives a locked message back to be delivered again. CodeLockLost.
func (s *DeviceSession) AbandonC2D(ctx context.Context, lockToken string) error { panic("contract") }

// Subscription is a push of queued messages towards one peer.
type Subscription struct{}

// SetCredit sets how many more messages may be pushed (AMQP link credit). It starts at 0.
func (s *Subscription) SetCredit(n int) { panic("contract") }

// AddCredit adds to it (MQTT window).
func (s *Subscription) AddCredit(n int) { panic("contract") }

// Close ends the push and releases what was pushed and not settled.
func (s *Subscription) Close() { panic("contract") }
