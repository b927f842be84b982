package broker

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mochi-mqtt/server/v2/packets"
	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/store"
)

// Packets come out of the stream as they went in, wherever it is cut: in the middle of a header, of a length, of a body
// larger than the inbox.
func TestPacketsSurviveAnyFragmentation(t *testing.T) {
	r := newRig(t)
	size := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(16<<10-100, 16<<10+100), rapid.IntRange(0, 50<<10))
	step := rapid.OneOf(rapid.IntRange(1, 10), rapid.IntRange(1, 20<<10))
	rapid.Check(t, func(rt *rapid.T) {
		if err := r.hub.Reset(context.Background()); err != nil {
			rt.Fatal(err)
		}
		r.register(store.Identity{Key: device("d1")})
		c := r.connect("d1")
		var wire []byte
		var want []string
		for i := range rapid.IntRange(1, 8).Draw(rt, "messages") {
			body := string(bytes.Repeat([]byte{byte(i)}, size.Draw(rt, "size")))
			wire = append(wire, encode(t, telemetry(fmt.Sprintf("devices/d1/messages/events/i=%d", i), uint16(i+1), body))...)
			want = append(want, body)
		}
		var pieces [][]byte
		for len(wire) > 0 && len(pieces) < 2000 {
			n := min(step.Draw(rt, "step"), len(wire))
			pieces = append(pieces, wire[:n])
			wire = wire[n:]
		}
		pieces = append(pieces, wire)
		for _, piece := range pieces {
			if _, err := c.conn.Write(piece); err != nil {
				rt.Fatal(err)
			}
		}
		for i := range want {
			if ack := c.expect(packets.Puback); int(ack.PacketID) != i+1 {
				rt.Fatalf("PUBACK %d is of %d", i+1, ack.PacketID)
			}
		}
		if diff := cmp.Diff(want, r.bodies()); diff != "" {
			rt.Fatalf("(-want +got)\n%.1000s", diff)
		}
		_ = c.conn.Close()
	})
}

// A burst is acknowledged by one write: that is what telemetry costs most.
func TestAcknowledgementsOfABurstGoOutTogether(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	c.hello("d1")
	var burst []packets.Packet
	for id := range uint16(16) {
		burst = append(burst, telemetry("devices/d1/messages/events/", id+1, "x"))
	}
	c.send(burst...)
	got := make([]byte, 1000)
	if n, err := c.conn.Read(got); err != nil || n != 16*4 {
		t.Errorf("the first write is of %d bytes, %v", n, err)
	}
}
