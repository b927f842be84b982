// Package httpapi is the HTTPS head: the device and service REST APIs of an IoT Hub on chi, and the WebSocket upgrade that
// hands a connection on to whoever speaks the chosen sub-protocol. A handler decodes, calls the hub once, encodes.
package httpapi

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
)

// What a connection may cost before it has proved anything.
const (
	headerTimeout = 15 * time.Second // from the first byte of a request to the end of its headers
	readTimeout   = 60 * time.Second // the same, to the end of its body
	writeTimeout  = 60 * time.Second // from the end of the headers to the last byte of the answer
	idleTimeout   = 4 * time.Minute  // between requests; Azure's front end drops an idle TCP connection after four minutes
	maxHeader     = 64 << 10         // bytes of request line and headers; larger ones are answered with 431
)

// Config configures a Server. Hub and Logger are required; a nil MQTT or AMQP refuses that sub-protocol.
type Config struct {
	Hub    *hub.Hub
	Logger *slog.Logger
	MQTT   func(*door.Conn) // speaks MQTT on a WebSocket and returns when it is over
	AMQP   func(*door.Conn) // the same for AMQP
	Blobs  Blobs            // blob storage on the same door [none]
}

// Blobs answers the requests that are its own.
type Blobs interface {
	http.Handler
	Owns(*http.Request) bool
}

// Server is the HTTPS head. Its methods may be called from any goroutine.
type Server struct {
	hub  *hub.Hub
	log  *slog.Logger
	mqtt func(*door.Conn)
	amqp func(*door.Conn)
	http http.Server

	mu     sync.Mutex
	conns  map[*wire]struct{} // http.Server knows them too, but not those that became WebSockets
	closed bool
}

// New returns a server; connections come in through Serve.
func New(cfg Config) *Server {
	s := &Server{hub: cfg.Hub, log: cfg.Logger, mqtt: cfg.MQTT, amqp: cfg.AMQP, conns: map[*wire]struct{}{}}
	routes := s.routes()
	var http1 http.Protocols
	http1.SetHTTP1(true)
	s.http = http.Server{
		Protocols: &http1,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			wireOf(r).startRequest(r)
			if device, ok := eventsPath(r); ok {
				s.asDevice(w, r, device, s.postEvents)
				return
			}
			if cfg.Blobs != nil && cfg.Blobs.Owns(r) {
				cfg.Blobs.ServeHTTP(w, r)
				return
			}
			routes.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, wireKey{}, c)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			c.(*wire).changed(state)
		},
	}
	return s
}

// Serve speaks HTTP on c, or what c is upgraded to, and returns when the connection is over. It closes c.
func (s *Server) Serve(c *door.Conn) {
	w := newWire(c)
	defer func() { _ = w.Close() }()
	if !s.track(w) {
		return
	}
	defer s.forget(w)
	_ = s.http.Serve(&once{conn: w}) // returns when the connection is over or upgraded; the error says only that
	if next := w.carriedOn(); next != nil {
		next()
	}
}

// Close cuts every connection, WebSockets included. Calls of Serve return soon after; the doors wait for them.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for w := range s.conns {
		w.Cut()
	}
	s.mu.Unlock()
	_ = s.http.Close()
}

// track remembers a connection for Close, and reports whether it may still be served.
func (s *Server) track(w *wire) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[w] = struct{}{}
	return true
}

func (s *Server) forget(w *wire) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, w)
}

// requestID returns a new id for x-ms-request-id, in the form of a GUID. It identifies, it does not protect.
func requestID() string {
	const digits = "0123456789abcdef"
	var id [36]byte
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range id {
		switch i {
		case 8, 13, 18, 23:
			id[i] = '-'
			continue
		}
		id[i] = digits[hi&15]
		hi = hi>>4 | lo<<60
		lo >>= 4
	}
	id[14] = '4' // RFC 9562: version 4
	return string(id[:])
}
