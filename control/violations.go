package control

import (
	"net/http"
	"time"

	"github.com/iolite-emulator/iolite/hub"
)

// Violation is one HTTP poll for cloud-to-device messages that came sooner than the poll interval.
type Violation struct {
	DeviceID string    `json:"deviceId"`
	At       time.Time `json:"at"`
	Previous time.Time `json:"previous"` // the poll it is measured from
	Elapsed  string    `json:"elapsed"`  // At minus Previous, a Go duration
	Interval string    `json:"interval"` // the rule in force, a Go duration
	Refused  bool      `json:"refused"`  // answered with 429
	Remote   string    `json:"remote"`   // the poller's address
}

// Violations is the answer of GET /iolite/v1/violations.
type Violations struct {
	Count      int         `json:"count"` // all since start or the last DELETE, listed or not
	Violations []Violation `json:"violations"`
}

func violationsOf(h *hub.Hub) Violations {
	kept := h.Violations()
	list := make([]Violation, len(kept))
	for i, v := range kept {
		list[i] = Violation{
			DeviceID: v.DeviceID, At: v.At, Previous: v.Previous, Elapsed: v.Elapsed.String(), Interval: v.Interval.String(),
			Refused: v.Refused, Remote: v.Remote,
		}
	}
	return Violations{Count: h.ViolationCount(), Violations: list}
}

// getViolations is GET /iolite/v1/violations.
func (s *Server) getViolations(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, violationsOf(s.Hub))
}

// deleteViolations is DELETE /iolite/v1/violations.
func (s *Server) deleteViolations(w http.ResponseWriter, _ *http.Request) {
	s.Hub.ClearViolations()
	w.WriteHeader(http.StatusNoContent)
}
