package amqpsrv

import (
	"testing"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
	"time"
)

// typical is a message as an SDK sends it: 256 bytes of JSON, an id, content type and encoding, two properties.
func typical() *amqp10.Message {
	return &amqp10.Message{
		Properties:            &amqp10.Properties{MessageID: "123e4567-e89b-12d3-a456-426614174000", ContentType: "application/json", ContentEncoding: "utf-8"},
		ApplicationProperties: amqp10.Map{{Key: "temperatureAlert", Value: "false"}, {Key: "level", Value: "normal"}},
		Body:                  amqp10.BodyData, Data: [][]byte{make([]byte, 256)},
	}
}

// BenchmarkTelemetryTranslation is what a message costs between the engine and the hub.
func BenchmarkTelemetryTranslation(b *testing.B) {
	payload, err := typical().Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	var g gathered
	d := &amqp10.Delivery{Payload: payload}
	b.ReportAllocs()
	for b.Loop() {
		if err := g.take(d); err != nil {
			b.Fatal(err)
		}
		g.forget()
	}
}

// BenchmarkTelemetryStored adds the hub.
func BenchmarkTelemetryStored(b *testing.B) {
	r := newRig(b, rigOptions{})
	key := r.device("d1")
	p, err := r.hub.Authenticate(r.ctx(), hub.Credential{Token: r.deviceToken(key, time.Hour)}, store.Key{})
	r.must(err)
	session, err := r.hub.OpenDevice(r.ctx(), p, key, hub.DeviceOptions{})
	r.must(err)
	payload, err := typical().Append(nil)
	r.must(err)
	var g gathered
	d := &amqp10.Delivery{Payload: payload}
	b.ReportAllocs()
	for b.Loop() {
		if err := g.take(d); err != nil {
			b.Fatal(err)
		}
		if _, err := session.SendEach(b.Context(), g.messages...); err != nil {
			b.Fatal(err)
		}
		g.forget()
	}
}

// BenchmarkEventEncoding is what one event costs for one reader, before the engine.
func BenchmarkEventEncoding(b *testing.B) {
	e := store.Event{
		SystemProperties: store.SystemProperties{MessageID: "123e4567-e89b-12d3-a456-426614174000", ContentType: "application/json", ContentEncoding: "utf-8", To: "/devices/d1/messages/events"},
		Properties:       []store.Property{{Name: "temperatureAlert", Value: "false"}, {Name: "level", Value: "normal"}},
		Body:             make([]byte, 256), PartitionKey: "d1", DeviceID: "d1", GenerationID: "638000000000000000", Source: "Telemetry",
		AuthMethod: `{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`, Enqueued: time.UnixMilli(1700000000000), Sequence: 1 << 20, Offset: 1 << 30,
	}
	var w eventWriter
	b.ReportAllocs()
	for b.Loop() {
		w.event(&e, nil)
	}
}

// BenchmarkTelemetryWire sends from a client that writes 16 transfers at once and waits until all are settled; the client's part
// of the time is small.
func BenchmarkTelemetryWire(b *testing.B) {
	const inFlight = 16
	r := newRig(b, rigOptions{})
	key := r.device("d1")
	c := rawOpen(b, r.dial(), 65536)
	c.put(r, key)
	c.attachSender(0, "telemetry", 2, "/devices/d1/messages/events")
	r.must(c.conn.SetDeadline(time.Time{}))
	payload, err := typical().Append(nil)
	r.must(err)
	id := uint32(1)
	b.ReportAllocs()
	for b.Loop() {
		var burst []byte
		for range inFlight {
			burst = append(burst, c.frame(0, performTransfer, payload, uint32(2), id, []byte{1}, uint32(0), false)...)
			id++
		}
		c.write(burst)
		for !c.settledTo(id - 1) {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/inFlight, "ns/msg")
}
