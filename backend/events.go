package backend

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/go-amqp"
	"golang.org/x/sync/errgroup"
)

// eventCredit is how many events each partition may be ahead of us.
const eventCredit = 100

// EventSource says what to read.
type EventSource struct {
	EventHub string // [the built-in endpoint]
	Group    string // consumer group [$Default]
	All      bool   // begin with the oldest event kept instead of with the next
}

// Events is EventsOf for the built-in endpoint and $Default.
func (b *Backend) Events(ctx context.Context, all bool, started func(), each func(partition string, m *amqp.Message) error) error {
	return b.EventsOf(ctx, EventSource{All: all}, started, each)
}

// EventsOf calls each for every event of every partition, until ctx ends or each fails. started is called once all partitions are being
// read. Calls of each do not overlap within a partition only.
func (b *Backend) EventsOf(ctx context.Context, from EventSource, started func(), each func(partition string, m *amqp.Message) error) error {
	if from.EventHub == "" {
		from.EventHub = b.info.Hub
	}
	if from.Group == "" {
		from.Group = "$Default"
	}
	conn, err := b.openService(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	partitions, err := partitionsOf(ctx, conn, from.EventHub)
	if err != nil {
		return err
	}
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	readers := make([]*amqp.Receiver, len(partitions))
	for i, id := range partitions {
		if readers[i], err = partitionReader(ctx, session, id, from); err != nil {
			return fmt.Errorf("partition %s: %w", id, err)
		}
	}
	started()
	group, ctx := errgroup.WithContext(ctx)
	for i, r := range readers {
		group.Go(func() error { return follow(ctx, r, partitions[i], each) })
	}
	return group.Wait()
}

// partitionsOf asks $management for the partition ids.
func partitionsOf(ctx context.Context, conn *amqp.Conn, eventHub string) ([]string, error) {
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = session.Close(ctx) }()
	answers, err := session.NewReceiver(ctx, "$management", &amqp.ReceiverOptions{TargetAddress: "client"})
	if err != nil {
		return nil, err
	}
	requests, err := session.NewSender(ctx, "$management", nil)
	if err != nil {
		return nil, err
	}
	replyTo := "client"
	if err := requests.Send(ctx, &amqp.Message{
		Properties:            &amqp.MessageProperties{MessageID: "1", ReplyTo: &replyTo},
		ApplicationProperties: map[string]any{"operation": "READ", "name": eventHub, "type": "com.microsoft:eventhub"},
	}, nil); err != nil {
		return nil, err
	}
	answer, err := answers.Receive(ctx, nil)
	if err != nil {
		return nil, err
	}
	if status := answer.ApplicationProperties["status-code"]; status != int32(200) {
		return nil, fmt.Errorf("$management answered %v: %v", status, answer.ApplicationProperties["status-description"])
	}
	description, _ := answer.Value.(map[string]any)
	ids, ok := description["partition_ids"].([]string)
	if !ok {
		return nil, errors.New("$management told no partition_ids")
	}
	return ids, nil
}

func partitionReader(ctx context.Context, session *amqp.Session, id string, from EventSource) (*amqp.Receiver, error) {
	position := "amqp.annotation.x-opt-offset > '@latest'"
	if from.All {
		position = "amqp.annotation.x-opt-offset > '-1'"
	}
	return session.NewReceiver(ctx, from.EventHub+"/ConsumerGroups/"+from.Group+"/Partitions/"+id, &amqp.ReceiverOptions{
		Credit:  eventCredit,
		Filters: []amqp.LinkFilter{amqp.NewLinkFilter("apache.org:selector-filter:string", 0x0000468C00000004, position)},
	})
}

func follow(ctx context.Context, r *amqp.Receiver, partition string, each func(string, *amqp.Message) error) error {
	for {
		m, err := r.Receive(ctx, nil)
		if err != nil {
			return err
		}
		if err := each(partition, m); err != nil {
			return err
		}
		if err := r.AcceptMessage(ctx, m); err != nil {
			return err
		}
	}
}
