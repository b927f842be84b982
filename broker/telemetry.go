package broker

import (
	"errors"
	"strings"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// gatherMost is how many telemetry messages are stored together at most: what a burst usually brings, and no more memory than it reads into.
const gatherMost = 16

// gathered are telemetry messages that were read and are not stored yet. Their strings point into the inbox.
type gathered struct {
	messages [gatherMost]hub.Telemetry
	ids      [gatherMost]uint16 // packet identifiers; 0 for QoS 0
	n        int
	acks     [4 * gatherMost]byte
}

var gatherings = sync.Pool{New: func() any { return new(gathered) }}

// publish handles PUBLISH: telemetry, or a request of the device. Telemetry is gathered from what has been read already, and stored before
// anything else is done or waited for. QoS 1 is acknowledged once the hub has stored the message, in the order of the packets, since one
// connection is read by one goroutine. The packet's memory is used again after that.
func (c *connection) publish(pk *packets.Packet) error {
	switch {
	case pk.FixedHeader.Qos > 1:
		return c.violate(rulePublishQoS2, "topic", pk.TopicName)
	case pk.FixedHeader.Qos == 1 && pk.PacketID == 0:
		return c.violate(ruleMalformed, "detail", "packet identifier 0") // MQTT-2.3.1-1
	}
	bag, ok := c.telemetryBag(pk.TopicName)
	if !ok {
		if err := c.settle(); err != nil {
			return err
		}
		return c.request(pk)
	}
	if c.gathered == nil {
		c.gathered = gatherings.Get().(*gathered)
	}
	g := c.gathered
	if err := readTelemetry(&g.messages[g.n], bag, pk.Payload, pk.FixedHeader.Retain); err != nil {
		return c.violate(ruleBag, "topic", pk.TopicName, "detail", err.Error())
	}
	g.ids[g.n] = pk.PacketID
	if g.n++; g.n == gatherMost {
		return c.settle()
	}
	return nil
}

// settle stores what has been gathered and acknowledges it.
func (c *connection) settle() error {
	g := c.gathered
	if g == nil {
		return nil
	}
	c.gathered = nil
	defer g.release()
	if g.n == 0 {
		return nil
	}
	stored, err := c.session.SendEach(c.broker.ctx, g.messages[:g.n]...)
	if acks := g.acknowledge(stored); len(acks) > 0 {
		if err := c.send(acks); err != nil {
			return err
		}
	}
	if err != nil {
		return c.refuseTelemetry(err)
	}
	return nil
}

// acknowledge returns the PUBACKs of the first messages.
func (g *gathered) acknowledge(stored int) []byte {
	acks := g.acks[:0]
	for _, id := range g.ids[:stored] {
		if id != 0 {
			acks = append(acks, packets.Puback<<4, 2, byte(id>>8), byte(id))
		}
	}
	return acks
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

// release gives the memory back, holding on to nothing but room for a few properties.
func (g *gathered) release() {
	for i := range min(g.n+1, gatherMost) { // the last one may have been begun
		t := &g.messages[i]
		properties := t.Properties
		*t = hub.Telemetry{}
		if cap(properties) <= 64 {
			clear(properties)
			t.Properties = properties[:0]
		}
	}
	g.n = 0
	gatherings.Put(g)
}
