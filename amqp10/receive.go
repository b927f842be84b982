package amqp10

import "fmt"

const (
	maxTag     = 32 // AMQP 2.8.7
	gatherMost = 16 // deliveries that a Gatherer gets at most before Gathered
)

// onTransfer takes one frame of a message (AMQP 2.7.5) and hands the message to the node when it is whole.
func (c *Conn) onTransfer(channel uint16, d *decoder) *Error {
	var p transferFrame
	p.decode(d)
	if d.err != nil {
		return decodeError(d.err)
	}
	if !c.joins(channel, &p) {
		c.gathered()
	}
	c.mu.Lock()
	l, delivery, perr := c.transferred(channel, &p, d.rest())
	c.mu.Unlock()
	if delivery != nil {
		c.hand(l, delivery)
	}
	return perr
}

// hand gives a whole message to the node.
func (c *Conn) hand(l *Link, d *Delivery) {
	c.calls.Lock()
	if node, ok := l.node.(Receiver); ok && !l.gone {
		node.Receive(l, d)
	}
	c.calls.Unlock()
	if !l.gathers {
		c.reclaim(d)
		return
	}
	if c.gathering = append(c.gathering, d); len(c.gathering) == gatherMost {
		c.gathered()
	}
}

// joins says whether a frame is a whole message for the link whose deliveries are being gathered.
func (c *Conn) joins(channel uint16, p *transferFrame) bool {
	if len(c.gathering) == 0 {
		return true
	}
	l := c.gathering[0].link
	return channel == l.session.in && p.handle == l.in && !p.more && !p.aborted
}

// gathered has a Gatherer do what it put off. The reader calls it before it does anything but to hand over more of the same link.
func (c *Conn) gathered() {
	if len(c.gathering) == 0 {
		return
	}
	l := c.gathering[0].link
	c.calls.Lock()
	if node, ok := l.node.(Gatherer); ok && !l.gone {
		node.Gathered(l)
	}
	c.calls.Unlock()
	for _, d := range c.gathering {
		c.reclaim(d)
	}
	clear(c.gathering)
	c.gathering = c.gathering[:0]
}

// reclaim takes back a delivery that was lent and is over.
func (c *Conn) reclaim(d *Delivery) {
	if d.link.lends && !d.second && (d.done || d.presettled) && len(c.spare) < gatherMost {
		d.Payload = nil // perhaps a buffer that will be given back
		c.spare = append(c.spare, d)
	}
}

// delivery returns one to fill in. mu is held, by the reader.
func (c *Conn) delivery() *Delivery {
	n := len(c.spare) - 1
	if n < 0 {
		return new(Delivery)
	}
	d := c.spare[n]
	c.spare = c.spare[:n]
	return d
}

func (c *Conn) transferred(channel uint16, p *transferFrame, payload []byte) (*Link, *Delivery, *Error) {
	s, perr := c.session(channel)
	if perr != nil || !s.alive() {
		return nil, nil, perr
	}
	if s.incomingWindow == 0 {
		s.fail(CondWindowViolation, "transfer beyond the incoming-window")
		return nil, nil, nil
	}
	s.nextIncomingID++
	if s.incomingWindow--; s.incomingWindow <= c.cfg.IncomingWindow/2 {
		s.oweFlow()
	}
	l := s.links[p.handle]
	switch {
	case l == nil:
		s.fail(CondUnattachedHandle, "transfer on a handle that is not attached")
		return nil, nil, nil
	case l.state != linkAttached:
		return nil, nil, nil
	case l.role != RoleReceiver:
		s.fail(CondErrantLink, "transfer on a link you receive on")
		return nil, nil, nil
	}
	d, perr := l.transferred(p, payload)
	return l, d, perr
}

