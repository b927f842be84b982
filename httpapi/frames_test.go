package httpapi

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/iolite-emulator/iolite/clock"
)

const fin = 0x80

// frame is a frame as a client sends it.
func frame(first byte, payload string) []byte {
	b := []byte{first, maskBit}
	switch n := len(payload); {
	case n <= maxControl:
		b[1] |= byte(n)
	case n < 1<<16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	key := [4]byte{0x12, 0x34, 0x56, 0xF8}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

// inPieces is a peer whose bytes come in pieces of the sizes that the digits of pieces give, over and over.
type inPieces struct {
	heard
	pieces, rest uint64
}

func (c *inPieces) Read(p []byte) (int, error) { return c.heard.Read(p[:c.size(len(p))]) }

func (c *inPieces) size(most int) int {
	if c.rest == 0 {
		c.rest = c.pieces
	}
	n := 1 << (c.rest & 15)
	c.rest >>= 4
	return min(n, most)
}

// hijacked is a ResponseWriter whose connection is c.
type hijacked struct {
	*httptest.ResponseRecorder
	c net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.c, bufio.NewReadWriter(bufio.NewReader(h.c), bufio.NewWriter(h.c)), nil
}

// upgraded returns a WebSocket whose client sends raw in pieces, and what it hears.
func upgraded(t *testing.T, raw []byte, pieces uint64) (*websocket.Conn, *bytes.Buffer) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Version": "13", "Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		if name == "Version" || name == "Key" {
			name = "Sec-Websocket-" + name
		}
		r.Header.Set(name, value)
	}
	c := &inPieces{heard: heard{scripted: scripted{in: bytes.NewReader(raw)}}, pieces: pieces}
	ws, err := upgrader.Upgrade(hijacked{httptest.NewRecorder(), c}, r, nil)
	must(t, err)
	c.said.Reset()
	return ws, &c.said
}

const wholePieces = 15 // 32 KiB at once

func TestFramesOfOneReadAreHandedOverTogether(t *testing.T) {
	var raw []byte
	var want strings.Builder
	for _, size := range []int{1, 0, 7, 8, 9, 125, 126, 127, 3, 16_000} {
		payload := strings.Repeat(string(rune('a'+size%26)), size)
		raw = append(append(raw, frame(fin|websocket.BinaryMessage, payload)...), frame(fin|websocket.PongMessage, "nobody asked")...)
		want.WriteString(payload)
	}
	ws, _ := upgraded(t, raw, wholePieces)
	p := make([]byte, 32<<10)
	n, err := newStream(ws).Read(p)
	must(t, err)
	if string(p[:n]) != want.String() {
		t.Errorf("%d bytes, want the %d of all frames", n, want.Len())
	}
}

func TestWhatCameBeforeTheEndIsHandedOverFirst(t *testing.T) {
	closing := frame(fin|websocket.CloseMessage, "\x03\xE8bye")
	for name, test := range map[string]struct {
		last []byte
		want error
		said []byte
	}{
		"close":    {closing, io.EOF, []byte{fin | websocket.CloseMessage, 2, 3, 0xE8}},
		"an error": {frame(fin|3, ""), nil, nil},
		"nothing":  {nil, &websocket.CloseError{Code: websocket.CloseAbnormalClosure}, []byte{}},
	} {
		t.Run(name, func(t *testing.T) {
			ws, said := upgraded(t, append(frame(fin|websocket.BinaryMessage, "hello"), test.last...), wholePieces)
			s, p := newStream(ws), make([]byte, 100)
			n, err := s.Read(p)
			if string(p[:n]) != "hello" || err != nil {
				t.Fatalf("read %q, %v", p[:n], err)
			}
			if said.Len() > 0 {
				t.Errorf("% x was said before its time", said.Bytes())
			}
			for range 2 { // it stays ended
				n, err = s.Read(p)
				if n > 0 || err == nil || test.want != nil && !sameEnd(err, test.want) {
					t.Errorf("read %q, %v, want %v", p[:n], err, test.want)
				}
			}
			if test.said != nil && !bytes.Equal(said.Bytes(), test.said) {
				t.Errorf("said % x, want % x", said.Bytes(), test.said)
			}
		})
	}
}

// sameEnd reports whether two errors are the same to whoever reads a stream.
func sameEnd(a, b error) bool {
	x, closedX := errors.AsType[*websocket.CloseError](a)
	y, closedY := errors.AsType[*websocket.CloseError](b)
	if closedX && closedY {
		return x.Code == y.Code
	}
	return closedX == closedY && errors.Is(a, io.EOF) == errors.Is(b, io.EOF)
}

func TestUnmaskingAnyLengthAtAnyDistance(t *testing.T) {
	key := []byte{0x81, 0x42, 0x24, 0x18}
	for size := range 40 {
		for _, distance := range []int{0, 1, 6, 8, 14} {
			memory := make([]byte, distance+size)
			for i := range memory {
				memory[i] = byte(i * 7)
			}
			want := bytes.Clone(memory[distance:])
			for i := range want {
				want[i] ^= key[i%4]
			}
			next := unmask(memory, memory[distance:], binary.LittleEndian.Uint32(key))
			if !bytes.Equal(memory[:size], want) {
				t.Fatalf("%d bytes, %d further back: % x, want % x", size, distance, memory[:size], want)
			}
			if byte(next) != key[size%4] {
				t.Fatalf("after %d bytes the mask goes on with %x", size, byte(next))
			}
		}
	}
}

