package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits and costs of blobs.
const (
	blobOverhead      = 1 << 10            // bytes that a blob or container counts besides its own
	blockOverhead     = 256                // the same of a block
	maxStaged         = 100_000            // uncommitted blocks of a blob (article "Put Block")
	stagedLife        = 7 * 24 * time.Hour // of uncommitted blocks after the last one was put (article "Put Block List")
	stagedLifeCrammed = time.Hour          // the same when there is no space: a SAS URI of a file upload has ended by then
	pieceChunk        = 1 << 20            // bytes that are read at a time
)

// LocalBlobs is Blobs in this process: an index in memory, and the bytes in memory or in files.
type LocalBlobs struct {
	keep  keeper
	limit int64

	mu         sync.Mutex
	containers map[string]*blobContainer
	used       int64
	tag        int64 // of the last etag
	era        int64 // how many resets there were
}

// keeper keeps the bytes of pieces. Its methods may be called from any goroutine.
type keeper interface {
	create() (pieceWriter, error)
	// save and forget keep what the index knows of containers and blobs; called under the lock.
	saveContainer(c *blobContainer) error
	forgetContainer(name string) error
	saveBlob(b *committedBlob) error
	forgetBlob(key BlobKey) error
	close() error
}

// pieceWriter takes in the bytes of a piece.
type pieceWriter interface {
	fill(body io.Reader, n int) error // exactly n more bytes of body
	finish() (pieceBytes, error)
	abort()
}

// pieceBytes are bytes that do not change.
type pieceBytes interface {
	open(offset, length int64) (io.ReadCloser, error)
	remove()
	name() string // for the index of a keeper; empty when it needs none
}

// piece is the body of one request. LocalBlobs.mu guards refs.
type piece struct {
	pieceBytes
	size int64
	refs int // of blobs, uncommitted blocks and readers
}

type blobContainer struct {
	Container
	blobs  map[string]*committedBlob
	staged map[string]*stagedBlocks
}

type committedBlob struct {
	Blob
	blocks []committedBlock
}

type committedBlock struct {
	id string
	*piece
}

type stagedBlocks struct {
	blocks map[string]*piece // by id
	last   time.Time         // when one was put
}

// NewMemoryBlobs keeps at most limit bytes in memory.
func NewMemoryBlobs(limit int64) *LocalBlobs { return newLocalBlobs(memKeeper{}, limit) }

func newLocalBlobs(k keeper, limit int64) *LocalBlobs {
	return &LocalBlobs{keep: k, limit: limit, containers: map[string]*blobContainer{}}
}

// Close implements Blobs.
func (l *LocalBlobs) Close() error { return l.keep.close() }

// Usage implements Blobs.
func (l *LocalBlobs) Usage(context.Context) (used, limit int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used, l.limit, nil
}

// reserve counts n bytes against the space. The caller holds mu.
func (l *LocalBlobs) reserve(n int64, now time.Time) error {
	if l.used+n > l.limit {
		l.expire(now.Add(-stagedLifeCrammed))
	}
	if l.used+n > l.limit {
		return ErrNoSpace
	}
	l.used += n
	return nil
}

// expire drops uncommitted blocks of blobs that got none after a time. The caller holds mu.
func (l *LocalBlobs) expire(before time.Time) {
	for _, c := range l.containers {
		for name, s := range c.staged {
			if !s.last.After(before) {
				l.dropStaged(c, name)
			}
		}
	}
}

// dropStaged drops the uncommitted blocks of a blob. The caller holds mu.
func (l *LocalBlobs) dropStaged(c *blobContainer, name string) {
	if s := c.staged[name]; s != nil {
		for _, p := range s.blocks {
			l.release(p)
		}
		delete(c.staged, name)
		l.used -= blobCost(name, nil)
	}
}

// release gives up one use of a piece. The caller holds mu.
func (l *LocalBlobs) release(p *piece) {
	if p.refs--; p.refs == 0 {
		l.used -= p.size + blockOverhead
		p.remove()
	}
}

// blobCost is what a blob counts besides its blocks.
func blobCost(name string, metadata []Property) int64 {
	cost := int64(blobOverhead + len(name))
	for _, p := range metadata {
		cost += int64(len(p.Name) + len(p.Value))
	}
	return cost
}

