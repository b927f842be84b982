package main

import (
	"fmt"
	"time"

	"github.com/iolite-emulator/iolite/backend"
)

type invokeCmd struct {
	remoteFlags
	ID             string        `arg:"" name:"device" help:"Id of the device, or device/module."`
	Method         string        `arg:"" help:"Name of the method."`
	Payload        string        `arg:"" optional:"" help:"JSON payload; - reads it from standard input; none when not given."`
	Timeout        time.Duration `env:"-" default:"30s" help:"How long to wait for the response, 5s to 5m."`
	ConnectTimeout time.Duration `env:"-" default:"0s" help:"How long to wait for the device to connect, up to --timeout."`
}

// Run calls the method and prints the device's status and payload. It fails when there was no response, not for a status.
func (c *invokeCmd) Run(a *app) error {
	m := backend.Method{Name: c.Method, ResponseTimeout: seconds(c.Timeout), ConnectTimeout: seconds(c.ConnectTimeout)}
	if c.Payload != "" {
		var err error
		if m.Payload, err = jsonArgument(c.Payload); err != nil {
			return exitError{exitUsage, fmt.Errorf("the payload: %w", err)}
		}
	}
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	result, err := b.Invoke(a.ctx, c.ID, m)
	if err != nil {
		return err
	}
	return a.printJSON(result)
}

// seconds rounds up: the hub counts whole seconds.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
