package hub

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/iolite-emulator/iolite/store"
)

// Limits of file uploads (articles "Quotas and throttling", "Configure file upload" and, for names, "Naming and referencing containers,
// blobs, and metadata").
const (
	maxUploads      = 10 // active ones of a device
	minUploadTTL    = time.Minute
	maxUploadTTL    = 24 * time.Hour
	uploadGrace     = 10 * time.Minute // after the end of the SAS URI in which a completion is still taken
	maxBlobSegments = 254
)

// correlationTime is how a correlation id shows until when it may be used.
const correlationTime = "200601021504"

// Storage is the container of a storage account that devices upload files to.
type Storage interface {
	// Prepare makes sure that the container exists. It is called for every upload.
	Prepare(ctx context.Context) error
	// Grant returns where a device may read and write a blob until a time.
	Grant(blob string, until time.Time) UploadTarget
	// Stat looks at a blob; found is false when there is none.
	Stat(ctx context.Context, blob string) (info BlobInfo, found bool, err error)
}

// UploadTarget is where a device puts a file: https://{HostName}/{ContainerName}/{BlobName}{SASToken}.
type UploadTarget struct {
	HostName      string
	ContainerName string
	BlobName      string
	SASToken      string // with a leading question mark
}

// BlobInfo is what the storage says of a blob.
type BlobInfo struct {
	URI      string // without SAS
	Size     int64  // bytes
	Modified time.Time
}

// FileUpload is an upload that a device has begun.
type FileUpload struct {
	CorrelationID string // names it when it is completed
	UploadTarget
}

// FileUploadResult is what a device says of an upload.
type FileUploadResult struct {
	CorrelationID string
	Success       *bool // must be given
	StatusCode    int
	Description   string
}

// CreateFileUpload begins an upload. The blob's name in the container is "{device id}/{blobName}". An upload is active until it is
// completed or its SAS URI ends. CodeNoStorage, CodeArgumentInvalid (blobName), CodeTooManyUploads (ten are active), CodeInvalidStorage (the
// container cannot be made), CodeClosed (a reset in this moment).
func (s *DeviceSession) CreateFileUpload(ctx context.Context, blobName string) (_ FileUpload, err error) {
	defer func() { err = s.hub.did(opUploadStart, s.key, s.options.Conn, 0, err) }()
	h := s.hub
	if err := s.mayUpload(); err != nil {
		return FileUpload{}, err
	}
	blob := s.key.DeviceID + "/" + blobName
	if problem := checkBlobName(blob); blobName == "" || problem != "" {
		return FileUpload{}, h.NewError(CodeArgumentInvalid, "blobName "+orText(problem, "is missing"))
	}
	if err := h.cfg.Storage.Prepare(ctx); err != nil {
		return FileUpload{}, h.storageError(ctx, CodeInvalidStorage, err)
	}
	now := h.clock.Now()
	u := store.Upload{Owner: s.generation + "/" + s.key.DeviceID, Blob: blob, Ends: now.Add(h.cfg.UploadTTL).Truncate(time.Second)}
	u.Until = u.Ends.Add(uploadGrace)
	u.CorrelationID = newCorrelationID(u.Until, blobName)
	if err := s.begin(ctx, u, now); err != nil {
		return FileUpload{}, err
	}
	h.metrics.uploads.WithLabelValues("started").Inc()
	return FileUpload{u.CorrelationID, h.cfg.Storage.Grant(blob, u.Ends)}, nil
}

// mayUpload refuses sessions and hubs without uploads.
func (s *DeviceSession) mayUpload() error {
	if err := s.live(); err != nil {
		return err
	}
	switch {
	case s.key.ModuleID != "":
		return s.hub.NewError(CodeInvalidOperation, "a module has no file uploads")
	case s.hub.cfg.Storage == nil:
		return s.hub.NewError(CodeNoStorage)
	}
	return nil
}

