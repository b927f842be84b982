package amqp10

import (
	"fmt"
	"time"
)

// handle deals with one frame. over says that the client closed; an *Error is to be reported to it by close.
func (c *Conn) handle(f frame) (over bool, err error) {
	if f.typ != frameAMQP {
		return false, framingError("frame of type %d", f.typ)
	}
	if len(f.body) == 0 {
		return false, nil // a heartbeat
	}
	d := newDecoder(f.body, c.cfg.limits())
	d.own = true
	desc := d.descriptor()
	if d.err != nil {
		return false, decodeError(d.err)
	}
	if desc != descTransfer {
		c.gathered()
	}
	perr := c.expect(desc)
	switch {
	case perr != nil:
		return false, perr
	case desc == descClose:
		return true, c.onClose(&d)
	}
	if perr := c.perform(f.channel, desc, &d); perr != nil {
		return false, perr
	}
	return false, nil
}

func decodeError(err error) *Error {
	return &Error{Condition: CondDecodeError, Description: err.Error()}
}

// expect checks that open comes first and once (AMQP 2.4.7). Only the reader changes whether the client has opened.
func (c *Conn) expect(desc uint64) *Error {
	switch opened := c.open != nil; {
	case !opened && desc != descOpen:
		return framingError("first frame is 0x%02x instead of open", desc)
	case opened && desc == descOpen:
		return &Error{Condition: CondIllegalState, Description: "second open"}
	}
	return nil
}

func (c *Conn) perform(channel uint16, desc uint64, d *decoder) *Error {
	switch desc {
	case descTransfer:
		return c.onTransfer(channel, d)
	case descFlow:
		return c.onFlow(channel, d)
	case descDisposition:
		return c.onDisposition(channel, d)
	case descOpen:
		return c.onOpen(d)
	case descBegin:
		return c.onBegin(channel, d)
	case descAttach:
		return c.onAttach(channel, d)
	case descDetach:
		return c.onDetach(channel, d)
	case descEnd:
		return c.onEnd(channel, d)
	}
	return &Error{Condition: CondNotImplemented, Description: fmt.Sprintf("performative 0x%02x", desc)}
}

func (c *Conn) onOpen(d *decoder) *Error {
	o := new(Open)
	o.decode(d)
	if d.err != nil {
		return decodeError(d.err)
	}
	c.mu.Lock()
	c.open = o
	c.maxFrame = int(min(o.MaxFrameSize, c.cfg.MaxFrameSize))
	c.mu.Unlock()
	if o.MaxFrameSize < minMaxFrameSize {
		c.maxFrame = minMaxFrameSize
		return &Error{Condition: CondInvalidField, Description: "max-frame-size below 512"}
	}
	c.calls.Lock()
	refusal := c.peer.Open(c, o)
	c.calls.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase != phaseOpening: // closed during the call
	case refusal != nil:
		c.sendClose(refusal)
	default:
		c.writeOpen()
		_ = c.nc.SetReadDeadline(time.Time{})
		c.startTimer()
	}
	return nil
}

// writeOpen answers open. mu is held.
func (c *Conn) writeOpen() {
	out := c.output()
	b, start := openFrame(out.b, frameAMQP, 0)
	f := openFields(b, descOpen)
	f.text(c.cfg.ContainerID)
	f.optText(c.cfg.Hostname)
	f.uint(c.cfg.MaxFrameSize)
	f.ushort(c.cfg.ChannelMax)
	f.optUint(opt32{uint32(c.cfg.IdleTimeout / time.Millisecond), c.cfg.IdleTimeout > 0})
	f.null() // locales: en-US
	f.null()
	f.null() // capabilities: none
	f.null()
	f.optMap(c.cfg.Properties)
	out.b = closeFrame(f.closeWhole(10), start)
	c.phase = phaseOpen
	c.signal()
}

// sendClose sends close(err), once; only the client's close still matters then, and only for a while. mu is held.
func (c *Conn) sendClose(err *Error) {
	switch c.phase {
	case phaseOpening:
		c.writeOpen() // each side must open before it may close (AMQP 2.4.1)
	case phaseOpen:
		c.gather()
	default:
		return
	}
	out := c.output()
	b, start := openFrame(out.b, frameAMQP, 0)
	f := openFields(b, descClose)
	f.optError(err, c.fits(err))
	out.b = closeFrame(f.closeWhole(1), start)
	c.phase, c.closeErr = phaseClosing, err
	_ = c.nc.SetDeadline(c.start.Add(c.since() + c.cfg.CloseTimeout)) // a client that does not read will not answer
	c.signal()
}

// fits says whether err can be sent whole: in a frame as large as the client takes (AMQP 2.7.1).
func (c *Conn) fits(err *Error) bool {
	if err == nil {
		return false
	}
	const rest = 64 // header and the fields around an error
	return len(appendError(nil, err, true))+rest <= c.maxFrame
}

// onClose answers the client's close (AMQP 2.4.3).
func (c *Conn) onClose(d *decoder) error {
	err := decodeOnlyError(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := c.phase == phaseClosing
	c.peerClosed = true
	c.sendClose(nil)
	switch {
	case answer && c.closeErr != nil:
		return c.closeErr
	case !answer && err != nil:
		c.closeErr = err
		return err
	}
	return nil
}
