package hub

import (
	"fmt"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// tokenGrace is how long after its end a token still counts, for opening and for staying: IoT Hub's own helpers allow clocks to
// differ by five minutes (azure-iot-sdk-csharp: SharedAccessSignatureConstants.MaxClockSkew), and its clients rely on it when they renew late.
const tokenGrace = 5 * time.Minute

// mayAct reports whether p may act as the device or module key: with its own credential, or with a policy that has DeviceConnect
// and a scope at, above or below the identity. A scope below (devices/d1/messages/events) is taken for the whole identity: sessions
// are not narrower than that.
func mayAct(p auth.Principal, key store.Key) bool {
	if !p.Rights.Has(auth.DeviceConnect) {
		return false
	}
	if !p.IsPolicy() {
		return p.DeviceID == key.DeviceID && p.ModuleID == key.ModuleID
	}
	if p.Scope == "" || p.Covers(devicePath(key)) {
		return true
	}
	d, m, ok := auth.ScopeIdentity(p.Scope)
	return ok && d == key.DeviceID && m == key.ModuleID
}

// authMethod returns the annotation iothub-connection-auth-method. Texts as captured from the real hub.
func authMethod(p auth.Principal, key store.Key) string {
	switch {
	case p.IsPolicy():
		return `{"scope":"hub","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`
	case p.Method == auth.MethodSelfSigned || p.Method == auth.MethodCA:
		if key.ModuleID != "" {
			return `{"scope":"module","type":"x509Certificate","issuer":"external","acceptingIpFilterRule":null}`
		}
		return `{"scope":"device","type":"x509Certificate","issuer":"external","acceptingIpFilterRule":null}`
	case key.ModuleID != "":
		return `{"scope":"module","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`
	}
	return `{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`
}

// unauthorized is the error that does not say why somebody is refused: IoT Hub answers 401002 "Unauthorized" whatever the cause. The log
// says it, when a head answers.
func (h *Hub) unauthorized(cause error) *Error {
	e := h.NewError(CodeUnauthorized)
	e.cause = cause
	return e
}

// notFound is the error for an identity that is not registered.
func (h *Hub) notFound(key store.Key) *Error {
	if key.ModuleID != "" {
		return h.NewError(CodeModuleNotFound, key.String())
	}
	return h.NewError(CodeDeviceNotFound, key.DeviceID)
}

// principalName says who p is, for the log.
func principalName(p auth.Principal) string {
	if p.IsPolicy() {
		return fmt.Sprintf("policy %q with scope %q", p.Policy, p.Scope)
	}
	return fmt.Sprintf("identity %q", store.Key{DeviceID: p.DeviceID, ModuleID: p.ModuleID})
}