// begin keeps an upload unless the hub was reset since the session began.
func (s *DeviceSession) begin(ctx context.Context, u store.Upload, now time.Time) error {
	if !s.hub.enter(s.partition, s.era) {
		return s.hub.NewError(CodeClosed)
	}
	defer s.hub.leave(s.partition)
	err := s.hub.cfg.Engine.Uploads().Begin(ctx, u, now, maxUploads)
	if errors.Is(err, store.ErrFull) {
		return s.hub.NewError(CodeTooManyUploads)
	}
	return err
}

// checkBlobName says what is wrong with a name in a container: a blob's has 1 to 1024 characters and at most 254 segments; a dot for a
// segment would lead clients elsewhere.
func checkBlobName(name string) string {
	switch {
	case !utf8.ValidString(name):
		return "is not UTF-8"
	case utf8.RuneCountInString(name) > maxBlobName:
		return fmt.Sprintf("has, with the device's id before it, more than %d characters", maxBlobName)
	case strings.Count(name, "/") >= maxBlobSegments:
		return fmt.Sprintf("has more than %d segments", maxBlobSegments)
	case strings.ContainsFunc(name, unicode.IsControl):
		return "has control characters"
	}
	for segment := range strings.SplitSeq(name, "/") {
		if segment == "." || segment == ".." {
			return "has a segment of dots"
		}
	}
	return ""
}

func orText(text, or string) string {
	if text == "" {
		return or
	}
	return text
}

// newCorrelationID makes an id of the form that the real hub's have, but of characters that need no escape in a path.
func newCorrelationID(until time.Time, blobName string) string {
	return base64.URLEncoding.EncodeToString([]byte(until.UTC().Format(correlationTime) + "_" + newUUID() + "_" + blobName + "_ver2.0"))
}

// correlationEnd reads from a correlation id until when it could be used; ok is false for what is no such id.
func correlationEnd(id string) (end time.Time, ok bool) {
	text, err := base64.URLEncoding.DecodeString(id)
	if err != nil || len(text) < len(correlationTime) {
		return end, false
	}
	end, err = time.Parse(correlationTime, string(text[:len(correlationTime)]))
	return end, err == nil
}

// CompleteFileUpload ends an upload, and notifies back ends of one that succeeded. CodeInvalidCorrelationID (unknown, another device's, or
// completed before), CodeExpiredCorrelationID, CodeInvalidUploadStatus, CodeInvalidStorageOrBlob (the blob is not there: the upload stays
// active), CodeNoStorage.
func (s *DeviceSession) CompleteFileUpload(ctx context.Context, r FileUploadResult) (err error) {
	defer func() { err = s.hub.did(opUploadEnd, s.key, s.options.Conn, 0, err) }()
	h := s.hub
	if err := s.mayUpload(); err != nil {
		return err
	}
	owner := s.generation + "/" + s.key.DeviceID
	u, err := h.cfg.Engine.Uploads().Find(ctx, owner, r.CorrelationID, h.clock.Now())
	switch {
	case err != nil:
		return h.unknownUpload(r.CorrelationID, err)
	case r.Success == nil:
		return h.NewError(CodeInvalidUploadStatus, "isSuccess is missing")
	case !*r.Success:
		return s.failed(ctx, u, r)
	}
	info, found, err := h.cfg.Storage.Stat(ctx, u.Blob)
	switch {
	case err != nil:
		return h.storageError(ctx, CodeInvalidStorageOrBlob, err)
	case !found:
		return h.NewError(CodeInvalidStorageOrBlob, "there is no blob "+strconv.Quote(u.Blob))
	}
	return s.uploaded(ctx, u, info)
}

// unknownUpload tells why an id names no upload.
func (h *Hub) unknownUpload(id string, err error) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if end, ok := correlationEnd(id); ok && !end.Add(time.Minute).After(h.clock.Now()) {
		return h.NewError(CodeExpiredCorrelationID)
	}
	return h.NewError(CodeInvalidCorrelationID)
}

// storageError is why the storage failed, for the log; a device learns only that it did.
func (h *Hub) storageError(ctx context.Context, code Code, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := h.NewError(code, "the storage cannot be used")
	e.cause = cause
	return e
}

