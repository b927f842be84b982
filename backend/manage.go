package backend

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Twin returns the twin of a device or module as JSON.
func (b *Backend) Twin(ctx context.Context, id string) (json.RawMessage, error) {
	return b.call(ctx, http.MethodGet, path("/twins/", id), nil, nil)
}

// PatchTwin merges {"tags":{},"properties":{"desired":{}}} into a twin and returns what it is then. ifMatch is an etag, empty for any.
func (b *Backend) PatchTwin(ctx context.Context, id string, patch json.RawMessage, ifMatch string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	request, err := b.request(ctx, http.MethodPatch, path("/twins/", id), patch)
	if err != nil {
		return nil, err
	}
	if ifMatch != "" {
		request.Header.Set("If-Match", `"`+ifMatch+`"`)
	}
	answer, _, err := b.do(request, nil)
	return answer, err
}

// Method is a direct method to be called.
type Method struct {
	Name            string          `json:"methodName"`
	Payload         json.RawMessage `json:"payload,omitempty"`
	ResponseTimeout int             `json:"responseTimeoutInSeconds,omitempty"`
	ConnectTimeout  int             `json:"connectTimeoutInSeconds,omitempty"`
}

// Invoke calls a direct method on a device or module and returns {"status":200,"payload":{}}.
func (b *Backend) Invoke(ctx context.Context, id string, m Method) (json.RawMessage, error) {
	patience := time.Duration(m.ResponseTimeout+m.ConnectTimeout)*time.Second + restTimeout
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := b.request(ctx, http.MethodPost, path("/twins/", id)+"/methods", m)
	if err != nil {
		return nil, err
	}
	answer, _, err := b.do(request, nil)
	return answer, err
}

// Query asks in IoT Hub's query language and hands every row to each, page by page.
func (b *Backend) Query(ctx context.Context, text string, each func(row json.RawMessage) error) error {
	for continuation := ""; ; {
		rows, next, err := b.page(ctx, text, continuation)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := each(row); err != nil {
				return err
			}
		}
		if continuation = next; continuation == "" {
			return nil
		}
	}
}

// page asks for one page of a query's answer; next is empty on the last one.
func (b *Backend) page(ctx context.Context, text, continuation string) (rows []json.RawMessage, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	request, err := b.request(ctx, http.MethodPost, "/devices/query", map[string]string{"query": text})
	if err != nil {
		return nil, "", err
	}
	if continuation != "" {
		request.Header.Set("x-ms-continuation", continuation)
	}
	_, header, err := b.do(request, &rows)
	return rows, header.Get("x-ms-continuation"), err
}