// byGorilla reads a stream with gorilla's own reader.
func byGorilla(ws *websocket.Conn) (all []byte, err error) {
	ws.SetReadLimit(maxMessageIn)
	for {
		kind, r, err := ws.NextReader()
		if err != nil {
			return all, err
		}
		if kind != websocket.BinaryMessage {
			_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseUnsupportedData, ""), clock.Wall().Add(farewell))
			return all, errors.New("websocket: text message")
		}
		message, err := io.ReadAll(r)
		all = append(all, message...)
		if err != nil {
			return all, err
		}
	}
}

// withoutReasons takes the reasons from the close frames that a client hears, and with them the lengths.
func withoutReasons(said []byte) (pongs, code []byte) {
	for len(said) > 0 {
		size := 2 + int(said[1])
		if said[0] == fin|websocket.CloseMessage {
			return pongs, said[2:min(4, size)]
		}
		pongs, said = append(pongs, said[:size]...), said[size:]
	}
	return pongs, nil
}

// FuzzFrames has gorilla's reader and ours read the same bytes, ours in pieces: they come to the same payload, pongs, close code and end.
func FuzzFrames(f *testing.F) {
	long := frame(fin|websocket.BinaryMessage, strings.Repeat("x", 300))
	hello := frame(fin|websocket.BinaryMessage, "hello, world")
	for _, seed := range [][]byte{
		nil, hello, bytes.Repeat(hello, 20), long, long[:20], hello[:1], hello[:5],
		bytes.Join([][]byte{frame(websocket.BinaryMessage, "a"), frame(fin|websocket.PingMessage, "are you there"), frame(continuation, ""), frame(fin|continuation, "b"), hello}, nil),
		frame(fin|websocket.TextMessage, "hello"), frame(fin|continuation, "x"), append(frame(websocket.BinaryMessage, "a"), hello...), frame(fin|0x40|websocket.BinaryMessage, "x"),
		frame(websocket.PingMessage, "x"), frame(fin|websocket.PingMessage, strings.Repeat("x", 126)), frame(fin|websocket.PingMessage, ""), frame(fin|3, "x"), frame(fin|11, ""),
		{0x82, 1, 5}, {0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4, 5}, {0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 1, 1, 2, 3, 4, 5}, {0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0}, {0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4},
		{0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4}, {0x82, 0xFE, 0, 2, 0, 0, 0, 0, 'h', 'i'}, {0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 'h', 'i'},
		append(frame(websocket.BinaryMessage, "12"), 0x80, 0xFF, 0, 0, 0, 0, 0, 0x0F, 0xFF, 0xFF, 1, 2, 3, 4),
		frame(fin|websocket.CloseMessage, ""), frame(fin|websocket.CloseMessage, "\x03"), frame(fin|websocket.CloseMessage, "\x03\xE8bye"), frame(fin|websocket.CloseMessage, "\x03\xED"),
		frame(fin|websocket.CloseMessage, "\x0F\xA0x"), frame(fin|websocket.CloseMessage, "\x13\x88"), frame(fin|websocket.CloseMessage, "\x03\xE8\xFF"), append(frame(fin|websocket.CloseMessage, "\x03\xE9"), hello...),
	} {
		for _, pieces := range []uint64{wholePieces, 0x2013, 1 << 60} {
			f.Add(seed, pieces)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, pieces uint64) {
		ws, said := upgraded(t, raw, wholePieces)
		want, wantErr := byGorilla(ws)
		wantPongs, wantCode := withoutReasons(said.Bytes())
		ws, said = upgraded(t, raw, pieces)
		s, sizes := newStream(ws), &inPieces{pieces: pieces ^ 0x1235}
		var got []byte
		var err error
		for err == nil {
			p := make([]byte, sizes.size(1<<15))
			var n int
			n, err = s.Read(p)
			got = append(got, p[:n]...)
		}
		pongs, code := withoutReasons(said.Bytes())
		if errors.Is(wantErr, websocket.ErrReadLimit) && len(code) == 0 {
			wantErr = abnormal(io.EOF) // gorilla does not wait for the mask after a length of 2^63
		} else if errors.Is(wantErr, websocket.ErrReadLimit) {
			wantCode = []byte{websocket.CloseMessageTooBig >> 8, websocket.CloseMessageTooBig & 0xFF} // it does not always say so
		}
		if !bytes.Equal(got, want) || !sameEnd(err, asEOF(wantErr)) || !bytes.Equal(pongs, wantPongs) || !bytes.Equal(code, wantCode) {
			t.Errorf("%d bytes, %v, pongs % x, close code % x; gorilla: %d bytes, %v, % x, % x", len(got), err, pongs, code, len(want), wantErr, wantPongs, wantCode)
		}
	})
}
