package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

// heldBlobs is a storage that is empty and takes what it is given, once it is released.
type heldBlobs struct{ release chan struct{} }

func (b *heldBlobs) Get(context.Context, string, string) (io.ReadCloser, int64, error) {
	return nil, 0, errors.New("BlobNotFound")
}

func (b *heldBlobs) Put(ctx context.Context, _, _ string, body io.Reader) error {
	select {
	case <-b.release:
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := io.Copy(io.Discard, body)
	return err
}

func TestImportExportJobLifeOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("iothubowner")
	const export = `{"type":"export","outputBlobContainerUri":"https://storage.example/c?sig=s","excludeKeysInExport":true}`
	create := func() string {
		t.Helper()
		var job struct{ JobID string }
		must(t, json.Unmarshal([]byte(r.ask("POST", "/jobs/create"+version, token, export).want(200, "").Body), &job))
		return job.JobID
	}
	path := func(id string) string { return "/jobs/" + id + version }
	is := func(id, status string) func() bool {
		return func() bool {
			return strings.Contains(r.ask("GET", path(id), token, "").want(200, "").Body, `"status":"`+status+`"`)
		}
	}
	id := create()
	poll(t, "the job runs", is(id, "running"))
	golden(t, "export-second", r.ask("POST", "/jobs/create"+version, token, export).want(403, "JobQuotaExceeded").text())
	golden(t, "export-cancelled", r.ask("DELETE", path(id), token, "").want(204, "").text())
	poll(t, "the job is cancelled", is(id, "cancelled"))
	close(r.blobs.release)
	second := create()
	poll(t, "the job is done", is(strings.ToUpper(second), "completed"))
	golden(t, "export-completed", r.ask("GET", path(second), token, "").want(200, "").text())
	golden(t, "export-list", r.ask("GET", "/jobs/"+version, token, "").want(200, "").text())
	golden(t, "export-missing", r.ask("GET", path("nothing"), token, "").want(404, "JobNotFound").text())
	r.ask("DELETE", path("nothing"), token, "").want(404, "JobNotFound")
}

func TestImportExportJobsRefuseBadBodies(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("iothubowner")
	for name, test := range map[string]struct{ body, code string }{
		"nothing":       {"", "ArgumentInvalid"},
		"an array":      {"[]", "ArgumentInvalid"},
		"no type":       {"{}", "ArgumentInvalid"},
		"no container":  {`{"type":"export"}`, "BlobContainerValidationError"},
		"a file":        {`{"type":"export","outputBlobContainerUri":"file:///etc"}`, "BlobContainerValidationError"},
		"a deep thing":  {strings.Repeat(`{"type":`, 100_000), "ArgumentInvalid"},
		"only an input": {`{"type":"import","inputBlobContainerUri":"https://storage.example/c"}`, "BlobContainerValidationError"},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			r.ask("POST", "/jobs/create"+version, token, test.body).want(400, test.code)
		})
	}
	r.ask("POST", "/jobs/create"+version, token, `{"type":"export","outputBlobContainerUri":"https://storage.example/c","storageAuthenticationType":"identityBased"}`).want(501, "NotImplemented")
	r.ask("POST", "/jobs/create"+version, token, `{}`, "Content-Type", "text/plain").want(415, "GenericUnsupportedMediaType")
	golden(t, "export-none", r.ask("GET", "/jobs"+version, token, "").want(200, "").text())
}
