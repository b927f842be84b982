package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/iolite-emulator/iolite/hub"
)

// Problem is the body of every error answer.
type Problem struct {
	Error string `json:"error"` // for people
}

func problem(w http.ResponseWriter, status int, text string) { reply(w, status, Problem{Error: text}) }

// reply answers with a JSON value; every value of this package can be encoded.
func reply(w http.ResponseWriter, status int, value any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(value)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client is gone: nobody to tell
}

// failed answers with an error of the hub. The causes of those that it did not expect are for the log alone, and it has them.
func failed(w http.ResponseWriter, err error) {
	e, _ := hub.AsError(err)
	problem(w, e.Status, e.Text)
}

// done answers a call that has nothing to tell.
func done(w http.ResponseWriter, err error) {
	if err != nil {
		failed(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// readBody reads a request body of at most limit bytes, or answers why it cannot.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		return body, true
	}
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the request body has more than %d bytes", limit))
	} else {
		problem(w, http.StatusBadRequest, "the request body could not be read")
	}
	return nil, false
}

// decode reads one JSON object without unknown fields.
func decode(body []byte, value any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(value); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the JSON object")
	}
	return nil
}

// escapedPath lets routes match the path as it came, so that an encoded slash does not end a parameter.
func escapedPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chi.RouteContext(r.Context()).RoutePath = r.URL.EscapedPath()
		next.ServeHTTP(w, r)
	})
}

// param returns a path parameter, unescaped.
func param(r *http.Request, name string) string {
	raw := chi.URLParam(r, name)
	s, err := url.PathUnescape(raw)
	if err != nil {
		return raw // net/http refuses such a path before it comes here
	}
	return s
}

// methodNotAllowed answers a known path with a method that it does not have, and says which it has.
func methodNotAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, m := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
			if routes.Match(chi.NewRouteContext(), m, r.URL.EscapedPath()) {
				allowed = append(allowed, m)
			}
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		problem(w, http.StatusMethodNotAllowed, r.URL.EscapedPath()+" has "+strings.Join(allowed, ", ")+" only")
	}
}
