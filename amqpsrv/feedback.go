package amqpsrv

import (
	"context"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// feedback is /messages/servicebound/feedback: a service receives what became of its messages. Several links compete for the
// one queue.
type feedback struct {
	p       *peer
	service *hub.ServiceSession
}

func (p *peer) attachFeedback(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	s, refusal := p.service(l, a.path)
	if refusal != nil {
		return nil, refusal
	}
	n := &pushed{p: p, link: l, queue: &feedback{p: p, service: s}}
	sub, err := s.SubscribeFeedback(n.deliver)
	if err != nil {
		p.leaveService(s)
		return nil, render(p.log, err)
	}
	n.sub = sub
	return n, nil
}

func (q *feedback) encode(c *composer, m *store.Message) ([]byte, error) {
	return c.feedback(q.p.srv.hub.Name(), m)
}

func (q *feedback) complete(ctx context.Context, lockToken string) error {
	return q.service.CompleteFeedback(ctx, lockToken)
}

func (q *feedback) abandon(ctx context.Context, lockToken string) error {
	return q.service.AbandonFeedback(ctx, lockToken)
}

// reject removes the batch: feedback has no dead letters, and a batch that a service refuses must not come again.
func (q *feedback) reject(ctx context.Context, lockToken string) error {
	return q.service.CompleteFeedback(ctx, lockToken)
}

func (q *feedback) gone(*amqp10.Link) { q.p.leaveService(q.service) }
