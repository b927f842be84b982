package amqp10

import "errors"

// sentDelivery is a delivery of ours that the client has not settled.
type sentDelivery struct {
	link   *Link
	tag    [maxTag]byte
	tagLen uint8
}

// outgoing is the rest of a delivery that the session's window cut short.
type outgoing struct {
	link    *Link
	payload []byte
}

var errTag = errors.New("amqp10: delivery-tag longer than 32 bytes")

// Send sends one message on a link whose Role is RoleSender, and uses one credit. tag (at most 32 bytes, chosen by the
// caller, unique among the link's unsettled deliveries) names the delivery in Sender.Settled; format is the
// message-format, 0 for an ordinary message; payload is an encoded message. Both are copied. settled asks for a delivery
// without settlement; the link's sender settle mode has the last word. The id returned is the delivery-id.
//
// Send never waits for the network. ErrNoCredit and ErrBusy mean not now: try again when Sender.Flow is called.
// ErrDetached and ErrTooLarge mean never.
func (l *Link) Send(tag []byte, format uint32, payload []byte, settled bool) (id uint32, err error) {
	c := l.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	settled = l.snd == SndSettled || settled && l.snd != SndUnsettled
	if err := l.maySend(tag, payload, settled); err != nil {
		return 0, err
	}
	s := l.session
	id = s.nextDeliveryID
	s.nextDeliveryID++
	l.deliveryCount++
	l.credit--
	if !settled {
		d := sentDelivery{link: l}
		d.tagLen = uint8(copy(d.tag[:], tag))
		s.sent.add(id, d)
		l.unsettled++
	}
	if rest, cut := s.writeFirst(l, id, tag, format, settled, payload); cut {
		s.current = &outgoing{l, append([]byte(nil), rest...)}
	}
	c.signal()
	return id, nil
}

// maySend says why not. mu is held.
func (l *Link) maySend(tag, payload []byte, settled bool) error {
	s, c := l.session, l.session.conn
	switch {
	case len(tag) > maxTag:
		return errTag
	case l.role != RoleSender, l.state > linkAttached, !s.alive():
		return ErrDetached
	case l.peerMax > 0 && uint64(len(payload)) > l.peerMax:
		return ErrTooLarge
	case l.state == linkAttaching, l.credit == 0:
		return ErrNoCredit
	case l.busy(settled):
		if !l.waiting {
			l.waiting = true
			c.waiting = append(c.waiting, l)
		}
		return ErrBusy
	}
	return nil
}

func (l *Link) busy(settled bool) bool {
	s, c := l.session, l.session.conn
	return s.current != nil || s.remoteWindow == 0 || c.pending() >= c.cfg.MaxOutput ||
		!settled && l.unsettled >= c.cfg.MaxUnsettledPerLink
}

// wakeSenders notes Flow for links that were told ErrBusy and have room now: for output, when half of it is written.
// mu is held.
func (c *Conn) wakeSenders() {
	if len(c.waiting) == 0 || c.phase != phaseOpen || c.pending() > c.cfg.MaxOutput/2 {
		return
	}
	kept := c.waiting[:0]
	for _, l := range c.waiting {
		switch {
		case l.state != linkAttached:
		case l.credit == 0: // Flow comes with the credit
			l.waiting = false
		case l.busy(false):
			kept = append(kept, l)
		default:
			l.waiting = false
			c.note(note{kind: noteFlow, link: l})
		}
	}
	clear(c.waiting[len(kept):])
	c.waiting = kept
	c.signal()
}

// writeFirst writes the first frame of a delivery, which names it, and as many more as the window allows. cut says that
// rest must wait.
func (s *Session) writeFirst(l *Link, id uint32, tag []byte, format uint32, settled bool, payload []byte) (rest []byte, cut bool) {
	frame := func(b []byte, more bool) []byte {
		f := openFields(b, descTransfer)
		f.uint(l.out)
		f.uint(id)
		f.binary(tag)
		f.uint(format)
		f.bool(settled)
		f.optTrue(more)
		return f.closeWhole(11)
	}
	rest, more := s.writeTransfer(payload, frame)
	if !more {
		return nil, false
	}
	return s.writeRest(l, rest)
}

// writeRest writes the frames after the first, which only need the handle (AMQP 2.7.5), as far as the window allows.
func (s *Session) writeRest(l *Link, payload []byte) (rest []byte, cut bool) {
	frame := func(b []byte, more bool) []byte {
		f := openFields(b, descTransfer)
		f.uint(l.out)
		f.null()
		f.null()
		f.null()
		f.null()
		f.optTrue(more)
		return f.closeWhole(11)
	}
	for more := true; more; {
		if s.remoteWindow == 0 {
			return payload, true
		}
		payload, more = s.writeTransfer(payload, frame)
	}
	return nil, false
}

// writeTransfer writes one frame with as much of payload as the client's max-frame-size allows; more says that there is a
// rest.
func (s *Session) writeTransfer(payload []byte, frame func(b []byte, more bool) []byte) (rest []byte, more bool) {
	c := s.conn
	out := c.output()
	b, start := openFrame(out.b, frameAMQP, s.out)
	head := len(b)
	b = frame(b, false)
	n := len(payload)
	if len(b)-start+n > c.maxFrame {
		b = frame(b[:head], true)
		n = c.maxFrame - (len(b) - start)
		more = true
	}
	b = append(b, payload[:n]...)
	out.b = closeFrame(b, start)
	s.nextOutgoingID++
	s.remoteWindow--
	return payload[n:], more
}

// resume goes on with the delivery the window had cut short. mu is held.
func (s *Session) resume() {
	if s.current == nil {
		return
	}
	l := s.current.link
	rest, cut := s.writeRest(l, s.current.payload)
	if cut {
		s.current.payload = rest
	} else {
		s.current = nil
		if l.drained {
			l.oweFlow()
		}
	}
	s.conn.signal()
}

// Settle tells the client that the delivery of that id is settled with state st: the answer that a client in receiver
// settle mode second waits for. It may also be used to settle a delivery the client has not answered. Unknown ids
// (settled already, or of a link that is gone) are ignored.
func (l *Link) Settle(id uint32, st DeliveryState) {
	s, c := l.session, l.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := s.sent.get(id); d == nil || d.link != l || !s.alive() {
		return
	}
	s.sent.remove(id)
	l.unsettled--
	s.settle(RoleSender, id, st, true)
	c.wakeSenders()
}

// Drained uses up the remaining credit and tells the client so (AMQP 2.6.7). Without a pending drain it does nothing.
func (l *Link) Drained() {
	s, c := l.session, l.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !l.drain || l.state != linkAttached || !s.alive() {
		return
	}
	l.deliveryCount += l.credit
	l.credit = 0
	l.drain, l.drained = false, true
	if s.current == nil || s.current.link != l { // else resume does
		l.oweFlow()
	}
}
