package hub

import (
	"context"
	"strconv"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

// Limits of digital twins (article "Manage IoT Plug and Play digital twins"). The number of operations is Iolite's own.
const (
	maxPatchOperations = 100
	maxDTDLName        = 64
	maxPropertyDepth   = 5
)

// componentMark marks an object of a twin as a component: "__t":"c".
const componentMark = "__t"

// DigitalTwin is a device's twin as IoT Plug and Play sees it.
type DigitalTwin struct{ row store.TwinRow }

// CommandResult is what a device answered to a command.
type CommandResult struct {
	MethodResult
	RequestID string // for the header x-ms-request-id
}

// DigitalTwin returns the digital twin of a device. ServiceConnect. CodeDeviceNotFound.
func (s *ServiceSession) DigitalTwin(ctx context.Context, deviceID string) (t DigitalTwin, err error) {
	defer func() { err = s.hub.did(opServiceTwinRead, store.Key{DeviceID: deviceID}, s.conn, t.size(), err) }()
	if err := s.need(ctx, auth.ServiceConnect, "digitaltwins/"+deviceID); err != nil {
		return DigitalTwin{}, err
	}
	key := store.Key{DeviceID: deviceID}
	row, err := s.hub.twinRow(ctx, key)
	if err != nil {
		return DigitalTwin{}, s.hub.twinError(err, key)
	}
	return DigitalTwin{row}, nil
}

// size is how long the JSON of its properties is.
func (t *DigitalTwin) size() int {
	return twin.Length(t.row.Twin.Desired.Value) + twin.Length(t.row.Twin.Reported.Value)
}

// ETag is the digital twin's etag, without quotes: that of the device's twin, which moves with tags and desired properties.
func (t *DigitalTwin) ETag() string { return twinETag(t.row.Twin.Writes) }

// AppendJSON appends the digital twin as GET /digitaltwins/{id} answers it (article "Understand IoT Plug and Play digital twins").
func (t *DigitalTwin) AppendJSON(b []byte) []byte { return t.value().AppendJSON(b) }

func (t *DigitalTwin) value() document.Value {
	members, metadata := shownProperties(t.row.Twin.Desired.Value, t.row.Twin.Reported.Value, true)
	if t.row.ModelID != "" {
		metadata = append(metadata, document.Member{Name: "$model", Value: document.OfString(t.row.ModelID)})
	}
	members = append(members, document.Member{Name: "$dtId", Value: document.OfString(t.row.DeviceID)},
		document.Member{Name: "$metadata", Value: document.OfMembers(metadata)})
	return document.OfMembers(members)
}

// shownProperties returns what a digital twin, or a component in it, shows of desired and reported properties, and its metadata.
func shownProperties(desired, reported document.Value, root bool) (members, metadata []document.Member) {
	show := func(name string) {
		d, hasDesired := desired.Member(name)
		r, hasReported := reported.Member(name)
		switch {
		case name == componentMark:
		case root && (isComponent(d.Value) || isComponent(r.Value)):
			inner, about := shownProperties(d.Value, r.Value, false)
			inner = append(inner, document.Member{Name: "$metadata", Value: document.OfMembers(about)})
			members = append(members, document.Member{Name: name, Value: document.OfMembers(inner)})
		default:
			value, about := shownProperty(d, r, hasDesired, hasReported)
			if hasReported {
				members = append(members, document.Member{Name: name, Value: value})
			}
			metadata = append(metadata, document.Member{Name: name, Value: document.OfMembers(about)})
		}
	}
	for _, m := range desired.Members() {
		show(m.Name)
	}
	for _, m := range reported.Members() {
		if !desired.Get(m.Name).IsDefined() {
			show(m.Name)
		}
	}
	return members, metadata
}

func isComponent(v document.Value) bool { return v.Get(componentMark).Text() == "c" }

// shownProperty returns the value of a property as the device reported it, and what the metadata says of it.
func shownProperty(desired, reported document.Member, hasDesired, hasReported bool) (value document.Value, about []document.Member) {
	if hasDesired {
		about = append(about, document.Member{Name: "desiredValue", Value: desired.Value}, document.Member{Name: "desiredVersion", Value: document.OfInt(desired.Version)})
	}
	if !hasReported {
		return value, about
	}
	about = append(about, document.Member{Name: "lastUpdateTime", Value: timeValue(reported.Updated)})
	if !isAcknowledgement(reported.Value) {
		return reported.Value, about
	}
	for _, field := range [...][2]string{{"av", "ackVersion"}, {"ac", "ackCode"}, {"ad", "ackDescription"}} {
		if v := reported.Value.Get(field[0]); v.IsDefined() {
			about = append(about, document.Member{Name: field[1], Value: v})
		}
	}
	return reported.Value.Get("value"), about
}

// isAcknowledgement reports whether a device answers a desired property: {"value":..,"ac":200,"av":2,"ad":".."} (article "IoT Plug and Play
// conventions").
func isAcknowledgement(v document.Value) bool {
	return v.Get("value").IsDefined() && (v.Get("ac").IsDefined() || v.Get("av").IsDefined())
}

// UpdateDigitalTwin changes desired properties by a JSON Patch, the body of PATCH /digitaltwins/{id}, and returns the new etag. ifMatch is
// an etag with or without quotes, "*" or "" for any. ServiceConnect. CodeDeviceNotFound, CodePreconditionFailed,
// CodeInvalidDigitalTwinPatch, CodeInvalidDigitalTwinPath, CodeArgumentInvalid.
func (s *ServiceSession) UpdateDigitalTwin(ctx context.Context, deviceID string, body []byte, ifMatch string) (etag string, err error) {
	defer func() { err = s.hub.did(opServiceTwinUpdate, store.Key{DeviceID: deviceID}, s.conn, len(body), err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.ServiceConnect, "digitaltwins/"+deviceID); err != nil {
		return "", err
	}
	patch, err := s.hub.parsePatch(body)
	if err != nil {
		return "", err
	}
	row, err := s.hub.changeTwin(ctx, era, store.Key{DeviceID: deviceID}, ifMatch, func(t *store.Twin, now time.Time) (twinDelta, error) {
		if name := conflict(*t, patch); name != "" {
			return twinDelta{}, s.hub.newErrorText(CodeArgumentInvalid, "'"+name+"' exists within the device twin and is not digital twin "+
				"conformant property. Please refer to aka.ms/dtpatch to update this to be conformant.")
		}
		return twinDelta{desired: applyPatch(t, patch, now)}, nil
	})
	if err != nil {
		return "", err
	}
	return twinETag(row.Twin.Writes), nil
}

// patchOperation is one operation of a JSON Patch: it sets a property or a whole component, or removes it.
type patchOperation struct {
	component string         // "" for a property of the root
	property  string         // "" for a whole component, or for what stands at the root by the name of component when it is removed
	value     document.Value // Undefined to remove
}

// parsePatch reads a JSON Patch (RFC 6902), as far as digital twins have it.
func (h *Hub) parsePatch(body []byte) ([]patchOperation, error) {
	if len(body) > maxTwinBody {
		return nil, h.NewError(CodeInvalidDigitalTwinPatch, sizes(len(body), maxTwinBody))
	}
	v, err := document.Parse(body)
	if err != nil {
		return nil, h.NewError(CodeInvalidDigitalTwinPatch, err.Error())
	}
	if n := len(v.Elements()); v.Kind() != document.Array || n == 0 || n > maxPatchOperations {
		return nil, h.NewError(CodeInvalidDigitalTwinPatch, "an array of 1 to "+strconv.Itoa(maxPatchOperations)+" operations is wanted")
	}
	patch := make([]patchOperation, len(v.Elements()))
	for i, e := range v.Elements() {
		code, problem := patch[i].parse(e)
		if problem != "" {
			return nil, h.NewError(code, "operation "+strconv.Itoa(i)+": "+problem)
		}
	}
	return patch, nil
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
