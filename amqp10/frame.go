package amqp10

import "fmt"

const (
	frameHeaderSize = 8
	minMaxFrameSize = 512 // AMQP 2.7.1: no peer may announce less
	maxSASLFrame    = 64 << 10

	frameAMQP byte = 0
	frameSASL byte = 1
)

// frame is one frame as read (AMQP 2.3). body aliases the input buffer until more is read.
type frame struct {
	typ     byte
	channel uint16
	body    []byte
}

func framingError(format string, args ...any) *Error {
	return &Error{Condition: CondFramingError, Description: fmt.Sprintf(format, args...)}
}

// parseFrame cuts a frame off the front of b. size is 0 while the frame is not complete; need is how long b must get for
// the next attempt.
func parseFrame(b []byte, max uint32) (f frame, size, need int, err *Error) {
	if len(b) < frameHeaderSize {
		return f, 0, frameHeaderSize, nil
	}
	n := be.Uint32(b)
	switch doff := uint32(b[4]) * 4; {
	case n > max:
		return f, 0, 0, framingError("frame of %d bytes, the limit is %d", n, max)
	case n < frameHeaderSize || doff < frameHeaderSize || doff > n:
		return f, 0, 0, framingError("frame with size %d and data offset %d", n, doff)
	case uint64(len(b)) < uint64(n):
		return f, 0, int(n), nil
	default:
		return frame{typ: b[5], channel: be.Uint16(b[6:]), body: b[doff:n]}, int(n), 0, nil
	}
}

// openFrame begins a frame whose size closeFrame fills in.
func openFrame(b []byte, typ byte, channel uint16) (_ []byte, start int) {
	return append(b, 0, 0, 0, 0, 2, typ, byte(channel>>8), byte(channel)), len(b)
}

func closeFrame(b []byte, start int) []byte {
	be.PutUint32(b[start:], uint32(len(b)-start))
	return b
}
