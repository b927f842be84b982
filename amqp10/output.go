package amqp10

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

const (
	maxWrite    = 64 << 10  // of one write: a WebSocket client of Java buffers 65 KiB
	eagerOutput = 32 << 10  // not to be held back until the reader rests
	selfOutput  = 4 << 10   // the reader writes no more than this itself
	maxUnrested = 64 << 10  // the reader rests after so many bytes even if there is more to be read
	keptBuffer  = 512 << 10 // larger buffers are left to the garbage collector
)

// buffer is a pooled output buffer.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 2<<10)} }}

// output returns the buffer to append frames to. mu is held.
func (c *Conn) output() *buffer {
	if c.out == nil {
		c.out = buffers.Get().(*buffer)
	}
	return c.out
}

// pending is the number of bytes not written yet. mu is held.
func (c *Conn) pending() int {
	n := c.inFlight
	if c.out != nil {
		n += len(c.out.b)
	}
	return n
}

// signal has output, due dispositions and notes taken care of: by a writer goroutine, or by the reader when that is at
// work and will rest soon, so that what it causes meanwhile leaves in one write. mu is held.
func (c *Conn) signal() {
	if c.writing || c.broken || c.phase == phaseEnded {
		return
	}
	if c.out == nil && len(c.due) == 0 && len(c.notes) == 0 {
		return
	}
	if c.held() {
		return
	}
	c.writing = true
	c.writers.Add(1)
	go c.write()
}

// held says that the reader is at work and will see to what is ready when it rests. mu is held.
func (c *Conn) held() bool {
	return c.reading.Load() && (c.out == nil || len(c.out.b) < eagerOutput)
}

// write is the writer goroutine. It ends when there is nothing left to write and no note left to run.
func (c *Conn) write() {
	defer c.writers.Done()
	if c.noted.Load() {
		runtime.Gosched() // events that are about to be stored leave with the one that this is about
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for noted := false; ; {
		c.gather()
		switch {
		case c.out != nil && !c.broken:
			if c.flush() != nil {
				c.mu.Unlock()
				c.nc.Close()
				c.mu.Lock()
			}
			if c.held() { // only after a write: a reader that never rests for long must not starve the client
				c.writing = false
				return
			}
			noted = false
		case c.noted.Load() && !noted:
			c.mu.Unlock()
			c.runNotes() // or someone in a callback does, on its way out
			c.mu.Lock()
			noted = true
		default:
			c.writing = false
			return
		}
	}
}

// writeSelf has the reader write, if there is little and nobody else is writing. mu is held, but not meanwhile.
func (c *Conn) writeSelf() {
	if c.writing || c.broken || c.phase == phaseEnded {
		return
	}
	c.gather()
	if c.out == nil || len(c.out.b) > selfOutput {
		return
	}
	c.writing = true
	_ = c.flush() // idle notices
	c.writing = false
}

// flush writes the output. mu is held, but not meanwhile. After an error the connection is broken, and the socket is still to be
// dropped.
func (c *Conn) flush() error {
	out := c.out
	c.out, c.inFlight = nil, len(out.b)
	c.mu.Unlock()
	err := c.writeAll(out.b)
	if cap(out.b) <= keptBuffer {
		out.b = out.b[:0]
		buffers.Put(out)
	}
	c.mu.Lock()
	c.inFlight = 0
	if err != nil {
		c.fail(fmt.Errorf("amqp10: write: %w", err))
	}
	c.wakeSenders()
	c.room.Broadcast()
	return err
}

// writeAll writes b. The deadline is pushed on only when half of it is used up, since that costs more than it should.
func (c *Conn) writeAll(b []byte) error {
	timeout := c.cfg.WriteTimeout
	for len(b) > 0 {
		now := clock.Wall()
		since := now.Sub(c.start)
		c.lastWrite.Store(int64(since))
		if since > c.deadline-timeout/2 {
			c.deadline = since + timeout
			c.setWriteDeadline(now.Add(timeout))
		}
		n, err := c.nc.Write(b[:min(len(b), maxWrite)])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// setWriteDeadline sets the deadline of writes, unless sendClose or finish has set its own.
func (c *Conn) setWriteDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase < phaseClosing {
		_ = c.nc.SetWriteDeadline(t)
	}
}

// gather turns what sessions owe into frames. mu is held.
func (c *Conn) gather() {
	if c.phase != phaseOpen {
		c.due = c.due[:0]
		return
	}
	for i, s := range c.due {
		s.writeDue()
		c.due[i] = nil
	}
	c.due = c.due[:0]
}
