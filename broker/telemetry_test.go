package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/store"
)

func TestTelemetryIsStoredWithItsProperties(t *testing.T) {
	tests := map[string]struct {
		identity, topic string
		want            store.Event
	}{
		"no slash":  {"d1", "devices/d1/messages/events", store.Event{}},
		"no bag":    {"d1", "devices/d1/messages/events/", store.Event{}},
		"bag":       {"d1", "devices/d1/messages/events/$.mid=1&%24.ct=a%2Fb&k=v+w&n", store.Event{SystemProperties: store.SystemProperties{MessageID: "1", ContentType: "a/b"}, Properties: []store.Property{property("k", "v+w"), {Name: "n", Null: true}}}},
		"question":  {"d1", "devices/d1/messages/events/?k=v", store.Event{Properties: []store.Property{property("k", "v")}}},
		"module":    {"d1/m1", "devices/d1/modules/m1/messages/events/%24.on=out&k=v/", store.Event{SystemProperties: store.SystemProperties{OutputName: "out"}, Properties: []store.Property{property("k", "v")}, ModuleID: "m1"}},
		"operation": {"d1", "devices/d1/messages/events/iothub-operation=o", store.Event{SystemProperties: store.SystemProperties{Operation: "o"}}},
	}
	for name, test := range tests {
		for qos := range uint16(2) {
			t.Run(fmt.Sprint(name, "/QoS", qos), func(t *testing.T) {
				r := newRig(t)
				c := r.connect(test.identity)
				c.send(telemetry(test.topic, qos, "body"))
				if qos == 1 {
					if ack := c.expect(packets.Puback); ack.PacketID != 1 {
						t.Errorf("PUBACK of %d", ack.PacketID)
					}
				}
				c.sync() // and no PUBACK for QoS 0
				events := r.events()
				if len(events) != 1 {
					t.Fatalf("%d events", len(events))
				}
				test.want.Body, test.want.DeviceID = []byte("body"), "d1"
				ignored := cmpopts.IgnoreFields(store.Event{}, "PartitionKey", "GenerationID", "AuthMethod", "Source", "Enqueued", "SystemProperties.To")
				if diff := cmp.Diff(test.want, events[0], ignored, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		}
	}
}

// IoT Hub: RETAIN is no order to retain; the message gets the property mqtt-retain.
func TestRetainBecomesAProperty(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	pk := telemetry("devices/d1/messages/events/a=b", 1, "x")
	pk.FixedHeader.Retain = true
	c.send(pk)
	c.expect(packets.Puback)
	want := []store.Property{property("a", "b"), property("mqtt-retain", "true")}
	if diff := cmp.Diff(want, r.events()[0].Properties); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A message that is sent again after a reconnect is stored again: IoT Hub removes no duplicates.
func TestDuplicatesAreStoredAgain(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	pk := telemetry("devices/d1/messages/events/", 7, "x")
	again := pk
	again.FixedHeader.Dup = true
	c.send(pk, again)
	c.expect(packets.Puback)
	c.expect(packets.Puback)
	if got := r.bodies(); len(got) != 2 {
		t.Errorf("stored %q", got)
	}
}

// The table of conditions that end an MQTT connection: no answer, nothing stored, one warning that names the rule, and
// other clients notice nothing.
func TestOffencesCloseTheConnection(t *testing.T) {
	qos2 := telemetry("devices/d1/messages/events/", 1, "x")
	qos2.FixedHeader.Qos = 2
	events := "devices/d1/messages/events/"
	tests := []struct {
		name  string
		bytes []byte
		rule  string
	}{
		{"PUBLISH QoS 2", encode(t, qos2), "publish-qos-2"},
		{"PUBLISH QoS 3", []byte{0x36, 5, 0, 1, 'a', 0, 1}, "malformed-packet"},
		{"DUP with QoS 0", []byte{0x38, 3, 0, 1, 'a'}, "malformed-packet"},
		{"packet id 0", []byte{0x32, 5, 0, 1, 'a', 0, 0}, "malformed-packet"},
		{"no packet id", []byte{0x32, 3, 0, 1, 'a'}, "malformed-packet"},
		{"topic longer than the packet", []byte{0x30, 3, 0, 9, 'a'}, "malformed-packet"},
		{"topic not UTF-8", []byte{0x30, 4, 0, 2, 0xC3, 0x28}, "malformed-packet"},
		{"topic with NUL", []byte{0x30, 4, 0, 2, 'a', 0}, "malformed-packet"},
		{"empty topic", []byte{0x30, 2, 0, 0}, "unknown-topic"},
		{"another device", encode(t, telemetry("devices/d2/messages/events/", 1, "x")), "foreign-topic"},
		{"a device whose id begins alike", encode(t, telemetry("devices/d11/messages/events/", 1, "x")), "foreign-topic"},
		{"the device's module", encode(t, telemetry("devices/d1/modules/m1/messages/events/", 1, "x")), "foreign-topic"},
		{"devicebound topic", encode(t, telemetry("devices/d1/messages/devicebound/", 1, "x")), "unknown-topic"},
		{"longer name", encode(t, telemetry("devices/d1/messages/eventsX", 1, "x")), "unknown-topic"},
		{"another case", encode(t, telemetry("devices/d1/messages/Events/", 1, "x")), "unknown-topic"},
		{"general topic", encode(t, telemetry("sensors/1/temperature", 0, "x")), "unknown-topic"},
		{"$SYS", encode(t, telemetry("$SYS/x", 0, "x")), "unknown-topic"},
		{"wildcard", encode(t, telemetry("devices/+/messages/events/", 0, "x")), "foreign-topic"},
		{"wildcard in the bag", encode(t, telemetry(events+"a=#", 0, "x")), "property-bag"},
		{"bad bag", encode(t, telemetry(events+"a=%zz", 1, "x")), "property-bag"},
		{"bad message id", encode(t, telemetry(events+"$.mid=%20", 1, "x")), "message-refused"},
		{"twin operation", encode(t, telemetry("$iothub/twin/PUT/?$rid=1", 0, "")), "unknown-topic"},
		{"twin get of more", encode(t, telemetry("$iothub/twin/GETS/?$rid=1", 0, "")), "unknown-topic"},
		{"twin get without a slash", encode(t, telemetry("$iothub/twin/GET?$rid=1", 0, "")), "unknown-topic"},
		{"twin get with a wildcard", encode(t, telemetry("$iothub/twin/GET/?$rid=#", 0, "")), "unknown-topic"},
		{"desired patch", encode(t, telemetry("$iothub/twin/PATCH/properties/desired/?$rid=1", 1, "{}")), "unknown-topic"},
		{"twin answer", encode(t, telemetry("$iothub/twin/res/200/?$rid=1", 1, "{}")), "unknown-topic"},
		{"method request", encode(t, telemetry("$iothub/methods/POST/reboot/?$rid=1", 1, "{}")), "unknown-topic"},
		{"method response without a status", encode(t, telemetry("$iothub/methods/res/?$rid=1", 1, "{}")), "method-response"},
		{"method response with a word for a status", encode(t, telemetry("$iothub/methods/res/ok/?$rid=1", 1, "{}")), "method-response"},
		{"method response with a status of 33 bits", encode(t, telemetry("$iothub/methods/res/2147483648/?$rid=1", 1, "{}")), "method-response"},
		{"method response without a rid", encode(t, telemetry("$iothub/methods/res/200/", 1, "{}")), "method-response"},
		{"method response with another parameter", encode(t, telemetry("$iothub/methods/res/200/?rid=1", 1, "{}")), "method-response"},
		{"certificate request", encode(t, telemetry("$iothub/credentials/POST/issueCertificate/?$rid=1", 1, "{}")), "not-implemented"},
		{"message too large", encode(t, telemetry(events, 1, strings.Repeat("x", maxMessage+1))), "message-too-large"},
		{"message too large with its properties", encode(t, telemetry(events+"k=v", 1, strings.Repeat("x", maxMessage-1))), "message-too-large"},
		{"packet too large", append([]byte{0x32}, appendLength(nil, maxPacket+1)...), "packet-too-large"},
		{"half a million bytes announced", append([]byte{0x32}, appendLength(nil, 500000)...), "packet-too-large"},
		{"giant length", []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, "packet-too-large"},
		{"length of five bytes", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}, "malformed-packet"},
		{"PUBREC", []byte{0x50, 2, 0, 1}, "unexpected-packet"},
		{"PUBREL", []byte{0x62, 2, 0, 1}, "unexpected-packet"},
		{"PUBCOMP", []byte{0x70, 2, 0, 1}, "unexpected-packet"},
		{"CONNACK", []byte{0x20, 2, 0, 0}, "unexpected-packet"},
		{"SUBACK", []byte{0x90, 3, 0, 1, 0}, "unexpected-packet"},
		{"UNSUBACK", []byte{0xB0, 2, 0, 1}, "unexpected-packet"},
		{"PINGRESP", []byte{0xD0, 0}, "unexpected-packet"},
		{"AUTH of MQTT 5", []byte{0xF0, 0}, "malformed-packet"},
		{"type 0", []byte{0x00, 0}, "malformed-packet"},
		{"SUBSCRIBE flags", []byte{0x80, 6, 0, 1, 0, 1, 'a', 0}, "malformed-packet"},
		{"SUBSCRIBE of nothing", []byte{0x82, 2, 0, 1}, "malformed-packet"},
		{"SUBSCRIBE with packet id 0", []byte{0x82, 6, 0, 0, 0, 1, 'a', 0}, "malformed-packet"},
		{"SUBSCRIBE QoS 3", []byte{0x82, 6, 0, 1, 0, 1, 'a', 3}, "malformed-packet"},
		{"SUBSCRIBE without QoS", []byte{0x82, 5, 0, 1, 0, 1, 'a'}, "malformed-packet"},
		{"UNSUBSCRIBE of nothing", []byte{0xA2, 2, 0, 1}, "malformed-packet"},
		{"PUBACK too long", []byte{0x40, 3, 0, 1, 0}, "malformed-packet"},
		{"PINGREQ too long", []byte{0xC0, 1, 0}, "malformed-packet"},
		{"DISCONNECT too long", []byte{0xE0, 1, 0}, "malformed-packet"},
		{"length padded to five bytes", []byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x00}, "malformed-packet"},
		{"PUBACK too short", []byte{0x40, 1, 0}, "malformed-packet"},
	}
	r := newRig(t)
	bystander := r.connect("d2")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			r.log.clear()
			c := r.connect("d1")
			if _, err := c.conn.Write(test.bytes); err != nil {
				t.Fatal(err)
			}
			c.expectClosed()
			if w := r.expectRule(test.rule); w.attrs["deviceId"] != "d1" || w.attrs["door"] != "mqtt" || w.attrs["source"] == "" {
				t.Errorf("warning: %v", w)
			}
			if stored := r.bodies(); len(stored) != 0 {
				t.Errorf("%d events were stored", len(stored))
			}
		})
	}
	bystander.sync()
}

