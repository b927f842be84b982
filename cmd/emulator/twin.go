package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

type twinCmd struct {
	Get   twinGetCmd   `cmd:"" help:"Print a twin."`
	Patch twinPatchCmd `cmd:"" help:"Merge into a twin's tags and desired properties, and print what it is then."`
}

type twinGetCmd struct {
	remoteFlags
	ID string `arg:"" name:"device" help:"Id of the device, or device/module."`
}

// Run prints the twin.
func (c *twinGetCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	twin, err := b.Twin(a.ctx, c.ID)
	if err != nil {
		return err
	}
	return a.printJSON(twin)
}

type twinPatchCmd struct {
	remoteFlags
	ID      string `arg:"" name:"device" help:"Id of the device, or device/module."`
	Patch   string `arg:"" help:"JSON such as {\"tags\":{\"floor\":1},\"properties\":{\"desired\":{\"interval\":5}}}; null removes; - reads it from standard input."`
	IfMatch string `env:"-" help:"Only if the twin has this etag." placeholder:"ETAG"`
}

// Run patches the twin.
func (c *twinPatchCmd) Run(a *app) error {
	patch, err := jsonArgument(c.Patch)
	if err != nil {
		return exitError{exitUsage, fmt.Errorf("the patch: %w", err)}
	}
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	twin, err := b.PatchTwin(a.ctx, c.ID, patch, c.IfMatch)
	if err != nil {
		return err
	}
	return a.printJSON(twin)
}

// maxArgument bounds JSON from standard input, in bytes; what the hub takes is less.
const maxArgument = 4 << 20

// jsonArgument returns JSON given on the command line, or on standard input for "-".
func jsonArgument(text string) (json.RawMessage, error) {
	b := []byte(text)
	if text == "-" {
		var err error
		if b, err = io.ReadAll(io.LimitReader(os.Stdin, maxArgument)); err != nil {
			return nil, err
		}
	}
	if !json.Valid(b) {
		return nil, errors.New("that is no JSON")
	}
	return b, nil
}

// printJSON prints JSON with indentation.
func (a *app) printJSON(text json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.stdout, b.String())
	return err
}
