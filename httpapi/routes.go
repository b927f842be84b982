package httpapi

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/iolite-emulator/iolite/hub"
)

// routes is the table of what is answered, by canonical path.
func (s *Server) routes() http.Handler {
	r := chi.NewRouter()
	r.Use(canonicalPath)
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
	nested       bool // errors come in the nested envelope
}

var missing = []feature{
	{"GET", "/twins/{device}", "device twins", false},
	{"PATCH", "/twins/{device}", "device twins", false},
	{"PUT", "/twins/{device}", "device twins", false},
	{"GET", "/twins/{device}/modules/{module}", "module twins", false},
	{"PATCH", "/twins/{device}/modules/{module}", "module twins", false},
	{"PUT", "/twins/{device}/modules/{module}", "module twins", false},
	{"POST", "/twins/{device}/methods", "direct methods", true},
	{"POST", "/twins/{device}/modules/{module}/methods", "direct methods", true},
	{"POST", "/devices/query", "queries", false},
	{"POST", "/devices/keys/regenerate", "regenerating keys", false},
	{"POST", "/devices/{device}/applyconfigurationcontent", "applying configurations", false},
	{"POST", "/devices/{device}/files", "file upload", false},
	{"POST", "/devices/{device}/files/notifications", "file upload", false},
	{"POST", "/devices/{device}/files/notifications/{upload}", "file upload", false},
	{"GET", "/devices/{device}/modules/{module}/devicesandmodulesindevicescope", "IoT Edge scopes", false},
	{"POST", "/devices/{device}/modules/{module}/getdeviceandmoduleonbehalfof", "IoT Edge scopes", false},
	{"GET", "/messages/servicebound/filenotifications", "file upload notifications", false},
	{"DELETE", "/messages/servicebound/filenotifications/{lock}", "file upload notifications", false},
	{"POST", "/messages/servicebound/filenotifications/{lock}/abandon", "file upload notifications", false},
	{"GET", "/jobs", "import and export jobs", false},
	{"POST", "/jobs/create", "import and export jobs", false},
	{"GET", "/jobs/{job}", "import and export jobs", false},
	{"DELETE", "/jobs/{job}", "import and export jobs", false},
	{"GET", "/jobs/v2/query", "scheduled jobs", false},
	{"PUT", "/jobs/v2/{job}", "scheduled jobs", false},
	{"GET", "/jobs/v2/{job}", "scheduled jobs", false},
	{"POST", "/jobs/v2/{job}/cancel", "scheduled jobs", false},
	{"GET", "/configurations", "configurations", false},
	{"GET", "/configurations/{configuration}", "configurations", false},
	{"PUT", "/configurations/{configuration}", "configurations", false},
	{"DELETE", "/configurations/{configuration}", "configurations", false},
	{"POST", "/configurations/testqueries", "configurations", false},
	{"GET", "/digitaltwins/{device}", "digital twins", false},
	{"PATCH", "/digitaltwins/{device}", "digital twins", false},
	{"POST", "/digitaltwins/{device}/commands/{command}", "digital twin commands", false},
	{"POST", "/digitaltwins/{device}/components/{component}/commands/{command}", "digital twin commands", false},
	{"POST", "/$admin/exportregistry", "import and export jobs", false},
	{"POST", "/$admin/importregistry", "import and export jobs", false},
}

// notImplemented says loudly that a feature is missing.
func (s *Server) notImplemented(f feature) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.log.Warn("not implemented", "feature", f.name, "method", r.Method, "path", r.URL.EscapedPath(), "remote", r.RemoteAddr)
		err := refuse(hub.CodeNotImplemented, f.name)
		if !f.nested {
			s.fail(w, r, err)
			return
		}
		e := s.hubError(r, err)
		failWith(w, e, nested(s, e))
	}
}
