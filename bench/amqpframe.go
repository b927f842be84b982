package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/iolite-emulator/iolite/amqp10"
)

// Descriptors of performatives and terminus (AMQP 2.7, 3.5).
const (
	descOpen        = 0x10
	descBegin       = 0x11
	descAttach      = 0x12
	descFlow        = 0x13
	descTransfer    = 0x14
	descDisposition = 0x15
	descDetach      = 0x16
	descEnd         = 0x17
	descClose       = 0x18
	descSource      = 0x28
	descTarget      = 0x29
)

// list is a performative or another described list under construction.
type list struct {
	b []byte
	n int
}

func newList(descriptor byte) *list {
	return &list{b: []byte{0, 0x53, descriptor, 0xd0, 0, 0, 0, 0, 0, 0, 0, 0}}
}

func (l *list) add(b ...byte) *list {
	l.b = append(l.b, b...)
	l.n++
	return l
}

func (l *list) null() *list           { return l.add(0x40) }
func (l *list) ubyte(v byte) *list    { return l.add(0x50, v) }
func (l *list) ushort(v uint16) *list { return l.add(0x60, byte(v>>8), byte(v)) }
func (l *list) uint(v uint32) *list   { return l.add(binary.BigEndian.AppendUint32([]byte{0x70}, v)...) }
func (l *list) binary(v []byte) *list {
	return l.add(append([]byte{0xa0, byte(len(v))}, v...)...)
}

func (l *list) text(v string) *list {
	return l.add(append(binary.BigEndian.AppendUint32([]byte{0xb1}, uint32(len(v))), v...)...)
}

func (l *list) bool(v bool) *list {
	if v {
		return l.add(0x41)
	}
	return l.add(0x42)
}

// encode closes the list.
func (l *list) encode() []byte {
	binary.BigEndian.PutUint32(l.b[4:], uint32(len(l.b)-8))
	binary.BigEndian.PutUint32(l.b[8:], uint32(l.n))
	return l.b
}

// frame puts a performative and a payload on channel 0.
func frame(performative *list, payload []byte) []byte {
	b := append([]byte{0, 0, 0, 0, 2, 0, 0, 0}, performative.encode()...)
	b = append(b, payload...)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

// attachFrame attaches a link; receiver says that we receive. filter may be nil.
func attachFrame(handle uint32, receiver bool, address string, filter []byte) []byte {
	source, target := newList(descSource), newList(descTarget)
	settle := byte(amqp10.SndUnsettled)
	if receiver {
		settle = byte(amqp10.SndSettled)
		source.text(address).uint(0).null().uint(0).bool(false).null().null()
		if filter != nil {
			source.add(filter...)
		}
	} else {
		target.text(address)
	}
	a := newList(descAttach).text(fmt.Sprintf("link-%d", handle)).uint(handle).bool(receiver).ubyte(settle).ubyte(byte(amqp10.RcvFirst)).
		add(source.encode()...).add(target.encode()...)
	if !receiver {
		a.null().null().uint(0) // initial-delivery-count
	}
	return frame(a, nil)
}

// creditFrame grants credit for a link, of which seen deliveries have come.
func creditFrame(handle, seen, credit uint32) []byte {
	return frame(newList(descFlow).uint(0).uint(1<<30).uint(0).uint(1<<30).uint(handle).uint(seen).uint(credit), nil)
}

// amqpConn is a connection with one session on channel 0, that was opened without SASL.
type amqpConn struct {
	nc         net.Conn
	in         []byte
	used, have int
}

func openAMQP(nc net.Conn, hostname string) (*amqpConn, error) {
	c := &amqpConn{nc: nc, in: make([]byte, 64<<10)}
	hello := append([]byte("AMQP\x00\x01\x00\x00"), frame(newList(descOpen).text("bench").text(hostname).uint(65536).ushort(0), nil)...)
	hello = append(hello, frame(newList(descBegin).null().uint(0).uint(1<<30).uint(1<<30).uint(1023), nil)...)
	if _, err := nc.Write(hello); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return nil, err
	}
	if string(head[:]) != "AMQP\x00\x01\x00\x00" {
		return nil, fmt.Errorf("protocol header % x", head)
	}
	_, err := c.expect(descBegin)
	return c, err
}

