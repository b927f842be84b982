package amqpsrv

import (
	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// c2dSender is /messages/devicebound: a service sends messages to devices, each named in the message's to.
type c2dSender struct {
	p       *peer
	service *hub.ServiceSession
	message amqp10.Message
}

func (p *peer) attachC2D(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	s, err := p.service(l, a.path)
	if err != nil {
		return nil, err
	}
	return &c2dSender{p: p, service: s}, nil
}

// Receive implements amqp10.Receiver.
func (n *c2dSender) Receive(_ *amqp10.Link, d *amqp10.Delivery) { n.p.settle(d, n.send(d)) }

// Detached implements amqp10.Node.
func (n *c2dSender) Detached(*amqp10.Link, *amqp10.Error) { n.p.leaveService(n.service) }

func (n *c2dSender) send(d *amqp10.Delivery) error {
	if d.Format != 0 {
		return unknownFormat(d.Format)
	}
	if err := n.message.Decode(d.Payload, messageLimits); err != nil {
		return badEncoding(err)
	}
	m, err := c2dOf(&n.message)
	if err != nil {
		return err
	}
	return n.service.SendC2D(n.p.ctx, m)
}
