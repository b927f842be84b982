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

// Limits of names (article "Naming and referencing containers, blobs, and metadata").
const (
	minContainer = 3
	maxContainer = 63
	maxBlobName  = 1024 // characters
)

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
	case !isContainer(container):
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

// isContainer reports whether a name is one of lower-case letters, digits and single hyphens inside.
func isContainer(name string) bool {
	if len(name) < minContainer || len(name) > maxContainer || name[0] == '-' || name[len(name)-1] == '-' || strings.Contains(name, "--") {
		return false
	}
	for i := range len(name) {
		if c := name[i]; ('a' > c || c > 'z') && ('0' > c || c > '9') && c != '-' {
			return false
		}
	}
	return true
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
