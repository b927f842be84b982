package hub

import (
	"context"

	"github.com/iolite-emulator/iolite/store"
)

// DigitalTwin is a device's twin as IoT Plug and Play sees it.
type DigitalTwin struct{ twin Twin }

// CommandResult is what a device answered to a command.
type CommandResult struct {
	MethodResult
	RequestID string // for the header x-ms-request-id
}

// DigitalTwin returns the digital twin of a device. ServiceConnect. CodeDeviceNotFound.
func (s *ServiceSession) DigitalTwin(_ context.Context, _ string) (DigitalTwin, error) {
	return DigitalTwin{}, s.hub.NewError(CodeNotImplemented, "digital twins")
}

// UpdateDigitalTwin changes desired properties by a JSON Patch, the body of PATCH /digitaltwins/{id}, and returns the new etag. ifMatch is
// an etag with or without quotes, "*" or "" for any. ServiceConnect. CodeDeviceNotFound, CodePreconditionFailed,
// CodeInvalidDigitalTwinPatch, CodeInvalidDigitalTwinPath, CodeArgumentInvalid.
func (s *ServiceSession) UpdateDigitalTwin(_ context.Context, _ string, _ []byte, _ string) (etag string, err error) {
	return "", s.hub.NewError(CodeNotImplemented, "digital twins")
}

// InvokeCommand calls a command of a device, or of its component when that is not empty: the direct method "command" or
// "component*command", call.Name being the command. The errors of InvokeMethod.
func (s *ServiceSession) InvokeCommand(ctx context.Context, deviceID, component string, call MethodCall) (CommandResult, error) {
	if component != "" {
		call.Name = component + "*" + call.Name
	}
	r, err := s.InvokeMethod(ctx, store.Key{DeviceID: deviceID}, call)
	return CommandResult{MethodResult: r, RequestID: newUUID()}, err
}

// ETag is the digital twin's etag, without quotes.
func (t *DigitalTwin) ETag() string { return t.twin.ETag() }

// AppendJSON appends the digital twin as GET /digitaltwins/{id} answers it.
func (t *DigitalTwin) AppendJSON(b []byte) []byte { return append(b, "{}"...) }
