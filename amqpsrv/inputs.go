package amqpsrv

import "github.com/iolite-emulator/iolite/amqp10"

// inputs is /devices/{d}/modules/{m}/messages/events for a module that receives. What comes in at a module's inputs is routed there by an
// edge hub, never by IoT Hub itself: nothing is ever sent. The link stands all the same, as it does over MQTT, since SDKs attach it when
// an application listens, and Node gives the whole connection up when it is refused.
type inputs struct {
	p    *peer
	unit *unit
}

func (p *peer) attachInputs(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	if a.key.ModuleID == "" { // devices have no inputs
		return p.refuse(l, a)
	}
	u, err := p.join(l, a.key)
	if err != nil {
		return nil, err
	}
	return &inputs{p: p, unit: u}, nil
}

// Flow implements amqp10.Sender: there is nothing to send.
func (*inputs) Flow(l *amqp10.Link, _ uint32, drain bool) {
	if drain {
		l.Drained()
	}
}

// Settled implements amqp10.Sender.
func (*inputs) Settled(*amqp10.Link, uint32, []byte, amqp10.DeliveryState, bool) {}

// Detached implements amqp10.Node.
func (n *inputs) Detached(l *amqp10.Link, _ *amqp10.Error) { n.p.part(n.unit, l) }