// read makes a piece of a body of size bytes, held once. It reports ErrNoContainer after a reset.
func (l *LocalBlobs) read(ctx context.Context, era int64, body io.Reader, size int64, now time.Time) (*piece, error) {
	if size > l.limit {
		return nil, ErrNoSpace
	}
	w, err := l.keep.create()
	if err != nil {
		return nil, err
	}
	reserved := int64(0)
	take := func(n int64) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.era != era {
			return ErrNoContainer
		}
		if err := l.reserve(n, now); err != nil {
			return err
		}
		reserved += n
		return nil
	}
	err = take(blockOverhead)
	for left := size; left > 0 && err == nil; {
		n := min(left, pieceChunk)
		if err = cmp.Or(ctx.Err(), take(n)); err == nil {
			err = w.fill(body, int(n))
		}
		left -= n
	}
	if err == nil {
		err = atEnd(body)
	}
	var bytes pieceBytes
	if err == nil {
		bytes, err = w.finish()
	} else {
		w.abort()
	}
	if err != nil {
		l.mu.Lock()
		l.used -= reserved
		l.mu.Unlock()
		return nil, err
	}
	return &piece{pieceBytes: bytes, size: size, refs: 1}, nil
}

// errLong is a body that is longer than was said.
var errLong = errors.New("store: the body is longer than it should be")

