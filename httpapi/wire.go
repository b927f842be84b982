package httpapi

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
)

// wireKey is the context key under which a request finds its connection.
type wireKey struct{}

func wireOf(r *http.Request) *wire { return r.Context().Value(wireKey{}).(*wire) }

// once is the net.Listener that gives net/http a single connection and ends when net/http is through with it.
type once struct {
	conn  *wire
	given bool
}

// Accept implements net.Listener.
func (l *once) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.conn, nil
	}
	<-l.conn.done
	return nil, io.EOF
}

// Close implements net.Listener.
func (l *once) Close() error { return nil }

// Addr implements net.Listener.
func (l *once) Addr() net.Addr { return l.conn.LocalAddr() }

// What a wire does with the bytes that pass.
type capture uint8

const (
	collecting capture = iota // they belong to the header block of the next request
	skipping                  // the next skip bytes are a body; collecting follows
	chunking                  // they belong to a chunked body; collecting follows
	ignoring                  // nobody knows: the header block was too large to keep
	passing                   // the connection is no longer HTTP
)

// wire is a connection on its way through net/http. It keeps the header block of the current request as received, because
// net/http canonicalises header names and the names of application properties must keep their case. The kept bytes are bounded
// by what net/http accepts as a header block, and none are kept between requests.
type wire struct {
	*door.Conn
	done     chan struct{} // closed when net/http is through with the connection
	finished sync.Once

	device *hub.DeviceSession // of the last request of a device, nil when there is none; handlers come one after the other

	mu      sync.Mutex // net/http looks for the end of the connection while a handler runs
	next    func()     // carries on after net/http
	state   capture
	skip    int64
	chunks  chunks
	pending *[]byte // from headPool; nil when nothing is kept
	headLen int     // how much of pending is the current request's header block; the rest belongs to the next request

	reads, writes deadline
	closed        bool
	listening     bool      // the current request's handler wants to know when the client hangs up
	woken         sync.Cond // for park: the read deadline was set, the connection closed, or listening
}

var headPool = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

func newWire(c *door.Conn) *wire {
	w := &wire{Conn: c, done: make(chan struct{})}
	w.woken.L = &w.mu
	return w
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	if err := w.beginRead(len(p)); err != nil {
		return 0, err
	}
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads.busy = false
	w.observe(p[:n])
	return n, err
}

// Write implements net.Conn.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	err := w.writes.begin(w.slack(), w.Conn.SetWriteDeadline)
	w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := w.Conn.Write(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes.busy = false
	return n, err
}

// Close implements net.Conn.
func (w *wire) Close() error {
	w.mu.Lock()
	hijacked := w.state == passing
	w.closed = true
	w.woken.Broadcast()
	w.mu.Unlock()
	if hijacked { // an upgrade that failed half-way; otherwise net/http tells when it is through
		w.finish()
	}
	return w.Conn.Close()
}

// changed is told what net/http does with the connection.
func (w *wire) changed(state http.ConnState) {
	switch state {
	case http.StateIdle:
		w.idle()
	case http.StateHijacked:
		w.hijack()
	case http.StateClosed:
		w.finish()
	}
}

// finish tells Serve that net/http is through with the connection.
func (w *wire) finish() { w.finished.Do(func() { close(w.done) }) }

// hijack stops keeping what passes.
func (w *wire) hijack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = passing
	w.drop()
}

// carryOn hands the hijacked connection to next, which Serve calls.
func (w *wire) carryOn(next func()) {
	w.mu.Lock()
	w.next = next
	w.mu.Unlock()
	w.finish()
}

// carriedOn returns what carryOn was given, or nil.
func (w *wire) carriedOn() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next
}

// observe is told what was read. The caller holds mu.
func (w *wire) observe(p []byte) {
	if p = w.skipBody(p); w.state == collecting && len(p) > 0 {
		w.keep(p)
	}
}

// skipBody returns what of p comes after the body that is being skipped. The caller holds mu.
func (w *wire) skipBody(p []byte) []byte {
	done := false
	switch w.state {
	case skipping:
		n := min(w.skip, int64(len(p)))
		w.skip -= n
		p, done = p[n:], w.skip == 0
	case chunking:
		p, done = w.chunks.skip(p)
	}
	if done {
		w.state = collecting
	}
	return p
}

// keep appends p to the pending bytes. The caller holds mu.
func (w *wire) keep(p []byte) {
	if w.pending == nil {
		w.pending = headPool.Get().(*[]byte)
	}
	if len(*w.pending)+len(p) > maxHeader+3*4096 { // net/http reads 4096 bytes at a time and allows 4096 more than it says
		w.state = ignoring
		if w.headLen == 0 { // else a handler may be reading it
			w.drop()
		}
		return
	}
	*w.pending = append(*w.pending, p...)
}

// drop forgets what is pending. The caller holds mu.
func (w *wire) drop() {
	if w.pending == nil {
		return
	}
	*w.pending = (*w.pending)[:0]
	headPool.Put(w.pending)
	w.pending, w.headLen = nil, 0
}

// startRequest finds the header block of r, whose headers net/http has just read, and where the next request will start.
func (w *wire) startRequest(r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nextRequest()
	if w.state != collecting || w.pending == nil {
		return
	}
	end := headEnd(*w.pending)
	if end < 0 || !startsWith(*w.pending, r) {
		w.state = ignoring
		w.drop()
		return
	}
	w.headLen = end
	w.state, w.skip = skipping, r.ContentLength
	if r.ContentLength < 0 {
		w.state, w.chunks = chunking, chunks{}
	}
	rest := w.skipBody((*w.pending)[end:])
	*w.pending = append((*w.pending)[:end], rest...)
}

// nextRequest leaves only what came after the last request. The caller holds mu.
func (w *wire) nextRequest() {
	w.listening = false
	if w.headLen == 0 {
		return
	}
	rest := copy(*w.pending, (*w.pending)[w.headLen:])
	*w.pending = (*w.pending)[:rest]
	w.headLen = 0
}

// listen lets net/http notice during the current request that the client hangs up, and end the request's context.
func (w *wire) listen() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listening = true
	w.woken.Broadcast()
}

// idle is called when net/http has answered a request and waits for the next: nothing is kept meanwhile.
func (w *wire) idle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nextRequest()
	if w.pending != nil && len(*w.pending) == 0 {
		w.drop()
	}
}

// head returns the header block of the current request as received, from the request line to the empty line, or nil when it
// could not be kept. It is valid until the request is answered.
func (w *wire) head() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.headLen == 0 {
		return nil
	}
	return (*w.pending)[:w.headLen:w.headLen]
}

// headEnd returns the length of the header block at the start of b, or -1. Like net/http it takes a bare line feed for a line
// end and skips empty lines before the request line.
func headEnd(b []byte) int {
	i := len(b) - len(bytes.TrimLeft(b, "\r\n"))
	for i < len(b) {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			break
		}
		empty := n == 0 || n == 1 && b[i] == '\r'
		if i += n + 1; empty {
			return i
		}
	}
	return -1
}

// startsWith reports whether b begins with the request line of r: proof that the wire is in step with net/http.
func startsWith(b []byte, r *http.Request) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(b, "\r\n"), []byte(r.Method))
	if !ok || len(rest) < 1+len(r.RequestURI) {
		return false
	}
	return string(rest[1:1+len(r.RequestURI)]) == r.RequestURI
}
