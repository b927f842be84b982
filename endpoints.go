package iolite

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/iolite-emulator/iolite/egress"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// hubName is the name of the hub.
const hubName = "iolite"

// roots are the certificate authorities that endpoints and storage elsewhere may have their certificates from: the system's, TrustedCAs, and
// our own, since routes may lead to the storage behind our own HTTPS door.
func (e *Emulator) roots() *x509.CertPool {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	roots.AddCert(e.ca.Certificate())
	for _, ca := range e.options.TrustedCAs {
		roots.AddCert(ca)
	}
	return roots
}

// sinks returns what makes the sinks of external endpoints.
func (e *Emulator) sinks(roots func() *x509.CertPool) hub.Sinks {
	out := egress.New(egress.Config{
		Hub: hubName, Clock: e.clock, Roots: roots,
		PartitionOf: func(key string) int { return hub.PartitionOf(key, e.options.Partitions) },
	})
	return func(to hub.External, wrote func(int)) (s hub.Sink, err error) {
		switch to.Kind {
		case hub.EndpointEventHubs:
			s, err = out.EventHub(to.ConnectionString)
		case hub.EndpointQueues, hub.EndpointTopics:
			s, err = out.Queue(to.ConnectionString)
		case hub.EndpointStorage:
			c := to.Container
			s, err = out.Container(egress.ContainerConfig{
				ConnectionString: c.ConnectionString, Container: c.ContainerName, FileNameFormat: c.FileNameFormat, MaxChunk: c.MaxChunkSizeInBytes, Wrote: wrote,
			})
		default:
			return nil, fmt.Errorf("there are no endpoints of the type %s", to.Kind)
		}
		return sink{s}, err
	}
}

// sink says in the hub's words that a message is refused.
type sink struct{ hub.Sink }

// Deliver implements hub.Sink.
func (s sink) Deliver(ctx context.Context, messages []store.Event) (int, error) {
	taken, err := s.Sink.Deliver(ctx, messages)
	if errors.Is(err, egress.ErrRefused) {
		err = fmt.Errorf("%w: %w", hub.ErrUndeliverable, err)
	}
	return taken, err
}
