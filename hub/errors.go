package hub

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

// Code is an IoT Hub error code; its first three digits are the HTTP status. Source: article "Troubleshoot Azure IoT Hub error codes".
type Code int

// The codes the hub answers with. The table below gives each its name, text and rendering per protocol. Event Hubs has conditions and
// texts but no codes; those of its endpoint end in 9xx.
const (
	CodeInvalidProtocolVersion     Code = 400001
	CodeInvalidOperation           Code = 400003
	CodeArgumentInvalid            Code = 400004
	CodeFormatError                Code = 400006
	CodeDeviceDefinedMultipleTimes Code = 400011
	CodeBulkOperationFailure       Code = 400013
	CodeNoStorage                  Code = 400014 // DefaultStorageEndpointNotConfigured
	CodeInvalidCorrelationID       Code = 400015 // InvalidFileUploadCorrelationId
	CodeExpiredCorrelationID       Code = 400016 // ExpiredFileUploadCorrelationId
	CodeInvalidStorage             Code = 400017 // InvalidStorageEndpoint
	CodeInvalidUploadStatus        Code = 400019 // InvalidFileUploadCompletionStatus
	CodeInvalidStorageOrBlob       Code = 400020 // InvalidStorageEndpointOrBlob
	CodeConnectionReplaced         Code = 400027
	CodeInvalidConfigCondition     Code = 400401
	CodeInvalidConfigContent       Code = 400402
	CodeInvalidConfigMetrics       Code = 400404
	CodeInvalidDigitalTwinPatch    Code = 400505 // InvalidDigitalTwinJsonPatch
	CodeInvalidDigitalTwinPayload  Code = 400506
	CodeInvalidDigitalTwinPath     Code = 400508
	CodeBlobContainer              Code = 400008 // BlobContainerValidationError
	CodeInvalidDeviceScope         Code = 400028
	CodeInvalidPolicyKey           Code = 400035
	CodeInvalidOffset              Code = 400901
	CodeInvalidSequence            Code = 400902
	CodeUnauthorized               Code = 401002
	CodeTokenExpired               Code = 401003
	CodeSystemModule               Code = 401100 // SystemModuleModifyUnauthorizedAccess
	CodeSendClaimRequired          Code = 401901
	CodeJobQuotaExceeded           Code = 403003
	CodeQueueDepthExceeded         Code = 403004
	CodeTooManyUploads             Code = 403006 // DeviceMaximumActiveFileUploadLimitExceeded
	CodeTooManyMethods             Code = 403800 // DeviceMaximumInflightMethodExceeded
	CodeInvalidMessageExpiry       Code = 403009
	CodeDeviceDisabled             Code = 403012
	CodeReceiverQuotaExceeded      Code = 403901
	CodeTooManyGroups              Code = 403902
	CodeNotFound                   Code = 404000
	CodeDeviceNotFound             Code = 404001
	CodeJobNotFound                Code = 404002
	CodeModuleNotFound             Code = 404010
	CodeConfigurationNotFound      Code = 404301
	CodeFeatureNotSupported        Code = 404013
	CodeDeviceNotOnline            Code = 404103
	CodeConnectionClosed           Code = 404104 // DeviceConnectionClosedRemotely
	CodeEntityNotFound             Code = 404901
	CodePartitionOutOfRange        Code = 404902
	CodeInvalidState               Code = 405102 // OperationNotAllowedInCurrentState
	CodeDeviceAlreadyExists        Code = 409001
	CodeJobAlreadyExists           Code = 409104
	CodeModuleAlreadyExists        Code = 409301
	CodeConfigurationAlreadyExists Code = 409401
	CodeReceiverDisconnected       Code = 409901
	CodeEpochTooLow                Code = 409902
	CodeEpochRequired              Code = 409903
	CodePreconditionFailed         Code = 412001
	CodeLockLost                   Code = 412002
	CodeMessageTooLarge            Code = 413001
	CodeTooManyDevices             Code = 413002
	CodeTooManyModules             Code = 413003
	CodeTooManyConfigurations      Code = 413101
	CodeUnsupportedMediaType       Code = 415000
	CodePollTooSoon                Code = 429001 // ThrottlingException
	CodeTooManyJobs                Code = 429004 // ThrottlingMaxActiveJobCountExceeded
	CodeClientClosed               Code = 499000 // ClientClosedRequest
	CodeServerError                Code = 500001
	CodeNotImplemented             Code = 501000 // Iolite's own: the real hub has it, Iolite does not yet
	CodeBadGateway                 Code = 502000
	CodeClosed                     Code = 503001 // the hub shuts down or was reset
	CodeGatewayTimeout             Code = 504101
)

