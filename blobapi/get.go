package blobapi

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the storage protocol's checksum
	"encoding/base64"
	"fmt"
	"hash/crc64"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/store"
)

// maxRangeChecksum bounds the range whose checksum may be asked for, in bytes (article "Get Blob").
const maxRangeChecksum = 4 << 20

// byteRange is a part of a blob.
type byteRange struct {
	first, last int64 // last is -1 for the end
}

// parseRange takes bytes=first-last and bytes=first-; ok is false for any other form.
func parseRange(text string) (r byteRange, ok bool) {
	text, ok = strings.CutPrefix(text, "bytes=")
	first, last, hyphen := strings.Cut(text, "-")
	if !ok || !hyphen || !isNumber(first) || last != "" && !isNumber(last) {
		return byteRange{}, false
	}
	r.last = -1
	r.first, ok = number(first)
	if last != "" && ok {
		r.last, ok = number(last)
	}
	if !ok || last != "" && r.first > r.last {
		return byteRange{}, false
	}
	return r, true
}

func number(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

func isNumber(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }

// wantedRange returns the part of a blob that a request is for; ok is false for all of it. x-ms-range goes before Range, which is not looked
// at when it is of a form that is not known (RFC 9110 14.2).
func wantedRange(r *request) (part byteRange, ok bool, err error) {
	if text := r.Header.Get("x-ms-range"); text != "" {
		if part, ok = parseRange(text); !ok {
			return part, false, refuse(invalidHeaderValue, "x-ms-range")
		}
		return part, true, nil
	}
	part, ok = parseRange(r.Header.Get("Range"))
	return part, ok, nil
}

// getBlob is GET: the blob, or a part of it.
func (s *Server) getBlob(w http.ResponseWriter, r *request) error {
	part, isPart, err := wantedRange(r)
	if err != nil {
		return err
	}
	length := int64(math.MaxInt64)
	if isPart && part.last >= 0 {
		length = min(part.last, math.MaxInt64-1) - part.first + 1
	}
	b, body, err := s.blobs.OpenBlob(r.Context(), r.target.key(), part.first, length)
	if err != nil {
		return notThere(err)
	}
	defer func() { _ = body.Close() }()
	if done, err := unmodified(w, r, &b); done || err != nil {
		return err
	}
	length = min(length, b.Size-part.first)
	if isPart && length <= 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", b.Size))
		return refuse(invalidRange, "")
	}
	text, err := checksumOf(w, r, body, isPart, length)
	if err != nil {
		return err
	}
	h := w.Header()
	setBlobHeaders(h, &b)
	setMD5(h, &b, isPart)
	overrideHeaders(h, r)
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	status := http.StatusOK
	if isPart {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.first, part.first+length-1, b.Size))
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
	if _, err := io.Copy(patientAnswer(w), text); err != nil {
		s.log.Debug("a blob was not read to its end", "path", r.URL.EscapedPath(), "error", err)
		panic(http.ErrAbortHandler) // the client must not take what came for all
	}
	return nil
}

// checksumOf adds the checksum of a part if it is asked for, and returns what to send.
func checksumOf(w http.ResponseWriter, r *request, body io.Reader, isPart bool, length int64) (io.Reader, error) {
	wantsMD5 := strings.EqualFold(r.Header.Get("x-ms-range-get-content-md5"), "true")
	wantsCRC := strings.EqualFold(r.Header.Get("x-ms-range-get-content-crc64"), "true")
	switch {
	case !wantsMD5 && !wantsCRC:
		return body, nil
	case wantsMD5 && wantsCRC || !isPart:
		return nil, refuse(invalidHeaderValue, "x-ms-range-get-content-md5, x-ms-range-get-content-crc64")
	case length > maxRangeChecksum:
		return nil, refuse(outOfRangeInput, "the checksum of a range of more than 4 MiB")
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	if wantsMD5 {
		sum := md5.Sum(text) //nolint:gosec // see the import
		w.Header()[md5Header] = []string{base64.StdEncoding.EncodeToString(sum[:])}
	} else {
		c := checked{crc: crc64.New(crcTable())}
		_, _ = c.crc.Write(text)
		c.setChecksums(w.Header())
	}
	return bytes.NewReader(text), nil
}

// setMD5 sends the MD5 of the whole blob, under another name when a part is sent.
func setMD5(h http.Header, b *store.Blob, isPart bool) {
	if b.ContentMD5 == nil {
		return
	}
	name := md5Header
	if isPart {
		name = "x-ms-blob-content-md5"
	}
	h[name] = []string{base64.StdEncoding.EncodeToString(b.ContentMD5)}
}

// overrideHeaders sends the headers that a SAS asks for.
func overrideHeaders(h http.Header, r *request) {
	for param, name := range map[string]string{
		"rscc": "Cache-Control", "rscd": "Content-Disposition", "rsce": "Content-Encoding", "rscl": "Content-Language", "rsct": "Content-Type",
	} {
		if v := r.query.Get(param); v != "" && !r.grant.owner {
			h.Set(name, v)
		}
	}
}

// unmodified answers 304 or refuses, as the conditions of a request want it.
func unmodified(w http.ResponseWriter, r *request, b *store.Blob) (done bool, err error) {
	c, err := condition(r)
	if err != nil {
		return false, err
	}
	must := store.BlobCondition{IfMatch: c.IfMatch, IfUnmodifiedSince: c.IfUnmodifiedSince}
	switch {
	case !must.Met(b):
		return false, refuse(conditionNotMet, "")
	case c.Met(b):
		return false, nil
	}
	setTags(w.Header(), b.ETag, b.Modified)
	w.Header()["x-ms-error-code"] = []string{string(conditionNotMet)}
	w.WriteHeader(http.StatusNotModified)
	return true, nil
}

// headBlob is HEAD: what GET sends before the blob.
func (s *Server) headBlob(w http.ResponseWriter, r *request) error {
	b, err := s.blobs.Blob(r.Context(), r.target.key())
	if err != nil {
		return notThere(err)
	}
	if done, err := unmodified(w, r, &b); done || err != nil {
		return err
	}
	h := w.Header()
	setBlobHeaders(h, &b)
	setMD5(h, &b, false)
	overrideHeaders(h, r)
	h["x-ms-access-tier"], h["x-ms-access-tier-inferred"] = []string{"Hot"}, []string{"true"}
	h.Set("Content-Length", strconv.FormatInt(b.Size, 10))
	w.WriteHeader(http.StatusOK)
	return nil
}

// headBlobMetadata is GET and HEAD ?comp=metadata: the metadata alone.
func (s *Server) headBlobMetadata(w http.ResponseWriter, r *request) error {
	b, err := s.blobs.Blob(r.Context(), r.target.key())
	if err != nil {
		return notThere(err)
	}
	if done, err := unmodified(w, r, &b); done || err != nil {
		return err
	}
	setTags(w.Header(), b.ETag, b.Modified)
	setMetadata(w.Header(), b.Metadata)
	w.WriteHeader(http.StatusOK)
	return nil
}

// deleteBlob is DELETE.
func (s *Server) deleteBlob(w http.ResponseWriter, r *request) error {
	c, err := condition(r)
	if err != nil {
		return err
	}
	if err := s.blobs.DeleteBlob(r.Context(), r.target.key(), c); err != nil {
		return notThere(err)
	}
	w.Header()["x-ms-delete-type-permanent"] = []string{"true"}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
