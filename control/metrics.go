package control

import (
	"net/http"

	"github.com/iolite-emulator/iolite/exposition"
)

// metrics is GET /metrics, for Prometheus.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	var page exposition.Page
	s.Metrics(&page)
	w.Header().Set("Content-Type", exposition.ContentType)
	_, _ = page.WriteTo(w) // the client is gone: nobody to tell
}
