// Package blobapi is a small Azure Blob Storage on the HTTPS door, for file uploads: block blobs in the containers of one account, as far as
// the storage SDKs need it (Blob service REST API). It is a head: the blobs are a store's, the keys and signatures those of package blob.
package blobapi

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/blob"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// Config configures a Server. Every field is required.
type Config struct {
	Blobs     store.Blobs
	Key       blob.SharedKey // of the one account
	Container string         // that is found at the root, too, as https://{host}/{container}/{blob}
	Clock     *clock.Clock
	Logger    *slog.Logger
}

// Server answers requests for blobs. Its methods may be called from any goroutine.
type Server struct {
	blobs     store.Blobs
	key       blob.SharedKey
	container string
	clock     *clock.Clock
	log       *slog.Logger
}

// New returns a server.
func New(cfg Config) *Server {
	return &Server{cfg.Blobs, cfg.Key, cfg.Container, cfg.Clock, cfg.Logger}
}

// Owns reports whether a request is one for blobs: its path begins with the account or the container.
func (s *Server) Owns(r *http.Request) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	return first == s.container || first == s.key.Account
}

// request is a request with what was found out about it.
type request struct {
	*http.Request
	query  url.Values
	target target
	grant  grant
	now    time.Time
	body   io.Reader // which keeps the connection's deadline in the future
}

// operation is what a request can ask for.
type operation struct {
	level          level
	method         string
	restype, comp  string
	permissions    string // of a SAS, any of which is needed
	listsContainer bool   // a SAS for the container is enough
	run            func(s *Server, w http.ResponseWriter, r *request) error
}

// operations is the table of what is answered.
var operations = []operation{
	{atBlob, http.MethodPut, "", "", "wc", false, (*Server).putBlob},
	{atBlob, http.MethodPut, "", "block", "wc", false, (*Server).putBlock},
	{atBlob, http.MethodPut, "", "blocklist", "wc", false, (*Server).putBlockList},
	{atBlob, http.MethodGet, "", "blocklist", "r", false, (*Server).getBlockList},
	{atBlob, http.MethodGet, "", "", "r", false, (*Server).getBlob},
	{atBlob, http.MethodHead, "", "", "r", false, (*Server).headBlob},
	{atBlob, http.MethodDelete, "", "", "d", false, (*Server).deleteBlob},
	{atBlob, http.MethodPut, "", "metadata", "w", false, (*Server).putMetadata},
	{atBlob, http.MethodGet, "", "metadata", "r", false, (*Server).headBlobMetadata},
	{atBlob, http.MethodHead, "", "metadata", "r", false, (*Server).headBlobMetadata},
	{atBlob, http.MethodPut, "", "properties", "w", false, (*Server).putProperties},
	{atContainer, http.MethodPut, "container", "", "cw", false, (*Server).createContainer},
	{atContainer, http.MethodGet, "container", "", "r", false, (*Server).getContainer},
	{atContainer, http.MethodHead, "container", "", "r", false, (*Server).getContainer},
	{atContainer, http.MethodDelete, "container", "", "d", false, (*Server).deleteContainer},
	{atContainer, http.MethodGet, "container", "list", "l", true, (*Server).listBlobs},
	{atAccount, http.MethodGet, "", "list", "l", false, (*Server).listContainers},
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin(w, r)
	if err := s.serve(w, r); err != nil {
		s.fail(w, r, err)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refuse(invalidQueryParameterValue, "the query is malformed")
	}
	t, err := s.parseTarget(r.URL.EscapedPath())
	if err != nil {
		return err
	}
	req := &request{r, query, t, grant{}, s.clock.Now(), patient(w, r.Body)}
	op, err := findOperation(req)
	if err != nil {
		return err
	}
	if what := beyond(req); what != "" {
		return refuse(notImplemented, what)
	}
	if req.grant, err = s.authorize(req, op); err != nil {
		return err
	}
	return op.run(s, w, req)
}

// findOperation finds the operation of a request. What the real service has and Iolite has not is refused loudly.
func findOperation(r *request) (*operation, error) {
	restype, comp := strings.ToLower(r.query.Get("restype")), strings.ToLower(r.query.Get("comp"))
	known := false
	for i := range operations {
		op := &operations[i]
		if op.level != r.target.level || op.restype != restype || op.comp != comp {
			continue
		}
		if known = true; op.method == r.Method {
			return op, nil
		}
	}
	if known {
		return nil, refuse(unsupportedHTTPVerb, "")
	}
	return nil, refuse(notImplemented, strings.Join(strings.Fields(r.Method+" of "+r.target.level.String()+" "+restype+" "+comp), " "))
}

// Headers and parameters that ask for what is not there: without it the answer would be another one than was asked for.
var (
	beyondHeaders = []string{
		"x-ms-copy-source", "x-ms-tags", "x-ms-if-tags", "x-ms-encryption-key", "x-ms-encryption-scope", "x-ms-immutability-policy-mode", "x-ms-legal-hold", "x-ms-structured-body",
	}
	beyondParams = []string{"snapshot", "versionid"}
)

// beyond names what a request asks for and does not get; empty when there is nothing. What there can be none of here, such as snapshots in a
// list, is no difference.
func beyond(r *request) string {
	for _, name := range beyondHeaders {
		if r.Header.Get(name) != "" {
			return name
		}
	}
	for _, name := range beyondParams {
		if r.query.Get(name) != "" {
			return name
		}
	}
	switch {
	case includes(r, "uncommittedblobs"):
		return "include=uncommittedblobs"
	case strings.EqualFold(r.Header.Get("x-ms-delete-snapshots"), "only"):
		return "x-ms-delete-snapshots: only"
	}
	return ""
}

// notThere is the error of a store as the service puts it.
func notThere(err error) error {
	for _, known := range []struct {
		err  error
		code code
	}{
		{store.ErrNoContainer, containerNotFound}, {store.ErrNotFound, blobNotFound}, {store.ErrConflict, conditionNotMet},
		{store.ErrNoBlock, invalidBlockList}, {store.ErrBlockID, invalidBlobOrBlock}, {store.ErrTooMany, blockCountExceedsLimit},
	} {
		if errors.Is(err, known.err) {
			return refuse(known.code, "")
		}
	}
	if errors.Is(err, store.ErrNoSpace) {
		return refuse(requestBodyTooLarge, "Iolite has no space for more blobs (--blob-space)")
	}
	return err
}
