package blobapi

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/iolite-emulator/iolite/store"
)

// Limits of bodies and block ids (articles "Put Blob" and "Put Block").
const (
	maxPutBlob  = 5000 << 20
	maxPutBlock = 4000 << 20
	maxBlockID  = 64 // bytes before base64
)

// length returns the length of a body, which must be said before it.
func length(r *request, limit int64) (int64, error) {
	switch {
	case r.ContentLength < 0 || r.Header.Get("Content-Length") == "":
		return 0, refuse(missingContentLengthHeader, "")
	case r.ContentLength > limit:
		return 0, refuse(requestBodyTooLarge, "")
	}
	return r.ContentLength, nil
}

// putBlob is PUT: the whole blob at once.
func (s *Server) putBlob(w http.ResponseWriter, r *request) error {
	switch kind := r.Header.Get("x-ms-blob-type"); {
	case kind == "":
		return refuse(missingRequiredHeader, "x-ms-blob-type")
	case !strings.EqualFold(kind, "BlockBlob"):
		return refuse(notImplemented, "blobs of the kind "+kind)
	}
	size, err := length(r, maxPutBlob)
	if err != nil {
		return err
	}
	body, err := newChecked(r, true)
	if err != nil {
		return err
	}
	b, cond, err := newBlob(r, true)
	if err != nil {
		return err
	}
	if given := b.ContentMD5; given != nil && body.wantMD5 == nil {
		body.wantMD5 = given // article "Put Blob": it is checked, too
	}
	b.Size = size
	b, err = s.blobs.PutBlob(r.Context(), b, body, func(h *store.BlobHeaders) { h.ContentMD5 = body.md5.Sum(nil) }, cond, r.now)
	if err != nil {
		return overwriting(r, cond, err)
	}
	body.setChecksums(w.Header())
	return created(w, &b)
}

// newBlob is a blob as a request describes it, and when it may be written.
func newBlob(r *request, plain bool) (b store.Blob, c store.BlobCondition, err error) {
	b.BlobKey = r.target.key()
	if b.BlobHeaders, err = blobHeaders(r, plain); err != nil {
		return b, c, err
	}
	if b.Metadata, err = metadata(r); err != nil {
		return b, c, err
	}
	if c, err = condition(r); err != nil {
		return b, c, err
	}
	if !r.grant.mayOverwrite() {
		c.IfNoneMatch = "*"
	}
	return b, c, nil
}

// overwriting tells conditions apart that a store does not.
func overwriting(r *request, c store.BlobCondition, err error) error {
	switch {
	case !errors.Is(err, store.ErrConflict) || c.IfNoneMatch != "*":
		return notThere(err)
	case !r.grant.mayOverwrite():
		return refuse(unauthorizedBlobOverwrite, "")
	}
	return refuse(blobAlreadyExists, "")
}

func created(w http.ResponseWriter, b *store.Blob) error {
	h := w.Header()
	setTags(h, b.ETag, b.Modified)
	h["x-ms-request-server-encrypted"] = []string{"false"}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// blockID decodes the id of a block.
func blockID(text string) (string, error) {
	id, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(text, " ", "+")) // a client may forget to escape it
	if err != nil {
		return "", refuse(invalidBlockID, "")
	}
	if len(id) == 0 || len(id) > maxBlockID {
		return "", refuse(invalidQueryParameterValue, "blockid")
	}
	return string(id), nil
}

// putBlock is PUT ?comp=block&blockid=: a block that is not part of the blob yet.
func (s *Server) putBlock(w http.ResponseWriter, r *request) error {
	if !r.query.Has("blockid") {
		return refuse(missingRequiredQueryParameter, "blockid")
	}
	id, err := blockID(r.query.Get("blockid"))
	if err != nil {
		return err
	}
	if r.Header.Get("x-ms-lease-id") != "" {
		return refuse(leaseNotPresent, "")
	}
	size, err := length(r, maxPutBlock)
	if err != nil {
		return err
	}
	if size == 0 {
		return refuse(invalidHeaderValue, "Content-Length: a block is not empty")
	}
	body, err := newChecked(r, false)
	if err != nil {
		return err
	}
	if err := s.blobs.PutBlock(r.Context(), r.target.key(), store.Block{ID: id, Size: size}, body, r.now); err != nil {
		return notThere(err)
	}
	h := w.Header()
	body.setChecksums(h)
	h["x-ms-request-server-encrypted"] = []string{"false"}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// putMetadata is PUT ?comp=metadata: other metadata instead of what is there.
func (s *Server) putMetadata(w http.ResponseWriter, r *request) error {
	list, err := metadata(r)
	if err != nil {
		return err
	}
	return s.update(w, r, nil, &list)
}

// putProperties is PUT ?comp=properties: other headers instead of those that are there.
func (s *Server) putProperties(w http.ResponseWriter, r *request) error {
	h, err := blobHeaders(r, false)
	if err != nil {
		return err
	}
	return s.update(w, r, &h, nil)
}

func (s *Server) update(w http.ResponseWriter, r *request, h *store.BlobHeaders, list *[]store.Property) error {
	c, err := condition(r)
	if err != nil {
		return err
	}
	b, err := s.blobs.UpdateBlob(r.Context(), r.target.key(), h, list, c, r.now)
	if err != nil {
		return notThere(err)
	}
	setTags(w.Header(), b.ETag, b.Modified)
	w.WriteHeader(http.StatusOK)
	return nil
}
