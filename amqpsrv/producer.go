package amqpsrv

import (
	"errors"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// producer is {event hub}[/Partitions/{id}] for a peer that sends: to the event hubs beside the built-in endpoint, which is read-only.
type producer struct {
	p       *peer
	service *hub.ServiceSession
	out     *hub.EventProducer

	// Used again by every delivery: the hub keeps nothing of what it is given.
	envelope, message amqp10.Message
	events            []store.Event
}

func (p *peer) attachProducer(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	if err := p.srv.hub.HasEventHub(a.entity); err != nil {
		return nil, p.asError(err)
	}
	s, refusal := p.service(l, a.path)
	if refusal != nil {
		return nil, refusal
	}
	out, err := s.OpenProducer(p.ctx, a.entity, a.partition, p.hostname(l))
	if err != nil {
		p.leaveService(s)
		return nil, p.asError(err)
	}
	l.SetMaxMessageSize(hub.MaxPublication) // clients fill their batches up to it
	return &producer{p: p, service: s, out: out}, nil
}

// Receive implements amqp10.Receiver.
func (n *producer) Receive(l *amqp10.Link, d *amqp10.Delivery) {
	err := n.decode(d)
	if err == nil {
		err = n.out.Send(n.p.ctx, n.events...)
	}
	clear(n.events)
	n.events = n.events[:0]
	n.p.settle(d, err)
	if e := (*hub.Error)(nil); errors.As(err, &e) && e.Code == hub.CodeEntityNotFound { // deleted: whoever attaches again finds the one that has been made since
		l.Detach(n.p.asError(err))
	}
}

// Detached implements amqp10.Node.
func (n *producer) Detached(*amqp10.Link, *amqp10.Error) { n.p.leaveService(n.service) }

// decode translates the event, or all events of a batch, whose envelope may name the partition key for all.
func (n *producer) decode(d *amqp10.Delivery) error {
	switch d.Format {
	case 0:
		return n.add(d.Payload, "")
	case amqp10.BatchFormat:
	default:
		return unknownFormat(d.Format)
	}
	if err := n.envelope.Decode(d.Payload, batchLimits); err != nil {
		return badEncoding(err)
	}
	if n.envelope.Body != amqp10.BodyData {
		return badMessage("a batch consists of data sections")
	}
	key := n.envelope.MessageAnnotations.Text("x-opt-partition-key")
	for _, part := range n.envelope.Data {
		if err := n.add(part, key); err != nil {
			return err
		}
	}
	return nil
}

func (n *producer) add(payload []byte, key string) error {
	if err := n.message.Decode(payload, messageLimits); err != nil {
		return badEncoding(err)
	}
	e, err := eventOf(&n.message)
	if err != nil {
		return err
	}
	if e.PartitionKey == "" {
		e.PartitionKey = key
	}
	n.events = append(n.events, e)
	return nil
}

// eventOf translates a producer's message. Another IoT hub that routes here has stamped its messages, and that is kept.
func eventOf(m *amqp10.Message) (store.Event, error) {
	t, err := telemetryOf(m)
	if err != nil {
		return store.Event{}, err
	}
	e := store.Event{SystemProperties: t.SystemProperties, Properties: t.Properties, Body: t.Body}
	for _, a := range m.MessageAnnotations {
		key, _ := a.Key.(amqp10.Symbol)
		if field := stamped(&e, key); field != nil {
			*field, _ = a.Value.(string)
		}
	}
	return e, nil
}

// stamped returns where an annotation belongs that an IoT hub stamps on its messages, nil for others.
func stamped(e *store.Event, key amqp10.Symbol) *string {
	switch key {
	case "x-opt-partition-key":
		return &e.PartitionKey
	case "iothub-connection-device-id":
		return &e.DeviceID
	case "iothub-connection-module-id":
		return &e.ModuleID
	case "iothub-connection-auth-method":
		return &e.AuthMethod
	case "iothub-connection-auth-generation-id":
		return &e.GenerationID
	case "iothub-message-source":
		return &e.Source
	case "dt-dataschema":
		return &e.ModelID
	}
	return nil
}
