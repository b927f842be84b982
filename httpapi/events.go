package httpapi

import (
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
)

// batchType is the Content-Type that makes a body a batch.
const batchType = "application/vnd.microsoft.iothub.json"

// postEvents is POST /devices/{device}/messages/events: telemetry, a single message or a batch.
func (s *Server) postEvents(w http.ResponseWriter, r *http.Request, d *hub.DeviceSession) error {
	body, err := readBody(r, maxEvents)
	if err != nil {
		return err
	}
	defer releaseBody(body)
	if hasType(r, batchType) {
		messages, err := s.decodeBatch(body.Bytes())
		if err != nil {
			return err
		}
		if err := d.SendTelemetry(r.Context(), messages...); err != nil {
			return err
		}
		return noContent(w)
	}
	m := hub.Telemetry{Body: body.Bytes()}
	if err := eachHeader(r, func(name, value string) error {
		_, err := setProperty(&m, name, value)
		return err
	}); err != nil {
		return err
	}
	if err := d.SendTelemetry(r.Context(), m); err != nil {
		return err
	}
	return noContent(w)
}
