package broker

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

func property(name, value string) store.Property { return store.Property{Name: name, Value: value} }

func TestBagReadsWhatSDKsWrite(t *testing.T) {
	props := func(p ...store.Property) hub.Telemetry { return hub.Telemetry{Properties: p} }
	tests := map[string]hub.Telemetry{
		"":                               props(),
		"/":                              props(),
		"?":                              props(),
		"a=b":                            props(property("a", "b")),
		"a=b/":                           props(property("a", "b")),
		"?prop1&prop2=&prop3=a%20string": props(store.Property{Name: "prop1", Null: true}, property("prop2", ""), property("prop3", "a string")),
		"a=b&&c=d&":                      props(property("a", "b"), property("c", "d")),
		"a=b+c%2Bd":                      props(property("a", "b+c+d")),
		"a=b=c":                          props(property("a", "b=c")),
		"%61%3d=%c3%A9":                  props(property("a=", "é")),
		"b=2&a=1":                        props(property("b", "2"), property("a", "1")),
		"a=x/y":                          props(property("a", "x/y")),
		"$.cdid=d9&%24.cmid=m9&a=1":      props(property("a", "1")),
		"$.unknown=1":                    props(property("$.unknown", "1")),
		"iothub-creation-time-utc=t":     props(property("iothub-creation-time-utc", "t")),
		"$.mid=1&%24.cid=2&%24%2Euid=3":  {SystemProperties: store.SystemProperties{MessageID: "1", CorrelationID: "2", UserID: "3"}},
		"$.ct=application%2Fjson&$.ce=utf-8&$.to=%2Fx&$.on=out&$.ifid=u&$.sub=c&$.schema=s&$.ctime=t&$.diagid=d&$.diagctx=k%3Dv": {
			SystemProperties: store.SystemProperties{ContentType: "application/json", ContentEncoding: "utf-8", To: "/x", OutputName: "out",
				InterfaceID: "u", Subject: "c", MessageSchema: "s", CreationTime: "t", DiagnosticID: "d", DiagnosticCtx: "k=v"}},
		"$.exp=2017-01-09T10%3A00%3A00.5000000Z":  {SystemProperties: store.SystemProperties{Expiry: time.Date(2017, 1, 9, 10, 0, 0, 5e8, time.UTC)}},
		"$.exp=2017-01-09T10:00:00":               {SystemProperties: store.SystemProperties{Expiry: time.Date(2017, 1, 9, 10, 0, 0, 0, time.UTC)}},
		"$.exp=2017-01-09T10%3A00%3A00%2B02%3A00": {SystemProperties: store.SystemProperties{Expiry: time.Date(2017, 1, 9, 8, 0, 0, 0, time.UTC)}},
		"$.exp=1483956000000":                     {SystemProperties: store.SystemProperties{Expiry: time.Date(2017, 1, 9, 10, 0, 0, 0, time.UTC)}},
		"$.exp=0":                                 props(),
		"$.mid":                                   props(),
	}
	for bag, want := range tests {
		var got hub.Telemetry
		if err := parseBag(bag, &got); err != nil {
			t.Errorf("%q: %v", bag, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", bag, diff)
		}
	}
}

func TestBagThatCannotBeDecodedIsRefused(t *testing.T) {
	for _, bag := range []string{"a=%", "a=%4", "a=%zz", "%=1", "=1", "a=%ff", "%c3=1", "$.exp=soon", "$.exp=-1", "$.exp=99999999999999999999"} {
		if err := parseBag(bag, new(hub.Telemetry)); !errors.Is(err, errBag) {
			t.Errorf("%q: got %v", bag, err)
		}
	}
}

func TestC2DTopicHasSystemPropertiesFirstAndAlwaysTo(t *testing.T) {
	tests := []struct {
		m    store.Message
		want string
	}{
		{store.Message{}, "%24.to=%2Fdevices%2Fd%2Fmessages%2Fdevicebound"},
		{store.Message{SystemProperties: store.SystemProperties{To: "/devices/d/messages/deviceBound", MessageID: "id 1", Ack: "full"}},
			"%24.mid=id%201&%24.to=%2Fdevices%2Fd%2Fmessages%2FdeviceBound&iothub-ack=full"},
		{store.Message{
			SystemProperties: store.SystemProperties{MessageID: "m", CorrelationID: "c", UserID: "u", ContentType: "text/plain", ContentEncoding: "utf-8",
				Expiry: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), MessageSchema: "s", CreationTime: "t", Operation: "o", Ack: "none"},
			Properties: []store.Property{property("a/:=&?#+% b", "ü"), {Name: "null", Null: true}, property("", "lost")},
		}, "%24.mid=m&%24.to=%2Fdevices%2Fd%2Fmessages%2Fdevicebound&%24.exp=2030-01-02T03%3A04%3A05.0000000Z&%24.cid=c&%24.uid=u&%24.ct=text%2Fplain&%24.ce=utf-8" +
			"&%24.schema=s&%24.ctime=t&iothub-operation=o&iothub-ack=none&a%2F%3A%3D%26%3F%23%2B%25%20b=%C3%BC&null="},
	}
	for _, test := range tests {
		got := string(appendBag([]byte("devices/d/messages/devicebound/"), &test.m, "/devices/d/messages/devicebound"))
		if diff := cmp.Diff("devices/d/messages/devicebound/"+test.want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

// What the service sends in a cloud-to-device message's topic is what a device would read from it.
func TestBagRoundTrip(t *testing.T) {
	text := rapid.String()
	name := rapid.StringN(1, 20, -1).Filter(func(s string) bool { return !strings.HasPrefix(s, "$.") })
	rapid.Check(t, func(t *rapid.T) {
		sent := store.Message{SystemProperties: store.SystemProperties{
			MessageID: text.Draw(t, "mid"), CorrelationID: text.Draw(t, "cid"), UserID: text.Draw(t, "uid"), To: rapid.StringN(1, 20, -1).Draw(t, "to"),
			ContentType: text.Draw(t, "ct"), ContentEncoding: text.Draw(t, "ce"), MessageSchema: text.Draw(t, "schema"), CreationTime: text.Draw(t, "ctime"),
		}}
		if ms := rapid.Int64Range(0, maxUnixMilli-1).Draw(t, "exp"); ms > 0 {
			sent.Expiry = time.UnixMilli(ms).UTC()
		}
		for range rapid.IntRange(0, 5).Draw(t, "properties") {
			sent.Properties = append(sent.Properties, property(name.Draw(t, "name"), text.Draw(t, "value")))
		}
		topic := appendBag([]byte("x/"), &sent, "")
		var got hub.Telemetry
		if err := parseBag(string(topic[2:]), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sent.SystemProperties, got.SystemProperties); diff != "" {
			t.Fatalf("(-sent +got)\n%s", diff)
		}
		if diff := cmp.Diff(sent.Properties, got.Properties, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-sent +got)\n%s", diff)
		}
	})
}

func TestAnEmptyBagAllocatesNothing(t *testing.T) {
	var m hub.Telemetry
	m.Properties = make([]store.Property, 0, 4)
	for _, bag := range []string{"", "/", "$.mid=1&a=b"} {
		if n := testing.AllocsPerRun(100, func() {
			m.Properties = m.Properties[:0]
			_ = parseBag(bag, &m)
		}); n != 0 {
			t.Errorf("%q: %v allocations", bag, n)
		}
	}
}

func FuzzBag(f *testing.F) {
	for _, bag := range []string{"?a&b=&c=%20/", "$.mid=1&%24.exp=2017-01-09T10%3A00%3A00Z", "a=%", "=&&=", "$.exp=1483956000000"} {
		f.Add(bag)
	}
	f.Fuzz(func(t *testing.T, bag string) {
		if !utf8.ValidString(bag) {
			return // the packet's decoder has refused it: MQTT-1.5.3-1
		}
		var first, second hub.Telemetry
		if err := parseBag(bag, &first); err != nil {
			return
		}
		m := store.Message{SystemProperties: first.SystemProperties, Properties: first.Properties}
		if err := parseBag(string(appendBag(nil, &m, "")), &second); err != nil {
			t.Fatalf("%q is read, but not what is made of it: %v", bag, err)
		}
		if first.MessageID != second.MessageID || first.ContentType != second.ContentType || len(second.Properties) < len(first.Properties) {
			t.Fatalf("%q: %+v became %+v", bag, first, second)
		}
	})
}
