package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mochi-mqtt/server/v2/packets"
)

const c2dFilter = "devices/d1/messages/devicebound/#"

// One code for each filter in order; QoS 2 is granted as 1.
func TestSubscribeGrantsAtMostQoS1(t *testing.T) {
	tests := []struct {
		identity string
		qos      byte
		filters  []string
		want     []byte
	}{
		{"d1", 0, []string{c2dFilter}, []byte{0}},
		{"d1", 1, []string{c2dFilter}, []byte{1}},
		{"d1", 2, []string{c2dFilter}, []byte{1}},
		{"d1", 1, []string{c2dFilter, c2dFilter}, []byte{1, 1}},
		{"d1/m1", 1, []string{"devices/d1/modules/m1/#"}, []byte{1}},
		{"d1/m1", 1, []string{"devices/d1/modules/m1/messages/devicebound/#", "devices/d1/modules/m1/inputs/#"}, []byte{1, 1}},
		{"d1/m1", 2, []string{"devices/d1/modules/m1/inputs/#"}, []byte{1}},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.identity, test.qos, test.filters), func(t *testing.T) {
			if diff := cmp.Diff(test.want, newRig(t).connect(test.identity).subscribe(test.qos, test.filters...)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// IoT Hub closes the connection for a filter that it does not support, and grants none of the others.
func TestUnsupportedFiltersCloseTheConnection(t *testing.T) {
	tests := []struct{ identity, filter, rule string }{
		{"d1", "devices/d2/messages/devicebound/#", "foreign-filter"},
		{"d1", "devices/d1/modules/m1/#", "foreign-filter"},
		{"d1", "devices/+/messages/devicebound/#", "foreign-filter"},
		{"d1", "devices/#", "foreign-filter"},
		{"d1", "devices/d11/messages/devicebound/#", "foreign-filter"},
		{"d1", "devices/d1/#", "unknown-filter"},
		{"d1", "devices/d1", "unknown-filter"},
		{"d1", "devices/d1/messages/devicebound", "unknown-filter"},
		{"d1", "devices/d1/messages/devicebound/+", "unknown-filter"},
		{"d1", "devices/d1/messages/devicebound/#/x", "unknown-filter"},
		{"d1", "devices/d1/messages/events/#", "unknown-filter"},
		{"d1", "devices/d1/inputs/#", "unknown-filter"},
		{"d1", "#", "unknown-filter"},
		{"d1", "+", "unknown-filter"},
		{"d1", "", "unknown-filter"},
		{"d1", "$SYS/#", "unknown-filter"},
		{"d1", "$share/g/" + c2dFilter, "unknown-filter"},
		{"d1", "$dps/registrations/res/#", "unknown-filter"},
		{"d1", "$iothub/#", "unknown-filter"},
		{"d1", "$iothub/twin/#", "unknown-filter"},
		{"d1", "$iothub/twin/res/", "unknown-filter"},
		{"d1", "$iothub/twin/PATCH/properties/reported/#", "unknown-filter"},
		{"d1", "$iothub/methods/#", "unknown-filter"},
		{"d1", "$iothub/methods/POST/reboot/#", "unknown-filter"},
		{"d1", "$iothub/credentials/res/#", "not-implemented"},
		{"d1/m1", "devices/d1/messages/devicebound/#", "foreign-filter"},
		{"d1/m1", "devices/d1/modules/m2/#", "foreign-filter"},
		{"d1/m1", "devices/d1/modules/m1/outputs/#", "unknown-filter"},
	}
	for _, test := range tests {
		t.Run(test.identity+" "+test.filter, func(t *testing.T) {
			r := newRig(t)
			c := r.connect(test.identity)
			good := map[string]string{"d1": c2dFilter, "d1/m1": "devices/d1/modules/m1/#"}[test.identity]
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
				Filters: packets.Subscriptions{{Filter: good, Qos: 1}, {Filter: test.filter, Qos: 1}}})
			c.expectClosed()
			r.expectRule(test.rule)
			again := r.connect(test.identity)
			r.sendC2D("not for a subscription that was refused")
			again.sync()
		})
	}
}

// MQTT-3.10.4-5: UNSUBSCRIBE is acknowledged whatever it names.
func TestUnsubscribeIsAlwaysAcknowledged(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	for id, filter := range []string{c2dFilter, "devices/d2/messages/devicebound/#", "$iothub/twin/res/#", "x"} {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: uint16(id + 1), Filters: packets.Subscriptions{{Filter: filter}}})
		if ack := c.expect(packets.Unsuback); int(ack.PacketID) != id+1 {
			t.Errorf("UNSUBACK of %d", ack.PacketID)
		}
	}
}

func FuzzFilterAndTopic(f *testing.F) {
	for _, s := range []string{c2dFilter, "devices/d1/modules/m1/#", "$iothub/twin/res/#", "devices/d1/messages/events/$.mid=1", "",
		"$iothub/twin/GET/?$rid=1", "$iothub/twin/PATCH/properties/reported/?$version=3&$rid=a", "$iothub/methods/res/200/?$rid=1"} {
		f.Add(s)
	}
	var d, m connection
	_, _ = d.identify("h/d1", "d1")
	_, _ = m.identify("h/d1/m1", "d1/m1")
	f.Fuzz(func(t *testing.T, s string) {
		_, dOK := d.parseFilter(s)
		_, mOK := m.parseFilter(s)
		if dOK && s != c2dFilter && !strings.HasPrefix(s, "$iothub/") || mOK && dOK && !strings.HasPrefix(s, "$iothub/") {
			t.Fatalf("%q is a filter of the wrong identity", s)
		}
		_, dOK = d.telemetryBag(s)
		_, mOK = m.telemetryBag(s)
		if mOK && dOK {
			t.Fatalf("%q is a topic of two identities", s)
		}
		if (dOK && !d.owns(s)) || (mOK && !m.owns(s)) || (d.owns(s) && m.owns(s)) {
			t.Fatalf("whose is %q?", s)
		}
		twin, isTwin := parseTwinTopic(s)
		method, isMethod := parseMethodTopic(s)
		if (isTwin || isMethod) && (dOK || mOK || strings.Contains(s, "#") || !strings.HasPrefix(s, "$iothub/")) || isTwin && isMethod {
			t.Fatalf("%q is the topic of two operations, or of none", s)
		}
		if isTwin && (!strings.Contains(s, twin.rid) || twin.base < 0 || twin.base > 0 && twin.bad != "") {
			t.Fatalf("%q is read as %+v", s, twin)
		}
		if isMethod && !strings.HasPrefix(s, "$iothub/methods/res/") || method.status != int(int32(method.status)) {
			t.Fatalf("%q is read as %+v", s, method)
		}
		for _, c := range []*connection{&d, &m} {
			if c.topicRule(s).reason == "" || c.filterRule(s).reason == "" {
				t.Fatalf("%q breaks no rule", s)
			}
		}
	})
}
