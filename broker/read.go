package broker

import (
	"errors"
	"io"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// maxMessage is the largest telemetry message. IoT Hub: "device-to-cloud messages can be at most 256 KB".
	maxMessage = 256 << 10
	// maxPacket is the largest remaining length that is read: a topic and a payload of full size, so that the hub can judge
	// every message that might be small enough.
	maxPacket = maxMessage + 1<<16 + 4
	// maxConnect is the same for a peer that has not proved anything yet: a Will of full size and the rest.
	maxConnect = 128 << 10
)

// inbox is what a connection reads into. A connection has one only while its peer has something to say, so that ten thousand
// silent ones cost no buffers. It holds a whole TLS record.
type inbox struct {
	buf        [16 << 10]byte
	start, end int // what has been read and not yet handled
	packet     packets.Packet
}

var inboxes = sync.Pool{New: func() any { return new(inbox) }}

// run reads packets and handles them, one after the other, until the connection ends. It returns nil after DISCONNECT.
func (c *connection) run() error {
	for !c.goodbye {
		c.rearm = true
		n, err := c.read(c.first[:])
		if err != nil {
			return err
		}
		in := inboxes.Get().(*inbox)
		in.start, in.end = 0, copy(in.buf[:], c.first[:n])
		err = c.burst(in)
		in.packet = packets.Packet{}
		inboxes.Put(in)
		if err != nil {
			return err
		}
	}
	return nil
}

// burst handles packets until nothing is left of what has been read.
func (c *connection) burst(in *inbox) (err error) {
	for in.start < in.end && !c.goodbye && err == nil {
		c.rearm = true
		var body []byte
		if body, err = c.next(in); err == nil {
			err = c.handle(&in.packet, body)
		}
	}
	if settled := c.settle(); settled != nil { // what came before an offence counts
		return settled
	}
	return err
}

// next reads one packet: its header into in.packet, the rest is returned, and valid until the next call.
func (c *connection) next(in *inbox) ([]byte, error) {
	header := &in.packet.FixedHeader
	in.packet = packets.Packet{ProtocolVersion: 4}
	if err := header.Decode(in.buf[in.start]); err != nil {
		return nil, c.violate(ruleMalformed, "detail", err.Error())
	}
	size, err := c.remaining(in)
	if err != nil {
		return nil, err
	}
	header.Remaining = size
	limit := maxPacket
	if c.session == nil {
		limit = maxConnect
		if header.Type != packets.Connect {
			return nil, c.violate(ruleFirstConnect, "packet", packets.PacketNames[header.Type])
		}
	}
	if size > limit {
		return nil, c.violate(ruleBigPacket, "packet", packets.PacketNames[header.Type])
	}
	return c.body(in, size)
}

// remaining reads past the header's first byte and the remaining length after it: at most four bytes. MQTT 2.2.3.
func (c *connection) remaining(in *inbox) (int, error) {
	size := 0
	for i := 1; i <= 4; i++ {
		if err := c.fill(in, i+1); err != nil {
			return 0, err
		}
		b := in.buf[in.start+i]
		size |= int(b&0x7F) << (7 * (i - 1))
		if b < 0x80 {
			in.start += i + 1
			return size, nil
		}
	}
	return 0, c.violate(ruleMalformed, "detail", "remaining length of more than four bytes")
}

// body reads the rest of a packet, in place when it fits.
func (c *connection) body(in *inbox, size int) ([]byte, error) {
	if size <= len(in.buf) {
		if err := c.fill(in, size); err != nil {
			return nil, err
		}
		in.start += size
		return in.buf[in.start-size : in.start], nil
	}
	if err := c.settle(); err != nil {
		return nil, err
	}
	body := make([]byte, size)
	n := copy(body, in.buf[in.start:in.end])
	in.start = in.end
	if _, err := io.ReadFull(reader{c}, body[n:]); err != nil {
		return nil, err
	}
	return body, nil
}

// fill reads until at least n bytes wait in the inbox, which has room for them. Before it waits or moves any, what was gathered from the
// inbox is settled.
func (c *connection) fill(in *inbox, n int) error {
	if in.end-in.start >= n {
		return nil
	}
	if err := c.settle(); err != nil {
		return err
	}
	if in.start+n > len(in.buf) {
		in.start, in.end = 0, copy(in.buf[:], in.buf[in.start:in.end])
	}
	read, err := io.ReadAtLeast(reader{c}, in.buf[in.end:], n-(in.end-in.start))
	in.end += read
	return err
}

// reader is the connection as an io.Reader.
type reader struct{ *connection }

// Read implements io.Reader.
func (r reader) Read(p []byte) (int, error) { return r.read(p) }

// handle handles a packet: what is frequent at once, the rest aside, from where its answer is written, too.
func (c *connection) handle(pk *packets.Packet, body []byte) error {
	switch pk.FixedHeader.Type {
	case packets.Publish, packets.Puback, packets.Disconnect:
		return c.perform(pk, body)
	}
	return aside(func() error {
		defer c.answer()
		return c.perform(pk, body)
	})
}

// aside calls f on another goroutine and waits for it. A goroutine keeps the stack that it once needed: what is rare and needs much would
// double what a connection costs that is silent ever after.
func aside(f func() error) error {
	done := make(chan error)
	go func() { done <- f() }()
	return <-done
}

// perform decodes a packet and hands it to its operation. Offences end the connection without an answer. Nothing that is
// decoded from a PUBLISH may be kept: its memory is used again.
func (c *connection) perform(pk *packets.Packet, body []byte) error {
	kind := pk.FixedHeader.Type
	if kind != packets.Publish {
		body = []byte(string(body)) // the codec's strings share the memory they are decoded from
	}
	if err := decode(pk, body); err != nil {
		return c.violate(ruleMalformed, "packet", packets.PacketNames[kind], "detail", err.Error())
	}
	if kind == packets.Publish {
		return c.publish(pk)
	}
	if err := c.settle(); err != nil {
		return err
	}
	switch kind {
	case packets.Connect:
		return c.connect(pk)
	case packets.Puback:
		c.puback(pk.PacketID)
		return nil
	case packets.Subscribe:
		return c.subscribe(pk)
	case packets.Unsubscribe:
		return c.unsubscribe(pk)
	case packets.Pingreq:
		return c.send([]byte{packets.Pingresp << 4, 0}) // MQTT-3.12.4-1
	case packets.Disconnect:
		c.goodbye = true
		return nil
	}
	return c.violate(ruleUnexpected, "packet", packets.PacketNames[kind])
}

// What the codec lets pass.
var (
	errLength = errors.New("the packet is longer than it may be")
	errType   = errors.New("no packet type of MQTT 3.1.1")
)

// decode decodes the packets that clients send.
func decode(pk *packets.Packet, body []byte) error {
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return pk.ConnectDecode(body)
	case packets.Publish:
		return pk.PublishDecode(body)
	case packets.Puback:
		if len(body) > 2 {
			return errLength
		}
		return pk.PubackDecode(body)
	case packets.Subscribe:
		return pk.SubscribeDecode(body)
	case packets.Unsubscribe:
		return pk.UnsubscribeDecode(body)
	case packets.Pingreq, packets.Disconnect:
		if len(body) > 0 {
			return errLength
		}
	case packets.Reserved, packets.Auth:
		return errType
	}
	return nil
}
