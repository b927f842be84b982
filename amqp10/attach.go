package amqp10

import "errors"

// onAttach attaches a link, if the peer agrees (AMQP 2.6.3).
func (c *Conn) onAttach(channel uint16, d *decoder) *Error {
	var p attachFrame
	size := d.end - d.pos
	p.decode(d)
	if d.err != nil {
		return decodeError(d.err)
	}
	l, perr := c.newLink(channel, &p, size)
	if l == nil {
		return perr
	}
	refusal := l.readTermini(&p)
	c.runNotes() // of a link this one takes the place of
	var node Node
	if refusal == nil {
		node, refusal = l.ask()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l.attached(&p, node, refusal)
	return nil
}

// ask asks the peer for a node that can take the link's part.
func (l *Link) ask() (Node, *Error) {
	c := l.session.conn
	c.calls.Lock()
	node, refusal := c.peer.Attach(l)
	c.calls.Unlock()
	if refusal != nil {
		return nil, refusal
	}
	_, ok := node.(Sender)
	if l.role == RoleReceiver {
		_, ok = node.(Receiver)
	}
	if !ok {
		return nil, &Error{Condition: CondNotAllowed, Description: "nothing here takes the part of a " + l.role.String()}
	}
	return node, nil
}

// maxAttachBytes bounds what the attach frames of one connection's links may hold together: some ten thousand links as SDKs make them.
const maxAttachBytes = 16 << 20

// newLink makes the link the client asks for in size bytes, nil when the session cannot have it.
func (c *Conn) newLink(channel uint16, p *attachFrame, size int) (*Link, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, perr := c.session(channel)
	if perr != nil || !s.alive() {
		return nil, perr
	}
	switch {
	// Refused links count until the client detaches them, too: one that never does is not listening.
	case len(s.links) >= 2*c.cfg.MaxLinksPerSession, c.links >= 2*c.cfg.MaxLinks, c.attachBytes+size > maxAttachBytes:
		return nil, &Error{Condition: CondResourceLimitExceeded, Description: "too many links, or too large ones, that were never detached"}
	case p.handle > ownHandleMax:
		return nil, framingError("handle %d is above handle-max %d", p.handle, ownHandleMax) // AMQP 2.7.2
	case s.links[p.handle] != nil:
		s.fail(CondHandleInUse, "attach on a handle in use")
		return nil, nil
	}
	out, ok := freeNumber(s.handles, p.handle, s.handleMax)
	if !ok {
		s.fail(CondResourceLimitExceeded, "your handle-max leaves no handle for the answer")
		return nil, nil
	}
	l := &Link{
		session: s, name: p.name, role: !p.role, snd: p.snd, rcv: p.rcv, properties: p.properties, desired: p.desired,
		peerMax: p.maxMessageSize, in: p.handle, out: out, reply: new(reply), maxMessage: c.cfg.MaxMessageSize,
		window: c.cfg.CreditWindow, attachBytes: size,
	}
	if l.role == RoleReceiver {
		l.deliveryCount = p.initialDeliveryCount
	} else {
		l.initialCount, l.deliveryCount = c.cfg.firstID, c.cfg.firstID
	}
	s.addLink(l)
	s.attaching = true
	return l, nil
}

// addLink enters l. A link of that name and role still attached in the session loses its place (AMQP 2.6.1).
func (s *Session) addLink(l *Link) {
	if s.links == nil {
		s.links, s.handles, s.names = map[uint32]*Link{}, map[uint32]struct{}{}, map[linkName]*Link{}
	}
	name := linkName{l.name, l.role}
	if old := s.names[name]; old != nil {
		old.sendDetach(&Error{Condition: CondStolen, Description: "a newer link of this name was attached"})
	}
	s.links[l.in], s.names[name] = l, l
	s.handles[l.out] = struct{}{}
	s.conn.links++
	s.conn.attachBytes += l.attachBytes
}

// readTermini decodes source and target, and says why they cannot be had.
func (l *Link) readTermini(p *attachFrame) (refusal *Error) {
	lim := l.session.conn.cfg.limits()
	source, target := true, true
	var err, err2 error
	if p.source != nil {
		l.source, source, err = decodeSource(p.source, lim)
	}
	if p.target != nil {
		l.target, target, err2 = decodeTarget(p.target, lim)
	}
	switch err := errors.Join(err, err2); {
	case err != nil:
		return decodeError(err)
	case !source || !target:
		return &Error{Condition: CondNotImplemented, Description: "unknown type of source or target"}
	}
	return l.checkLimits()
}

func (l *Link) checkLimits() *Error {
	c := l.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(l.session.links) > c.cfg.MaxLinksPerSession || c.links > c.cfg.MaxLinks {
		return &Error{Condition: CondResourceLimitExceeded, Description: "too many links"}
	}
	return nil
}

var errFrameSize = errors.New("attach does not fit your max-frame-size")

// attached answers the attach. mu is held.
func (l *Link) attached(p *attachFrame, node Node, refusal *Error) {
	l.node = node
	_, gathers := node.(Gatherer)
	l.gathers = gathers && l.lends
	s := l.session
	s.attaching = false
	if !s.alive() || l.state != linkAttaching { // ended during the call
		if l.state = linkDetached; node != nil {
			s.conn.note(note{kind: noteDetached, link: l})
		}
		s.noteEnded()
		return
	}
	r := l.reply
	l.reply = nil
	if refusal == nil {
		if err := l.writeAttach(p, r, false); err != nil {
			refusal = &Error{Condition: CondFrameSizeTooSmall, Description: err.Error()}
		}
	}
	if refusal != nil {
		l.refuse(p, refusal)
		return
	}
	l.state = linkAttached
	if l.detach != nil {
		l.sendDetach(l.detach.err)
	} else if l.role == RoleReceiver {
		l.topUp() // at once: clients wait for credit before they report the link as open
	}
	s.conn.signal()
}

// refuse attaches with a null terminus at our end and detaches with the error (AMQP 2.6.3).
func (l *Link) refuse(p *attachFrame, refusal *Error) {
	l.session.conn.log.Debug("link refused", "name", l.name, "condition", refusal.Condition, "description", refusal.Description)
	if err := l.writeAttach(p, &reply{}, true); err != nil {
		// Not even the name fits; nothing short of the session can be refused.
		l.session.sendEnd(refusal)
		return
	}
	l.state = linkAttached
	l.sendDetach(refusal)
	// No node will ask for them, and the client may take its time to detach.
	l.source, l.target, l.properties, l.desired = nil, nil, nil, nil
}

// writeAttach writes our attach. It fails, having written nothing, when that is larger than the client's max-frame-size
// or holds a value that cannot be encoded.
func (l *Link) writeAttach(p *attachFrame, r *reply, refused bool) error {
	c := l.session.conn
	out := c.output()
	at := len(out.b)
	b, start := openFrame(out.b, frameAMQP, l.session.out)
	f := openFields(b, descAttach)
	f.text(l.name)
	f.uint(l.out)
	f.bool(bool(l.role))
	f.ubyte(uint8(l.snd))
	f.ubyte(uint8(l.rcv))
	f.source(r.source, p.source, refused && l.role == RoleSender)
	f.target(r.target, p.target, refused && l.role == RoleReceiver)
	f.null() // unsettled: nothing is resumed
	f.null()
	f.optUint(opt32{l.initialCount, l.role == RoleSender}) // mandatory for a sender
	f.ulong(l.maxMessage)
	f.optSymbols(r.offered)
	f.null() // desired-capabilities
	f.optMap(r.properties)
	out.b = closeFrame(f.closeWhole(14), start)
	err := f.err
	if err == nil && len(out.b)-at > c.maxFrame {
		err = errFrameSize
	}
	if err != nil {
		out.b = out.b[:at]
	}
	return err
}

// source writes s, or else the client's own source as it came.
func (f *fields) source(s *Source, echo []byte, null bool) {
	switch {
	case null, s == nil && echo == nil:
		f.null()
	case s == nil:
		f.raw(echo)
	default:
		b, err := s.append(f.b)
		f.took(b, err)
	}
}

func (f *fields) target(t *Target, echo []byte, null bool) {
	switch {
	case null, t == nil && echo == nil:
		f.null()
	case t == nil:
		f.raw(echo)
	default:
		b, err := t.append(f.b)
		f.took(b, err)
	}
}

func (f *fields) took(b []byte, err error) {
	f.b = b
	f.wrote()
	if f.err == nil {
		f.err = err
	}
}
