package main

import (
	"fmt"
	"text/tabwriter"
	"time"
)

type violationsCmd struct {
	remoteFlags
	Clear bool `env:"-" help:"Forget them afterwards."`
}

// Run prints a table, and whether there are any on the exit status: 0 none, 3 some.
func (c *violationsCmd) Run(a *app) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	list, err := api.Violations(a.ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AT\tDEVICE\tAFTER\tINTERVAL\tANSWER\tREMOTE")
	for _, v := range list.Violations {
		answer := "let through"
		if v.Refused {
			answer = "429"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", v.At.Format(time.RFC3339), v.DeviceID, v.Elapsed, v.Interval, answer, v.Remote)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if c.Clear {
		if err := api.ClearViolations(a.ctx); err != nil {
			return err
		}
	}
	if list.Count > 0 {
		return exitError{status: exitViolation}
	}
	return nil
}

type healthcheckCmd struct{ remoteFlags }

// Run asks the control API whether the hub is ready.
func (c *healthcheckCmd) Run(a *app) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return api.Ready(a.ctx)
}
