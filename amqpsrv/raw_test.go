package amqpsrv

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// Descriptors of the performatives and states that the scripted client sends and expects (AMQP 2.7, 2.8, 3.4, 5.3).
const (
	performOpen        = 0x10
	performBegin       = 0x11
	performAttach      = 0x12
	performFlow        = 0x13
	performTransfer    = 0x14
	performDisposition = 0x15
	performDetach      = 0x16
	performEnd         = 0x17
	performClose       = 0x18
	describedError     = 0x1d
	stateAccepted      = 0x24
	stateRejected      = 0x25
	stateReleased      = 0x26
	stateModified      = 0x27
	describedSource    = 0x28
	describedTarget    = 0x29
)

// patience bounds every wait for the server; a test that runs into it has failed.
const patience = 10 * time.Second

// raw is a client that writes and reads single frames, for what a well-behaved library will not do.
type raw struct {
	t    testing.TB
	conn net.Conn
	ours map[uint16]uint16 // the server's channel for each of the client's

	largest uint32 // frame that may come; 0: any
}

// frame is a received frame: performative, its fields, and what follows it.
type frame struct {
	channel uint16
	kind    uint64
	fields  amqp10.List
	payload []byte
}

// field returns the i-th field, nil when it is missing.
func (f frame) field(i int) any {
	if i >= len(f.fields) {
		return nil
	}
	return f.fields[i]
}

// rawOpen connects without SASL (trap 1) and opens with the given max-frame-size.
func rawOpen(t testing.TB, conn net.Conn, maxFrame uint32) *raw {
	t.Helper()
	r := &raw{t: t, conn: conn, ours: map[uint16]uint16{}}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(clock.Wall().Add(patience)); err != nil {
		t.Fatal(err)
	}
	r.write([]byte{'A', 'M', 'Q', 'P', 0, 1, 0, 0})
	var header [8]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil || header[4] != 0 {
		t.Fatalf("header: %v, %v", header, err)
	}
	r.send(0, performOpen, nil, "raw", "localhost", maxFrame)
	r.expect(performOpen)
	return r
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

// send writes a frame.
func (r *raw) send(channel uint16, performative uint64, payload []byte, fields ...any) {
	r.t.Helper()
	r.write(r.frame(channel, performative, payload, fields...))
}

// frame encodes a frame.
func (r *raw) frame(channel uint16, performative uint64, payload []byte, fields ...any) []byte {
	r.t.Helper()
	b, err := amqp10.AppendValue(make([]byte, 8), amqp10.Described{Descriptor: performative, Value: amqp10.List(fields)})
	if err != nil {
		r.t.Fatal(err)
	}
	b = append(b, payload...)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	b[4] = 2
	binary.BigEndian.PutUint16(b[6:], channel)
	return b
}

// read returns the next frame that is not empty.
func (r *raw) read() frame {
	r.t.Helper()
	for {
		var head [8]byte
		if _, err := io.ReadFull(r.conn, head[:]); err != nil {
			r.t.Fatalf("read frame: %v", err)
		}
		if size := binary.BigEndian.Uint32(head[:]); r.largest > 0 && size > r.largest {
			r.t.Fatalf("a frame of %d bytes, at most %d allowed", size, r.largest)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:])-8)
		if _, err := io.ReadFull(r.conn, body); err != nil {
			r.t.Fatalf("read frame: %v", err)
		}
		if len(body) == 0 {
			continue
		}
		v, rest, err := amqp10.DecodeValue(body[4*(int(head[4])-2):], amqp10.Limits{})
		if err != nil {
			r.t.Fatalf("decode frame: %v", err)
		}
		d := v.(amqp10.Described)
		return frame{binary.BigEndian.Uint16(head[6:]), d.Descriptor.(uint64), d.Value.(amqp10.List), rest}
	}
}

// expect returns the next frame of the kind; flows and dispositions may be skipped on the way, anything else may not.
func (r *raw) expect(kind uint64) frame {
	r.t.Helper()
	for {
		f := r.read()
		if f.kind == kind {
			return f
		}
		if f.kind != performFlow && f.kind != performDisposition {
			r.t.Fatalf("frame 0x%02x %v while waiting for 0x%02x", f.kind, f.fields, kind)
		}
	}
}

// begin opens a session on a channel.
func (r *raw) begin(channel uint16) {
	r.t.Helper()
	r.send(channel, performBegin, nil, nil, uint32(0), uint32(5000), uint32(5000))
	r.ours[channel] = r.expect(performBegin).channel
}

func source(address string) amqp10.Described {
	return amqp10.Described{Descriptor: uint64(describedSource), Value: amqp10.List{address}}
}