// MQTTEffect says how MQTT 3.1.1, which has no error reply, shows an error.
type MQTTEffect string

// The effects an error has on an MQTT connection.
const (
	MQTTRefuse MQTTEffect = "refuse" // CONNACK return code 5 to a CONNECT; the connection is closed if it stands already
	MQTTClose  MQTTEffect = "close"  // the connection is closed without an acknowledgement
	MQTTNone   MQTTEffect = "none"   // cannot happen on MQTT
)

// ErrorInfo is one row of the error table.
type ErrorInfo struct {
	Code      Code
	Name      string // as in the header iothub-errorcode
	Text      string // how the text begins; each %s is filled in
	Status    int    // HTTP status
	Condition string // AMQP error condition
	MQTT      MQTTEffect
}

// AMQP conditions beyond the standard's, as IoT Hub's SDKs know them.
const (
	argumentError      = "com.microsoft:argument-error"
	preconditionFailed = "com.microsoft:precondition-failed"
	unauthorizedAccess = "amqp:unauthorized-access"
	limitExceeded      = "amqp:resource-limit-exceeded"
	notFound           = "amqp:not-found"
	linkStolen         = "amqp:link:stolen"
	notImplemented     = "amqp:not-implemented"
)

// table holds every error there is, by code. Texts are those seen on the real hub where they are known. 401003 and 403012 reach
// clients as 401002 when they authenticate; the real hub keeps those codes for its own logs, and Iolite for sessions that end.
var table = []ErrorInfo{
	{CodeInvalidProtocolVersion, "InvalidProtocolVersion", "BadRequest", 400, "amqp:not-allowed", MQTTRefuse},
	{CodeInvalidOperation, "InvalidOperation", "The operation is not valid", 400, "amqp:not-allowed", MQTTClose},
	{CodeArgumentInvalid, "ArgumentInvalid", "BadRequest", 400, argumentError, MQTTClose},
	{CodeFormatError, "IotHubFormatError", "The request is malformed", 400, argumentError, MQTTClose},
	{CodeBlobContainer, "BlobContainerValidationError", "The blob container cannot be used", 400, argumentError, MQTTNone},
	{CodeDeviceDefinedMultipleTimes, "DeviceDefinedMultipleTimes", "'%s' stands more than once in the request", 400, argumentError, MQTTNone},
	{CodeBulkOperationFailure, "BulkRegistryOperationFailure", "An operation of the bulk request failed", 400, argumentError, MQTTNone},
	{CodeNoStorage, "DefaultStorageEndpointNotConfigured", "BadRequest", 400, argumentError, MQTTNone},
	{CodeInvalidCorrelationID, "InvalidFileUploadCorrelationId", "BadRequest", 400, argumentError, MQTTNone},
	{CodeExpiredCorrelationID, "ExpiredFileUploadCorrelationId", "BadRequest", 400, argumentError, MQTTNone},
	{CodeInvalidStorage, "InvalidStorageEndpoint", "BadRequest", 400, argumentError, MQTTNone},
	{CodeInvalidUploadStatus, "InvalidFileUploadCompletionStatus", "BadRequest", 400, argumentError, MQTTNone},
	{CodeInvalidStorageOrBlob, "InvalidStorageEndpointOrBlob", "BadRequest", 400, argumentError, MQTTNone},
	{CodeConnectionReplaced, "ConnectionForcefullyClosedOnNewConnection", "A newer connection of the same identity was opened", 400, linkStolen, MQTTClose},
	{CodeInvalidDeviceScope, "InvalidDeviceScope", "Device scope is immutable", 400, argumentError, MQTTNone},
	{CodeInvalidPolicyKey, "InvalidPolicyKey", "The policy key is not valid", 400, argumentError, MQTTNone},
	{CodeInvalidConfigCondition, "InvalidConfigurationTargetCondition", "The target condition is not valid", 400, argumentError, MQTTNone},
	{CodeInvalidConfigContent, "InvalidConfigurationContent", "The configuration content is not valid", 400, argumentError, MQTTNone},
	{CodeInvalidConfigMetrics, "InvalidConfigurationCustomMetricsQuery", "A custom metrics query is not valid", 400, argumentError, MQTTNone},
	{CodeInvalidDigitalTwinPatch, "InvalidDigitalTwinJsonPatch", "The JSON patch is not valid", 400, argumentError, MQTTNone},
	{CodeInvalidDigitalTwinPayload, "InvalidDigitalTwinPayload", "The payload is not valid", 400, argumentError, MQTTNone},
	{CodeInvalidDigitalTwinPath, "InvalidDigitalTwinPatchPath", "The path of the patch is not valid", 400, argumentError, MQTTNone},
	{CodeInvalidOffset, "InvalidOffset", "The supplied offset '%s' is invalid. The last offset in the system is '%s'", 400, argumentError, MQTTNone},
	{CodeInvalidSequence, "InvalidSequenceNumber", "The supplied sequence number '%s' is invalid. The last sequence number in the system is '%s'", 400, argumentError, MQTTNone},
	{CodeUnauthorized, "IotHubUnauthorizedAccess", "Unauthorized", 401, unauthorizedAccess, MQTTRefuse},
	{CodeTokenExpired, "IotHubUnauthorized", "The SAS token has expired", 401, unauthorizedAccess, MQTTRefuse},
	{CodeSystemModule, "SystemModuleModifyUnauthorizedAccess", "Unauthorized to modify reserved module.", 401, unauthorizedAccess, MQTTNone},
	{CodeSendClaimRequired, "SendClaimRequired", "Unauthorized access. 'Send' claim(s) are required to perform this operation. Resource: '%s'.", 401, unauthorizedAccess, MQTTNone},
	{CodeJobQuotaExceeded, "JobQuotaExceeded", "Another job of this kind is running", 403, limitExceeded, MQTTNone},
	{CodeQueueDepthExceeded, "DeviceMaximumQueueDepthExceeded", "The queue of '%s' holds %s messages already", 403, limitExceeded, MQTTNone},
	{CodeTooManyUploads, "DeviceMaximumActiveFileUploadLimitExceeded", "Number of active file upload requests exceeded limit", 403, limitExceeded, MQTTNone},
	{CodeInvalidMessageExpiry, "InvalidMessageExpiryTime", "The message has expired already", 403, argumentError, MQTTNone},
	{CodeDeviceDisabled, "DeviceDisabled", "The device is disabled", 403, unauthorizedAccess, MQTTRefuse},
	{CodeTooManyMethods, "DeviceMaximumInflightMethodExceeded", "'%s' has not answered %s direct methods yet", 403, limitExceeded, MQTTNone},
	{CodeReceiverQuotaExceeded, "ReceiverQuotaExceeded", "Exceeded the maximum number of allowed receivers per partition in a consumer group which is %s. List of connected receivers - %s.", 403, limitExceeded, MQTTNone},
	{CodeTooManyGroups, "TooManyConsumerGroups", "The event hub '%s' has %s consumer groups already", 403, limitExceeded, MQTTNone},
	{CodeNotFound, "GenericNotFound", "Not found", 404, notFound, MQTTClose},
	{CodeDeviceNotFound, "DeviceNotFound", "%s", 404, notFound, MQTTRefuse},
	{CodeJobNotFound, "JobNotFound", "%s", 404, notFound, MQTTNone},
	{CodeModuleNotFound, "ModuleNotFound", "%s", 404, notFound, MQTTRefuse},
	{CodeFeatureNotSupported, "FeatureNotSupported", "The feature is not supported", 404, notImplemented, MQTTClose},
	{CodeDeviceNotOnline, "DeviceNotOnline", "The operation failed because the requested device isn't online or hasn't registered the direct method callback. To learn more, see https://aka.ms/iothub404103", 404, notFound, MQTTNone},
	{CodeConnectionClosed, "DeviceConnectionClosedRemotely", "The connection of '%s' ended before it had answered", 404, notFound, MQTTNone},
	{CodeConfigurationNotFound, "ConfigurationNotFound", "%s", 404, notFound, MQTTNone},
	{CodeEntityNotFound, "MessagingEntityNotFound", "The messaging entity '%s' could not be found. To know more visit https://aka.ms/sbResourceMgrExceptions. %s", 404, notFound, MQTTNone},
	{CodePartitionOutOfRange, "PartitionOutOfRange", "The specified partition is invalid for an EventHub partition sender or receiver. It should be between 0 and %s.", 404, "com.microsoft:argument-out-of-range", MQTTNone},
	{CodeInvalidState, "OperationNotAllowedInCurrentState", "The operation is not allowed in the current state", 405, "amqp:not-allowed", MQTTNone},
	{CodeDeviceAlreadyExists, "DeviceAlreadyExists", "A device with ID '%s' is already registered.", 409, "com.microsoft:device-already-exists", MQTTNone},
	{CodeJobAlreadyExists, "JobAlreadyExists", "A job with ID '%s' already exists.", 409, "com.microsoft:device-already-exists", MQTTNone},
	{CodeModuleAlreadyExists, "ModuleAlreadyExistsOnDevice", "Device %s in IotHub %s already contains Module %s.", 409, "com.microsoft:device-already-exists", MQTTNone},
	{CodeConfigurationAlreadyExists, "ConfigurationAlreadyExists", "A configuration with ID '%s' already exists.", 409, "com.microsoft:device-already-exists", MQTTNone},
	{CodeReceiverDisconnected, "ReceiverDisconnected", "New receiver '%s' with higher epoch of '%s' is created hence current receiver '%s' with epoch '%s' is getting disconnected. If you are recreating the receiver, make sure a higher epoch is used.", 409, linkStolen, MQTTNone},
	{CodeEpochTooLow, "ReceiverEpochTooLow", "Receiver '%s' with a higher epoch '%s' already exists. Receiver '%s' with epoch %s cannot be created. Make sure you are creating receiver with increasing epoch value to ensure connectivity, or ensure all old epoch receivers are closed or disconnected.", 409, linkStolen, MQTTNone},
	{CodeEpochRequired, "ReceiverEpochRequired", "At least one receiver for the endpoint is created with epoch of '%s', and so non-epoch receiver is not allowed. Either reconnect with a higher epoch, or make sure all epoch receivers are closed or disconnected.", 409, linkStolen, MQTTNone},
	{CodePreconditionFailed, "PreconditionFailed", "Precondition failed: Invalid ETag", 412, preconditionFailed, MQTTNone},
	{CodeLockLost, "DeviceMessageLockLost", "The lock token does not hold a message", 412, "com.microsoft:message-lock-lost", MQTTNone},
	{CodeMessageTooLarge, "MessageTooLarge", "The message is too large", 413, "amqp:link:message-size-exceeded", MQTTClose},
	{CodeTooManyDevices, "TooManyDevices", "Too many devices", 413, limitExceeded, MQTTNone},
	{CodeTooManyModules, "TooManyModulesOnDevice", "Device '%s' has %s modules already", 413, limitExceeded, MQTTNone},
	{CodeTooManyConfigurations, "ConfigurationCountLimitExceeded", "The hub has %s configurations already", 413, limitExceeded, MQTTNone},
	{CodeUnsupportedMediaType, "GenericUnsupportedMediaType", "The content type is not supported", 415, "amqp:not-implemented", MQTTNone},
	{CodePollTooSoon, "ThrottlingException", "A device may poll for cloud-to-device messages once every %s (HTTP poll rule, --http-poll); the next poll is due in %s", 429, "com.microsoft:device-container-throttled", MQTTNone},
	{CodeTooManyJobs, "ThrottlingMaxActiveJobCountExceeded", "At most %s scheduled jobs may be active at once", 429, "com.microsoft:device-container-throttled", MQTTNone},
	{CodeClientClosed, "ClientClosedRequest", "The client went away before the answer", 499, "amqp:link:detach-forced", MQTTNone},
	{CodeServerError, "ServerError", "An internal error occurred", 500, "amqp:internal-error", MQTTClose},
	{CodeNotImplemented, "NotImplemented", "Iolite does not do this yet", 501, notImplemented, MQTTClose},
	{CodeBadGateway, "GenericBadGateway", "The device's answer cannot be passed on", 502, "amqp:internal-error", MQTTNone},
	{CodeClosed, "ServiceUnavailable", "The hub is shutting down or was reset", 503, "amqp:link:detach-forced", MQTTClose},
	{CodeGatewayTimeout, "GatewayTimeout", "Timed out waiting for the response from device.", 504, "com.microsoft:timeout", MQTTNone},
}

