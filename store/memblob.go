package store

import "io"

// memKeeper keeps pieces in memory.
type memKeeper struct{}

func (memKeeper) create() (pieceWriter, error)       { return &memPiece{}, nil }
func (memKeeper) saveContainer(*blobContainer) error { return nil }
func (memKeeper) forgetContainer(string) error       { return nil }
func (memKeeper) saveBlob(*committedBlob) error      { return nil }
func (memKeeper) forgetBlob(BlobKey) error           { return nil }
func (memKeeper) close() error                       { return nil }

// memPiece is chunks of pieceChunk bytes, the last one shorter.
type memPiece struct{ chunks [][]byte }

func (p *memPiece) fill(body io.Reader, n int) error {
	chunk := make([]byte, n)
	if _, err := io.ReadFull(body, chunk); err != nil {
		return err
	}
	p.chunks = append(p.chunks, chunk)
	return nil
}

func (p *memPiece) finish() (pieceBytes, error) { return p, nil }
func (p *memPiece) abort()                      {}
func (p *memPiece) remove()                     {} // readers hold on to the chunks
func (p *memPiece) name() string                { return "" }

func (p *memPiece) open(offset, length int64) (io.ReadCloser, error) {
	r := &memReader{chunks: p.chunks[min(offset/pieceChunk, int64(len(p.chunks))):], left: length}
	if len(r.chunks) > 0 {
		r.at = int(offset % pieceChunk)
	}
	return r, nil
}

// memReader reads chunks.
type memReader struct {
	chunks [][]byte
	at     int // in the first of them
	left   int64
}

// Read implements io.Reader.
func (r *memReader) Read(b []byte) (int, error) {
	for r.left > 0 && len(r.chunks) > 0 {
		if r.at >= len(r.chunks[0]) {
			r.chunks, r.at = r.chunks[1:], 0
			continue
		}
		n := copy(b[:min(int64(len(b)), r.left)], r.chunks[0][r.at:])
		r.at, r.left = r.at+n, r.left-int64(n)
		return n, nil
	}
	return 0, io.EOF
}

// Close implements io.Closer.
func (r *memReader) Close() error { return nil }
