package amqp10

// onEnd ends a session at the client's wish, or completes an end of ours (AMQP 2.5.5).
func (c *Conn) onEnd(channel uint16, d *decoder) *Error {
	err := decodeOnlyError(d)
	if d.err != nil {
		return decodeError(d.err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, perr := c.session(channel)
	if perr != nil {
		return perr
	}
	if !s.ended {
		s.writeEnd(nil)
		s.bury(err)
	}
	delete(c.sessions, s.in)
	delete(c.channels, uint32(s.out))
	return nil
}

// sendEnd ends the session from our side. Until the client's end, what it sends on the channel is dropped. mu is held.
func (s *Session) sendEnd(err *Error) {
	if !s.alive() {
		return
	}
	if err != nil {
		s.conn.log.Debug("session ended", "channel", s.in, "condition", err.Condition, "description", err.Description)
	}
	s.writeEnd(err)
	s.bury(err)
	s.conn.signal()
}

func (s *Session) writeEnd(err *Error) {
	if !s.alive() {
		return
	}
	s.writeDue()
	out := s.conn.output()
	b, start := openFrame(out.b, frameAMQP, s.out)
	f := openFields(b, descEnd)
	f.optError(err, s.conn.fits(err))
	out.b = closeFrame(f.closeWhole(1), start)
	s.conn.signal()
}

// fail ends the session because the client broke its rules; the connection lives on. mu is held.
func (s *Session) fail(cond Symbol, description string) {
	s.sendEnd(&Error{Condition: cond, Description: description})
}
