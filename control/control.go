// Package control is the control API and the dashboard: plain HTTP for the person or test that runs the hub, never for its
// clients. openapi.yaml describes it.
package control

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/semaphore"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
)

// Config configures a Server. All fields but Hosts are required.
type Config struct {
	Hub     *hub.Hub
	Clock   *clock.Clock
	Logger  *slog.Logger
	Ready   func() bool                 // whether seeds are loaded and every door accepts
	Info    func() Info                 // what GET /iolite/v1/info tells
	CAPEM   func() []byte               // the development CA's certificate
	Reset   func(context.Context) error // empties the hub and loads the seeds again
	Metrics func() prometheus.Gatherer  // what GET /metrics tells
	Hosts   []string                    // host names besides localhost, loopback and the bound address that requests may be addressed to
}

// Server is the control API. It is an http.Handler, and serves the connections that Serve is given.
type Server struct {
	Config
	routes  chi.Router
	lasting *semaphore.Weighted // requests that wait for events
	http    http.Server
}

// New returns the control API. Close ends it.
func New(cfg Config) *Server {
	s := &Server{Config: cfg, lasting: semaphore.NewWeighted(maxLasting)}
	s.routes = s.table()
	var http1 http.Protocols
	http1.SetHTTP1(true)
	s.http = http.Server{
		Protocols:         &http1,
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
	}
	return s
}

// table is every route there is; openapi.yaml has the same ones.
func (s *Server) table() chi.Router {
	r := chi.NewRouter()
	r.Use(escapedPath)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "there is no "+r.URL.EscapedPath()+"; /iolite/v1/openapi.yaml says what there is")
	})
	r.MethodNotAllowed(methodNotAllowed(r))
	r.Get("/", s.dashboard)
	r.Get("/livez", livez)
	r.Get("/readyz", s.readyz)
	r.Get("/metrics", func(w http.ResponseWriter, r *http.Request) {
		promhttp.HandlerFor(s.Metrics(), promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
	r.Route("/iolite/v1", func(r chi.Router) {
		r.Get("/openapi.yaml", getOpenAPI)
		r.Get("/info", s.getInfo)
		r.Get("/ca.pem", s.getCA)
		r.Get("/cas", s.getCAs)
		r.Post("/cas", s.postCAs)
		r.Post("/reset", s.postReset)
		r.Get("/violations", s.getViolations)
		r.Delete("/violations", s.deleteViolations)
		r.Get("/clock", s.getClock)
		r.Post("/clock", s.postClock)
		r.Get("/events", s.getEvents)
		r.Get("/eventhubs", s.getEventHubs)
		r.Get("/eventhubs/{name}", s.getEventHub)
		r.Put("/eventhubs/{name}", s.putEventHub)
		r.Delete("/eventhubs/{name}", s.deleteEventHub)
		r.Get("/eventhubs/{name}/consumergroups/{group}", s.getConsumerGroup)
		r.Put("/eventhubs/{name}/consumergroups/{group}", s.putConsumerGroup)
		r.Delete("/eventhubs/{name}/consumergroups/{group}", s.deleteConsumerGroup)
		r.Get("/routing", s.getRouting)
		r.Put("/routing", s.putRouting)
		r.Post("/routing/test", s.postRoutingTest)
		r.Post("/routing/testroute", s.postRouteTest)
		r.Get("/routing/health", s.getEndpointHealth)
		r.Get("/connections", s.getConnections)
		r.Delete("/connections/{deviceId}", s.deleteConnections)
	})
	return r
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if why := s.foreign(r); why != "" {
		problem(w, http.StatusForbidden, why)
		return
	}
	s.routes.ServeHTTP(w, r)
}

// Serve speaks HTTP on c and returns when the connection is over. It closes c.
func (s *Server) Serve(c *door.Conn) {
	l := &single{Conn: c, closed: make(chan struct{})}
	_ = s.http.Serve(l) // returns when c was closed; the error says only that
	_ = c.Close()
}

// Close ends every connection and lets Serve return.
func (s *Server) Close() { _ = s.http.Close() }

// single is one connection, and the net.Listener that accepts it and ends with it.
type single struct {
	net.Conn
	accepted bool
	closing  sync.Once
	closed   chan struct{}
}

// Accept implements net.Listener.
func (l *single) Accept() (net.Conn, error) {
	if !l.accepted {
		l.accepted = true
		return l, nil
	}
	<-l.closed
	return nil, io.EOF
}

// Close implements net.Conn and net.Listener.
func (l *single) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return l.Conn.Close()
}

// Addr implements net.Listener.
func (l *single) Addr() net.Addr { return l.LocalAddr() }
