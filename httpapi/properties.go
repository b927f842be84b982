package httpapi

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// appPrefix stands before the name of every application property in a header.
const appPrefix = "iothub-app-"

// systemFields says which header holds which system property. iothub-expiry is a time and stands apart.
var systemFields = []struct {
	header string
	field  func(*store.SystemProperties) *string
}{
	{"iothub-messageid", func(p *store.SystemProperties) *string { return &p.MessageID }},
	{"iothub-correlationid", func(p *store.SystemProperties) *string { return &p.CorrelationID }},
	{"iothub-userid", func(p *store.SystemProperties) *string { return &p.UserID }},
	{"iothub-to", func(p *store.SystemProperties) *string { return &p.To }},
	{"iothub-ack", func(p *store.SystemProperties) *string { return &p.Ack }},
	{"iothub-contenttype", func(p *store.SystemProperties) *string { return &p.ContentType }},
	{"iothub-contentencoding", func(p *store.SystemProperties) *string { return &p.ContentEncoding }},
	{"iothub-creationtimeutc", func(p *store.SystemProperties) *string { return &p.CreationTime }},
	{"iothub-creation-time-utc", func(p *store.SystemProperties) *string { return &p.CreationTime }}, // azure-iot-sdk-java
	{"iothub-messageschema", func(p *store.SystemProperties) *string { return &p.MessageSchema }},
	{"iothub-interface-id", func(p *store.SystemProperties) *string { return &p.InterfaceID }},
	{"iothub-operation", func(p *store.SystemProperties) *string { return &p.Operation }},
	{"dt-subject", func(p *store.SystemProperties) *string { return &p.Subject }},
}

// setProperty puts a property under its header name into m. known is false for a name that means nothing to IoT Hub.
func setProperty(m *hub.Telemetry, name, value string) (known bool, err error) {
	if hasPrefixFold(name, appPrefix) {
		if len(name) == len(appPrefix) {
			return true, refuse(hub.CodeArgumentInvalid, "a property "+appPrefix+" has no name")
		}
		m.Properties = append(m.Properties, store.Property{Name: name[len(appPrefix):], Value: value})
		return true, nil
	}
	for i := range systemFields {
		if strings.EqualFold(name, systemFields[i].header) {
			*systemFields[i].field(&m.SystemProperties) = value
			return true, nil
		}
	}
	if strings.EqualFold(name, "iothub-expiry") {
		m.Expiry, err = parseTime(value)
		return true, err
	}
	return false, nil
}

// parseTime reads the forms in which SDKs write a time.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", headerTime, http.TimeFormat, time.RFC1123Z} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, refuse(hub.CodeArgumentInvalid, fmt.Sprintf("iothub-expiry: %q is no time", s))
}

// eachHeader calls yield for the request's headers that may be properties, with names in the case and order they were sent in.
// If the header block as received is not to be had, which no client has been seen to bring about, names come in lower case.
func eachHeader(r *http.Request, yield func(name, value string) error) error {
	if block := wireOf(r).head(); block != nil {
		return eachRawHeader(block, yield)
	}
	for name, values := range r.Header {
		name = strings.ToLower(name)
		for _, v := range values {
			if !maybeProperty(name) {
				break
			}
			if err := yield(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachRawHeader reads a header block that net/http has found well-formed.
func eachRawHeader(block []byte, yield func(name, value string) error) error {
	_, block, _ = bytes.Cut(bytes.TrimLeft(block, "\r\n"), []byte{'\n'}) // the request line
	for len(block) > 0 {
		var line []byte
		line, block = cutHeader(block)
		name, value, ok := bytes.Cut(line, []byte{':'})
		if !ok || !maybeProperty(name) {
			continue
		}
		if err := yield(string(name), unfold(value)); err != nil {
			return err
		}
	}
	return nil
}

// cutHeader cuts off one header with its continuation lines (RFC 9112 5.2), which begin with a space or a tab.
func cutHeader(block []byte) (line, rest []byte) {
	for i := 0; ; {
		n := bytes.IndexByte(block[i:], '\n')
		if n < 0 {
			return block, nil
		}
		i += n + 1
		if i == len(block) || block[i] != ' ' && block[i] != '\t' {
			return block[:i], block[i:]
		}
	}
}

// unfold returns a header value, its lines joined by one space as net/http joins them.
func unfold(value []byte) string {
	value = bytes.Trim(value, " \t\r\n")
	if bytes.IndexByte(value, '\n') < 0 {
		return string(value)
	}
	lines := bytes.Split(value, []byte{'\n'})
	for i := range lines {
		lines[i] = bytes.Trim(lines[i], " \t\r")
	}
	return string(bytes.Join(lines, []byte{' '}))
}

// maybeProperty sorts out most headers by their first letters.
func maybeProperty[T string | []byte](name T) bool {
	return hasPrefixFold(name, "iothub-") || hasPrefixFold(name, "dt-")
}

// hasPrefixFold reports whether s begins with prefix, which is lower-case ASCII, in any case.
func hasPrefixFold[T string | []byte](s T, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}
