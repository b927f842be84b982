package httpapi

import (
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// pathKey returns the identity that a path names: a device, or a module when the path has one.
func pathKey(r *http.Request) store.Key {
	return store.Key{DeviceID: param(r, "device"), ModuleID: param(r, "module")}
}

// listModules is GET /devices/{device}/modules.
func (s *Server) listModules(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	modules, err := sv.Modules(r.Context(), param(r, "device"))
	if err != nil {
		return err
	}
	list := make([]moduleJSON, len(modules))
	for i := range modules {
		list[i] = moduleOf(modules[i])
	}
	return reply(w, http.StatusOK, list)
}

// getModule is GET /devices/{device}/modules/{module}.
func (s *Server) getModule(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	m, err := sv.Identity(r.Context(), pathKey(r))
	if err != nil {
		return err
	}
	setETag(w, m.ETag)
	return reply(w, http.StatusOK, moduleOf(m))
}

// putModule is PUT /devices/{device}/modules/{module}: create, or with If-Match replace.
func (s *Server) putModule(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	m, err := s.put(r, sv, pathKey(r))
	if err != nil {
		return err
	}
	setETag(w, m.ETag)
	return reply(w, http.StatusOK, moduleOf(m))
}

// deleteModule is DELETE /devices/{device}/modules/{module}; it needs If-Match.
func (s *Server) deleteModule(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	return s.delete(w, r, sv, pathKey(r))
}
