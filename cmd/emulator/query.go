package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

type queryCmd struct {
	remoteFlags
	Text string `arg:"" name:"query" help:"For instance: SELECT deviceId, tags.floor FROM devices WHERE tags.floor > 1"`
}

// Run prints every row as one line of JSON.
func (c *queryCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	return b.Query(a.ctx, c.Text, func(row json.RawMessage) error {
		var line bytes.Buffer
		if err := json.Compact(&line, row); err != nil {
			return err
		}
		_, err := fmt.Fprintln(a.stdout, line.String())
		return err
	})
}
