// Package iolite is a local Azure IoT Hub: Start opens its doors inside this process. The emulator command and package iolitetest
// are thin layers over it.
package iolite

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/iolite-emulator/iolite/amqpsrv"
	"github.com/iolite-emulator/iolite/blob"
	"github.com/iolite-emulator/iolite/blobapi"
	"github.com/iolite-emulator/iolite/broker"
	"github.com/iolite-emulator/iolite/certs"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/httpapi"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// Emulator is a running hub with its doors. All methods may be called from any goroutine.
type Emulator struct {
	options Options
	log     *slog.Logger
	clock   *clock.Clock
	hub     *hub.Hub
	ca      *certs.Authority
	seed    seedFile

	broker *broker.Broker
	amqp   *amqpsrv.Server
	http   *httpapi.Server

	blobs   store.Blobs     // of file uploads; nil when they go elsewhere
	blobapi *blobapi.Server // nil with them

	doors   []openedDoor
	control *controlDoor // nil when it is off
	ready   atomic.Bool
	resets  sync.Mutex // held during Reset: two at once would plant the seed twice
	close   sync.Once
}

// openedDoor is a bound door.
type openedDoor struct {
	*door.Listener
	moved bool // not on the port that was wanted
}

// Start opens an emulator: when it returns, seeds are loaded and every door accepts. ctx bounds the start only; Close ends the emulator.
func Start(ctx context.Context, o Options) (*Emulator, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Emulator{options: o, log: o.Logger, clock: o.Clock}
	if o.Seed != nil {
		if e.seed, err = readSeed(o.Seed); err != nil {
			return nil, fmt.Errorf("read %s: %w", o.SeedName, err)
		}
	}
	if err := e.build(); err != nil {
		e.closeBlobs()
		return nil, err
	}
	if err := e.open(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// build makes the parts below the heads, from the ground floor up. Nothing listens yet.
func (e *Emulator) build() error {
	o := &e.options
	var err error
	e.ca, err = certs.Open(o.CertsDir, certs.Options{Hosts: []string{o.Hostname}, Unconstrained: o.Unconstrained, Logger: e.log})
	if err != nil {
		return err
	}
	if e.clock == nil {
		e.clock = clock.New()
	}
	roots := sync.OnceValue(e.roots)
	blobs := blob.NewTrusting(roots)
	storage, err := e.buildStorage(blobs)
	if err != nil {
		return err
	}
	e.hub, err = hub.New(hub.Config{
		Name: hubName, Engine: store.NewMemory(store.MemoryOptions{Partitions: o.Partitions, EventBytes: o.EventBytes}),
		Clock: e.clock, Logger: e.log, AuthOff: o.AuthOff, CAs: o.CAs,
		Poll: o.HTTPPoll, PollInterval: o.HTTPPollInterval, OnViolation: o.OnViolation, Retention: o.Retention, Blobs: blobs,
		Routing: e.routing(), Sinks: e.sinks(roots), Storage: storage, UploadTTL: o.UploadTTL,
	})
	if err != nil && o.Routing == nil && e.seed.Routing != nil {
		return fmt.Errorf("%s: %w", o.SeedName, err)
	}
	return err
}

// routing is the routing that the hub begins with.
func (e *Emulator) routing() hub.Routing {
	for _, r := range []*hub.Routing{e.options.Routing, e.seed.Routing} {
		if r != nil {
			return *r
		}
	}
	return hub.Routing{}
}

// buildHeads makes the heads. The AMQP head tells its port in redirects, so the doors are bound by now.
func (e *Emulator) buildHeads() {
	e.broker = broker.New(broker.Config{Hub: e.hub, Logger: e.log})
	e.amqp = amqpsrv.New(amqpsrv.Config{Hub: e.hub, Logger: e.log, Hostname: e.options.Hostname, Port: uint32(e.Port(door.AMQP))})
	cfg := httpapi.Config{Hub: e.hub, Logger: e.log, MQTT: e.broker.Serve, AMQP: e.amqp.Serve}
	if e.blobapi != nil {
		cfg.Blobs = e.blobapi
	}
	e.http = httpapi.New(cfg)
}

// open binds the doors, loads the seeds, then lets clients in. The control API answers first: it says "not ready" until then.
func (e *Emulator) open(ctx context.Context) error {
	if err := e.openDoors(ctx); err != nil {
		return err
	}
	e.buildHeads()
	if err := e.openControl(ctx); err != nil {
		return err
	}
	if err := e.plant(ctx); err != nil {
		return err
	}
	for _, d := range e.doors {
		d.Serve(e.head(d.Door()))
	}
	e.ready.Store(true)
	return nil
}

// Close shuts the doors and ends the hub. It may be called more than once.
func (e *Emulator) Close() {
	e.close.Do(func() {
		e.ready.Store(false)
		e.closeControl()
		e.hub.Close()
		if e.http != nil { // the doors were bound, so the heads were built
			e.broker.Close()
			e.amqp.Close()
			e.http.Close()
		}
		e.closeDoors()
		e.closeBlobs()
		e.clock.Stop()
	})
}

// Reset empties the hub, puts the clock back to real time and loads the seeds again. Connected clients are cut. Calls wait
// for each other.
func (e *Emulator) Reset(ctx context.Context) error {
	e.resets.Lock()
	defer e.resets.Unlock()
	ctx = context.WithoutCancel(ctx) // a hub must not be left half empty because whoever asked has gone
	if err := e.hub.Reset(ctx); err != nil {
		return err
	}
	if e.blobs != nil {
		if err := e.blobs.Reset(ctx); err != nil {
			return err
		}
	}
	e.clock.Restore()
	return e.plant(ctx)
}

// Hub returns the hub behind the doors, for Go-side access beside the wire.
func (e *Emulator) Hub() *hub.Hub { return e.hub }

// Clock returns the hub's clock.
func (e *Emulator) Clock() *clock.Clock { return e.clock }

// CA returns the development CA that signs the doors' certificates.
func (e *Emulator) CA() *certs.Authority { return e.ca }

// Ready reports whether seeds are loaded and every door accepts.
func (e *Emulator) Ready() bool { return e.ready.Load() }
