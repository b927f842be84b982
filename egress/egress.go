// Package egress takes messages to endpoints outside of the hub, as IoT Hub's routes do: event hubs, Service Bus queues and topics, or other
// AMQP 1.0 brokers, and blob containers. It does the input and output; when to try again, and what becomes of messages that nobody takes,
// is decided by whoever calls.
package egress

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/iolite-emulator/iolite/blob"
	"github.com/iolite-emulator/iolite/clock"
)

// ErrRefused says that an endpoint will never take the message that comes next; others it may.
var ErrRefused = errors.New("the endpoint refuses the message")

// Config is what all endpoints have in common.
type Config struct {
	Hub         string                        // the hub's name: {iothub} in names of blobs
	PartitionOf func(partitionKey string) int // {partition} in names of blobs
	Clock       *clock.Clock                  // by which blobs are named
	Roots       func() *x509.CertPool         // certificate authorities to trust, asked for when they are needed [the system's]
}

// Egress makes sinks. All methods may be called from any goroutine, those of one sink from one at a time.
type Egress struct {
	Config
	blobs *blob.Client
	wall  func() time.Time // for the life of tokens, which the other side judges
}

// New returns an Egress.
func New(cfg Config) *Egress {
	return &Egress{Config: cfg, blobs: blob.NewTrusting(cfg.Roots), wall: clock.Wall}
}
