package egress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/blob"
)

// Kind is what went wrong, in the words of IoT Hub's last known errors (article "Troubleshoot message routing").
type Kind string

// The kinds.
const (
	Transient         Kind = "Transient"
	InternalError     Kind = "InternalError"
	Unauthorized      Kind = "Unauthorized"
	Throttled         Kind = "Throttled"
	Timeout           Kind = "Timeout"
	NotFound          Kind = "NotFound"
	TooLarge          Kind = "MaxMessageSizeExceeded"
	QuotaExceeded     Kind = "DeviceMaximumQueueDepthExceeded"
	Disabled          Kind = "EndpointExternallyDisabled"
	InvalidForTheNode Kind = "InvalidMessage"
)

// Error is why an endpoint did not take a message.
type Error struct {
	Kind Kind
	Err  error
}

// Error implements error.
func (e *Error) Error() string { return string(e.Kind) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// LastKnownError is what the endpoint's health tells.
func (e *Error) LastKnownError() string { return string(e.Kind) }

// conditions say what AMQP error conditions mean: those of AMQP 1.0 (2.8.14 to 2.8.18), and those of article "Service Bus AMQP error codes".
var conditions = map[amqp.ErrCond]Kind{
	amqp.ErrCondInternalError:             InternalError,
	amqp.ErrCondNotFound:                  NotFound,
	amqp.ErrCondUnauthorizedAccess:        Unauthorized,
	amqp.ErrCondResourceLimitExceeded:     QuotaExceeded,
	amqp.ErrCondMessageSizeExceeded:       TooLarge,
	amqp.ErrCondNotAllowed:                InvalidForTheNode,
	amqp.ErrCondNotImplemented:            InvalidForTheNode,
	amqp.ErrCondDecodeError:               InvalidForTheNode,
	amqp.ErrCondInvalidField:              InvalidForTheNode,
	"com.microsoft:argument-error":        InvalidForTheNode,
	"com.microsoft:argument-out-of-range": InvalidForTheNode,
	"com.microsoft:server-busy":           Throttled,
	"com.microsoft:timeout":               Timeout,
	"com.microsoft:auth-failed":           Unauthorized,
	"com.microsoft:entity-disabled":       Disabled,
}

// outcome is the error of a message that the peer has not accepted; nil when it has. A rejection is final only when it says that the
// message itself is to blame: brokers reject for want of room as well.
func outcome(state amqp.DeliveryState) error {
	switch s := state.(type) {
	case *amqp.StateAccepted:
		return nil
	case *amqp.StateRejected:
		if s.Error == nil {
			return &Error{Transient, errors.New("the message was rejected without a reason")}
		}
		return rejected(s.Error)
	case *amqp.StateModified:
		if s.UndeliverableHere {
			return &Error{InvalidForTheNode, errors.Join(ErrRefused, errors.New("the message is undeliverable here"))}
		}
	}
	return &Error{Transient, errors.New("the message was released")}
}

// rejected is the error of a message that was rejected with a reason.
func rejected(reason *amqp.Error) error {
	kind, known := conditions[reason.Condition]
	switch {
	case !known:
		kind = Transient
	case kind == TooLarge || kind == InvalidForTheNode:
		return &Error{kind, errors.Join(ErrRefused, reason)}
	}
	return &Error{kind, reason}
}

// unsent is the error of a message that did not go out: too large for the link, or the link has ended.
func unsent(err error) error {
	var own *amqp.Error
	var link *amqp.LinkError
	if errors.As(err, &own) && !errors.As(err, &link) && own.Condition == amqp.ErrCondMessageSizeExceeded {
		return rejected(own)
	}
	return broken(err)
}

// broken is the error of a connection, session or link that has ended.
func broken(err error) error {
	var kinded *Error
	if err == nil || errors.As(err, &kinded) {
		return err
	}
	return &Error{kindOf(err), err}
}

func kindOf(err error) Kind {
	if condition := conditionOf(err); condition != "" {
		if kind, known := conditions[condition]; known && kind != InvalidForTheNode {
			return kind
		}
		return Transient
	}
	var refused *blob.Refusal
	if errors.As(err, &refused) {
		return kindOfStatus(refused.Status)
	}
	if strings.HasPrefix(err.Error(), "SASL ") && strings.Contains(err.Error(), "auth failed") { // go-amqp has no type for it
		return Unauthorized
	}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return Timeout
	}
	return Transient
}

// conditionOf returns the condition with which the peer ended something.
func conditionOf(err error) amqp.ErrCond {
	var (
		plain   *amqp.Error
		link    *amqp.LinkError
		session *amqp.SessionError
		conn    *amqp.ConnError
	)
	switch {
	case errors.As(err, &link) && link.RemoteErr != nil:
		return link.RemoteErr.Condition
	case errors.As(err, &session) && session.RemoteErr != nil:
		return session.RemoteErr.Condition
	case errors.As(err, &conn) && conn.RemoteErr != nil:
		return conn.RemoteErr.Condition
	case errors.As(err, &plain):
		return plain.Condition
	}
	return ""
}

func kindOfStatus(status int) Kind {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Unauthorized
	case status == http.StatusNotFound:
		return NotFound
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return Throttled
	case status >= http.StatusInternalServerError:
		return InternalError
	}
	return Transient
}
