package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

// memBlobs are containers in memory, by URI and name.
type memBlobs struct {
	mu    sync.Mutex
	blobs map[string]string
	hold  chan struct{} // reads and writes wait for it, when it is not nil
}

func (m *memBlobs) wait(ctx context.Context) error {
	if m.hold == nil {
		return nil
	}
	select {
	case <-m.hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *memBlobs) Get(ctx context.Context, container, name string) (io.ReadCloser, int64, error) {
	if err := m.wait(ctx); err != nil {
		return nil, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	text, there := m.blobs[container+"|"+name]
	if !there {
		return nil, 0, errors.New("BlobNotFound")
	}
	return io.NopCloser(strings.NewReader(text)), int64(len(text)), nil
}

func (m *memBlobs) Put(ctx context.Context, container, name string, body io.Reader) error {
	if err := m.wait(ctx); err != nil {
		return err
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[container+"|"+name] = string(text)
	return nil
}

func (m *memBlobs) get(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.blobs["http://storage/c?sig=s|"+name]
}

func (m *memBlobs) lines(name string) []string {
	return strings.Split(strings.TrimSuffix(m.get(name), "\n"), "\n")
}

func newBlobHub(t testing.TB) (*Hub, *memBlobs) {
	t.Helper()
	m := &memBlobs{blobs: map[string]string{}}
	h, _ := newTestHub(t, func(c *Config) { c.Blobs = m })
	return h, m
}

func transferBody(kind, rest string) []byte {
	return []byte(`{"type":"` + kind + `","inputBlobContainerUri":"http://storage/c?sig=s","outputBlobContainerUri":"http://storage/c?sig=s"` + rest + `}`)
}

// transferDone starts a job and waits for its end.
func transferDone(t testing.TB, h *Hub, body []byte) (job ImportExportJob) {
	t.Helper()
	job, err := h.Admin().CreateImportExportJob(ctx, body)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job is over", func() bool {
		if job, err = h.Admin().ImportExportJob(ctx, job.ID); err != nil {
			t.Fatal(err)
		}
		return isFinal(job.Status)
	})
	return job
}

func TestWhatIsExportedCanBeImportedAgain(t *testing.T) {
	h, blobs := newBlobHub(t)
	for i := range 2*exportPage + 3 {
		addDevice(t, h, store.Key{DeviceID: fmt.Sprintf("d%04d", i)})
	}
	d := store.Key{DeviceID: "d0001"}
	m := addDevice(t, h, store.Key{DeviceID: "d0001", ModuleID: "m"}).Key
	edge(t, h, "edge")
	tag(t, h, d, `{"tags":{"a":1},"properties":{"desired":{"p":{"q":9007199254740}}}}`)
	tag(t, h, m, `{"properties":{"desired":{"r":1}}}`)
	putConfig(t, h, "conf", config(1, "tags.b = 1", `{"properties.desired.s":1}`))
	job := transferDone(t, h, transferBody("export", `,"includeConfigurations":true`))
	if job.Status != jobCompleted || job.Progress != 100 || job.End.IsZero() {
		t.Fatalf("%+v", job)
	}
	exported := blobs.lines("devices.txt")
	if want := 2*exportPage + 3 + 1 + 1 + 2; len(exported) != want {
		t.Fatalf("%d lines, want %d", len(exported), want)
	}
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	job = transferDone(t, h, transferBody("import", `,"includeConfigurations":true`))
	if job.Status != jobCompleted || blobs.get("importErrors.log") != "" {
		t.Fatalf("%+v, errors %s", job, blobs.get("importErrors.log"))
	}
	wantTwin(t, h, d, `{"p":{"q":9007199254740}}`, "")
	wantTwin(t, h, m, `{"r":1}`, "")
	id, err := h.registry.Get(ctx, d)
	if primary, _ := DeriveKeys(d); err != nil || id.Authentication.PrimaryKey != primary {
		t.Errorf("%+v, %v", id, err)
	}
	tag(t, h, d, `{"tags":{"b":1}}`)
	wantTwin(t, h, d, `{"p":{"q":9007199254740},"s":1}`, "conf:Applied")
	if n, _, _ := h.registry.Count(ctx); n != 2*exportPage+4 {
		t.Errorf("%d devices", n)
	}
}

func TestAnExportedLineHasTheDocumentedShape(t *testing.T) {
	h, blobs := newBlobHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"})
	line := func(rest string) string {
		if job := transferDone(t, h, transferBody("export", rest)); job.Status != jobCompleted {
			t.Fatalf("%+v", job)
		}
		return blobs.get("devices.txt")
	}
	shape := `{"id":"d","eTag":"` + d.ETag + `","status":"enabled","statusReason":null,"authentication":{"symmetricKey":{"primaryKey":%s,"secondaryKey":%s},
		"x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"type":"sas"},"twinETag":"AAAAAAAAAAE=","tags":{},
		"properties":{"desired":{"$metadata":{"$lastUpdated":"2026-01-01T00:00:00Z","$lastUpdatedVersion":1},"$version":1},"reported":{"$metadata":{"$lastUpdated":"2026-01-01T00:00:00Z"},"$version":1}},
		"capabilities":{"iotEdge":false}}`
	primary, secondary := DeriveKeys(d.Key)
	wantJSON(t, []byte(line("")), fmt.Sprintf(shape, `"`+primary+`"`, `"`+secondary+`"`))
	wantJSON(t, []byte(line(`,"excludeKeysInExport":true`)), fmt.Sprintf(shape, "null", "null"))
}

func TestImportModesAndTheirErrors(t *testing.T) {
	h, blobs := newBlobHub(t)
	for _, id := range []string{"old", "disabled", "gone", "stale", "kept"} {
		addDevice(t, h, store.Key{DeviceID: id})
	}
	blobs.blobs["http://storage/c?sig=s|in.txt"] = "\uFEFF" + strings.Join([]string{
		`{"id":"new","importMode":"create","tags":{"a":1}}`, ``, `   `,
		`{"id":"old","importMode":"create"}`,
		`{"id":"disabled","importMode":"update","status":"disabled","statusReason":"x","authentication":null}`,
		`{"id":"nobody","importMode":"update"}`,
		`{"id":"gone","importMode":"Delete"}`,
		`{"id":"stale","importMode":"deleteIfMatchETag","eTag":"eA=="}`,
		`{"id":"plain","status":"enabled"}`,
		`{"id":"kept","importMode":"updateTwin","tags":{"b":2},"properties":{"desired":{"p":1,"$metadata":{},"$version":7}}}`,
		`{"id":"kept","importMode":"updateTwinIfMatchETag","twinETag":"AAAAAAAAAAk=","tags":{"b":3}}`,
		`{"id":"kept","importMode":"explode"}`,
		`{"id":"kept","moduleId":"m","importMode":"create"}`,
		`{"id":"a b","importMode":"create"}`,
		`no json`,
	}, "\r\n")
	job := transferDone(t, h, transferBody("import", `,"inputBlobName":"in.txt","outputBlobName":"errors.txt"`))
	if job.Status != jobCompleted {
		t.Fatalf("%+v", job)
	}
	var got []string
	for _, line := range blobs.lines("errors.txt") {
		e := jsonOf(t, []byte(line)).(map[string]any)
		got = append(got, fmt.Sprint(e["id"], " ", int(e["errorCode"].(float64))))
	}
	want := []string{"old 409001", "nobody 404001", "stale 412001", "kept 412001", "kept 400004", "a b 400004", " 400004"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for id, there := range map[string]bool{"new": true, "old": true, "disabled": true, "gone": false, "stale": true, "plain": true, "nobody": false} {
		if _, err := h.registry.Get(ctx, store.Key{DeviceID: id}); (err == nil) != there {
			t.Errorf("%s: %v", id, err)
		}
	}
	if d, _ := h.registry.Get(ctx, store.Key{DeviceID: "disabled"}); d.Status != store.Disabled || d.StatusReason != "x" {
		t.Errorf("%+v", d)
	}
	if row, _ := h.twinRow(ctx, store.Key{DeviceID: "kept"}); row.Twin.Tags.Get("b").Text() != "2" || row.Twin.Desired.Value.Get("p").Text() != "1" {
		t.Errorf("%+v", row.Twin)
	}
	if row, _ := h.twinRow(ctx, store.Key{DeviceID: "new"}); row.Twin.Tags.Get("a").Text() != "1" {
		t.Errorf("%+v", row.Twin)
	}
}

func TestOneTransferAtATime(t *testing.T) {
	h, blobs := newBlobHub(t)
	blobs.hold = make(chan struct{})
	admin := h.Admin()
	first, err := admin.CreateImportExportJob(ctx, transferBody("export", ""))
	if err != nil || first.Status != jobEnqueued {
		t.Fatalf("%+v, %v", first, err)
	}
	_, err = admin.CreateImportExportJob(ctx, transferBody("import", ""))
	wantCode(t, err, CodeJobQuotaExceeded)
	if err := admin.CancelImportExportJob(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	if job, _ := admin.ImportExportJob(ctx, first.ID); job.Status != jobCancelled || job.End.IsZero() {
		t.Errorf("%+v", job)
	}
	second, err := admin.CreateImportExportJob(ctx, transferBody("export", ""))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := admin.ImportExportJobs(ctx); err != nil || len(list) != 2 || list[0].ID != second.ID {
		t.Errorf("%+v, %v", list, err)
	}
	eventually(t, "it runs", func() bool {
		job, _ := admin.ImportExportJob(ctx, second.ID)
		return job.Status == jobRunning
	})
	h.clock.Advance(transferTime)
	eventually(t, "its time is over", func() bool {
		job, _ := admin.ImportExportJob(ctx, second.ID)
		return job.Status == jobFailed && strings.Contains(job.FailureReason, "hour")
	})
	_, err = admin.ImportExportJob(ctx, "nobody")
	wantCode(t, err, CodeJobNotFound)
	wantCode(t, admin.CancelImportExportJob(ctx, "nobody"), CodeJobNotFound)
}

func TestATransfersBodyIsChecked(t *testing.T) {
	h, _ := newBlobHub(t)
	for body, want := range map[string]Code{
		`[]`: CodeArgumentInvalid, `{"type":"backup"}`: CodeArgumentInvalid, `{"type":"export"}`: CodeBlobContainer,
		`{"type":"export","outputBlobContainerUri":"file:///etc"}`: CodeBlobContainer, `{"type":"export","outputBlobContainerUri":"http://"}`: CodeBlobContainer,
		`{"type":"import","outputBlobContainerUri":"http://storage/c"}`:                              CodeBlobContainer,
		string(transferBody("export", `,"storageAuthenticationType":"identityBased"`)):               CodeNotImplemented,
		string(transferBody("export", `,"outputBlobName":"`+strings.Repeat("x", maxBlobName+1)+`"`)): CodeArgumentInvalid,
	} {
		_, err := h.Admin().CreateImportExportJob(ctx, []byte(body))
		if codeOf(err) != want {
			t.Errorf("%s: %v, want code %d", body, err, want)
		}
	}
	without, _ := newTestHub(t)
	_, err := without.Admin().CreateImportExportJob(ctx, transferBody("export", ""))
	wantCode(t, err, CodeBlobContainer)
	if job := transferDone(t, h, transferBody("import", "")); job.Status != jobFailed || !strings.Contains(job.FailureReason, "BlobNotFound") {
		t.Errorf("%+v", job)
	}
}

func TestAnImportExportJobHidesItsSAS(t *testing.T) {
	j := ImportExportJob{ID: "i", Type: "export", Status: jobCompleted, Progress: 100, Start: start, End: start.Add(time.Second), ExcludeKeys: true,
		OutputContainer: "http://storage/c?sig=secret", OutputBlob: "devices.txt"}
	wantJSON(t, j.AppendJSON(nil), `{"jobId":"i","type":"export","status":"completed","progress":100,"startTimeUtc":"2026-01-01T00:00:00Z","endTimeUtc":"2026-01-01T00:00:01Z",
		"inputBlobContainerUri":null,"outputBlobContainerUri":"http://storage/c","inputBlobName":null,"outputBlobName":"devices.txt","excludeKeysInExport":true,
		"includeConfigurations":false,"storageAuthenticationType":"keyBased","failureReason":null}`)
}

func TestAResetEndsAndForgetsTransfers(t *testing.T) {
	h, blobs := newBlobHub(t)
	blobs.hold = make(chan struct{})
	if _, err := h.Admin().CreateImportExportJob(ctx, transferBody("export", "")); err != nil {
		t.Fatal(err)
	}
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if list, err := h.Admin().ImportExportJobs(ctx); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := h.Admin().CreateImportExportJob(ctx, transferBody("export", "")); err != nil {
		t.Error(err)
	}
}

// FuzzImportLine: whatever a line of devices.txt is, it fails by itself, with a code.
func FuzzImportLine(f *testing.F) {
	for _, line := range []string{
		`{"id":"new","importMode":"create","tags":{"a":1}}`, `{"id":"kept","importMode":"updateTwin","properties":{"desired":{"p":1}}}`, `{"id":"e","capabilities":{"iotEdge":true}}`,
		`{"id":"d","authentication":{"symmetricKey":{"primaryKey":null}},"parentScopes":["x"]}`, `[]`, `{"id":1}`,
	} {
		f.Add([]byte(line))
	}
	h, _ := newTestHub(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		var log errorLog
		h.importDevice(ctx, 0, line, &log)
		if len(log.text) > 0 && strings.Contains(log.String(), "500001") {
			t.Error(log.String())
		}
	})
}
