package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/iolite-emulator/iolite"
	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/doctor"
)

type doctorCmd struct {
	remoteFlags
	Own bool `env:"-" help:"Examine a hub of its own on free ports instead of the running one."`
}

// Run prints one line a check and fails if any failed.
func (c *doctorCmd) Run(a *app) error {
	b, end, err := c.patient(a.ctx)
	if err != nil {
		return err
	}
	defer end()
	fmt.Fprintf(a.stdout, "%-10s  %-8s  %-8s  %s\n", "DOOR", "RESULT", "TOOK", "CHECK")
	healthy := doctor.Run(a.ctx, b, func(check doctor.Check) {
		result, detail := "ok", check.Detail
		switch {
		case check.Left:
			result = "left out"
		case check.Err != nil:
			result, detail = "FAILED", check.Detail+": "+check.Err.Error()
		}
		fmt.Fprintf(a.stdout, "%-10s  %-8s  %-8s  %s\n", check.Name, result, check.Took.Round(100*time.Microsecond), detail)
	})
	if !healthy {
		return errors.New("not every door works")
	}
	return nil
}

// patient returns the hub to examine and what to call afterwards.
func (c *doctorCmd) patient(ctx context.Context) (*backend.Backend, func(), error) {
	if !c.Own {
		b, err := c.backend(ctx)
		return b, func() {}, err
	}
	e, err := iolite.Start(ctx, iolite.Options{Control: "off"})
	if err != nil {
		return nil, nil, err
	}
	b, err := backend.New(e.Info(), e.CA().Pool(), e.Hub().Now)
	if err != nil {
		e.Close()
		return nil, nil, err
	}
	return b, e.Close, nil
}
