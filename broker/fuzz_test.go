package broker

import (
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
)

// subscription is a SUBSCRIBE.
func subscription(filters ...string) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: 1})
	}
	return pk
}

// Whatever bytes a peer sends, in whatever pieces, before or after it has connected: its connection ends with it, its session
// too, and nobody else notices.
func FuzzConnection(f *testing.F) {
	r := newRig(f)
	hello := encode(f, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4, Connect: connectParams("d1")})
	subscribe := encode(f, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: c2dFilter, Qos: 1}}})
	f.Add(hello, false, byte(0))
	f.Add(encode(f, telemetry("devices/d1/messages/events/a=b", 1, "x"), telemetry("devices/d1/messages/events/", 0, "x")), true, byte(3))
	f.Add(append(subscribe, 0x40, 2, 0, 1, 0x40, 2, 0, 0, 0xC0, 0, 0xE0, 0), true, byte(1))
	f.Add([]byte{0x82, 6, 0, 1, 0, 1, '#', 0}, true, byte(0))
	f.Add([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, true, byte(0))
	f.Add(encode(f, subscription(twinFilter, desiredFilter, methodsFilter), get("1"), report("2", `{"a":{"b":null}}`), telemetry("$iothub/methods/res/200/?$rid=1", 3, "{}")), true, byte(9))
	f.Add(encode(f, subscription(twinFilter), report("&$version=x", `[`), report("", `{}`), get(""), telemetry("$iothub/methods/res/x/?$rid=1", 0, "")), true, byte(40))
	r.sendC2D("a", "b")
	bystander := r.connect("d2")
	f.Fuzz(func(t *testing.T, data []byte, connected bool, piece byte) {
		server, peer := net.Pipe()
		var busy sync.WaitGroup
		busy.Go(func() { r.broker.Serve(door.Wrap(server, door.MQTT)) })
		busy.Go(func() { _, _ = io.Copy(io.Discard, peer) })
		_ = peer.SetWriteDeadline(clock.Wall().Add(patient))
		if connected {
			_, _ = peer.Write(hello)
		}
		for step := int(piece) + 1; len(data) > 0; {
			n := min(step, len(data))
			if _, err := peer.Write(data[:n]); err != nil {
				break
			}
			data = data[n:]
		}
		_ = peer.Close()
		busy.Wait()
		for _, c := range r.hub.Connections() {
			if c.Key == device("d1") {
				t.Fatal("the session outlives its connection")
			}
		}
		r.t = t
		if twin := r.reported(device("d1")); !json.Valid([]byte(twin)) || len(twin) > 1<<20 {
			t.Fatalf("the reported properties are %q", clip(twin))
		}
		_ = bystander.conn.SetDeadline(clock.Wall().Add(patient))
		bystander.t = t
		bystander.sync()
	})
}
