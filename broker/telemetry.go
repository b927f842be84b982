package broker

import (
	"errors"
	"strings"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// scratch is what one PUBLISH needs on its way to the hub, which does not keep it. Its strings point into the packet.
type scratch struct {
	messages [1]hub.Telemetry
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// publish handles PUBLISH: telemetry, or a request of the device. QoS 1 is acknowledged once the hub has stored the message,
// in the order of the packets, since one connection is read by one goroutine. The packet's memory is used again afterwards.
func (c *connection) publish(pk *packets.Packet) error {
	switch {
	case pk.FixedHeader.Qos > 1:
		return c.violate(rulePublishQoS2, "topic", pk.TopicName)
	case pk.FixedHeader.Qos == 1 && pk.PacketID == 0:
		return c.violate(ruleMalformed, "detail", "packet identifier 0") // MQTT-2.3.1-1
	}
	bag, ok := c.telemetryBag(pk.TopicName)
	if !ok {
		return c.request(pk)
	}
	s := scratches.Get().(*scratch)
	err := c.sendTelemetry(s, bag, pk)
	s.release()
	if err != nil {
		return err
	}
	return c.acknowledge(pk)
}

// request handles a PUBLISH that is no telemetry.
func (c *connection) request(pk *packets.Packet) error {
	if r, ok := parseTwinTopic(pk.TopicName); ok {
		return c.answerTwin(r, pk)
	}
	if r, ok := parseMethodTopic(pk.TopicName); ok {
		return c.respond(r, pk)
	}
	return c.violate(c.topicRule(pk.TopicName), "topic", pk.TopicName)
}

// acknowledge answers a PUBLISH with QoS 1.
func (c *connection) acknowledge(pk *packets.Packet) error {
	if pk.FixedHeader.Qos == 0 {
		return nil
	}
	return c.send([]byte{packets.Puback << 4, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)})
}

func (c *connection) sendTelemetry(s *scratch, bag string, pk *packets.Packet) error {
	t := &s.messages[0]
	if err := readTelemetry(t, bag, pk.Payload, pk.FixedHeader.Retain); err != nil {
		return c.violate(ruleBag, "topic", pk.TopicName, "detail", err.Error())
	}
	if err := c.session.SendTelemetry(c.broker.ctx, s.messages[:]...); err != nil {
		return c.refuseTelemetry(err)
	}
	return nil
}

// readTelemetry fills t. IoT Hub: a message with RETAIN is stored like any other, with the property mqtt-retain.
func readTelemetry(t *hub.Telemetry, bag string, body []byte, retain bool) error {
	t.Body = body
	if strings.IndexByte(bag, '#') >= 0 {
		return errWildcard
	}
	if err := parseBag(bag, t); err != nil {
		return err
	}
	if retain {
		t.Properties = append(t.Properties, store.Property{Name: "mqtt-retain", Value: "true"})
	}
	return nil
}

// errWildcard is MQTT-3.3.2-2. A '+' passes: IoT Hub takes it for itself in a property bag, and no filter is at stake.
var errWildcard = errors.New("a topic name contains no '#'")

// refuseTelemetry ends the connection because the hub took no message: MQTT has no other way to say so.
func (c *connection) refuseTelemetry(err error) error {
	e := c.broker.hub.Answer(hub.Peer{Conn: c.conn, Key: c.key, Category: hub.DeviceTelemetry}, err)
	attrs := []string{"error", e.Error(), "trackingId", e.TrackingID}
	switch e.Code {
	case hub.CodeMessageTooLarge:
		return c.violate(ruleTooLarge, attrs...)
	case hub.CodeArgumentInvalid:
		return c.violate(ruleTelemetry, attrs...)
	case hub.CodeServerError, hub.CodeNotImplemented:
		return c.violate(ruleUnavailable, attrs...)
	}
	c.endedByHub(e) // the session ended this moment, and endedByHub is about to be called anyway
	return errEnded
}

// telemetryBag returns the property bag of one of the identity's own telemetry topics: base/messages/events, with or without
// a '/' after it.
func (c *connection) telemetryBag(topic string) (string, bool) {
	rest, ok := strings.CutPrefix(topic, c.events)
	if !ok || rest == "" {
		return "", ok
	}
	return rest[1:], rest[0] == '/'
}

// topicRule says what is wrong with a topic that is neither the identity's telemetry nor a request.
func (c *connection) topicRule(topic string) rule {
	if r, ok := unimplemented(topic); ok {
		return r
	}
	if strings.HasPrefix(topic, "$iothub/methods/res/") {
		return ruleMethodTopic
	}
	if strings.HasPrefix(topic, "devices/") && !c.owns(topic) {
		return ruleForeignTopic
	}
	return ruleUnknownTopic
}

// owns reports whether a topic or filter that begins with "devices/" names the identity.
func (c *connection) owns(topic string) bool {
	rest, ok := strings.CutPrefix(topic, c.base)
	return ok && (rest == "" || rest[0] == '/') && (c.key.ModuleID != "" || !strings.HasPrefix(rest, "/modules/"))
}

// unimplemented recognises the topics and filters of what IoT Hub offers devices and Iolite does not yet.
func unimplemented(topic string) (rule, bool) {
	return ruleCertificates, strings.HasPrefix(topic, "$iothub/credentials/")
}

// release gives the scratch back, holding on to nothing but room for a few properties.
func (s *scratch) release() {
	t := &s.messages[0]
	properties := t.Properties
	*t = hub.Telemetry{}
	if cap(properties) <= 64 {
		clear(properties)
		t.Properties = properties[:0]
	}
	scratches.Put(s)
}
