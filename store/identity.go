// Package store is where state lives: the contracts that hub builds on, and an in-memory engine. It knows no rules and does
// no I/O. Everything goes in and out by value; writes that depend on what was read carry an etag or a token
// (compare-and-swap), so that an engine on a distributed system fits behind the same contracts.
package store

import (
	"context"
	"errors"
	"time"
)

// Errors every engine returns for the same cause; compare with errors.Is.
var (
	ErrNotFound = errors.New("store: not found")
	ErrExists   = errors.New("store: exists already")
	ErrConflict = errors.New("store: etag does not match")
	ErrFull     = errors.New("store: queue is full")
	ErrLockLost = errors.New("store: lock token is not held")
)

// Key names an identity: a device, or a module of a device when ModuleID is not empty.
type Key struct{ DeviceID, ModuleID string }

// String returns "device" or "device/module".
func (k Key) String() string {
	if k.ModuleID == "" {
		return k.DeviceID
	}
	return k.DeviceID + "/" + k.ModuleID
}

// Status of a device: whether it may connect.
type Status string

// The two statuses of the identity registry.
const (
	Enabled  Status = "enabled"
	Disabled Status = "disabled"
)

// AuthType is the authentication.type of an identity.
type AuthType string

// The authentication types of the identity registry.
const (
	AuthSAS        AuthType = "sas"
	AuthSelfSigned AuthType = "selfSigned"
	AuthCA         AuthType = "certificateAuthority"
	AuthNone       AuthType = "none"
)

// Authentication holds what an identity proves itself with. Keys are base64 text, thumbprints hex text.
type Authentication struct {
	Type                                   AuthType
	PrimaryKey, SecondaryKey               string
	PrimaryThumbprint, SecondaryThumbprint string
}

// Identity is one row of the identity registry.
type Identity struct {
	Key
	GenerationID     string // decimal ticks, new for each creation
	ETag             string // base64 of a decimal counter, without quotes; set by the engine on every write
	Status           Status
	StatusReason     string
	StatusUpdated    time.Time // zero when never
	Authentication   Authentication
	IoTEdge          bool
	DeviceScope      string
	ParentScopes     []string // never changed in place
	ManagedBy        string   // modules only
	ModelID          string   // of the last connection that named one
	Connected        bool
	ConnectedUpdated time.Time // zero when never
	LastActivity     time.Time // zero when never
}

// Activity is the part of an identity that connections change, without a new etag.
type Activity struct {
	Connected        bool
	ConnectedUpdated time.Time
	LastActivity     time.Time
	ModelID          string
}

// Registry keeps identities.
type Registry interface {
	// Create adds an identity and returns it with its etag; ErrExists.
	Create(ctx context.Context, id Identity) (Identity, error)
	// Get returns one identity; ErrNotFound.
	Get(ctx context.Context, key Key) (Identity, error)
	// Update replaces an identity, its activity aside; ErrNotFound; ErrConflict unless ifMatch is its etag or "*".
	Update(ctx context.Context, id Identity, ifMatch string) (Identity, error)
	// Touch changes what connections change; ErrNotFound.
	Touch(ctx context.Context, key Key, change func(*Activity)) error
	// Delete removes an identity, a device with its modules; ErrNotFound, ErrConflict. It returns what was removed, a device first, with
	// the twins.
	Delete(ctx context.Context, key Key, ifMatch string) ([]TwinRow, error)
	// Devices returns up to limit devices with an id greater than after, in id order.
	Devices(ctx context.Context, after string, limit int) ([]Identity, error)
	// Modules returns the modules of a device in id order; none for an unknown device.
	Modules(ctx context.Context, deviceID string) ([]Identity, error)
	// Count returns how many devices there are and how many of them are disabled.
	Count(ctx context.Context) (devices, disabled int, err error)
}
