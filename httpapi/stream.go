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

// stream is a WebSocket as a net.Conn: the payload of its binary messages is the stream of bytes, whatever their boundaries, and a Read
// returns as much of it as came with one read of the connection. Each Write is one message. A text message ends it. Unlike with TCP a read
// deadline that has passed ends the stream.
type stream struct {
	ws   *websocket.Conn // which made the handshake, and writes
	conn net.Conn        // what it is spoken on

	// Only Read uses them.
	frames frames
	end    *ending // nil while there may be more

	writing       sync.Mutex // gorilla wants one writer at a time
	writeDeadline atomic.Pointer[time.Time]
	closing       sync.Once
}

func newStream(ws *websocket.Conn) *stream {
	s := &stream{ws: ws, conn: ws.NetConn()}
	s.writeDeadline.Store(&time.Time{})
	s.frames.ping = s.pong
	return s
}

// pong answers a ping.
func (s *stream) pong(payload []byte) error {
	err := s.ws.WriteControl(websocket.PongMessage, payload, clock.Wall().Add(farewell))
	if errors.Is(err, websocket.ErrCloseSent) {
		return nil
	}
	return err
}

// Read implements net.Conn. It returns io.EOF after the client's close frame. Only one goroutine may read.
func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for s.end == nil {
		n, err := s.conn.Read(p)
		payload, end := s.frames.take(p[:n])
		if s.end = end; end == nil && err != nil {
			s.end = &ending{err: abnormal(err)}
		}
		if payload > 0 {
			return payload, nil // and the ending, if there is one, to the next Read
		}
	}
	if s.end.code != 0 {
		s.goodbye(s.end.code, s.end.text)
	}
	return 0, asEOF(s.end.err)
}

// abnormal makes the end of a connection without a close frame an error, RFC 6455 7.1.5.
func abnormal(err error) error {
	if errors.Is(err, io.EOF) {
		return &websocket.CloseError{Code: websocket.CloseAbnormalClosure, Text: io.ErrUnexpectedEOF.Error()}
	}
	return err
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
func (s *stream) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. It also holds for a Write that is on its way: gorilla sets the deadline of the
// connection only when it begins to write.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.writeDeadline.Store(&t)
	return s.conn.SetWriteDeadline(t)
}
