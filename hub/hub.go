// Package hub holds the rules of an IoT Hub: what a device or a service may do, and what then happens. It knows no socket
// and no wire format; the heads translate for it, store keeps for it, clock tells it the time.
//
// Locks, in the order in which they may be taken:
//
//  0. routings.mu, then all gates; configurations.change, then configurations.using; jobs.mu; transfers.mu; quota.mu; then Hub.modules, then Hub.lifecycles
//  1. queue.mu: one identity's peer (its session, queue and poll memory), or a servicebound queue; never two of them at once
//  2. peerShard.mu, violations.mu, provenTokens.mu, ServiceSession.mu, outbox.mu, pending.mu, jobRun.mu, outlets.mu; gate.mu for reading, one at most
//  3. services.mu, workers.mu; eventHubs.mu, then eventHub.mu; outlet.mu
//  4. the locks of store and clock, which call nothing back; only EventLog tells watchers of an append, under a gate and perhaps a lock of level 1
//
// Nothing else of the caller's is called under any of them: what has to be told outside waits in queue.after until mu is free.
// Sending telemetry takes the gate of its partition alone, which only a reset closes.
package hub

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

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
	AuthOff      bool                // accept any credential as whoever it claims to be
	CAs          []*x509.Certificate // that sign device certificates
	Poll         PollMode            // [PollEnforce]
	PollInterval time.Duration       // [25 minutes]
	OnViolation  func(Violation)     // called for every poll violation, without locks [none]
	Retention    time.Duration       // how long event hubs keep events, by Clock [1 day]
	Blobs        Blobs               // storage of import and export jobs [none: they are refused]
	Storage      Storage             // where devices upload files to [none: uploads are refused]
	UploadTTL    time.Duration       // life of the SAS URI of a file upload, 1 minute to 1 day [1 hour]
	Routing      Routing             // that the hub begins with, and returns to when it is reset [everything to the built-in endpoint]
	Sinks        Sinks               // way to endpoints outside [none: messages for them wait]
}

// Hub is one IoT Hub. All methods may be called from any goroutine.
type Hub struct {
	cfg      Config
	log      *slog.Logger
	clock    *clock.Clock
	registry store.Registry
	twins    store.Twins
	events   store.EventLog
	created  time.Time
	metrics  *metrics
	quota    quota

	generation atomic.Int64 // the last tick given
	closed     atomic.Bool
	cas        atomic.Pointer[[]*x509.Certificate]
	modules    sync.Mutex // held while a module is created, so that the limit per device holds
	lifecycles [lifecycleLocks]sync.Mutex

	connectionChanges atomic.Int64 // how many connection state events there were

	era   atomic.Int64 // how many resets there were
	gates []gate       // one per partition

	builtIn   *eventHub
	eventHubs eventHubs

	services    services
	devicebound *queueRules
	feedback    feedbackQueue
	files       serviceQueue // notifications of file uploads
	violations  violations
	tokens      provenTokens
	pushes      workers
	jobs        jobs

	configurations configurations
	transfers      transfers
	routings       routings
	outlets        outlets

	seed   maphash.Seed
	shards [peerShards]peerShard
}

// New returns a running hub. Close ends it.
func New(cfg Config) (*Hub, error) {
	if cfg.Engine == nil || cfg.Clock == nil || cfg.Logger == nil {
		return nil, errors.New("hub: Engine, Clock and Logger must be given")
	}
	if cfg.Name == "" {
		cfg.Name = "iolite"
	}
	if cfg.Poll == "" {
		cfg.Poll = PollEnforce
	}
	if cfg.Poll != PollEnforce && cfg.Poll != PollLog && cfg.Poll != PollOff {
		return nil, fmt.Errorf("hub: unknown poll mode %q", cfg.Poll)
	}
	if cfg.PollInterval <= 0 {
		cfg.PollInterval = 25 * time.Minute // IoT Hub: "each device should poll for messages every 25 minutes or more"
	}
	if cfg.UploadTTL == 0 {
		cfg.UploadTTL = time.Hour // IoT Hub's default, and its range
	}
	if cfg.UploadTTL < minUploadTTL || cfg.UploadTTL > maxUploadTTL {
		return nil, fmt.Errorf("hub: the life of an upload URI, %v, is not between %v and %v", cfg.UploadTTL, minUploadTTL, maxUploadTTL)
	}
	if cfg.Retention <= 0 {
		cfg.Retention = DefaultRetention
	}
	h := &Hub{
		cfg: cfg, log: cfg.Logger, clock: cfg.Clock, registry: cfg.Engine.Registry(), twins: cfg.Engine.Twins(), events: cfg.Engine.Events(),
		created: cfg.Clock.Now(), seed: maphash.MakeSeed(), gates: make([]gate, cfg.Engine.Events().Partitions()),
	}
	h.metrics = newMetrics(h.events, h.clock)
	h.quota.hub = h
	h.quota.begin()
	for i := range h.shards {
		h.shards[i].peers = map[store.Key]*peer{}
	}
	h.builtIn = h.eventHubs.init(h)
	h.tokens.seed = h.seed
	h.cas.Store(new(slices.Clone(cfg.CAs)))
	h.devicebound = h.newDeviceboundRules()
	h.feedback.init(h)
	h.initFiles()
	h.services.hub = h
	h.configurations.hub, h.configurations.store = h, cfg.Engine.Configurations()
	h.configurations.misfits = rate.Sometimes{First: 10, Interval: 10 * time.Second}
	h.transfers.hub = h
	h.jobs = jobs{hub: h, store: cfg.Engine.Jobs(), active: map[string]*jobRun{}}
	if err := h.resetRouting(context.Background()); err != nil {
		return nil, err
	}
	return h, nil
}

// Close ends every session with CodeClosed and stops the timers. Nothing is pushed any more once it has returned.
func (h *Hub) Close() {
	h.closed.Store(true)
	h.quota.stop()
	h.sweep()
	h.feedback.clear()
	h.files.clear()
	h.services.sweep(h.NewError(CodeClosed))
	h.jobs.clear()
	h.transfers.clear()
	h.outlets.end()
	h.pushes.stop()
}

// Name returns the hub's name, "iolite" by default: the IoT hub name and the Event Hubs-compatible name.
func (h *Hub) Name() string { return h.cfg.Name }

// Now returns the hub's time.
func (h *Hub) Now() time.Time { return h.clock.Now() }

// AddCA registers a CA certificate that may sign device certificates; adding one twice changes nothing.
func (h *Hub) AddCA(ca *x509.Certificate) {
	for {
		old := h.cas.Load()
		if slices.ContainsFunc(*old, ca.Equal) {
			return
		}
		if h.cas.CompareAndSwap(old, new(append(slices.Clone(*old), ca))) {
			return
		}
	}
}

// CAs lists the registered CA certificates.
func (h *Hub) CAs() []*x509.Certificate { return slices.Clone(*h.cas.Load()) }

// admin is the principal that may do everything.
var admin = auth.Principal{Policy: "iothubowner", Rights: auth.RegistryRead | auth.RegistryWrite | auth.ServiceConnect | auth.DeviceConnect, Method: auth.MethodNone}

// workers counts goroutines that the hub starts, so that Close can wait for them.
type workers struct {
	mu      sync.Mutex
	wg      sync.WaitGroup
	stopped bool
}

// run starts f on a goroutine of its own, or reports false after stop.
func (w *workers) run(f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return false
	}
	w.wg.Go(f)
	return true
}

// stop waits for what runs and lets nothing start any more.
func (w *workers) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.wg.Wait()
}
