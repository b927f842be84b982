package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// dialWidth is how many devices connect at the same time.
	dialWidth = 16
	// devicesLimit bounds the measurement of one number of devices.
	devicesLimit = 5 * time.Minute
	// maxDevices bounds the idle devices.
	maxDevices = 20000
	// spareFiles are descriptors for everything but the devices.
	spareFiles = 200
)

// crowd is a server to which idle devices connect.
type crowd struct {
	name string
	*process
	register func(n int) error
	connect  func(i int) (net.Conn, error)
}

// measureDevices connects idle MQTT devices to fresh servers.
func (b *bench) measureDevices(ctx context.Context) error {
	limit, err := raiseFileLimit()
	if err != nil {
		return err
	}
	servers := []func(context.Context) (*crowd, error){b.emulatorCrowd, b.againstCrowd, b.mosquittoCrowd, b.mochiCrowd, b.bareCrowd}
	for _, n := range b.devices {
		if n+spareFiles > limit {
			fmt.Fprintf(os.Stderr, "%d devices need more open files than the limit of %d: left out\n", n, limit)
			continue
		}
		for round := range b.crowds {
			for i := range servers {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := b.openCrowd(ctx, servers[(i+round)%len(servers)], n); err != nil {
					return fmt.Errorf("%d devices: %w", n, err)
				}
			}
		}
	}
	return nil
}

// openCrowd starts a server, if it is there, and measures it with n devices.
func (b *bench) openCrowd(ctx context.Context, open func(context.Context) (*crowd, error), n int) error {
	c, err := open(ctx)
	if c == nil || err != nil {
		return err
	}
	defer c.stop()
	if err := b.measureCrowd(c, n); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

// measureCrowd reports the memory of the server alone, with n registered devices and with n connected ones, the CPU time that a
// connect took, and what the server does when all are silent.
func (b *bench) measureCrowd(c *crowd, n int) (err error) {
	figures := crowdFigures{Server: c.name, Devices: n}
	if figures.Idle, err = b.settled(c.process); err != nil {
		return err
	}
	b.report.idle(c.name, figures.Idle)
	if err = c.register(n); err != nil {
		return err
	}
	if figures.Registered, err = b.settled(c.process); err != nil {
		return err
	}
	devices, took, err := c.connectAll(n)
	defer func() {
		for _, d := range devices {
			if d != nil {
				_ = d.Close()
			}
		}
	}()
	if err != nil {
		return err
	}
	figures.ConnectMillis = took.Seconds() * 1000 / float64(n)
	if figures.Connected, err = b.settled(c.process); err != nil {
		return err
	}
	if figures.QuietMillis, err = b.cpuWhileQuiet(c.process); err == nil {
		b.report.crowd(figures)
	}
	return err
}

// connectAll connects n devices and returns them with the CPU time that took the server. Those that did not come are nil.
func (c *crowd) connectAll(n int) (devices []net.Conn, took time.Duration, err error) {
	before, err := c.cpu()
	if err != nil {
		return nil, 0, err
	}
	devices = make([]net.Conn, n)
	if err := inParallel(n, dialWidth, func(i int) (err error) {
		devices[i], err = c.connect(i)
		return err
	}); err != nil {
		return devices, 0, err
	}
	after, err := c.cpu()
	return devices, after - before, err
}

// settled waits for a moment without anything to do and returns the memory then. Nobody asks the server to collect garbage.
func (b *bench) settled(p *process) (memory, error) {
	time.Sleep(b.quiet)
	return p.memory()
}

// cpuWhileQuiet returns the CPU time per second with all devices silent, in milliseconds.
func (b *bench) cpuWhileQuiet(p *process) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	time.Sleep(b.quiet)
	after, err := p.cpu()
	return (after - before).Seconds() * 1000 / time.Since(begin).Seconds(), err
}

func (b *bench) emulatorCrowd(ctx context.Context) (*crowd, error) {
	return b.crowdOf(ctx, emulatorName, b.program)
}

func (b *bench) againstCrowd(ctx context.Context) (*crowd, error) {
	if b.against == "" {
		return nil, nil
	}
	return b.crowdOf(ctx, againstName, b.against)
}

func (b *bench) crowdOf(ctx context.Context, name, program string) (*crowd, error) {
	e, err := launch(ctx, program, b.address, filepath.Join(b.dir, "kept"))
	if err != nil {
		return nil, err
	}
	return &crowd{
		name: name, process: e.process,
		register: func(n int) error { return e.register(ctx, n) },
		connect:  e.connectIdle,
	}, nil
}

// connectIdle connects a device that only receives: CONNECT, and SUBSCRIBE to its cloud-to-device messages as SDKs do.
func (e *emulator) connectIdle(i int) (net.Conn, error) {
	l, err := e.login(i)
	if err != nil {
		return nil, err
	}
	c, err := dialTLS(e.address("mqtt"), e.tls, devicesLimit)
	if err != nil {
		return nil, err
	}
	if err := mqttConnect(c, l); err != nil {
		_ = c.Close()
		return nil, err
	}
	if err := mqttSubscribe(c, "devices/"+deviceID(i)+"/messages/devicebound/#"); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// connectIdle does the same with a peer.
func (p *peerProcess) connectIdle(config *tls.Config, i int) (net.Conn, error) {
	c, err := dialTLS(p.address, config, devicesLimit)
	if err != nil {
		return nil, err
	}
	err = mqttConnect(c, mqttLogin{clientID: deviceID(i)})
	if err == nil {
		err = mqttSubscribe(c, "devices/"+deviceID(i)+"/messages/devicebound/#")
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (b *bench) mosquittoCrowd(context.Context) (*crowd, error) {
	if !b.peers {
		return nil, nil
	}
	p, err := b.startMosquitto()
	if errors.Is(err, errNoMosquitto) {
		b.report.Environment.missing(err)
		return nil, nil
	}
	return b.peerCrowd(mosquittoName, p), err
}

func (b *bench) mochiCrowd(context.Context) (*crowd, error) {
	if !b.peers {
		return nil, nil
	}
	p, err := b.startPeer("mochi")
	return b.peerCrowd(mochiName, p), err
}

func (b *bench) bareCrowd(context.Context) (*crowd, error) {
	if !b.peers {
		return nil, nil
	}
	p, err := b.startPeer("mqtt")
	return b.peerCrowd(bareName, p), err
}

func (b *bench) peerCrowd(name string, p *peerProcess) *crowd {
	if p == nil {
		return nil
	}
	return &crowd{
		name: name, process: p.process,
		register: func(int) error { return nil },
		connect:  func(i int) (net.Conn, error) { return p.connectIdle(b.peerTLS, i) },
	}
}
