// Package doctor goes through the doors of a running hub as a real client would: it makes a device, sends a message through each
// door, waits until a back end has read it, sends one to the device, and takes the device away again.
package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
)

// checkTimeout bounds one check.
const checkTimeout = 15 * time.Second

// property marks the telemetry of a check with the name of the check.
const property = "iolite-doctor"

// Check is one line of the table.
type Check struct {
	Name   string        // the door, or what else was looked at
	Detail string        // what was done
	Took   time.Duration // real time
	Err    error         // nil when it worked
	Left   bool          // left out: nothing is known of it
}

// patient is what one examination works with.
type patient struct {
	backend *backend.Backend
	device  backend.Device
	arrived chan string // values of property, as the reader sees them
}

// Run examines the hub and calls report after each check. It returns whether all that were tried worked.
func Run(ctx context.Context, b *backend.Backend, report func(Check)) bool {
	p := &patient{backend: b, arrived: make(chan string, 16)}
	healthy := true
	try := func(name, detail string, f func(context.Context) error) bool {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		start := clock.Wall()
		err := f(ctx)
		report(Check{Name: name, Detail: detail, Took: clock.Wall().Sub(start), Err: err})
		healthy = healthy && err == nil
		return err == nil
	}
	if !try("name", "host name "+b.Info().Hostname+" resolves", p.resolve) {
		return false
	}
	if !try("https", "create a device through the registry", p.create) {
		return false
	}
	defer func() { try("https", "delete the device", p.remove) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !try("event hubs", "read every partition", func(c context.Context) error { return p.read(ctx, c) }) {
		return false
	}
	for _, c := range p.checks() {
		if _, err := b.Address(c.listens); err != nil {
			report(Check{Name: c.name, Detail: "the door is shut", Left: true})
			continue
		}
		try(c.name, c.detail, c.run)
	}
	return healthy
}

// doorCheck is the examination of one door.
type doorCheck struct {
	name    string
	listens door.Door // whose port it needs
	detail  string
	run     func(context.Context) error
}

func (p *patient) checks() []doorCheck {
	const told = "telemetry, and back through Event Hubs"
	return []doorCheck{
		{"mqtt", door.MQTT, told + "; a message to the device", func(ctx context.Context) error { return p.mqtt(ctx, door.MQTT) }},
		{"mqtt-ws", door.HTTPS, told + "; a message to the device", func(ctx context.Context) error { return p.mqtt(ctx, door.MQTTWS) }},
		{"amqp", door.AMQP, told, func(ctx context.Context) error { return p.amqp(ctx, door.AMQP) }},
		{"amqp-ws", door.HTTPS, told, func(ctx context.Context) error { return p.amqp(ctx, door.AMQPWS) }},
		{"https", door.HTTPS, told, p.https},
		{"eventhub", door.PlainAMQP, "plain AMQP, token accepted", p.plain},
	}
}

func (p *patient) resolve(ctx context.Context) error {
	_, err := net.DefaultResolver.LookupHost(ctx, p.backend.Info().Hostname)
	if err != nil {
		return fmt.Errorf("%w: clients cannot find the hub; add the name to the hosts file, or start with --hostname localhost", err)
	}
	return nil
}

func (p *patient) create(ctx context.Context) (err error) {
	p.device, err = p.backend.CreateDevice(ctx, "iolite-doctor-"+rand.Text()[:8], "", "")
	return err
}

func (p *patient) remove(ctx context.Context) error {
	return p.backend.DeleteDevice(context.WithoutCancel(ctx), p.device.DeviceID)
}

// read starts the reader, which lives until the examination's end, and waits until it reads.
func (p *patient) read(examination, check context.Context) error {
	started, failed := make(chan struct{}), make(chan error, 1)
	go func() { // ends with the examination's context
		failed <- p.backend.Events(examination, false, func() { close(started) }, func(_ string, m *amqp.Message) error {
			p.see(m)
			return nil
		})
	}()
	select {
	case <-started:
		return nil
	case err := <-failed:
		return err
	case <-check.Done():
		return check.Err()
	}
}

// see notes an event of ours.
func (p *patient) see(m *amqp.Message) {
	if m.Annotations["iothub-connection-device-id"] != p.device.DeviceID {
		return
	}
	if name, ok := m.ApplicationProperties[property].(string); ok {
		select {
		case p.arrived <- name:
		default: // nobody waits for so many
		}
	}
}

// await waits until the event of a check has been read.
func (p *patient) await(ctx context.Context, name string) error {
	for {
		select {
		case seen := <-p.arrived:
			if seen == name {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("the message was acknowledged but not read back: %w", ctx.Err())
		}
	}
}

func (p *patient) https(ctx context.Context) error {
	if err := p.backend.PostTelemetry(ctx, p.device, []byte(`{"from":"doctor"}`), map[string]string{property: "https"}); err != nil {
		return err
	}
	return p.await(ctx, "https")
}
