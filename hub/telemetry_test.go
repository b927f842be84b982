package hub

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// readAll returns every event of the partition a device's messages go to.
func readAll(t testing.TB, h *Hub, deviceID string) []store.Event {
	t.Helper()
	p := PartitionOf(deviceID, h.events.Partitions())
	r, err := h.Admin().OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: fmt.Sprint(p)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []store.Event
	for {
		events, err := r.Next(ctx, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return all
		}
		all = append(all, events...)
	}
}

func TestTelemetryIsStampedWithItsSender(t *testing.T) {
	h, _ := newTestHub(t)
	key := store.Key{DeviceID: "d1", ModuleID: "m1"}
	addDevice(t, h, store.Key{DeviceID: "d1"})
	id := addDevice(t, h, key)
	s, err := h.OpenDevice(ctx, owner(key), key, DeviceOptions{ModelID: "dtmi:com:example:Thermostat;1"})
	if err != nil {
		t.Fatal(err)
	}
	sent := Telemetry{Body: []byte("hello"), Properties: []store.Property{
		{Name: "iothub-Creation-Time-Utc", Value: "2026-01-01T00:00:00Z"}, {Name: "iothub-connection-device-id", Value: "somebody else"}, {Name: "colour", Value: "red"},
	}}
	sent.MessageID = "m-1"
	if err := s.SendTelemetry(ctx, sent); err != nil {
		t.Fatal(err)
	}
	want := []store.Event{{
		SystemProperties: store.SystemProperties{MessageID: "m-1", To: "/devices/d1/modules/m1/messages/events", CreationTime: "2026-01-01T00:00:00Z"},
		Properties:       []store.Property{{Name: "colour", Value: "red"}},
		Body:             []byte("hello"), PartitionKey: "d1", DeviceID: "d1", ModuleID: "m1", GenerationID: id.GenerationID,
		AuthMethod: `{"scope":"module","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`,
		Source:     "Telemetry", ModelID: "dtmi:com:example:Thermostat;1", Enqueued: start,
	}}
	if diff := cmp.Diff(want, readAll(t, h, "d1")); diff != "" {
		t.Errorf("stored event (-want +got):\n%s", diff)
	}
}

