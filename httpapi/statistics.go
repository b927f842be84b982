package httpapi

import (
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
)

// deviceStatistics is GET /statistics/devices.
func (s *Server) deviceStatistics(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	total, enabled, disabled, err := sv.DeviceStatistics(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, struct {
		Total    int `json:"totalDeviceCount"`
		Enabled  int `json:"enabledDeviceCount"`
		Disabled int `json:"disabledDeviceCount"`
	}{total, enabled, disabled})
}

// serviceStatistics is GET /statistics/service.
func (s *Server) serviceStatistics(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	connected, err := sv.ConnectedDevices(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, struct {
		Connected int `json:"connectedDeviceCount"`
	}{connected})
}
