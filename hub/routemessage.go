package hub

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"unicode/utf16"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// routeMessage is an event as the conditions of routes and enrichments see it. Its body is parsed, and the twin of who sent it is read,
// when the first of them asks, and never again.
type routeMessage struct {
	hub   *Hub
	log   *routeLog // nil when nothing is told
	event *store.Event

	body       document.Value // Undefined for what is no JSON object
	bodyParsed bool

	twin     store.Twin
	twinOf   store.Key
	twinRead bool // maybe without success
	hasTwin  bool
}

// read goes on to another event. The twin stays if it is of the same sender.
func (m *routeMessage) read(e *store.Event) {
	if m.event == e {
		return
	}
	m.event, m.body, m.bodyParsed = e, document.Value{}, false
	if key := (store.Key{DeviceID: e.DeviceID, ModuleID: e.ModuleID}); key != m.twinOf {
		m.twinOf, m.twin, m.twinRead, m.hasTwin = key, store.Twin{}, false, false
	}
}

// matches reports whether a condition selects the message.
func (m *routeMessage) matches(c *query.RouteCondition) bool {
	matches, _ := c.Matches(m)
	return matches
}

// goesBy reports whether the message matches a route.
func (m *routeMessage) goesBy(r *compiledRoute) bool {
	matches, undefined := r.condition.Matches(m)
	if undefined {
		m.log.undefined(m.event, r.name)
	}
	return matches
}

// Value implements query.Row.
func (m *routeMessage) Value(path []string) document.Value {
	switch path[0] {
	case query.PropertyRoot:
		return property(m.event.Properties, path[1])
	case query.SystemRoot:
		if text := systemProperty(m.event, path[1]); text != "" {
			return document.OfString(text)
		}
		return property(m.event.Properties, path[2])
	case query.BodyRoot:
		return m.bodyValue(path[1:])
	case query.TwinRoot:
		return m.twinValue(path[1:])
	}
	return document.Value{}
}

// property returns an application property. IoT Hub: names are not case-sensitive.
func property(properties []store.Property, name string) document.Value {
	for i := range properties {
		if p := &properties[i]; strings.EqualFold(p.Name, name) {
			if p.Null {
				return document.NullValue
			}
			return document.OfString(p.Value)
		}
	}
	return document.Value{}
}

// systemProperty returns a system property by its name in paths; it is empty when the event has none.
func systemProperty(e *store.Event, name string) string {
	if name == "enqueuedTime" {
		return e.Enqueued.UTC().Format(enqueuedFormat)
	}
	if field := systemField(e, name); field != nil {
		return *field
	}
	return ""
}

// systemField returns where an event keeps a system property that is a text, nil when there is no such.
func systemField(e *store.Event, name string) *string {
	switch name {
	case "messageId":
		return &e.MessageID
	case "correlationId":
		return &e.CorrelationID
	case "userId":
		return &e.UserID
	case "to":
		return &e.To
	case "contentType":
		return &e.ContentType
	case "contentEncoding":
		return &e.ContentEncoding
	case "ack":
		return &e.Ack
	case "creationTimeUtc":
		return &e.CreationTime
	case "messageSource":
		return &e.Source
	case "messageSchema":
		return &e.MessageSchema
	case "operation":
		return &e.Operation
	case "outputName":
		return &e.OutputName
	case "interfaceId":
		return &e.InterfaceID
	case "connectionDeviceId":
		return &e.DeviceID
	case "connectionModuleId":
		return &e.ModuleID
	case "connectionAuthMethod":
		return &e.AuthMethod
	case "connectionDeviceGenerationId":
		return &e.GenerationID
	case "dataSchema":
		return &e.ModelID
	case "subject":
		return &e.Subject
	}
	return nil
}

// enqueuedFormat is how conditions see the time, as the article on the query syntax shows it.
const enqueuedFormat = "2006-01-02T15:04:05.0000000Z"

// bodyValue returns a part of the body. The body as a whole cannot be asked for.
func (m *routeMessage) bodyValue(path []string) document.Value {
	if len(path) == 0 {
		return document.Value{}
	}
	if !m.bodyParsed {
		m.body, m.bodyParsed = parseBody(m.event), true
	}
	v := m.body
	for _, name := range path {
		v = v.Get(name)
	}
	return v
}

