package egress

import (
	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/store"
)

// eventOf is a message as an event hub gets it: what the hub stamped on it stands in the message annotations, as at the built-in endpoint
// (article "Create and read messages", section System property names). The event hub finds the partition by the device id.
func eventOf(e *store.Event) *amqp.Message {
	m := messageOf(e)
	stamp(e, func(name, value string) { m.Annotations[name] = value })
	m.Annotations["iothub-enqueuedtime"] = e.Enqueued
	return m
}

// queuedOf is a message as a queue or topic gets it: what the hub stamped on it stands among the application properties, since Service Bus
// shows its clients nothing else. Where a device sent a property of such a name, the hub's counts.
func queuedOf(e *store.Event) *amqp.Message {
	m := messageOf(e)
	stamp(e, func(name, value string) { m.ApplicationProperties[name] = value })
	return m
}

// messageOf is what both have in common. It is durable: a broker that keeps messages on disk is to keep this one there.
func messageOf(e *store.Event) *amqp.Message {
	m := &amqp.Message{
		Header:                &amqp.MessageHeader{Durable: true},
		Annotations:           amqp.Annotations{},
		Properties:            propertiesOf(&e.SystemProperties),
		ApplicationProperties: make(map[string]any, len(e.Properties)),
		Data:                  [][]byte{e.Body},
	}
	if e.PartitionKey != "" {
		m.Annotations["x-opt-partition-key"] = e.PartitionKey
	}
	for i := range e.Properties {
		m.ApplicationProperties[e.Properties[i].Name] = e.Properties[i].Value
	}
	e.Reserved(func(name, value string) { m.ApplicationProperties[name] = value })
	return m
}

// propertiesOf is the properties section (AMQP 3.2.4).
func propertiesOf(s *store.SystemProperties) *amqp.MessageProperties {
	p := &amqp.MessageProperties{To: optional(s.To), ContentType: optional(s.ContentType), ContentEncoding: optional(s.ContentEncoding)}
	if s.MessageID != "" {
		p.MessageID = s.MessageID
	}
	if s.CorrelationID != "" {
		p.CorrelationID = s.CorrelationID
	}
	if s.UserID != "" {
		p.UserID = []byte(s.UserID)
	}
	if !s.Expiry.IsZero() {
		p.AbsoluteExpiryTime = &s.Expiry
	}
	return p
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// stamp tells what the hub stamped on a message, all but the time.
func stamp(e *store.Event, set func(name, value string)) {
	for _, p := range [...]struct{ name, value string }{
		{"iothub-connection-device-id", e.DeviceID},
		{"iothub-connection-module-id", e.ModuleID},
		{"iothub-connection-auth-method", e.AuthMethod},
		{"iothub-connection-auth-generation-id", e.GenerationID},
		{"iothub-message-source", e.Source},
		{"iothub-interface-id", e.InterfaceID},
		{"dt-dataschema", e.ModelID},
		{"dt-subject", e.Subject},
		{"Diagnostic-Id", e.DiagnosticID},
		{"Correlation-Context", e.DiagnosticCtx},
	} {
		if p.value != "" {
			set(p.name, p.value)
		}
	}
}
