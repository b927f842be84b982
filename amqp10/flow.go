package amqp10

// outgoingWindow is announced in begin and flow. We never hold back transfers for lack of it.
const outgoingWindow = 1<<31 - 1

// onFlow takes over the client's view of a session and of one of its links (AMQP 2.7.4).
func (c *Conn) onFlow(channel uint16, d *decoder) *Error {
	var p flowFrame
	p.decode(d)
	if d.err != nil {
		return decodeError(d.err)
	}
	l, perr := c.flowed(channel, &p)
	if l != nil {
		c.calls.Lock()
		l.callFlow()
		c.calls.Unlock()
	}
	return perr
}

// flowed returns the link whose node is to be told, if any.
func (c *Conn) flowed(channel uint16, p *flowFrame) (*Link, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, perr := c.session(channel)
	if perr != nil || !s.alive() {
		return nil, perr
	}
	s.flowed(p)
	if !p.handle.set {
		if p.echo {
			s.oweFlow()
		}
		return nil, nil
	}
	l := s.links[p.handle.v]
	switch {
	case l == nil:
		s.fail(CondUnattachedHandle, "flow on a handle that is not attached")
		return nil, nil
	case l.state != linkAttached:
		return nil, nil
	case p.echo:
		l.oweFlow()
	}
	if l.role == RoleReceiver {
		l.senderFlowed(p)
		return nil, nil
	}
	l.receiverFlowed(p)
	return l, nil
}

// flowed computes how many transfer frames we may send: the client's window less what it has not seen yet (AMQP 2.5.6).
func (s *Session) flowed(p *flowFrame) {
	next := s.firstOutgoing // the client may not know our begin yet
	if p.nextIncomingID.set {
		next = p.nextIncomingID.v
	}
	s.remoteWindow = left(p.incomingWindow, s.nextOutgoingID-next)
	s.resume()
	s.conn.wakeSenders()
}

// left is a window less what is under way; a client that claims to be ahead of us leaves none.
func left(window, underWay uint32) uint32 {
	if underWay >= 1<<31 || underWay >= window {
		return 0
	}
	return window - underWay
}

// senderFlowed takes over the delivery-count of a client that sends: it may have used up credit without sending.
func (l *Link) senderFlowed(p *flowFrame) {
	if p.deliveryCount.set {
		if used := p.deliveryCount.v - l.deliveryCount; used <= l.credit {
			l.deliveryCount, l.credit = p.deliveryCount.v, l.credit-used
		}
	}
	l.topUp()
}

// receiverFlowed takes over the credit that a client that receives has granted (AMQP 2.6.7).
func (l *Link) receiverFlowed(p *flowFrame) {
	if p.linkCredit.set {
		count := l.initialCount // the client may not know our attach yet
		if p.deliveryCount.set {
			count = p.deliveryCount.v
		}
		l.credit = left(p.linkCredit.v, l.deliveryCount-count)
	}
	l.drain = p.drain
}

// callFlow tells the node about credit. calls is held.
func (l *Link) callFlow() {
	l.session.conn.mu.Lock()
	live, credit, drain := l.state == linkAttached, l.credit, l.drain
	l.session.conn.mu.Unlock()
	if node, ok := l.node.(Sender); ok && live && !l.gone {
		node.Flow(l, credit, drain)
	}
}

// writeFlow writes the session's state and, with l, that of a link. mu is held.
func (s *Session) writeFlow(l *Link) {
	s.owesFlow = false
	s.incomingWindow = s.conn.cfg.IncomingWindow
	out := s.conn.output()
	b, start := openFrame(out.b, frameAMQP, s.out)
	f := openFields(b, descFlow)
	f.uint(s.nextIncomingID)
	f.uint(s.incomingWindow)
	f.uint(s.nextOutgoingID)
	f.uint(outgoingWindow)
	if l != nil {
		f.uint(l.out)
		f.uint(l.deliveryCount)
		f.uint(l.credit)
		f.null() // available
		f.optTrue(l.drained)
		l.drained = false
	}
	out.b = closeFrame(f.closeWhole(11), start)
}

// writeFlow writes the link's state; to a client that sends, with as much credit as the window allows. mu is held.
func (l *Link) writeFlow() {
	if l.role == RoleReceiver {
		l.credit = max(l.credit, l.allowance())
	}
	l.session.writeFlow(l)
}

// oweFlow has a flow of this link sent with the next write. mu is held.
func (l *Link) oweFlow() {
	if !l.owesFlow {
		l.owesFlow = true
		l.session.dueLinks = append(l.session.dueLinks, l)
	}
	l.session.owe()
}

// allowance is the credit a client that sends should have: the window, but no more than may still become unsettled.
func (l *Link) allowance() uint32 {
	room := l.session.conn.cfg.MaxUnsettledPerLink - l.unsettled
	return min(l.window, uint32(max(room, 0)))
}

// topUp grants credit when half of what may be granted is used up. mu is held.
func (l *Link) topUp() {
	if l.state == linkAttached && l.credit < l.allowance() && l.credit <= l.allowance()/2 {
		l.oweFlow()
	}
}
