package amqpsrv

import (
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
	p    *peer
	unit *unit

	// Used again by every delivery: the hub keeps nothing of what it is given.
	plain      plain
	messages   []hub.Telemetry
	properties []store.Property
}

func (p *peer) attachTelemetry(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	u, err := p.join(l, a.key)
	if err != nil {
		return nil, err
	}
	l.SetMaxMessageSize(maxTelemetry)
	l.LendDeliveries()
	return &telemetry{p: p, unit: u}, nil
}

// Receive implements amqp10.Receiver: accepted is said only when the hub has stored the message.
func (t *telemetry) Receive(_ *amqp10.Link, d *amqp10.Delivery) {
	messages, err := t.decode(d)
	if err == nil {
		err = t.unit.session.SendTelemetry(t.p.ctx, messages...)
	}
	t.forget()
	t.p.settle(d, err)
}

// forget lets go of the payload, which was lent, and of memory that only a large batch needs.
func (t *telemetry) forget() {
	t.plain = plain{}
	clear(t.messages)
	clear(t.properties)
	if cap(t.messages) > 64 || cap(t.properties) > 256 {
		t.messages, t.properties = nil, nil
	}
}

// Detached implements amqp10.Node.
func (t *telemetry) Detached(l *amqp10.Link, _ *amqp10.Error) { t.p.part(t.unit, l) }

// decode translates the message, or all messages of a batch (trap 13: the C SDK sends nothing else).
func (t *telemetry) decode(d *amqp10.Delivery) ([]hub.Telemetry, error) {
	t.messages, t.properties = t.messages[:0], t.properties[:0]
	switch d.Format {
	case 0:
		return t.add(d.Payload)
	case amqp10.BatchFormat:
		return t.batch(d.Payload)
	}
	return nil, unknownFormat(d.Format)
}

func (t *telemetry) batch(payload []byte) ([]hub.Telemetry, error) {
	parts, err := amqp10.SplitBatch(payload, batchLimits)
	if err != nil {
		return nil, badEncoding(err)
	}
	for _, part := range parts {
		if _, err := t.add(part); err != nil {
			return nil, err
		}
	}
	return t.messages, nil
}

func (t *telemetry) add(payload []byte) ([]hub.Telemetry, error) {
	t.messages = append(t.messages, hub.Telemetry{})
	m := &t.messages[len(t.messages)-1]
	if properties, ok := t.plain.telemetry(payload, m, t.properties); ok {
		t.properties = properties
		return t.messages, nil
	}
	var message amqp10.Message
	if err := message.Decode(payload, messageLimits); err != nil {
		return nil, badEncoding(err)
	}
	var err error
	*m, err = telemetryOf(&message)
	return t.messages, err
}
