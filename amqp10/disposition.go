package amqp10

// settling is a range of deliveries with the same outcome, not written yet: neighbours join it.
type settling struct {
	first, last uint32
	role        Role
	state       DeliveryState // Accepted or Released
	settled     bool
	any         bool
}

// settle has a disposition sent with the next write. mu is held.
func (s *Session) settle(role Role, id uint32, st DeliveryState, settled bool) {
	switch st.(type) {
	case Accepted, Released:
		if s.settling.join(role, id, st, settled) {
			break
		}
		s.writeSettling()
		s.settling = settling{id, id, role, st, settled, true}
	default:
		s.writeSettling()
		s.writeDisposition(&settling{id, id, role, st, settled, true})
	}
	s.owe()
}

// join widens the range by id when that is its neighbour and shares its outcome.
func (r *settling) join(role Role, id uint32, st DeliveryState, settled bool) bool {
	if !r.any || r.role != role || r.settled != settled || r.state != st {
		return false
	}
	switch id {
	case r.last + 1:
		r.last = id
	case r.first - 1:
		r.first = id
	default:
		return false
	}
	return true
}

// writeSettling writes the range collected. mu is held.
func (s *Session) writeSettling() {
	if s.settling.any {
		s.writeDisposition(&s.settling)
		s.settling = settling{}
	}
}

func (s *Session) writeDisposition(r *settling) {
	info := true
	if rejected, ok := r.state.(Rejected); ok {
		info = s.conn.fits(rejected.Error)
	}
	out := s.conn.output()
	b, start := openFrame(out.b, frameAMQP, s.out)
	f := openFields(b, descDisposition)
	f.bool(bool(r.role)) // whose disposition this is
	f.uint(r.first)
	f.optUint(opt32{r.last, r.last != r.first})
	f.optTrue(r.settled)
	f.state(r.state, info)
	out.b = closeFrame(f.closeWhole(6), start)
}

// settlement is what a client said about one of our deliveries.
type settlement struct {
	link    *Link
	id      uint32
	tag     [maxTag]byte
	tagLen  uint8
	state   DeliveryState
	settled bool
}

// onDisposition takes over what the client says about a range of deliveries (AMQP 2.7.6).
func (c *Conn) onDisposition(channel uint16, d *decoder) *Error {
	var p dispositionFrame
	p.decode(d)
	if d.err != nil {
		return decodeError(d.err)
	}
	events, perr := c.disposed(channel, &p)
	if len(events) > 0 {
		c.calls.Lock()
		for i := range events {
			e := &events[i]
			if node, ok := e.link.node.(Sender); ok && !e.link.gone {
				node.Settled(e.link, e.id, e.tag[:e.tagLen], e.state, e.settled)
			}
		}
		c.calls.Unlock()
		clear(events)
		if cap(events) > 64 {
			c.events = nil
		}
	}
	return perr
}

func (c *Conn) disposed(channel uint16, p *dispositionFrame) ([]settlement, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, perr := c.session(channel)
	if perr != nil || !s.alive() {
		return nil, perr
	}
	if p.role == RoleSender {
		s.senderSettled(p)
		return nil, nil
	}
	c.events = c.events[:0]
	s.sent.removeIf(p.first, p.last, func(id uint32, d *sentDelivery) bool {
		c.events = append(c.events, settlement{d.link, id, d.tag, d.tagLen, p.state, p.settled})
		if p.settled {
			d.link.unsettled--
		}
		return p.settled
	})
	c.wakeSenders()
	return c.events, nil
}

// senderSettled forgets deliveries the client settled: in receiver settle mode second after our outcome, or because it
// lost interest.
func (s *Session) senderSettled(p *dispositionFrame) {
	if !p.settled {
		return
	}
	s.received.removeIf(p.first, p.last, func(_ uint32, d **Delivery) bool {
		(*d).done = true
		(*d).link.unsettled--
		(*d).link.topUp()
		return true
	})
}
