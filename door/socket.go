//go:build unix

package door

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// socket is a TCP connection that says when a read is about to wait for the peer. Reads need the kernel's word that nothing is there,
// which the runtime asks for anyway and keeps to itself, so that they are done here when somebody wants to know.
type socket struct {
	*net.TCPConn
	idle func() // called before a read waits; nil when nobody wants to know

	// Of the read under way, and what is made once for all of them.
	raw syscall.RawConn
	try func(fd uintptr) bool
	p   []byte
	n   int
	err error
}

// dress makes a socket of nc, unless it is no TCP connection.
func dress(nc net.Conn) net.Conn {
	if t, ok := nc.(*net.TCPConn); ok {
		return &socket{TCPConn: t}
	}
	return nc
}

// onIdle is Conn.OnIdle.
func onIdle(nc net.Conn, f func()) bool {
	s, ok := nc.(*socket)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	s.idle, s.raw, s.try = f, raw, s.attempt
	return true
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if s.idle == nil || len(p) == 0 {
		return s.TCPConn.Read(p)
	}
	return s.readOrTell(p)
}

// readOrTell is Read for whoever wants to know.
func (s *socket) readOrTell(p []byte) (int, error) {
	s.p, s.n, s.err = p, 0, nil
	err := s.raw.Read(s.try)
	s.p = nil // else an idle connection keeps alive what it last read into
	switch {
	case err != nil: // a deadline, or closed
		return 0, err
	case s.err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError("read", s.err)}
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

// attempt reads what is there and reports whether the read is over; if not, it is called again when the peer has sent something.
func (s *socket) attempt(fd uintptr) bool {
	for {
		s.n, s.err = syscall.Read(int(fd), s.p)
		switch {
		case s.err == nil:
			return true
		case errors.Is(s.err, syscall.EAGAIN):
			s.idle()
			return false
		case !errors.Is(s.err, syscall.EINTR):
			return true
		}
	}
}
