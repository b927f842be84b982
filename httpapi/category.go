package httpapi

import (
	"net/http"
	"strings"

	"github.com/iolite-emulator/iolite/hub"
)

// categories are the log categories of requests that never came to the hub, by what their paths hold. The first that fits counts.
var categories = []struct {
	part     string
	category hub.Category
}{
	{"/messages/events", hub.DeviceTelemetry},
	{"/filenotifications", hub.FileUploadOperations},
	{"/files", hub.FileUploadOperations},
	{"/messages/", hub.C2DCommands},
	{"/methods", hub.DirectMethods},
	{"/commands/", hub.DirectMethods}, // of digital twins
	{"/commands", hub.C2DCommands},
	{"/applyconfigurationcontent", hub.Configurations},
	{"/configurations", hub.Configurations},
	{"/devices/query", hub.TwinQueries},
	{"/jobs/v2", hub.JobsOperations},
	{"twins/", hub.C2DTwinOperations},
	{"/devices", hub.DeviceIdentityOperations},
	{"/statistics", hub.DeviceIdentityOperations},
	{"/jobs", hub.DeviceIdentityOperations}, // import and export
}

// category is the log category of a request.
func category(r *http.Request) hub.Category {
	path := strings.ToLower(r.URL.Path)
	for _, c := range categories {
		if strings.Contains(path, c.part) {
			return c.category
		}
	}
	return hub.Connections
}
