package store

import (
	"context"
	"time"

	"github.com/iolite-emulator/iolite/document"
)

// Configuration is an automatic device management configuration, or a deployment of IoT Edge.
type Configuration struct {
	ID              string
	ETag            string // base64 of a decimal counter, without quotes; set by the engine on every write
	SchemaVersion   string
	Labels          document.Value // an object, or Undefined
	Content         document.Value // an object
	TargetCondition string
	Priority        int64
	Metrics         document.Value // custom metrics: an object of names and queries
	Created         time.Time
	Updated         time.Time
}

// Configurations keeps the configurations of a hub.
type Configurations interface {
	// Create adds a configuration and returns it with its etag; ErrExists; ErrFull when there are limit already.
	Create(ctx context.Context, c Configuration, limit int) (Configuration, error)
	// Get returns one configuration; ErrNotFound.
	Get(ctx context.Context, id string) (Configuration, error)
	// Update replaces a configuration; ErrNotFound; ErrConflict unless ifMatch is its etag or "*".
	Update(ctx context.Context, c Configuration, ifMatch string) (Configuration, error)
	// Delete removes a configuration and returns it; ErrNotFound; ErrConflict unless ifMatch is its etag or "*".
	Delete(ctx context.Context, id string, ifMatch string) (Configuration, error)
	// List returns all configurations in id order.
	List(ctx context.Context) ([]Configuration, error)
}
