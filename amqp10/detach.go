package amqp10

// Detach closes the link with err, which may be nil. It does not wait: Node.Detached follows as a callback. Calls after
// the first, or after the client's detach, do nothing.
func (l *Link) Detach(err *Error) {
	c := l.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.state == linkAttaching {
		l.detach = &detachWish{err}
		return
	}
	l.sendDetach(err)
}

// sendDetach closes the link from our side. Until the client's detach, what it sends on the handle is dropped. mu is held.
func (l *Link) sendDetach(err *Error) {
	if l.state != linkAttached || !l.session.alive() {
		return
	}
	if err != nil {
		l.session.conn.log.Debug("link detached", "name", l.name, "condition", err.Condition, "description", err.Description)
	}
	l.writeDetach(true, err)
	l.release(err)
	l.state = linkDetaching
	l.session.conn.signal()
}

// onDetach detaches a link at the client's wish, or completes a detach of ours. closed=false would let the link be
// resumed; we keep nothing to resume, but answer alike (AMQP 2.6.5, 2.6.6).
func (c *Conn) onDetach(channel uint16, d *decoder) *Error {
	var p detachFrame
	p.decode(d)
	if d.err != nil {
		return decodeError(d.err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, perr := c.session(channel)
	if perr != nil || !s.alive() {
		return perr
	}
	l := s.links[p.handle]
	if l == nil {
		s.fail(CondUnattachedHandle, "detach of a handle that is not attached")
		return nil
	}
	if l.state == linkAttached {
		l.writeDetach(p.closed, nil)
		l.release(p.err)
	}
	l.state = linkDetached
	delete(s.links, l.in)
	delete(s.handles, l.out)
	c.links--
	c.attachBytes -= l.attachBytes
	return nil
}

func (l *Link) writeDetach(closed bool, err *Error) {
	s := l.session
	s.writeDue()
	out := s.conn.output()
	b, start := openFrame(out.b, frameAMQP, s.out)
	f := openFields(b, descDetach)
	f.uint(l.out)
	f.optTrue(closed)
	f.optError(err, s.conn.fits(err))
	out.b = closeFrame(f.closeWhole(3), start)
}

// release forgets the link's name and deliveries, and notes Detached. mu is held.
func (l *Link) release(err *Error) {
	s, c := l.session, l.session.conn
	if l.state == linkDetached || l.state == linkDetaching {
		return
	}
	l.state = linkDetached
	if name := (linkName{l.name, l.role}); s.names[name] == l {
		delete(s.names, name)
	}
	l.dropPartial()
	if s.current != nil && s.current.link == l {
		s.current = nil
		c.wakeSenders()
	}
	s.received.removeAll(func(_ uint32, d **Delivery) bool { return (*d).link == l })
	s.sent.removeAll(func(_ uint32, d *sentDelivery) bool { return d.link == l })
	if l.node != nil {
		c.note(note{kind: noteDetached, link: l, err: err})
	}
}

// callDetached tells the node that the link is over. calls is held.
func (l *Link) callDetached(err *Error) {
	l.gone = true
	l.node.Detached(l, err)
}
