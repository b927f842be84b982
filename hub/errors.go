package hub

import (
	"fmt"
)

// Code is an IoT Hub error code; its first three digits are the HTTP status. Source: article "Troubleshoot Azure IoT Hub error codes".
type Code int

// The codes the hub answers with. The table below gives each its name, text and rendering per protocol.
const (
	CodeArgumentInvalid            Code = 400004
	CodeInvalidOperation           Code = 400003
	CodeFormatError                Code = 400006
	CodeDeviceDefinedMultipleTimes Code = 400011
	CodeBulkOperationFailure       Code = 400013
	CodeConnectionReplaced         Code = 400027
	CodeInvalidProtocolVersion     Code = 400001
	CodeUnauthorized               Code = 401002
	CodeTokenExpired               Code = 401003
	CodeQueueDepthExceeded         Code = 403004
	CodeInvalidMessageExpiry       Code = 403009
	CodeDeviceDisabled             Code = 403012
	CodeNotFound                   Code = 404000
	CodeDeviceNotFound             Code = 404001
	CodeModuleNotFound             Code = 404010
	CodeFeatureNotSupported        Code = 404013
	CodeDeviceNotOnline            Code = 404103
	CodeDeviceAlreadyExists        Code = 409001
	CodeModuleAlreadyExists        Code = 409301
	CodePreconditionFailed         Code = 412001
	CodeLockLost                   Code = 412002
	CodeMessageTooLarge            Code = 413001
	CodeTooManyDevices             Code = 413002
	CodeTooManyModules             Code = 413003
	CodePollTooSoon                Code = 429001 // ThrottlingException
	CodeServerError                Code = 500001
	CodeNotImplemented             Code = 501000 // Iolite's own: the real hub has it, Iolite does not yet
	CodeClosed                     Code = 503001 // the hub shuts down or was reset
)

// Error is what every hub method fails with: a row of the table, what was wrong, and a tracking id. Heads render it.
type Error struct {
	Code       Code
	Name       string // iothub-errorcode, for instance DeviceNotFound
	Text       string // for people; begins as documented for the code
	Status     int    // HTTP status
	Condition  string // AMQP error condition
	TrackingID string
	RetryAfter int   // seconds for Retry-After; 0 when not known
	cause      error // for the log, never for the peer
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s (%d): %s", e.Name, e.Code, e.Text) }

// Unwrap returns the cause, which only logs may show.
func (e *Error) Unwrap() error { return e.cause }

// AsError returns err as the hub error to render: itself, or an internal-error reply with a tracking id. Callers that get
// created == true log the cause with the tracking id.
func AsError(err error) (e *Error, created bool) { panic("contract") }
