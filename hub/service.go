package hub

import (
	"context"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// ServiceSession is the handle of a back end. Every method checks that the principal has the right it needs and fails with
// CodeUnauthorized otherwise.
type ServiceSession struct{}

// OpenService returns a handle for a policy principal; CodeUnauthorized for a device.
func (h *Hub) OpenService(ctx context.Context, p auth.Principal, c *door.Conn) (*ServiceSession, error) {
	panic("contract")
}

// Admin returns a handle with every right, for the control API, the command and embedding.
func (h *Hub) Admin() *ServiceSession { panic("contract") }

// Close ends the handle and its subscriptions and readers.
func (s *ServiceSession) Close() { panic("contract") }

// Device is an identity as the registry shows it.
type Device struct {
	store.Identity
	C2DCount int // cloudToDeviceMessageCount
}

// SendC2D queues a message; m.To names the device ("/devices/{id}/messages/devicebound", any case, percent-encoded id).
// ServiceConnect. CodeDeviceNotFound, CodeQueueDepthExceeded (50), CodeMessageTooLarge (64 KiB), CodeArgumentInvalid (To, ack, ids),
// CodeInvalidMessageExpiry (in the past).
func (s *ServiceSession) SendC2D(ctx context.Context, m store.Message) error { panic("contract") }

// PurgeC2D empties a device's queue and returns how many messages went. ServiceConnect.
func (s *ServiceSession) PurgeC2D(ctx context.Context, deviceID string) (int, error) {
	panic("contract")
}

// SubscribeFeedback pushes feedback batches; the rules of DeviceSession.SubscribeC2D hold. The body of each message is the JSON
// array of records. Several subscriptions compete for one queue. ServiceConnect.
func (s *ServiceSession) SubscribeFeedback(deliver func(store.Message) bool) (*Subscription, error) {
	panic("contract")
}

// PollFeedback locks the next feedback batch; ok is false when there is none. ServiceConnect.
func (s *ServiceSession) PollFeedback(ctx context.Context) (m store.Message, ok bool, err error) {
	panic("contract")
}

// CompleteFeedback removes a batch, AbandonFeedback gives it back. CodeLockLost.
func (s *ServiceSession) CompleteFeedback(ctx context.Context, lockToken string) error {
	panic("contract")
}

// AbandonFeedback gives a batch back to be delivered again. CodeLockLost.
func (s *ServiceSession) AbandonFeedback(ctx context.Context, lockToken string) error {
	panic("contract")
}

// CreateIdentity registers a device or module, making keys when a SAS identity has none. RegistryWrite. CodeDeviceAlreadyExists,
// CodeModuleAlreadyExists, CodeDeviceNotFound (of a module), CodeTooManyModules, CodeArgumentInvalid.
func (s *ServiceSession) CreateIdentity(ctx context.Context, id store.Identity) (Device, error) {
	panic("contract")
}

// UpdateIdentity replaces an identity; ifMatch is an etag without quotes or "*". Disabling a device ends its sessions. RegistryWrite.
// CodeDeviceNotFound, CodeModuleNotFound, CodePreconditionFailed, CodeArgumentInvalid.
func (s *ServiceSession) UpdateIdentity(ctx context.Context, id store.Identity, ifMatch string) (Device, error) {
	panic("contract")
}

// Identity returns one identity. RegistryRead. CodeDeviceNotFound, CodeModuleNotFound.
func (s *ServiceSession) Identity(ctx context.Context, key store.Key) (Device, error) {
	panic("contract")
}

// DeleteIdentity removes an identity, its modules and its queue, and ends its sessions; ifMatch "" fails with CodePreconditionFailed.
// RegistryWrite.
func (s *ServiceSession) DeleteIdentity(ctx context.Context, key store.Key, ifMatch string) error {
	panic("contract")
}

// Devices lists up to top devices (1..1000, 0 for 1000) in id order. RegistryRead. CodeArgumentInvalid.
func (s *ServiceSession) Devices(ctx context.Context, top int) ([]Device, error) { panic("contract") }

// Modules lists the modules of a device. RegistryRead. CodeDeviceNotFound.
func (s *ServiceSession) Modules(ctx context.Context, deviceID string) ([]Device, error) {
	panic("contract")
}

// BulkItem is one operation of a bulk request.
type BulkItem struct {
	Identity store.Identity // ETag is the one to match for the IfMatchETag modes
	Mode     string         // create, update, updateIfMatchETag, createOrUpdate, createOrUpdateIfMatchETag, delete, deleteIfMatchETag
}

// BulkError is the failure of one item.
type BulkError struct {
	store.Key
	Err *Error
}

// Bulk carries out up to 100 operations; failures of single items do not stop the others. RegistryWrite. CodeTooManyDevices,
// CodeDeviceDefinedMultipleTimes, CodeArgumentInvalid (unknown mode), CodeNotImplemented (updateTwin modes).
func (s *ServiceSession) Bulk(ctx context.Context, items []BulkItem) ([]BulkError, error) {
	panic("contract")
}

// DeviceStatistics counts devices. RegistryRead.
func (s *ServiceSession) DeviceStatistics(ctx context.Context) (total, enabled, disabled int, err error) {
	panic("contract")
}

// ConnectedDevices counts connected devices. RegistryRead.
func (s *ServiceSession) ConnectedDevices(ctx context.Context) (int, error) { panic("contract") }

// EventHub describes the Event Hubs-compatible endpoint. ServiceConnect.
type EventHub struct {
	Name         string
	Created      time.Time
	PartitionIDs []string
}

// EventHub describes the endpoint. ServiceConnect.
func (s *ServiceSession) EventHub(ctx context.Context) (EventHub, error) { panic("contract") }

// Partition describes one partition; CodeArgumentInvalid for an unknown one. ServiceConnect.
func (s *ServiceSession) Partition(ctx context.Context, id string) (store.PartitionInfo, error) {
	panic("contract")
}

// Position says where a reader starts. Exactly one of the fields is used, in this order; the zero Position is the earliest event.
type Position struct {
	Latest    bool      // only events stored from now on
	Sequence  *int64    // from the event with this sequence number
	Offset    *int64    // from the event with this offset
	Enqueued  time.Time // from the first event enqueued at or after
	Exclusive bool      // start after the named event instead of with it
}

// EventReader reads one partition from a position on. Readers do not influence each other.
type EventReader struct{}

// OpenReader starts reading a partition for a consumer group. ready is called, from any goroutine and without blocking, when
// there may be events after Next has returned none; calls may be merged. Any well-formed consumer group name exists. ServiceConnect.
// CodeArgumentInvalid for an unknown partition or a bad group name.
func (s *ServiceSession) OpenReader(ctx context.Context, group, partition string, from Position, ready func()) (*EventReader, error) {
	panic("contract")
}

// Next returns up to limit events, none when all have been read. Only one goroutine may call it at a time.
func (r *EventReader) Next(ctx context.Context, limit int) ([]store.Event, error) {
	panic("contract")
}

// Close ends the reader; ready is not called afterwards.
func (r *EventReader) Close() { panic("contract") }
