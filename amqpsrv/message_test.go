package amqpsrv

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

var uuid = amqp10.UUID{0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0x00}

func TestTelemetryFields(t *testing.T) {
	expiry := amqp10.Timestamp(1700000000000)
	m := &amqp10.Message{
		Properties: &amqp10.Properties{MessageID: uuid, CorrelationID: uint64(7), UserID: []byte("u"), To: "/devices/d1/messages/events",
			ContentType: "application/json", ContentEncoding: "utf-8", AbsoluteExpiryTime: &expiry},
		MessageAnnotations: amqp10.Map{
			{Key: amqp10.Symbol("iothub-interface-id"), Value: "if"}, {Key: amqp10.Symbol("dt-subject"), Value: "comp"},
			{Key: amqp10.Symbol("Diagnostic-Id"), Value: "diag"}, {Key: amqp10.Symbol("Correlation-Context"), Value: "creationtimeutc=1"},
			{Key: amqp10.Symbol("iothub-connection-device-id"), Value: "somebody else"},
		},
		ApplicationProperties: amqp10.Map{{Key: "b", Value: "2"}, {Key: "a", Value: "1"}, {Key: "none", Value: nil}, {Key: "n", Value: int32(-3)},
			{Key: "t", Value: true}, {Key: "f", Value: 1.5}, {Key: "id", Value: uuid}, {Key: "s", Value: amqp10.Symbol("sym")}},
		Body: amqp10.BodyData, Data: [][]byte{[]byte("one "), []byte("two")},
	}
	want := hub.Telemetry{
		SystemProperties: store.SystemProperties{MessageID: "123e4567-e89b-12d3-a456-426614174000", CorrelationID: "7", UserID: "u", To: "/devices/d1/messages/events",
			ContentType: "application/json", ContentEncoding: "utf-8", Expiry: time.UnixMilli(1700000000000).UTC(),
			InterfaceID: "if", Subject: "comp", DiagnosticID: "diag", DiagnosticCtx: "creationtimeutc=1"},
		Properties: []store.Property{{Name: "b", Value: "2"}, {Name: "a", Value: "1"}, {Name: "none", Null: true}, {Name: "n", Value: "-3"},
			{Name: "t", Value: "true"}, {Name: "f", Value: "1.5"}, {Name: "id", Value: "123e4567-e89b-12d3-a456-426614174000"}, {Name: "s", Value: "sym"}},
		Body: []byte("one two"),
	}
	got, err := telemetryOf(m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTelemetryBodies(t *testing.T) {
	for name, c := range map[string]struct {
		m    amqp10.Message
		want string
		bad  bool
	}{
		"none":        {m: amqp10.Message{}},
		"null":        {m: amqp10.Message{Body: amqp10.BodyValue}},
		"data":        {m: *text("x"), want: "x"},
		"value text":  {m: amqp10.Message{Body: amqp10.BodyValue, Value: "x"}, want: "x"},
		"value bytes": {m: amqp10.Message{Body: amqp10.BodyValue, Value: []byte("x")}, want: "x"},
		"value int":   {m: amqp10.Message{Body: amqp10.BodyValue, Value: int32(1)}, bad: true},
		"sequence":    {m: amqp10.Message{Body: amqp10.BodySequence, Sequences: []amqp10.List{{"x"}}}, bad: true},
		"key":         {m: amqp10.Message{ApplicationProperties: amqp10.Map{{Key: int32(1), Value: "x"}}}, bad: true},
		"value":       {m: amqp10.Message{ApplicationProperties: amqp10.Map{{Key: "a", Value: amqp10.List{}}}}, bad: true},
	} {
		got, err := telemetryOf(&c.m)
		if (err != nil) != c.bad || string(got.Body) != c.want {
			t.Errorf("%s: %q, %v", name, got.Body, err)
		}
	}
}

func TestC2DFields(t *testing.T) {
	zero := amqp10.TimestampOf(time.Time{}) // what Go clients send for no expiry
	got, err := c2dOf(&amqp10.Message{
		Properties:            &amqp10.Properties{To: "/devices/d1/messages/deviceBound", MessageID: uuid, AbsoluteExpiryTime: &zero},
		ApplicationProperties: amqp10.Map{{Key: "x", Value: "1"}, {Key: "iothub-ack", Value: "full"}},
		Body:                  amqp10.BodyValue, Value: "hello",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := store.Message{
		SystemProperties: store.SystemProperties{To: "/devices/d1/messages/deviceBound", MessageID: "123e4567-e89b-12d3-a456-426614174000"},
		Properties:       []store.Property{{Name: "x", Value: "1"}, {Name: "iothub-ack", Value: "full"}},
		Body:             []byte("hello"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func sent(t *testing.T, payload []byte, err error) *amqp10.Message {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	m := new(amqp10.Message)
	if err := m.Decode(payload, amqp10.Limits{}); err != nil {
		t.Fatal(err)
	}
	return m
}

// Trap 5: data sections. C# drops annotations of another type than these, and throws at properties that are no strings.
func TestDeviceboundTypes(t *testing.T) {
	at := time.UnixMilli(1700000000000).UTC()
	var c composer
	payload, err := c.devicebound(store.Key{DeviceID: "d1"}, &store.Message{
		SystemProperties: store.SystemProperties{MessageID: "m", CorrelationID: "c", UserID: "u", To: "/devices/d1/messages/devicebound", ContentType: "ct",
			ContentEncoding: "ce", Expiry: at, Ack: "full"},
		Properties: []store.Property{{Name: "a", Value: "1"}, {Name: "n", Null: true}},
		Body:       []byte("hello"), Sequence: 3, Enqueued: at, DeliveryCount: 4, Abandons: 1, LockToken: "123e4567-e89b-12d3-a456-426614174000",
	})
	m := sent(t, payload, err)
	expiry := amqp10.TimestampOf(at)
	want := &amqp10.Message{
		Header: &amqp10.Header{Priority: 4, DeliveryCount: 1},
		MessageAnnotations: amqp10.Map{
			{Key: amqp10.Symbol("iothub-enqueuedtime"), Value: amqp10.TimestampOf(at)},
			{Key: amqp10.Symbol("iothub-deliverycount"), Value: uint8(1)},
			{Key: amqp10.Symbol("x-opt-sequence-number"), Value: uint64(3)},
			{Key: amqp10.Symbol("x-opt-lock-token"), Value: "123e4567-e89b-12d3-a456-426614174000"},
			{Key: amqp10.Symbol("iothub-connection-device-id"), Value: "d1"},
		},
		Properties: &amqp10.Properties{MessageID: "m", CorrelationID: "c", UserID: []byte("u"), To: "/devices/d1/messages/devicebound", ContentType: "ct",
			ContentEncoding: "ce", AbsoluteExpiryTime: &expiry},
		ApplicationProperties: amqp10.Map{{Key: "a", Value: "1"}, {Key: "n", Value: ""}, {Key: "iothub-ack", Value: "full"}},
		Body:                  amqp10.BodyData, Data: [][]byte{[]byte("hello")},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The C# SDK asks for the content type and dereferences user id and enqueued time unchecked.
func TestFeedbackMandatoryFields(t *testing.T) {
	var c composer
	payload, err := c.servicebound("iolite", serviceQueues[kindFeedback].contentType, &store.Message{Body: []byte("[]"), Enqueued: time.UnixMilli(5)})
	m := sent(t, payload, err)
	if m.Properties.ContentType != "application/vnd.microsoft.iothub.feedback.json" || string(m.Properties.UserID) != "iolite" {
		t.Errorf("properties %+v", m.Properties)
	}
	if v := m.MessageAnnotations.Get("iothub-enqueuedtime"); v != amqp10.Timestamp(5) {
		t.Errorf("iothub-enqueuedtime %v", v)
	}
	if len(m.Data) != 1 {
		t.Errorf("%d data sections", len(m.Data))
	}
}

// eh-go fails unless sequence number, offset and time have exactly these types; absent fields stay absent.
func TestEventTypes(t *testing.T) {
	at := time.UnixMilli(1700000000123).UTC()
	var w eventWriter
	payload := w.event(&store.Event{Body: []byte("b"), PartitionKey: "d1", DeviceID: "d1", GenerationID: "g", AuthMethod: "{}", Source: "Telemetry",
		Enqueued: at, Sequence: 9, Offset: 512, Properties: []store.Property{{Name: "a", Value: "1"}},
		SystemProperties: store.SystemProperties{CreationTime: "then"}}, &lastEnqueued{sequence: 11, offset: "600", enqueued: 1, retrieved: 2})
	m := sent(t, payload, nil)
	want := amqp10.Map{
		{Key: amqp10.Symbol("x-opt-sequence-number"), Value: int64(9)},
		{Key: amqp10.Symbol("x-opt-offset"), Value: "512"},
		{Key: amqp10.Symbol("x-opt-enqueued-time"), Value: amqp10.TimestampOf(at)},
		{Key: amqp10.Symbol("x-opt-partition-key"), Value: "d1"},
		{Key: amqp10.Symbol("iothub-connection-device-id"), Value: "d1"},
		{Key: amqp10.Symbol("iothub-connection-auth-method"), Value: "{}"},
		{Key: amqp10.Symbol("iothub-connection-auth-generation-id"), Value: "g"},
		{Key: amqp10.Symbol("iothub-enqueuedtime"), Value: amqp10.TimestampOf(at)},
		{Key: amqp10.Symbol("iothub-message-source"), Value: "Telemetry"},
	}
	if diff := cmp.Diff(want, m.MessageAnnotations); diff != "" {
		t.Errorf("annotations -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(amqp10.Map{{Key: "a", Value: "1"}, {Key: "iothub-creation-time-utc", Value: "then"}}, m.ApplicationProperties); diff != "" {
		t.Errorf("application properties -want +got:\n%s", diff)
	}
	if v := m.DeliveryAnnotations.Get("last_enqueued_offset"); v != "600" || len(m.DeliveryAnnotations) != 4 {
		t.Errorf("delivery annotations %v", m.DeliveryAnnotations)
	}
}

// Writers are used again and again: nothing of one message may show in the next.
func TestWritersForget(t *testing.T) {
	var w eventWriter
	w.event(&store.Event{Body: []byte("long body"), ModuleID: "m", Properties: []store.Property{{Name: "a", Value: "1"}},
		SystemProperties: store.SystemProperties{MessageID: "id", Expiry: time.UnixMilli(1)}}, &lastEnqueued{})
	m := sent(t, w.event(&store.Event{Body: []byte("b")}, nil), nil)
	if m.ApplicationProperties != nil || m.DeliveryAnnotations != nil || m.Properties.MessageID != nil || m.Properties.AbsoluteExpiryTime != nil ||
		m.MessageAnnotations.Get("iothub-connection-module-id") != nil || string(m.Data[0]) != "b" {
		t.Errorf("%+v", m)
	}
	var c composer
	_, err := c.devicebound(store.Key{DeviceID: "d", ModuleID: "m"}, &store.Message{Properties: []store.Property{{Name: "a", Value: "1"}},
		SystemProperties: store.SystemProperties{MessageID: "id", Expiry: time.UnixMilli(1)}})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := c.servicebound("iolite", serviceQueues[kindFeedback].contentType, &store.Message{Body: []byte("[]")})
	m = sent(t, payload, err)
	if m.ApplicationProperties != nil || m.Properties.MessageID != nil || m.Properties.AbsoluteExpiryTime != nil ||
		m.MessageAnnotations.Get("iothub-connection-device-id") != nil {
		t.Errorf("%+v", m)
	}
}

// Whatever an event holds, the engine's decoder reads it back from what was written.
func TestEventRoundTrip(t *testing.T) {
	word := rapid.OneOf(rapid.Just(""), rapid.StringN(1, 20, -1), rapid.StringN(250, 300, -1))
	rapid.Check(t, func(t *rapid.T) {
		e := store.Event{Body: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "body"), Sequence: rapid.Int64().Draw(t, "sequence"), Offset: rapid.Int64().Draw(t, "offset"),
			DeviceID: word.Draw(t, "device"), AuthMethod: word.Draw(t, "method"), Enqueued: time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "enqueued"))}
		s := &e.SystemProperties
		for _, field := range []*string{&s.MessageID, &s.UserID, &s.To, &s.CorrelationID, &s.ContentType, &s.ContentEncoding, &s.CreationTime, &s.OutputName} {
			*field = word.Draw(t, "field")
		}
		for i := range rapid.IntRange(0, 5).Draw(t, "properties") {
			e.Properties = append(e.Properties, store.Property{Name: fmt.Sprint(i, word.Draw(t, "name")), Value: word.Draw(t, "value")})
		}
		var w eventWriter
		var m amqp10.Message
		if err := m.Decode(w.event(&e, nil), amqp10.Limits{}); err != nil {
			t.Fatal(err)
		}
		back, err := telemetryOf(&m)
		if err != nil {
			t.Fatal(err)
		}
		want := e.Properties
		for name, value := range map[string]*string{"iothub-creation-time-utc": &s.CreationTime, "iothub-outputname": &s.OutputName} {
			if *value != "" {
				want = append(want, store.Property{Name: name, Value: *value})
			}
			*value = ""
		}
		sorted := cmpopts.SortSlices(func(a, b store.Property) bool { return a.Name < b.Name })
		if diff := cmp.Diff(want, back.Properties, sorted, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("properties -want +got:\n%s", diff)
		}
		if diff := cmp.Diff(e.SystemProperties, back.SystemProperties); diff != "" {
			t.Fatalf("system properties -want +got:\n%s", diff)
		}
		if diff := cmp.Diff(e.Body, back.Body, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("body -want +got:\n%s", diff)
		}
		if m.MessageAnnotations.Get("x-opt-sequence-number") != e.Sequence || m.MessageAnnotations.Text("x-opt-offset") != fmt.Sprint(e.Offset) {
			t.Fatalf("annotations %v", m.MessageAnnotations)
		}
	})
}

// Trap 6: C# reads the tag as a Guid, whose text is then the lock token's.
func TestLockTagIsDotnetGuid(t *testing.T) {
	tag, err := lockTag("00112233-4455-6677-8899-aabbccddeeff")
	if err != nil || hex.EncodeToString(tag[:]) != "33221100554477668899aabbccddeeff" {
		t.Fatalf("%x, %v", tag, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		guid := amqp10.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "guid")).String()
		tag, err := lockTag(guid)
		if err != nil {
			t.Fatal(err)
		}
		if back, ok := lockToken(tag[:]); !ok || back != guid {
			t.Fatalf("%s comes back as %s", guid, back)
		}
	})
	for _, bad := range []string{"", "x", strings.Repeat("0", 31), strings.Repeat("0", 33), strings.Repeat("g", 32)} {
		if _, err := lockTag(bad); err == nil {
			t.Errorf("%q is taken for a guid", bad)
		}
	}
}

// FuzzMessage: what a peer sends is refused or translated, and what was translated can be sent on.
func FuzzMessage(f *testing.F) {
	for _, m := range []*amqp10.Message{text("x"), {Properties: &amqp10.Properties{MessageID: uuid}, Body: amqp10.BodyValue, Value: "v"},
		{ApplicationProperties: amqp10.Map{{Key: "a", Value: int64(1)}}}} {
		b, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var m amqp10.Message
		if m.Decode(payload, messageLimits) != nil {
			return
		}
		var c composer
		if telemetry, err := telemetryOf(&m); err == nil {
			var w eventWriter
			sent(t, w.event(&store.Event{SystemProperties: telemetry.SystemProperties, Properties: telemetry.Properties, Body: telemetry.Body}, nil), nil)
		}
		if c2d, err := c2dOf(&m); err == nil {
			out, err := c.devicebound(store.Key{DeviceID: "d"}, &c2d)
			sent(t, out, err)
		}
	})
}
