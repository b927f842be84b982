package amqpsrv

import (
	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/store"
)

// keptBuffer is how much memory a link keeps for its next message, in bytes: there may be thousands of idle links.
const keptBuffer = 2 << 10

// composer builds outgoing messages in memory that it uses again: one per link that sends, used by one goroutine at a
// time. What it returns is valid until the next call.
type composer struct {
	m          amqp10.Message
	properties amqp10.Properties
	expiry     amqp10.Timestamp
	data       [1][]byte
	out        []byte
}

// begin empties the message and returns it with one data section.
func (c *composer) begin(body []byte) *amqp10.Message {
	c.data[0] = body
	c.m = amqp10.Message{
		MessageAnnotations:    c.m.MessageAnnotations[:0],
		ApplicationProperties: c.m.ApplicationProperties[:0],
		Properties:            &c.properties,
		Body:                  amqp10.BodyData,
		Data:                  c.data[:],
	}
	return &c.m
}

func (c *composer) encode() ([]byte, error) {
	out, err := c.m.Append(c.out[:0])
	c.data[0] = nil
	if c.out = out; cap(out) > keptBuffer {
		c.out = nil
	}
	return out, err
}

// system fills in the properties section.
func (c *composer) system(s *store.SystemProperties) {
	c.properties = amqp10.Properties{
		UserID:          []byte(s.UserID),
		To:              s.To,
		ContentType:     s.ContentType,
		ContentEncoding: s.ContentEncoding,
	}
	if s.MessageID != "" {
		c.properties.MessageID = s.MessageID
	}
	if s.CorrelationID != "" {
		c.properties.CorrelationID = s.CorrelationID
	}
	if !s.Expiry.IsZero() {
		c.expiry = amqp10.TimestampOf(s.Expiry)
		c.properties.AbsoluteExpiryTime = &c.expiry
	}
}

// annotate adds a message annotation; an empty text is left out.
func (c *composer) annotate(key amqp10.Symbol, value any) {
	if value == "" {
		return
	}
	c.m.MessageAnnotations = append(c.m.MessageAnnotations, amqp10.Entry{Key: key, Value: value})
}

// property adds an application property; an empty text is left out.
func (c *composer) property(name, value string) {
	if value != "" {
		c.m.ApplicationProperties = append(c.m.ApplicationProperties, amqp10.Entry{Key: name, Value: value})
	}
}

// application adds the application properties: the sender's own and those that stand for fields of the message.
func (c *composer) application(s *store.SystemProperties, user []store.Property) {
	for _, p := range user {
		c.m.ApplicationProperties = append(c.m.ApplicationProperties, amqp10.Entry{Key: p.Name, Value: p.Value})
	}
	c.property("iothub-ack", s.Ack)
	c.property("iothub-message-schema", s.MessageSchema)
	c.property("iothub-creation-time-utc", s.CreationTime)
	c.property("iothub-operation", s.Operation)
}

// devicebound encodes a cloud-to-device message. The types of the annotations are the ones that the C# SDK's reader asks
// for; it drops any other without a word. Application properties are strings and nothing else.
func (c *composer) devicebound(key store.Key, m *store.Message) ([]byte, error) {
	msg := c.begin(m.Body)
	msg.Header = &amqp10.Header{Priority: 4, DeliveryCount: earlier(m)}
	c.system(&m.SystemProperties)
	c.annotate("iothub-enqueuedtime", amqp10.TimestampOf(m.Enqueued))
	c.annotate("iothub-deliverycount", uint8(min(earlier(m), 255)))
	c.annotate("x-opt-sequence-number", uint64(m.Sequence))
	c.annotate("x-opt-lock-token", m.LockToken)
	c.annotate("iothub-connection-device-id", key.DeviceID)
	c.annotate("iothub-connection-module-id", key.ModuleID)
	c.application(&m.SystemProperties, m.Properties)
	return c.encode()
}

// earlier is how often a message was abandoned before: IoT Hub counts no other delivery, neither in its annotation nor in the header
// (AMQP 3.2.1: unsuccessful attempts).
func earlier(m *store.Message) uint32 { return uint32(m.Abandons) }

// servicebound encodes a message from the hub to back ends. User id and enqueued time are dereferenced unchecked by the C# SDK.
func (c *composer) servicebound(hubName, contentType string, m *store.Message) ([]byte, error) {
	c.begin(m.Body)
	c.system(&m.SystemProperties)
	c.properties.ContentType = contentType
	if m.UserID == "" {
		c.properties.UserID = []byte(hubName)
	}
	c.annotate("iothub-enqueuedtime", amqp10.TimestampOf(m.Enqueued))
	c.annotate("iothub-deliverycount", uint8(min(earlier(m), 255)))
	c.annotate("x-opt-sequence-number", uint64(m.Sequence))
	c.annotate("x-opt-lock-token", m.LockToken)
	return c.encode()
}
