package store

import (
	"context"
	"time"

	"github.com/iolite-emulator/iolite/document"
)

// Twin is what an identity's device and its back ends know of each other. The zero Twin is the one that nobody has written yet: hub says
// what it looks like.
type Twin struct {
	Version        int64          // counts every change
	Writes         int64          // counts changes of tags and desired properties; the etag comes from it
	Tags           document.Value // an object without metadata, or Undefined
	Desired        Section
	Reported       Section
	Configurations document.Value // {"id":{"status":"Applied"}}, or Undefined when there are none
}

// Section is one of a twin's two property bags, with metadata at its members.
type Section struct {
	Value   document.Value // an object
	Version int64
	Updated time.Time // of the whole bag
}

// TwinRow is an identity with its twin.
type TwinRow struct {
	Identity
	Twin Twin
}

// Twins keeps the twins of the identities in a Registry. A twin is there from the creation of its identity to its deletion.
type Twins interface {
	// Twin returns an identity and its twin; ErrNotFound.
	Twin(ctx context.Context, key Key) (TwinRow, error)
	// UpdateTwin replaces a twin. ErrNotFound; ErrConflict unless the identity has that generation and the stored twin that version.
	UpdateTwin(ctx context.Context, key Key, generation string, ifVersion int64, twin Twin) error
	// Scan appends to rows up to limit devices, or modules, whose keys follow after, in ascending order of device and module id. It
	// appends none when there are no more.
	Scan(ctx context.Context, modules bool, after Key, limit int, rows []TwinRow) ([]TwinRow, error)
}
