package auth

import (
	"net/url"
	"strings"
)

// Covers reports whether the principal's scope is a segment-wise prefix of resource, a decoded path below the host such as
// "devices/d1/messages/events": "devices/d1" covers it, "devices/d" does not. Literal segments compare without case, ids with.
func (p Principal) Covers(resource string) bool {
	if p.Scope == "" {
		return true
	}
	have, want := strings.Split(p.Scope, "/"), strings.Split(strings.Trim(resource, "/"), "/")
	if len(have) > len(want) {
		return false
	}
	for i := range have {
		if !sameSegment(have, want, i) {
			return false
		}
	}
	return true
}

// sameSegment compares the i-th segments; one that is an id must match exactly, or after one more decoding of the scope's
// (several SDKs encode an id and then the whole resource once more).
func sameSegment(have, want []string, i int) bool {
	if !isID(want, i) {
		return strings.EqualFold(have[i], want[i])
	}
	if have[i] == want[i] {
		return true
	}
	twice, err := url.PathUnescape(have[i])
	return err == nil && twice == want[i]
}

// isID reports whether the i-th segment of a path names a device or module: the one after "devices" or "modules".
func isID(path []string, i int) bool {
	if i == 1 {
		return strings.EqualFold(path[0], "devices")
	}
	return i == 3 && strings.EqualFold(path[0], "devices") && strings.EqualFold(path[2], "modules")
}

// ScopeIdentity returns the device and module that a scope names, both decodings of each id tried by the caller: ok is false
// when the scope is not at or below one device.
func ScopeIdentity(scope string) (deviceID, moduleID string, ok bool) {
	parts := strings.Split(scope, "/")
	if len(parts) < 2 || !strings.EqualFold(parts[0], "devices") || parts[1] == "" {
		return "", "", false
	}
	if len(parts) >= 4 && strings.EqualFold(parts[2], "modules") {
		return parts[1], parts[3], parts[3] != ""
	}
	return parts[1], "", true
}