func target(address string) amqp10.Described {
	return amqp10.Described{Descriptor: uint64(describedTarget), Value: amqp10.List{address}}
}

// attachSender attaches a link on which the client sends and waits for credit; it returns the server's attach.
func (r *raw) attachSender(channel uint16, name string, handle uint32, address string) frame {
	r.t.Helper()
	r.send(channel, performAttach, nil, name, handle, false, nil, nil, source(""), target(address), nil, nil, uint32(0))
	f := r.expect(performAttach)
	if f.field(6) == nil {
		r.t.Fatalf("attach to %s refused: %v", address, r.expect(performDetach).fields)
	}
	for {
		if flow := r.expect(performFlow); flow.field(4) == f.field(1) {
			return f
		}
	}
}

// attachReceiver attaches a link on which the client receives, with settle modes and credit.
func (r *raw) attachReceiver(channel uint16, name string, handle uint32, address string, snd, rcv uint8, credit uint32) frame {
	r.t.Helper()
	r.send(channel, performAttach, nil, name, handle, true, snd, rcv, source(address), target(name))
	f := r.expect(performAttach)
	if f.field(5) == nil {
		r.t.Fatalf("attach to %s refused: %v", address, r.expect(performDetach).fields)
	}
	r.send(channel, performFlow, nil, uint32(0), uint32(5000), uint32(0), uint32(5000), handle, uint32(0), credit)
	return f
}

// transfer sends a message in one frame.
func (r *raw) transfer(channel uint16, handle, id, format uint32, message []byte) {
	r.t.Helper()
	r.send(channel, performTransfer, message, handle, id, binary.BigEndian.AppendUint32(nil, id), format, false)
}

// message reads a message of any number of frames and returns its first frame with the whole payload.
func (r *raw) message() frame {
	r.t.Helper()
	first := r.expect(performTransfer)
	whole := bytes.Clone(first.payload)
	for f := first; f.field(5) == true; {
		f = r.expect(performTransfer)
		whole = append(whole, f.payload...)
	}
	first.payload = whole
	return first
}

// decode takes a received message apart.
func (r *raw) decode(f frame) *amqp10.Message {
	r.t.Helper()
	m := new(amqp10.Message)
	if err := m.Decode(f.payload, amqp10.Limits{}); err != nil {
		r.t.Fatalf("decode message: %v", err)
	}
	return m
}

// state returns descriptor and fields of a delivery state.
func state(v any) (uint64, amqp10.List) {
	d, _ := v.(amqp10.Described)
	code, _ := d.Descriptor.(uint64)
	list, _ := d.Value.(amqp10.List)
	return code, list
}

// condition returns condition and info of an error value.
func condition(v any) (amqp10.Symbol, amqp10.Map) {
	_, list := state(v)
	if len(list) == 0 {
		return "", nil
	}
	c, _ := list[0].(amqp10.Symbol)
	var info amqp10.Map
	if len(list) > 2 {
		info, _ = list[2].(amqp10.Map)
	}
	return c, info
}

// encoded returns the encoded message.
func encoded(t testing.TB, m *amqp10.Message) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// text is a message with one data section.
func text(body string) *amqp10.Message {
	return &amqp10.Message{Body: amqp10.BodyData, Data: [][]byte{[]byte(body)}}
}

// put begins a session on channel 0, attaches $cbs with handles 0 and 1, and puts the identity's token as delivery 0.
func (r *raw) put(rig *rig, key store.Key) {
	r.t.Helper()
	r.begin(0)
	r.cbsPair(0, 0)
	r.putOn(0, 0, 0, rig.deviceToken(key, time.Hour))
}

// putOn puts a token over $cbs links that are there.
func (r *raw) putOn(channel uint16, handle, id uint32, token string) {
	r.t.Helper()
	r.transfer(channel, handle, id, 0, encoded(r.t, request("put", token)))
	if got := r.decode(r.message()).ApplicationProperties.Get("status-code"); got != int32(200) {
		r.t.Fatalf("put-token: %v", got)
	}
}

// disposition waits for the server's word on what the client sent as delivery id.
func (r *raw) disposition(id uint32) frame {
	r.t.Helper()
	for {
		f := r.expect(performDisposition)
		first, last := f.field(1).(uint32), f.field(1).(uint32)
		if v, ok := f.field(2).(uint32); ok {
			last = v
		}
		if f.field(0) == true && first <= id && id <= last { // role receiver: about what we sent
			return f
		}
	}
}

// settledTo reads one disposition and says whether it reaches delivery id.
func (r *raw) settledTo(id uint32) bool {
	f := r.expect(performDisposition)
	last, ok := f.field(2).(uint32)
	if !ok {
		last = f.field(1).(uint32)
	}
	return last == id
}
