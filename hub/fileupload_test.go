package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/store"
)

// testStorage is a storage in which a test puts blobs.
type testStorage struct {
	mu       sync.Mutex
	blobs    map[string]int64
	broken   error
	prepared int
	granted  []time.Time
}

func (s *testStorage) Prepare(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepared++
	return s.broken
}

func (s *testStorage) Grant(blob string, until time.Time) UploadTarget {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.granted = append(s.granted, until)
	return UploadTarget{"storage", "uploads", blob, "?sig=x"}
}

func (s *testStorage) Stat(_ context.Context, blob string) (BlobInfo, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, found := s.blobs[blob]
	return BlobInfo{"https://storage/uploads/" + blob, size, start}, found, s.broken
}

func newUploadHub(t *testing.T, change ...func(*Config)) (*Hub, *testStorage, func(time.Duration)) {
	s := &testStorage{blobs: map[string]int64{}}
	h, c := newTestHub(t, append(change, func(cfg *Config) { cfg.Storage = s })...)
	return h, s, c.Advance
}

func begin(t *testing.T, s *DeviceSession, blobName string) FileUpload {
	t.Helper()
	u, err := s.CreateFileUpload(ctx, blobName)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func success(u FileUpload) FileUploadResult {
	return FileUploadResult{CorrelationID: u.CorrelationID, Success: new(true), StatusCode: 200}
}

// notifications takes all there are.
func notifications(t *testing.T, h *Hub) []string {
	t.Helper()
	var all []string
	for {
		m, ok, err := h.Admin().PollFileNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, string(m.Body))
		if err := h.Admin().CompleteFileNotification(ctx, m.LockToken); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompletedUploadNotifiesBackEndsWithWhatTheStorageSays(t *testing.T) {
	h, storage, _ := newUploadHub(t)
	s := connect(t, h, "d")
	u := begin(t, s, "a/b.txt")
	if u.BlobName != "d/a/b.txt" {
		t.Errorf("blob %q", u.BlobName)
	}
	storage.blobs["d/a/b.txt"] = 250
	if err := s.CompleteFileUpload(ctx, success(u)); err != nil {
		t.Fatal(err)
	}
	want := `{"deviceId":"d","blobUri":"https://storage/uploads/d/a/b.txt","blobName":"d/a/b.txt","lastUpdatedTime":"2026-01-01T00:00:00+00:00",` +
		`"blobSizeInBytes":250,"enqueuedTimeUtc":"2026-01-01T00:00:00.0000000Z"}`
	if got := notifications(t, h); len(got) != 1 || got[0] != want || !json.Valid([]byte(got[0])) {
		t.Errorf("notifications %s", got)
	}
	wantCode(t, s.CompleteFileUpload(ctx, success(u)), CodeInvalidCorrelationID)
}

func TestFailedUploadEndsWithoutNotification(t *testing.T) {
	h, storage, _ := newUploadHub(t)
	s := connect(t, h, "d")
	u := begin(t, s, "a")
	storage.blobs["d/a"] = 1
	if err := s.CompleteFileUpload(ctx, FileUploadResult{CorrelationID: u.CorrelationID, Success: new(false), StatusCode: 500}); err != nil {
		t.Fatal(err)
	}
	if got := notifications(t, h); len(got) != 0 {
		t.Errorf("notifications %s", got)
	}
	wantCode(t, s.CompleteFileUpload(ctx, success(u)), CodeInvalidCorrelationID)
}

func TestDeviceHasTenActiveUploads(t *testing.T) {
	h, storage, advance := newUploadHub(t)
	s, other := connect(t, h, "d"), connect(t, h, "other")
	var uploads []FileUpload
	for i := range maxUploads {
		uploads = append(uploads, begin(t, s, fmt.Sprint(i)))
	}
	_, err := s.CreateFileUpload(ctx, "11th")
	wantCode(t, err, CodeTooManyUploads)
	begin(t, other, "of another device")

	storage.blobs["d/3"] = 1 // one that is completed makes room for one
	if err := s.CompleteFileUpload(ctx, success(uploads[3])); err != nil {
		t.Fatal(err)
	}
	begin(t, s, "next")
	_, err = s.CreateFileUpload(ctx, "12th")
	wantCode(t, err, CodeTooManyUploads)

	wantCode(t, s.CompleteFileUpload(ctx, success(uploads[4])), CodeInvalidStorageOrBlob) // not there: still active
	_, err = s.CreateFileUpload(ctx, "13th")
	wantCode(t, err, CodeTooManyUploads)

	advance(time.Hour) // their URIs end
	for i := range maxUploads {
		begin(t, s, fmt.Sprint("later", i))
	}
}

func TestUploadURILivesAsLongAsConfigured(t *testing.T) {
	h, storage, advance := newUploadHub(t, func(c *Config) { c.UploadTTL = time.Minute })
	s := connect(t, h, "d")
	u := begin(t, s, "a")
	if !storage.granted[0].Equal(start.Add(time.Minute)) {
		t.Errorf("granted until %v", storage.granted[0])
	}
	storage.blobs["d/a"] = 1
	advance(time.Minute + uploadGrace - time.Second) // the last words of an upload that took its time
	if err := s.CompleteFileUpload(ctx, success(u)); err != nil {
		t.Fatal(err)
	}
	late := begin(t, s, "b")
	storage.blobs["d/b"] = 1
	advance(time.Minute + uploadGrace)
	wantCode(t, s.CompleteFileUpload(ctx, success(late)), CodeInvalidCorrelationID) // in its last minute nobody can tell
	advance(time.Minute)
	wantCode(t, s.CompleteFileUpload(ctx, success(late)), CodeExpiredCorrelationID)

	for _, ttl := range []time.Duration{time.Second, 25 * time.Hour, -time.Hour} {
		if _, err := New(Config{Engine: h.cfg.Engine, Clock: h.clock, Logger: h.log, UploadTTL: ttl}); err == nil {
			t.Errorf("a life of %v is taken", ttl)
		}
	}
}

func TestBlobNames(t *testing.T) {
	h, _, _ := newUploadHub(t)
	s := connect(t, h, "d")
	for name, ok := range map[string]bool{
		"a": true, "a b/ü%/c?#.txt": true, strings.Repeat("x", 1022): true, strings.Repeat("ü", 1022): true, "...": true,
		"": false, strings.Repeat("x", 1023): false, ".": false, "a/../b": false, "a\x00b": false, "a\nb": false, "\xff": false,
		strings.Repeat("a/", 253): false,
	} {
		_, err := s.CreateFileUpload(ctx, name)
		if want := map[bool]Code{false: CodeArgumentInvalid}[ok]; codeOf(err) != want {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}

func TestUploadsEndWithTheirDevice(t *testing.T) {
	h, storage, _ := newUploadHub(t)
	s := connect(t, h, "d")
	u := begin(t, s, "a")
	storage.blobs["d/a"] = 1
	if err := h.Admin().DeleteIdentity(ctx, store.Key{DeviceID: "d"}, "*"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.CompleteFileUpload(ctx, success(u)), CodeDeviceNotFound)
	again := connect(t, h, "d") // another device of the same name
	wantCode(t, again.CompleteFileUpload(ctx, success(u)), CodeInvalidCorrelationID)
	for i := range maxUploads {
		begin(t, again, fmt.Sprint(i))
	}
}

func TestResetForgetsUploadsAndNotifications(t *testing.T) {
	h, storage, _ := newUploadHub(t)
	s := connect(t, h, "d")
	done, open := begin(t, s, "a"), begin(t, s, "b")
	storage.blobs["d/a"], storage.blobs["d/b"] = 1, 1
	if err := s.CompleteFileUpload(ctx, success(done)); err != nil {
		t.Fatal(err)
	}
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.CompleteFileUpload(ctx, success(open)), CodeClosed)
	if got := notifications(t, h); len(got) != 0 {
		t.Errorf("notifications %s", got)
	}
}

func TestUploadsWithoutStorageAreRefused(t *testing.T) {
	h, _ := newTestHub(t)
	_, err := connect(t, h, "d").CreateFileUpload(ctx, "a")
	wantCode(t, err, CodeNoStorage)
	with, storage, _ := newUploadHub(t)
	s := connect(t, with, "d")
	u := begin(t, s, "a")
	storage.broken = errors.New("no route to it")
	_, err = s.CreateFileUpload(ctx, "b")
	wantCode(t, err, CodeInvalidStorage)
	wantCode(t, s.CompleteFileUpload(ctx, success(u)), CodeInvalidStorageOrBlob)
	storage.broken = nil
	storage.blobs["d/a"] = 1
	if err := s.CompleteFileUpload(ctx, success(u)); err != nil {
		t.Errorf("when the storage is back: %v", err)
	}
}

// Of many that complete the same upload, one does.
func TestUploadIsCompletedOnce(t *testing.T) {
	h, storage, _ := newUploadHub(t)
	s := connect(t, h, "d")
	u := begin(t, s, "a")
	storage.blobs["d/a"] = 1
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() { results[i] = s.CompleteFileUpload(ctx, success(u)) })
	}
	wg.Wait()
	done := 0
	for _, err := range results {
		if err == nil {
			done++
			continue
		}
		wantCode(t, err, CodeInvalidCorrelationID)
	}
	if got := notifications(t, h); done != 1 || len(got) != 1 {
		t.Errorf("%d completed it, notifications %s", done, got)
	}
}

func TestFileNotificationsAreRedeliveredAndExpire(t *testing.T) {
	h, storage, advance := newUploadHub(t)
	s := connect(t, h, "d")
	storage.blobs["d/a"] = 1
	if err := s.CompleteFileUpload(ctx, success(begin(t, s, "a"))); err != nil {
		t.Fatal(err)
	}
	service := h.Admin()
	m, ok, err := service.PollFileNotification(ctx)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, ok, _ := service.PollFileNotification(ctx); ok {
		t.Error("a locked notification is delivered")
	}
	advance(serviceboundLock)
	wantCode(t, service.CompleteFileNotification(ctx, m.LockToken), CodeLockLost)
	m, _, _ = service.PollFileNotification(ctx)
	if m.DeliveryCount != 2 {
		t.Errorf("delivery %d", m.DeliveryCount)
	}
	if err := service.AbandonFileNotification(ctx, m.LockToken); err != nil {
		t.Fatal(err)
	}
	advance(serviceboundTTL)
	if got := notifications(t, h); len(got) != 0 {
		t.Errorf("after an hour: %s", got)
	}
}
