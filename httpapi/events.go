package httpapi

import (
	"net/http"
	"strings"

	"github.com/iolite-emulator/iolite/hub"
)

// batchType is the Content-Type that makes a body a batch.
const batchType = "application/vnd.microsoft.iothub.json"

// eventsPath returns the device that r sends telemetry of. Telemetry does not take the way through the routes, which costs as much
// as the hub's work on it; only a path in another spelling does.
func eventsPath(r *http.Request) (device string, ok bool) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/devices/")
	if !ok || r.Method != http.MethodPost {
		return "", false
	}
	id, rest, _ := strings.Cut(rest, "/")
	return unescape(id), rest == "messages/events" && id != ""
}

// postEvents is POST /devices/{device}/messages/events: telemetry, a single message or a batch.
func (s *Server) postEvents(w http.ResponseWriter, r *http.Request, d *hub.DeviceSession) error {
	body, err := readBody(r, maxEvents)
	if err != nil {
		return err
	}
	defer releaseBody(body)
	if hasType(r, batchType) {
		err = s.sendBatch(r, d, body.Bytes())
	} else {
		err = sendSingle(r, d, body.Bytes())
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent) // without headers: setting one makes net/http copy them
	}
	return err
}

func sendSingle(r *http.Request, d *hub.DeviceSession, body []byte) error {
	m := hub.Telemetry{Body: body}
	if err := eachHeader(r, func(name, value string) error {
		_, err := setProperty(&m, name, value)
		return err
	}); err != nil {
		return err
	}
	return d.SendTelemetry(r.Context(), m)
}

func (s *Server) sendBatch(r *http.Request, d *hub.DeviceSession, body []byte) error {
	messages, err := s.decodeBatch(body)
	if err != nil {
		return err
	}
	return d.SendTelemetry(r.Context(), messages...)
}
