package amqp10

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func anyMessage() *rapid.Generator[*Message] {
	return rapid.Custom(func(t *rapid.T) *Message {
		value := anyValue(1)
		m := new(Message)
		if rapid.Bool().Draw(t, "header") {
			m.Header = &Header{Durable: rapid.Bool().Draw(t, "durable"), Priority: rapid.Byte().Draw(t, "priority"), DeliveryCount: rapid.Uint32().Draw(t, "count")}
		}
		maps := []*Map{&m.DeliveryAnnotations, &m.MessageAnnotations, &m.ApplicationProperties, &m.Footer}
		for _, section := range maps {
			*section = anyMap(value).Draw(t, "section")
			if len(*section) == 0 {
				*section = nil
			}
		}
		if rapid.Bool().Draw(t, "properties") {
			ids := rapid.SampledFrom([]any{nil, uint64(1), UUID{1}, []byte("id"), "id", ""})
			now := Timestamp(rapid.Int64().Draw(t, "time"))
			seq := rapid.Uint32().Draw(t, "sequence")
			m.Properties = &Properties{
				MessageID: ids.Draw(t, "id"), CorrelationID: ids.Draw(t, "correlation"), To: rapid.String().Draw(t, "to"),
				ContentType: rapid.String().Draw(t, "type"), AbsoluteExpiryTime: &now, GroupSequence: &seq,
			}
		}
		switch m.Body = BodyKind(rapid.IntRange(0, 3).Draw(t, "body")); m.Body {
		case BodyData:
			m.Data = rapid.SliceOfN(rapid.SliceOf(rapid.Byte()), 1, 3).Draw(t, "data")
		case BodySequence:
			m.Sequences = []List{{value.Draw(t, "element")}, {}}
		case BodyValue:
			m.Value = value.Draw(t, "value")
		}
		return m
	})
}

func TestMessagesSurviveTheirEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMessage().Draw(t, "message")
		b, err := m.Append([]byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		var got Message
		if err := got.Decode(b[len("before"):], Limits{}); err != nil {
			t.Fatal(err)
		}
		again, err := got.Append([]byte("before"))
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%+v became %+v, %v", m, got, err)
		}
	})
}

// TestAgreesWithAnotherCodec: go-amqp reads what we write and we read what it writes.
func TestAgreesWithAnotherCodec(t *testing.T) {
	theirs := &amqp.Message{
		Header:              &amqp.MessageHeader{Durable: true, Priority: 4, TTL: 1500 * time.Millisecond, DeliveryCount: 3},
		DeliveryAnnotations: amqp.Annotations{"d": int64(1)},
		Annotations:         amqp.Annotations{"x-opt-enqueued-time": time.UnixMilli(1700000000123).UTC()},
		Properties: &amqp.MessageProperties{
			MessageID: amqp.UUID{1, 2, 3}, CorrelationID: uint64(77), UserID: []byte("me"), To: ptr("to"), Subject: ptr("s"), ReplyTo: ptr("r"),
			ContentType: ptr("application/json"), ContentEncoding: ptr("utf-8"), AbsoluteExpiryTime: ptr(time.UnixMilli(1800000000000).UTC()),
			CreationTime: ptr(time.UnixMilli(-5).UTC()), GroupID: ptr("g"), GroupSequence: ptr(uint32(9)), ReplyToGroupID: ptr("rg"),
		},
		ApplicationProperties: map[string]any{"k": "v"},
		Data:                  [][]byte{[]byte("one"), []byte("two")},
		Footer:                amqp.Annotations{"f": true},
	}
	expiry, created := Timestamp(1800000000000), Timestamp(-5)
	ours := &Message{
		Header:              &Header{Durable: true, Priority: 4, TTL: ptr(uint32(1500)), DeliveryCount: 3},
		DeliveryAnnotations: Map{{Symbol("d"), int64(1)}},
		MessageAnnotations:  Map{{Symbol("x-opt-enqueued-time"), Timestamp(1700000000123)}},
		Properties: &Properties{
			MessageID: UUID{1, 2, 3}, CorrelationID: uint64(77), UserID: []byte("me"), To: "to", Subject: "s", ReplyTo: "r",
			ContentType: "application/json", ContentEncoding: "utf-8", AbsoluteExpiryTime: &expiry,
			CreationTime: &created, GroupID: "g", GroupSequence: ptr(uint32(9)), ReplyToGroupID: "rg",
		},
		ApplicationProperties: Map{{"k", "v"}},
		Body:                  BodyData,
		Data:                  [][]byte{[]byte("one"), []byte("two")},
		Footer:                Map{{Symbol("f"), true}},
	}
	b, err := theirs.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var got Message
	if err := got.Decode(b, Limits{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ours, &got); diff != "" {
		t.Errorf("theirs read by us (-want +got):\n%s", diff)
	}
	if b, err = ours.Append(nil); err != nil {
		t.Fatal(err)
	}
	var back amqp.Message
	if err := back.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	opts := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".rcvr" || p.Last().String() == ".deliveryID" }, cmp.Ignore())
	if diff := cmp.Diff(fmt.Sprintf("%+v", theirs.Properties.MessageID), fmt.Sprintf("%+v", back.Properties.MessageID), opts); diff != "" {
		t.Error(diff)
	}
	if *back.Properties.To != "to" || !back.Properties.CreationTime.Equal(time.UnixMilli(-5)) || string(back.Data[1]) != "two" ||
		back.Header.TTL != 1500*time.Millisecond || back.Footer["f"] != true || back.Annotations["x-opt-enqueued-time"] == nil {
		t.Errorf("ours read by them: %+v", back)
	}
}

