package httpapi

import (
	"net/http"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub"
)

// upload answers the hub's errors in the envelope that file uploads have (captured in azure-iot-sdk-c issues 197 and 2313).
func (s *Server) upload(handle deviceHandler) deviceHandler {
	return func(w http.ResponseWriter, r *http.Request, d *hub.DeviceSession) error {
		if err := handle(w, r, d); err != nil {
			e := s.hubError(r, err)
			failWith(w, e, struct {
				Message          string
				ExceptionMessage string
			}{string(s.hub.AppendError(nil, e)), ""})
		}
		return nil
	}
}

// postFiles is POST /devices/{device}/files: begin an upload.
func postFiles(w http.ResponseWriter, r *http.Request, d *hub.DeviceSession) error {
	var body struct {
		BlobName string `json:"blobName"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	u, err := d.CreateFileUpload(r.Context(), body.BlobName)
	if err != nil {
		return err
	}
	replyAppended(w, func(b []byte) []byte { return appendUpload(b, &u) })
	return nil
}

// appendUpload appends the answer. encoding/json would escape the ampersands of the SAS, which small devices look for as they are.
func appendUpload(b []byte, u *hub.FileUpload) []byte {
	b = document.AppendString(append(b, `{"correlationId":`...), u.CorrelationID)
	b = document.AppendString(append(b, `,"hostName":`...), u.HostName)
	b = document.AppendString(append(b, `,"containerName":`...), u.ContainerName)
	b = document.AppendString(append(b, `,"blobName":`...), u.BlobName)
	b = document.AppendString(append(b, `,"sasToken":`...), u.SASToken)
	return append(b, '}')
}

// postFileNotification is POST /devices/{device}/files/notifications: complete an upload. Node names it in the path, the others in the body.
func postFileNotification(w http.ResponseWriter, r *http.Request, d *hub.DeviceSession) error {
	var body struct {
		CorrelationID string `json:"correlationId"`
		IsSuccess     any    `json:"isSuccess"`
		StatusCode    int    `json:"statusCode"`
		Description   string `json:"statusDescription"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if id := param(r, "upload"); id != "" {
		body.CorrelationID = id
	}
	result := hub.FileUploadResult{CorrelationID: body.CorrelationID, StatusCode: body.StatusCode, Description: body.Description}
	if success, ok := body.IsSuccess.(bool); ok {
		result.Success = &success
	}
	if err := d.CompleteFileUpload(r.Context(), result); err != nil {
		return err
	}
	return noContent(w)
}
