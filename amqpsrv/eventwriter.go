package amqpsrv

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/store"
)

// eventWriter encodes stored events as readers of the Event Hubs-compatible endpoint get them, in memory that it uses again. It
// writes the octets itself: every event is encoded once for each of its readers, and this way that costs no allocation. What it
// returns is valid until the next call.
type eventWriter struct {
	b      []byte
	start  int // of the open map or list
	count  int // its elements so far
	keep   int // of a list: elements up to the last that is not null
	end    int // of a list: where that ends
	digits [20]byte
}

// Sections besides those that devices send (AMQP 3.2).
const sectionDeliveryAnnotations = 0x71

// event encodes e. last, when not nil, is what the peer asked to be told about the partition with every event.
func (w *eventWriter) event(e *store.Event, last *lastEnqueued) []byte {
	if cap(w.b) > 64<<10 {
		w.b = nil // a large event does not keep its memory
	}
	w.b = w.b[:0]
	if last != nil {
		w.last(last)
	}
	w.annotations(e)
	w.system(&e.SystemProperties)
	w.application(e)
	w.section(sectionData)
	w.variable(0xa0, len(e.Body))
	w.b = append(w.b, e.Body...)
	return w.b
}

// last writes the delivery annotations of a receiver that desires com.microsoft:enable-receiver-runtime-metric.
func (w *eventWriter) last(l *lastEnqueued) {
	w.section(sectionDeliveryAnnotations)
	w.open(0xd1)
	w.long("last_enqueued_sequence_number", l.sequence)
	w.text("last_enqueued_offset", l.offset)
	w.time("last_enqueued_time_utc", l.enqueued)
	w.time("runtime_info_retrieval_time_utc", l.retrieved)
	w.close(w.count, len(w.b))
}

// annotations writes what the hub stamped on the event: the keys and types that Event Hubs clients and IoT Hub's tools read.
func (w *eventWriter) annotations(e *store.Event) {
	enqueued := amqp10.TimestampOf(e.Enqueued)
	w.section(sectionAnnotations)
	w.open(0xd1)
	w.long("x-opt-sequence-number", e.Sequence)
	w.symbol("x-opt-offset")
	w.string(strconv.AppendInt(w.digits[:0], e.Offset, 10))
	w.time("x-opt-enqueued-time", enqueued)
	w.text("x-opt-partition-key", e.PartitionKey)
	w.text("iothub-connection-device-id", e.DeviceID)
	w.text("iothub-connection-module-id", e.ModuleID)
	w.text("iothub-connection-auth-method", e.AuthMethod)
	w.text("iothub-connection-auth-generation-id", e.GenerationID)
	w.time("iothub-enqueuedtime", enqueued)
	w.text("iothub-message-source", e.Source)
	w.text("iothub-interface-id", e.InterfaceID)
	w.text("dt-dataschema", e.ModelID)
	w.text("dt-subject", e.Subject)
	w.text("Diagnostic-Id", e.DiagnosticID)
	w.text("Correlation-Context", e.DiagnosticCtx)
	w.close(w.count, len(w.b))
}

// system writes the properties section (AMQP 3.2.4).
func (w *eventWriter) system(s *store.SystemProperties) {
	w.section(sectionProperties)
	w.open(0xd0)
	w.field(0xa1, s.MessageID)
	w.field(0xa0, s.UserID)
	w.field(0xa1, s.To)
	w.field(0xa1, "") // subject
	w.field(0xa1, "") // reply-to
	w.field(0xa1, s.CorrelationID)
	w.field(0xa3, s.ContentType)
	w.field(0xa3, s.ContentEncoding)
	w.timeField(s.Expiry)
	w.close(w.keep, w.end)
}

// application writes the sender's properties and those that stand for fields of the message.
func (w *eventWriter) application(e *store.Event) {
	before := len(w.b)
	w.section(sectionApplicationProperties)
	w.open(0xd1)
	for i := range e.Properties {
		p := &e.Properties[i]
		w.property(p.Name, p.Value)
	}
	w.reserved("iothub-ack", e.Ack)
	w.reserved("iothub-message-schema", e.MessageSchema)
	w.reserved("iothub-creation-time-utc", e.CreationTime)
	w.reserved("iothub-operation", e.Operation)
	w.reserved("iothub-outputname", e.OutputName)
	if w.count == 0 {
		w.b = w.b[:before]
		return
	}
	w.close(w.count, len(w.b))
}

func (w *eventWriter) property(name, value string) {
	w.count++
	w.variable(0xa1, len(name))
	w.b = append(w.b, name...)
	w.string([]byte(value))
}

func (w *eventWriter) reserved(name, value string) {
	if value != "" {
		w.property(name, value)
	}
}

// section appends the descriptor of a section.
func (w *eventWriter) section(descriptor byte) { w.b = append(w.b, 0, 0x53, descriptor) }

// open begins a list or map, in the wide form, so that nothing has to be moved when it grows.
func (w *eventWriter) open(code byte) {
	w.start = len(w.b)
	w.b = append(w.b, code, 0, 0, 0, 0, 0, 0, 0, 0)
	w.count, w.keep, w.end = 0, 0, len(w.b)
}

// close ends it with that many elements, at end.
func (w *eventWriter) close(count, end int) {
	w.b = w.b[:end]
	binary.BigEndian.PutUint32(w.b[w.start+1:], uint32(end-w.start-5))
	binary.BigEndian.PutUint32(w.b[w.start+5:], uint32(count))
}

// variable appends the constructor and the length of a binary, string or symbol whose short code is code.
func (w *eventWriter) variable(code byte, n int) {
	if n <= math.MaxUint8 {
		w.b = append(w.b, code, byte(n))
		return
	}
	w.b = binary.BigEndian.AppendUint32(append(w.b, code+0x10), uint32(n))
}

// symbol appends a key.
func (w *eventWriter) symbol(key string) {
	w.count++
	w.variable(0xa3, len(key))
	w.b = append(w.b, key...)
}

// string appends a value of the type string.
func (w *eventWriter) string(value []byte) {
	w.count++
	w.variable(0xa1, len(value))
	w.b = append(w.b, value...)
}

// text appends a key and a string; nothing for an empty one.
func (w *eventWriter) text(key, value string) {
	if value != "" {
		w.symbol(key)
		w.string([]byte(value))
	}
}

func (w *eventWriter) long(key string, value int64) {
	w.symbol(key)
	w.count++
	w.b = binary.BigEndian.AppendUint64(append(w.b, 0x81), uint64(value))
}

func (w *eventWriter) time(key string, value amqp10.Timestamp) {
	w.symbol(key)
	w.count++
	w.b = binary.BigEndian.AppendUint64(append(w.b, 0x83), uint64(value))
}

// field appends a field of a list, null when it is empty; nulls at the end are cut off by close (AMQP 1.4).
func (w *eventWriter) field(code byte, value string) {
	w.count++
	if value == "" {
		w.b = append(w.b, 0x40)
		return
	}
	w.variable(code, len(value))
	w.b = append(w.b, value...)
	w.keep, w.end = w.count, len(w.b)
}

func (w *eventWriter) timeField(t time.Time) {
	w.count++
	if t.IsZero() {
		w.b = append(w.b, 0x40)
		return
	}
	w.b = binary.BigEndian.AppendUint64(append(w.b, 0x83), uint64(t.UnixMilli()))
	w.keep, w.end = w.count, len(w.b)
}