// rows finds a row of the table by its code.
var rows = func() map[Code]ErrorInfo {
	m := make(map[Code]ErrorInfo, len(table))
	for _, row := range table {
		m[row.Code] = row
	}
	return m
}()

// Errors returns the whole error table in the order of codes.
func Errors() []ErrorInfo { return slices.Clone(table) }

// Error is what every hub method fails with: a row of the table, what was wrong, and a tracking id. Heads render it.
type Error struct {
	Code       Code
	Name       string // iothub-errorcode, for instance DeviceNotFound
	Text       string // for people; begins as documented for the code
	Status     int    // HTTP status
	Condition  string // AMQP error condition
	MQTT       MQTTEffect
	TrackingID string
	RetryAfter int    // seconds for Retry-After; 0 when not known
	Timeout    string // hh:mm:ss, info.timeout of a direct method that found nobody; empty for other errors
	cause      error  // for the log, never for the peer
	logged     bool   // there is a line in the log about it
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s (%d): %s", e.Name, e.Code, e.Text) }

// Unwrap returns the cause, which only logs may show.
func (e *Error) Unwrap() error { return e.cause }

// NewError makes the error of a code: details fill the text's places, or follow it after a colon when it has none. Heads use
// it for what only they can see, such as a body that is no JSON. A code that is not in the table becomes CodeServerError.
func (h *Hub) NewError(code Code, details ...string) *Error {
	e := newError(code, h.clock.Now(), details...)
	h.metrics.errors[e.Code].Inc()
	return e
}

// newErrorText is NewError with a text of its own, where the real hub has several for one code.
func (h *Hub) newErrorText(code Code, text string) *Error {
	e := h.NewError(code)
	e.Text = text
	return e
}

func newError(code Code, now time.Time, details ...string) *Error {
	row, known := rows[code]
	if !known {
		row = rows[CodeServerError]
	}
	return &Error{
		Code: row.Code, Name: row.Name, Text: fill(row.Text, details), Status: row.Status, Condition: row.Condition, MQTT: row.MQTT,
		TrackingID: trackingID(now),
	}
}

// AppendError appends an error as the newer components of IoT Hub write it: in the answers about twins on MQTT and AMQP, where the Node SDK
// looks for it, and in some of REST.
func (h *Hub) AppendError(b []byte, e *Error) []byte {
	b = strconv.AppendInt(append(b, `{"errorCode":`...), int64(e.Code), 10)
	b = appendText(append(b, `,"trackingId":`...), e.TrackingID)
	b = appendText(append(b, `,"message":`...), e.Text)
	b = appendTime(append(b, `,"timestampUtc":`...), h.clock.Now())
	return append(b, '}')
}

// fill puts the details into the places of text, and what is left over behind it.
func fill(text string, details []string) string {
	var b strings.Builder
	for len(details) > 0 {
		before, after, found := strings.Cut(text, "%s")
		if !found {
			break
		}
		b.WriteString(before)
		b.WriteString(details[0])
		text, details = after, details[1:]
	}
	b.WriteString(text)
	if len(details) > 0 {
		b.WriteString(": ")
		b.WriteString(strings.Join(details, ", "))
	}
	return b.String()
}

// trackingID has the form IoT Hub gives support requests to quote.
func trackingID(now time.Time) string {
	return fmt.Sprintf("%016x%016x-G:0-TimeStamp:%s", rand.Uint64(), rand.Uint64(), now.UTC().Format("01/02/2006 15:04:05"))
}

// AsError returns err as the hub error to render: itself, or an internal-error reply with a tracking id. Callers that get
// created == true log the cause with the tracking id.
func AsError(err error) (e *Error, created bool) {
	if errors.As(err, &e) {
		return e, false
	}
	e = newError(CodeServerError, clock.Wall())
	e.cause = err
	return e, true
}
