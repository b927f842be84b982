package control

import "net/http"

// postReset is POST /iolite/v1/reset: back to what the hub was at start.
func (s *Server) postReset(w http.ResponseWriter, r *http.Request) {
	if err := s.Reset(r.Context()); err != nil {
		s.Logger.Error("reset failed", "error", err)
		problem(w, http.StatusInternalServerError, "the reset failed, see the log: "+err.Error())
		return
	}
	s.Logger.Info("hub was reset", "remote", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
}
