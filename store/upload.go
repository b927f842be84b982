package store

import (
	"context"
	"time"
)

// Upload is a file upload that a device has begun and not completed.
type Upload struct {
	Owner         string // who began it: unique among devices of all times
	CorrelationID string
	Blob          string    // name in the container
	Ends          time.Time // when its SAS URI ends: it is no longer active
	Until         time.Time // when it is forgotten
}

// Uploads keeps file uploads until they are completed or time is up.
type Uploads interface {
	// Begin adds an upload; ErrFull when limit uploads of its owner are active at now.
	Begin(ctx context.Context, u Upload, now time.Time, limit int) error
	// Find returns an upload; ErrNotFound, also when it is forgotten at now.
	Find(ctx context.Context, owner, correlationID string, now time.Time) (Upload, error)
	// Finish removes an upload; ErrNotFound.
	Finish(ctx context.Context, owner, correlationID string) error
}
