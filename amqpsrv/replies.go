package amqpsrv

import (
	"encoding/binary"
	"fmt"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// maxReplies is how many replies wait for a peer that grants no credit before further ones are dropped.
const maxReplies = 1024

// replyKey names a request-response node of one session.
type replyKey struct {
	session *amqp10.Session
	node    kind // kindCBS or kindManagement
}

// replies carries the answers of $cbs or $management to the links on which the peer of one session receives them. Trap 4: a
// reply goes to a link whose source is the same node; reply-to is only a hint, IoT clients put "cbs" there. Replies wait until
// there is such a link and it has credit.
type replies struct {
	p       *peer
	links   []*amqp10.Link // in the order they came
	waiting []reply
	tags    uint64
}

type reply struct {
	to      string
	payload []byte
}

func (p *peer) repliesOf(s *amqp10.Session, node kind) *replies {
	key := replyKey{s, node}
	r := p.replies[key]
	if r == nil {
		r = &replies{p: p}
		p.replies[key] = r
	}
	return r
}

// attachReplies takes a link on which the peer wants replies.
func (p *peer) attachReplies(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	r := p.repliesOf(l.Session(), a.kind)
	r.links = append(r.links, l)
	return r, nil
}

// send queues a reply and sends what can be sent.
func (r *replies) send(to string, m *amqp10.Message) error {
	payload, err := m.Append(nil)
	if err != nil {
		return fmt.Errorf("encode reply: %w", err)
	}
	if len(r.waiting) >= maxReplies {
		r.p.log.Warn("peer grants no credit for replies: reply dropped", "category", hub.Connections, "waiting", len(r.waiting))
		return nil
	}
	r.waiting = append(r.waiting, reply{to, payload})
	r.flush()
	return nil
}

// flush sends waiting replies as far as links and credit go. A link without credit holds up its own replies only.
func (r *replies) flush() {
	kept := r.waiting[:0]
	for _, w := range r.waiting {
		if l := r.link(w.to); l == nil || !r.transfer(l, w.payload) {
			kept = append(kept, w)
		}
	}
	clear(r.waiting[len(kept):])
	r.waiting = kept
}

func (r *replies) transfer(l *amqp10.Link, payload []byte) bool {
	r.tags++
	var tag [16]byte // trap 6
	binary.BigEndian.PutUint64(tag[8:], r.tags)
	settled := l.SndSettleMode() != amqp10.SndUnsettled
	_, err := l.Send(tag[:], 0, payload, settled)
	return err == nil
}

// link picks where a reply goes: the link that the request named by its target or its name, else the newest.
func (r *replies) link(to string) *amqp10.Link {
	if len(r.links) == 0 {
		return nil
	}
	for _, l := range r.links {
		if to != "" && (l.Name() == to || l.Target() != nil && l.Target().Address == to) {
			return l
		}
	}
	return r.links[len(r.links)-1]
}

// Flow implements amqp10.Sender.
func (r *replies) Flow(l *amqp10.Link, _ uint32, drain bool) {
	r.flush()
	if drain {
		l.Drained()
	}
}

// Settled implements amqp10.Sender. What the peer makes of a reply does not matter.
func (r *replies) Settled(l *amqp10.Link, id uint32, _ []byte, st amqp10.DeliveryState, settled bool) {
	if !settled && st != nil {
		l.Settle(id, amqp10.Accepted{})
	}
}

// Detached implements amqp10.Node.
func (r *replies) Detached(l *amqp10.Link, _ *amqp10.Error) {
	for i := range r.links {
		if r.links[i] == l {
			r.links = append(r.links[:i:i], r.links[i+1:]...)
			return
		}
	}
}

// answer is a reply to a request: the correlation-id is the request's message-id in its own type (trap 3), absent when that was,
// and the status is an int.
func answer(request *amqp10.Message, status int, description string) *amqp10.Message {
	m := &amqp10.Message{
		ApplicationProperties: amqp10.Map{
			{Key: "status-code", Value: int32(status)},
			{Key: "status-description", Value: description},
		},
		Body: amqp10.BodyValue,
	}
	if p := request.Properties; p != nil && p.MessageID != nil {
		m.Properties = &amqp10.Properties{CorrelationID: p.MessageID}
	}
	return m
}

func replyTo(request *amqp10.Message) string {
	if request.Properties == nil {
		return ""
	}
	return request.Properties.ReplyTo
}
