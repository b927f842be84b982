package iolite

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/iolite-emulator/iolite/control"
	"github.com/iolite-emulator/iolite/door"
)

// controlDoor is the open control API.
type controlDoor struct {
	*door.Listener
	server *control.Server
}

// openControl binds the control API's address and answers; unlike the other doors it does so before the hub is ready.
func (e *Emulator) openControl(ctx context.Context) error {
	o := &e.options
	if o.Control == "off" {
		return nil
	}
	address := o.Control
	if address == "" {
		address = net.JoinHostPort(o.Bind, "0")
	}
	l, err := door.Listen(ctx, door.Control, address, nil, e.log)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --control, or off", err)
	}
	e.control = &controlDoor{l, control.New(control.Config{
		Hub: e.hub, Clock: e.clock, Logger: e.log, Ready: e.Ready, Info: e.Info, CAPEM: e.ca.PEM, Reset: e.Reset, Metrics: sync.OnceValue(e.gatherer),
		Hosts: append([]string{o.Hostname}, o.ControlHosts...),
	})}
	l.Serve(e.control.server.Serve)
	return nil
}

// gatherer has the metrics of the hub and of this process. It costs too much to be made before somebody asks.
func (e *Emulator) gatherer() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if e.blobs != nil {
		r.MustRegister(e.blobMetric())
	}
	if err := e.hub.RegisterMetrics(r); err != nil {
		panic(err) // a name of ours stands in two places, which every test of metrics would have found
	}
	return r
}

func (e *Emulator) closeControl() {
	if e.control == nil {
		return
	}
	e.control.server.Close()
	e.control.Close()
}