func ptr[T any](v T) *T { return &v }

func TestMessageSections(t *testing.T) {
	tests := map[string]struct {
		hex string
		ok  bool
	}{
		"empty":                    {"", true},
		"no body":                  {"005370 45", true},
		"all in order":             {"005370 45 005371 c10100 005372 c10100 005373 45 005374 c10100 005375 a000 005378 c10100", true},
		"header twice":             {"005370 45 005370 45", false},
		"out of order":             {"005373 45 005372 c10100", false},
		"two values":               {"005377 40 005377 40", false},
		"data and value":           {"005375 a000 005377 40", false},
		"sequence and data":        {"005376 45 005375 a000", false},
		"sequences":                {"005376 45 005376 c00201 40", true},
		"sequence that is a map":   {"005376 c10100", false},
		"unknown section":          {"005379 45", false},
		"symbolic descriptors":     {"00a311 616d71703a6170706c69636174696f6e 40", false},
		"symbolic data":            {"00a310 616d71703a646174613a62696e617279 a00161", true},
		"not described":            {"a00161", false},
		"long properties":          {"005373 d0 00000012 0000000e 40404040404040404040404040 40", true}, // 14 fields, one more than we know
		"id of a foreign type":     {"005373 c00301 4141", false},
		"small id":                 {"005373 c00301 5209", true},
		"expiry as a long":         {"005373 c00b09 4040404040404040 5505", true},
		"null sections":            {"005372 40 005374 40", true},
		"data that is a string":    {"005375 a10161", true},
		"properties cut":           {"005373 c00801 a10961", false},
		"annotations without pair": {"005372 c10201 40", false},
	}
	for name, tt := range tests {
		var m Message
		if err := m.Decode(unhex(t, tt.hex), Limits{}); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBodyBytes(t *testing.T) {
	tests := []struct {
		m    Message
		want string
		ok   bool
	}{
		{Message{Body: BodyData, Data: [][]byte{[]byte("a")}}, "a", true},
		{Message{Body: BodyData, Data: [][]byte{[]byte("a"), []byte("b")}}, "ab", true},
		{Message{Body: BodyValue, Value: "s"}, "s", true},
		{Message{Body: BodyValue, Value: []byte("b")}, "b", true},
		{Message{Body: BodyValue, Value: Symbol("y")}, "y", true},
		{Message{Body: BodyValue, Value: int32(1)}, "", false},
		{Message{Body: BodySequence}, "", false},
		{Message{}, "", false},
	}
	for _, tt := range tests {
		if b, ok := tt.m.Bytes(); string(b) != tt.want || ok != tt.ok {
			t.Errorf("%+v: %q, %v", tt.m, b, ok)
		}
	}
}

// TestBatch: Azure's batches hold whole messages in data sections.
func TestBatch(t *testing.T) {
	env := &Message{MessageAnnotations: Map{{Symbol("x-opt-partition-key"), "p"}}, ApplicationProperties: Map{{"fault", "x"}}, Body: BodyData}
	for i := range 3 {
		env.Data = append(env.Data, encode(t, fmt.Sprint(i)))
	}
	payload, err := env.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := SplitBatch(payload, Limits{})
	if err != nil || len(parts) != 3 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	var got Message
	if err := got.Decode(payload, Limits{}); err != nil {
		t.Fatal(err)
	}
	i := 0
	for m, err := range got.Batched(Limits{}) {
		if err != nil || string(m.Data[0]) != fmt.Sprint(i) || !bytes.Equal(parts[i], got.Data[i]) {
			t.Fatalf("message %d: %+v, %v", i, m, err)
		}
		i++
	}
	if i != 3 {
		t.Errorf("%d messages", i)
	}
	for name, bad := range map[string][]byte{
		"no sections": nil, "a value": unhex(t, "005377 40"), "cut": payload[:len(payload)-1], "garbage": []byte("garbage"), "only annotations": unhex(t, "005372 c10100"),
	} {
		if _, err := SplitBatch(bad, Limits{}); err == nil {
			t.Errorf("%s: split", name)
		}
	}
	if _, err := SplitBatch(payload, Limits{Values: 2}); err != errCount {
		t.Errorf("more messages than allowed: %v", err)
	}
	got.Data[1] = []byte("garbage")
	n := 0
	for _, err := range got.Batched(Limits{}) {
		if n++; n == 2 && err == nil {
			t.Error("garbage was decoded")
		}
	}
	if n != 2 {
		t.Errorf("%d steps, want the iteration to stop at the error", n)
	}
}

// TestDecodedValuesDoNotOverlap: appending to one value must not write into the next.
func TestDecodedValuesDoNotOverlap(t *testing.T) {
	m := &Message{Body: BodyData, Data: [][]byte{[]byte("one"), []byte("two")}, MessageAnnotations: Map{{Symbol("b"), []byte("bin")}}}
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got Message
	if err := got.Decode(b, Limits{}); err != nil {
		t.Fatal(err)
	}
	_ = append(got.Data[0], "XXXXXXXX"...)
	_ = append(got.MessageAnnotations[0].Value.([]byte), "XXXXXXXX"...)
	if string(got.Data[1]) != "two" || string(got.Data[0]) != "one" {
		t.Errorf("data is %q", got.Data)
	}
}
