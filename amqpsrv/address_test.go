package amqpsrv

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

// Trap 12: addresses come with and without scheme and host, with and without a leading slash, percent-encoded, in mixed case.
func TestAddressForms(t *testing.T) {
	d1, m1 := store.Key{DeviceID: "d1"}, store.Key{DeviceID: "d1", ModuleID: "m1"}
	for _, c := range []struct {
		text string
		want address
	}{
		{"/devices/d1/messages/events", address{kind: kindEvents, key: d1, path: "devices/d1/messages/events"}},
		{"devices/d1/messages/events/", address{kind: kindEvents, key: d1, path: "devices/d1/messages/events"}},
		{"amqps://hub/devices/d1/messages/events", address{kind: kindEvents, key: d1, path: "devices/d1/messages/events"}},
		{"amqps://hub:5671/devices/d1/messages/deviceBound", address{kind: kindDevicebound, key: d1, path: "devices/d1/messages/deviceBound"}},
		{"amqps://hub:5671/DEVICES/d1/Messages/DEVICEBOUND", address{kind: kindDevicebound, key: d1, path: "DEVICES/d1/Messages/DEVICEBOUND"}},
		{"/devices/d1/modules/m1/messages/events", address{kind: kindEvents, key: m1, path: "devices/d1/modules/m1/messages/events"}},
		{"/devices/d1/modules/m1/messages/devicebound", address{kind: kindDevicebound, key: m1, path: "devices/d1/modules/m1/messages/devicebound"}},
		{"/devices/d1/methods/devicebound", address{kind: kindMethods, key: d1, path: "devices/d1/methods/devicebound"}},
		{"/devices/d1/modules/m1/twin", address{kind: kindTwin, key: m1, path: "devices/d1/modules/m1/twin"}},
		{"/devices/modules/twin", address{kind: kindTwin, key: store.Key{DeviceID: "modules"}, path: "devices/modules/twin"}},
		{"/messages/devicebound", address{kind: kindC2D, path: "messages/devicebound"}},
		{"amqps://hub:5671/messages/deviceBound", address{kind: kindC2D, path: "messages/deviceBound"}},
		{"/messages/serviceBound/feedback", address{kind: kindFeedback, path: "messages/serviceBound/feedback"}},
		{"/messages/servicebound/feedback", address{kind: kindFeedback, path: "messages/servicebound/feedback"}},
		{"/messages/serviceBound/filenotifications", address{kind: kindFileNotifications, path: "messages/serviceBound/filenotifications"}},
		{"messages/events/", address{kind: kindHubEvents, path: "messages/events"}},
		{"/messages/events/ConsumerGroups/$Default/Partitions/0", address{kind: kindHubEvents, tail: "ConsumerGroups/$Default/Partitions/0",
			path: "messages/events/ConsumerGroups/$Default/Partitions/0"}},
		{"messages/events/$management", address{kind: kindHubEvents, tail: "$management", path: "messages/events/$management"}},
		{"$cbs", address{kind: kindCBS, path: "$cbs"}},
		{"/$cbs", address{kind: kindCBS, path: "$cbs"}},
		{"amqps://hub/$cbs", address{kind: kindCBS, path: "$cbs"}},
		{"%24cbs", address{kind: kindCBS, path: "$cbs"}},
		{"$management", address{kind: kindManagement, path: "$management"}},
		{"iolite/$management", address{kind: kindManagement, entity: "iolite", path: "iolite/$management"}},
		{"iolite/ConsumerGroups/$Default/Partitions/3", address{kind: kindPartition, entity: "iolite", group: "$Default", partition: "3",
			path: "iolite/ConsumerGroups/$Default/Partitions/3"}},
		{"amqps://hub/iolite/consumergroups/%24default/partitions/3", address{kind: kindPartition, entity: "iolite", group: "$default", partition: "3",
			path: "iolite/consumergroups/$default/partitions/3"}},
		{"/iolite", address{kind: kindProducer, entity: "iolite", path: "iolite"}},
		{"iolite/Partitions/1", address{kind: kindProducer, entity: "iolite", partition: "1", path: "iolite/Partitions/1"}},
	} {
		if diff := cmp.Diff(c.want, parseAddress(c.text), cmp.AllowUnexported(address{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.text, diff)
		}
	}
}

// Trap 12: C# percent-encodes ids, the other SDKs send them as they are; + and % are legal in an id.
func TestAddressDeviceIDs(t *testing.T) {
	for segment, id := range map[string]string{
		"a%3Ab":        "a:b",
		"a%2Bb":        "a+b",
		"a+b":          "a+b",
		"a%b":          "a%b",
		"100%":         "100%",
		"a%25b":        "a%b",
		"a?b#c":        "a?b#c",
		"A-1_.:(x)!$'": "A-1_.:(x)!$'",
		"a%40b%3d":     "a@b=",
	} {
		a := parseAddress("amqps://hub/devices/" + segment + "/messages/events")
		if a.kind != kindEvents || a.key.DeviceID != id {
			t.Errorf("%s: kind %d, device %q, want %q", segment, a.kind, a.key.DeviceID, id)
		}
	}
}

func TestAddressUnknown(t *testing.T) {
	for _, text := range []string{
		"", "/", "//", "amqps://hub", "amqps://hub/", "/devices", "/devices/", "/devices/d1", "/devices/d1/messages", "/devices//messages/events",
		"/devices/a%2Fb/messages/events", "/devices/d1/modules/m1", "/devices/d1/modules//messages/events", "/devices/d1/messages/events/more",
		"/messages/servicebound", "iolite/ConsumerGroups/$Default", "iolite/ConsumerGroups/$Default/Partitions/", "a/b/c/d/e/f", "a/b", strings.Repeat("a", maxAddress+1),
	} {
		if a := parseAddress(text); a.kind != kindUnknown {
			t.Errorf("%q is taken for kind %d", text, a.kind)
		}
	}
}

// FuzzAddress: no text panics, and what is parsed can be built up again from its parts.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"/devices/d1/messages/events", "amqps://h:1/devices/a%2Bb/modules/m/twin", "messages/events/ConsumerGroups/$Default/Partitions/0",
		"iolite/ConsumerGroups/%24Default/Partitions/1", "$cbs", "%", "%%41", "a://b", "://", "/%2F/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a := parseAddress(text)
		if a.kind == kindUnknown {
			return
		}
		if a.path == "" || strings.HasPrefix(a.path, "/") || strings.HasSuffix(a.path, "/") || strings.Contains(a.path, "//") {
			t.Fatalf("%q has the path %q", text, a.path)
		}
		switch a.kind {
		case kindEvents, kindDevicebound, kindMethods, kindTwin:
			if a.key.DeviceID == "" || strings.Contains(a.key.DeviceID, "/") || strings.Contains(a.key.ModuleID, "/") {
				t.Fatalf("%q has the key %+v", text, a.key)
			}
		case kindPartition:
			if a.entity == "" || a.group == "" || a.partition == "" {
				t.Fatalf("%q lacks a part: %+v", text, a)
			}
		}
	})
}
