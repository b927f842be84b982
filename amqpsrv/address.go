package amqpsrv

import (
	"net/url"
	"strings"

	"github.com/iolite-emulator/iolite/store"
)

// maxAddress is the longest address that is looked at, in bytes: two ids of 128 characters, every one percent-encoded
// twice, fit with room to spare.
const maxAddress = 4096

// kind names a node of IoT Hub or of its Event Hubs-compatible endpoint.
type kind uint8

const (
	kindUnknown           kind = iota
	kindCBS                    // $cbs
	kindManagement             // $management, {event hub}/$management
	kindEvents                 // /devices/{d}[/modules/{m}]/messages/events
	kindDevicebound            // /devices/{d}[/modules/{m}]/messages/devicebound
	kindMethods                // /devices/{d}[/modules/{m}]/methods/devicebound
	kindTwin                   // /devices/{d}[/modules/{m}]/twin
	kindC2D                    // /messages/devicebound
	kindFeedback               // /messages/servicebound/feedback
	kindFileNotifications      // /messages/servicebound/filenotifications, .../fileuploadnotifications
	kindHubEvents              // messages/events[/...]: redirected
	kindPartition              // {event hub}/ConsumerGroups/{group}/Partitions/{id}
	kindProducer               // {event hub}, {event hub}/Partitions/{id}
)

// address is a link address taken apart.
type address struct {
	kind      kind
	key       store.Key // of a device or module node
	entity    string    // Event Hubs-compatible name, as the peer wrote it
	group     string    // consumer group
	partition string
	tail      string // of kindHubEvents: what follows messages/events, without slashes at its ends
	path      string // decoded, without scheme, host and slashes at its ends; what tokens are signed for
}

// parseAddress understands every form that SDKs use: with and without scheme and host, with and without slashes at the
// ends, percent-encoded segments, literal segments in any case. What it does not know is kindUnknown.
func parseAddress(text string) address {
	if len(text) > maxAddress {
		return address{}
	}
	segments := strings.Split(strings.Trim(stripAuthority(text), "/"), "/")
	for i, s := range segments {
		segments[i] = decodeSegment(s)
		if segments[i] == "" || strings.Contains(segments[i], "/") {
			return address{}
		}
	}
	a := parseSegments(segments)
	a.path = strings.Join(segments, "/")
	return a
}

// literalKey returns the identity of an address taken word for word, if that is another one than parseAddress finds: % is legal in an id, and
// Node, Java and C send ids as they are, so that what looks encoded may be the id itself.
func literalKey(text string) (key store.Key, differs bool) {
	if len(text) > maxAddress || !strings.Contains(text, "%") {
		return key, false
	}
	a := parseSegments(strings.Split(strings.Trim(stripAuthority(text), "/"), "/"))
	return a.key, a.key != store.Key{}
}

// stripAuthority removes "scheme://host:port". A text without scheme is a path.
func stripAuthority(text string) string {
	_, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text
	}
	_, path, _ := strings.Cut(rest, "/")
	return path
}

// decodeSegment undoes percent-encoding. A segment that is not percent-encoded stands for itself: % and + are legal in
// a device id, and Node, Java and C send ids as they are.
func decodeSegment(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	decoded, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	return decoded
}

func parseSegments(s []string) address {
	switch {
	case is(s, "$cbs"):
		return address{kind: kindCBS}
	case is(s, "$management"):
		return address{kind: kindManagement}
	case is(s, "*", "$management"):
		return address{kind: kindManagement, entity: s[0]}
	case is(s, "messages", "devicebound"):
		return address{kind: kindC2D}
	case is(s, "messages", "servicebound", "feedback"):
		return address{kind: kindFeedback}
	case is(s, "messages", "servicebound", "filenotifications"), is(s, "messages", "servicebound", "fileuploadnotifications"): // SDKs, and the article
		return address{kind: kindFileNotifications}
	case len(s) >= 2 && is(s[:2], "messages", "events"):
		return address{kind: kindHubEvents, tail: strings.Join(s[2:], "/")}
	case strings.EqualFold(s[0], "devices"):
		return deviceAddress(s)
	}
	return eventHubAddress(s)
}

// deviceAddress parses devices/{d}[/modules/{m}]/..., whose s[0] is known to be "devices".
func deviceAddress(s []string) address {
	if len(s) < 2 {
		return address{}
	}
	key, rest := store.Key{DeviceID: s[1]}, s[2:]
	if len(rest) >= 2 && strings.EqualFold(rest[0], "modules") {
		key.ModuleID, rest = rest[1], rest[2:]
	}
	switch {
	case is(rest, "messages", "events"):
		return address{kind: kindEvents, key: key}
	case is(rest, "messages", "devicebound"):
		return address{kind: kindDevicebound, key: key}
	case is(rest, "methods", "devicebound"):
		return address{kind: kindMethods, key: key}
	case is(rest, "twin"):
		return address{kind: kindTwin, key: key}
	}
	return address{}
}

// eventHubAddress parses the addresses of the Event Hubs-compatible endpoint.
func eventHubAddress(s []string) address {
	switch {
	case is(s, "*", "consumergroups", "*", "partitions", "*"):
		return address{kind: kindPartition, entity: s[0], group: s[2], partition: s[4]}
	case is(s, "*", "partitions", "*"):
		return address{kind: kindProducer, entity: s[0], partition: s[2]}
	case is(s, "*"):
		return address{kind: kindProducer, entity: s[0]}
	}
	return address{}
}

// is compares segments with a pattern without regard to case; "*" is any segment.
func is(segments []string, pattern ...string) bool {
	if len(segments) != len(pattern) {
		return false
	}
	for i, p := range pattern {
		if p != "*" && !strings.EqualFold(segments[i], p) {
			return false
		}
	}
	return true
}
