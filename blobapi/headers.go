package blobapi

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/store"
)

// defaultVersion is the version of the API for who does not name one.
const defaultVersion = "2021-08-06"

// maxMetadata bounds names and values together, in bytes (article "Setting and retrieving properties and metadata").
const maxMetadata = 8 << 10

// metadataPrefix begins the headers that carry metadata.
const metadataPrefix = "x-ms-meta-"

// requestIDHeader names an answer. It goes out as it is written here.
const requestIDHeader = "x-ms-request-id"

// begin sets the headers that every answer has.
func begin(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h[requestIDHeader] = []string{requestID()}
	version := r.Header.Get("x-ms-version")
	if version == "" {
		version = defaultVersion
	}
	h["x-ms-version"] = []string{version}
	if id := r.Header.Get("x-ms-client-request-id"); id != "" && len(id) <= 1024 {
		h["x-ms-client-request-id"] = []string{id}
	}
}

// requestID identifies, it does not protect.
func requestID() string {
	hi, lo := rand.Uint64(), rand.Uint64()
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", uint32(hi>>32), uint16(hi>>16), uint16(hi), uint16(lo>>48), lo&(1<<48-1))
}

// setTags sends the headers that tell versions apart.
func setTags(h http.Header, etag string, modified time.Time) {
	h["ETag"] = []string{`"` + etag + `"`}
	h.Set("Last-Modified", modified.UTC().Format(http.TimeFormat))
}

// blobHeaders takes the headers that a blob is to come with: x-ms-blob-content-type and so on, and for Put Blob Content-Type and so on, too.
func blobHeaders(r *request, plain bool) (h store.BlobHeaders, err error) {
	value := func(name string) string {
		if v := r.Header.Get("x-ms-blob-" + name); v != "" || !plain {
			return v
		}
		return r.Header.Get(name)
	}
	h = store.BlobHeaders{
		ContentType: value("content-type"), ContentEncoding: value("content-encoding"), ContentLanguage: value("content-language"),
		ContentDisposition: r.Header.Get("x-ms-blob-content-disposition"), CacheControl: value("cache-control"),
	}
	if h.ContentType == "" {
		h.ContentType = "application/octet-stream"
	}
	h.ContentMD5, err = digest(r, "x-ms-blob-content-md5", 16)
	return h, err
}

// digest takes a header that holds n bytes in base64, nil when it is not there.
func digest(r *request, name string, n int) ([]byte, error) {
	text := r.Header.Get(name)
	if text == "" {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != n {
		if n == 16 {
			return nil, refuse(invalidMD5, "")
		}
		return nil, refuse(invalidHeaderValue, name)
	}
	return b, nil
}

// metadata takes the metadata of a request, in the order of its names, which are in lower case.
func metadata(r *request) ([]store.Property, error) {
	var list []store.Property
	size := 0
	for name, values := range r.Header {
		if key, ok := strings.CutPrefix(strings.ToLower(name), metadataPrefix); ok && key != "" {
			if !isMetadataName(key) {
				return nil, refuse(invalidMetadata, "")
			}
			p := store.Property{Name: key, Value: strings.Join(values, ",")}
			size += len(p.Name) + len(p.Value)
			list = append(list, p)
		}
	}
	if size > maxMetadata {
		return nil, refuse(metadataTooLarge, "")
	}
	slices.SortFunc(list, func(a, b store.Property) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// isMetadataName reports whether a name follows the rules for C# identifiers, as metadata must, in ASCII.
func isMetadataName(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// condition takes the conditional headers.
func condition(r *request) (c store.BlobCondition, err error) {
	c.IfMatch, c.IfNoneMatch = etag(r.Header.Get("If-Match")), etag(r.Header.Get("If-None-Match"))
	for name, t := range map[string]*time.Time{"If-Modified-Since": &c.IfModifiedSince, "If-Unmodified-Since": &c.IfUnmodifiedSince} {
		if text := r.Header.Get(name); text != "" {
			if *t, err = http.ParseTime(text); err != nil {
				return c, refuse(invalidHeaderValue, name)
			}
		}
	}
	if r.Header.Get("x-ms-lease-id") != "" {
		return c, refuse(leaseNotPresent, "")
	}
	return c, nil
}

func etag(text string) string { return strings.Trim(strings.TrimPrefix(text, "W/"), `"`) }

// setBlobHeaders sends what a blob comes with.
func setBlobHeaders(h http.Header, b *store.Blob) {
	setTags(h, b.ETag, b.Modified)
	for name, value := range map[string]string{
		"Content-Type": b.ContentType, "Content-Encoding": b.ContentEncoding, "Content-Language": b.ContentLanguage,
		"Content-Disposition": b.ContentDisposition, "Cache-Control": b.CacheControl,
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	h.Set("Accept-Ranges", "bytes")
	for name, value := range map[string]string{
		"x-ms-blob-type": "BlockBlob", "x-ms-creation-time": b.Created.UTC().Format(http.TimeFormat), "x-ms-lease-state": "available",
		"x-ms-lease-status": "unlocked", "x-ms-server-encrypted": "false",
	} {
		h[name] = []string{value}
	}
	setMetadata(h, b.Metadata)
}

func setMetadata(h http.Header, list []store.Property) {
	for _, p := range list {
		h[metadataPrefix+p.Name] = []string{p.Value}
	}
}
