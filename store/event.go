package store

import (
	"context"
	"time"
)

// Property is one name and value of a message's application properties, in the order the sender gave.
type Property struct {
	Name  string
	Value string
	Null  bool // the property has no value at all (MQTT bag entry without "="), not an empty one
}

// SystemProperties are the fields of a message that IoT Hub itself knows, shared by telemetry and cloud-to-device messages.
type SystemProperties struct {
	MessageID       string
	CorrelationID   string
	UserID          string
	To              string
	ContentType     string
	ContentEncoding string
	Expiry          time.Time // absolute-expiry-time; zero when none
	CreationTime    string    // iothub-creation-time-utc, as the sender wrote it
	MessageSchema   string    // iothub-message-schema
	Operation       string    // iothub-operation
	Ack             string    // iothub-ack: none, positive, negative, full or empty
	OutputName      string    // iothub-outputname, of module telemetry
	InterfaceID     string    // iothub-interface-id
	Subject         string    // dt-subject, the component
	DiagnosticID    string    // Diagnostic-Id
	DiagnosticCtx   string    // Correlation-Context
}

// Reserved calls visit for those that are there and that readers find among the application properties, under the names that senders use.
func (p *SystemProperties) Reserved(visit func(name, value string)) {
	for _, r := range [...]Property{
		{Name: "iothub-ack", Value: p.Ack}, {Name: "iothub-message-schema", Value: p.MessageSchema}, {Name: "iothub-creation-time-utc", Value: p.CreationTime},
		{Name: "iothub-operation", Value: p.Operation}, {Name: "iothub-outputname", Value: p.OutputName},
	} {
		if r.Value != "" {
			visit(r.Name, r.Value)
		}
	}
}

// Event is a stored telemetry message with the annotations the hub stamped on it.
type Event struct {
	SystemProperties
	Properties   []Property
	Body         []byte
	PartitionKey string // the device id

	DeviceID     string
	ModuleID     string
	GenerationID string
	AuthMethod   string // JSON text of iothub-connection-auth-method
	Source       string // iothub-message-source
	ModelID      string // dt-dataschema
	Enqueued     time.Time

	// Sequence and Offset are set by the engine: the event's place in its partition, counted from 0, and the number of bytes
	// stored before it.
	Sequence int64
	Offset   int64
}

// PartitionInfo says what a partition holds. An empty one has LastSequence FirstSequence-1.
type PartitionInfo struct {
	FirstSequence int64 // the oldest event still kept
	LastSequence  int64
	LastOffset    int64
	LastEnqueued  time.Time
}

// EventLog keeps telemetry in partitions, in order, up to the engine's byte limit; the oldest events go first.
type EventLog interface {
	// Partitions returns how many there are; it never changes.
	Partitions() int
	// Append stores events in one partition, all or none, and returns the sequence number of the first. The engine copies:
	// the caller may reuse what the events point to.
	Append(ctx context.Context, partition int, events ...Event) (int64, error)
	// Read returns events from sequence number from on, at most limit events and, after the first, about maxBytes bytes. A
	// from that is no longer kept reads from the oldest kept. No event yet is an empty result, not an error.
	Read(ctx context.Context, partition int, from int64, limit, maxBytes int) ([]Event, error)
	// ReadTo is Read into memory that is used again: what it returns is valid until memory is used for the next call.
	ReadTo(ctx context.Context, memory *ReadMemory, partition int, from int64, limit, maxBytes int) ([]Event, error)
	// SeekTime returns the sequence number of the first event enqueued at or after t, one past the last when there is none.
	SeekTime(ctx context.Context, partition int, t time.Time) (int64, error)
	// SeekOffset returns the sequence number of the first event whose offset is at least offset.
	SeekOffset(ctx context.Context, partition int, offset int64) (int64, error)
	// Info describes a partition.
	Info(ctx context.Context, partition int) (PartitionInfo, error)
	// Watch calls wake, from any goroutine and without blocking the appender, after events were appended to the partition,
	// until the returned function is called. Calls may be merged.
	Watch(partition int, wake func()) (cancel func())
	// Trim drops the events before a sequence number: nobody reads them any more. The engine may give their memory back later.
	Trim(ctx context.Context, partition int, before int64) error
	// Evicted returns how many events have been dropped for the byte limit; those that Trim dropped do not count.
	Evicted() int64
}

// ReadMemory is what a reader keeps between calls of ReadTo, so that reading allocates nothing. The zero value is ready to use.
type ReadMemory struct {
	events     []Event
	properties []Property
}

// rest lets go of the events, which keep segments of the log alive, and of memory that only much to read needs: who has read
// everything may wait long.
func (m *ReadMemory) rest() {
	const few = 16
	if cap(m.events) > few || cap(m.properties) > 8*few {
		*m = ReadMemory{}
		return
	}
	clear(m.events[:cap(m.events)])
	clear(m.properties[:cap(m.properties)])
	m.events, m.properties = m.events[:0], m.properties[:0]
}

// EventHubs are the logs besides that of the built-in endpoint: event hubs that routes lead to, and what waits to be delivered to
// endpoints elsewhere. They have names of their own, which the engine compares byte by byte.
type EventHubs interface {
	// Open returns the log of a name, which it makes with so many partitions, 1 to 256, unless there is one.
	Open(ctx context.Context, name string, partitions int) (EventLog, error)
	// Drop removes a log and its events; what readers already hold stays valid. Without a log of the name it does nothing.
	Drop(ctx context.Context, name string) error
}
