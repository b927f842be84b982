package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

const (
	twinFilter    = "$iothub/twin/res/#"
	desiredFilter = "$iothub/twin/PATCH/properties/desired/#"
	methodsFilter = "$iothub/methods/POST/#"
)

// desire changes the desired properties of an identity.
func (r *rig) desire(key store.Key, patch string) {
	r.t.Helper()
	if _, err := r.hub.Admin().UpdateTwin(context.Background(), key, []byte(`{"properties":{"desired":`+patch+`}}`), ""); err != nil {
		r.t.Fatal(err)
	}
}

// reported returns the reported properties of an identity.
func (r *rig) reported(key store.Key) string {
	r.t.Helper()
	t, err := r.hub.Admin().Twin(context.Background(), key)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(t.Reported.Value.AppendJSON(nil))
}

// expectPublish returns the next packet, which must be what IoT Hub sends of twins and methods: a PUBLISH with QoS 0 and nothing else set.
func (c *client) expectPublish(topic string) string {
	c.t.Helper()
	pk := c.expect(packets.Publish)
	if h := pk.FixedHeader; pk.TopicName != topic || h.Qos != 0 || h.Retain || h.Dup {
		c.t.Fatalf("got topic %q with %+v, want %q", pk.TopicName, h, topic)
	}
	return string(pk.Payload)
}

func get(rid string) packets.Packet {
	return telemetry("$iothub/twin/GET/?$rid="+rid, 0, "")
}

func report(rid, patch string) packets.Packet {
	return telemetry("$iothub/twin/PATCH/properties/reported/?$rid="+rid, 0, patch)
}

func TestATwinIsReadAndReported(t *testing.T) {
	for _, id := range []string{"d1", "d1/m1"} {
		t.Run(id, func(t *testing.T) {
			r := newRig(t)
			key := device("d1")
			if id != "d1" {
				key = module("d1", "m1")
			}
			r.desire(key, `{"interval":5}`)
			c := r.connect(id)
			c.subscribe(1, twinFilter)
			c.send(report("a1", `{"battery":55,"gone":null}`))
			if body := c.expectPublish("$iothub/twin/res/204/?$rid=a1&$version=2"); body != "" {
				t.Errorf("a patch is answered with %q", body)
			}
			c.send(get("b2"))
			want := `{"desired":{"interval":5,"$version":2},"reported":{"battery":55,"$version":2}}`
			if body := c.expectPublish("$iothub/twin/res/200/?$rid=b2"); body != want {
				t.Errorf("got %s, want %s", body, want)
			}
		})
	}
}

// SDKs choose a GUID, a number or hex digits, and compare the text.
func TestTheRequestIDComesBackAsItWas(t *testing.T) {
	c := newRig(t).connect("d1")
	c.subscribe(0, twinFilter)
	for _, rid := range []string{"1", "00", "FFFFFFFF", "18446744073709551616", "3e1bd6a5-f85b-4a9a-8f4f-2b3f8a0e4a3c", "a%20b", "a+b/c==", "ü", "?$rid=2", strings.Repeat("r", 60000)} {
		c.send(get(rid))
		c.expectPublish("$iothub/twin/res/200/?$rid=" + rid)
	}
	for topic, rid := range map[string]string{"$iothub/twin/GET/?x=1&$rid=7": "7", "$iothub/twin/GET/?$rid=8&$version=x": "8", "$iothub/twin/GET/?$rid=9&": "9"} {
		c.send(telemetry(topic, 0, " ")) // the Node SDK sends a space
		c.expectPublish("$iothub/twin/res/200/?$rid=" + rid)
	}
}

