package amqpsrv

import (
	"context"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/store"
)

// devicebound is /devices/{d}[/modules/{m}]/messages/devicebound: a device receives its messages.
type devicebound struct {
	p    *peer
	unit *unit
}

func (p *peer) attachDevicebound(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	u, refusal := p.join(l, a.key)
	if refusal != nil {
		return nil, refusal
	}
	n := &pushed{p: p, link: l, queue: &devicebound{p: p, unit: u}}
	sub, err := u.session.SubscribeC2D(n.deliver)
	if err != nil {
		p.part(u, l)
		return nil, p.render(err)
	}
	n.sub = sub
	if u.bound != nil { // the hub delivers to the newest subscription alone
		u.bound.link.Detach(&amqp10.Error{Condition: amqp10.CondStolen, Description: "A newer link of the same device receives its messages."})
	}
	u.bound = n
	return n, nil
}

func (q *devicebound) encode(c *composer, m *store.Message) ([]byte, error) {
	return c.devicebound(q.unit.key, m)
}

func (q *devicebound) complete(ctx context.Context, lockToken string) error {
	return q.unit.session.CompleteC2D(ctx, lockToken)
}

func (q *devicebound) abandon(ctx context.Context, lockToken string) error {
	return q.unit.session.AbandonC2D(ctx, lockToken)
}

func (q *devicebound) reject(ctx context.Context, lockToken string) error {
	return q.unit.session.RejectC2D(ctx, lockToken)
}

func (q *devicebound) gone(l *amqp10.Link) {
	if q.unit.bound != nil && q.unit.bound.link == l {
		q.unit.bound = nil
	}
	q.p.part(q.unit, l)
}
