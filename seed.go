package iolite

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/url"

	"github.com/goccy/go-yaml"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// maxSeed bounds a seed file, in bytes.
const maxSeed = 64 << 20

// seedFile is what a seed file may hold. Unknown keys are errors: a misspelt one must not be a device that is missing.
type seedFile struct {
	Devices        []seedDevice `yaml:"devices"`
	ConsumerGroups []string     `yaml:"consumerGroups"` // of the built-in endpoint
	Routing        *hub.Routing `yaml:"routing"`
}

type seedDevice struct {
	ID             string             `yaml:"id"`
	Status         store.Status       `yaml:"status"`
	StatusReason   string             `yaml:"statusReason"`
	Authentication seedAuthentication `yaml:"authentication"`
	IoTEdge        bool               `yaml:"iotEdge"`
	Twin           seedTwin           `yaml:"twin"`
	Modules        []seedModule       `yaml:"modules"`
	Messages       []seedMessage      `yaml:"messages"`
}

type seedModule struct {
	ID             string             `yaml:"id"`
	Authentication seedAuthentication `yaml:"authentication"`
	Twin           seedTwin           `yaml:"twin"`
}

// seedTwin is what a twin begins with. Reported properties are those that the device would have reported.
type seedTwin struct {
	Tags     seedJSON `yaml:"tags"`
	Desired  seedJSON `yaml:"desired"`
	Reported seedJSON `yaml:"reported"`
}

// seedJSON is a part of a seed file that becomes JSON; nil when it is not there.
type seedJSON []byte

// UnmarshalYAML implements yaml.BytesUnmarshaler.
func (j *seedJSON) UnmarshalYAML(text []byte) (err error) {
	*j, err = yaml.YAMLToJSON(text)
	return err
}

type seedAuthentication struct {
	Type                store.AuthType `yaml:"type"`
	PrimaryKey          string         `yaml:"primaryKey"`
	SecondaryKey        string         `yaml:"secondaryKey"`
	PrimaryThumbprint   string         `yaml:"primaryThumbprint"`
	SecondaryThumbprint string         `yaml:"secondaryThumbprint"`
}

type seedMessage struct {
	Body          string        `yaml:"body"`
	BodyBase64    string        `yaml:"bodyBase64"`
	MessageID     string        `yaml:"messageId"`
	CorrelationID string        `yaml:"correlationId"`
	ContentType   string        `yaml:"contentType"`
	Ack           string        `yaml:"ack"`
	Properties    yaml.MapSlice `yaml:"properties"`
}

// readSeed parses a seed file; errors name the line.
func readSeed(r io.Reader) (seedFile, error) {
	var s seedFile
	text, err := io.ReadAll(io.LimitReader(r, maxSeed+1))
	if err != nil {
		return s, err
	}
	if len(text) > maxSeed {
		return s, fmt.Errorf("larger than %d bytes", maxSeed)
	}
	if err := yaml.UnmarshalWithOptions(text, &s, yaml.Strict()); err != nil {
		return s, fmt.Errorf("\n%s", yaml.FormatError(err, false, true))
	}
	return s, nil
}

// plant loads the seed and the devices named by options into an empty hub. No route is told of them: they were there before.
func (e *Emulator) plant(ctx context.Context) error {
	ctx = hub.Silently(ctx)
	admin := e.hub.Admin()
	for i := range e.seed.Devices {
		if err := plantDevice(ctx, admin, &e.seed.Devices[i]); err != nil {
			return fmt.Errorf("%s: device %q: %w", e.options.SeedName, e.seed.Devices[i].ID, err)
		}
	}
	for _, name := range e.seed.ConsumerGroups {
		if err := admin.PutConsumerGroup(ctx, "", name); err != nil {
			return fmt.Errorf("%s: consumer group %q: %w", e.options.SeedName, name, err)
		}
	}
	for _, name := range e.options.ConsumerGroups {
		if err := admin.PutConsumerGroup(ctx, "", name); err != nil {
			return fmt.Errorf("consumer group %q: %w", name, err)
		}
	}
	for _, name := range e.options.Devices {
		key := store.Key{DeviceID: name}
		if _, err := admin.Identity(ctx, key); err == nil {
			continue // the seed has it
		}
		if _, err := admin.CreateIdentity(ctx, identity(key, seedAuthentication{})); err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
	}
	return nil
}

