package httpapi

import (
	"net/http"
	"strings"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// bulkItemJSON is one operation of a bulk request: an identity under other names. Source: azure-iot-sdk-csharp, ExportImportDevice.cs.
type bulkItemJSON struct {
	identityJSON
	ID         string         `json:"id"`
	ETag       string         `json:"eTag"`
	ImportMode string         `json:"importMode"`
	Tags       map[string]any `json:"tags"`
	Properties struct {
		Desired map[string]any `json:"desired"`
	} `json:"properties"`
}

type bulkErrorJSON struct {
	DeviceID    string   `json:"deviceId"`
	ErrorCode   hub.Code `json:"errorCode"`
	ErrorStatus string   `json:"errorStatus"`
	ModuleID    *string  `json:"moduleId"`
	Operation   string   `json:"operation"`
}

type bulkResultJSON struct {
	IsSuccessful bool            `json:"isSuccessful"`
	Errors       []bulkErrorJSON `json:"errors"`
	Warnings     []struct{}      `json:"warnings"`
}

// bulk is POST /devices: up to 100 operations on identities. It answers 200, or 400 when any failed, with the same body.
func (s *Server) bulk(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	var body []bulkItemJSON
	if err := readJSON(r, &body); err != nil {
		return err
	}
	items := make([]hub.BulkItem, len(body))
	modes := make(map[store.Key]string, len(body))
	for i := range body {
		item, err := body[i].item()
		if err != nil {
			return err
		}
		items[i] = item
		modes[item.Identity.Key] = item.Mode
	}
	failed, err := sv.Bulk(r.Context(), items)
	if err != nil {
		return err
	}
	result := bulkResultJSON{IsSuccessful: len(failed) == 0, Errors: make([]bulkErrorJSON, len(failed)), Warnings: []struct{}{}}
	for i, f := range failed {
		result.Errors[i] = bulkErrorJSON{f.DeviceID, f.Err.Code, f.Err.Text, orNull(f.ModuleID), modes[f.Key]}
	}
	if result.IsSuccessful {
		return reply(w, http.StatusOK, result)
	}
	return reply(w, http.StatusBadRequest, result)
}

func (b *bulkItemJSON) item() (hub.BulkItem, error) {
	if len(b.Tags) > 0 || len(b.Properties.Desired) > 0 {
		return hub.BulkItem{}, refuse(hub.CodeNotImplemented, "twins, and the tags or desired properties of "+b.ID+" belong to one")
	}
	id := b.identity(store.Key{DeviceID: b.ID, ModuleID: b.ModuleID})
	id.ETag = strings.Trim(b.ETag, `"`)
	return hub.BulkItem{Identity: id, Mode: b.ImportMode}, nil
}
