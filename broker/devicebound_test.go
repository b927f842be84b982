package broker

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/store"
)

func numbers(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

func TestC2DArrivesInOrderAndPubackCompletesIt(t *testing.T) {
	r := newRig(t)
	r.sendC2D(numbers(0, 25)...)
	c := r.connect("d1")
	c.subscribe(1, c2dFilter)
	r.sendC2D(numbers(25, 50)...)
	seen := map[uint16]bool{}
	for i := range 50 {
		pk := c.expect(packets.Publish)
		if pk.TopicName != "devices/d1/messages/devicebound/%24.to=%2Fdevices%2Fd1%2Fmessages%2Fdevicebound" {
			t.Errorf("topic %q", pk.TopicName)
		}
		if h := pk.FixedHeader; string(pk.Payload) != strconv.Itoa(i) || h.Qos != 1 || h.Retain || h.Dup || pk.PacketID == 0 || seen[pk.PacketID] {
			t.Fatalf("message %d: %q with %+v, packet id %d", i, pk.Payload, h, pk.PacketID)
		}
		seen[pk.PacketID] = true
	}
	if n := r.queued(); n != 50 {
		t.Errorf("%d messages in the queue before the first PUBACK", n)
	}
	for id := range seen {
		c.puback(id)
	}
	c.sync()
	if n := r.queued(); n != 0 {
		t.Errorf("%d messages left", n)
	}
}

// The queue holds 50 messages; a hundred pass through it as they are acknowledged.
func TestTheWindowMovesOn(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(1, c2dFilter)
	for i := range 300 {
		r.sendC2D(strconv.Itoa(i))
		pk := c.expect(packets.Publish)
		if string(pk.Payload) != strconv.Itoa(i) {
			t.Fatalf("message %d: %q", i, pk.Payload)
		}
		c.puback(pk.PacketID)
		c.sync()
	}
}

// Messages that were not acknowledged come again on the next connection, in order, with DUP.
func TestC2DIsRedeliveredAfterAReconnect(t *testing.T) {
	r := newRig(t)
	r.sendC2D(numbers(0, 5)...)
	c := r.connect("d1")
	c.subscribe(1, c2dFilter)
	for i := range 5 {
		if pk := c.expect(packets.Publish); i == 1 {
			c.puback(pk.PacketID)
		}
	}
	c.sync()
	_ = c.conn.Close()
	r.eventually("the end of the session", func() bool { return len(r.hub.Connections()) == 0 })
	r.sendC2D("new")
	c = r.connect("d1")
	for _, want := range []struct {
		body string
		dup  bool
	}{{"0", true}, {"2", true}, {"3", true}, {"4", true}, {"new", false}} {
		pk := c.expect(packets.Publish)
		if string(pk.Payload) != want.body || pk.FixedHeader.Dup != want.dup {
			t.Errorf("got %q, DUP %v, want %+v", pk.Payload, pk.FixedHeader.Dup, want)
		}
		c.puback(pk.PacketID)
	}
	c.sync()
	if n := r.queued(); n != 0 {
		t.Errorf("%d messages left", n)
	}
}

// A newer connection gets what the older had not acknowledged.
func TestC2DMovesToTheNewerConnection(t *testing.T) {
	r := newRig(t)
	older := r.connect("d1")
	older.subscribe(1, c2dFilter)
	r.sendC2D("a", "b")
	older.expect(packets.Publish)
	older.expect(packets.Publish)
	newer := r.connect("d1")
	for _, want := range []string{"a", "b"} {
		if pk := newer.expect(packets.Publish); string(pk.Payload) != want || !pk.FixedHeader.Dup {
			t.Errorf("got %q, DUP %v", pk.Payload, pk.FixedHeader.Dup)
		}
	}
	older.expectClosed()
}

func TestC2DWithQoS0IsCompleteWhenWritten(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(0, c2dFilter)
	for _, body := range numbers(0, 120) {
		r.sendC2D(body)
		pk := c.expect(packets.Publish)
		if string(pk.Payload) != body || pk.FixedHeader.Qos != 0 || pk.PacketID != 0 || pk.FixedHeader.Dup {
			t.Fatalf("got %q with %+v", pk.Payload, pk.FixedHeader)
		}
		c.puback(0) // as the C# SDK does
		r.eventually("the queue to be empty", func() bool { return r.queued() == 0 })
	}
	c.sync()
}

func TestAcknowledgementsOfNothingAreIgnored(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.puback(0)
	c.puback(1)
	c.subscribe(1, c2dFilter)
	r.sendC2D("a")
	pk := c.expect(packets.Publish)
	c.puback(pk.PacketID + 1)
	c.puback(pk.PacketID)
	c.puback(pk.PacketID)
	c.sync()
	if n := r.queued(); n != 0 {
		t.Errorf("%d messages left", n)
	}
}

func TestNothingIsPushedWithoutASubscription(t *testing.T) {
	r := newRig(t)
	r.sendC2D("a")
	c := r.connect("d1")
	c.sync()
	c.subscribe(1, c2dFilter)
	c.expect(packets.Publish)
}

// After UNSUBSCRIBE nothing new is sent, what was sent can be acknowledged, and SUBSCRIBE goes on where it was.
func TestUnsubscribeStopsThePush(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(1, c2dFilter)
	r.sendC2D("a")
	first := c.expect(packets.Publish)
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: c2dFilter}}})
	c.expect(packets.Unsuback)
	r.sendC2D("b")
	c.sync()
	c.puback(first.PacketID)
	c.sync()
	if n := r.queued(); n != 1 {
		t.Errorf("%d messages in the queue", n)
	}
	c.subscribe(0, c2dFilter)
	if pk := c.expect(packets.Publish); string(pk.Payload) != "b" || pk.FixedHeader.Qos != 0 {
		t.Errorf("got %q with %+v", pk.Payload, pk.FixedHeader)
	}
}

