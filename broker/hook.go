package broker

import (
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// The packet types that are written without mochi's encoder.
const (
	connack  = packets.Connack
	publish  = packets.Publish
	puback   = packets.Puback
	suback   = packets.Suback
	unsuback = packets.Unsuback
)

// hook is the one hook of the mochi server (mochi asks several hooks until one says yes). Nearly all happens in
// OnPacketRead, before mochi's own handling: an error there closes the connection without an answer, which is what IoT Hub does
// for every offence, whereas mochi's handlers would answer, ignore, or lower the QoS.
type hook struct{ mqtt.HookBase }

// ID implements mqtt.Hook.
func (*hook) ID() string { return "iothub" }

// Provides implements mqtt.Hook.
func (*hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnPacketRead, mqtt.OnConnectAuthenticate, mqtt.OnPacketEncode, mqtt.OnSessionEstablished:
		return true
	}
	return false
}

// handled is what mochi goes on with when a packet has been dealt with: an acknowledgement of nothing, which it ignores.
var handled = packets.Packet{FixedHeader: packets.FixedHeader{Type: puback}}

// OnPacketRead implements mqtt.Hook: it hands each packet to its operation. mochi closes the connection on
// packets.ErrRejectPacket.
func (*hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := cl.Net.Conn.(*connection)
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err := c.connect(&pk)
		return pk, err // changed into one that mochi lets pass
	case packets.Publish:
		return handled, c.publish(&pk)
	case packets.Puback:
		return handled, c.puback(pk.PacketID)
	case packets.Subscribe:
		return handled, c.subscribe(&pk)
	case packets.Unsubscribe:
		return handled, c.unsubscribe(&pk)
	case packets.Pingreq:
		return pk, nil // mochi answers
	case packets.Disconnect:
		c.goodbye = true
		return pk, nil // mochi closes
	}
	return handled, c.violate(ruleUnexpected, "packet", packets.PacketNames[pk.FixedHeader.Type])
}

// OnConnectAuthenticate implements mqtt.Hook. Whoever comes here was let in by connect.
func (*hook) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	return cl.Net.Conn.(*connection).session != nil
}

// OnPacketEncode implements mqtt.Hook: it puts our session's presence into the CONNACK.
func (*hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == connack {
		pk.SessionPresent = cl.Net.Conn.(*connection).present
	}
	return pk
}

// OnSessionEstablished implements mqtt.Hook: the CONNACK is written.
func (*hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	cl.Net.Conn.(*connection).resume()
}
