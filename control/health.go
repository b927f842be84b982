package control

import "net/http"

// livez is GET /livez: the process answers.
func livez(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, struct {
		Live bool `json:"live"`
	}{true})
}

// readyz is GET /readyz: 200 only when seeds are loaded and every door accepts.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	status, ready := http.StatusOK, s.Ready()
	if !ready {
		status = http.StatusServiceUnavailable
	}
	reply(w, status, struct {
		Ready bool `json:"ready"`
	}{ready})
}
