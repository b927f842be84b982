package control

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.yaml
var openAPI []byte

// getOpenAPI is GET /iolite/v1/openapi.yaml.
func getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openAPI) // the client is gone: nobody to tell
}
