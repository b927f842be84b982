package hub

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/iolite-emulator/iolite/store"
)

// Limits of the identity registry (article "Understand the identity registry in your IoT hub").
const (
	maxModules      = 20 // per device
	maxStatusReason = 128
	minKey, maxKey  = 16, 64 // bytes

	// Iolite's own: a listing of 1000 identities stands in memory.
	maxManagedBy = 1024 // bytes
	maxScope     = 256  // bytes; the hub's own have less
	maxParents   = 100
)

// The system modules of an IoT Edge device.
const (
	edgeAgent = "$edgeAgent"
	edgeHub   = "$edgeHub"
)

// edgeScheme begins the scope of an IoT Edge device.
const edgeScheme = "ms-azure-iot-edge://"

// complete checks the fields of an identity that a service may set and fills in what it left out.
func (h *Hub) complete(id *store.Identity) error {
	if !validID(id.DeviceID) || id.ModuleID != "" && !validID(id.ModuleID) {
		return h.NewError(CodeArgumentInvalid, "an id is not of 1 to 128 ASCII letters, digits and -:.+%_#*?!(),=@;$'")
	}
	if utf8.RuneCountInString(id.StatusReason) > maxStatusReason {
		return h.NewError(CodeArgumentInvalid, "statusReason is longer than 128 characters")
	}
	if len(id.ManagedBy) > maxManagedBy {
		return h.NewError(CodeArgumentInvalid, "managedBy is longer than 1024 bytes")
	}
	// The Java service SDK writes "Enabled" and "Disabled".
	switch id.Status = store.Status(strings.ToLower(string(id.Status))); id.Status {
	case store.Enabled, store.Disabled:
	case "":
		id.Status = store.Enabled
	default:
		return h.NewError(CodeArgumentInvalid, "status is neither enabled nor disabled")
	}
	if problem := completeAuthentication(&id.Authentication, id.ModuleID != ""); problem != "" {
		return h.NewError(CodeArgumentInvalid, problem)
	}
	return nil
}

// knownAuthType returns the type as the registry writes it, whatever case it was written in.
func knownAuthType(t store.AuthType) store.AuthType {
	for _, known := range []store.AuthType{store.AuthSAS, store.AuthSelfSigned, store.AuthCA, store.AuthNone} {
		if strings.EqualFold(string(t), string(known)) {
			return known
		}
	}
	return t
}

// completeAuthentication checks an authentication and drops what does not belong to its type. It returns what is wrong, or "".
func completeAuthentication(a *store.Authentication, module bool) string {
	if a.Type == "" {
		a.Type = store.AuthSAS
		if a.PrimaryThumbprint != "" || a.SecondaryThumbprint != "" {
			a.Type = store.AuthSelfSigned
		}
	}
	a.Type = knownAuthType(a.Type)
	if a.Type == store.AuthNone && module {
		a.Type = store.AuthSAS
	}
	switch a.Type {
	case store.AuthSAS:
		return completeKeys(a)
	case store.AuthSelfSigned:
		if !validThumbprint(a.PrimaryThumbprint) || !validThumbprint(a.SecondaryThumbprint) {
			return "a thumbprint is not of 40 or 64 hexadecimal digits"
		}
		*a = store.Authentication{Type: a.Type, PrimaryThumbprint: a.PrimaryThumbprint, SecondaryThumbprint: a.SecondaryThumbprint}
		return ""
	case store.AuthCA:
		*a = store.Authentication{Type: a.Type}
		return ""
	}
	return "authentication.type is none of sas, selfSigned and certificateAuthority"
}

func completeKeys(a *store.Authentication) string {
	*a = store.Authentication{Type: a.Type, PrimaryKey: a.PrimaryKey, SecondaryKey: a.SecondaryKey}
	if a.PrimaryKey == "" && a.SecondaryKey == "" {
		a.PrimaryKey, a.SecondaryKey = newKeys()
		return ""
	}
	if a.PrimaryKey == "" || a.SecondaryKey == "" {
		return "of the two keys only one is given"
	}
	if !validKey(a.PrimaryKey) || !validKey(a.SecondaryKey) {
		return "a key is not the base64 text of 16 to 64 bytes"
	}
	return ""
}

func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) >= minKey && len(b) <= maxKey
}

// validThumbprint accepts SHA-1 and SHA-256 in hex, and none at all.
func validThumbprint(t string) bool {
	if t == "" {
		return true
	}
	_, err := hex.DecodeString(t)
	return err == nil && (len(t) == 40 || len(t) == 64)
}

// completeScope gives an edge device the scope that its children name, and a leaf device its parent's (article "IoT Edge: identity
// and module hierarchy"). A module has none of its own.
func (h *Hub) completeScope(id *store.Identity, old store.Identity) error {
	switch {
	case id.ModuleID != "":
		id.IoTEdge, id.DeviceScope, id.ParentScopes = false, old.DeviceScope, nil
		return nil
	case id.IoTEdge:
		return h.completeEdgeScope(id, old)
	}
	return h.completeLeafScope(id, old)
}

// completeEdgeScope keeps the scope of an edge device, which cannot change once it is given. Its parents are other edge devices.
func (h *Hub) completeEdgeScope(id *store.Identity, old store.Identity) error {
	if old.IoTEdge && id.DeviceScope != "" && id.DeviceScope != old.DeviceScope {
		return h.NewError(CodeInvalidDeviceScope)
	}
	id.DeviceScope = old.DeviceScope
	if !old.IoTEdge {
		id.DeviceScope = edgeScheme + id.DeviceID + "-" + id.GenerationID
	}
	if len(id.ParentScopes) > maxParents {
		return h.NewError(CodeArgumentInvalid, "parentScopes holds more than 100 scopes")
	}
	for _, scope := range id.ParentScopes {
		if !isScope(scope) || scope == id.DeviceScope {
			return h.NewError(CodeArgumentInvalid, "parentScopes holds what is not the scope of another edge device")
		}
	}
	return nil
}

// isScope reports whether a text may be the scope of an edge device.
func isScope(s string) bool { return len(s) <= maxScope && strings.HasPrefix(s, edgeScheme) }

// completeLeafScope mirrors the parent of a leaf device; parentScopes alone are ignored.
func (h *Hub) completeLeafScope(id *store.Identity, old store.Identity) error {
	id.ParentScopes = nil
	if old.IoTEdge && id.DeviceScope == old.DeviceScope { // it was an edge device, and the scope its own
		id.DeviceScope = ""
	}
	if id.DeviceScope == "" {
		return nil
	}
	if !isScope(id.DeviceScope) {
		return h.NewError(CodeArgumentInvalid, "deviceScope is not the scope of an edge device")
	}
	id.ParentScopes = []string{id.DeviceScope}
	return nil
}