// transferred adds a frame to the delivery it belongs to and returns that when it is whole. mu is held.
func (l *Link) transferred(p *transferFrame, payload []byte) (*Delivery, *Error) {
	d := l.partial
	switch {
	case d == nil:
		if d = l.newDelivery(p); d == nil {
			return nil, nil
		}
	case p.deliveryID.set && p.deliveryID.v != d.id:
		l.session.fail(CondInvalidField, "delivery-id changed within a delivery")
		return nil, nil
	}
	// The frames may say so late, and one saying so is enough (AMQP 2.7.5).
	d.presettled = d.presettled || p.settled
	d.second = d.second && !p.rcvFirst
	if p.aborted {
		l.abort(d)
		return nil, nil
	}
	if perr := l.gather(d, p.more, payload); perr != nil || p.more {
		return nil, perr
	}
	return l.complete(d), nil
}

// newDelivery begins a delivery with its first frame. It uses one credit however it ends.
func (l *Link) newDelivery(p *transferFrame) *Delivery {
	s := l.session
	switch {
	case l.credit == 0:
		l.sendDetach(&Error{Condition: CondTransferLimitExceeded, Description: "transfer without credit"})
		return nil
	case !p.deliveryID.set:
		s.fail(CondInvalidField, "first transfer of a delivery without delivery-id")
		return nil
	case len(p.tag) > maxTag:
		s.fail(CondInvalidField, "delivery-tag longer than 32 bytes")
		return nil
	}
	d := s.conn.delivery()
	*d = Delivery{Format: p.format, link: l, id: p.deliveryID.v, second: l.rcv == RcvSecond}
	d.tagLen = uint8(copy(d.tag[:], p.tag))
	if !s.received.add(d.id, d) {
		s.fail(CondInvalidField, fmt.Sprintf("delivery-id %d is not after the one before", d.id))
		return nil
	}
	l.unsettled++
	l.credit--
	l.deliveryCount++
	l.partial = d
	return d
}

// gather appends a frame's payload, up to the limits of the link and the connection.
func (l *Link) gather(d *Delivery, more bool, payload []byte) *Error {
	c := l.session.conn
	switch size := uint64(len(d.Payload) + len(payload)); {
	case l.discarding:
		return nil
	case l.maxMessage > 0 && size > l.maxMessage:
		c.partial -= len(d.Payload)
		d.Payload, l.discarding = nil, true
		return nil
	}
	if more {
		if c.partial += len(payload); c.partial > c.cfg.MaxPartialBytes {
			return &Error{Condition: CondResourceLimitExceeded, Description: "too many bytes in unfinished messages"}
		}
	} else {
		c.partial -= len(d.Payload)
	}
	if l.lends && !more && d.Payload == nil {
		d.Payload = payload // what was read, and stands there until more is
	} else {
		d.Payload = append(d.Payload, payload...)
	}
	return nil
}

// complete ends the gathering of d and returns it, unless it was too large: then the client is told so, by an outcome
// rather than by losing the link if it listens to one.
func (l *Link) complete(d *Delivery) *Delivery {
	l.partial = nil
	tooLarge := l.discarding
	l.discarding = false
	if d.presettled {
		l.forget(d)
	}
	if !tooLarge {
		l.topUp()
		return d
	}
	err := &Error{
		Condition:   CondMessageSizeExceeded,
		Description: fmt.Sprintf("message is larger than max-message-size %d", l.maxMessage),
	}
	if d.presettled {
		l.sendDetach(err)
		return nil
	}
	d.settle(Rejected{err})
	return nil
}

// abort drops a delivery that the client broke off; it is settled by that (AMQP 2.7.5).
func (l *Link) abort(d *Delivery) {
	l.dropPartial()
	l.forget(d)
	l.topUp()
}

// dropPartial forgets the unfinished delivery.
func (l *Link) dropPartial() {
	if l.partial != nil {
		l.session.conn.partial -= len(l.partial.Payload)
		l.partial, l.discarding = nil, false
	}
}

// forget takes d off the unsettled ones.
func (l *Link) forget(d *Delivery) {
	if l.session.received.remove(d.id) {
		l.unsettled--
	}
}
