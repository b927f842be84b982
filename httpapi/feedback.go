package httpapi

import (
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
)

// feedbackType is the Content-Type of a batch of feedback records.
const feedbackType = "application/vnd.microsoft.iothub.feedback.json"

// getFeedback is GET /messages/servicebound/feedback: lock and return the next batch of feedback records.
func (s *Server) getFeedback(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	m, ok, err := sv.PollFeedback(r.Context())
	if err != nil {
		return err
	}
	if !ok {
		return noContent(w)
	}
	writeMessage(w, m, []string{feedbackType})
	return nil
}

// completeFeedback is DELETE /messages/servicebound/feedback/{lock}.
func (s *Server) completeFeedback(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	if err := sv.CompleteFeedback(r.Context(), param(r, "lock")); err != nil {
		return err
	}
	return noContent(w)
}

// abandonFeedback is POST /messages/servicebound/feedback/{lock}/abandon.
func (s *Server) abandonFeedback(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	if err := sv.AbandonFeedback(r.Context(), param(r, "lock")); err != nil {
		return err
	}
	return noContent(w)
}
