// Package auth proves who a credential belongs to: SAS tokens, X.509 certificates and shared access policies become a
// Principal. It does not decide what a principal may do with a hub's data; hub asks it for rights and scope.
package auth

import "time"

// Rights is the set of permissions of a shared access policy.
type Rights uint8

// The permissions of IoT Hub's access control (article "Control access to IoT Hub", section Permissions).
const (
	RegistryRead Rights = 1 << iota
	RegistryWrite
	ServiceConnect
	DeviceConnect
)

// Has reports whether all of want is granted. RegistryWrite implies RegistryRead.
func (r Rights) Has(want Rights) bool {
	if r&RegistryWrite != 0 {
		r |= RegistryRead
	}
	return r&want == want
}

// Method says how a principal proved itself, in the words of the twin's authenticationType.
type Method string

// The ways of proving an identity.
const (
	MethodSAS        Method = "sas"
	MethodSelfSigned Method = "selfSigned"
	MethodCA         Method = "certificateAuthority"
	MethodNone       Method = "none" // only with authentication switched off
)

// Principal is who a credential proves: one device or module by its own key or certificate, or a hub policy.
// It is a value; copy it freely.
type Principal struct {
	DeviceID string // empty for a policy
	ModuleID string // empty for a device or a policy
	Policy   string // name of the shared access policy; empty for a device or module
	Rights   Rights // of the policy; DeviceConnect alone for a device or module
	// Scope is the decoded resource path below the host that the token was signed for, without slashes at its ends: ""
	// covers the whole hub, "devices/d1" that device and its modules' addresses, "devices/d1/modules/m1" one module.
	Scope  string
	Method Method
	Expiry time.Time // end of the token's life on the hub's clock; zero when it never ends
}

// IsPolicy reports whether the principal is a hub policy and not a device or module.
func (p Principal) IsPolicy() bool { return p.DeviceID == "" }
