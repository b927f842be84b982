package amqpsrv

import (
	"sync"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// maxTelemetry is announced on telemetry links, in bytes of encoded messages. Trap 9: the C SDK sends nothing when it is not
// announced, takes 1024 off and fills its batches up to the rest, which must fit the hub's limit of 256 KiB. What counts for
// that limit is less than the encoding, so the hub has the last word.
const maxTelemetry = 256<<10 + 1024

// telemetry is /devices/{d}[/modules/{m}]/messages/events for a device that sends.
type telemetry struct {
	p        *peer
	unit     *unit
	gathered *gathered // nil when nothing waits to be stored
}

// gathered are messages that are about to be stored. Their texts and bodies are in the payloads of their deliveries.
type gathered struct {
	plain      plain
	messages   []hub.Telemetry
	properties []store.Property
	deliveries []*amqp10.Delivery // one for each of the messages, unless they are a batch
}

var gatherings = sync.Pool{New: func() any { return new(gathered) }}

func (p *peer) attachTelemetry(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	u, err := p.join(l, a.key)
	if err != nil {
		return nil, err
	}
	l.SetMaxMessageSize(maxTelemetry)
	l.LendDeliveries()
	return &telemetry{p: p, unit: u}, nil
}

// Receive implements amqp10.Receiver. Messages that come together are stored together; a batch (trap 13: the C SDK sends nothing else) is
// stored by itself, all of it or nothing.
func (t *telemetry) Receive(l *amqp10.Link, d *amqp10.Delivery) {
	if d.Format == amqp10.BatchFormat {
		t.Gathered(l)
		t.p.settle(d, t.storeBatch(d.Payload))
		return
	}
	if t.gathered == nil {
		t.gathered = gatherings.Get().(*gathered)
	}
	if err := t.gathered.take(d); err != nil {
		t.Gathered(l) // so that outcomes are in order
		t.p.settle(d, err)
	}
}

// Gathered implements amqp10.Gatherer: accepted is said only when the hub has stored the message.
func (t *telemetry) Gathered(*amqp10.Link) {
	g := t.gathered
	if g == nil {
		return
	}
	t.gathered = nil
	defer g.release()
	messages, deliveries := g.messages, g.deliveries
	for len(deliveries) > 0 {
		n, err := t.unit.session.SendEach(t.p.ctx, messages...)
		for _, d := range deliveries[:n] {
			d.Accept()
		}
		if err != nil {
			t.p.settle(deliveries[n], err)
			n++
		}
		messages, deliveries = messages[n:], deliveries[n:]
	}
}

func (t *telemetry) storeBatch(payload []byte) error {
	g := gatherings.Get().(*gathered)
	defer g.release()
	if err := g.batch(payload); err != nil {
		return err
	}
	return t.unit.session.SendTelemetry(t.p.ctx, g.messages...)
}

// Detached implements amqp10.Node. What has been gathered is forgotten, and was not accepted.
func (t *telemetry) Detached(l *amqp10.Link, _ *amqp10.Error) {
	if t.gathered != nil {
		t.gathered.release()
		t.gathered = nil
	}
	t.p.part(t.unit, l)
}

// take adds the message of a delivery.
func (g *gathered) take(d *amqp10.Delivery) error {
	if d.Format != 0 {
		return unknownFormat(d.Format)
	}
	if err := g.add(d.Payload); err != nil {
		return err
	}
	g.deliveries = append(g.deliveries, d)
	return nil
}

// batch adds the messages of a batch.
func (g *gathered) batch(payload []byte) error {
	parts, err := amqp10.SplitBatch(payload, batchLimits)
	if err != nil {
		return badEncoding(err)
	}
	for _, part := range parts {
		if err := g.add(part); err != nil {
			return err
		}
	}
	return nil
}

// add adds a message, unless it is none.
func (g *gathered) add(payload []byte) error {
	n := len(g.messages)
	g.messages = append(g.messages, hub.Telemetry{})
	m := &g.messages[n]
	var ok bool
	if g.properties, ok = g.plain.telemetry(payload, m, g.properties); ok {
		return nil
	}
	var message amqp10.Message
	err := message.Decode(payload, messageLimits)
	if err != nil {
		err = badEncoding(err)
	} else {
		*m, err = telemetryOf(&message)
	}
	if err != nil {
		*m = hub.Telemetry{}
		g.messages = g.messages[:n]
	}
	return err
}

// release gives the memory back, unless it is what only a large batch needs.
func (g *gathered) release() {
	if cap(g.messages) > 64 || cap(g.properties) > 256 {
		return
	}
	g.forget()
	gatherings.Put(g)
}

// forget lets go of the payloads, which were lent.
func (g *gathered) forget() {
	g.plain = plain{}
	clear(g.messages)
	clear(g.properties)
	clear(g.deliveries)
	g.messages, g.properties, g.deliveries = g.messages[:0], g.properties[:0], g.deliveries[:0]
}
