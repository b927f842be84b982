package hostile

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// The performatives' descriptors. AMQP 2.7, 5.3.3.
const (
	amqpOpen        = 0x10
	amqpBegin       = 0x11
	amqpAttach      = 0x12
	amqpFlow        = 0x13
	amqpTransfer    = 0x14
	amqpDisposition = 0x15
	amqpDetach      = 0x16
	amqpEnd         = 0x17
	amqpClose       = 0x18
	saslInit        = 0x41
	saslOutcome     = 0x44
)

var (
	amqpHeader = "AMQP\x00\x01\x00\x00"
	saslHeader = "AMQP\x03\x01\x00\x00"
	null       = []byte{0x40}
	yes        = []byte{0x41}
	no         = []byte{0x42}
)

func frame(channel uint16, body []byte) []byte { return typedFrame(0, channel, body) }

func typedFrame(kind byte, channel uint16, body []byte) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	f = append(f, 2, kind, byte(channel>>8), byte(channel))
	return append(f, body...)
}

// performative is a described list32.
func performative(descriptor byte, fields ...[]byte) []byte {
	return append([]byte{0x00, 0x53, descriptor}, compound(0xd0, uint32(len(fields)), join(fields...))...)
}

// compound is a list32, map32 or array32 that says it has count elements.
func compound(code byte, count uint32, content []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{code}, uint32(4+len(content)))
	return append(binary.BigEndian.AppendUint32(b, count), content...)
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func text(s string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0xb1}, uint32(len(s))), s...)
}

func symbol(s string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0xb3}, uint32(len(s))), s...)
}

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0x70}, n) }

func ushort(n uint16) []byte { return []byte{0x60, byte(n >> 8), byte(n)} }

func octets(b string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0xb0}, uint32(len(b))), b...)
}

func role(receiver bool) []byte {
	if receiver {
		return yes
	}
	return no
}

// open, begin and attach as a decent client sends them.
func open() []byte { return frame(0, performative(amqpOpen, text("hostile"), text(address))) }

func begin(channel uint16) []byte {
	return frame(channel, performative(amqpBegin, null, u32(0), u32(5000), u32(5000), u32(0xFFFFFFFF)))
}

func terminus(descriptor byte, at string) []byte { return performative(descriptor, text(at)) }

func attach(name string, handle uint32, receiver bool, at string) []byte {
	return frame(0, performative(amqpAttach, text(name), u32(handle), role(receiver), []byte{0x50, 2}, []byte{0x50, 0}, terminus(0x28, at), terminus(0x29, at), null, null, u32(0)))
}

// amqpFrame is what the hub said.
type amqpFrame struct {
	descriptor byte // 0 for an empty frame
	body       []byte
}

// readAMQP reads a frame.
func readAMQP(c net.Conn) (amqpFrame, error) {
	_ = c.SetReadDeadline(time.Now().Add(promptly))
	head := make([]byte, 8)
	if err := readFull(c, head); err != nil {
		return amqpFrame{}, err
	}
	n := binary.BigEndian.Uint32(head)
	if n < 8 || n > 1<<20 {
		return amqpFrame{}, fmt.Errorf("the hub sent a frame of %d bytes", n)
	}
	body := make([]byte, n-8)
	if err := readFull(c, body); err != nil {
		return amqpFrame{}, err
	}
	f := amqpFrame{body: body}
	if len(body) > 2 && body[0] == 0 && body[1] == 0x53 {
		f.descriptor = body[2]
	}
	return f, nil
}
