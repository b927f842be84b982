// Package blob reads and writes the blobs of a container that a SAS URI gives access to, over HTTP or HTTPS, as Azure Blob Storage and
// Azurite serve them (articles "Put Blob", "Put Block", "Put Block List" and "Get Blob" of the Blob service REST API), and makes such
// URIs for a storage account.
package blob

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	version       = "2021-08-06" // of the REST API
	blockSize     = 8 << 20      // bytes; a larger blob is put in blocks
	maxBlocks     = 50_000
	maxErrorBody  = 4 << 10 // bytes that are read of an error
	headerTimeout = 30 * time.Second
	putTimeout    = 5 * time.Minute // of one request
)

// Client is an HTTP client of containers. It keeps no connections, follows no redirects, and its errors never hold a SAS.
type Client struct{ http func() *http.Client }

// ErrExists says that PutNew found a blob of the name.
var ErrExists = errors.New("there is a blob of that name already")

// Refusal is the answer of a storage that did not do what it was asked to.
type Refusal struct {
	Status int    // of HTTP
	Code   string // x-ms-error-code, empty when there was none
}

// Error implements error.
func (r *Refusal) Error() string {
	text := fmt.Sprintf("the storage answered %d %s", r.Status, http.StatusText(r.Status))
	if r.Code != "" {
		text += " (" + r.Code + ")"
	}
	return text
}

// New returns a Client that trusts the system's certificate authorities.
func New() *Client { return NewTrusting(nil) }

// NewTrusting returns a Client that trusts the roots alone; nil for the system's. They are asked for when the first request is made: reading the
// system's takes longer than everything else that an emulator does to start.
func NewTrusting(roots func() *x509.CertPool) *Client {
	return &Client{sync.OnceValue(func() *http.Client {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if roots != nil {
			config.RootCAs = roots()
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig, transport.DisableKeepAlives, transport.ResponseHeaderTimeout = config, true, headerTimeout
		return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	})}
}

// Get opens a blob. size is -1 when it is not known. Whoever calls closes the body; reading it ends with ctx.
func (c *Client) Get(ctx context.Context, container, name string) (body io.ReadCloser, size int64, err error) {
	resp, err := c.do(ctx, http.MethodGet, container, name, nil, nil, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("get blob %s: %w", name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("get blob %s: %w", name, refusal(resp))
	}
	return resp.Body, resp.ContentLength, nil
}

// Put makes or replaces a block blob. It holds no more than 8 MiB of it in memory.
func (c *Client) Put(ctx context.Context, container, name string, body io.Reader) error {
	if err := c.put(ctx, container, name, http.Header{}, body); err != nil {
		return fmt.Errorf("put blob %s: %w", name, err)
	}
	return nil
}

// PutNew makes a block blob as Put does, unless there is one of the name: ErrExists.
func (c *Client) PutNew(ctx context.Context, container, name string, body io.Reader) error {
	err := c.put(ctx, container, name, http.Header{"If-None-Match": {"*"}}, body)
	if refused := new(Refusal); errors.As(err, &refused) && (refused.Code == "BlobAlreadyExists" || refused.Status == http.StatusPreconditionFailed) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("put blob %s: %w", name, err)
	}
	return nil
}

// put sends the header with the request that makes the blob.
func (c *Client) put(ctx context.Context, container, name string, header http.Header, body io.Reader) error {
	block := make([]byte, blockSize)
	n, err := io.ReadFull(body, block)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		header.Set("X-Ms-Blob-Type", "BlockBlob")
		return c.send(ctx, container, name, nil, header, block[:n])
	}
	var ids []string
	for ; n > 0; n, err = io.ReadFull(body, block) {
		if len(ids) == maxBlocks {
			return fmt.Errorf("it has more than %d blocks", maxBlocks)
		}
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", len(ids)))
		if err := c.send(ctx, container, name, url.Values{"comp": {"block"}, "blockid": {id}}, nil, block[:n]); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	list, err := xml.Marshal(blockList{Latest: ids})
	if err != nil {
		return err
	}
	return c.send(ctx, container, name, url.Values{"comp": {"blocklist"}}, header, append([]byte(xml.Header), list...))
}

type blockList struct {
	XMLName xml.Name `xml:"BlockList"`
	Latest  []string
}

// send puts one piece.
func (c *Client) send(ctx context.Context, container, name string, query url.Values, header http.Header, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	resp, err := c.do(ctx, http.MethodPut, container, name, query, header, body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated {
		return refusal(resp)
	}
	return resp.Body.Close()
}

func (c *Client) do(ctx context.Context, method, container, name string, query url.Values, header http.Header, body []byte) (*http.Response, error) {
	u, err := blobURL(container, name, query)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	req.Header.Set("X-Ms-Version", version)
	resp, err := c.http().Do(req)
	return resp, withoutURL(err)
}

// blobURL returns the URL of a blob, with the container's SAS.
func blobURL(container, name string, query url.Values) (string, error) {
	u, err := url.Parse(container)
	if err != nil {
		return "", errors.New("the container's URI cannot be read")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", errors.New("the container's URI is not one of http or https")
	}
	u = u.JoinPath(strings.Split(name, "/")...)
	if len(query) > 0 {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+query.Encode(), "&")
	}
	return u.String(), nil
}

// withoutURL takes the URL, which holds a SAS, out of an error.
func withoutURL(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

// refusal is the error of a response, which it closes.
func refusal(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody))
	return &Refusal{Status: resp.StatusCode, Code: resp.Header.Get("X-Ms-Error-Code")}
}
