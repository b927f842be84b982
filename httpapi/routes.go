package httpapi

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/iolite-emulator/iolite/hub"
)

// routes is the table of what is answered, by canonical path.
func (s *Server) routes() http.Handler {
	r := chi.NewRouter()
	r.Use(canonicalPath, overriddenMethod)
	r.NotFound(s.unknownPath)
	r.MethodNotAllowed(unknownMethod)

	r.Get("/$iothub/websocket", s.iothubWebsocket)
	r.Get("/$servicebus/websocket", s.servicebusWebsocket)

	r.Post("/devices/{device}/messages/events", s.device(s.postEvents))
	r.Get("/devices/{device}/messages/devicebound", s.device(s.getDevicebound))
	r.Delete("/devices/{device}/messages/devicebound/{lock}", s.device(s.deleteDevicebound))
	r.Post("/devices/{device}/messages/devicebound/{lock}/abandon", s.device(s.abandonDevicebound))

	r.Get("/devices", s.service(s.listDevices))
	r.Post("/devices", s.service(s.bulk))
	r.Put("/devices/{device}", s.service(s.putDevice))
	r.Get("/devices/{device}", s.service(s.getDevice))
	r.Delete("/devices/{device}", s.service(s.deleteDevice))
	r.Delete("/devices/{device}/commands", s.service(s.purgeCommands))
	r.Get("/devices/{device}/modules", s.service(s.listModules))
	r.Put("/devices/{device}/modules/{module}", s.service(s.putModule))
	r.Get("/devices/{device}/modules/{module}", s.service(s.getModule))
	r.Delete("/devices/{device}/modules/{module}", s.service(s.deleteModule))
	for _, twin := range []string{"/twins/{device}", "/twins/{device}/modules/{module}"} {
		r.Get(twin, s.service(s.getTwin))
		r.Patch(twin, s.service(s.patchTwin))
		r.Put(twin, s.service(s.putTwin))
		r.Post(twin+"/methods", s.postMethod)
	}
	r.Get("/statistics/devices", s.service(s.deviceStatistics))
	r.Get("/statistics/service", s.service(s.serviceStatistics))
	r.Get("/messages/servicebound/feedback", s.service(s.getFeedback))
	r.Delete("/messages/servicebound/feedback/{lock}", s.service(s.completeFeedback))
	r.Post("/messages/servicebound/feedback/{lock}/abandon", s.service(s.abandonFeedback))

	for _, m := range missing {
		r.Method(m.method, m.path, s.notImplemented(m))
	}
	return r
}

// unknownPath answers what no IoT Hub would know, for instance telemetry of a module over HTTP.
func (s *Server) unknownPath(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, refuse(hub.CodeNotFound, r.URL.EscapedPath()))
}

// unknownMethod answers a known path with a method that it does not have. No hub rule was asked, so there is no error code.
func unknownMethod(w http.ResponseWriter, r *http.Request) {
	_ = reply(w, http.StatusMethodNotAllowed, struct{ Message string }{"The requested resource does not support http method '" + r.Method + "'."})
}

// feature is an operation that IoT Hub has and Iolite does not have yet.
type feature struct {
	method, path string
	name         string
}

var missing = []feature{
	{"POST", "/devices/query", "queries"},
	{"POST", "/devices/keys/regenerate", "regenerating keys"},
	{"POST", "/devices/{device}/applyconfigurationcontent", "applying configurations"},
	{"POST", "/devices/{device}/files", "file upload"},
	{"POST", "/devices/{device}/files/notifications", "file upload"},
	{"POST", "/devices/{device}/files/notifications/{upload}", "file upload"},
	{"GET", "/devices/{device}/modules/{module}/devicesandmodulesindevicescope", "IoT Edge scopes"},
	{"POST", "/devices/{device}/modules/{module}/getdeviceandmoduleonbehalfof", "IoT Edge scopes"},
	{"GET", "/messages/servicebound/filenotifications", "file upload notifications"},
	{"DELETE", "/messages/servicebound/filenotifications/{lock}", "file upload notifications"},
	{"POST", "/messages/servicebound/filenotifications/{lock}/abandon", "file upload notifications"},
	{"GET", "/jobs", "import and export jobs"},
	{"POST", "/jobs/create", "import and export jobs"},
	{"GET", "/jobs/{job}", "import and export jobs"},
	{"DELETE", "/jobs/{job}", "import and export jobs"},
	{"GET", "/jobs/v2/query", "scheduled jobs"},
	{"PUT", "/jobs/v2/{job}", "scheduled jobs"},
	{"GET", "/jobs/v2/{job}", "scheduled jobs"},
	{"POST", "/jobs/v2/{job}/cancel", "scheduled jobs"},
	{"GET", "/configurations", "configurations"},
	{"GET", "/configurations/{configuration}", "configurations"},
	{"PUT", "/configurations/{configuration}", "configurations"},
	{"DELETE", "/configurations/{configuration}", "configurations"},
	{"POST", "/configurations/testqueries", "configurations"},
	{"GET", "/digitaltwins/{device}", "digital twins"},
	{"PATCH", "/digitaltwins/{device}", "digital twins"},
	{"POST", "/digitaltwins/{device}/commands/{command}", "digital twin commands"},
	{"POST", "/digitaltwins/{device}/components/{component}/commands/{command}", "digital twin commands"},
	{"POST", "/$admin/exportregistry", "import and export jobs"},
	{"POST", "/$admin/importregistry", "import and export jobs"},
}

// notImplemented says loudly that a feature is missing.
func (s *Server) notImplemented(f feature) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.log.Warn("not implemented", "feature", f.name, "method", r.Method, "path", r.URL.EscapedPath(), "remote", r.RemoteAddr)
		s.fail(w, r, refuse(hub.CodeNotImplemented, f.name))
	}
}
