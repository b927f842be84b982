package main

import (
	"bytes"
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
func (b *bench) measureStartup() error {
	kept := filepath.Join(b.dir, "kept")
	if _, err := b.startEmulator(b.program, kept); err != nil { // makes the CA, and reads the program into the page cache
		return err
	}
	for i := range b.starts {
		cold := filepath.Join(b.dir, fmt.Sprintf("new-%d", i))
		for _, s := range []struct {
			name  string
			start func() (time.Duration, error)
		}{
			{emulatorName + ", CA kept", func() (time.Duration, error) { return b.startEmulator(b.program, kept) }},
			{emulatorName + ", new CA", func() (time.Duration, error) { return b.startEmulator(b.program, cold) }},
			{againstName + ", CA kept", func() (time.Duration, error) { return b.startEmulator(b.against, kept) }},
			{"bare Go, three TLS ports", b.startBare},
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
