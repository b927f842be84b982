package hub

import (
	"context"
	"log/slog"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// Limits of the queues from the hub to back ends (articles "Send cloud-to-device messages from an IoT hub", section Cloud-to-device
// configuration options, and "Upload files with IoT Hub", section File upload notification configuration settings), and how many messages
// Iolite keeps when nobody reads them.
const (
	serviceboundTTL      = time.Hour
	serviceboundLock     = time.Minute
	serviceboundAbandons = 10
	serviceboundDepth    = 10_000
)

// serviceQueue is a queue of messages from the hub to back ends, which compete for them: batches of feedback, or file notifications.
type serviceQueue struct {
	queue
	what        string // is in it, for the log
	op          operation
	resource    string // that tokens of receivers are for
	to          string
	contentType string // SDKs look at it
}

// init makes the queue's rules. refill may be nil.
func (q *serviceQueue) init(h *Hub, queues store.Queues, refill func()) {
	q.queue = queue{hub: h, rules: &queueRules{
		store: queues, lock: serviceboundLock, abandons: serviceboundAbandons, settled: q.settled, refill: refill,
	}}
}

// post queues a message. The caller holds the lock.
func (q *serviceQueue) post(body []byte) {
	now := q.hub.clock.Now()
	err := q.enqueue(store.Message{
		SystemProperties: store.SystemProperties{
			MessageID: newUUID(), UserID: q.hub.cfg.Name, To: q.to, ContentType: q.contentType, ContentEncoding: "utf-8",
		},
		Body: body, Enqueued: now, Deadline: now.Add(serviceboundTTL),
	}, serviceboundDepth)
	if err != nil {
		q.hub.note(slog.LevelError, q.op, store.Key{}, q.what+" is lost: nobody reads it and the queue is full", slog.Int("messages", serviceboundDepth), slog.Any("error", err))
	}
}

// settled notes that messages have left the queue.
func (q *serviceQueue) settled(_ store.Key, messages []store.Message, o outcome) {
	if o != outcomeSuccess {
		q.hub.note(slog.LevelError, q.op, store.Key{}, q.what+" dropped", slog.Int("messages", len(messages)), slog.String("outcome", string(o)))
	}
}

// clear forgets what is under way, for Reset and Close.
func (q *serviceQueue) clear() {
	q.mu.Lock()
	defer q.unlock()
	for _, s := range q.subs {
		clear(s.unsettled)
	}
	q.rest()
}

// forget drops messages too, for Reset: those that came when the store had just been emptied.
func (q *serviceQueue) forget() {
	q.mu.Lock()
	defer q.unlock()
	q.purge()
}

// subscribe pushes messages of q; the rules of DeviceSession.SubscribeC2D hold, but several subscriptions compete for the one queue. The
// subscription ends with the session, and with a reset of the hub.
func (s *ServiceSession) subscribe(q *serviceQueue, deliver func(store.Message) bool) (_ *Subscription, err error) {
	defer func() { err = failed(q.op, store.Key{}, err) }()
	era := s.hub.era.Load()
	if err := s.need(context.Background(), auth.ServiceConnect, q.resource); err != nil {
		return nil, err
	}
	q.mu.Lock()
	sub := q.subscribe(deliver)
	sub.service = s
	q.unlock()
	if err := s.keep(sub, era); err != nil {
		sub.Close()
		return nil, err
	}
	return sub, nil
}

// poll locks the next message of q; ok is false when there is none.
func (s *ServiceSession) poll(ctx context.Context, q *serviceQueue) (m store.Message, ok bool, err error) {
	err = s.with(ctx, q, func() error {
		m, ok = q.poll()
		return nil
	})
	return m, ok, err
}

// complete removes a message from q. CodeLockLost.
func (s *ServiceSession) complete(ctx context.Context, q *serviceQueue, lockToken string) error {
	return s.with(ctx, q, func() error { return q.remove(lockToken, outcomeSuccess) })
}

// abandon gives a message back to q, to be delivered again. CodeLockLost.
func (s *ServiceSession) abandon(ctx context.Context, q *serviceQueue, lockToken string) error {
	return s.with(ctx, q, func() error { return q.release(lockToken, store.Abandoned) })
}

func (s *ServiceSession) with(ctx context.Context, q *serviceQueue, do func() error) (err error) {
	defer func() { err = failed(q.op, store.Key{}, err) }()
	if err := s.need(ctx, auth.ServiceConnect, q.resource); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.unlock()
	return do()
}
