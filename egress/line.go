package egress

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/store"
)

// timeFormat is how IoT Hub writes times into blobs: with seven digits of a second.
const timeFormat = "2006-01-02T15:04:05.0000000Z"

// appendLine appends a message as a line of JSON, as IoT Hub writes it into containers (article "Create and read messages", section System
// property names; the order is that of the article "Message enrichments", which shows blobs).
func appendLine(b []byte, e *store.Event) []byte {
	b = appendTime(append(b, `{"EnqueuedTimeUtc":`...), e.Enqueued)
	b = appendProperties(append(b, `,"Properties":{`...), e)
	b = appendSystem(append(b, `},"SystemProperties":{`...), e)
	b = appendBody(append(b, `},"Body":`...), e)
	return append(b, "}\n"...)
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	return append(t.UTC().AppendFormat(b, timeFormat), '"')
}

// appendProperties appends the application properties; a name that stands twice counts as it did last.
func appendProperties(b []byte, e *store.Event) []byte {
	first := true
	for i := range e.Properties {
		p := &e.Properties[i]
		if lastOf(e.Properties[i+1:], p.Name) {
			b = appendMember(b, &first, p.Name)
			b = appendValue(b, p)
		}
	}
	for _, p := range [...]struct{ name, value string }{
		{"iothub-ack", e.Ack}, {"iothub-message-schema", e.MessageSchema}, {"iothub-creation-time-utc", e.CreationTime},
		{"iothub-operation", e.Operation}, {"iothub-outputname", e.OutputName},
	} {
		if p.value != "" {
			b = document.AppendString(appendMember(b, &first, p.name), p.value)
		}
	}
	return b
}

func lastOf(rest []store.Property, name string) bool {
	for i := range rest {
		if rest[i].Name == name {
			return false
		}
	}
	return true
}

func appendValue(b []byte, p *store.Property) []byte {
	if p.Null {
		return append(b, "null"...)
	}
	return document.AppendString(b, p.Value)
}

func appendSystem(b []byte, e *store.Event) []byte {
	first := true
	for _, p := range [...]struct{ name, value string }{
		{"messageId", e.MessageID}, {"correlationId", e.CorrelationID}, {"userId", e.UserID},
		{"connectionDeviceId", e.DeviceID}, {"connectionModuleId", e.ModuleID}, {"connectionAuthMethod", e.AuthMethod},
		{"connectionDeviceGenerationId", e.GenerationID}, {"contentType", e.ContentType}, {"contentEncoding", e.ContentEncoding},
		{"dt-dataschema", e.ModelID}, {"dt-subject", e.Subject},
	} {
		if p.value != "" {
			b = document.AppendString(appendMember(b, &first, p.name), p.value)
		}
	}
	return appendTime(appendMember(b, &first, "enqueuedTime"), e.Enqueued)
}

// appendMember begins a member of an object.
func appendMember(b []byte, first *bool, name string) []byte {
	if !*first {
		b = append(b, ',')
	}
	*first = false
	return append(document.AppendString(b, name), ':')
}

// appendBody appends the body: the JSON value that it is, in one line, if content type and encoding say that it is one and it is; else its
// octets in base64 ("If these properties aren't set, IoT Hub writes the messages in base64 encoded format").
func appendBody(b []byte, e *store.Event) []byte {
	if isJSON(e) && utf8.Valid(e.Body) {
		var line bytes.Buffer
		if json.Compact(&line, e.Body) == nil {
			return append(b, line.Bytes()...)
		}
	}
	b = append(b, '"')
	return append(base64.StdEncoding.AppendEncode(b, e.Body), '"')
}

// isJSON is the rule of the article "Use IoT Hub message routing", section Azure Storage; both values in any case.
func isJSON(e *store.Event) bool {
	return strings.EqualFold(e.ContentType, "application/json") && strings.EqualFold(e.ContentEncoding, "utf-8")
}
