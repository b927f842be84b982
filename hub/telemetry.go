package hub

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/store"
)

// maxTelemetry is the largest message, or batch of messages, in bytes as messageSize counts them (article "Create and read
// messages": 256 KB).
const maxTelemetry = 256 << 10

// sourceTelemetry is the iothub-message-source of what devices send.
const sourceTelemetry = "Telemetry"

// Telemetry is one device-to-cloud message as a device sent it. Reserved application properties (iothub-creation-time-utc,
// iothub-message-schema, iothub-operation, iothub-ack, ...) may stand in Properties: SendTelemetry moves them where they belong.
type Telemetry struct {
	store.SystemProperties
	Properties []store.Property
	Body       []byte
}

// batches holds slices that telemetry is put together in, so that sending allocates nothing.
var batches = sync.Pool{New: func() any { return new([]store.Event) }}

// SendTelemetry checks size (256 KiB for all together) and stores the messages, all or none; on return they are durable as
// far as the engine goes, and may be acknowledged. The messages are not kept: the caller may reuse their memory.
// CodeMessageTooLarge, CodeArgumentInvalid (bad ids), CodeClosed (a reset in this moment).
func (s *DeviceSession) SendTelemetry(ctx context.Context, messages ...Telemetry) error {
	if err := s.live(); err != nil {
		return s.refused(messages, err)
	}
	size, units, err := s.checkTelemetry(messages)
	if err != nil {
		return s.refused(messages, err)
	}
	if err := s.keepTelemetry(ctx, messages, size, units); err != nil {
		return s.refused(messages, err)
	}
	return nil
}

// SendEach sends messages as if each had been given to SendTelemetry by itself, up to the first that is refused, at less cost. It returns how
// many are stored: those before that one, or all. Its errors are those of SendTelemetry, and the caller may reuse the memory, too.
func (s *DeviceSession) SendEach(ctx context.Context, messages ...Telemetry) (stored int, err error) {
	if len(messages) == 0 {
		return 0, nil
	}
	if err := s.live(); err != nil {
		return 0, s.refused(messages[:1], err)
	}
	var refusal error
	size, used := 0, int64(0)
	for i := range messages {
		n, units, err := s.checkTelemetry(messages[i : i+1])
		if err != nil {
			refusal = err
			break
		}
		size, used, stored = size+n, used+units, i+1
	}
	if stored > 0 {
		if err := s.keepTelemetry(ctx, messages[:stored], size, used); err != nil {
			return 0, s.refused(messages[:1], err)
		}
	}
	if refusal != nil {
		return stored, s.refused(messages[stored:stored+1], refusal)
	}
	return stored, nil
}

// keepTelemetry stores messages that were found good, of size bytes and so many units of the quota, and counts them.
func (s *DeviceSession) keepTelemetry(ctx context.Context, messages []Telemetry, size int, used int64) error {
	now := s.hub.clock.Now()
	pooled := batches.Get().(*[]store.Event)
	batch := slices.Grow(*pooled, len(messages))[:len(messages)] // cleared, as it was put back
	for i := range messages {
		s.stampEvent(&batch[i], &messages[i], now)
	}
	err := s.store(ctx, batch...)
	clear(batch)
	*pooled = batch[:0]
	batches.Put(pooled)
	if err != nil {
		return err
	}
	s.took(len(messages), size, used)
	s.peer.activity.Store(now.UnixNano())
	return nil
}

// refused counts messages that were not taken.
func (s *DeviceSession) refused(messages []Telemetry, err error) error {
	m, door := s.hub.metrics, doorOf(s.options.Conn)
	m.operations[opTelemetry][door].failure.Add(int64(len(messages)))
	if e := (*Error)(nil); errors.As(err, &e) && e.Status == http.StatusTooManyRequests {
		m.throttled[door].Add(int64(len(messages)))
	}
	return failed(opTelemetry, s.key, err)
}

// store appends events unless the hub was reset since the session began.
func (s *DeviceSession) store(ctx context.Context, events ...store.Event) error {
	if !s.hub.enter(s.partition, s.era) {
		return s.hub.NewError(CodeClosed)
	}
	defer s.hub.leave(s.partition)
	return s.hub.deliver(ctx, DeviceMessages, s.partition, events...)
}