// failed ends an upload that the device gave up. IoT Hub notifies nobody of those.
func (s *DeviceSession) failed(ctx context.Context, u store.Upload, r FileUploadResult) error {
	if err := s.hub.cfg.Engine.Uploads().Finish(ctx, u.Owner, u.CorrelationID); err != nil {
		return s.hub.unknownUpload(u.CorrelationID, err)
	}
	s.hub.metrics.uploads.WithLabelValues("failed").Inc()
	s.hub.note(slog.LevelError, opUploadEnd, s.key, "file upload failed", slog.String("blobName", u.Blob),
		slog.Int("statusCode", r.StatusCode), slog.String("statusDescription", r.Description))
	return nil
}

// uploaded ends an upload whose blob is there.
func (s *DeviceSession) uploaded(ctx context.Context, u store.Upload, info BlobInfo) error {
	h := s.hub
	h.files.mu.Lock()
	defer h.files.unlock()
	if !h.enter(s.partition, s.era) {
		return h.NewError(CodeClosed)
	}
	defer h.leave(s.partition)
	if err := h.cfg.Engine.Uploads().Finish(ctx, u.Owner, u.CorrelationID); err != nil {
		return h.unknownUpload(u.CorrelationID, err)
	}
	h.metrics.uploads.WithLabelValues("completed").Inc()
	h.files.post(appendFileNotification(nil, s.key.DeviceID, u.Blob, info, h.clock.Now()))
	return nil
}

// appendFileNotification appends a notification (article "Upload files with IoT Hub", section File upload notifications).
func appendFileNotification(b []byte, deviceID, blob string, info BlobInfo, now time.Time) []byte {
	b = appendText(append(b, `{"deviceId":`...), deviceID)
	b = appendText(append(b, `,"blobUri":`...), info.URI)
	b = appendText(append(b, `,"blobName":`...), blob)
	b = append(info.Modified.UTC().AppendFormat(append(b, `,"lastUpdatedTime":"`...), "2006-01-02T15:04:05+00:00"), '"')
	b = strconv.AppendInt(append(b, `,"blobSizeInBytes":`...), info.Size, 10)
	b = append(now.UTC().AppendFormat(append(b, `,"enqueuedTimeUtc":"`...), feedbackTime), '"')
	return append(b, '}')
}

// newUploadMetrics counts what becomes of uploads.
func newUploadMetrics() *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "iolite_file_uploads_total", Help: "File uploads started, completed with the blob there, and reported as failed."}, []string{"event"})
	for _, event := range []string{"started", "completed", "failed"} {
		v.WithLabelValues(event)
	}
	return v
}

func (h *Hub) initFiles() {
	f := &h.files
	f.op = opFileNotification
	f.what, f.resource, f.to = "file notification", "messages/servicebound/filenotifications", "/messages/serviceBound/filenotifications"
	f.contentType = "application/vnd.microsoft.iothub.filenotification.json"
	f.init(h, h.cfg.Engine.FileNotifications(), nil)
}

// SubscribeFileNotifications pushes notifications of file uploads; the rules of SubscribeFeedback hold. The body of each message is one
// JSON object. ServiceConnect.
func (s *ServiceSession) SubscribeFileNotifications(deliver func(store.Message) bool) (*Subscription, error) {
	return s.subscribe(&s.hub.files, deliver)
}

// PollFileNotification locks the next notification; ok is false when there is none. ServiceConnect.
func (s *ServiceSession) PollFileNotification(ctx context.Context) (m store.Message, ok bool, err error) {
	return s.poll(ctx, &s.hub.files)
}

// CompleteFileNotification removes a notification. CodeLockLost.
func (s *ServiceSession) CompleteFileNotification(ctx context.Context, lockToken string) error {
	return s.complete(ctx, &s.hub.files, lockToken)
}

// AbandonFileNotification gives a notification back to be delivered again. CodeLockLost.
func (s *ServiceSession) AbandonFileNotification(ctx context.Context, lockToken string) error {
	return s.abandon(ctx, &s.hub.files, lockToken)
}
