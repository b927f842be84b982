// Package iolitetest starts an emulator for one Go test: always empty, on free ports of 127.0.0.1, closed when the test ends.
package iolitetest

import (
	"context"
	"crypto/tls"
	"log/slog"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite"
	"github.com/iolite-emulator/iolite/hub"
)

// Option changes how the emulator starts.
type Option func(*iolite.Options)

// WithDevices creates devices at start.
func WithDevices(names ...string) Option {
	return func(o *iolite.Options) { o.Devices = append(o.Devices, names...) }
}

// With changes any option.
func With(change func(*iolite.Options)) Option { return change }

// Run starts an emulator that ends with the test. Its log goes to the test's log. It fails the test if it cannot start.
func Run(t testing.TB, options ...Option) *iolite.Emulator {
	t.Helper()
	o := iolite.Options{Hostname: "127.0.0.1", Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, change := range options {
		change(&o)
	}
	e, err := iolite.Start(context.Background(), o)
	if err != nil {
		t.Fatalf("start the emulator: %v", err)
	}
	t.Cleanup(e.Close)
	return e
}

// TLS returns a client configuration that trusts the emulator and nobody else.
func TLS(e *iolite.Emulator) *tls.Config {
	return &tls.Config{RootCAs: e.CA().Pool(), MinVersion: tls.VersionTLS12}
}

// eventLimit is how long WaitForEvent waits, in real time.
const eventLimit = 30 * time.Second

// WaitForEvent returns the oldest event that matches, as soon as there is one. It fails the test when none has come within 30 seconds.
func WaitForEvent(t testing.TB, e *iolite.Emulator, f hub.EventFilter) hub.FoundEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), eventLimit)
	defer cancel()
	search, err := e.Hub().Admin().SearchEvents(ctx, f, nil)
	if err != nil {
		t.Fatalf("search events: %v", err)
	}
	defer search.Close()
	for {
		found, ok, err := search.Next(ctx)
		if ok {
			return found
		}
		if err == nil {
			err = search.Wait(ctx)
		}
		if err != nil {
			t.Fatalf("no event matches %+v: %v", f, err)
		}
	}
}
