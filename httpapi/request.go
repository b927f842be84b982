package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// Limits of what a request body may cost to read; what a message may hold is the hub's rule.
const (
	maxEvents = 256 << 10 // IoT Hub: a device-to-cloud message, or a batch of them, has at most 256 KiB
	maxJSON   = 1 << 20   // a bulk request of 100 devices with long keys stays far below
)

type (
	deviceHandler  func(w http.ResponseWriter, r *http.Request, d *hub.DeviceSession) error
	serviceHandler func(w http.ResponseWriter, r *http.Request, s *hub.ServiceSession) error
)

// device proves who asks, has a session for the device in the path, and answers errors.
func (s *Server) device(handle deviceHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { s.asDevice(w, r, param(r, "device"), handle) }
}

func (s *Server) asDevice(w http.ResponseWriter, r *http.Request, id string, handle deviceHandler) {
	d, err := s.openDevice(r, store.Key{DeviceID: id})
	if err == nil {
		err = handle(w, r, d)
	}
	if err != nil {
		e := s.answer(r, store.Key{DeviceID: id}, err)
		failWith(w, e, classic(e))
	}
}

// openDevice returns a session that lasts for this request, and for the next ones of the connection if they show the same token.
func (s *Server) openDevice(r *http.Request, key store.Key) (*hub.DeviceSession, error) {
	if err := checkAPIVersion(r); err != nil {
		return nil, err
	}
	w := wireOf(r)
	d, err := s.hub.OpenRequest(r.Context(), credential(r, w.Conn), key, hub.DeviceOptions{Conn: w.Conn, UserAgent: r.UserAgent()}, w.device)
	w.device = d
	return d, err
}

// service is what device is, for back ends.
func (s *Server) service(handle serviceHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, err := s.openService(r)
		if err == nil {
			defer session.Close()
			err = handle(w, r, session)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	}
}

func (s *Server) openService(r *http.Request) (*hub.ServiceSession, error) {
	if err := checkAPIVersion(r); err != nil {
		return nil, err
	}
	c := wireOf(r).Conn
	p, err := s.hub.Authenticate(r.Context(), credential(r, c), store.Key{})
	if err != nil {
		return nil, err
	}
	return s.hub.OpenService(r.Context(), p, c)
}

// credential returns what the request shows: its Authorization header, and the client certificates of its connection.
func credential(r *http.Request, c *door.Conn) hub.Credential {
	shown := hub.Credential{Token: r.Header.Get("Authorization")}
	if t := c.TLS(); t != nil {
		shown.Certificates = t.PeerCertificates
	}
	return shown
}

// checkAPIVersion wants an api-version of the form that IoT Hub's have: 2021-04-12, or 2020-05-31-preview.
func checkAPIVersion(r *http.Request) error {
	v, ok := queryValue(r.URL.RawQuery, "api-version")
	if !ok || !isAPIVersion(strings.TrimSuffix(v, "-preview")) {
		return refuse(hub.CodeInvalidProtocolVersion, "the query needs an api-version such as 2021-04-12")
	}
	return nil
}

func isAPIVersion(v string) bool {
	const form = "20nn-nn-nn"
	if len(v) != len(form) {
		return false
	}
	for i := range len(form) {
		digit := '0' <= v[i] && v[i] <= '9'
		if form[i] == 'n' && !digit || form[i] != 'n' && form[i] != v[i] {
			return false
		}
	}
	return true
}

var bodyPool = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// readBody reads a request body of at most limit bytes into a buffer to be given back with releaseBody.
func readBody(r *http.Request, limit int64) (*bytes.Buffer, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	b := bodyPool.Get().(*bytes.Buffer)
	if r.ContentLength >= 0 {
		return readKnown(b, r.Body, int(r.ContentLength))
	}
	n, err := b.ReadFrom(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		releaseBody(b)
		return nil, badBody(err)
	case n > limit:
		releaseBody(b)
		return nil, tooLarge(limit)
	}
	return b, nil
}

// readKnown reads a body of n bytes.
func readKnown(b *bytes.Buffer, from io.Reader, n int) (*bytes.Buffer, error) {
	b.Grow(n)
	text := b.AvailableBuffer()[:n]
	if _, err := io.ReadFull(from, text); err != nil {
		releaseBody(b)
		return nil, badBody(err)
	}
	b.Write(text) // where it stands already
	return b, nil
}

// releaseBody gives a buffer back, unless it is so large that it had better go.
func releaseBody(b *bytes.Buffer) {
	if b.Cap() <= 64<<10 {
		b.Reset()
		bodyPool.Put(b)
	}
}

// readJSON decodes a request body that is one JSON value.
func readJSON(r *http.Request, value any) error {
	b, err := readJSONText(r)
	if err != nil {
		return err
	}
	defer releaseBody(b)
	if bytes.Equal(bytes.TrimSpace(b.Bytes()), []byte("null")) { // would leave value as it is
		return badJSON(errNull)
	}
	if err := json.Unmarshal(b.Bytes(), value); err != nil {
		return badJSON(err)
	}
	return nil
}

var errNull = errors.New("the body is null")

// readJSONText reads a request body that its sender says is JSON, or says nothing about, into a buffer to be given back with releaseBody.
func readJSONText(r *http.Request) (*bytes.Buffer, error) {
	if t := r.Header.Get("Content-Type"); t != "" && !isJSONType(t) {
		return nil, refuse(hub.CodeUnsupportedMediaType, fmt.Sprintf("%q is not application/json", t))
	}
	return readBody(r, maxJSON)
}

// isJSONType reports whether a Content-Type is JSON: application/json, text/json, or one that is built on JSON (RFC 6839).
func isJSONType(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	return t == "application/json" || t == "text/json" || strings.HasSuffix(t, "+json")
}

// hasType reports whether the request's Content-Type is want, whatever its parameters.
func hasType(r *http.Request, want string) bool {
	given, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(given), want)
}

// ifMatch returns the condition of a request as it came, and whether there is one. The hub takes "etag" with and without quotes, and the
// star with quotes too, as the C# SDK writes it.
func ifMatch(r *http.Request) (etag string, ok bool) {
	etag = strings.TrimSpace(r.Header.Get("If-Match"))
	return etag, etag != ""
}