// What cannot be answered is not done either, but acknowledged.
func TestATwinRequestWithoutAUsableRequestIDIsIgnored(t *testing.T) {
	for name, topic := range map[string]string{
		"no query":      "$iothub/twin/PATCH/properties/reported",
		"empty query":   "$iothub/twin/PATCH/properties/reported/",
		"no rid":        "$iothub/twin/PATCH/properties/reported/?$version=1",
		"empty rid":     "$iothub/twin/PATCH/properties/reported/?$rid=",
		"endless rid":   "$iothub/twin/PATCH/properties/reported/?$rid=" + strings.Repeat("r", 65480),
		"get of no rid": "$iothub/twin/GET/",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.connect("d1")
			c.subscribe(0, twinFilter)
			for range 3 { // the log says it once
				c.send(telemetry(topic, 9, `{"a":1}`))
				if ack := c.expect(packets.Puback); ack.PacketID != 9 {
					t.Errorf("PUBACK of %d", ack.PacketID)
				}
			}
			c.sync()
			r.expectRule("request-id")
			if got := r.reported(device("d1")); got != "{}" {
				t.Errorf("reported %s", got)
			}
		})
	}
}

// With QoS 1 the answer follows the PUBACK, also when it is an error.
func TestTwinRequestsWithQoS1AreAcknowledgedFirst(t *testing.T) {
	c := newRig(t).connect("d1")
	c.subscribe(1, twinFilter)
	for i, test := range []struct{ topic, body, answer string }{
		{"$iothub/twin/GET/?$rid=1", "", "$iothub/twin/res/200/?$rid=1"},
		{"$iothub/twin/PATCH/properties/reported/?$rid=2", "{}", "$iothub/twin/res/204/?$rid=2&$version=2"},
		{"$iothub/twin/PATCH/properties/reported/?$rid=3", "[]", "$iothub/twin/res/400/?$rid=3"},
	} {
		c.send(telemetry(test.topic, uint16(i+1), test.body))
		if ack := c.expect(packets.Puback); int(ack.PacketID) != i+1 {
			t.Errorf("PUBACK of %d", ack.PacketID)
		}
		c.expectPublish(test.answer)
	}
}

// IoT Hub: a device that did not subscribe to the answers gets none; its patch counts.
func TestWhoDidNotSubscribeGetsNoAnswer(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(1, desiredFilter)
	c.send(get("1"), report("2", `{"a":1}`), report("3", "x"))
	c.sync()
	if got := r.reported(device("d1")); got != `{"a":1}` {
		t.Errorf("reported %s", got)
	}
	c.subscribe(1, twinFilter)
	c.send(get("4"))
	c.expectPublish("$iothub/twin/res/200/?$rid=4")
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: twinFilter}}})
	c.expect(packets.Unsuback)
	c.send(get("5"))
	c.sync()
}

// twinError is the body of an answer that tells an error.
type twinError struct {
	ErrorCode    int    `json:"errorCode"`
	TrackingID   string `json:"trackingId"`
	Message      string `json:"message"`
	TimestampUTC string `json:"timestampUtc"`
}

func (c *client) expectTwinError(status, rid string) twinError {
	c.t.Helper()
	var e twinError
	body := c.expectPublish("$iothub/twin/res/" + status + "/?$rid=" + rid)
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		c.t.Fatalf("%q: %v", body, err)
	}
	if e.Message == "" || !strings.Contains(e.TrackingID, "-G:0-TimeStamp:") {
		c.t.Errorf("%+v", e)
	}
	return e
}