func TestReservedPropertiesBecomeSystemProperties(t *testing.T) {
	given := []store.Property{
		{Name: "a", Value: "1"}, {Name: "iothub-ack", Value: "ack"}, {Name: "iothub-creation-time-utc", Value: "created"}, {Name: "IOTHUB-MESSAGE-SCHEMA", Value: "schema"},
		{Name: "iothub-operation", Value: "op"}, {Name: "iothub-outputname", Value: "out"}, {Name: "iothub-interface-id", Value: "interface"},
		{Name: "iothub-connection-module-id", Value: "forged"}, {Name: "iothub-message-source", Value: "forged"}, {Name: "iothub-own", Value: "2"}, {Name: "i", Value: "3"},
	}
	p := store.SystemProperties{Operation: "said already"}
	rest := liftReserved(&p, given)
	want := store.SystemProperties{Ack: "ack", CreationTime: "created", MessageSchema: "schema", Operation: "said already", OutputName: "out", InterfaceID: "interface"}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("system properties (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]store.Property{{Name: "a", Value: "1"}, {Name: "iothub-own", Value: "2"}, {Name: "i", Value: "3"}}, rest); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
	if given[1].Name != "iothub-ack" {
		t.Error("the caller's properties were changed")
	}
}

func TestModelMayBeNamedLater(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	s.SetModel(ctx, "")
	s.SetModel(ctx, "dtmi:x;1")
	if err := s.SendTelemetry(ctx, Telemetry{}); err != nil {
		t.Fatal(err)
	}
	if e := readAll(t, h, "d")[0]; e.ModelID != "dtmi:x;1" {
		t.Errorf("event of model %q", e.ModelID)
	}
	if d := identity(t, h, s.Key()); d.ModelID != "dtmi:x;1" {
		t.Errorf("identity of model %q", d.ModelID)
	}
}

func TestAuthMethodSaysWhoseKeyWasUsed(t *testing.T) {
	device, module := store.Key{DeviceID: "d"}, store.Key{DeviceID: "d", ModuleID: "m"}
	cert := auth.Principal{DeviceID: "d", Method: auth.MethodCA}
	for _, c := range []struct {
		p    auth.Principal
		key  store.Key
		want string
	}{
		{owner(device), device, `{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`},
		{owner(module), module, `{"scope":"module","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`},
		{auth.Principal{Policy: "device"}, device, `{"scope":"hub","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`},
		{cert, device, `{"scope":"device","type":"x509Certificate","issuer":"external","acceptingIpFilterRule":null}`},
	} {
		if got := authMethod(c.p, c.key); got != c.want {
			t.Errorf("authMethod(%+v) = %s, want %s", c.p, got, c.want)
		}
	}
}

func TestTelemetryMayHave256KiBCountingPropertiesAndTheirNames(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d1")
	m := Telemetry{Properties: []store.Property{{Name: "name", Value: "value"}}}
	m.MessageID = "0123456789"
	m.Body = make([]byte, maxTelemetry-len("0123456789")-len("name")-len("value"))
	if err := s.SendTelemetry(ctx, m); err != nil {
		t.Errorf("a message of exactly 256 KiB: %v", err)
	}
	m.Body = append(m.Body, 0)
	wantCode(t, s.SendTelemetry(ctx, m), CodeMessageTooLarge)
	half := Telemetry{Body: make([]byte, maxTelemetry/2+1)}
	wantCode(t, s.SendTelemetry(ctx, half, half), CodeMessageTooLarge)
	if n := len(readAll(t, h, "d1")); n != 1 {
		t.Errorf("%d events are stored, want 1: a refused batch leaves nothing", n)
	}
}

func TestMessageIDsFollowTheGrammar(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d1")
	for id, want := range map[string]Code{
		"":                                      0,
		"azAZ09-:.+%_#*?!(),=@;$'":              0,
		strings.Repeat("a", 128):                0,
		strings.Repeat("a", 129):                CodeArgumentInvalid,
		"with space":                            CodeArgumentInvalid,
		"slash/":                                CodeArgumentInvalid,
		"ümlaut":                                CodeArgumentInvalid,
		"nul\x00":                               CodeArgumentInvalid,
		"ampersand&":                            CodeArgumentInvalid,
		"6f9619ff-8b86-d011-b42d-00c04fc964ff!": 0,
	} {
		var m Telemetry
		m.MessageID = id
		if got := codeOf(s.SendTelemetry(ctx, m)); got != want {
			t.Errorf("message id %q: code %d, want %d", id, got, want)
		}
	}
}

func TestWillIsStoredAfterTheSessionEnded(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d1")
	s.Close()
	wantCode(t, s.SendTelemetry(ctx, Telemetry{}), CodeClosed)
	if err := s.SendWill(ctx, Telemetry{Body: []byte("gone")}); err != nil {
		t.Fatal(err)
	}
	events := readAll(t, h, "d1")
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	if diff := cmp.Diff([]store.Property{{Name: "iothub-MessageType", Value: "Will"}}, events[0].Properties); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
}

// telemetry256 is the message of the benchmarks.
func telemetry256() Telemetry {
	m := Telemetry{Body: make([]byte, 256), Properties: []store.Property{{Name: "temperatureAlert", Value: "false"}}}
	m.MessageID, m.ContentType, m.ContentEncoding = "6f9619ff-8b86-d011-b42d-00c04fc964ff", "application/json", "utf-8"
	return m
}

func BenchmarkSendTelemetry(b *testing.B) {
	h, _ := newTestHub(b)
	s := connect(b, h, "d1")
	m := telemetry256()
	b.ReportAllocs()
	for b.Loop() {
		if err := s.SendTelemetry(context.Background(), m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSendEach is for each of sixteen messages that came together.
func BenchmarkSendEach(b *testing.B) {
	h, _ := newTestHub(b)
	s := connect(b, h, "d1")
	var messages [16]Telemetry
	for i := range messages {
		messages[i] = telemetry256()
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.SendEach(context.Background(), messages[:]...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(messages)), "ns/msg")
}

func BenchmarkSendTelemetryOfManyDevices(b *testing.B) {
	h, _ := newTestHub(b)
	sessions := make([]*DeviceSession, 1000)
	for i := range sessions {
		sessions[i] = connect(b, h, fmt.Sprintf("device-%d", i))
	}
	m := telemetry256()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := sessions[i%len(sessions)].SendTelemetry(context.Background(), m); err != nil {
				b.Error(err)
			}
		}
	})
}

// SendEach is for messages that came one after the other: each has limits of its own, and those before the first refused one are stored.
func TestSendEachStoresWhatComesBeforeARefusal(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d1")
	message := func(id string, size int) (m Telemetry) {
		m.MessageID, m.Body = id, make([]byte, size)
		return m
	}
	big := message("big", maxTelemetry-3)
	for name, test := range map[string]struct {
		messages []Telemetry
		stored   int
		want     Code
	}{
		"each as big as may be": {[]Telemetry{big, big, big}, 3, 0},
		"too big":               {[]Telemetry{message("a", 1), message("b", maxTelemetry), message("c", 1)}, 1, CodeMessageTooLarge},
		"bad id":                {[]Telemetry{message("a", 1), message("b", 1), message("no id", 1)}, 2, CodeArgumentInvalid},
		"the first":             {[]Telemetry{message("no id", 1), message("b", 1)}, 0, CodeArgumentInvalid},
	} {
		before := len(readAll(t, h, "d1"))
		stored, err := s.SendEach(ctx, test.messages...)
		if stored != test.stored || codeOf(err) != test.want {
			t.Errorf("%s: %d stored, %v", name, stored, err)
		}
		if got := len(readAll(t, h, "d1")) - before; got != test.stored {
			t.Errorf("%s: %d more events", name, got)
		}
	}
	s.Close()
	if stored, err := s.SendEach(ctx, big); stored != 0 || codeOf(err) != CodeClosed {
		t.Errorf("after the end: %d stored, %v", stored, err)
	}
}
