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

// Events calls each for every event of every partition that comes from now on, or from the oldest kept with all, until ctx ends or
// each fails. started is called once all partitions are being read. Calls of each do not overlap within a partition only.
func (b *Backend) Events(ctx context.Context, all bool, started func(), each func(partition string, m *amqp.Message) error) error {
	conn, err := b.openService(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	partitions, err := b.partitions(ctx, conn)
	if err != nil {
		return err
	}
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	readers := make([]*amqp.Receiver, len(partitions))
	for i, id := range partitions {
		if readers[i], err = b.partitionReader(ctx, session, id, all); err != nil {
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

// partitions asks $management for the partition ids.
func (b *Backend) partitions(ctx context.Context, conn *amqp.Conn) ([]string, error) {
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
		ApplicationProperties: map[string]any{"operation": "READ", "name": b.info.Hub, "type": "com.microsoft:eventhub"},
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

func (b *Backend) partitionReader(ctx context.Context, session *amqp.Session, id string, all bool) (*amqp.Receiver, error) {
	position := "amqp.annotation.x-opt-offset > '@latest'"
	if all {
		position = "amqp.annotation.x-opt-offset > '-1'"
	}
	return session.NewReceiver(ctx, b.info.Hub+"/ConsumerGroups/$Default/Partitions/"+id, &amqp.ReceiverOptions{
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