// expect reads frames up to the first with that descriptor.
func (c *amqpConn) expect(descriptor byte) (performative, error) {
	for {
		p, err := c.next()
		if err != nil || p.descriptor == descriptor {
			return p, err
		}
	}
}

// next waits for a frame.
func (c *amqpConn) next() (performative, error) {
	for {
		if p, err := c.buffered(); err != nil || p.descriptor != 0 {
			return p, err
		}
		if err := c.fill(); err != nil {
			return performative{}, err
		}
	}
}

// fill reads once. What was returned before becomes invalid.
func (c *amqpConn) fill() error {
	c.have = copy(c.in, c.in[c.used:c.have])
	c.used = 0
	n, err := c.nc.Read(c.in[c.have:])
	c.have += n
	return err
}

// buffered returns the next frame that has been read already; the zero performative when there is none. The end of the link, session
// or connection is an error.
func (c *amqpConn) buffered() (performative, error) {
	for {
		b := c.in[c.used:c.have]
		if len(b) < 8 || len(b) < int(binary.BigEndian.Uint32(b)) {
			return performative{}, nil
		}
		size := int(binary.BigEndian.Uint32(b))
		c.used += size
		if size == 8 {
			continue // a heartbeat
		}
		p, err := parsePerformative(b[8:size])
		if err != nil {
			return p, err
		}
		switch p.descriptor {
		case descDetach, descEnd, descClose:
			return p, fmt.Errorf("ended by the server: %q", p.fields)
		}
		return p, nil
	}
}

// performative is a frame's body taken apart as far as needed.
type performative struct {
	descriptor byte
	fields     []byte // the elements of its list
	payload    []byte
}

func parsePerformative(b []byte) (performative, error) {
	switch {
	case len(b) >= 4 && b[0] == 0 && b[1] == 0x53 && b[3] == 0x45:
		return performative{b[2], nil, b[4:]}, nil
	case len(b) >= 6 && b[0] == 0 && b[1] == 0x53 && b[3] == 0xc0 && int(b[4]) < len(b)-4:
		end := 5 + int(b[4])
		return performative{b[2], b[6:end], b[end:]}, nil
	case len(b) >= 12 && b[0] == 0 && b[1] == 0x53 && b[3] == 0xd0 && int(binary.BigEndian.Uint32(b[4:])) <= len(b)-8:
		end := 8 + int(binary.BigEndian.Uint32(b[4:]))
		return performative{b[2], b[12:end], b[end:]}, nil
	}
	return performative{}, errors.New("not a frame that this client understands")
}

// uints reads the first unsigned integers of the fields, booleans as 0 and 1; null is set for a null.
func (p performative) uints(out []uint32) (null uint32, err error) {
	b := p.fields
	for i := range out {
		if len(b) == 0 {
			null |= 1 << i
			continue
		}
		width := map[byte]int{0x40: 0, 0x41: 0, 0x42: 0, 0x43: 0, 0x52: 1, 0x56: 1, 0x70: 4}
		n, ok := width[b[0]]
		if !ok || len(b) < 1+n {
			return null, fmt.Errorf("field %d of performative %#x has the type %#x", i, p.descriptor, b[0])
		}
		switch {
		case b[0] == 0x40:
			null |= 1 << i
		case b[0] == 0x41:
			out[i] = 1
		case n == 1:
			out[i] = uint32(b[1])
		case n == 4:
			out[i] = binary.BigEndian.Uint32(b[1:])
		default:
			out[i] = 0
		}
		b = b[1+n:]
	}
	return null, nil
}
