package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// bulkItemJSON is one operation of a bulk request: an identity under other names. Source: azure-iot-sdk-csharp, ExportImportDevice.cs.
type bulkItemJSON struct {
	identityJSON
	ID         string         `json:"id"`
	ETag       string         `json:"eTag"`
	ImportMode string         `json:"importMode"`
	TwinETag   string         `json:"twinETag"`
	Tags       document.Value `json:"tags"`
	Properties struct {
		Desired document.Value `json:"desired"`
	} `json:"properties"`
}

// bulkJSON are the operations of a bulk request. Of more than the hub takes, one too many is read: a megabyte of {} would become hundreds.
type bulkJSON []bulkItemJSON

// UnmarshalJSON implements json.Unmarshaler.
func (b *bulkJSON) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if begin, err := d.Token(); err != nil || begin != json.Delim('[') {
		return errors.Join(err, errNoArray)
	}
	for d.More() && len(*b) <= hub.MaxBulk {
		var item bulkItemJSON
		if err := d.Decode(&item); err != nil {
			return err
		}
		*b = append(*b, item)
	}
	return nil
}

var errNoArray = errors.New("an array is wanted")

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

// bulk is POST /devices: up to 100 operations on identities and their twins. It answers 200, or 400 when any failed, with the same body.
func (s *Server) bulk(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	var body bulkJSON
	if err := readJSON(r, &body); err != nil {
		return err
	}
	items := make([]hub.BulkItem, len(body))
	modes := make(map[store.Key]string, len(body))
	for i := range body {
		items[i] = body[i].item()
		modes[items[i].Identity.Key] = items[i].Mode
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

func (b *bulkItemJSON) item() hub.BulkItem {
	id := b.identity(store.Key{DeviceID: b.ID, ModuleID: b.ModuleID})
	id.ETag = b.ETag
	return hub.BulkItem{Identity: id, Mode: b.ImportMode, Tags: b.Tags, Desired: b.Properties.Desired, TwinETag: b.TwinETag}
}