func TestARefusedPatchIsAnsweredAndChangesNothing(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 12) + "1" + strings.Repeat("}", 12)
	tests := []struct {
		name, query, patch, status string
		code                       hub.Code
	}{
		{"no JSON", "", "{", "400", hub.CodeArgumentInvalid},
		{"nothing", "", "", "400", hub.CodeArgumentInvalid},
		{"not UTF-8", "", "{\"a\":\"\xff\"}x", "400", hub.CodeArgumentInvalid},
		{"an array", "", "[]", "400", hub.CodeArgumentInvalid},
		{"null", "", "null", "400", hub.CodeArgumentInvalid},
		{"$version", "", `{"$version":1}`, "400", hub.CodeArgumentInvalid},
		{"a dot in a name", "", `{"a.b":1}`, "400", hub.CodeArgumentInvalid},
		{"null in an array", "", `{"a":[null]}`, "400", hub.CodeArgumentInvalid},
		{"too deep", "", deep, "400", hub.CodeArgumentInvalid},
		{"a text too long", "", `{"a":"` + strings.Repeat("x", 4097) + `"}`, "400", hub.CodeArgumentInvalid},
		{"an integer of 53 bits", "", `{"a":4503599627370496}`, "400", hub.CodeArgumentInvalid},
		{"too large", "", `{` + members(9, 4000) + `}`, "400", hub.CodeArgumentInvalid},
		{"another version", "&$version=7", "{}", "412", hub.CodePreconditionFailed},
		{"a word for a version", "&$version=x", "{}", "400", hub.CodeArgumentInvalid},
		{"version 0", "&$version=0", "{}", "400", hub.CodeArgumentInvalid},
		{"a version of 65 bits", "&$version=18446744073709551616", "{}", "400", hub.CodeArgumentInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			c := r.connect("d1")
			c.subscribe(0, twinFilter)
			c.send(telemetry("$iothub/twin/PATCH/properties/reported/?$rid=1"+test.query, 0, test.patch))
			e := c.expectTwinError(test.status, "1")
			if at, err := time.Parse(time.RFC3339, e.TimestampUTC); hub.Code(e.ErrorCode) != test.code || err != nil || !at.Equal(r.clock.Now()) {
				t.Errorf("%+v, %v", e, err)
			}
			if got := r.reported(device("d1")); got != "{}" {
				t.Errorf("reported %s", got)
			}
			c.send(report("2", `{"a":1}`))
			c.expectPublish("$iothub/twin/res/204/?$rid=2&$version=2")
		})
	}
}

// members is the inside of an object with n properties of size bytes each.
func members(n, size int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = `"p` + string(rune('a'+i)) + `":"` + strings.Repeat("x", size) + `"`
	}
	return strings.Join(all, ",")
}

func TestAPatchForTheRightVersionCounts(t *testing.T) {
	c := newRig(t).connect("d1")
	c.subscribe(0, twinFilter)
	c.send(telemetry("$iothub/twin/PATCH/properties/reported/?$rid=1&$version=1", 0, `{"a":1}`))
	c.expectPublish("$iothub/twin/res/204/?$rid=1&$version=2")
	c.send(telemetry("$iothub/twin/PATCH/properties/reported/?$version=2&$rid=2", 0, `{"a":2}`))
	c.expectPublish("$iothub/twin/res/204/?$rid=2&$version=3")
}

// IoT Hub answers 400 to a device that named no api-version.
func TestTwinsNeedAnAPIVersion(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"localhost/d1", "localhost/d1/", "localhost/d1/?DeviceClientType=x"} {
		c := r.connect("d1", cleanSession, func(p *packets.ConnectParams) { p.Username = []byte(name) })
		c.subscribe(0, twinFilter)
		c.send(report("1", `{"a":1}`), get("2"))
		for _, rid := range []string{"1", "2"} {
			if e := c.expectTwinError("400", rid); hub.Code(e.ErrorCode) != hub.CodeInvalidProtocolVersion {
				t.Errorf("%+v", e)
			}
		}
		c.disconnect()
	}
	if got := r.reported(device("d1")); got != "{}" {
		t.Errorf("reported %s", got)
	}
}

func TestDesiredChangesArePushedInOrder(t *testing.T) {
	for _, id := range []string{"d1", "d1/m1"} {
		t.Run(id, func(t *testing.T) {
			r := newRig(t)
			key := device("d1")
			if id != "d1" {
				key = module("d1", "m1")
			}
			c := r.connect(id)
			c.subscribe(1, desiredFilter)
			r.desire(key, `{"a":1,"b":{"c":"x"}}`)
			r.desire(key, `{"b":null}`)
			r.desire(device("d2"), `{"foreign":1}`)
			got := []string{c.expectPublish("$iothub/twin/PATCH/properties/desired/?$version=2"), c.expectPublish("$iothub/twin/PATCH/properties/desired/?$version=3")}
			if diff := cmp.Diff([]string{`{"a":1,"b":{"c":"x"},"$version":2}`, `{"b":null,"$version":3}`}, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: desiredFilter}}})
			c.expect(packets.Unsuback)
			r.desire(key, `{"a":2}`)
			c.sync()
			c.subscribe(0, desiredFilter)
			r.desire(key, `{"a":3}`)
			c.expectPublish("$iothub/twin/PATCH/properties/desired/?$version=5")
		})
	}
}

