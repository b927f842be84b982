package hub

import (
	"context"
	"sync/atomic"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// MaxPublication is the largest event, or batch of events, that a producer may send, in bytes as encoded (article "Azure Event Hubs
// quotas and limits": 1 MB).
const MaxPublication = 1 << 20

// EventProducer stores events in an event hub beside the built-in endpoint, which takes nothing but what devices send.
type EventProducer struct {
	session   *ServiceSession
	eventHub  *eventHub
	partition int // -1: by partition key, or in turn
}

// turns deals out batches without a partition key.
var turns atomic.Uint32

// OpenProducer begins to send to one partition of an event hub, or to all for the empty id. ServiceConnect. CodeEntityNotFound,
// CodePartitionOutOfRange; CodeSendClaimRequired for the built-in endpoint: host is how the peer calls us.
func (s *ServiceSession) OpenProducer(ctx context.Context, eventHub, partition, host string) (*EventProducer, error) {
	e, err := s.hub.findEventHub(eventHub)
	if err != nil {
		return nil, err
	}
	path, number := e.name, -1
	if partition != "" {
		if number, err = e.partition(partition); err != nil {
			return nil, err
		}
		path += "/Partitions/" + partition
	}
	if err := s.need(ctx, auth.ServiceConnect, path); err != nil {
		return nil, err
	}
	if e == s.hub.builtIn {
		return nil, s.hub.NewError(CodeSendClaimRequired, "sb://"+host+"/"+path)
	}
	return &EventProducer{session: s, eventHub: e, partition: number}, nil
}

// Send stores events in one partition, all or none: the one that the producer was opened for, or that of the partition key of the
// first event, or any. It stamps them with the time alone. CodeEntityNotFound when the event hub was deleted, CodeClosed after a reset.
func (p *EventProducer) Send(ctx context.Context, events ...store.Event) error {
	if err := p.session.live(); err != nil {
		return err
	}
	if len(events) == 0 {
		return nil
	}
	now := p.session.hub.clock.Now()
	for i := range events {
		events[i].Enqueued = now
	}
	return p.store(ctx, p.choose(&events[0]), events)
}

func (p *EventProducer) choose(first *store.Event) int {
	n := p.eventHub.log.Partitions()
	switch {
	case p.partition >= 0:
		return p.partition
	case first.PartitionKey != "":
		return PartitionOf(first.PartitionKey, n)
	}
	return int(turns.Add(1)) % n
}

// store appends unless the event hub is gone or the hub was reset since the session began. Any gate keeps a reset out.
func (p *EventProducer) store(ctx context.Context, partition int, events []store.Event) error {
	h := p.session.hub
	gate := partition % len(h.gates)
	era := p.session.era
	if p.session.lasting {
		era = h.era.Load()
	}
	if !h.enter(gate, era) {
		return h.NewError(CodeClosed)
	}
	defer h.leave(gate)
	if e, err := h.findEventHub(p.eventHub.name); err != nil || e != p.eventHub {
		return p.eventHub.deleted()
	}
	return p.eventHub.append(ctx, partition, events...)
}
