package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/backend"
)

type monitorCmd struct {
	remoteFlags
	Device string `env:"-" help:"Only this device." placeholder:"NAME"`
	All    bool   `env:"-" help:"Begin with the oldest event kept instead of with the next."`
	JSON   bool   `name:"json" env:"-" help:"One JSON object a line."`

	EventHub      string `env:"-" help:"Another event hub than the built-in endpoint." placeholder:"NAME"`
	ConsumerGroup string `env:"-" default:"$$Default" help:"Consumer group to read for. Where a processor owns its partitions, a monitor needs a group of its own."`
}

// Run follows telemetry, and what routes send to the built-in endpoint besides, until it is interrupted.
func (c *monitorCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex // one line at a time
	from := backend.EventSource{EventHub: c.EventHub, Group: c.ConsumerGroup, All: c.All}
	err = b.EventsOf(a.ctx, from, func() { fmt.Fprintln(a.stderr, "following telemetry; interrupt to end") }, func(partition string, m *amqp.Message) error {
		e := newMonitorEvent(partition, m)
		if c.Device != "" && e.Device != c.Device {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		return e.print(a, c.JSON)
	})
	if a.ctx.Err() != nil { // interrupted: that is how following ends
		err = nil
	}
	return err
}

// monitorEvent is an event as monitor shows it.
type monitorEvent struct {
	Enqueued    time.Time         `json:"enqueued"`
	Device      string            `json:"deviceId"`
	Module      string            `json:"moduleId,omitempty"`
	Source      string            `json:"source"` // iothub-message-source
	Partition   string            `json:"partition"`
	Sequence    int64             `json:"sequence"`
	MessageID   string            `json:"messageId,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	Properties  map[string]string `json:"properties,omitempty"`
	Body        string            `json:"body,omitempty"`       // text
	BodyBase64  []byte            `json:"bodyBase64,omitempty"` // anything else
}

func newMonitorEvent(partition string, m *amqp.Message) monitorEvent {
	e := monitorEvent{Partition: partition}
	e.Enqueued, _ = m.Annotations["x-opt-enqueued-time"].(time.Time)
	e.Device, _ = m.Annotations["iothub-connection-device-id"].(string)
	e.Module, _ = m.Annotations["iothub-connection-module-id"].(string)
	e.Source, _ = m.Annotations["iothub-message-source"].(string)
	e.Sequence, _ = m.Annotations["x-opt-sequence-number"].(int64)
	if p := m.Properties; p != nil {
		if p.MessageID != nil {
			e.MessageID = fmt.Sprint(p.MessageID)
		}
		if p.ContentType != nil {
			e.ContentType = *p.ContentType
		}
	}
	for name, value := range m.ApplicationProperties {
		if e.Properties == nil {
			e.Properties = map[string]string{}
		}
		e.Properties[name] = fmt.Sprint(value)
	}
	if body := m.GetData(); utf8.Valid(body) {
		e.Body = string(body)
	} else {
		e.BodyBase64 = body
	}
	return e
}

func (e *monitorEvent) print(a *app, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(a.stdout).Encode(e)
	}
	source := e.Device
	if e.Module != "" {
		source += "/" + e.Module
	}
	if e.Source != "Telemetry" && e.Source != "" { // that is what one expects
		source += " " + e.Source
	}
	body := e.Body
	if e.BodyBase64 != nil {
		body = fmt.Sprintf("(%d bytes, not text)", len(e.BodyBase64))
	}
	var properties strings.Builder
	for _, name := range slices.Sorted(maps.Keys(e.Properties)) {
		fmt.Fprintf(&properties, " %s=%q", name, e.Properties[name])
	}
	_, err := fmt.Fprintf(a.stdout, "%s %s [%s:%d]%s %s\n", e.Enqueued.Format("15:04:05.000"), source, e.Partition, e.Sequence, properties.String(), body)
	return err
}

type sendCmd struct {
	remoteFlags
	Device     string            `arg:"" help:"Id of the device."`
	Body       string            `arg:"" help:"The message."`
	MessageID  string            `env:"-" help:"Message id." placeholder:"ID"`
	Ack        string            `env:"-" enum:"none,positive,negative,full" default:"none" help:"Which outcomes are to become feedback records: none, positive, negative or full."`
	Expire     time.Duration     `env:"-" help:"Time to live; one hour when not given."`
	Properties map[string]string `name:"property" env:"-" short:"p" help:"Application property, repeatable." placeholder:"NAME=VALUE"`
}

// Run sends the message; it returns once the hub has queued it.
func (c *sendCmd) Run(a *app) error {
	b, err := c.backend(a.ctx)
	if err != nil {
		return err
	}
	m := amqp.NewMessage([]byte(c.Body))
	m.Properties = &amqp.MessageProperties{}
	if c.MessageID != "" {
		m.Properties.MessageID = c.MessageID
	}
	if c.Expire != 0 { // one in the past is for the hub to refuse
		at := b.Now().Add(c.Expire)
		m.Properties.AbsoluteExpiryTime = &at
	}
	m.ApplicationProperties = map[string]any{"iothub-ack": c.Ack}
	for name, value := range c.Properties {
		m.ApplicationProperties[name] = value
	}
	return b.SendC2D(a.ctx, c.Device, m)
}
