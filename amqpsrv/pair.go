package amqpsrv

import (
	"slices"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// channelCorrelation is the property with which clients tie the two links of a pair together.
const channelCorrelation = "com.microsoft:channel-correlation-id"

// maxPaired is announced on links for twin requests and method responses, in bytes of encoded messages: the largest that the hub
// takes, and room around it.
const maxPaired = 256 << 10

// pair are the links that make a node of two directions: on one the peer sends, on the other it receives. They come and go in any
// order, and belong together by what the client says, otherwise by their session (trap 20).
type pair struct {
	p       *peer
	unit    *unit
	kind    kind
	channel string          // channel-correlation-id, "" when the client gave none
	session *amqp10.Session // of a pair without it
	talk    talk

	// Guarded by unit.mu:
	in        *amqp10.Link // the peer sends
	out       outlet       // to the link on which it receives
	listening bool         // for desired properties
}

// talk is what is spoken over a pair: the twin's language or that of methods.
type talk interface {
	receive(d *amqp10.Delivery)
	// lost is told of what will never be sent: the link is gone, its queue is full, or the peer takes no message of that size.
	// unit.mu is held.
	lost(w parcel, why loss)
	// refused is told that the peer took a message for nothing.
	refused(tag []byte, st amqp10.DeliveryState)
}

// attachPair takes a link to a twin or to methods, of either direction.
func (p *peer) attachPair(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	u, refusal := p.join(l, a.key)
	if refusal != nil {
		return nil, refusal
	}
	if l.Role() == amqp10.RoleReceiver {
		l.SetMaxMessageSize(maxPaired)
	}
	n := u.enter(p, l, a.kind)
	if err := u.subscribe(); err != nil {
		u.leave(n, l)
		p.part(u, l)
		return nil, p.render(err)
	}
	return n, nil
}

// enter puts a link into the pair it belongs to. A link of that pair and direction that is still there loses its place.
func (u *unit) enter(p *peer, l *amqp10.Link, k kind) *pair {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.findPair(l, k)
	if n == nil {
		n = newPair(p, u, l, k)
		u.pairs = append(u.pairs, n)
	}
	place := &n.in
	if l.Role() == amqp10.RoleSender {
		place = &n.out.link
	}
	if *place != nil {
		(*place).Detach(&amqp10.Error{Condition: amqp10.CondStolen, Description: "A newer link took the place of this one in its pair."})
	}
	*place = l
	n.out.shut = false
	return n
}

func newPair(p *peer, u *unit, l *amqp10.Link, k kind) *pair {
	n := &pair{p: p, unit: u, kind: k, channel: l.Properties().Text(channelCorrelation)}
	if n.channel == "" {
		n.session = l.Session()
	}
	n.out.n = n
	if k == kindTwin {
		n.talk = &twin{pair: n}
		return n
	}
	if u.methodIDs == (methodIDs{}) {
		u.methodIDs = newMethodIDs()
	}
	n.talk = &methods{pair: n}
	return n
}

// findPair finds the pair that l belongs to. mu is held.
func (u *unit) findPair(l *amqp10.Link, k kind) *pair {
	channel := l.Properties().Text(channelCorrelation)
	for _, n := range u.pairs {
		if n.kind == k && n.channel == channel && (channel != "" || n.session == l.Session()) {
			return n
		}
	}
	return nil
}

// leave takes a link out of its pair. What waited to be sent is lost with either link: the peer has given the pair up.
func (u *unit) leave(n *pair, l *amqp10.Link) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch l {
	case n.in:
		n.in = nil
	case n.out.link:
		n.out.link = nil
	default:
		return // a newer link has its place
	}
	n.listening = false
	n.out.empty()
	if n.in == nil && n.out.link == nil {
		u.pairs = slices.DeleteFunc(u.pairs, func(other *pair) bool { return other == n })
	}
}

// subscribe has the hub bring what the unit's pairs want now, and nothing else. The engine's callbacks alone call it.
func (u *unit) subscribe() error {
	u.mu.Lock()
	desired := slices.ContainsFunc(u.pairs, func(n *pair) bool { return n.listening })
	// A device that could not answer is not online for methods: both links must be there.
	methods := slices.ContainsFunc(u.pairs, (*pair).takesMethods)
	u.mu.Unlock()
	if err := toggle(&u.desired, desired, u.session.SubscribeDesired, u.session.UnsubscribeDesired, u.tellDesired); err != nil {
		return err
	}
	return toggle(&u.methods, methods, u.session.SubscribeMethods, u.session.UnsubscribeMethods, u.bringMethod)
}

// toggle subscribes deliver, or ends that, when is differs from want.
func toggle[F any](is *bool, want bool, subscribe func(F) error, unsubscribe func(), deliver F) error {
	if *is == want {
		return nil
	}
	if !want {
		*is = false
		unsubscribe()
		return nil
	}
	if err := subscribe(deliver); err != nil {
		return err
	}
	*is = true
	return nil
}

// Receive implements amqp10.Receiver.
func (n *pair) Receive(_ *amqp10.Link, d *amqp10.Delivery) {
	if d.Format != 0 {
		n.p.settle(d, unknownFormat(d.Format))
		return
	}
	n.talk.receive(d)
}

// Flow implements amqp10.Sender.
func (n *pair) Flow(l *amqp10.Link, _ uint32, drain bool) {
	n.unit.mu.Lock()
	busy := l == n.out.link && n.out.flush()
	n.unit.mu.Unlock()
	if drain && !busy {
		l.Drained()
	}
}

// Settled implements amqp10.Sender. A peer in receiver settle mode second waits for our word (trap 8).
func (n *pair) Settled(l *amqp10.Link, id uint32, tag []byte, st amqp10.DeliveryState, settled bool) {
	switch st.(type) {
	case amqp10.Rejected, amqp10.Released, amqp10.Modified:
		n.talk.refused(tag, st)
	}
	if !settled && st != nil {
		l.Settle(id, amqp10.Accepted{})
	}
}

// Detached implements amqp10.Node.
func (n *pair) Detached(l *amqp10.Link, _ *amqp10.Error) {
	n.unit.leave(n, l)
	if err := n.unit.subscribe(); err != nil { // an older pair of the same session would have gone on
		n.p.log.Debug("another pair cannot take over", "category", hub.Connections, "error", err)
	}
	n.p.part(n.unit, l)
}
