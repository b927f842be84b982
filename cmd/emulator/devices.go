package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

type devicesCmd struct {
	List             devicesListCmd    `cmd:"" help:"List devices, 1000 at most."`
	Modules          devicesModulesCmd `cmd:"" help:"List the modules of a device."`
	Create           devicesCreateCmd  `cmd:"" help:"Create a device or module with keys derived from its id, and print its connection string."`
	Show             devicesShowCmd    `cmd:"" help:"Print a device or module as the registry tells it, in JSON."`
	Delete           devicesDeleteCmd  `cmd:"" help:"Delete a device with its modules, or one module."`
	ConnectionString devicesStringCmd  `cmd:"" name:"connection-string" help:"Print the connection string of a device or module."`
	Token            devicesTokenCmd   `cmd:"" help:"Print a SAS token of a device or module, for mosquitto_pub, curl and the like."`
}

type devicesListCmd struct{ remoteFlags }

// Run prints a table.
func (c *devicesListCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	list, err := b.Devices(a.ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEVICE\tSTATUS\tCONNECTION\tAUTHENTICATION\tQUEUED")
	for i := range list {
		d := &list[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\n", d.DeviceID, d.Status, d.ConnectionState, d.Authentication.Type, d.Queued)
	}
	if len(list) == backend.MaxListed {
		fmt.Fprintf(a.stderr, "only the first %d devices are listed\n", backend.MaxListed)
	}
	return w.Flush()
}

type devicesModulesCmd struct {
	remoteFlags
	ID string `arg:"" name:"device" help:"Id of the device."`
}

// Run prints a table.
func (c *devicesModulesCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	list, err := b.Modules(a.ctx, c.ID)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODULE\tCONNECTION\tAUTHENTICATION")
	for i := range list {
		m := &list[i]
		fmt.Fprintf(w, "%s\t%s\t%s\n", m.ID(), m.ConnectionState, m.Authentication.Type)
	}
	return w.Flush()
}

type devicesCreateCmd struct {
	remoteFlags
	ID string `arg:"" name:"device" help:"Id of the device, or device/module."`
}

// Run creates the device.
func (c *devicesCreateCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	var key store.Key
	key.DeviceID, key.ModuleID, _ = strings.Cut(c.ID, "/")
	primary, secondary := hub.DeriveKeys(key)
	d, err := b.CreateDevice(a.ctx, c.ID, primary, secondary)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, b.ConnectionString(d))
	return err
}

type devicesShowCmd struct {
	remoteFlags
	ID string `arg:"" name:"device" help:"Id of the device, or device/module."`
}

// Run prints the device.
func (c *devicesShowCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	_, raw, err := b.Device(a.ctx, c.ID)
	if err != nil {
		return err
	}
	return a.printJSON(raw)
}

type devicesDeleteCmd struct {
	remoteFlags
	ID string `arg:"" name:"device" help:"Id of the device, or device/module."`
}

// Run deletes the device.
func (c *devicesDeleteCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	return b.DeleteDevice(a.ctx, c.ID)
}

type devicesStringCmd struct {
	remoteFlags
	ID string `arg:"" name:"device" help:"Id of the device, or device/module."`
}

// Run prints the connection string.
func (c *devicesStringCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	d, _, err := b.Device(a.ctx, c.ID)
	if err != nil {
		return err
	}
	text := b.ConnectionString(d)
	if text == "" {
		return fmt.Errorf("%s has no key: it proves itself with %s", c.ID, d.Authentication.Type)
	}
	_, err = fmt.Fprintln(a.stdout, text)
	return err
}

type devicesTokenCmd struct {
	remoteFlags
	ID  string        `arg:"" name:"device" help:"Id of the device, or device/module."`
	TTL time.Duration `env:"-" name:"ttl" default:"1h" help:"How long the token is good for, on the hub's clock."`
}

// Run prints a SAS token, for clients without an SDK such as mosquitto_pub and curl.
func (c *devicesTokenCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	d, _, err := b.Device(a.ctx, c.ID)
	if err != nil {
		return err
	}
	if b.ConnectionString(d) == "" {
		return fmt.Errorf("%s has no key: it proves itself with %s", c.ID, d.Authentication.Type)
	}
	token, err := b.TokenFor(d, c.TTL)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, token)
	return err
}
