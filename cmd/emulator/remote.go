package main

import (
	"context"
	"errors"
	"time"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/control/client"
)

// remoteFlags find a running hub.
type remoteFlags struct {
	Control string `default:"127.0.0.1:8088" help:"Address of the running hub's control API."`
}

func (f remoteFlags) client() (*client.Client, error) {
	if f.Control == "off" {
		return nil, errors.New("this command needs the control API of a running hub: give its address with --control")
	}
	return client.New(f.Control), nil
}

// backend returns a back end of the running hub; its tokens expire by the hub's clock.
func (f remoteFlags) backend(ctx context.Context) (*backend.Backend, error) {
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	info, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	roots, err := c.Roots(ctx)
	if err != nil {
		return nil, err
	}
	state, err := c.Clock(ctx)
	if err != nil {
		return nil, err
	}
	ahead := state.Now.Sub(clock.Wall())
	return backend.New(info, roots, func() time.Time { return clock.Wall().Add(ahead) })
}
