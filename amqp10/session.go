package amqp10

import "fmt"

// Session is one session of a connection (AMQP 2.5). Its fields are guarded by the connection's mu.
type Session struct {
	conn      *Conn
	in        uint16 // the client's channel
	out       uint16 // ours
	attaching bool   // the peer is being asked about a link
	ended     bool   // no links, nothing is sent; what the client still sends is dropped until its end
	buried    bool   // SessionEnded was called or noted
	user      any

	links   map[uint32]*Link    // by the client's handle
	handles map[uint32]struct{} // ours, in use
	names   map[linkName]*Link  // attached links

	// Session flow control (AMQP 2.5.6) counts transfer frames.
	nextIncomingID uint32
	incomingWindow uint32 // what the client may still send before it hears from us
	nextOutgoingID uint32
	firstOutgoing  uint32
	remoteWindow   uint32 // what we may still send
	handleMax      uint32 // of our handles

	received       ledger[*Delivery] // unsettled, sent by the client
	sent           ledger[sentDelivery]
	nextDeliveryID uint32
	current        *outgoing // a delivery of ours that the window cut short

	owes     bool // in conn.due
	owesFlow bool
	settling settling
	dueLinks []*Link // links that owe a flow
}

// linkName identifies a link within a session (AMQP 2.6.1). Names are not unique across sessions.
type linkName struct {
	name string
	role Role
}

// Conn returns the connection the session belongs to.
func (s *Session) Conn() *Conn { return s.conn }

// End ends the session and with it all its links; err may be nil. Other sessions live on. It does not wait: Detached and
// SessionEnded follow as callbacks. Calls after the first, or after the client's end, do nothing.
func (s *Session) End(err *Error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.sendEnd(err)
}

// SetUserData keeps v with the session for UserData.
func (s *Session) SetUserData(v any) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.user = v
}

// UserData returns what SetUserData kept, nil before.
func (s *Session) UserData() any {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.user
}

// alive says whether frames may be sent on the session. mu is held.
func (s *Session) alive() bool { return !s.ended && s.conn.phase == phaseOpen && !s.conn.broken }

// session returns the session the client has on channel. mu is held.
func (c *Conn) session(channel uint16) (*Session, *Error) {
	if s := c.sessions[channel]; s != nil {
		return s, nil
	}
	return nil, &Error{Condition: CondNotAllowed, Description: fmt.Sprintf("no session on channel %d", channel)}
}

// owe has writeDue called before the next write. mu is held.
func (s *Session) owe() {
	if !s.owes {
		s.owes = true
		s.conn.due = append(s.conn.due, s)
	}
	s.conn.signal()
}

// oweFlow has a flow sent with the next write.
func (s *Session) oweFlow() {
	s.owesFlow = true
	s.owe()
}

// writeDue writes the dispositions and flows the session owes. mu is held.
func (s *Session) writeDue() {
	s.owes = false
	if s.ended {
		return
	}
	s.writeSettling()
	for i, l := range s.dueLinks {
		l.owesFlow = false
		if l.state == linkAttached {
			l.writeFlow()
		}
		s.dueLinks[i] = nil
	}
	s.dueLinks = s.dueLinks[:0]
	if s.owesFlow {
		s.writeFlow(nil)
	}
}

// bury forgets the links of a session that is over and notes the callbacks. mu is held.
func (s *Session) bury(err *Error) {
	s.ended = true
	for _, l := range s.links {
		l.release(err)
		s.conn.attachBytes -= l.attachBytes
	}
	s.conn.links -= len(s.links)
	s.links, s.handles, s.names, s.current = nil, nil, nil, nil
	s.noteEnded()
}

// noteEnded notes SessionEnded, unless the peer is just being asked about a link: that one's Detached comes first.
func (s *Session) noteEnded() {
	if s.ended && !s.buried && !s.attaching {
		s.buried = true
		s.conn.note(note{kind: noteSessionEnded, session: s})
	}
}