// atEnd reads the end of a body, which may have its own opinion of what came before.
func atEnd(body io.Reader) error {
	var more [1]byte
	n, err := io.ReadFull(body, more[:])
	switch {
	case n > 0:
		return errLong
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// enter returns the present era; ErrNoContainer when there is no such container.
func (l *LocalBlobs) enter(container string, now time.Time) (era int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire(now.Add(-stagedLife))
	if l.containers[container] == nil {
		return 0, ErrNoContainer
	}
	return l.era, nil
}

// container returns a container that was there in an era. The caller holds mu.
func (l *LocalBlobs) container(name string, era int64) (*blobContainer, error) {
	c := l.containers[name]
	if c == nil || era != l.era {
		return nil, ErrNoContainer
	}
	return c, nil
}

// PutBlob implements Blobs.
func (l *LocalBlobs) PutBlob(ctx context.Context, b Blob, body io.Reader, headers func(*BlobHeaders), cond BlobCondition, now time.Time) (Blob, error) {
	era, err := l.enter(b.Container, now)
	if err != nil {
		return Blob{}, err
	}
	p, err := l.read(ctx, era, body, b.Size, now)
	if err != nil {
		return Blob{}, err
	}
	if headers != nil {
		headers(&b.BlobHeaders)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.release(p) // the blob has a share of its own
	c, err := l.container(b.Container, era)
	if err != nil {
		return Blob{}, err
	}
	return l.commit(c, &committedBlob{Blob: b, blocks: []committedBlock{{"", p}}}, cond, now)
}

// commit puts a blob in its place. The caller holds mu.
func (l *LocalBlobs) commit(c *blobContainer, b *committedBlob, cond BlobCondition, now time.Time) (Blob, error) {
	old := c.blobs[b.Name]
	var present *Blob
	if old != nil {
		present = &old.Blob
	}
	if !cond.Met(present) {
		return Blob{}, ErrConflict
	}
	b.Size, b.Created, b.Modified, b.ETag = 0, now, now, l.newTag(now)
	if old != nil {
		b.Created = old.Created
	}
	for _, block := range b.blocks { // before reserve, which may drop the blob's uncommitted blocks
		block.refs++
		b.Size += block.size
	}
	if err := l.reserve(blobCost(b.Name, b.Metadata), now); err != nil {
		b.letGo(l)
		return Blob{}, err
	}
	if err := l.keep.saveBlob(b); err != nil {
		l.dropBlob(b)
		return Blob{}, err
	}
	if c.blobs[b.Name] = b; old != nil {
		l.dropBlob(old)
	}
	l.dropStaged(c, b.Name)
	return b.Blob, nil
}

// dropBlob gives back what a blob holds. The caller holds mu.
func (l *LocalBlobs) dropBlob(b *committedBlob) {
	l.used -= blobCost(b.Name, b.Metadata)
	b.letGo(l)
}

// letGo gives up the blob's use of its pieces. The caller holds mu.
func (b *committedBlob) letGo(l *LocalBlobs) {
	for _, block := range b.blocks {
		l.release(block.piece)
	}
}

// newTag returns an etag that no other blob or container has or had. The caller holds mu.
func (l *LocalBlobs) newTag(now time.Time) string {
	const ticksAtEpoch = 621355968000000000
	l.tag = max(l.tag+1, now.UnixNano()/100+ticksAtEpoch)
	return fmt.Sprintf("0x%X", l.tag)
}

// PutBlock implements Blobs.
func (l *LocalBlobs) PutBlock(ctx context.Context, key BlobKey, block Block, body io.Reader, now time.Time) error {
	era, err := l.enter(key.Container, now)
	if err != nil {
		return err
	}
	p, err := l.read(ctx, era, body, block.Size, now)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.container(key.Container, era)
	if err == nil {
		err = l.stage(c, key.Name, block.ID, p, now)
	}
	if err != nil {
		l.release(p)
	}
	return err
}

// stage makes a piece an uncommitted block. The caller holds mu.
func (l *LocalBlobs) stage(c *blobContainer, name, id string, p *piece, now time.Time) error {
	s := c.staged[name]
	if s == nil {
		if err := l.reserve(blobCost(name, nil), now); err != nil {
			return err
		}
		s = &stagedBlocks{blocks: map[string]*piece{}, last: now}
		c.staged[name] = s
	}
	for other := range s.blocks {
		if len(other) != len(id) {
			return ErrBlockID
		}
		break // all the others have the same length
	}
	old := s.blocks[id]
	if old == nil && len(s.blocks) >= maxStaged {
		return ErrTooMany
	}
	if old != nil {
		l.release(old)
	}
	s.blocks[id], s.last = p, now
	return nil
}

// CommitBlocks implements Blobs.
func (l *LocalBlobs) CommitBlocks(_ context.Context, b Blob, list []BlockRef, cond BlobCondition, now time.Time) (Blob, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire(now.Add(-stagedLife))
	c, err := l.container(b.Container, l.era)
	if err != nil {
		return Blob{}, err
	}
	blocks, err := c.find(b.Name, list)
	if err != nil {
		return Blob{}, err
	}
	return l.commit(c, &committedBlob{Blob: b, blocks: blocks}, cond, now)
}

// find looks up the blocks of a list.
func (c *blobContainer) find(name string, list []BlockRef) ([]committedBlock, error) {
	var staged, committed map[string]*piece
	if s := c.staged[name]; s != nil {
		staged = s.blocks
	}
	if b := c.blobs[name]; b != nil {
		committed = make(map[string]*piece, len(b.blocks))
		for _, block := range b.blocks {
			if block.id != "" { // what Put Blob made has no block that a list could name
				committed[block.id] = block.piece
			}
		}
	}
	blocks := make([]committedBlock, 0, len(list))
	for _, ref := range list {
		var p *piece
		if ref.From != BlockCommitted {
			p = staged[ref.ID]
		}
		if p == nil && ref.From != BlockUncommitted {
			p = committed[ref.ID]
		}
		if p == nil {
			return nil, ErrNoBlock
		}
		blocks = append(blocks, committedBlock{ref.ID, p})
	}
	return blocks, nil
}

// Blocks implements Blobs.
func (l *LocalBlobs) Blocks(_ context.Context, key BlobKey, now time.Time) (blob *Blob, committed, uncommitted []Block, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire(now.Add(-stagedLife))
	c, err := l.container(key.Container, l.era)
	if err != nil {
		return nil, nil, nil, err
	}
	b, s := c.blobs[key.Name], c.staged[key.Name]
	if b == nil && s == nil {
		return nil, nil, nil, ErrNotFound
	}
	if b != nil {
		blob = new(b.Blob)
		for _, block := range b.blocks {
			if block.id != "" {
				committed = append(committed, Block{block.id, block.size})
			}
		}
	}
	if s != nil {
		for _, id := range slices.Sorted(maps.Keys(s.blocks)) {
			uncommitted = append(uncommitted, Block{id, s.blocks[id].size})
		}
	}
	return blob, committed, uncommitted, nil
}

// blob returns a committed blob. The caller holds mu.
func (l *LocalBlobs) blob(key BlobKey) (*blobContainer, *committedBlob, error) {
	c, err := l.container(key.Container, l.era)
	if err != nil {
		return nil, nil, err
	}
	b := c.blobs[key.Name]
	if b == nil {
		return nil, nil, ErrNotFound
	}
	return c, b, nil
}

// Blob implements Blobs.
func (l *LocalBlobs) Blob(_ context.Context, key BlobKey) (Blob, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, b, err := l.blob(key)
	if err != nil {
		return Blob{}, err
	}
	return b.Blob, nil
}

// UpdateBlob implements Blobs.
func (l *LocalBlobs) UpdateBlob(_ context.Context, key BlobKey, headers *BlobHeaders, metadata *[]Property, cond BlobCondition, now time.Time) (Blob, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, b, err := l.blob(key)
	if err != nil {
		return Blob{}, err
	}
	if !cond.Met(&b.Blob) {
		return Blob{}, ErrConflict
	}
	changed := &committedBlob{b.Blob, b.blocks}
	if headers != nil {
		changed.BlobHeaders = *headers
	}
	if metadata != nil {
		changed.Metadata = *metadata
	}
	more := blobCost(key.Name, changed.Metadata) - blobCost(key.Name, b.Metadata)
	if err := l.reserve(more, now); err != nil {
		return Blob{}, err
	}
	changed.Modified, changed.ETag = now, l.newTag(now)
	if err := l.keep.saveBlob(changed); err != nil {
		l.used -= more
		return Blob{}, err
	}
	c.blobs[key.Name] = changed
	return changed.Blob, nil
}

// DeleteBlob implements Blobs.
func (l *LocalBlobs) DeleteBlob(_ context.Context, key BlobKey, cond BlobCondition) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, b, err := l.blob(key)
	if err != nil {
		return err
	}
	if !cond.Met(&b.Blob) {
		return ErrConflict
	}
	if err := l.keep.forgetBlob(key); err != nil {
		return err
	}
	delete(c.blobs, key.Name)
	l.dropBlob(b)
	l.dropStaged(c, key.Name)
	return nil
}

// CreateContainer implements Blobs.
func (l *LocalBlobs) CreateContainer(_ context.Context, name string, metadata []Property, now time.Time) (Container, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.containers[name] != nil {
		return Container{}, ErrExists
	}
	if err := l.reserve(blobCost(name, metadata), now); err != nil {
		return Container{}, err
	}
	c := newBlobContainer(Container{name, metadata, l.newTag(now), now})
	if err := l.keep.saveContainer(c); err != nil {
		l.used -= blobCost(name, metadata)
		return Container{}, err
	}
	l.containers[name] = c
	return c.Container, nil
}

func newBlobContainer(c Container) *blobContainer {
	return &blobContainer{Container: c, blobs: map[string]*committedBlob{}, staged: map[string]*stagedBlocks{}}
}

// Container implements Blobs.
func (l *LocalBlobs) Container(_ context.Context, name string) (Container, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.container(name, l.era)
	if err != nil {
		return Container{}, err
	}
	return c.Container, nil
}

// Containers implements Blobs.
func (l *LocalBlobs) Containers(context.Context) ([]Container, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Container
	for _, name := range slices.Sorted(maps.Keys(l.containers)) {
		list = append(list, l.containers[name].Container)
	}
	return list, nil
}

// DeleteContainer implements Blobs.
func (l *LocalBlobs) DeleteContainer(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.container(name, l.era)
	if err != nil {
		return err
	}
	return l.drop(c)
}

// drop removes a container and what is in it. The caller holds mu.
func (l *LocalBlobs) drop(c *blobContainer) error {
	for name, b := range c.blobs {
		if err := l.keep.forgetBlob(b.BlobKey); err != nil {
			return err
		}
		delete(c.blobs, name)
		l.dropBlob(b)
	}
	for name := range c.staged {
		l.dropStaged(c, name)
	}
	if err := l.keep.forgetContainer(c.Name); err != nil {
		return err
	}
	delete(l.containers, c.Name)
	l.used -= blobCost(c.Name, c.Metadata)
	return nil
}

// Reset implements Blobs. Readers go on.
func (l *LocalBlobs) Reset(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.era++
	for _, c := range l.containers {
		if err := l.drop(c); err != nil {
			return err
		}
	}
	return nil
}

// ListBlobs implements Blobs.
func (l *LocalBlobs) ListBlobs(_ context.Context, container string, q BlobQuery) (page BlobPage, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.container(container, l.era)
	if err != nil {
		return page, err
	}
	var names []string
	for name := range c.blobs {
		if strings.HasPrefix(name, q.Prefix) && name > q.After {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	found := 0
	for _, name := range names {
		shown, rolled := q.rollUp(name)
		if rolled && (shown <= q.After || found > 0 && len(page.Prefixes) > 0 && page.Prefixes[len(page.Prefixes)-1] == shown) {
			continue // it was on the page before, or is on this one
		}
		if found == q.Limit {
			page.Next = q.last(page)
			return page, nil
		}
		found++
		if rolled {
			page.Prefixes = append(page.Prefixes, shown)
			continue
		}
		page.Blobs = append(page.Blobs, c.blobs[name].Blob)
	}
	return page, nil
}

// rollUp returns what a name is shown as.
func (q *BlobQuery) rollUp(name string) (shown string, rolled bool) {
	if q.Delimiter == "" {
		return name, false
	}
	before, _, found := strings.Cut(name[len(q.Prefix):], q.Delimiter)
	if !found {
		return name, false
	}
	return q.Prefix + before + q.Delimiter, true
}

// last returns the last name of a page that is not empty.
func (q *BlobQuery) last(p BlobPage) string {
	last := ""
	if len(p.Blobs) > 0 {
		last = p.Blobs[len(p.Blobs)-1].Name
	}
	if len(p.Prefixes) > 0 {
		last = max(last, p.Prefixes[len(p.Prefixes)-1])
	}
	return last
}

// OpenBlob implements Blobs.
func (l *LocalBlobs) OpenBlob(_ context.Context, key BlobKey, offset, length int64) (Blob, io.ReadCloser, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, b, err := l.blob(key)
	if err != nil {
		return Blob{}, nil, err
	}
	r := &blobReader{blobs: l, left: min(length, max(b.Size-offset, 0))}
	for _, block := range b.blocks {
		block.refs++
		r.pieces = append(r.pieces, block.piece)
	}
	r.offset = offset
	return b.Blob, r, nil
}

// blobReader reads pieces one after the other. Only one goroutine uses it.
type blobReader struct {
	blobs  *LocalBlobs
	pieces []*piece // not read to their end
	offset int64    // in the first of them
	left   int64
	open   io.ReadCloser // what is being read; nil when none
}

// Read implements io.Reader.
func (r *blobReader) Read(b []byte) (int, error) {
	for {
		if r.left == 0 || len(r.pieces) == 0 {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
		if r.open == nil {
			continue
		}
		n, err := r.open.Read(b[:min(int64(len(b)), r.left)])
		r.left -= int64(n)
		if errors.Is(err, io.EOF) {
			err = r.shift()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// next opens the first piece, or leaves it out.
func (r *blobReader) next() (err error) {
	first := r.pieces[0]
	switch {
	case r.open != nil:
	case r.offset >= first.size:
		r.offset -= first.size
		return r.shift()
	default:
		r.open, err = first.open(r.offset, min(first.size-r.offset, r.left))
		r.offset = 0
	}
	return err
}

// shift is through with the first piece.
func (r *blobReader) shift() (err error) {
	if r.open != nil {
		err = r.open.Close()
		r.open = nil
	}
	r.blobs.mu.Lock()
	defer r.blobs.mu.Unlock()
	r.blobs.release(r.pieces[0])
	r.pieces = r.pieces[1:]
	return err
}

// Close implements io.Closer.
func (r *blobReader) Close() error {
	var err error
	for len(r.pieces) > 0 {
		err = cmp.Or(err, r.shift())
	}
	return err
}
