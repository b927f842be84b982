package httpapi

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// RFC 6455 5.2: a frame's header.
const (
	opcodeBits   = 0x0F
	reservedBits = 0x70 // of extensions, and none was agreed on
	finBit       = 0x80
	maskBit      = 0x80
	lengthBits   = 0x7F

	continuation = 0
	maxHead      = 14  // two bytes, eight of length, four of mask
	maxControl   = 125 // RFC 6455 5.5: the payload of a control frame
)

// frames takes the frames of a client apart where they lie, so that however many came in one read are handed on together and are copied
// only once. It holds what has to be known from one piece of the stream to the next. gorilla/websocket, which hands over one frame at a
// time, is its model: what it refuses, frames refuses, with the same code.
type frames struct {
	head    [maxHead]byte // the header under way
	got     int           // how much of head is there
	left    int           // how much of the current frame's payload has not come
	key     uint32        // what masks it; the next byte's is the lowest
	message int           // the size of the current message so far
	open    bool          // the current message has fragments to come
	opcode  byte          // of the current frame
	control []byte        // the payload of the current control frame so far
	ping    func(payload []byte) error
}

// ending is why nothing more is read.
type ending struct {
	code int    // of the close frame that is due; 0 if none is
	text string // its reason
	err  error
}

func offence(code int, text string) *ending {
	return &ending{code, text, errors.New("websocket: " + text)}
}

// take moves the payload of binary messages in b to its beginning and returns how much that is. Incomplete frames go on with the next
// call; there may be none after an ending. Pings are answered on the way.
func (f *frames) take(b []byte) (payload int, end *ending) {
	for rest := b; len(rest) > 0 && end == nil; {
		if f.left == 0 {
			var used int
			used, end = f.header(rest)
			rest = rest[used:]
			continue
		}
		part := rest[:min(len(rest), f.left)]
		rest = rest[len(part):]
		f.left -= len(part)
		if isControl(f.opcode) {
			end = f.more(part)
			continue
		}
		f.key = unmask(b[payload:], part, f.key)
		payload += len(part)
	}
	return payload, end
}

// header takes what there is of a header, and begins the frame when it is complete.
func (f *frames) header(b []byte) (used int, end *ending) {
	used = f.collect(b, 2)
	if f.got < 2 {
		return used, nil
	}
	if wrong := f.wrong(); wrong != "" {
		return used, offence(websocket.CloseProtocolError, wrong)
	}
	size := 2 + 4
	switch f.head[1] & lengthBits {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	used += f.collect(b[used:], size)
	if f.got < size {
		return used, nil
	}
	f.got = 0
	return used, f.begin(f.head[2:size-4], binary.LittleEndian.Uint32(f.head[size-4:]))
}

// collect takes bytes of the header until it has size.
func (f *frames) collect(b []byte, size int) int {
	if f.got >= size {
		return 0
	}
	n := copy(f.head[f.got:size], b)
	f.got += n
	return n
}

// wrong says what forbids the first two bytes of a header, or nothing.
func (f *frames) wrong() string {
	final, opcode := f.head[0]&finBit != 0, f.head[0]&opcodeBits
	switch {
	case f.head[0]&reservedBits != 0:
		return "reserved bits are set"
	case f.head[1]&maskBit == 0: // RFC 6455 5.1
		return "frame without a mask"
	case isControl(opcode) && !final:
		return "control frame in fragments"
	case isControl(opcode) && f.head[1]&lengthBits > maxControl:
		return "control frame of more than 125 bytes"
	case opcode == continuation && !f.open:
		return "continuation of no message"
	case (opcode == websocket.BinaryMessage || opcode == websocket.TextMessage) && f.open:
		return "message within a message"
	case opcode > websocket.BinaryMessage && !isControl(opcode):
		return "opcode that means nothing"
	}
	return ""
}

func isControl(opcode byte) bool {
	return opcode == websocket.CloseMessage || opcode == websocket.PingMessage || opcode == websocket.PongMessage
}

// begin begins a frame: long is the length of its payload if the header's second byte has no room for it.
func (f *frames) begin(long []byte, key uint32) *ending {
	size := uint64(f.head[1] & lengthBits)
	switch len(long) {
	case 2:
		size = uint64(binary.BigEndian.Uint16(long))
	case 8:
		size = binary.BigEndian.Uint64(long)
	}
	f.key, f.opcode = key, f.head[0]&opcodeBits
	if isControl(f.opcode) {
		f.left, f.control = int(size), nil
		if size == 0 {
			return f.controlled()
		}
		return nil
	}
	if f.opcode != continuation {
		f.message = 0
	}
	if size > uint64(maxMessageIn-f.message) {
		return offence(websocket.CloseMessageTooBig, "message of more than a mebibyte")
	}
	if f.opcode == websocket.TextMessage {
		return offence(websocket.CloseUnsupportedData, "only binary messages are understood here")
	}
	f.left, f.open = int(size), f.head[0]&finBit == 0
	f.message += f.left
	return nil
}

// more takes a part of a control frame's payload.
func (f *frames) more(part []byte) *ending {
	f.key = unmask(part, part, f.key)
	f.control = append(f.control, part...)
	if f.left > 0 {
		return nil
	}
	return f.controlled()
}

// controlled does what a complete control frame asks for.
func (f *frames) controlled() *ending {
	payload := f.control
	f.control = nil
	switch f.opcode {
	case websocket.PingMessage:
		if err := f.ping(payload); err != nil {
			return &ending{err: err}
		}
	case websocket.CloseMessage:
		return closed(payload)
	}
	return nil
}

// closed is what a close frame leads to: it is echoed, RFC 6455 5.5.1.
func closed(payload []byte) *ending {
	if len(payload) < 2 {
		return &ending{code: websocket.CloseNoStatusReceived, err: &websocket.CloseError{Code: websocket.CloseNoStatusReceived}}
	}
	code, text := int(binary.BigEndian.Uint16(payload)), string(payload[2:])
	switch {
	case !mayClose(code):
		return offence(websocket.CloseProtocolError, "close code that means nothing")
	case !utf8.ValidString(text):
		return offence(websocket.CloseProtocolError, "close reason that is no UTF-8")
	}
	return &ending{code: code, err: &websocket.CloseError{Code: code, Text: text}}
}

// mayClose reports whether a close frame may carry code. RFC 6455 7.4 and the registry that it began.
func mayClose(code int) bool {
	switch code {
	case websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseProtocolError, websocket.CloseUnsupportedData,
		websocket.CloseInvalidFramePayloadData, websocket.ClosePolicyViolation, websocket.CloseMessageTooBig, websocket.CloseMandatoryExtension,
		websocket.CloseInternalServerErr, websocket.CloseServiceRestart, websocket.CloseTryAgainLater:
		return true
	}
	return code >= 3000 && code <= 4999
}

// unmask writes src without its mask to dst, which may begin before it in the same memory, and returns key for what follows.
func unmask(dst, src []byte, key uint32) uint32 {
	next := bits.RotateLeft32(key, -8*(len(src)%4))
	both := uint64(key)<<32 | uint64(key)
	for len(src) >= 8 && len(dst) >= 8 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^both)
		dst, src = dst[8:], src[8:]
	}
	for i, b := range src {
		dst[i] = b ^ byte(key>>(8*(i%4)))
	}
	return next
}
