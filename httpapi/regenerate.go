package httpapi

import (
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// regenerateJSON asks for new keys. Source: azure-iot-cli-extension, sdk/iothub/service/models/bulk_regenerate_device_key_py3.py.
type regenerateJSON struct {
	PolicyKey string `json:"policyKey"`
	Devices   []struct {
		ID       string `json:"id"`
		ModuleID string `json:"moduleId"`
	} `json:"devices"`
}

type regeneratedJSON struct {
	PolicyKey   string             `json:"policyKey"`
	RotatedKeys []rotatedKeyJSON   `json:"rotatedKeys"`
	Errors      []rotatedErrorJSON `json:"errors"`
}

type rotatedKeyJSON struct {
	ID           string  `json:"id"`
	ModuleID     *string `json:"moduleId"`
	PrimaryKey   string  `json:"primaryKey"`
	SecondaryKey string  `json:"secondaryKey"`
}

type rotatedErrorJSON struct {
	ID          string   `json:"id"`
	ModuleID    *string  `json:"moduleId"`
	ErrorCode   hub.Code `json:"errorCode"`
	ErrorStatus string   `json:"errorStatus"`
}

// regenerateKeys is POST /devices/keys/regenerate (api-version 2024-03-31). It answers 200, 207 when some failed, or 400 when all did, with
// the same body.
func (s *Server) regenerateKeys(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	var body regenerateJSON
	if err := readJSON(r, &body); err != nil {
		return err
	}
	keys := make([]store.Key, len(body.Devices))
	for i, d := range body.Devices {
		keys[i] = store.Key{DeviceID: d.ID, ModuleID: d.ModuleID}
	}
	renewed, failed, err := sv.RegenerateKeys(r.Context(), body.PolicyKey, keys)
	if err != nil {
		return err
	}
	result := regeneratedJSON{PolicyKey: body.PolicyKey, RotatedKeys: make([]rotatedKeyJSON, len(renewed)), Errors: make([]rotatedErrorJSON, len(failed))}
	for i, id := range renewed {
		result.RotatedKeys[i] = rotatedKeyJSON{id.DeviceID, orNull(id.ModuleID), id.Authentication.PrimaryKey, id.Authentication.SecondaryKey}
	}
	for i, f := range failed {
		result.Errors[i] = rotatedErrorJSON{f.DeviceID, orNull(f.ModuleID), f.Err.Code, f.Err.Text}
	}
	switch {
	case len(failed) == 0:
		return reply(w, http.StatusOK, result)
	case len(renewed) == 0:
		return reply(w, http.StatusBadRequest, result)
	}
	return reply(w, http.StatusMultiStatus, result)
}
