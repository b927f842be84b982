package broker

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// filter is one of the topic filters that IoT Hub knows: below the identity's base, or for whoever is connected.
type filter uint8

// The filters. Edge routes, which would feed a module's inputs, do not exist outside an Edge hub; the filter is accepted, and
// nothing is delivered to it.
const (
	filterDevicebound   filter = iota // messages/devicebound/#
	filterModule                      // a module's #, which covers the others
	filterInputs                      // a module's inputs/#
	filterTwinResponses               // $iothub/twin/res/#
	filterDesired                     // $iothub/twin/PATCH/properties/desired/#
	filterMethods                     // $iothub/methods/POST/#
	filterCount
)

// subscriptions is what an identity subscribed to: for each filter the granted QoS plus 1, or 0. It is a value; copy it.
type subscriptions [filterCount]byte

// devicebound returns the QoS for cloud-to-device messages. MQTT-3.3.5-1: where filters overlap, the highest counts.
func (s subscriptions) devicebound() (qos byte, ok bool) {
	granted := max(s[filterDevicebound], s[filterModule])
	return max(granted, 1) - 1, granted > 0
}

// has reports whether f itself is subscribed to.
func (s subscriptions) has(f filter) bool { return s[f] > 0 }

// parseFilter recognises a filter of the identity. IoT Hub's limit of 5 subscriptions needs no counting: a device can name four filters. A
// module can name six, of which no SDK uses more than five.
func (c *connection) parseFilter(text string) (filter, bool) {
	switch text {
	case "$iothub/twin/res/#":
		return filterTwinResponses, true
	case "$iothub/twin/PATCH/properties/desired/#":
		return filterDesired, true
	case "$iothub/methods/POST/#":
		return filterMethods, true
	}
	rest, ok := strings.CutPrefix(text, c.base)
	switch {
	case !ok:
		return 0, false
	case rest == "/messages/devicebound/#":
		return filterDevicebound, true
	case c.key.ModuleID == "":
		return 0, false
	case rest == "/#":
		return filterModule, true
	case rest == "/inputs/#":
		return filterInputs, true
	}
	return 0, false
}

// filterRule says what is wrong with a filter that parseFilter does not know.
func (c *connection) filterRule(text string) rule {
	if r, ok := unimplemented(text); ok {
		return r
	}
	if strings.HasPrefix(text, "devices/") && !c.owns(text) {
		return ruleForeignSub
	}
	return ruleUnknownSub
}

// subscribe handles SUBSCRIBE: one SUBACK with a granted QoS for each filter in order, at most 1. IoT Hub closes the
// connection for a filter that it does not support, where MQTT would have it answer 0x80.
func (c *connection) subscribe(pk *packets.Packet) error {
	if err := c.checkRequest(pk); err != nil {
		return err
	}
	granted := make([]byte, 0, len(pk.Filters))
	wanted := c.subscriptions
	for _, s := range pk.Filters {
		f, ok := c.parseFilter(s.Filter)
		if !ok {
			return c.violate(c.filterRule(s.Filter), "filter", s.Filter)
		}
		qos := min(s.Qos, 1)
		wanted[f] = qos + 1
		granted = append(granted, qos)
	}
	c.setSubscriptions(wanted)
	c.resumeRequests() // before SUBACK: whoever has seen it may count on being called
	if err := c.send(appendAck(nil, packets.Suback, pk.PacketID, granted)); err != nil {
		return err
	}
	c.resumeDevicebound()
	return nil
}

// unsubscribe handles UNSUBSCRIBE. MQTT-3.10.4-5: it is acknowledged even when nothing matches.
func (c *connection) unsubscribe(pk *packets.Packet) error {
	if err := c.checkRequest(pk); err != nil {
		return err
	}
	wanted := c.subscriptions
	for _, s := range pk.Filters {
		if f, ok := c.parseFilter(s.Filter); ok {
			wanted[f] = 0
		}
	}
	c.setSubscriptions(wanted)
	c.resume()
	return c.send(appendAck(nil, packets.Unsuback, pk.PacketID, nil))
}

// checkRequest holds for SUBSCRIBE and UNSUBSCRIBE alike: a packet identifier (MQTT-2.3.1-1) and at least one filter
// (MQTT-3.8.3-3, MQTT-3.10.3-2).
func (c *connection) checkRequest(pk *packets.Packet) error {
	if pk.PacketID == 0 || len(pk.Filters) == 0 {
		return c.violate(ruleMalformed, "detail", "no packet identifier or no filter")
	}
	return nil
}

// resume makes the hub's pushes follow the connection's subscriptions. When the session has ended they do not begin, and so will the
// connection end.
func (c *connection) resume() {
	c.resumeDevicebound()
	c.resumeRequests()
}

// resumeRequests is resume for changes of desired properties and direct methods.
func (c *connection) resumeRequests() {
	s := c.subscriptions
	switch wanted := s.has(filterDesired); {
	case wanted && !c.desired:
		c.desired = c.session.SubscribeDesired(c.deliverDesired) == nil
	case !wanted && c.desired:
		c.session.UnsubscribeDesired()
		c.desired = false
	}
	switch wanted := s.has(filterMethods); {
	case wanted && !c.methods:
		c.methods = c.session.SubscribeMethods(c.deliverMethod) == nil
	case !wanted && c.methods:
		c.session.UnsubscribeMethods()
		c.methods = false
	}
}

// setSubscriptions makes wanted the connection's subscriptions, and the kept session's unless that is another connection's
// by now.
func (c *connection) setSubscriptions(wanted subscriptions) {
	c.subscriptions = wanted
	if !c.clean && c.ending.Load() == nil {
		c.broker.sessions.keep(c.key, keptSession{generation: c.generation, subscriptions: wanted})
	}
}

// appendAck appends a SUBACK or UNSUBACK.
func appendAck(b []byte, packetType byte, id uint16, codes []byte) []byte {
	b = appendLength(append(b, packetType<<4), 2+len(codes))
	return append(append(b, byte(id>>8), byte(id)), codes...)
}

// appendLength appends a remaining length. MQTT 2.2.3.
func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}
