// Package hub holds the rules of an IoT Hub: what a device or a service may do, and what then happens. It knows no socket
// and no wire format; the heads translate for it, store keeps for it, clock tells it the time.
package hub

import (
	"context"
	"crypto/x509"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// PollMode says what happens to a device that polls for cloud-to-device messages too often over HTTP.
type PollMode string

// The poll modes.
const (
	PollEnforce PollMode = "enforce" // violation is listed and refused with 429
	PollLog     PollMode = "log"     // violation is listed and let through
	PollOff     PollMode = "off"     // nobody looks
)

// Config configures a hub. Zero values mean the defaults in brackets.
type Config struct {
	Name         string // first label of the hub's name ["iolite"]
	Engine       store.Engine
	Clock        *clock.Clock
	Logger       *slog.Logger
	Metrics      prometheus.Registerer // [none]
	AuthOff      bool                  // accept any credential as whoever it claims to be
	CAs          []*x509.Certificate   // that sign device certificates
	Poll         PollMode              // [PollEnforce]
	PollInterval time.Duration         // [25 minutes]
	OnViolation  func(Violation)       // called for every poll violation, without locks [none]
}

// Hub is one IoT Hub. All methods may be called from any goroutine.
type Hub struct{}

// New returns a running hub. Close ends it.
func New(cfg Config) (*Hub, error) { panic("contract") }

// Close ends every session with CodeClosed and stops the timers.
func (h *Hub) Close() { panic("contract") }

// Reset closes every session with CodeClosed and empties registry, queues, events, violations and poll memory. It takes
// milliseconds with 10,000 devices.
func (h *Hub) Reset(ctx context.Context) error { panic("contract") }

// Name returns the hub's name, "iolite" by default: the IoT hub name and the Event Hubs-compatible name.
func (h *Hub) Name() string { panic("contract") }

// Now returns the hub's time.
func (h *Hub) Now() time.Time { panic("contract") }

// Policies returns the shared access policies with their fixed development keys, in documented order.
func (h *Hub) Policies() []auth.Policy { panic("contract") }

// DeriveKeys returns the base64 primary and secondary keys that --device and seeds give an identity: derived from a fixed
// secret and the id, the same in every process.
func DeriveKeys(key store.Key) (primary, secondary string) { panic("contract") }

// AddCA registers a CA certificate that may sign device certificates; CAs lists them.
func (h *Hub) AddCA(ca *x509.Certificate) { panic("contract") }

// CAs lists the registered CA certificates.
func (h *Hub) CAs() []*x509.Certificate { panic("contract") }

// Violation is one HTTP poll for cloud-to-device messages that came sooner than the poll interval.
type Violation struct {
	DeviceID string
	At       time.Time
	Previous time.Time     // the poll it is measured from
	Elapsed  time.Duration // At minus Previous
	Interval time.Duration // the rule in force
	Refused  bool          // answered with 429
	Remote   string        // the poller's address
}

// Violations returns the kept violations, oldest first (the newest 10,000 are kept).
func (h *Hub) Violations() []Violation { panic("contract") }

// ViolationCount returns how many violations happened since start or the last ClearViolations, kept or not.
func (h *Hub) ViolationCount() int { panic("contract") }

// ClearViolations forgets them.
func (h *Hub) ClearViolations() { panic("contract") }

// Connection describes a connected device or module.
type Connection struct {
	store.Key
	Door      string // door.Door.String
	Remote    string
	Since     time.Time
	UserAgent string
	Method    auth.Method
	BytesIn   int64 // of the whole connection, which AMQP devices may share
	BytesOut  int64
}

// Connections lists the connected devices and modules, by id.
func (h *Hub) Connections() []Connection { panic("contract") }

// Disconnect ends the sessions of a device and its modules, cutting connections that only they use, and returns how many.
func (h *Hub) Disconnect(deviceID string) int { panic("contract") }
