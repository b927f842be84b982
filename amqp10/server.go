package amqp10

import (
	"log/slog"
	"net"
	"time"
)

// Config says what a Server announces and what it puts up with. The zero value works: every field has a default.
type Config struct {
	ContainerID string // announced in open; default "amqp10"
	Hostname    string // announced in open when not empty
	Properties  Map    // announced in open when not empty; keys are symbols

	MaxFrameSize uint32 // largest frame accepted and announced, in bytes; default 65536, at least 512
	ChannelMax   uint16 // highest channel number accepted and announced; default 8191

	// IdleTimeout is the idle-time-out announced in open. A client silent for twice as long is closed with
	// amqp:resource-limit-exceeded (AMQP 2.4.5). Default 240 s; negative: none.
	IdleTimeout time.Duration
	// HandshakeTimeout is how long a client may take from connecting to its open frame. Default 30 s.
	HandshakeTimeout time.Duration
	// WriteTimeout is how long one write may hang before the client counts as gone and is cut. Default 30 s.
	WriteTimeout time.Duration
	// CloseTimeout is how long to wait for the client's answer to our close before the socket is dropped. Default 2 s.
	CloseTimeout time.Duration

	MaxSessions         int // per connection; default ChannelMax+1
	MaxLinksPerSession  int // default 4096
	MaxLinks            int // per connection; default 32768
	MaxUnsettledPerLink int // in either direction; default 8192
	// IncomingWindow is the number of transfer frames a session takes before it must hear from us; default 5000.
	IncomingWindow uint32
	// CreditWindow is the credit kept granted on links the client sends on; default 250. See Link.SetCreditWindow.
	CreditWindow uint32
	// MaxMessageSize is announced on every attach, in bytes, and enforced for what the client sends: a larger message is
	// rejected with amqp:link:message-size-exceeded. Default 1 MiB. See Link.SetMaxMessageSize.
	MaxMessageSize uint64
	// MaxPartialBytes bounds what all unfinished multi-frame messages of one connection may hold together; default 16 MiB.
	MaxPartialBytes int
	// MaxOutput is how many bytes may wait to be written to one client before Link.Send returns ErrBusy; default 256 KiB.
	// At four times as many the engine stops reading from that client until it reads from us.
	MaxOutput int
	MaxDepth  int // nesting of values in performatives; default 16

	// Mechanisms are the SASL mechanisms offered, in order. Default MSSBCBS, ANONYMOUS, PLAIN, EXTERNAL.
	Mechanisms []string

	Logger *slog.Logger // default: discards

	firstID uint32 // our first transfer-id, delivery-id and delivery-count; tests let them wrap
}

func (cfg Config) orDefault() Config {
	orDefault(&cfg.ContainerID, "amqp10")
	orDefault(&cfg.MaxFrameSize, 65536)
	cfg.MaxFrameSize = max(cfg.MaxFrameSize, minMaxFrameSize)
	orDefault(&cfg.ChannelMax, 8191)
	orDefault(&cfg.IdleTimeout, 240*time.Second)
	orDefault(&cfg.HandshakeTimeout, 30*time.Second)
	orDefault(&cfg.WriteTimeout, 30*time.Second)
	orDefault(&cfg.CloseTimeout, 2*time.Second)
	orDefault(&cfg.MaxSessions, int(cfg.ChannelMax)+1)
	orDefault(&cfg.MaxLinksPerSession, 4096)
	orDefault(&cfg.MaxLinks, 32768)
	orDefault(&cfg.MaxUnsettledPerLink, 8192)
	orDefault(&cfg.IncomingWindow, 5000)
	orDefault(&cfg.CreditWindow, 250)
	orDefault(&cfg.MaxMessageSize, 1<<20)
	orDefault(&cfg.MaxPartialBytes, 16<<20)
	orDefault(&cfg.MaxOutput, 256<<10)
	orDefault(&cfg.MaxDepth, 16)
	if cfg.Mechanisms == nil {
		cfg.Mechanisms = []string{"MSSBCBS", "ANONYMOUS", "PLAIN", "EXTERNAL"}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// limits are those for values inside performatives.
func (cfg *Config) limits() Limits { return Limits{Depth: cfg.MaxDepth, Values: 8192} }

// Server holds what all connections share: the configuration. It is safe for concurrent use.
type Server struct {
	cfg Config
}

// NewServer returns a server with cfg, defaults filled in.
func NewServer(cfg Config) *Server { return &Server{cfg: cfg.orDefault()} }

// ServeConn speaks AMQP on nc until the connection ends, with or without a SASL layer as the client chooses. It blocks,
// closes nc, and returns nil when the client or we closed in good order, otherwise the reason. No callback and no
// goroutine of this connection is left when it returns. TLS and WebSocket framing are the caller's: nc carries the bare
// octet stream, and no single Write to it exceeds 64 KiB.
func (s *Server) ServeConn(nc net.Conn, p Peer) error {
	c := newConn(&s.cfg, nc, p)
	return c.finish(c.serve())
}
