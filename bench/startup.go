package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pollPause lies between two looks at a server that is not ready: short next to what is measured, but not a busy loop that
// would take the processor from it.
const pollPause = 200 * time.Microsecond

// awaitReady polls GET /readyz until it answers 200 and returns when that was.
func (p *process) awaitReady(control string, pause time.Duration) (time.Time, error) {
	for end := until(readyLimit); time.Now().Before(end); time.Sleep(pause) {
		if isReady(control) {
			return time.Now(), nil
		}
		if err := p.failed(); err != nil {
			return time.Time{}, err
		}
	}
	return time.Time{}, fmt.Errorf("not ready within %v: %s", readyLimit, p.stderr)
}

// isReady asks once, on a connection of its own.
func isReady(control string) bool {
	c, err := net.Dial("tcp", control)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(until(time.Second))
	if _, err := io.WriteString(c, "GET /readyz HTTP/1.1\r\nHost: "+control+"\r\nConnection: close\r\n\r\n"); err != nil {
		return false
	}
	status := make([]byte, len("HTTP/1.1 200"))
	_, err = io.ReadFull(c, status)
	return err == nil && bytes.Equal(status, []byte("HTTP/1.1 200"))
}

// timeToReady starts a command, and returns how long it took from exec to its first 200.
func timeToReady(control, name string, args ...string) (time.Duration, error) {
	begin := time.Now()
	p, err := start(name, args...)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	ready, err := p.awaitReady(control, pollPause)
	return ready.Sub(begin), err
}

// measureStartup starts the emulator with a kept CA, with a new one, and the bare peer, in turn, as often as was asked for.
func (b *bench) measureStartup(ctx context.Context) error {
	kept := filepath.Join(b.dir, "kept")
	if _, err := b.startEmulator(b.program, kept); err != nil { // makes the CA, and reads the program into the page cache
		return err
	}
	if b.azurite == "" && b.peers {
		b.report.Environment.missing(errNoAzurite)
	}
	for i := range b.starts {
		if err := ctx.Err(); err != nil {
			return err
		}
		cold := filepath.Join(b.dir, fmt.Sprintf("new-%d", i))
		for _, s := range []struct {
			name  string
			start func() (time.Duration, error)
		}{
			{emulatorName + ", CA kept", func() (time.Duration, error) { return b.startEmulator(b.program, kept) }},
			{emulatorName + ", new CA", func() (time.Duration, error) { return b.startEmulator(b.program, cold) }},
			{againstName + ", CA kept", func() (time.Duration, error) { return b.startEmulator(b.against, kept) }},
			{bareStartName, b.startBare},
			{"Azurite, three TLS ports", func() (time.Duration, error) { return b.startAzurite(i) }},
		} {
			d, err := s.start()
			if err != nil {
				return err
			}
			if d > 0 {
				b.report.start(s.name, d)
			}
		}
	}
	return nil
}

// bareStartName is the least that a start takes.
const bareStartName = "bare Go, three TLS ports"

// startEmulator does nothing, in no time, without a program.
func (b *bench) startEmulator(program, certs string) (time.Duration, error) {
	if program == "" {
		return 0, nil
	}
	control, err := freeAddress(b.address)
	if err != nil {
		return 0, err
	}
	return timeToReady(control, program, emulatorFlags(b.address, control, certs)...)
}

func (b *bench) startBare() (time.Duration, error) {
	if !b.peers {
		return 0, nil
	}
	control, err := freeAddress(b.address)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	return timeToReady(control, self, "peer", "-kind", "start", "-address", b.address, "-control", control, "-certs", b.dir)
}

// errNoAzurite is why there are no figures of Azurite.
var errNoAzurite = errors.New("Azurite was not named (npm install azurite, then -azurite node_modules/azurite/dist/src/azurite.js)")

// azuriteStarts bounds the starts of Azurite, each of which takes seconds.
const azuriteStarts = 5

// startAzurite starts Azurite with nothing in memory or on disk. It has no readiness to ask for: it is ready when a TLS handshake succeeded on each port.
func (b *bench) startAzurite(round int) (time.Duration, error) {
	if !b.peers || b.azurite == "" || round >= azuriteStarts {
		return 0, nil
	}
	dir, err := os.MkdirTemp(b.dir, "azurite-")
	if err != nil {
		return 0, err
	}
	args := []string{b.azurite, "--silent", "--skipApiVersionCheck", "--location", dir, "--cert", filepath.Join(b.dir, certFile), "--key", filepath.Join(b.dir, keyFile)}
	var addresses []string
	for _, service := range []string{"blob", "queue", "table"} {
		address, err := freeAddress(b.address)
		if err != nil {
			return 0, err
		}
		host, port, _ := net.SplitHostPort(address)
		args, addresses = append(args, "--"+service+"Host", host, "--"+service+"Port", port), append(addresses, address)
	}
	begin := time.Now()
	p, err := start("node", args...)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	for _, address := range addresses {
		if err := p.awaitTLS(address, b.peerTLS); err != nil {
			return 0, err
		}
	}
	took := time.Since(begin)
	b.report.Environment.peer("Azurite " + b.azuriteVersion())
	m, err := p.memory()
	b.report.idle("Azurite", m)
	return took, err
}

// azuriteVersion is that of the package that azurite.js belongs to, or where that lies.
func (b *bench) azuriteVersion() string {
	var about struct{ Version string }
	text, err := os.ReadFile(filepath.Join(filepath.Dir(b.azurite), "../../package.json"))
	if err != nil || json.Unmarshal(text, &about) != nil || about.Version == "" {
		return b.azurite
	}
	return about.Version
}

// awaitTLS waits until a TLS handshake succeeds.
func (p *process) awaitTLS(address string, config *tls.Config) error {
	for end := until(readyLimit); time.Now().Before(end); time.Sleep(pollPause) {
		if c, err := dialTLS(address, config, time.Second); err == nil {
			return c.Close()
		}
		if err := p.failed(); err != nil {
			return err
		}
	}
	return fmt.Errorf("no TLS at %s within %v: %s", address, readyLimit, p.stderr)
}
