package amqp10

import "net"

const (
	smallInput = 1 << 10 // enough for a telemetry message or two: what an idle connection holds
	largeInput = 64 << 10
)

// input is the read buffer. It starts small, grows while reads fill it or a frame needs it, and shrinks again when the
// connection has been idle.
type input struct {
	buf  []byte
	r, w int // unread bytes are buf[r:w]
}

func (in *input) unread() []byte { return in.buf[in.r:in.w] }

func (in *input) consume(n int) {
	if in.r += n; in.r == in.w {
		in.r, in.w = 0, 0
	}
}

// fill reads once, making room for need bytes from r on, and returns how many it read. Everything cut from the buffer before
// becomes invalid.
func (in *input) fill(nc net.Conn, need int) (int, error) {
	in.reserve(need)
	n, err := nc.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		if in.w == len(in.buf) && len(in.buf) < largeInput {
			in.resize(4 * len(in.buf))
		}
		return n, nil
	}
	return 0, err
}

func (in *input) reserve(need int) {
	switch {
	case in.buf == nil:
		in.buf = make([]byte, max(smallInput, need))
	case in.r+need <= len(in.buf):
	case need <= len(in.buf):
		in.w = copy(in.buf, in.unread())
		in.r = 0
	default:
		in.resize(max(need, min(4*len(in.buf), largeInput)))
	}
}

func (in *input) resize(n int) {
	buf := make([]byte, n)
	in.w = copy(buf, in.unread())
	in.buf, in.r = buf, 0
}

// shrink gives a large buffer back when nothing is in it.
func (in *input) shrink() {
	if in.r == in.w && len(in.buf) > smallInput {
		*in = input{}
	}
}
