package httpapi

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// listDevices is GET /devices?top=n.
func (s *Server) listDevices(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	top, err := queryTop(r)
	if err != nil {
		return err
	}
	devices, err := sv.Devices(r.Context(), top)
	if err != nil {
		return err
	}
	list := make([]deviceJSON, len(devices))
	for i := range devices {
		list[i] = deviceOf(devices[i])
	}
	return reply(w, http.StatusOK, list)
}

// queryTop reads how many items a listing may have at most, 0 when it is not said.
func queryTop(r *http.Request) (int, error) {
	text, ok := queryValue(r.URL.RawQuery, "top")
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, refuse(hub.CodeArgumentInvalid, fmt.Sprintf("top: %q is no positive number", text))
	}
	return n, nil
}

// getDevice is GET /devices/{device}.
func (s *Server) getDevice(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	d, err := sv.Identity(r.Context(), pathKey(r))
	if err != nil {
		return err
	}
	setETag(w, d.ETag)
	return reply(w, http.StatusOK, deviceOf(d))
}

// putDevice is PUT /devices/{device}: create, or with If-Match replace.
func (s *Server) putDevice(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	d, err := s.put(r, sv, pathKey(r))
	if err != nil {
		return err
	}
	setETag(w, d.ETag)
	return reply(w, http.StatusOK, deviceOf(d))
}

// deleteDevice is DELETE /devices/{device}; it needs If-Match.
func (s *Server) deleteDevice(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	return s.delete(w, r, sv, pathKey(r))
}

// put creates or replaces the identity key by the request's body.
func (s *Server) put(r *http.Request, sv *hub.ServiceSession, key store.Key) (hub.Device, error) {
	var body identityJSON
	if err := readJSON(r, &body); err != nil {
		return hub.Device{}, err
	}
	if body.DeviceID != "" && body.DeviceID != key.DeviceID || body.ModuleID != "" && body.ModuleID != key.ModuleID {
		return hub.Device{}, refuse(hub.CodeArgumentInvalid, fmt.Sprintf("the body is about %s, the path about %s",
			store.Key{DeviceID: body.DeviceID, ModuleID: body.ModuleID}, key))
	}
	id := body.identity(key)
	if etag, ok := ifMatch(r); ok {
		return sv.UpdateIdentity(r.Context(), id, etag)
	}
	return sv.CreateIdentity(r.Context(), id)
}

// delete removes the identity key if the request's If-Match allows it.
func (s *Server) delete(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession, key store.Key) error {
	etag, _ := ifMatch(r)
	if err := sv.DeleteIdentity(r.Context(), key, etag); err != nil {
		return err
	}
	return noContent(w)
}

// purgeCommands is DELETE /devices/{device}/commands: empty the queue of cloud-to-device messages.
func (s *Server) purgeCommands(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	id := param(r, "device")
	n, err := sv.PurgeC2D(r.Context(), id)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, struct {
		DeviceID            string  `json:"deviceId"`
		ModuleID            *string `json:"moduleId"`
		TotalMessagesPurged int     `json:"totalMessagesPurged"`
	}{id, nil, n})
}
