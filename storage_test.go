package iolite_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite"
	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// uploadRig is an emulator with a device that uploads.
type uploadRig struct {
	t      *testing.T
	e      *iolite.Emulator
	device *hub.DeviceSession
	client *http.Client
}

func newUploadRig(t *testing.T, o iolite.Options) *uploadRig {
	t.Helper()
	o.Devices = []string{"d"}
	e, err := iolite.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	r := &uploadRig{t: t, e: e, client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: e.CA().Pool()}}}}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		e.Close()
	})
	r.open()
	return r
}

func (r *uploadRig) open() {
	r.t.Helper()
	key := store.Key{DeviceID: "d"}
	var err error
	r.device, err = r.e.Hub().OpenDevice(context.Background(), auth.Principal{DeviceID: "d", Rights: auth.DeviceConnect}, key, hub.DeviceOptions{Transient: true})
	if err != nil {
		r.t.Fatal(err)
	}
}

// begin asks where a file goes.
func (r *uploadRig) begin(name string) (u hub.FileUpload, uri string) {
	r.t.Helper()
	u, err := r.device.CreateFileUpload(context.Background(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return u, "https://" + u.HostName + "/" + u.ContainerName + "/" + u.BlobName + u.SASToken
}

func (r *uploadRig) ask(method, uri, body string) (status int, text string) {
	r.t.Helper()
	request, err := http.NewRequest(method, uri, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("x-ms-blob-type", "BlockBlob")
	answer, err := r.client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// metric reads a gauge from the control API.
func (r *uploadRig) metric(name string) (value float64) {
	r.t.Helper()
	_, text := r.ask(http.MethodGet, "http://"+r.e.Info().Control+"/metrics", "")
	_, after, ok := strings.Cut(text, "\n"+name+" ")
	if _, err := fmt.Sscan(after, &value); !ok || err != nil {
		r.t.Fatalf("%s is not shown: %v", name, err)
	}
	return value
}

func (r *uploadRig) put(uri, body string) {
	r.t.Helper()
	if status, text := r.ask(http.MethodPut, uri, body); status != http.StatusCreated {
		r.t.Fatalf("%d %s", status, text)
	}
}

// The host name of an upload leads to the HTTPS door, on whatever port it is.
func TestUploadGoesThroughTheHTTPSDoor(t *testing.T) {
	r := newUploadRig(t, iolite.Options{StorageContainer: "mine"})
	u, uri := r.begin("a.txt")
	if u.ContainerName != "mine" || u.BlobName != "d/a.txt" {
		t.Errorf("%+v", u)
	}
	r.put(uri, "hello")
	if err := r.device.CompleteFileUpload(context.Background(), hub.FileUploadResult{CorrelationID: u.CorrelationID, Success: new(true)}); err != nil {
		t.Fatal(err)
	}
	m, ok, err := r.e.Hub().Admin().PollFileNotification(context.Background())
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	var n struct {
		BlobURI         string
		BlobSizeInBytes int
	}
	if err := json.Unmarshal(m.Body, &n); err != nil || n.BlobURI != "https://"+u.HostName+"/mine/d/a.txt" || n.BlobSizeInBytes != 5 {
		t.Errorf("%s: %v", m.Body, err)
	}
	for name, body := range map[string]string{"HostName": r.e.StorageConnectionString(), "info": r.e.Info().StorageConnectionString} {
		if !strings.Contains(body, "BlobEndpoint=https://"+u.HostName+"/iolitestorage") {
			t.Errorf("%s: %s", name, body)
		}
	}
}

// Reset empties blobs with the rest, and uploads go on afterwards.
func TestResetEmptiesBlobs(t *testing.T) {
	r := newUploadRig(t, iolite.Options{})
	_, uri := r.begin("a.txt")
	r.put(uri, strings.Repeat("hello", 1000))
	if n := r.metric("iolite_blob_bytes"); n < 5000 {
		t.Errorf("%v bytes are shown", n)
	}
	if err := r.e.Reset(context.Background()); err != nil {
		t.Fatal(err)
	}
	if status, text := r.ask(http.MethodGet, uri, ""); status != http.StatusNotFound {
		t.Errorf("%d %s", status, text)
	}
	if n := r.metric("iolite_blob_bytes"); n != 0 {
		t.Errorf("%v bytes are shown afterwards", n)
	}
	r.open()
	_, uri = r.begin("a.txt")
	r.put(uri, "again")
}

// The life of a SAS is told by the emulator's clock, as everything is.
func TestSASOfAnUploadEndsByTheEmulatorsClock(t *testing.T) {
	r := newUploadRig(t, iolite.Options{UploadTTL: 5 * time.Minute})
	_, uri := r.begin("a.txt")
	r.put(uri, "in time")
	r.e.Clock().Advance(5 * time.Minute)
	if status, text := r.ask(http.MethodPut, uri, "late"); status != http.StatusForbidden || !strings.Contains(text, "time frame") {
		t.Errorf("%d %s", status, text)
	}
}

func TestDataDirKeepsBlobs(t *testing.T) {
	dir := t.TempDir()
	r := newUploadRig(t, iolite.Options{DataDir: dir})
	body := strings.Repeat("block", 1<<20)
	_, uri := r.begin("a.txt")
	r.put(uri, body)
	r.e.Close()
	again := newUploadRig(t, iolite.Options{DataDir: dir})
	_, uri = again.begin("a.txt")
	if status, text := again.ask(http.MethodGet, uri, ""); status != http.StatusOK || text != body {
		t.Errorf("%d, %d bytes", status, len(text))
	}
}

func TestStorageThatCannotBe(t *testing.T) {
	for text, o := range map[string]iolite.Options{
		"path of the hub's own": {StorageContainer: "devices"}, "container": {StorageContainer: "No Container"}, "https": {Storage: "UseDevelopmentStorage=true"},
		"AccountKey": {Storage: "BlobEndpoint=https://x;SharedAccessSignature=sig=x"}, "between": {UploadTTL: time.Second}, "not a directory": {DataDir: "/dev/null"},
	} {
		e, err := iolite.Start(context.Background(), o)
		if err == nil {
			e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Without the door there is nowhere to put files.
func TestNoStorageWithoutTheHTTPSDoor(t *testing.T) {
	r := newUploadRig(t, iolite.Options{HTTPS: iolite.Off})
	_, err := r.device.CreateFileUpload(context.Background(), "a")
	if e, _ := hub.AsError(err); e.Code != hub.CodeNoStorage {
		t.Errorf("%v", err)
	}
}

// An upload that --storage hands on goes to the account and to nobody else.
func TestStorageHandsUploadsOn(t *testing.T) {
	elsewhere := newUploadRig(t, iolite.Options{})
	r := newUploadRig(t, iolite.Options{Storage: elsewhere.e.StorageConnectionString(), StorageContainer: "handed-on", TrustedCAs: []*x509.Certificate{elsewhere.e.CA().Certificate()}})
	u, uri := r.begin("a/b c.txt")
	status, text := elsewhere.ask(http.MethodPut, strings.ReplaceAll(uri, " ", "%20"), "hello")
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	if err := r.device.CompleteFileUpload(context.Background(), hub.FileUploadResult{CorrelationID: u.CorrelationID, Success: new(true)}); err != nil {
		t.Fatal(err)
	}
	m, _, err := r.e.Hub().Admin().PollFileNotification(context.Background())
	if want := fmt.Sprintf(`"blobUri":"https://%s/handed-on/d/a/b%%20c.txt"`, u.HostName); err != nil || !bytes.Contains(m.Body, []byte(want)) || !bytes.Contains(m.Body, []byte(`"blobSizeInBytes":5`)) {
		t.Errorf("%s: %v", m.Body, err)
	}
	if r.e.StorageConnectionString() != "" {
		t.Error("there is an account of the emulator's own")
	}
	elsewhere.e.Close()
	if _, err := r.device.CreateFileUpload(context.Background(), "b"); err != nil {
		t.Errorf("the container was there: %v", err)
	}
	u, _ = r.begin("c")
	err = r.device.CompleteFileUpload(context.Background(), hub.FileUploadResult{CorrelationID: u.CorrelationID, Success: new(true)})
	if e, _ := hub.AsError(err); e.Code != hub.CodeInvalidStorageOrBlob {
		t.Errorf("%v", err)
	}
}
