package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/iolite-emulator/iolite/hub"
)

type routingCmd struct {
	Show routingShowCmd `cmd:"" help:"Print where messages go, as JSON."`
	Set  routingSetCmd  `cmd:"" help:"Replace the whole routing."`
	Test routingTestCmd `cmd:"" help:"Try the routes, or one condition, with a message; nothing is sent."`
}

type routingShowCmd struct{ remoteFlags }

// Run prints the routing.
func (c *routingShowCmd) Run(a *app) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	r, err := api.Routing(a.ctx)
	if err != nil {
		return err
	}
	return a.printValue(r)
}

type routingSetCmd struct {
	remoteFlags
	File string `arg:"" help:"YAML or JSON of the routing, or a seed file with one; - reads standard input."`
}

// Run replaces the routing and prints it with all defaults.
func (c *routingSetCmd) Run(a *app) error {
	to, err := readRouting(c.File)
	if err != nil {
		return exitError{exitUsage, fmt.Errorf("%s: %w", c.File, err)}
	}
	api, err := c.client()
	if err != nil {
		return err
	}
	r, err := api.SetRouting(a.ctx, to)
	if err != nil {
		return err
	}
	return a.printValue(r)
}

// readRouting reads a routing, or that of a seed file. A key that is unknown is an error.
func readRouting(name string) (r hub.Routing, err error) {
	text, err := readFile(name)
	if err != nil {
		return r, err
	}
	var seed struct {
		Routing *hub.Routing `yaml:"routing"`
	}
	if err := yaml.Unmarshal(text, &seed); err == nil && seed.Routing != nil {
		return *seed.Routing, nil
	}
	if err := yaml.UnmarshalWithOptions(text, &r, yaml.Strict()); err != nil {
		return r, errors.New("\n" + yaml.FormatError(err, false, true))
	}
	return r, nil
}

// readFile reads a file, or standard input for "-".
func readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, maxArgument))
	}
	return os.ReadFile(name)
}

type routingTestCmd struct {
	remoteFlags
	Condition string            `env:"-" help:"Try this condition alone."`
	Source    string            `env:"-" default:"DeviceMessages" help:"Source of the message."`
	Property  map[string]string `env:"-" help:"An application property; may be given often." placeholder:"NAME=VALUE"`
	System    map[string]string `env:"-" help:"A system property, such as connectionDeviceId=device1." placeholder:"NAME=VALUE"`
	Body      string            `env:"-" help:"The body. If it is JSON, it is said to be, unless --system says otherwise."`
}

// Run prints what would become of the message, or true, false or undefined for a condition. A broken condition ends with status 1.
func (c *routingTestCmd) Run(a *app) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	m := hub.RouteTestMessage{Body: c.Body, AppProperties: c.Property, SystemProperties: c.System}
	if len(c.System) == 0 && json.Valid([]byte(c.Body)) {
		m.SystemProperties = map[string]string{"contentType": "application/json", "contentEncoding": "utf-8"}
	}
	if c.Condition == "" {
		r, err := api.TestRoutes(a.ctx, hub.RouteTest{Source: hub.RouteSource(c.Source), Message: m})
		if err != nil {
			return err
		}
		return a.printValue(r)
	}
	r, err := api.TestRoute(a.ctx, hub.OneRouteTest{Route: hub.Route{Condition: c.Condition}, Message: m})
	if err != nil {
		return err
	}
	if r.Details != nil {
		e := r.Details.CompilationErrors[0]
		return fmt.Errorf("line %d, column %d: %s", e.Location.Start.Line, e.Location.Start.Column, e.Message)
	}
	_, err = fmt.Fprintln(a.stdout, strings.TrimSpace(string(r.Result)))
	return err
}

// printValue prints a value as JSON.
func (a *app) printValue(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.printJSON(text)
}
