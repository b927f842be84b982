package amqp10

import "errors"

// Error conditions (AMQP 2.8.15 to 2.8.18).
const (
	CondInternalError         Symbol = "amqp:internal-error"
	CondNotFound              Symbol = "amqp:not-found"
	CondUnauthorizedAccess    Symbol = "amqp:unauthorized-access"
	CondDecodeError           Symbol = "amqp:decode-error"
	CondResourceLimitExceeded Symbol = "amqp:resource-limit-exceeded"
	CondNotAllowed            Symbol = "amqp:not-allowed"
	CondInvalidField          Symbol = "amqp:invalid-field"
	CondNotImplemented        Symbol = "amqp:not-implemented"
	CondResourceLocked        Symbol = "amqp:resource-locked"
	CondPreconditionFailed    Symbol = "amqp:precondition-failed"
	CondResourceDeleted       Symbol = "amqp:resource-deleted"
	CondIllegalState          Symbol = "amqp:illegal-state"
	CondFrameSizeTooSmall     Symbol = "amqp:frame-size-too-small"

	CondConnectionForced   Symbol = "amqp:connection:forced"
	CondFramingError       Symbol = "amqp:connection:framing-error"
	CondConnectionRedirect Symbol = "amqp:connection:redirect"

	CondWindowViolation  Symbol = "amqp:session:window-violation"
	CondErrantLink       Symbol = "amqp:session:errant-link"
	CondHandleInUse      Symbol = "amqp:session:handle-in-use"
	CondUnattachedHandle Symbol = "amqp:session:unattached-handle"

	CondDetachForced          Symbol = "amqp:link:detach-forced"
	CondTransferLimitExceeded Symbol = "amqp:link:transfer-limit-exceeded"
	CondMessageSizeExceeded   Symbol = "amqp:link:message-size-exceeded"
	CondLinkRedirect          Symbol = "amqp:link:redirect"
	CondStolen                Symbol = "amqp:link:stolen"
)

// Error is an AMQP error (AMQP 2.8.14). A description longer than 1024 bytes is cut when it is sent. Where the client's
// max-frame-size is too small for the frame, it is cut after 256, and Info is left out.
type Error struct {
	Condition   Symbol
	Description string
	Info        Map // keys are symbols
}

// Error returns condition and description.
func (e *Error) Error() string {
	if e.Description == "" {
		return string(e.Condition)
	}
	return string(e.Condition) + ": " + e.Description
}

// What Link.Send can return, besides errors about its own arguments.
var (
	// ErrNoCredit: the client has granted no credit for this delivery. Sender.Flow is called when it grants some.
	ErrNoCredit = errors.New("amqp10: no link credit")
	// ErrBusy: the connection's output, the session's window or the number of unsettled deliveries is at its limit.
	// Sender.Flow is called when there is room again, on another goroutine perhaps before Send's caller has looked at the
	// error: whoever pauses on ErrBusy must not forget a Flow that came meanwhile.
	ErrBusy = errors.New("amqp10: too much is waiting to be sent or settled")
	// ErrDetached: the link is gone, whoever ended it.
	ErrDetached = errors.New("amqp10: link detached")
	// ErrTooLarge: the message is larger than the max-message-size the client announced for the link.
	ErrTooLarge = errors.New("amqp10: message exceeds the link's max-message-size")
)
