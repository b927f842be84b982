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

	r.Post("/devices/{device}/files", s.device(s.upload(postFiles)))
	r.Post("/devices/{device}/files/notifications", s.device(s.upload(postFileNotification)))
	r.Post("/devices/{device}/files/notifications/{upload}", s.device(s.upload(postFileNotification)))

	r.Get("/devices", s.service(s.listDevices))
	r.Post("/devices", s.service(s.bulk))
	r.Post("/devices/query", s.service(s.postQuery))
	r.Post("/devices/keys/regenerate", s.service(s.regenerateKeys))
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
	r.Get("/jobs", s.service(s.listImportExportJobs))
	r.Post("/jobs/create", s.service(s.createImportExportJob))
	r.Get("/jobs/{job}", s.service(s.getImportExportJob))
	r.Delete("/jobs/{job}", s.service(s.cancelImportExportJob))
	r.Get("/jobs/v2/query", s.service(s.queryJobs))
	r.Put("/jobs/v2/{job}", s.service(s.putJob))
	r.Get("/jobs/v2/{job}", s.service(s.getJob))
	r.Post("/jobs/v2/{job}/cancel", s.service(s.cancelJob))
	r.Get("/configurations", s.service(s.listConfigurations))
	r.Get("/configurations/{configuration}", s.service(s.getConfiguration))
	r.Put("/configurations/{configuration}", s.service(s.putConfiguration))
	r.Delete("/configurations/{configuration}", s.service(s.deleteConfiguration))
	for _, name := range []string{"testQueries", "testqueries"} { // it stands where an id stands, so it comes as it was written
		r.Post("/configurations/"+name, s.service(s.testQueries))
	}
	r.Post("/devices/{device}/applyconfigurationcontent", s.service(s.applyConfiguration))
	r.Get("/digitaltwins/{device}", s.service(s.getDigitalTwin))
	r.Patch("/digitaltwins/{device}", s.service(s.patchDigitalTwin))
	r.Post("/digitaltwins/{device}/commands/{command}", s.postCommand)
	r.Post("/digitaltwins/{device}/components/{component}/commands/{command}", s.postCommand)
	for name, q := range map[string]servicebound{"feedback": feedback, "filenotifications": fileNotifications} {
		path := "/messages/servicebound/" + name
		r.Get(path, s.service(q.get))
		r.Delete(path+"/{lock}", s.service(q.settle(q.complete)))
		r.Post(path+"/{lock}/abandon", s.service(q.settle(q.abandon)))
	}

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
	{"GET", "/devices/{device}/modules/{module}/devicesandmodulesindevicescope", "IoT Edge scopes"},
	{"POST", "/devices/{device}/modules/{module}/getdeviceandmoduleonbehalfof", "IoT Edge scopes"},
	{"POST", "/$admin/exportregistry", "import and export jobs"},
	{"POST", "/$admin/importregistry", "import and export jobs"},
}

// notImplemented says loudly that a feature is missing.
func (s *Server) notImplemented(f feature) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, refuse(hub.CodeNotImplemented, f.name))
	}
}
