package iolite

import (
	"context"
	"fmt"
	"net"

	"github.com/iolite-emulator/iolite/control"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/exposition"
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
		Hub: e.hub, Clock: e.clock, Logger: e.log, Ready: e.Ready, Info: e.Info, CAPEM: e.ca.PEM, Reset: e.Reset, Metrics: e.metrics,
		Hosts: append([]string{o.Hostname}, o.ControlHosts...),
	})}
	l.Serve(e.control.server.Serve)
	return nil
}

// metrics are those of the hub and of this process.
func (e *Emulator) metrics(p *exposition.Page) {
	p.Process()
	if e.blobs != nil {
		p.Gauge(exposition.Family{Name: "iolite_blob_bytes", Help: "Space that uploaded files take, overheads and uncommitted blocks included."}, e.blobBytes())
	}
	e.hub.CollectMetrics(p)
}

func (e *Emulator) closeControl() {
	if e.control == nil {
		return
	}
	e.control.server.Close()
	e.control.Close()
}
