package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/store"
)

// Times of the wire, in real time.
const (
	deliverTime = 30 * time.Second // for one Deliver
	writeTime   = 10 * time.Second // for one frame
	closeTime   = time.Second      // for saying goodbye
)

// Sender takes messages to one node of an AMQP 1.0 peer. It connects when there is something to send, and again after the connection was lost.
type Sender struct {
	egress *Egress
	entity
	encode func(*store.Event) *amqp.Message

	stream net.Conn // below conn; closing it ends whatever waits on conn
	conn   *amqp.Conn
	link   *amqp.Sender
	renew  time.Time      // when a new token is due
	ahead  map[int64]bool // sequence numbers of messages that were accepted while one before them was not
}

// EventHub returns a sink for an event hub.
func (e *Egress) EventHub(connectionString string) (*Sender, error) {
	return e.sender(connectionString, eventOf)
}

// Queue returns a sink for a queue or a topic.
func (e *Egress) Queue(connectionString string) (*Sender, error) {
	return e.sender(connectionString, queuedOf)
}

func (e *Egress) sender(connectionString string, encode func(*store.Event) *amqp.Message) (*Sender, error) {
	to, err := parseEntity(connectionString)
	if err != nil {
		return nil, err
	}
	return &Sender{egress: e, entity: to, encode: encode, ahead: map[int64]bool{}}, nil
}

// Deliver sends messages in order and returns how many of them, from the first on, the peer has accepted. It takes no longer than 30 seconds
// of real time. An error that errors.Is ErrRefused concerns the next message alone. Messages after it may have been accepted, too; they are
// not sent again as long as they come by the same sequence numbers.
func (s *Sender) Deliver(ctx context.Context, messages []store.Event) (taken int, err error) {
	if len(messages) == 0 {
		return 0, nil
	}
	maps.DeleteFunc(s.ahead, func(sequence int64, _ bool) bool { return sequence < messages[0].Sequence }) // given up meanwhile
	ctx, cancel := context.WithTimeout(ctx, deliverTime)
	defer cancel()
	kept := s.conn != nil
	taken, err = s.deliver(ctx, messages)
	if kept && s.conn == nil && taken == 0 { // a connection that had ended unnoticed: services close idle ones
		taken, err = s.deliver(ctx, messages)
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, ErrRefused) { // whatever its end has broken
		err = broken(ctx.Err())
	}
	return taken, err
}

// deliver does it on one connection, which it gives up when anything but the outcome of a message is wrong.
func (s *Sender) deliver(ctx context.Context, messages []store.Event) (int, error) {
	if err := s.connect(ctx); err != nil {
		s.disconnect()
		return 0, broken(err)
	}
	stream := s.stream
	defer context.AfterFunc(ctx, func() { _ = stream.Close() })() // a write that the peer does not read looks at no context
	receipts, sending := s.send(ctx, messages)
	taken, err := s.await(ctx, messages, receipts)
	if sending != nil && !errors.Is(sending, ErrRefused) {
		s.disconnect()
	}
	if err == nil {
		err = sending
	}
	return taken, err
}

// send writes messages and returns a receipt for each that went out; nil for those that were accepted before. It stops at the first that
// cannot be sent.
func (s *Sender) send(ctx context.Context, messages []store.Event) ([]*amqp.SendReceipt, error) {
	receipts := make([]*amqp.SendReceipt, 0, len(messages))
	for i := range messages {
		if s.ahead[messages[i].Sequence] {
			receipts = append(receipts, nil)
			continue
		}
		receipt, err := s.link.SendWithReceipt(ctx, s.encode(&messages[i]), nil)
		if err != nil {
			return receipts, unsent(err)
		}
		receipts = append(receipts, &receipt)
	}
	return receipts, nil
}

// await waits for the outcomes and returns how many messages were accepted before the first that was not, and why that was not.
func (s *Sender) await(ctx context.Context, messages []store.Event, receipts []*amqp.SendReceipt) (taken int, first error) {
	for i, r := range receipts {
		sequence := messages[i].Sequence
		err := s.settled(ctx, r)
		switch {
		case err != nil && first == nil:
			first = err
		case err == nil && first == nil:
			delete(s.ahead, sequence)
			taken++
		case err == nil:
			s.ahead[sequence] = true
		}
	}
	return taken, first
}

// settled waits for one outcome. Once the connection is given up, what has no outcome yet will not get one.
func (s *Sender) settled(ctx context.Context, r *amqp.SendReceipt) error {
	if r == nil {
		return nil
	}
	state, err := r.Wait(ctx)
	if err != nil {
		s.disconnect()
		return broken(err)
	}
	return outcome(state)
}

// connect makes a connection unless there is one, and keeps its token fresh.
func (s *Sender) connect(ctx context.Context) error {
	if s.conn != nil {
		select {
		case <-s.conn.Done():
			s.disconnect()
		default:
			return s.refresh(ctx)
		}
	}
	stream, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = stream.Close() })()
	conn, err := amqp.NewConn(ctx, stream, &amqp.ConnOptions{HostName: s.name, SASLType: s.sasl(), WriteTimeout: writeTime})
	if err != nil {
		_ = stream.Close()
		return err
	}
	s.stream, s.conn, s.renew = stream, conn, time.Time{}
	if err := s.refresh(ctx); err != nil {
		return err
	}
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	s.link, err = session.NewSender(ctx, s.path, &amqp.SenderOptions{SettlementMode: amqp.SenderSettleModeUnsettled.Ptr()})
	return err
}

func (s *Sender) dial(ctx context.Context) (net.Conn, error) {
	if !s.tls {
		return new(net.Dialer).DialContext(ctx, "tcp", s.host)
	}
	config := &tls.Config{ServerName: s.name, MinVersion: tls.VersionTLS12}
	if s.egress.Roots != nil {
		config.RootCAs = s.egress.Roots()
	}
	d := tls.Dialer{Config: config}
	return d.DialContext(ctx, "tcp", s.host)
}

func (s *Sender) sasl() amqp.SASLType {
	if s.plain {
		return amqp.SASLTypePlain(s.user, s.password)
	}
	return amqp.SASLTypeAnonymous()
}

// refresh puts a token when one is due.
func (s *Sender) refresh(ctx context.Context) error {
	now := s.egress.wall()
	if !s.cbs || now.Before(s.renew) {
		return nil
	}
	token := s.token
	if token == "" {
		token = s.sign(now.Add(tokenLife))
	}
	s.renew = now.Add(tokenLife / 2)
	return s.putToken(ctx, s.conn, token)
}

// disconnect gives the connection up, within closeTime.
func (s *Sender) disconnect() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	stream := s.stream
	defer context.AfterFunc(ctx, func() { _ = stream.Close() })()
	_ = s.conn.Close()
	s.stream, s.conn, s.link = nil, nil, nil
}

// Close gives up the connection. What was taken has been accepted before.
func (s *Sender) Close() error {
	s.disconnect()
	return nil
}