// IoT Hub: a lock lasts one minute. The message comes again under the packet id the client still owes a PUBACK for, and
// uses the window only once.
func TestAMessageWhoseLockRanOutComesAgain(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(1, c2dFilter)
	r.sendC2D("a")
	first := c.expect(packets.Publish)
	for range 3 {
		r.clock.Advance(61 * time.Second)
		again := c.expect(packets.Publish)
		if string(again.Payload) != "a" || !again.FixedHeader.Dup || again.PacketID != first.PacketID {
			t.Fatalf("got %q, DUP %v, packet id %d after %d", again.Payload, again.FixedHeader.Dup, again.PacketID, first.PacketID)
		}
	}
	c.puback(first.PacketID)
	c.sync()
	if n := r.queued(); n != 0 {
		t.Errorf("%d messages left", n)
	}
	for i := range window {
		r.sendC2D(strconv.Itoa(i))
	}
	for range window { // all at once: no credit was lost
		c.expect(packets.Publish)
	}
}

// A module's queue is pushed to whichever of its filters covers it, once.
func TestModulesReceiveOnTheirOwnTopics(t *testing.T) {
	for _, filters := range [][]string{
		{"devices/d1/modules/m1/#"}, {"devices/d1/modules/m1/messages/devicebound/#"}, {"devices/d1/modules/m1/#", "devices/d1/modules/m1/messages/devicebound/#"},
	} {
		t.Run(strings.Join(filters, " "), func(t *testing.T) {
			r := newRig(t)
			c := r.connect("d1/m1")
			c.subscribe(1, filters...)
			m := store.Message{Body: []byte("x"), SystemProperties: store.SystemProperties{To: "/devices/d1/modules/m1/messages/devicebound", MessageID: "1"}}
			if err := r.hub.Admin().SendC2D(context.Background(), m); err != nil {
				t.Fatal(err)
			}
			pk := c.expect(packets.Publish)
			if want := "devices/d1/modules/m1/messages/devicebound/%24.mid=1&%24.to=%2Fdevices%2Fd1%2Fmodules%2Fm1%2Fmessages%2Fdevicebound"; pk.TopicName != want {
				t.Errorf("topic %q", pk.TopicName)
			}
			c.sync()
		})
	}
}

// A message whose properties do not fit into an MQTT topic does not hold up the queue.
func TestAnUndeliverableMessageIsRejected(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(1, c2dFilter)
	m := store.Message{Properties: []store.Property{property("k", strings.Repeat("/", 30000))}}
	m.To = "/devices/d1/messages/devicebound"
	if err := r.hub.Admin().SendC2D(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	r.sendC2D("next")
	if pk := c.expect(packets.Publish); string(pk.Payload) != "next" {
		t.Errorf("got %q", pk.Payload)
	}
	r.expectRule("c2d-topic-too-long")
	if n := r.queued(); n != 1 {
		t.Errorf("%d messages in the queue", n)
	}
}

// A client that never reads is cut, and its messages go back to the queue; another device notices nothing.
func TestASlowConsumerIsCut(t *testing.T) {
	r := newRig(t, impatient(connectTimeout, 50*time.Millisecond))
	c := r.pipe()
	c.hello("d1")
	c.subscribe(1, c2dFilter)
	for range 50 {
		r.sendC2D(strings.Repeat("x", 60<<10))
	}
	r.expectRule("slow-consumer")
	r.eventually("the end of the session", func() bool { return r.connections() == 0 })
	if n := r.queued(); n != 50 {
		t.Errorf("%d messages in the queue", n)
	}
	r.connect("d2").sync()
}

// A client that sends without reading the acknowledgements is no longer read from, and then cut.
func TestAClientThatReadsNoAcknowledgementsIsCut(t *testing.T) {
	r := newRig(t, impatient(connectTimeout, 500*time.Millisecond))
	c := r.pipe()
	c.hello("d1")
	const each = 4 // bytes of a PUBACK
	burst := bytes.Repeat(encode(t, telemetry("devices/d1/messages/events/", 1, "")), 400)
	for {
		if _, err := c.conn.Write(burst); err != nil {
			break
		}
	}
	r.expectRule("slow-consumer")
	// One chunk hangs in the write, another one waits, and a burst is being read.
	if n := len(r.events()); n*each > 2*highWater+len(burst) {
		t.Errorf("%d messages were taken from a client that does not read", n)
	}
}
