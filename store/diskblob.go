package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gofrs/flock"
)

// diskKeeper keeps each piece in a file of its own, and what the index knows of a container or blob in a small file beside them:
//
//	pieces/{random}             the bytes
//	containers/{name}.json      a container
//	blobs/{hash of key}.json    a blob and the names of its pieces
//	lock                        held by the process that uses the directory
//
// A blob is replaced by renaming its file. Nothing is synced: the files outlive the process, not a crash of the machine.
type diskKeeper struct {
	dir  string
	lock *flock.Flock
}

const (
	lockFile      = "lock"
	piecesDir     = "pieces"
	containersDir = "containers"
	blobsDir      = "blobs"
)

// savedBlob is the file of a blob.
type savedBlob struct {
	Blob   Blob
	Blocks []savedBlock
}

type savedBlock struct {
	ID    []byte // a block id may be any bytes
	Piece string
	Size  int64
}

// OpenDiskBlobs keeps at most limit bytes in files below dir, which it makes if need be. What was kept there is there again, but for blocks
// that were never committed. A directory that somebody else uses is refused, until that one closes it.
func OpenDiskBlobs(dir string, limit int64) (*LocalBlobs, error) {
	k := &diskKeeper{dir, flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600))}
	for _, d := range []string{piecesDir, containersDir, blobsDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	switch locked, err := k.lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	case !locked:
		return nil, fmt.Errorf("%s is used by another emulator", dir)
	}
	l := newLocalBlobs(k, limit)
	if err := k.load(l); err != nil {
		return nil, errors.Join(fmt.Errorf("read the blobs of %s: %w", dir, err), k.close())
	}
	return l, nil
}

func (k *diskKeeper) close() error { return k.lock.Close() }

// load fills an empty index, and removes pieces that nothing names.
func (k *diskKeeper) load(l *LocalBlobs) error {
	err := k.each(containersDir, func(text []byte) error {
		var c Container
		if err := json.Unmarshal(text, &c); err != nil {
			return err
		}
		l.containers[c.Name] = newBlobContainer(c)
		l.used += blobCost(c.Name, c.Metadata)
		return nil
	})
	if err != nil {
		return err
	}
	pieces := map[string]*piece{}
	if err := k.each(blobsDir, func(text []byte) error { return k.loadBlob(l, pieces, text) }); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(k.dir, piecesDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if pieces[e.Name()] == nil {
			err = errors.Join(err, os.Remove(filepath.Join(k.dir, piecesDir, e.Name())))
		}
	}
	return err
}

// each calls f with the text of every file that was saved in a directory.
func (k *diskKeeper) each(dir string, f func(text []byte) error) error {
	entries, err := os.ReadDir(filepath.Join(k.dir, dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(k.dir, dir, e.Name())
		if !strings.HasSuffix(path, ".json") { // half written when the process ended
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		text, err := os.ReadFile(path)
		if err == nil {
			err = f(text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func (k *diskKeeper) loadBlob(l *LocalBlobs, pieces map[string]*piece, text []byte) error {
	var saved savedBlob
	if err := json.Unmarshal(text, &saved); err != nil {
		return err
	}
	c := l.containers[saved.Blob.Container]
	if c == nil {
		return fmt.Errorf("there is no container %q", saved.Blob.Container)
	}
	b := &committedBlob{Blob: saved.Blob}
	for _, block := range saved.Blocks {
		p := pieces[block.Piece]
		if p == nil {
			info, err := os.Stat(k.piece(block.Piece))
			if err != nil {
				return err
			}
			if info.Size() != block.Size {
				return fmt.Errorf("piece %s has %d bytes, not %d", block.Piece, info.Size(), block.Size)
			}
			p = &piece{pieceBytes: &diskPiece{path: k.piece(block.Piece)}, size: block.Size}
			pieces[block.Piece] = p
			l.used += p.size + blockOverhead
		}
		p.refs++
		b.blocks = append(b.blocks, committedBlock{string(block.ID), p})
	}
	c.blobs[b.Name] = b
	l.used += blobCost(b.Name, b.Metadata)
	return nil
}

func (k *diskKeeper) piece(name string) string {
	return filepath.Join(k.dir, piecesDir, filepath.Base(name))
}

func (k *diskKeeper) create() (pieceWriter, error) {
	f, err := os.OpenFile(k.piece(strings.ToLower(rand.Text())), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &diskWriter{f}, nil
}

// save replaces a file as a whole.
func save(path string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (k *diskKeeper) containerFile(name string) string {
	return filepath.Join(k.dir, containersDir, hash(name)+".json")
}

func (k *diskKeeper) blobFile(key BlobKey) string {
	return filepath.Join(k.dir, blobsDir, hash(key.Container+"/"+key.Name)+".json")
}

// hash makes a file name of any name.
func hash(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func (k *diskKeeper) saveContainer(c *blobContainer) error {
	return save(k.containerFile(c.Name), c.Container)
}

func (k *diskKeeper) forgetContainer(name string) error { return forget(k.containerFile(name)) }

// forget removes a file, which somebody may have removed before.
func forget(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (k *diskKeeper) saveBlob(b *committedBlob) error {
	saved := savedBlob{Blob: b.Blob}
	for _, block := range b.blocks {
		saved.Blocks = append(saved.Blocks, savedBlock{[]byte(block.id), block.name(), block.size})
	}
	return save(k.blobFile(b.BlobKey), saved)
}

func (k *diskKeeper) forgetBlob(key BlobKey) error { return forget(k.blobFile(key)) }

// diskWriter writes a piece.
type diskWriter struct{ file *os.File }

// copyBuffers are lent to writers.
var copyBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

func (w *diskWriter) fill(body io.Reader, n int) error {
	buffer := copyBuffers.Get().(*[256 << 10]byte)
	defer copyBuffers.Put(buffer)
	for n > 0 {
		part := buffer[:min(n, len(buffer))]
		if _, err := io.ReadFull(body, part); err != nil {
			return err
		}
		if _, err := w.file.Write(part); err != nil {
			return err
		}
		n -= len(part)
	}
	return nil
}

func (w *diskWriter) finish() (pieceBytes, error) {
	p := &diskPiece{path: w.file.Name()}
	if err := w.file.Close(); err != nil {
		p.remove()
		return nil, err
	}
	return p, nil
}

func (w *diskWriter) abort() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name())
}

// diskPiece is a file.
type diskPiece struct{ path string }

func (p *diskPiece) name() string { return filepath.Base(p.path) }
func (p *diskPiece) remove()      { _ = os.Remove(p.path) } // else the next start does

func (p *diskPiece) open(offset, length int64) (io.ReadCloser, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, offset, length), f}, nil
}