func TestTheLargestMessageIsTaken(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.send(telemetry("devices/d1/messages/events/k=v&%24.mid=1", 1, strings.Repeat("x", maxMessage-3)))
	c.expect(packets.Puback)
	if got := r.events(); len(got) != 1 || len(got[0].Body) != maxMessage-3 {
		t.Error("not stored")
	}
}

// A connection that dies within a packet stores nothing of it, and hurts nobody.
func TestHalfAPacketIsNoMessage(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	whole := encode(t, telemetry("devices/d1/messages/events/", 1, "first"), telemetry("devices/d1/messages/events/", 2, "second"))
	if _, err := c.conn.Write(whole[:len(whole)-1]); err != nil {
		t.Fatal(err)
	}
	c.expect(packets.Puback)
	_ = c.conn.Close()
	r.eventually("the end of the session", func() bool { return len(r.hub.Connections()) == 0 })
	if diff := cmp.Diff([]string{"first"}, r.bodies()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// IoT Hub acknowledges in the order of publishing; the C# SDK counts anything else as a protocol failure.
func TestAcknowledgementsKeepTheOrderOfABurst(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	var burst []packets.Packet
	var want []string
	const n = 500
	for i := range n {
		burst = append(burst, telemetry("devices/d1/messages/events/n="+strconv.Itoa(i), uint16(i*131+1), strconv.Itoa(i)))
		want = append(want, strconv.Itoa(i))
	}
	sent := make(chan error, 1)
	go func() { // ends when all is written, or the connection closed
		_, err := c.conn.Write(encode(t, burst...))
		sent <- err
	}()
	for i := range n {
		if ack := c.expect(packets.Puback); ack.PacketID != uint16(i*131+1) {
			t.Fatalf("acknowledgement %d is of packet %d", i, ack.PacketID)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, r.bodies()); diff != "" {
		t.Errorf("stored in another order (-want +got)\n%s", diff)
	}
}

// gate is an event log that stores only when it is let, and fails when it is told to.
type gate struct {
	store.Engine
	store.EventLog
	entered chan struct{}
	let     chan error
}

func newGate() *gate {
	m := store.NewMemory(store.MemoryOptions{})
	return &gate{Engine: m, EventLog: m.Events(), entered: make(chan struct{}), let: make(chan error)}
}

func (g *gate) Events() store.EventLog { return g }

func (g *gate) Append(ctx context.Context, partition int, events ...store.Event) (int64, error) {
	g.entered <- struct{}{}
	if err := <-g.let; err != nil {
		return 0, err
	}
	return g.EventLog.Append(ctx, partition, events...)
}

// "PUBACK: sent after the event is stored."
func TestNothingIsAcknowledgedBeforeItIsStored(t *testing.T) {
	g := newGate()
	r := newRig(t, withEngine(g))
	c := r.connect("d1")
	c.send(telemetry("devices/d1/messages/events/", 1, "a"), telemetry("devices/d1/messages/events/", 2, "b"))
	<-g.entered
	acked := make(chan packets.Packet)
	go func() { // ends after two acknowledgements, or with the connection
		defer close(acked)
		for range 2 {
			pk, err := c.read()
			if err != nil {
				return
			}
			acked <- pk
		}
	}()
	select {
	case pk := <-acked:
		t.Fatalf("packet %d was acknowledged too early", pk.PacketID)
	default:
	}
	if got := len(r.bodies()); got != 0 {
		t.Fatalf("%d events stored", got)
	}
	g.let <- nil
	for want := range uint16(2) {
		if pk := <-acked; pk.PacketID != want+1 {
			t.Errorf("acknowledged %d", pk.PacketID)
		}
	}
}

// A message that could not be stored is not acknowledged; the client will send it again.
func TestAFailingStoreClosesTheConnection(t *testing.T) {
	g := newGate()
	r := newRig(t, withEngine(g))
	c := r.connect("d1")
	c.send(telemetry("devices/d1/messages/events/", 1, "a"))
	<-g.entered
	g.let <- errors.New("disk on fire")
	c.expectClosed()
	w := r.expectRule("server-error")
	why, ok := r.log.find("trackingId", w.attrs["trackingId"])
	if !ok || !strings.Contains(why.attrs["cause"], "disk on fire") || why.attrs["category"] != "DeviceTelemetry" || why.attrs["operation"] != "ingress" {
		t.Errorf("warning: %v, of the error: %v", w, why)
	}
}

// What was acknowledged before DISCONNECT is told before the connection closes.
func TestAcknowledgementsGoOutBeforeAGoodbye(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.send(telemetry("devices/d1/messages/events/", 1, "a"), telemetry("devices/d1/messages/events/", 2, "b"),
		packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	for id := range uint16(2) {
		if ack := c.expect(packets.Puback); ack.PacketID != id+1 {
			t.Errorf("PUBACK of %d", ack.PacketID)
		}
	}
	if _, err := c.read(); !errors.Is(err, io.EOF) {
		t.Errorf("then %v", err)
	}
}

// What came before an offence in the same burst is stored and acknowledged, and nothing after it.
func TestABurstCountsUpToTheFirstOffence(t *testing.T) {
	const topic = "devices/d1/messages/events/"
	for name, test := range map[string]struct {
		topic string
		qos   uint16
		rule  string
	}{
		"by the hub":    {topic + "%24.mid=no%20id", 1, "message-refused"},
		"bag":           {topic + "%ZZ=1", 1, "property-bag"},
		"foreign topic": {"devices/d2/messages/events/", 1, "foreign-topic"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.connect("d1")
			c.send(telemetry(topic, 1, "a"), telemetry(topic, 0, "b"), telemetry(topic, 2, "c"), telemetry(test.topic, 3, "offence"), telemetry(topic, 4, "e"))
			for _, want := range []uint16{1, 2} {
				if ack := c.expect(packets.Puback); ack.PacketID != want {
					t.Errorf("PUBACK of %d, want %d", ack.PacketID, want)
				}
			}
			c.expectClosed()
			r.expectRule(test.rule)
			if diff := cmp.Diff([]string{"a", "b", "c"}, r.bodies()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// Telemetry of a burst is stored together, and yet answers keep the order of the packets.
func TestAnswersKeepTheOrderOfABurst(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(0, twinFilter)
	const topic = "devices/d1/messages/events/"
	c.send(telemetry(topic, 1, "a"), telemetry(topic, 2, "b"), get("1"), telemetry(topic, 3, "c"), packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	for _, want := range []uint16{1, 2} {
		if ack := c.expect(packets.Puback); ack.PacketID != want {
			t.Errorf("PUBACK of %d, want %d", ack.PacketID, want)
		}
	}
	c.expectPublish("$iothub/twin/res/200/?$rid=1")
	if ack := c.expect(packets.Puback); ack.PacketID != 3 {
		t.Errorf("PUBACK of %d, want 3", ack.PacketID)
	}
	c.expect(packets.Pingresp)
}

// Of two offences in a burst the first one counts, though the hub sees what it is asked only after the second was read.
func TestTheFirstOffenceOfABurstIsTold(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	const topic = "devices/d1/messages/events/"
	c.send(telemetry(topic, 1, "a"), telemetry(topic+"%24.mid=no%20id", 2, "refused"), telemetry(topic+"%ZZ=1", 3, "no bag"))
	if ack := c.expect(packets.Puback); ack.PacketID != 1 {
		t.Errorf("PUBACK of %d", ack.PacketID)
	}
	c.expectClosed()
	r.expectRule("message-refused")
}
