package iolite

import (
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/hub"
)

// Port is the number of a door's TCP port.
type Port int

// Special ports.
const (
	AnyPort Port = 0  // any free port
	Off     Port = -1 // the door stays shut
)

// The documented ports, which the official SDKs cannot be talked out of.
const (
	MQTTPort     Port = 8883
	AMQPPort     Port = 5671
	HTTPSPort    Port = 443
	EventHubPort Port = 5672
)

// Options say how to start an emulator. The zero value is a hub called "iolite" on any free ports of 127.0.0.1, empty, with a CA in
// memory: what a test wants. A zero field means the default in brackets.
type Options struct {
	Bind     string // address of the doors ["127.0.0.1"]
	Hostname string // host name printed in connection strings ["localhost"]

	MQTT, AMQP, HTTPS, EventHub Port     // [AnyPort]
	Control                     string   // address and port of the control API, or "off" [Bind and any free port]
	ControlHosts                []string // host names besides its own that the control API answers to
	StrictPorts                 bool     // fail when a port needs a right we do not have, instead of moving that door to a free port

	Devices  []string  // devices to create at start, with derived keys
	Seed     io.Reader // a seed file: devices, modules and messages to load before the doors open [none]
	SeedName string    // its name for messages ["seed"]

	HTTPPoll         hub.PollMode        // [hub.PollEnforce]
	HTTPPollInterval time.Duration       // [25 minutes]
	OnViolation      func(hub.Violation) // called for each poll violation
	Partitions       int                 // of the event log, 1 to 32 [4]
	EventBytes       int64               // telemetry kept in memory, in bytes; the oldest goes first [128 MiB]
	Retention        time.Duration       // how long telemetry is kept at most, by the hub's clock, 1 to 7 days [1 day]
	ConsumerGroups   []string            // of the built-in endpoint, besides $Default
	AuthOff          bool                // accept any credential
	Routing          *hub.Routing        // where messages go, also after a reset [what the seed says, or else to the built-in endpoint]

	Storage          string        // connection string of a storage account that file uploads go to [one behind the HTTPS door]
	StorageContainer string        // its container for them ["uploads"]
	DataDir          string        // where the blobs of the account behind the HTTPS door are kept; empty: in memory only
	BlobBytes        int64         // that they may have [1 GiB]
	UploadTTL        time.Duration // life of the SAS URI of a file upload, 1 minute to 1 day [1 hour]

	CertsDir      string              // where the development CA is kept; empty: in memory only
	Unconstrained bool                // make a CA without name constraints
	CAs           []*x509.Certificate // that sign device certificates
	TrustedCAs    []*x509.Certificate // that endpoints and storage elsewhere may have their certificates from [only the system's and our own]

	Clock   *clock.Clock // [real time that can be moved]
	Logger  *slog.Logger // [none]
	Version string       // shown by the control API
}

// withDefaults fills in what is not set and refuses what cannot be.
func (o Options) withDefaults() (Options, error) {
	if o.Bind == "" {
		o.Bind = "127.0.0.1"
	}
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.Partitions == 0 {
		o.Partitions = 4
	}
	if o.Partitions < 1 || o.Partitions > 32 {
		return o, fmt.Errorf("partitions: %d is not between 1 and 32", o.Partitions)
	}
	if o.Retention == 0 {
		o.Retention = hub.DefaultRetention
	}
	if o.Retention < hub.MinRetention || o.Retention > hub.MaxRetention {
		return o, fmt.Errorf("retention: %v is not between %v and %v", o.Retention, hub.MinRetention, hub.MaxRetention)
	}
	if o.HTTPPoll == "" {
		o.HTTPPoll = hub.PollEnforce
	}
	if o.HTTPPollInterval == 0 {
		o.HTTPPollInterval = 25 * time.Minute
	}
	if o.HTTPPollInterval < 0 {
		return o, fmt.Errorf("HTTP poll interval: %v is negative", o.HTTPPollInterval)
	}
	if o.StorageContainer == "" {
		o.StorageContainer = "uploads"
	}
	if o.BlobBytes <= 0 {
		o.BlobBytes = 1 << 30
	}
	if o.SeedName == "" {
		o.SeedName = "seed"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}