// parseBody reads the body of a message that says it is JSON.
func parseBody(e *store.Event) document.Value {
	if !isJSONText(e) {
		return document.Value{}
	}
	switch encoding := strings.TrimSpace(e.ContentEncoding); {
	case strings.EqualFold(encoding, "utf-16"):
		return parseObject([]byte(fromUTF16(e.Body)))
	case strings.EqualFold(encoding, "utf-32"):
		return parseObject([]byte(fromUTF32(e.Body)))
	}
	return parseObject(e.Body)
}

// isJSONText reports whether a message says that its body is JSON. IoT Hub: contentType must be application/json and contentEncoding UTF-8, UTF-16
// or UTF-32, or the body is not looked at.
func isJSONText(e *store.Event) bool {
	encoding := strings.TrimSpace(e.ContentEncoding)
	return strings.EqualFold(strings.TrimSpace(e.ContentType), "application/json") &&
		(strings.EqualFold(encoding, "utf-8") || strings.EqualFold(encoding, "utf-16") || strings.EqualFold(encoding, "utf-32"))
}

// parseObject reads a JSON object; Undefined for everything else.
func parseObject(text []byte) document.Value {
	v, ok := document.Scan(bytes.TrimPrefix(text, []byte("\uFEFF")))
	if !ok || v.Kind() != document.Object {
		return document.Value{}
	}
	return v
}

// fromUTF16 makes UTF-8 of UTF-16, which is little-endian unless it begins with the mark of the other order.
func fromUTF16(b []byte) string {
	order := binary.ByteOrder(binary.LittleEndian)
	if len(b) >= 2 && b[0] == 0xFE && b[1] == 0xFF {
		order = binary.BigEndian
	}
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, order.Uint16(b))
	}
	return string(utf16.Decode(units))
}

// fromUTF32 does the same for UTF-32.
func fromUTF32(b []byte) string {
	order := binary.ByteOrder(binary.LittleEndian)
	if len(b) >= 4 && b[0] == 0 && b[1] == 0 && b[2] == 0xFE && b[3] == 0xFF {
		order = binary.BigEndian
	}
	runes := make([]rune, 0, len(b)/4)
	for ; len(b) >= 4; b = b[4:] {
		runes = append(runes, rune(order.Uint32(b)))
	}
	return string(runes)
}

// twinValue returns a part of the sender's twin. IoT Hub: tags and properties; names are not case-sensitive; a module's own twin is meant.
func (m *routeMessage) twinValue(path []string) document.Value {
	if !m.twinRead {
		row, err := m.hub.twinRow(context.Background(), m.twinOf)
		m.twin, m.hasTwin, m.twinRead = row.Twin, err == nil, true
	}
	if !m.hasTwin || len(path) == 0 {
		return document.Value{}
	}
	switch {
	case strings.EqualFold(path[0], "tags"):
		return descend(m.twin.Tags, path[1:])
	case len(path) < 2 || !strings.EqualFold(path[0], "properties"):
		return document.Value{}
	case strings.EqualFold(path[1], "desired"):
		return sectionValue(&m.twin.Desired, path[2:])
	case strings.EqualFold(path[1], "reported"):
		return sectionValue(&m.twin.Reported, path[2:])
	}
	return document.Value{}
}

func sectionValue(s *store.Section, path []string) document.Value {
	if len(path) == 1 && strings.EqualFold(path[0], "$version") {
		return document.OfInt(s.Version)
	}
	return descend(s.Value, path)
}

// descend goes down a path whatever the case of its names; exact ones come first.
func descend(v document.Value, path []string) document.Value {
	for _, name := range path {
		if next, ok := v.Member(name); ok {
			v = next.Value
			continue
		}
		v = fold(v, name)
	}
	return v
}

func fold(v document.Value, name string) document.Value {
	for _, m := range v.Members() {
		if strings.EqualFold(m.Name, name) {
			return m.Value
		}
	}
	return document.Value{}
}
