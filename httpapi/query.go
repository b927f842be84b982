package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/iolite-emulator/iolite/hub"
)

// queryJSON is a query. Source: azure-iot-sdk-csharp, iothub/service/src/Query/QuerySpecification.cs.
type queryJSON struct {
	Query string `json:"query"`
}

// postQuery is POST /devices/query: a page of a query's answer, a bare array of rows. A client that hangs up ends the search.
func (s *Server) postQuery(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	p, err := paging(r)
	if err != nil {
		return err
	}
	var body queryJSON
	if err := readJSON(r, &body); err != nil {
		return err
	}
	page, err := await(w, r, func(ctx context.Context) (hub.QueryPage, error) {
		return sv.Query(ctx, hub.QueryRequest{Text: body.Query, PageSize: p.size, Continuation: p.continuation})
	})
	if err != nil {
		return err
	}
	setPage(w, page.ItemType, page.Continuation)
	replyRows(w, &page)
	return nil
}

// replyRows answers with the rows of a page, one after the other: it may be megabytes, and stands in memory once already.
func replyRows(w http.ResponseWriter, page *hub.QueryPage) {
	length := len("[]") + max(len(page.Rows)-1, 0)
	for _, row := range page.Rows {
		length += len(row)
	}
	h := begin(w)
	h["Content-Type"] = []string{jsonType}
	h["Content-Length"] = []string{strconv.Itoa(length)}
	w.WriteHeader(http.StatusOK)
	separator := []byte{'['}
	for _, row := range page.Rows { // net/http collects small writes; when the client is gone, there is nobody to tell
		_, _ = w.Write(separator)
		_, _ = w.Write(row) //nolint:gosec // JSON, and its type says so
		separator[0] = ','
	}
	if len(page.Rows) == 0 {
		_, _ = w.Write(separator)
	}
	_, _ = w.Write([]byte{']'})
}
