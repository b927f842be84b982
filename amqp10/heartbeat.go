package amqp10

import "time"

const (
	minBeat  = 20 * time.Millisecond // however short a client's idle-time-out is
	idleTrim = 5 * time.Second       // idle buffers are given back after this long
)

// startTimer starts the connection's one timer. mu is held.
func (c *Conn) startTimer() {
	c.lastRead.Store(int64(c.since()))
	c.timer = time.AfterFunc(time.Hour, c.heartbeat) //nolint:forbidigo // keep-alive is real time
	c.timer.Reset(c.nextBeat(c.since()))
}

// heartbeat keeps the connection alive and notices when the client does not (AMQP 2.4.5). It is the timer's function: it
// sets the timer for the next time something can be due.
func (c *Conn) heartbeat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != phaseOpen || c.broken {
		return
	}
	now := c.since()
	silence := now - time.Duration(c.lastRead.Load())
	if c.cfg.IdleTimeout > 0 && silence >= 2*c.cfg.IdleTimeout {
		c.sendClose(&Error{Condition: CondResourceLimitExceeded, Description: "max idle time exceeded"})
		return
	}
	if beat := c.beat(); beat > 0 && now-time.Duration(c.lastWrite.Load()) >= beat {
		c.writeHeartbeat()
		c.lastWrite.Store(int64(now))
	}
	c.trim(silence)
	c.timer.Reset(c.nextBeat(now))
}

// writeHeartbeat queues an empty frame, unless there is something else to write. mu is held.
func (c *Conn) writeHeartbeat() {
	if c.pending() > 0 {
		return
	}
	out := c.output()
	b, start := openFrame(out.b, frameAMQP, 0)
	out.b = closeFrame(b, start)
	c.signal()
}

// beat is the interval of our heartbeats, well below half of the client's idle-time-out; 0 means none.
func (c *Conn) beat() time.Duration {
	if c.open.IdleTimeout == 0 {
		return 0
	}
	return max(time.Duration(c.open.IdleTimeout)*time.Millisecond*2/5, minBeat)
}

// nextBeat is the time until the timer has something to do.
func (c *Conn) nextBeat(now time.Duration) time.Duration {
	next := time.Hour
	if beat := c.beat(); beat > 0 {
		next = min(next, time.Duration(c.lastWrite.Load())+beat-now)
	}
	if c.cfg.IdleTimeout > 0 {
		next = min(next, time.Duration(c.lastRead.Load())+2*c.cfg.IdleTimeout-now)
	}
	return max(next, time.Millisecond)
}

// trim gives back what an idle connection does not need. mu is held.
func (c *Conn) trim(silence time.Duration) {
	if silence < idleTrim {
		return
	}
	c.shrink.Store(true)
	for _, s := range c.sessions {
		s.received.trim()
		s.sent.trim()
	}
}
