package broker

import (
	"errors"
	"net/url"
	"strings"

	"github.com/iolite-emulator/iolite/store"
)

// maxID is the longest device or module id in bytes. IoT Hub: "case-sensitive string (up to 128 characters long)".
const maxID = 128

// What is wrong with a user name; connect turns these into return codes.
var (
	errUserName   = errors.New("not of the form {host}/{device}[/{module}]/?api-version={version}")
	errAPIVersion = errors.New("api-version is not a date of the form 20yy-mm-dd, with or without -preview")
)

// userName is the user name of an IoT Hub CONNECT, taken apart.
type userName struct {
	host       string
	key        store.Key
	apiVersion string // empty when the client gave none
	clientType string // DeviceClientType: the SDK and its version
	modelID    string // a dtmi, empty when none
}

// parseUserName reads {host}/{device}[/{module}][/[?]api-version=...&DeviceClientType=...&model-id=...]. Ids stand there
// as they are, not URL-encoded, and may hold '?', '=' and '%'; only '/' and '&' never occur in one. The form without '?'
// and the one without any query are IoT Hub's older ones, which clients still send.
func parseUserName(text string) (userName, error) {
	host, rest, ok := strings.Cut(text, "/")
	if !ok || host == "" {
		return userName{}, errUserName
	}
	path, query := splitUserName(rest)
	device, module, isModule := strings.Cut(path, "/")
	if !validID(device) || isModule && !validID(module) {
		return userName{}, errUserName
	}
	u := userName{host: host, key: store.Key{DeviceID: device, ModuleID: module}}
	u.readQuery(query)
	if u.apiVersion != "" && !validAPIVersion(u.apiVersion) {
		return userName{}, errAPIVersion
	}
	return u, nil
}

// splitUserName separates the identity from the query. Clients order the query as they like and some leave values
// unencoded, so the segment that holds api-version decides; without one, a last segment that begins with '?' does.
func splitUserName(rest string) (path, query string) {
	for _, mark := range [...]string{"/?api-version=", "/api-version="} {
		if i := strings.LastIndex(rest, mark); i >= 0 {
			return rest[:i], strings.TrimPrefix(rest[i+1:], "?")
		}
	}
	if i := strings.LastIndex(rest, "&api-version="); i >= 0 {
		start := max(strings.LastIndex(rest[:i], "/?"), 0)
		if start == 0 {
			start = max(strings.LastIndexByte(rest[:i], '/'), 0)
		}
		return rest[:start], strings.TrimLeft(rest[start:], "/?")
	}
	if i := strings.LastIndex(rest, "/?"); i >= 0 {
		return rest[:i], rest[i+2:]
	}
	return strings.TrimSuffix(rest, "/"), ""
}

func (u *userName) readQuery(query string) {
	for entry := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(entry, "=")
		if decoded, err := url.PathUnescape(value); err == nil {
			value = decoded // the Node SDK sends model-id as it is
		}
		switch name {
		case "api-version":
			u.apiVersion = value
		case "DeviceClientType":
			u.clientType = value
		case "model-id":
			u.modelID = value
		}
	}
}

// validAPIVersion accepts any date of this century: which versions a hub knows changes, their form does not.
func validAPIVersion(v string) bool {
	v = strings.TrimSuffix(v, "-preview")
	const form = "20dd-dd-dd"
	if len(v) != len(form) {
		return false
	}
	for i := range len(form) {
		if digit := v[i] >= '0' && v[i] <= '9'; form[i] == 'd' && !digit || form[i] != 'd' && v[i] != form[i] {
			return false
		}
	}
	return true
}

// validID reports whether id may name a device or module: printable ASCII without what separates ids here. Which of those
// characters the registry allows is the hub's business.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' || c == '/' || c == '&' {
			return false
		}
	}
	return true
}
