package amqp10

import "fmt"

// ownHandleMax is announced in begin. C# asks for 256 Ki links per session (azure-amqp).
const ownHandleMax = 256<<10 - 1

// onBegin begins a session (AMQP 2.5.1).
func (c *Conn) onBegin(channel uint16, d *decoder) *Error {
	var p beginFrame
	p.decode(d)
	if d.err != nil {
		return decodeError(d.err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != phaseOpen {
		return nil
	}
	if channel > c.cfg.ChannelMax {
		return framingError("channel %d is above channel-max %d", channel, c.cfg.ChannelMax) // AMQP 2.7.1
	}
	if c.sessions[channel] != nil {
		return &Error{Condition: CondNotAllowed, Description: fmt.Sprintf("channel %d has a session already", channel)}
	}
	out, ok := freeNumber(c.channels, uint32(channel), uint32(c.open.ChannelMax))
	if !ok {
		return &Error{Condition: CondResourceLimitExceeded, Description: "your channel-max leaves no channel for the answer"}
	}
	s := &Session{conn: c, in: channel, out: uint16(out), handleMax: p.handleMax}
	s.nextIncomingID, s.remoteWindow = p.nextOutgoingID, p.incomingWindow
	s.nextOutgoingID, s.firstOutgoing, s.nextDeliveryID = c.cfg.firstID, c.cfg.firstID, c.cfg.firstID
	full := len(c.sessions) >= c.cfg.MaxSessions
	c.addSession(s)
	s.writeBegin()
	if full {
		s.buried = true // the peer never hears of it
		s.sendEnd(&Error{Condition: CondResourceLimitExceeded, Description: "too many sessions on this connection"})
	}
	return nil
}

func (c *Conn) addSession(s *Session) {
	if c.sessions == nil {
		c.sessions, c.channels = map[uint16]*Session{}, map[uint32]struct{}{}
	}
	c.sessions[s.in] = s
	c.channels[uint32(s.out)] = struct{}{}
}

// freeNumber returns a channel or handle not in used: like, when that is possible, since the client keeps its own numbers
// apart already, otherwise the lowest.
func freeNumber(used map[uint32]struct{}, like, max uint32) (n uint32, ok bool) {
	if _, taken := used[like]; !taken && like <= max {
		return like, true
	}
	for n := uint32(0); n <= max && n <= uint32(len(used)); n++ {
		if _, taken := used[n]; !taken {
			return n, true
		}
	}
	return 0, false
}

func (s *Session) writeBegin() {
	s.incomingWindow = s.conn.cfg.IncomingWindow
	out := s.conn.output()
	b, start := openFrame(out.b, frameAMQP, s.out)
	f := openFields(b, descBegin)
	f.ushort(s.in) // remote-channel
	f.uint(s.nextOutgoingID)
	f.uint(s.incomingWindow)
	f.uint(outgoingWindow)
	f.uint(ownHandleMax)
	out.b = closeFrame(f.closeWhole(8), start)
	s.conn.signal()
}
