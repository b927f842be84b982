package blobapi

import (
	"io"
	"net/http"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

// patience is how long a body may stand still, and with it a connection. A large one takes longer as a whole than the door allows.
const patience = time.Minute

// renewal is how often a deadline is put off.
const renewal = 5 * time.Second

// deadline puts off a deadline of a connection.
type deadline struct {
	set  func(time.Time) error
	next time.Time // when it is to be put off again
}

func (d *deadline) renew() {
	now := clock.Wall()
	if now.Before(d.next) {
		return
	}
	d.next = now.Add(renewal)
	_ = d.set(now.Add(patience)) // a connection that is gone says so when it is used
}

// patientReader reads a request's body for as long as something comes.
type patientReader struct {
	io.Reader
	deadline
}

func patient(w http.ResponseWriter, body io.Reader) io.Reader {
	c := http.NewResponseController(w)
	return &patientReader{body, deadline{set: func(t time.Time) error {
		_ = c.SetWriteDeadline(t) // the answer comes after the body
		return c.SetReadDeadline(t)
	}}}
}

// Read implements io.Reader.
func (r *patientReader) Read(b []byte) (int, error) {
	r.renew()
	return r.Reader.Read(b)
}

// patientWriter writes an answer's body for as long as something is taken.
type patientWriter struct {
	io.Writer
	deadline
}

func patientAnswer(w http.ResponseWriter) io.Writer {
	return &patientWriter{w, deadline{set: http.NewResponseController(w).SetWriteDeadline}}
}

// Write implements io.Writer.
func (w *patientWriter) Write(b []byte) (int, error) {
	w.renew()
	return w.Writer.Write(b)
}
