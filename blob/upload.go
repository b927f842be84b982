package blob

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Info is what is known of a blob.
type Info struct {
	Size     int64 // bytes
	Modified time.Time
}

// clockSkew is how long a signature for a request of our own lasts: clocks differ.
const clockSkew = 15 * time.Minute

// ForDevices refuses an account that uploads of devices cannot go to: they need a key that signs, and speak nothing but https.
func (a Account) ForDevices() error {
	switch {
	case a.key == nil:
		return errors.New("the storage connection string has no AccountKey, which signs what devices are given")
	case a.endpoint.Scheme != "https":
		return fmt.Errorf("devices speak https only, and %s is not (start Azurite with --cert and --key, and name its BlobEndpoint)", a.endpoint)
	}
	return nil
}

// Key returns the account's key.
func (a Account) Key() SharedKey { return SharedKey{a.name, a.key} }

// Host is what stands between https:// and the container in the URIs of blobs: a host, a port that is not the usual one, and the account
// where its endpoint is a path (Azurite).
func (a Account) Host() string { return a.endpoint.Host + a.endpoint.EscapedPath() }

// URI returns the URI of a container, or of a blob in it, without a signature.
func (a Account) URI(r Resource) string {
	u := *a.endpoint
	u.Path, u.RawPath = u.Path+"/"+r.Container, ""
	if r.Blob != "" {
		u.Path += "/" + r.Blob
	}
	return u.String()
}

// CreateContainer makes a container unless it is there.
func (c *Client) CreateContainer(ctx context.Context, a Account, container string, now time.Time) error {
	uri := a.URI(Resource{Container: container}) + "?restype=container&" + a.Key().SignAccount("c", "c", now.Add(clockSkew))
	resp, err := c.bare(ctx, http.MethodPut, uri)
	if err != nil {
		return fmt.Errorf("create container %s: %w", container, err)
	}
	if resp.StatusCode == http.StatusCreated || resp.StatusCode == http.StatusConflict && resp.Header.Get("X-Ms-Error-Code") == "ContainerAlreadyExists" {
		return resp.Body.Close()
	}
	return fmt.Errorf("create container %s: %w", container, refusal(resp))
}

// Stat looks at a blob; found is false when there is none.
func (c *Client) Stat(ctx context.Context, a Account, r Resource, now time.Time) (info Info, found bool, err error) {
	resp, err := c.bare(ctx, http.MethodHead, a.URI(r)+a.Key().SignBlob(r, "r", now.Add(clockSkew)))
	if err != nil {
		return info, false, fmt.Errorf("look at blob %s: %w", r.Blob, err)
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return info, false, resp.Body.Close()
	case http.StatusOK:
		info.Size, _ = strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64)
		info.Modified, _ = http.ParseTime(resp.Header.Get("Last-Modified")) // the zero time when nothing was said
		return info, true, resp.Body.Close()
	}
	return info, false, fmt.Errorf("look at blob %s: %w", r.Blob, refusal(resp))
}

// bare sends a request without a body.
func (c *Client) bare(ctx context.Context, method, uri string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, headerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, uri, nil)
	if err != nil {
		return nil, withoutURL(err)
	}
	req.Header.Set("X-Ms-Version", version)
	resp, err := c.http().Do(req)
	return resp, withoutURL(err)
}

// IsContainerName reports whether a container can be called so: 3 to 63 lower-case letters, digits and single hyphens inside (article "Naming and
// referencing containers, blobs, and metadata").
func IsContainerName(name string) bool {
	if len(name) < 3 || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' || strings.Contains(name, "--") {
		return false
	}
	for i := range len(name) {
		if c := name[i]; ('a' > c || c > 'z') && ('0' > c || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
