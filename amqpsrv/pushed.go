package amqpsrv

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// queue is what a pushed link delivers from: a device's messages, or the hub's to back ends.
type queue interface {
	encode(c *composer, m *store.Message) ([]byte, error)
	complete(ctx context.Context, lockToken string) error
	abandon(ctx context.Context, lockToken string) error
	reject(ctx context.Context, lockToken string) error
	gone(l *amqp10.Link)
}

// pushed is a link on which the hub delivers locked messages and the peer settles them. The delivery tag is the lock token
// (trap 6: 16 bytes, C# makes a Guid of them), so no table of deliveries is kept.
type pushed struct {
	p        *peer
	link     *amqp10.Link
	queue    queue
	sub      *hub.Subscription
	composer composer // used by deliver, which the hub calls once at a time

	flows atomic.Uint64 // how often Flow was called
	busy  atomic.Uint64 // flows when Send last returned ErrBusy
}

// deliver sends one message; false gives it back, until the peer grants credit again.
func (n *pushed) deliver(m store.Message) bool {
	tag, err := lockTag(m.LockToken)
	if err != nil {
		n.p.log.Error("lock token is no guid", "category", hub.C2DCommands, "token", m.LockToken)
		return false
	}
	payload, err := n.queue.encode(&n.composer, &m)
	if err != nil {
		n.p.log.Error("message cannot be encoded", "category", hub.C2DCommands, "sequence", m.Sequence, "error", err)
		return false
	}
	flows := n.flows.Load()
	_, err = n.link.Send(tag[:], 0, payload, false)
	if errors.Is(err, amqp10.ErrBusy) {
		n.busy.Store(flows)
	}
	if errors.Is(err, amqp10.ErrTooLarge) {
		// It will never fit; the peer must know that something waits that it does not take.
		n.link.Detach(&amqp10.Error{Condition: amqp10.CondMessageSizeExceeded,
			Description: "The next message is larger than the max-message-size of the link."})
		return false
	}
	if err == nil && n.link.SndSettleMode() == amqp10.SndSettled {
		// The peer asked for deliveries without settlement: sent is done.
		n.log("complete", m.LockToken, n.queue.complete(n.p.ctx, m.LockToken))
	}
	return err == nil
}

// Flow implements amqp10.Sender.
func (n *pushed) Flow(l *amqp10.Link, credit uint32, drain bool) {
	flow := n.flows.Add(1)
	grant := int(min(credit, 1<<30))
	if !drain {
		n.sub.SetCredit(grant)
		return
	}
	n.sub.Drain(grant, func() {
		// A link that had no room goes on with another Flow, in which the drain still stands.
		if n.flows.Load() == flow && n.busy.Load() != flow {
			l.Drained()
		}
	})
}

// Settled implements amqp10.Sender: the peer's outcome becomes the hub's.
func (n *pushed) Settled(l *amqp10.Link, id uint32, tag []byte, st amqp10.DeliveryState, settled bool) {
	token, ok := lockToken(tag)
	if !ok {
		return
	}
	if st == nil {
		if !settled {
			return
		}
		st = defaultOutcome(l)
	}
	what, err := n.outcome(token, st)
	if what == "" {
		return // not an outcome yet
	}
	if settled {
		n.log(what, token, err)
		return
	}
	// Trap 8: a peer in receiver settle mode second waits for our word; whatever its outcome, it hears accepted when the
	// hub has done it.
	if err != nil {
		l.Settle(id, amqp10.Rejected{Error: n.p.asError(err)})
		return
	}
	l.Settle(id, amqp10.Accepted{})
}

// Detached implements amqp10.Node.
func (n *pushed) Detached(l *amqp10.Link, _ *amqp10.Error) {
	n.sub.Close()
	n.queue.gone(l)
}

// outcome tells the hub what became of a message, and the log what that was. (AMQP 3.4)
func (n *pushed) outcome(token string, st amqp10.DeliveryState) (what string, err error) {
	switch st := st.(type) {
	case amqp10.Accepted:
		return "complete", n.queue.complete(n.p.ctx, token)
	case amqp10.Released:
		return "abandon", n.queue.abandon(n.p.ctx, token)
	case amqp10.Rejected:
		return "reject", n.queue.reject(n.p.ctx, token)
	case amqp10.Modified:
		if st.UndeliverableHere {
			return "reject", n.queue.reject(n.p.ctx, token)
		}
		return "abandon", n.queue.abandon(n.p.ctx, token)
	}
	return "", nil
}

// defaultOutcome is what settling without an outcome means (AMQP 3.5.3): what the source says, otherwise released.
func defaultOutcome(l *amqp10.Link) amqp10.DeliveryState {
	if s := l.Source(); s != nil && s.DefaultOutcome != nil {
		return s.DefaultOutcome
	}
	return amqp10.Released{}
}

// log tells of an outcome that came too late, for a peer that does not wait for an answer.
func (n *pushed) log(what, token string, err error) {
	if err != nil {
		_ = n.p.srv.hub.Answer(hub.Peer{Conn: n.p.door, Category: hub.C2DCommands}, err, slog.String("outcome", what), slog.String("lockToken", token))
	}
}

// lockTag returns the delivery tag for a lock token, a guid's text: its bytes as .NET lays them out, the first three fields
// little-endian, so that the Guid that C# makes of the tag reads like x-opt-lock-token.
func lockTag(token string) (tag [16]byte, err error) {
	var digits [32]byte
	n := 0
	for i := range len(token) {
		if token[i] == '-' {
			continue
		}
		if n == len(digits) {
			return tag, errors.New("too long for a guid")
		}
		digits[n] = token[i]
		n++
	}
	if _, err := hex.Decode(tag[:], digits[:n]); err != nil || n != len(digits) {
		return tag, errors.New("not a guid")
	}
	dotnet(&tag)
	return tag, nil
}

// lockToken is the inverse of lockTag.
func lockToken(tag []byte) (string, bool) {
	if len(tag) != 16 {
		return "", false
	}
	guid := amqp10.UUID(tag)
	dotnet((*[16]byte)(&guid))
	return guid.String(), true
}

// dotnet swaps a guid between network and .NET byte order.
func dotnet(b *[16]byte) {
	b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
	b[4], b[5] = b[5], b[4]
	b[6], b[7] = b[7], b[6]
}
