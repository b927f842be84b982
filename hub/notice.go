package hub

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/iolite-emulator/iolite/store"
)

// A notice is an event other than telemetry: it tells back ends of what happened to an identity, if a route wants it (article "Azure IoT
// Hub non-telemetry event schemas"). Whoever changes something stores its notice before the change is acknowledged, under the lock that
// keeps changes of the identity in order.

// noticeKind is what the notices of one source have in common.
type noticeKind struct {
	route       RouteSource
	source      string // iothub-message-source
	schema      string // iothub-message-schema
	contentType string
}

// The kinds of notices.
var (
	twinNotice        = noticeKind{TwinChangeEvents, "twinChangeEvents", "twinChangeNotification", "application/json"}
	lifecycleNotice   = noticeKind{DeviceLifecycleEvents, "deviceLifecycleEvents", "deviceLifecycleNotification", "application/json"}
	connectionNotice  = noticeKind{DeviceConnectionStateEvents, "deviceConnectionStateEvents", "deviceConnectionStateNotification", "application/json"}
	digitalTwinNotice = noticeKind{DigitalTwinChangeEvents, "digitalTwinChangeEvents", "digitalTwinChangeNotification", "application/json-patch+json"}
	// The real hub has the source, and no article says what comes from it: these names are Iolite's own.
	jobNotice = noticeKind{DeviceJobLifecycleEvents, "deviceJobLifecycleEvents", "deviceJobLifecycleNotification", "application/json"}
)

// operationTime is how operationTimestamp is written: .NET's round-trip format, which always has seven digits.
const operationTime = "2006-01-02T15:04:05.0000000Z"

// notice is one notice.
type notice struct {
	kind          *noticeKind
	opType        string
	correlationID string
	at            time.Time
	body          []byte
}

// silence is what Silently puts into a context.
type silence struct{}

// Silently returns a context for changes that are told to nobody, whatever the routes say: for seeds, whose devices were there before.
func Silently(ctx context.Context) context.Context { return context.WithValue(ctx, silence{}, true) }

// noticed reports whether anybody wants notices of a kind. Who changes something looks here first, so that it costs nothing when not.
func (h *Hub) noticed(ctx context.Context, kind *noticeKind) bool {
	return h.routed(kind.route) && ctx.Value(silence{}) == nil
}

// gateFor returns the gate that a change of an identity goes through: that of the partition of its notices, or any one when nobody wants
// them. A change goes through one gate only, since a reset that waits for it lets nobody in any more.
func (h *Hub) gateFor(wanted bool, key store.Key) int {
	if !wanted {
		return 0
	}
	return PartitionOf(key.DeviceID, h.events.Partitions())
}

// notify stores the notices of what happened to an identity where the routes want them. The caller is inside the gate of partition, the
// identity's. Who asked for the change may have gone meanwhile: ctx only carries values.
func (h *Hub) notify(ctx context.Context, partition int, key store.Key, notices ...notice) error {
	ctx = context.WithoutCancel(ctx)
	for i := range notices {
		n := &notices[i]
		if err := h.deliver(ctx, n.kind.route, partition, h.noticeEvent(key, n)); err != nil {
			return fmt.Errorf("the event %s of %s cannot be stored: %w", n.opType, key, err)
		}
	}
	return nil
}

// noticeEvent returns the message that a notice is. The real hub says nothing of authentication here, and gives no partition key.
func (h *Hub) noticeEvent(key store.Key, n *notice) store.Event {
	e := store.Event{Body: n.body, DeviceID: key.DeviceID, ModuleID: key.ModuleID, Source: n.kind.source, Enqueued: h.clock.Now()}
	e.ContentType, e.ContentEncoding = n.kind.contentType, "utf-8"
	e.CorrelationID, e.UserID, e.MessageSchema = n.correlationID, h.cfg.Name, n.kind.schema
	e.Properties = []store.Property{
		{Name: "hubName", Value: h.cfg.Name}, {Name: "deviceId", Value: key.DeviceID},
		{Name: "operationTimestamp", Value: n.at.UTC().Format(operationTime)}, {Name: "opType", Value: n.opType},
	}
	if key.ModuleID != "" {
		e.Properties = append(e.Properties, store.Property{Name: "moduleId", Value: key.ModuleID})
	}
	return e
}

// newCorrelationID returns an id that all notices of one change share: hexadecimal, and greater than all before.
func (h *Hub) newCorrelationID() string { return strconv.FormatInt(h.tick(), 16) }
