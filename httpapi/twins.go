package httpapi

import (
	"context"
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// getTwin is GET /twins/{device}[/modules/{module}].
func (s *Server) getTwin(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	t, err := sv.Twin(r.Context(), pathKey(r))
	if err != nil {
		return err
	}
	replyTwin(w, &t)
	return nil
}

// patchTwin is PATCH /twins/{device}[/modules/{module}]: merge tags and desired properties, if If-Match allows it.
func (s *Server) patchTwin(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	return writeTwin(w, r, sv.UpdateTwin)
}

// putTwin is PUT /twins/{device}[/modules/{module}]: replace tags and desired properties, if If-Match allows it.
func (s *Server) putTwin(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	return writeTwin(w, r, sv.ReplaceTwin)
}

// twinWrite is UpdateTwin or ReplaceTwin.
type twinWrite func(ctx context.Context, key store.Key, body []byte, ifMatch string) (hub.Twin, error)

func writeTwin(w http.ResponseWriter, r *http.Request, write twinWrite) error {
	body, err := readJSONText(r)
	if err != nil {
		return err
	}
	defer releaseBody(body)
	etag, _ := ifMatch(r)
	t, err := write(r.Context(), pathKey(r), body.Bytes(), etag)
	if err != nil {
		return err
	}
	replyTwin(w, &t)
	return nil
}

// replyTwin answers with a twin and its etag.
func replyTwin(w http.ResponseWriter, t *hub.Twin) {
	setETag(w, t.ETag())
	replyAppended(w, t.AppendJSON)
}
