package httpapi

import (
	"encoding/json"
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
)

// postQuery is POST /devices/query: a page of a query's answer, as a bare array.
func (s *Server) postQuery(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	p, err := paging(r)
	if err != nil {
		return err
	}
	var body struct {
		Query string `json:"query"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	page, err := sv.Query(r.Context(), hub.QueryRequest{Text: body.Query, PageSize: p.size, Continuation: p.continuation})
	if err != nil {
		return err
	}
	setPage(w, page.ItemType, page.Continuation)
	replyList(w, page.Rows, func(b []byte, row *json.RawMessage) []byte { return append(b, *row...) })
	return nil
}
