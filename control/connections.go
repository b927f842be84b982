package control

import (
	"net/http"
	"time"

	"github.com/iolite-emulator/iolite/hub"
)

// Connection is a connected device or module. Bytes are counted above TLS, for the whole connection, which AMQP devices may share.
type Connection struct {
	DeviceID       string    `json:"deviceId"`
	ModuleID       string    `json:"moduleId,omitempty"`
	Door           string    `json:"door"`
	Remote         string    `json:"remote"`
	Since          time.Time `json:"since"`
	UserAgent      string    `json:"userAgent,omitempty"`
	Authentication string    `json:"authentication"` // sas, selfSigned, certificateAuthority or none
	BytesIn        int64     `json:"bytesIn"`
	BytesOut       int64     `json:"bytesOut"`
}

// Connections is the answer of GET /iolite/v1/connections.
type Connections struct {
	Connections []Connection `json:"connections"`
}

func connectionsOf(h *hub.Hub) Connections {
	live := h.Connections()
	list := make([]Connection, len(live))
	for i := range live {
		c := &live[i]
		list[i] = Connection{
			DeviceID: c.DeviceID, ModuleID: c.ModuleID, Door: c.Door, Remote: c.Remote, Since: c.Since, UserAgent: c.UserAgent,
			Authentication: string(c.Method), BytesIn: c.BytesIn, BytesOut: c.BytesOut,
		}
	}
	return Connections{Connections: list}
}

// getConnections is GET /iolite/v1/connections.
func (s *Server) getConnections(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, connectionsOf(s.Hub))
}

// Disconnected is the answer of DELETE /iolite/v1/connections/{deviceId}.
type Disconnected struct {
	Disconnected int `json:"disconnected"` // sessions ended, of the device and its modules
}

// deleteConnections is DELETE /iolite/v1/connections/{deviceId}.
func (s *Server) deleteConnections(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusOK, Disconnected{Disconnected: s.Hub.Disconnect(param(r, "deviceId"))})
}
