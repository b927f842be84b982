package blobapi

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/iolite-emulator/iolite/blob"
	"github.com/iolite-emulator/iolite/store"
)

// level is what a path leads to.
type level uint8

const (
	atAccount level = iota
	atContainer
	atBlob
)

// String implements fmt.Stringer.
func (l level) String() string { return [...]string{"account", "container", "blob"}[l] }

// target is what a request is about.
type target struct {
	level           level
	container, blob string
}

func (t target) key() store.BlobKey      { return store.BlobKey{Container: t.container, Name: t.blob} }
func (t target) resource() blob.Resource { return blob.Resource{Container: t.container, Blob: t.blob} }

// maxBlobName is in characters (article "Naming and referencing containers, blobs, and metadata").
const maxBlobName = 1024

// parseTarget takes an escaped path apart: /{account}[/{container}[/{blob}]] as with Azurite, or /{container}/{blob} of the one container
// that is at the root. A blob's name may have slashes, escaped (Java) or not.
func (s *Server) parseTarget(path string) (target, error) {
	path = strings.TrimPrefix(path, "/")
	if first, rest, _ := strings.Cut(path, "/"); first == s.key.Account {
		path = rest
	}
	container, rest, _ := strings.Cut(path, "/")
	switch {
	case container == "":
		return target{}, nil
	case !blob.IsContainerName(container):
		return target{}, refuse(invalidResourceName, "")
	case rest == "":
		return target{level: atContainer, container: container}, nil
	}
	name, err := url.PathUnescape(rest)
	if err != nil {
		return target{}, refuse(invalidURI, "")
	}
	if !isBlobName(name) {
		return target{}, refuse(invalidResourceName, "")
	}
	return target{atBlob, container, name}, nil
}

// isBlobName reports whether a name can be that of a blob, and stand in XML 1.0.
func isBlobName(name string) bool {
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxBlobName {
		return false
	}
	for _, c := range name {
		if c < ' ' || c == 0xfffe || c == 0xffff {
			return false
		}
	}
	return true
}
