package control

import (
	"net/http"
	"time"

	"github.com/iolite-emulator/iolite/hub"
)

// EndpointHealth is the answer of GET /iolite/v1/routing/health (Azure Resource Manager: EndpointHealthDataListResult).
type EndpointHealth struct {
	Value []EndpointHealthData `json:"value"`
}

// EndpointHealthData is the health of one custom endpoint. Times are as Azure Resource Manager writes them, by the hub's clock.
type EndpointHealthData struct {
	EndpointID                    string           `json:"endpointId"` // its name
	HealthStatus                  hub.HealthStatus `json:"healthStatus"`
	LastKnownError                string           `json:"lastKnownError,omitempty"`
	LastKnownErrorTime            string           `json:"lastKnownErrorTime,omitempty"`
	LastSuccessfulSendAttemptTime string           `json:"lastSuccessfulSendAttemptTime,omitempty"`
	LastSendAttemptTime           string           `json:"lastSendAttemptTime,omitempty"`
	WaitingMessages               int64            `json:"waitingMessages"` // Iolite's own
}

// getEndpointHealth is GET /iolite/v1/routing/health.
func (s *Server) getEndpointHealth(w http.ResponseWriter, _ *http.Request) {
	answer := EndpointHealth{Value: []EndpointHealthData{}}
	for _, e := range s.Hub.EndpointHealth() {
		answer.Value = append(answer.Value, EndpointHealthData{
			EndpointID: e.EndpointID, HealthStatus: e.Status, LastKnownError: e.LastKnownError, LastKnownErrorTime: httpTime(e.LastKnownErrorTime),
			LastSuccessfulSendAttemptTime: httpTime(e.LastSuccessfulSendAttempt), LastSendAttemptTime: httpTime(e.LastSendAttempt), WaitingMessages: e.Waiting,
		})
	}
	reply(w, http.StatusOK, answer)
}

// httpTime writes a time; nothing for none.
func httpTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(http.TimeFormat)
}
