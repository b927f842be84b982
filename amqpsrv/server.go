// Package amqpsrv is the AMQP head: the nodes of IoT Hub and of its Event Hubs-compatible endpoint, on the AMQP 1.0 engine
// of package amqp10. It translates between messages and the hub's terms; the rules are the hub's.
//
// One peer stands for one connection. It holds the identities that the connection has proven ($cbs, SASL PLAIN, TLS), and
// for each device or module with links a session of the hub. Whatever ends one identity ends its links and no others.
package amqpsrv

import (
	"context"
	"log/slog"
	"sync"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
)

// Config configures a Server. Zero values mean the defaults in brackets.
type Config struct {
	Hub      *hub.Hub     // required
	Logger   *slog.Logger // [discards]
	Hostname string       // told in redirects to peers that name no host in their open [localhost]
	Port     uint32       // of the AMQP door, told in redirects [5671]
}

// Server is the AMQP head. It serves connections of the AMQP doors and of AMQP over WebSocket alike.
type Server struct {
	cfg    Config
	hub    *hub.Hub
	log    *slog.Logger
	engine *amqp10.Server

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu     sync.Mutex
	peers  map[*peer]struct{}
	closed bool
	wg     sync.WaitGroup // one per Serve
}

// New returns a server; Close ends it.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Hostname == "" {
		cfg.Hostname = "localhost"
	}
	if cfg.Port == 0 {
		cfg.Port = 5671
	}
	s := &Server{cfg: cfg, hub: cfg.Hub, log: cfg.Logger, peers: map[*peer]struct{}{}}
	s.engine = amqp10.NewServer(amqp10.Config{ContainerID: cfg.Hub.Name(), Logger: cfg.Logger})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve speaks AMQP on c until the connection ends. It may be called from many goroutines, and returns at once after Close.
func (s *Server) Serve(c *door.Conn) {
	p := newPeer(s, c)
	if !s.enter(p) {
		_ = c.Close()
		return
	}
	defer s.leave(p)
	err := s.engine.ServeConn(c, p)
	p.finish()
	p.log.Debug("AMQP connection ended", "category", hub.Connections, "error", err)
}

// Close closes every connection with amqp:connection:forced and waits for their Serve to return.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for p := range s.peers {
		p.shut(&amqp10.Error{Condition: amqp10.CondConnectionForced, Description: "The hub is shutting down."})
	}
	s.mu.Unlock()
	s.wg.Wait()
	s.cancel()
}

func (s *Server) enter(p *peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.peers[p] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *Server) leave(p *peer) {
	s.mu.Lock()
	delete(s.peers, p)
	s.mu.Unlock()
	s.wg.Done()
}
