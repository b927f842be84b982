package amqpsrv

import (
	"fmt"
	"strconv"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// messageLimits bound the decoding of one message a peer sent. Its size is bounded by the link before.
var messageLimits = amqp10.Limits{Depth: 8, Values: 4096, Size: 1 << 20}

// batchLimits bound the taking apart of a batch: the largest holds no more messages, be each as small as it can.
var batchLimits = amqp10.Limits{Depth: 8, Values: 1 << 15, Size: 1 << 20}

// telemetryOf translates a device's message. Everything in it aliases m.
func telemetryOf(m *amqp10.Message) (hub.Telemetry, error) {
	var t hub.Telemetry
	var err error
	if t.Body, err = bodyOf(m); err != nil {
		return t, err
	}
	if t.Properties, err = applicationProperties(m.ApplicationProperties); err != nil {
		return t, err
	}
	t.SystemProperties = systemProperties(m.Properties)
	for _, e := range m.MessageAnnotations {
		key, _ := e.Key.(amqp10.Symbol)
		if value, ok := e.Value.(string); ok {
			annotation(&t.SystemProperties, key, value)
		}
	}
	return t, nil
}

// annotation takes over a message annotation that devices set themselves; what the hub stamps is overwritten there.
func annotation(s *store.SystemProperties, key amqp10.Symbol, value string) {
	switch key {
	case "iothub-interface-id":
		s.InterfaceID = value
	case "dt-subject":
		s.Subject = value
	case "Diagnostic-Id":
		s.DiagnosticID = value
	case "Correlation-Context":
		s.DiagnosticCtx = value
	}
}

// c2dOf translates a service's message. Everything in it aliases m.
func c2dOf(m *amqp10.Message) (store.Message, error) {
	var c store.Message
	var err error
	if c.Body, err = bodyOf(m); err != nil {
		return c, err
	}
	c.SystemProperties = systemProperties(m.Properties)
	c.Properties, err = applicationProperties(m.ApplicationProperties)
	return c, err
}

// bodyOf returns the body as octets: data sections joined, or an amqp-value of text or binary. No body is an empty one.
func bodyOf(m *amqp10.Message) ([]byte, error) {
	if m.Body == amqp10.BodyNone || m.Body == amqp10.BodyValue && m.Value == nil {
		return nil, nil
	}
	body, ok := m.Bytes()
	if !ok {
		return nil, badMessage("the body is neither data nor an amqp-value of text or binary")
	}
	return body, nil
}

// systemProperties translates the properties section.
func systemProperties(p *amqp10.Properties) store.SystemProperties {
	if p == nil {
		return store.SystemProperties{}
	}
	s := store.SystemProperties{
		MessageID:       idText(p.MessageID),
		CorrelationID:   idText(p.CorrelationID),
		UserID:          string(p.UserID),
		To:              p.To,
		ContentType:     p.ContentType,
		ContentEncoding: p.ContentEncoding,
	}
	if p.AbsoluteExpiryTime != nil {
		s.Expiry = expiry(*p.AbsoluteExpiryTime)
	}
	return s
}

// idText renders a message id of any of the four types (AMQP 3.2.11 to 3.2.15). Node sends an id that looks like a uuid
// as one, and expects its text to come out.
func idText(id any) string {
	switch v := id.(type) {
	case string:
		return v
	case amqp10.UUID:
		return v.String()
	case uint64:
		return strconv.FormatUint(v, 10)
	case []byte:
		return string(v)
	}
	return ""
}

// applicationProperties translates the map; values that are not text are rendered as text, as the hub keeps only that.
func applicationProperties(m amqp10.Map) ([]store.Property, error) {
	if len(m) == 0 {
		return nil, nil
	}
	out := make([]store.Property, 0, len(m))
	for _, e := range m {
		name, ok := e.Key.(string)
		if !ok {
			return nil, badMessage("a key of the application properties is not a string")
		}
		value, ok := scalarText(e.Value)
		if !ok {
			return nil, badMessage(fmt.Sprintf("the application property %q is not a simple value", name))
		}
		out = append(out, store.Property{Name: name, Value: value, Null: e.Value == nil})
	}
	return out, nil
}

// scalarText renders a simple value (AMQP 3.2.5 allows no others).
func scalarText(v any) (string, bool) {
	switch t := v.(type) {
	case string:
		return t, true
	case nil:
		return "", true
	case amqp10.Symbol:
		return string(t), true
	case []byte:
		return string(t), true
	case bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64:
		return fmt.Sprint(t), true
	case amqp10.UUID:
		return t.String(), true
	case amqp10.Timestamp:
		return t.Time().Format("2006-01-02T15:04:05.0000000Z"), true
	case amqp10.Char:
		return string(rune(t)), true
	}
	return "", false
}