func plantDevice(ctx context.Context, admin *hub.ServiceSession, d *seedDevice) error {
	id := identity(store.Key{DeviceID: d.ID}, d.Authentication)
	id.StatusReason, id.IoTEdge = d.StatusReason, d.IoTEdge
	if d.Status != "" {
		id.Status = d.Status
	}
	if _, err := admin.CreateIdentity(ctx, id); err != nil {
		return err
	}
	if err := plantTwin(ctx, admin, id.Key, &d.Twin); err != nil {
		return err
	}
	for i := range d.Modules {
		m := &d.Modules[i]
		key := store.Key{DeviceID: d.ID, ModuleID: m.ID}
		if _, err := admin.CreateIdentity(ctx, identity(key, m.Authentication)); err != nil {
			return fmt.Errorf("module %q: %w", m.ID, err)
		}
		if err := plantTwin(ctx, admin, key, &m.Twin); err != nil {
			return fmt.Errorf("module %q: %w", m.ID, err)
		}
	}
	for i := range d.Messages {
		message, err := d.Messages[i].message(d.ID)
		if err != nil {
			return fmt.Errorf("message %d: %w", i+1, err)
		}
		if err := admin.SendC2D(ctx, message); err != nil {
			return fmt.Errorf("message %d: %w", i+1, err)
		}
	}
	return nil
}

// plantTwin writes what a seed says of a twin.
func plantTwin(ctx context.Context, admin *hub.ServiceSession, key store.Key, t *seedTwin) error {
	if t.Tags != nil || t.Desired != nil {
		patch := fmt.Appendf(nil, `{"tags":%s,"properties":{"desired":%s}}`, t.Tags.text(), t.Desired.text())
		if _, err := admin.UpdateTwin(ctx, key, patch, ""); err != nil {
			return fmt.Errorf("twin: %w", err)
		}
	}
	if t.Reported != nil {
		if err := admin.PlantReported(ctx, key, t.Reported); err != nil {
			return fmt.Errorf("twin: reported: %w", err)
		}
	}
	return nil
}

func (j seedJSON) text() string {
	if j == nil {
		return "null"
	}
	return string(j)
}

// identity makes a registry row; a SAS identity without keys gets the derived ones, so that they never change.
func identity(key store.Key, a seedAuthentication) store.Identity {
	id := store.Identity{Key: key, Status: store.Enabled, Authentication: store.Authentication(a)}
	sas := a.Type == store.AuthSAS || a.Type == "" && a.PrimaryThumbprint == "" && a.SecondaryThumbprint == ""
	if sas && a.PrimaryKey == "" && a.SecondaryKey == "" {
		id.Authentication.Type = store.AuthSAS
		id.Authentication.PrimaryKey, id.Authentication.SecondaryKey = hub.DeriveKeys(key)
	}
	return id
}

func (m *seedMessage) message(deviceID string) (store.Message, error) {
	out := store.Message{Body: []byte(m.Body)}
	if m.BodyBase64 != "" {
		if m.Body != "" {
			return out, fmt.Errorf("both body and bodyBase64 are given")
		}
		body, err := base64.StdEncoding.DecodeString(m.BodyBase64)
		if err != nil {
			return out, fmt.Errorf("bodyBase64: %w", err)
		}
		out.Body = body
	}
	out.SystemProperties = store.SystemProperties{
		MessageID: m.MessageID, CorrelationID: m.CorrelationID, ContentType: m.ContentType, Ack: m.Ack,
		To: "/devices/" + url.PathEscape(deviceID) + "/messages/devicebound",
	}
	for _, p := range m.Properties {
		out.Properties = append(out.Properties, store.Property{Name: fmt.Sprint(p.Key), Value: fmt.Sprint(p.Value)})
	}
	return out, nil
}