// checkTelemetry applies the limits. It returns the size in bytes, and how many messages of the daily quota these are.
func (s *DeviceSession) checkTelemetry(messages []Telemetry) (size int, used int64, err error) {
	for i := range messages {
		m := &messages[i]
		if m.MessageID != "" && !validID(m.MessageID) {
			return 0, 0, s.hub.NewError(CodeArgumentInvalid, "the message id is not of 1 to 128 ASCII letters, digits and -:.+%_#*?!(),=@;$'")
		}
		n := messageSize(&m.SystemProperties, m.Properties, m.Body)
		size += n
		used += units(n)
	}
	if size > maxTelemetry {
		return 0, 0, s.hub.NewError(CodeMessageTooLarge, sizes(size, maxTelemetry))
	}
	return size, used, nil
}

// messageSize counts a message as IoT Hub does: the body, the values of system properties, and the names and values of
// application properties.
func messageSize(p *store.SystemProperties, properties []store.Property, body []byte) int {
	size := len(body) + len(p.MessageID) + len(p.CorrelationID) + len(p.UserID) + len(p.To) + len(p.ContentType) + len(p.ContentEncoding) +
		len(p.CreationTime) + len(p.MessageSchema) + len(p.Operation) + len(p.Ack) + len(p.OutputName) + len(p.InterfaceID) + len(p.Subject) +
		len(p.DiagnosticID) + len(p.DiagnosticCtx)
	for i := range properties {
		size += len(properties[i].Name) + len(properties[i].Value)
	}
	return size
}

// stampEvent fills the empty event e with a message and who sent it and how (article "Create and read messages", section System
// properties). It works in place: this is the hottest code of the hub.
func (s *DeviceSession) stampEvent(e *store.Event, m *Telemetry, now time.Time) {
	e.SystemProperties = m.SystemProperties
	if e.To == "" {
		e.To = s.to
	}
	e.Properties = liftReserved(&e.SystemProperties, m.Properties)
	e.Body = m.Body
	e.PartitionKey, e.DeviceID, e.ModuleID = s.key.DeviceID, s.key.DeviceID, s.key.ModuleID
	e.GenerationID, e.AuthMethod, e.ModelID = s.generation, s.authMethod, s.modelID()
	e.Source = sourceTelemetry
	e.Enqueued = now
}

// SendWill stores the message of an MQTT Will with the property iothub-MessageType=Will. It works after the session's end, too:
// that is when a Will is sent. CodeClosed when a reset ended it.
func (s *DeviceSession) SendWill(ctx context.Context, m Telemetry) error {
	properties := make([]store.Property, 0, len(m.Properties)+1)
	m.Properties = append(append(properties, m.Properties...), store.Property{Name: "iothub-MessageType", Value: "Will"})
	size, units, err := s.checkTelemetry([]Telemetry{m})
	if err != nil {
		return s.refused([]Telemetry{m}, err)
	}
	var e store.Event
	s.stampEvent(&e, &m, s.hub.clock.Now())
	if err := s.store(ctx, e); err != nil {
		return s.refused([]Telemetry{m}, err)
	}
	s.took(1, size, units)
	return nil
}

// reservedField returns where the value of a reserved application property belongs: in *field, or nowhere when field is nil, since
// the hub says for itself who sent a message.
func reservedField(p *store.SystemProperties, name string) (field *string, reserved bool) {
	if len(name) < len("iothub-ack") || name[0] != 'i' && name[0] != 'I' {
		return nil, false
	}
	switch strings.ToLower(name) {
	case "iothub-ack":
		return &p.Ack, true
	case "iothub-creation-time-utc":
		return &p.CreationTime, true
	case "iothub-message-schema":
		return &p.MessageSchema, true
	case "iothub-operation":
		return &p.Operation, true
	case "iothub-outputname":
		return &p.OutputName, true
	case "iothub-interface-id":
		return &p.InterfaceID, true
	case "iothub-connection-device-id", "iothub-connection-module-id", "iothub-connection-auth-method",
		"iothub-connection-auth-generation-id", "iothub-enqueuedtime", "iothub-message-source":
		return nil, true
	}
	return nil, false
}

// liftReserved moves reserved application properties to the system properties they are, and returns the others. A system property
// that was given as one already counts more. The properties are copied only when there is something to move.
func liftReserved(p *store.SystemProperties, properties []store.Property) []store.Property {
	for i := range properties {
		if _, reserved := reservedField(p, properties[i].Name); reserved {
			return liftFrom(p, properties, i)
		}
	}
	return properties
}

func liftFrom(p *store.SystemProperties, properties []store.Property, first int) []store.Property {
	kept := append(make([]store.Property, 0, len(properties)), properties[:first]...)
	for _, one := range properties[first:] {
		field, reserved := reservedField(p, one.Name)
		switch {
		case !reserved:
			kept = append(kept, one)
		case field != nil && *field == "":
			*field = one.Value
		}
	}
	return kept
}