// A module's filter for all its topics covers those that begin with its base, and no other.
func TestTheModuleFilterBringsNoTwinsAndMethods(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1/m1")
	c.subscribe(1, "devices/d1/modules/m1/#")
	r.desire(module("d1", "m1"), `{"a":1}`)
	c.send(get("1"))
	c.sync()
	if _, err := r.invoke(module("d1", "m1"), "reboot", ""); errorCode(err) != hub.CodeDeviceNotOnline {
		t.Errorf("the call ended with %v", err)
	}
}

// MQTT-3.1.2-4: subscriptions outlive a connection with CleanSession=0. IoT Hub: what changed meanwhile is not told.
func TestKeptSubscriptionsBringTwinsAndMethodsAgain(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(1, twinFilter, desiredFilter, methodsFilter)
	c.disconnect()
	r.eventually("the end of the session", func() bool { return len(r.hub.Connections()) == 0 })
	r.desire(device("d1"), `{"missed":1}`)
	if _, err := r.invoke(device("d1"), "reboot", ""); errorCode(err) != hub.CodeDeviceNotOnline {
		t.Errorf("a call while the device is away ended with %v", err)
	}
	c = r.connect("d1")
	c.sync()
	r.desire(device("d1"), `{"seen":1}`)
	c.expectPublish("$iothub/twin/PATCH/properties/desired/?$version=3")
	c.send(get("1"))
	c.expectPublish("$iothub/twin/res/200/?$rid=1")
	result := r.invokeLater(device("d1"), "reboot", "")
	c.expectPublish("$iothub/methods/POST/reboot/?$rid=1")
	c.send(telemetry("$iothub/methods/res/200/?$rid=1", 0, ""))
	if got := <-result; got.err != nil {
		t.Error(got.err)
	}
	c.disconnect()

	c = r.connect("d1", cleanSession)
	r.desire(device("d1"), `{"unseen":1}`)
	c.send(get("2"))
	c.sync()
	if _, err := r.invoke(device("d1"), "reboot", ""); errorCode(err) != hub.CodeDeviceNotOnline {
		t.Errorf("a call after CleanSession=1 ended with %v", err)
	}
}

// brokenTwins are twins that cannot be read.
type brokenTwins struct {
	store.Twins
	err error
}

func (b brokenTwins) Twin(context.Context, store.Key) (store.TwinRow, error) {
	return store.TwinRow{}, b.err
}

// brokenEngine is an engine with such twins.
type brokenEngine struct {
	store.Engine
	err error
}

func (e brokenEngine) Twins() store.Twins { return brokenTwins{e.Engine.Twins(), e.err} }

func newBrokenTwins(err error) rigOption {
	return withEngine(brokenEngine{store.NewMemory(store.MemoryOptions{}), err})
}

// What went wrong stands in the log, under the tracking id that the device gets.
func TestAFailingStoreIsAnsweredWithATrackingID(t *testing.T) {
	r := newRig(t, newBrokenTwins(errors.New("disk on fire")))
	c := r.connect("d1")
	c.subscribe(1, twinFilter)
	for _, request := range []packets.Packet{get("1"), report("1", "{}")} {
		c.send(request)
		e := c.expectTwinError("500", "1")
		if hub.Code(e.ErrorCode) != hub.CodeServerError || strings.Contains(e.Message, "fire") {
			t.Errorf("%+v", e)
		}
		cause, ok := r.log.find("trackingId", e.TrackingID)
		if !ok || !strings.Contains(cause.attrs["cause"], "disk on fire") || cause.attrs["deviceId"] != "d1" {
			t.Errorf("the log has %+v", cause)
		}
	}
	c.sync()
}

// A device that is deleted while it asks is not answered: its connection ends.
func TestATwinThatIsGoneEndsTheConnection(t *testing.T) {
	r := newRig(t, newBrokenTwins(store.ErrNotFound))
	c := r.connect("d1")
	c.subscribe(1, twinFilter)
	c.send(get("1"))
	c.expectClosed()
	r.expectRule("session-ended")
}
