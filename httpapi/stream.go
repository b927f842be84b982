package httpapi

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/iolite-emulator/iolite/clock"
)

const (
	// maxMessageIn bounds one WebSocket message from a client. The bytes are passed on as they come, so it costs no memory; a
	// client that announces more is up to no good (the largest MQTT packet and a batch of AMQP frames are 256 KiB).
	maxMessageIn = 1 << 20
	// maxMessageOut bounds one to a client: the Java service SDK buffers 65 KiB.
	maxMessageOut = 32 << 10
	// farewell bounds the wait for a close frame or a pong to get on its way.
	farewell = time.Second
)

// stream is a WebSocket as a net.Conn: the payload of its binary messages is the stream of bytes, whatever their boundaries.
// Each Write is one message. A text message ends it. Unlike with TCP a read deadline that has passed ends the stream.
type stream struct {
	ws      *websocket.Conn
	message io.Reader // what is left of the current message; only Read uses it

	writing       sync.Mutex // gorilla wants one writer at a time
	writeDeadline atomic.Pointer[time.Time]
	closing       sync.Once
}

func newStream(ws *websocket.Conn) *stream {
	s := &stream{ws: ws}
	s.writeDeadline.Store(&time.Time{})
	ws.SetReadLimit(maxMessageIn)
	ws.SetPingHandler(func(payload string) error {
		err := ws.WriteControl(websocket.PongMessage, []byte(payload), clock.Wall().Add(farewell))
		if errors.Is(err, websocket.ErrCloseSent) {
			return nil
		}
		return err
	})
	return s
}

// Read implements net.Conn. It returns io.EOF after the client's close frame. Only one goroutine may read.
func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if s.message == nil {
			if err := s.nextMessage(); err != nil {
				return 0, err
			}
		}
		n, err := s.message.Read(p)
		if errors.Is(err, io.EOF) { // of the message: gorilla reports a lost connection as ErrUnexpectedEOF
			s.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, asEOF(err)
		}
	}
}

func (s *stream) nextMessage() error {
	kind, r, err := s.ws.NextReader()
	if err != nil {
		return asEOF(err)
	}
	if kind != websocket.BinaryMessage {
		s.goodbye(websocket.CloseUnsupportedData, "only binary messages are understood here")
		return errors.New("websocket: text message")
	}
	s.message = r
	return nil
}

// asEOF turns an orderly close into io.EOF.
func asEOF(err error) error {
	if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
		return io.EOF
	}
	return err
}

// Write implements net.Conn. p becomes one message, or several if it is longer than clients buffer.
func (s *stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	written := 0
	for written < len(p) {
		part := p[written:min(len(p), written+maxMessageOut)]
		_ = s.ws.SetWriteDeadline(*s.writeDeadline.Load()) // only remembers it
		if err := s.ws.WriteMessage(websocket.BinaryMessage, part); err != nil {
			return written, err
		}
		written += len(part)
	}
	return written, nil
}

// Close implements net.Conn: it says goodbye if the client is listening, and closes the connection without waiting for the
// answer (RFC 6455 7.1.1 lets a server close first). It may be called more than once.
func (s *stream) Close() error {
	s.goodbye(websocket.CloseNormalClosure, "")
	return s.ws.Close()
}

// goodbye sends a close frame unless one was sent.
func (s *stream) goodbye(code int, text string) {
	s.closing.Do(func() {
		_ = s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), clock.Wall().Add(farewell))
	})
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return s.ws.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.ws.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error { return s.ws.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. It also holds for a Write that is on its way: gorilla sets the deadline of the
// connection only when it begins to write.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.writeDeadline.Store(&t)
	return s.ws.NetConn().SetWriteDeadline(t)
}
