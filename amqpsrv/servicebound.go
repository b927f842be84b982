package amqpsrv

import (
	"context"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// serviceQueue is a queue from the hub to back ends. Several links compete for the one queue.
type serviceQueue struct {
	contentType string // that the C# SDK insists on
	subscribe   func(s *hub.ServiceSession, deliver func(store.Message) bool) (*hub.Subscription, error)
	complete    settlement
	abandon     settlement
}

type settlement func(s *hub.ServiceSession, ctx context.Context, lockToken string) error

// serviceQueues are the nodes below /messages/servicebound/.
var serviceQueues = map[kind]*serviceQueue{
	kindFeedback: {
		"application/vnd.microsoft.iothub.feedback.json", (*hub.ServiceSession).SubscribeFeedback,
		(*hub.ServiceSession).CompleteFeedback, (*hub.ServiceSession).AbandonFeedback,
	},
	kindFileNotifications: {
		"application/vnd.microsoft.iothub.filenotification.json", (*hub.ServiceSession).SubscribeFileNotifications,
		(*hub.ServiceSession).CompleteFileNotification, (*hub.ServiceSession).AbandonFileNotification,
	},
}

// servicebound is one link's share of such a queue.
type servicebound struct {
	*serviceQueue
	p       *peer
	service *hub.ServiceSession
}

func (p *peer) attachServicebound(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	s, refusal := p.service(l, a.path)
	if refusal != nil {
		return nil, refusal
	}
	q := serviceQueues[a.kind]
	n := &pushed{p: p, link: l, queue: servicebound{q, p, s}}
	sub, err := q.subscribe(s, n.deliver)
	if err != nil {
		p.leaveService(s)
		return nil, p.render(err)
	}
	n.sub = sub
	return n, nil
}

func (q servicebound) encode(c *composer, m *store.Message) ([]byte, error) {
	return c.servicebound(q.p.srv.hub.Name(), q.contentType, m)
}

func (q servicebound) complete(ctx context.Context, lockToken string) error {
	return q.serviceQueue.complete(q.service, ctx, lockToken)
}

func (q servicebound) abandon(ctx context.Context, lockToken string) error {
	return q.serviceQueue.abandon(q.service, ctx, lockToken)
}

// reject removes the message: these queues have no dead letters, and what a service refuses must not come again.
func (q servicebound) reject(ctx context.Context, lockToken string) error {
	return q.complete(ctx, lockToken)
}

func (q servicebound) gone(*amqp10.Link) { q.p.leaveService(q.service) }
