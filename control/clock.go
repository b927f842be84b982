package control

import (
	"fmt"
	"net/http"
	"time"
)

// Limits of a clock request.
const (
	maxClockBody = 1 << 10                    // bytes
	maxOffset    = 100 * 365 * 24 * time.Hour // further on, times no longer fit into nanoseconds
)

// ClockState is the answer of GET and POST /iolite/v1/clock.
type ClockState struct {
	Now    time.Time `json:"now"`
	Offset string    `json:"offset"` // how far it has been moved ahead of real time, a Go duration
}

// ClockChange is the body of POST /iolite/v1/clock.
type ClockChange struct {
	Advance string `json:"advance"` // a positive Go duration
}

func (s *Server) clockState() ClockState {
	return ClockState{Now: s.Clock.Now(), Offset: s.Clock.Offset().String()}
}

// getClock is GET /iolite/v1/clock.
func (s *Server) getClock(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.clockState())
}

// postClock is POST /iolite/v1/clock {"advance":"25m"}: everything that falls due on the way has happened when it answers.
func (s *Server) postClock(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, maxClockBody)
	if !ok {
		return
	}
	var change ClockChange
	if err := decode(body, &change); err != nil {
		problem(w, http.StatusBadRequest, `the body must be like {"advance":"25m"}: `+err.Error())
		return
	}
	d, err := time.ParseDuration(change.Advance)
	if err != nil || d <= 0 {
		problem(w, http.StatusBadRequest, fmt.Sprintf("advance: %q is no positive duration such as 25m or 1h30m", change.Advance))
		return
	}
	if d > maxOffset-s.Clock.Offset() {
		problem(w, http.StatusBadRequest, fmt.Sprintf("advance: the clock can be at most %v ahead of real time", maxOffset))
		return
	}
	s.Clock.Advance(d)
	reply(w, http.StatusOK, s.clockState())
}
