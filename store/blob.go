package store

import (
	"context"
	"errors"
	"io"
	"time"
)

// What Blobs fails with beyond the errors of the other stores.
var (
	ErrNoContainer = errors.New("store: no such container")
	ErrNoBlock     = errors.New("store: no such block")
	ErrBlockID     = errors.New("store: the block ids of a blob differ in length")
	ErrTooMany     = errors.New("store: too many uncommitted blocks")
	ErrNoSpace     = errors.New("store: no space for more blobs")
)

// BlobKey names a blob in a container.
type BlobKey struct{ Container, Name string }

// BlobHeaders are the HTTP headers that a blob comes with.
type BlobHeaders struct {
	ContentType, ContentEncoding, ContentLanguage, ContentDisposition, CacheControl string
	ContentMD5                                                                      []byte // nil when it is not known
}

// Blob is a block blob that is committed, without its bytes.
type Blob struct {
	BlobKey
	BlobHeaders
	Metadata          []Property
	Size              int64
	ETag              string // without quotes
	Created, Modified time.Time
}

// Block is a block of a blob.
type Block struct {
	ID   string // decoded
	Size int64
}

// BlockSource says where a block of a block list is looked for.
type BlockSource uint8

// The block sources.
const (
	BlockLatest BlockSource = iota // among the uncommitted blocks, then among the committed
	BlockUncommitted
	BlockCommitted
)

// BlockRef is an entry of a block list.
type BlockRef struct {
	ID   string
	From BlockSource
}

// BlobCondition is what a blob must be like for an operation; the zero value asks for nothing.
type BlobCondition struct {
	IfMatch, IfNoneMatch               string // an etag without quotes, or *
	IfModifiedSince, IfUnmodifiedSince time.Time
}

// Met reports whether a blob, nil for none, is as asked for.
func (c *BlobCondition) Met(b *Blob) bool {
	if b == nil {
		return c.IfMatch == "" && c.IfUnmodifiedSince.IsZero()
	}
	switch {
	case c.IfMatch != "" && c.IfMatch != "*" && c.IfMatch != b.ETag:
		return false
	case c.IfNoneMatch == "*" || c.IfNoneMatch == b.ETag && b.ETag != "":
		return false
	case !c.IfUnmodifiedSince.IsZero() && b.Modified.Truncate(time.Second).After(c.IfUnmodifiedSince):
		return false
	}
	return c.IfModifiedSince.IsZero() || b.Modified.Truncate(time.Second).After(c.IfModifiedSince)
}

// Container is a container without its blobs.
type Container struct {
	Name     string
	Metadata []Property
	ETag     string
	Modified time.Time
}

// BlobQuery selects blobs of a container, in the order of their names.
type BlobQuery struct {
	Prefix    string
	Delimiter string // names that have it after the prefix are rolled up into what ends with it
	After     string // where the page before ended
	Limit     int
}

// BlobPage is a page of blobs.
type BlobPage struct {
	Blobs    []Blob
	Prefixes []string // rolled up names
	Next     string   // After of the next page, empty after the last
}

// Blobs keeps block blobs in containers, and the blocks that will become some. Bodies are read while nothing is locked, and their
// bytes count against the store's space from then on. A body that fails, or has another length than was said, changes nothing.
type Blobs interface {
	// CreateContainer adds a container; ErrExists.
	CreateContainer(ctx context.Context, name string, metadata []Property, now time.Time) (Container, error)
	// Container returns a container; ErrNoContainer.
	Container(ctx context.Context, name string) (Container, error)
	// Containers lists the containers by name.
	Containers(ctx context.Context) ([]Container, error)
	// DeleteContainer removes a container and what is in it; ErrNoContainer.
	DeleteContainer(ctx context.Context, name string) error

	// PutBlob makes or replaces a blob of size bytes and drops its uncommitted blocks. headers is asked for once the body is read. ErrNoContainer,
	// ErrConflict (the condition is not met), ErrNoSpace, the body's error.
	PutBlob(ctx context.Context, b Blob, body io.Reader, headers func(*BlobHeaders), c BlobCondition, now time.Time) (Blob, error)
	// PutBlock adds or replaces an uncommitted block. ErrNoContainer, ErrBlockID, ErrTooMany, ErrNoSpace, the body's error.
	PutBlock(ctx context.Context, key BlobKey, block Block, body io.Reader, now time.Time) error
	// CommitBlocks makes or replaces a blob of the listed blocks and drops the other blocks; b.Size does not matter. ErrNoContainer, ErrNoBlock,
	// ErrConflict.
	CommitBlocks(ctx context.Context, b Blob, blocks []BlockRef, c BlobCondition, now time.Time) (Blob, error)
	// Blocks lists the committed blocks in their order, and the uncommitted ones by id. blob is nil when there are only uncommitted ones.
	// ErrNoContainer, ErrNotFound.
	Blocks(ctx context.Context, key BlobKey, now time.Time) (blob *Blob, committed, uncommitted []Block, err error)

	// Blob returns a blob; ErrNoContainer, ErrNotFound.
	Blob(ctx context.Context, key BlobKey) (Blob, error)
	// OpenBlob returns a blob and its bytes from offset on, at most length of them; they do not change when the blob does. Whoever calls
	// closes them. ErrNoContainer, ErrNotFound.
	OpenBlob(ctx context.Context, key BlobKey, offset, length int64) (Blob, io.ReadCloser, error)
	// UpdateBlob replaces what a blob comes with: headers, metadata, or both; what is nil stays. ErrNoContainer, ErrNotFound, ErrConflict,
	// ErrNoSpace.
	UpdateBlob(ctx context.Context, key BlobKey, headers *BlobHeaders, metadata *[]Property, c BlobCondition, now time.Time) (Blob, error)
	// DeleteBlob removes a blob and its uncommitted blocks; ErrNoContainer, ErrNotFound, ErrConflict.
	DeleteBlob(ctx context.Context, key BlobKey, c BlobCondition) error
	// ListBlobs returns a page of committed blobs; ErrNoContainer.
	ListBlobs(ctx context.Context, container string, q BlobQuery) (BlobPage, error)

	// Reset removes everything; bodies that are being read become nothing.
	Reset(ctx context.Context) error
	// Usage returns how many bytes there are, overheads included, and how many there may be.
	Usage(ctx context.Context) (used, limit int64, err error)
	// Close lets others use the directory that the blobs are kept in, if any. It may be called more than once, and no method afterwards.
	Close() error
}
