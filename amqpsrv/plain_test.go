package amqpsrv

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// samples are encoded messages, and whether the fast way takes them.
func samples(t testing.TB) map[string]struct {
	payload []byte
	plain   bool
} {
	expiry := amqp10.Timestamp(1700000000000)
	long := make([]byte, 300)
	encode := func(m *amqp10.Message) []byte {
		b, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	full := typical()
	full.Properties.UserID, full.Properties.To, full.Properties.CorrelationID, full.Properties.AbsoluteExpiryTime, full.Properties.CreationTime =
		[]byte("u"), "/devices/d1/messages/events", "c", &expiry, &expiry
	full.MessageAnnotations = amqp10.Map{{Key: amqp10.Symbol("dt-subject"), Value: "comp"}, {Key: amqp10.Symbol("x-other"), Value: "x"}}
	full.ApplicationProperties = append(full.ApplicationProperties, amqp10.Entry{Key: "null", Value: nil}, amqp10.Entry{Key: "long", Value: string(long)})
	number := typical()
	number.ApplicationProperties[0].Value = int32(1)
	uuidID := typical()
	uuidID.Properties.MessageID = uuid
	two := typical()
	two.Data = append(two.Data, []byte("more"))
	header := typical()
	header.Header = &amqp10.Header{Durable: true, Priority: 4}
	return map[string]struct {
		payload []byte
		plain   bool
	}{
		"typical": {encode(typical()), true},
		"full":    {encode(full), true},
		"body":    {encode(text("x")), true},
		"nothing": {nil, true},
		"number":  {encode(number), false},
		"uuid":    {encode(uuidID), false},
		"two":     {encode(two), false},
		"header":  {encode(header), false},
		"value":   {encode(&amqp10.Message{Body: amqp10.BodyValue, Value: "x"}), false},
		"broken":  {encode(full)[:100], false},
	}
}

// both reads a payload both ways and compares.
func both(t *testing.T, payload []byte) (fast bool) {
	t.Helper()
	var r plain
	var got hub.Telemetry
	properties, fast := r.telemetry(payload, &got, []store.Property{{Name: "of another message"}})
	if !fast {
		return false
	}
	if len(properties) != 1+len(got.Properties) {
		t.Errorf("%d properties for %d", len(properties), len(got.Properties))
	}
	var m amqp10.Message
	if err := m.Decode(payload, messageLimits); err != nil {
		t.Fatalf("taken, but the decoder says: %v", err)
	}
	want, err := telemetryOf(&m)
	if err != nil {
		t.Fatalf("taken, but the translation says: %v", err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-slow +fast:\n%s", diff)
	}
	return true
}

func TestPlainAgreesWithDecoder(t *testing.T) {
	for name, c := range samples(t) {
		if fast := both(t, c.payload); fast != c.plain {
			t.Errorf("%s: taken %v", name, fast)
		}
	}
}

// FuzzPlain: what is read the fast way reads the same the slow way.
func FuzzPlain(f *testing.F) {
	for _, c := range samples(f) {
		f.Add(c.payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) { both(t, payload) })
}

// A typical message costs no allocation between the engine and the hub.
func TestPlainAllocatesNothing(t *testing.T) {
	payload, err := typical().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	var g gathered
	d := &amqp10.Delivery{Payload: payload}
	if n := testing.AllocsPerRun(100, func() {
		if err := g.take(d); err != nil {
			t.Fatal(err)
		}
		g.forget()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
