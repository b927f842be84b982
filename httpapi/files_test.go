package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// fileStorage is where devices of a rig upload files to.
type fileStorage struct{ uploaded bool }

func (*fileStorage) Prepare(context.Context) error { return nil }

func (*fileStorage) Grant(blob string, until time.Time) hub.UploadTarget {
	return hub.UploadTarget{HostName: host, ContainerName: "uploads", BlobName: blob, SASToken: "?sig=x&se=" + until.Format(time.RFC3339)}
}

func (f *fileStorage) Stat(_ context.Context, blob string) (hub.BlobInfo, bool, error) {
	return hub.BlobInfo{URI: "https://" + host + "/uploads/" + blob, Size: 1234, Modified: start.Add(time.Minute)}, f.uploaded, nil
}

func (r *rig) beginUpload(path, body string) (correlationID string) {
	r.t.Helper()
	a := r.ask("POST", path+version, r.deviceToken("d1"), body, "Content-Type", "application/json").want(200, "")
	var u struct{ CorrelationID string }
	must(r.t, json.Unmarshal([]byte(a.Body), &u))
	return u.CorrelationID
}

// The SDKs' paths: C ends them with a slash, Node names the upload in the path, the others in the body.
func TestUploadsBeginAndEndOnEveryPath(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.files.uploaded = true
	token := r.deviceToken("d1")
	for _, path := range []string{"/devices/d1/files", "/devices/d1/files/", "/devices/d1/Files"} {
		for _, where := range []string{"/notifications", "/notifications/", "/notifications/{id}"} {
			id := r.beginUpload(path, `{"blobName":"a/b.txt"}`)
			body := fmt.Sprintf(`{"correlationId":%q,"isSuccess":true,"statusCode":200,"statusDescription":"done"}`, id)
			if where == "/notifications/{id}" {
				where, body = "/notifications/"+id, `{"isSuccess":true,"statusCode":201,"statusDescription":"done"}`
			}
			r.ask("POST", "/devices/d1/files"+where+version, token, body).want(204, "")
			n := r.ask("GET", "/messages/serviceBound/fileNotifications"+version, r.policyToken("service"), "").want(200, "")
			r.ask("DELETE", "/messages/serviceBound/fileNotifications/"+lockOf(n)+version, r.policyToken("service"), "").want(204, "")
		}
	}
}

func TestUploadBodies(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token, service := r.deviceToken("d1"), r.policyToken("service")
	const files, notifications = "/devices/d1/files" + version, "/devices/d1/files/notifications" + version
	a := r.ask("POST", files, token, `{"blobName":"a/b c.txt"}`)
	var u struct{ CorrelationID string }
	must(t, json.Unmarshal([]byte(a.Body), &u))
	golden(t, "upload-200", replaceID(a.text(), u.CorrelationID))
	done := fmt.Sprintf(`{"correlationId":%q,"isSuccess":true,"statusCode":200,"statusDescription":"done"}`, u.CorrelationID)
	golden(t, "upload-blob-missing", r.ask("POST", notifications, token, done).want(400, "InvalidStorageEndpointOrBlob").text())
	r.files.uploaded = true
	golden(t, "upload-completed", r.ask("POST", notifications, token, done).want(204, "").text())
	golden(t, "upload-unknown", r.ask("POST", notifications, token, done).want(400, "InvalidFileUploadCorrelationId").text())
	a = r.ask("GET", "/messages/servicebound/filenotifications"+version, service, "")
	golden(t, "upload-notification", a.text())
	r.ask("POST", "/messages/servicebound/filenotifications/"+lockOf(a)+"/abandon"+version, service, "").want(204, "")
	a = r.ask("GET", "/messages/servicebound/filenotifications"+version, service, "").want(200, "")
	r.ask("DELETE", "/messages/servicebound/filenotifications/"+lockOf(a)+version, service, "").want(204, "")
	golden(t, "upload-notification-none", r.ask("GET", "/messages/servicebound/filenotifications"+version, service, "").want(204, "").text())
	for range 10 {
		r.beginUpload("/devices/d1/files", `{"blobName":"x"}`)
	}
	golden(t, "upload-too-many", r.ask("POST", files, token, `{"blobName":"x"}`).want(403, "DeviceMaximumActiveFileUploadLimitExceeded").text())
}

func replaceID(text, id string) string {
	var b []byte
	for len(text) > 0 {
		if len(text) >= len(id) && text[:len(id)] == id {
			b, text = append(b, "CORRELATION"...), text[len(id):]
			continue
		}
		b, text = append(b, text[0]), text[1:]
	}
	return string(b)
}

// Bad requests of a device change nothing, and who may not act as it begins nothing.
func TestUploadRefusals(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.device("d2")
	token := r.deviceToken("d1")
	id := r.beginUpload("/devices/d1/files", `{"blobName":"x"}`)
	for _, c := range []struct {
		path, token, body string
		status            int
		code              string
	}{
		{"/devices/d1/files" + version, token, `{}`, 400, "ArgumentInvalid"},
		{"/devices/d1/files" + version, token, `{"blobName":7}`, 400, "ArgumentInvalid"},
		{"/devices/d1/files" + version, token, `{"blobName":"../d2/x"}`, 400, "ArgumentInvalid"},
		{"/devices/d1/files" + version, token, `nonsense`, 400, "ArgumentInvalid"},
		{"/devices/d1/files", token, `{"blobName":"x"}`, 400, "InvalidProtocolVersion"},
		{"/devices/d1/files" + version, "", `{"blobName":"x"}`, 401, "IotHubUnauthorizedAccess"},
		{"/devices/d1/files" + version, r.deviceToken("d2"), `{"blobName":"x"}`, 401, "IotHubUnauthorizedAccess"},
		{"/devices/d1/files" + version, r.policyToken("service"), `{"blobName":"x"}`, 401, "IotHubUnauthorizedAccess"},
		{"/devices/d1/files/notifications" + version, token, `{"isSuccess":true}`, 400, "InvalidFileUploadCorrelationId"},
		{"/devices/d1/files/notifications/" + id + version, token, `{"statusCode":200}`, 400, "InvalidFileUploadCompletionStatus"},
		{"/devices/d1/files/notifications/" + id + version, token, `{"isSuccess":"yes"}`, 400, "InvalidFileUploadCompletionStatus"},
		{"/devices/d2/files/notifications/" + id + version, r.deviceToken("d2"), `{"isSuccess":true}`, 400, "InvalidFileUploadCorrelationId"},
	} {
		r.ask("POST", c.path, c.token, c.body).want(c.status, c.code)
	}
	r.files.uploaded = true
	setStatus := func(status store.Status) {
		id, err := r.hub.Admin().Identity(context.Background(), store.Key{DeviceID: "d1"})
		must(t, err)
		id.Status = status // and the keys stay
		_, err = r.hub.Admin().UpdateIdentity(context.Background(), id.Identity, "*")
		must(t, err)
	}
	setStatus(store.Disabled)
	r.ask("POST", "/devices/d1/files"+version, token, `{"blobName":"x"}`).want(401, "IotHubUnauthorizedAccess")
	r.ask("POST", "/devices/d1/files/notifications/"+id+version, token, `{"isSuccess":true}`).want(401, "IotHubUnauthorizedAccess")
	setStatus(store.Enabled)
	r.ask("POST", "/devices/d1/files/notifications/"+id+version, token, `{"isSuccess":true}`).want(204, "")
	r.ask("GET", "/messages/servicebound/filenotifications"+version, r.policyToken("registryRead"), "").want(401, "IotHubUnauthorizedAccess")
}
