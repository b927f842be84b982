package broker

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// errBag is what a property bag that cannot be decoded fails with.
var errBag = errors.New("property bag")

// parseBag reads the properties at the end of a telemetry topic: name=value pairs joined with '&', percent-encoded, where
// '+' stands for itself. Names that begin with "$." once decoded are system properties; a name without '=' has no value,
// which is not the empty value. A '?' in front and one '/' at the end are tolerated (the article's own example has the
// first; the Node and Java SDKs send the second for modules). Properties are appended to t; nothing is allocated for what
// is not percent-encoded, so t shares memory with bag.
func parseBag(bag string, t *hub.Telemetry) error {
	bag = strings.TrimSuffix(strings.TrimPrefix(bag, "?"), "/")
	for bag != "" {
		var entry string
		entry, bag, _ = strings.Cut(bag, "&")
		if entry == "" {
			continue
		}
		if err := parseEntry(entry, t); err != nil {
			return err
		}
	}
	return nil
}

func parseEntry(entry string, t *hub.Telemetry) error {
	name, value, hasValue := strings.Cut(entry, "=")
	name, err := unescapeName(name)
	if err != nil {
		return err
	}
	if name == "" {
		return fmt.Errorf("%w: a property without a name", errBag)
	}
	if value, err = unescape(value); err != nil {
		return err
	}
	if known, err := setSystem(&t.SystemProperties, name, value); known || err != nil {
		return err
	}
	t.Properties = append(t.Properties, store.Property{Name: name, Value: value, Null: !hasValue})
	return nil
}

// unescapeName is unescape, with a short cut for the names that most SDKs send with every message.
func unescapeName(s string) (string, error) {
	if key, ok := strings.CutPrefix(s, "%24."); ok {
		for _, name := range [...]string{"$.mid", "$.cid", "$.ct", "$.ce", "$.on", "$.sub", "$.ctime"} {
			if name[2:] == key {
				return name, nil
			}
		}
	}
	return unescape(s)
}

// setSystem stores a system property and reports whether name is one. Unknown names that begin with "$." stay application
// properties, so that nothing a device sends is lost.
func setSystem(p *store.SystemProperties, name, value string) (bool, error) {
	key, ok := strings.CutPrefix(name, "$.")
	if !ok {
		return false, nil
	}
	switch key {
	case "exp":
		var err error
		p.Expiry, err = parseExpiry(value)
		return true, err
	case "cdid", "cmid": // who sends, as the Java SDK says with every message; the hub stamps what was proven
		return true, nil
	}
	field := systemField(p, key)
	if field == nil {
		return false, nil
	}
	*field = value
	return true, nil
}

// systemField maps the short names of MQTT property bags to fields; nil for a name that IoT Hub does not know.
func systemField(p *store.SystemProperties, key string) *string {
	switch key {
	case "mid":
		return &p.MessageID
	case "cid":
		return &p.CorrelationID
	case "uid":
		return &p.UserID
	case "to":
		return &p.To
	case "ct":
		return &p.ContentType
	case "ce":
		return &p.ContentEncoding
	case "on":
		return &p.OutputName
	case "ifid":
		return &p.InterfaceID
	case "sub":
		return &p.Subject
	case "schema":
		return &p.MessageSchema
	case "ctime":
		return &p.CreationTime
	case "diagid":
		return &p.DiagnosticID
	case "diagctx":
		return &p.DiagnosticCtx
	}
	return nil
}

// parseExpiry reads $.exp as SDKs write it: ISO 8601 with or without a zone (UTC then), milliseconds since 1970, or 0 and
// nothing for no expiry.
func parseExpiry(value string) (time.Time, error) {
	if value == "" || value == "0" {
		return time.Time{}, nil
	}
	for _, layout := range [...]string{time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, value); err == nil {
			return t.UTC(), nil
		}
	}
	if ms, err := strconv.ParseInt(value, 10, 64); err == nil && ms > 0 && ms < maxUnixMilli {
		return time.UnixMilli(ms).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%w: $.exp is not a time", errBag)
}

const maxUnixMilli = 253402300800000 // the year 10000

// unescape decodes percent-encoding, leaving '+' alone, without an allocation when there is nothing to decode.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	decoded, err := url.PathUnescape(s)
	if err != nil {
		return "", fmt.Errorf("%w: bad percent-encoding", errBag)
	}
	if !utf8.ValidString(decoded) {
		return "", fmt.Errorf("%w: percent-encoding does not decode to UTF-8", errBag)
	}
	return decoded, nil
}

// expiryFormat is .NET's round-trip format, which the service uses in topics.
const expiryFormat = "2006-01-02T15:04:05.0000000Z"

// appendBag writes the property bag of a cloud-to-device topic: system properties first and with "%24." (the Java SDK reads
// from the first %24 on, the C SDK knows no other spelling), "%24.to" always (Java wants one of them), then iothub-ack, then
// application properties in their order. Every entry has a '=': Java fails on one without.
func appendBag(b []byte, m *store.Message, to string) []byte {
	if m.To != "" {
		to = m.To
	}
	b = appendSystem(b, "mid", m.MessageID)
	b = append(appendSeparator(b), "%24.to="...)
	b = appendEscaped(b, to)
	if !m.Expiry.IsZero() {
		b = appendSystem(b, "exp", m.Expiry.UTC().Format(expiryFormat))
	}
	b = appendSystem(b, "cid", m.CorrelationID)
	b = appendSystem(b, "uid", m.UserID)
	b = appendSystem(b, "ct", m.ContentType)
	b = appendSystem(b, "ce", m.ContentEncoding)
	b = appendSystem(b, "schema", m.MessageSchema)
	b = appendSystem(b, "ctime", m.CreationTime)
	if m.Operation != "" {
		b = appendProperty(b, "iothub-operation", m.Operation)
	}
	if m.Ack != "" {
		b = appendProperty(b, "iothub-ack", m.Ack)
	}
	for _, p := range m.Properties {
		if p.Name != "" {
			b = appendProperty(b, p.Name, p.Value)
		}
	}
	return b
}

// appendSystem appends a system property unless it is empty.
func appendSystem(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	b = append(appendSeparator(b), "%24."...)
	b = append(append(b, key...), '=')
	return appendEscaped(b, value)
}

func appendProperty(b []byte, name, value string) []byte {
	b = append(appendEscaped(appendSeparator(b), name), '=')
	return appendEscaped(b, value)
}

// appendSeparator appends '&' unless the bag is still empty; the topic before it ends with '/', which no entry does.
func appendSeparator(b []byte) []byte {
	if len(b) == 0 || b[len(b)-1] == '/' {
		return b
	}
	return append(b, '&')
}

// appendEscaped percent-encodes everything but RFC 3986's unreserved characters, with upper-case hex as the service does.
func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}
