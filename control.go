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

// gatherer is the hub's metrics with those of this process, which cost too much to be made before somebody asks for them.
func (e *Emulator) gatherer() prometheus.Gatherer {
	e.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return e.metrics
}

func (e *Emulator) closeControl() {
	if e.control == nil {
		return
	}
	e.control.server.Close()
	e.control.Close()
}
