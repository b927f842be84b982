package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/store"
)

// Bounds on import and export jobs, all but the first Iolite's own.
const (
	maxTransfers    = 1   // at once, in every tier
	transfersKept   = 100 // jobs that are over; the oldest go first
	transferTime    = time.Hour
	maxImport       = 1 << 30 // bytes of a devices.txt
	maxImportErrors = 8 << 20 // bytes of an importErrors.log; what does not fit is counted
	maxBlobName     = 1024
)

// The default names of blobs.
const (
	devicesBlob        = "devices.txt"
	configurationsBlob = "configurations.txt"
	errorsBlob         = "importErrors.log"
)

// Blobs reaches blob containers, each by a URI with a SAS that gives access.
type Blobs interface {
	// Get opens a blob; size is -1 when it is not known.
	Get(ctx context.Context, container, name string) (body io.ReadCloser, size int64, err error)
	// Put makes or replaces a blob.
	Put(ctx context.Context, container, name string, body io.Reader) error
}

// ImportExportJob is a job that exports the registry to a blob container, or imports it from one.
type ImportExportJob struct {
	ID            string
	Type          string // export or import
	Status        string // enqueued, running, completed, failed, cancelled
	Progress      int    // percent
	FailureReason string
	Start, End    time.Time // zero when not yet
	ExcludeKeys   bool

	Configurations              bool // includeConfigurations
	InputContainer, InputBlob   string
	OutputContainer, OutputBlob string
	ConfigurationsBlob          string
}

// transfers are the import and export jobs of a hub, which live in its memory only. mu is of level 0.
type transfers struct {
	hub *Hub
	mu  sync.Mutex
	all []*transfer // oldest first
}

// transfer is an import or export job, guarded by transfers.mu.
type transfer struct {
	ImportExportJob
	era  int64
	stop context.CancelFunc
}

// CreateImportExportJob starts a job from the JSON body of POST /jobs/create. RegistryRead and RegistryWrite. CodeArgumentInvalid,
// CodeJobQuotaExceeded (one at a time), CodeBlobContainer, CodeNotImplemented (identity-based access to the storage).
func (s *ServiceSession) CreateImportExportJob(ctx context.Context, body []byte) (_ ImportExportJob, err error) {
	defer func() { err = s.hub.did(opImportExport, store.Key{}, s.conn, 0, err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.RegistryRead|auth.RegistryWrite, "jobs/create"); err != nil {
		return ImportExportJob{}, err
	}
	job, err := s.hub.parseTransfer(body)
	if err != nil {
		return job, err
	}
	return s.hub.transfers.begin(era, job)
}

func (h *Hub) parseTransfer(body []byte) (job ImportExportJob, err error) {
	v, err := h.parseDocument(body)
	if err != nil {
		return job, err
	}
	text := func(name, or string) string {
		if t := v.Get(name).Text(); t != "" {
			return t
		}
		return or
	}
	job = ImportExportJob{
		ID: newUUID(), Type: strings.ToLower(text("type", "")), Status: jobEnqueued, Start: h.clock.Now(),
		ExcludeKeys: v.Get("excludeKeysInExport").Bool(), Configurations: v.Get("includeConfigurations").Bool(),
		InputContainer: text("inputBlobContainerUri", ""), InputBlob: text("inputBlobName", devicesBlob),
		OutputContainer: text("outputBlobContainerUri", ""), OutputBlob: text("outputBlobName", ""), ConfigurationsBlob: text("configurationsBlobName", configurationsBlob),
	}
	if job.OutputBlob == "" {
		job.OutputBlob = map[string]string{"export": devicesBlob}[job.Type]
	}
	switch {
	case job.Type != "export" && job.Type != "import":
		return job, h.NewError(CodeArgumentInvalid, "type is neither export nor import")
	case len(job.InputBlob) > maxBlobName || len(job.OutputBlob) > maxBlobName || len(job.ConfigurationsBlob) > maxBlobName:
		return job, h.NewError(CodeArgumentInvalid, "the name of a blob is longer than 1024 characters")
	case strings.EqualFold(text("storageAuthenticationType", ""), "identityBased"):
		return job, h.NewError(CodeNotImplemented, "storage that a managed identity gives access to")
	case h.cfg.Blobs == nil:
		return job, h.NewError(CodeBlobContainer, "this hub reaches no storage")
	}
	return job, h.checkContainers(&job)
}

// checkContainers refuses containers that cannot be reached, whatever the storage says.
func (h *Hub) checkContainers(job *ImportExportJob) error {
	wanted := map[string]string{"outputBlobContainerUri": job.OutputContainer}
	if job.Type == "import" {
		wanted["inputBlobContainerUri"] = job.InputContainer
	}
	for name, uri := range wanted {
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return h.NewError(CodeBlobContainer, name+" is no http or https URI of a container")
		}
	}
	return nil
}

// begin has a job run on a goroutine of its own, which ends with the job, with transferTime, a reset or the hub.
func (t *transfers) begin(era int64, job ImportExportJob) (ImportExportJob, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	running := 0
	for _, other := range t.all {
		if other.era == era && !isFinal(other.Status) {
			running++
		}
	}
	if running >= maxTransfers {
		return job, t.hub.NewError(CodeJobQuotaExceeded)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &transfer{ImportExportJob: job, era: era, stop: stop}
	if t.hub.closed.Load() || t.hub.era.Load() != era || !t.hub.pushes.run(func() { t.run(ctx, r) }) {
		stop()
		return job, t.hub.NewError(CodeClosed)
	}
	if t.all = append(t.all, r); len(t.all) > transfersKept {
		t.all = t.all[1:]
	}
	return job, nil
}

// run carries a job out.
func (t *transfers) run(ctx context.Context, r *transfer) {
	defer r.stop()
	limit := t.hub.clock.AfterFunc(transferTime, r.stop)
	defer limit.Stop()
	job, ok := t.update(r, func(j *ImportExportJob) { j.Status = jobRunning })
	if !ok {
		return
	}
	work := t.hub.export
	if job.Type == "import" {
		work = t.hub.importAll
	}
	err := work(ctx, r.era, job, func(percent int) {
		t.update(r, func(j *ImportExportJob) { j.Progress = percent })
	})
	t.update(r, func(j *ImportExportJob) {
		j.End = t.hub.clock.Now()
		switch {
		case err == nil:
			j.Status, j.Progress = jobCompleted, 100
		case errors.Is(err, context.Canceled):
			j.Status, j.FailureReason = jobFailed, "the job took longer than an hour"
		default:
			j.Status, j.FailureReason = jobFailed, err.Error()
		}
	})
}

// update changes a job that is not over, and reports false for one that is.
func (t *transfers) update(r *transfer, change func(*ImportExportJob)) (ImportExportJob, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if isFinal(r.Status) {
		return r.ImportExportJob, false
	}
	change(&r.ImportExportJob)
	return r.ImportExportJob, true
}

// clear ends and forgets the jobs of former eras, and ends all jobs of a closed hub.
func (t *transfers) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	era, closed := t.hub.era.Load(), t.hub.closed.Load()
	t.all = slices.DeleteFunc(t.all, func(r *transfer) bool {
		if closed || r.era != era {
			r.stop()
		}
		return r.era != era
	})
}

// ImportExportJobs lists the jobs, newest first. RegistryRead.
func (s *ServiceSession) ImportExportJobs(ctx context.Context) ([]ImportExportJob, error) {
	if err := s.need(ctx, auth.RegistryRead, "jobs"); err != nil {
		return nil, err
	}
	t := &s.hub.transfers
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]ImportExportJob, 0, len(t.all))
	for _, r := range slices.Backward(t.all) {
		list = append(list, r.ImportExportJob)
	}
	return list, nil
}

// find returns the job of an id. The caller holds mu.
func (t *transfers) find(id string) *transfer {
	if at := slices.IndexFunc(t.all, func(r *transfer) bool { return r.ID == id }); at >= 0 {
		return t.all[at]
	}
	return nil
}

// ImportExportJob returns a job. RegistryRead. CodeJobNotFound.
func (s *ServiceSession) ImportExportJob(ctx context.Context, id string) (ImportExportJob, error) {
	if err := s.need(ctx, auth.RegistryRead, "jobs/"+id); err != nil {
		return ImportExportJob{}, err
	}
	t := &s.hub.transfers
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.find(id); r != nil {
		return r.ImportExportJob, nil
	}
	return ImportExportJob{}, s.hub.NewError(CodeJobNotFound, id)
}

// CancelImportExportJob ends a job; what it has done stays done. One that is over stays as it is. RegistryWrite. CodeJobNotFound.
func (s *ServiceSession) CancelImportExportJob(ctx context.Context, id string) error {
	if err := s.need(ctx, auth.RegistryWrite, "jobs/"+id); err != nil {
		return err
	}
	t := &s.hub.transfers
	t.mu.Lock()
	r := t.find(id)
	t.mu.Unlock()
	if r == nil {
		return s.hub.NewError(CodeJobNotFound, id)
	}
	t.update(r, func(j *ImportExportJob) { j.Status, j.End = jobCancelled, s.hub.clock.Now() })
	r.stop()
	return nil
}

// AppendJSON appends the job as GET /jobs/{id} answers it. URIs are shown without their SAS.
func (j *ImportExportJob) AppendJSON(b []byte) []byte {
	b = appendText(append(b, `{"jobId":`...), j.ID)
	b = appendText(append(b, `,"type":`...), j.Type)
	b = appendText(append(b, `,"status":`...), j.Status)
	b = strconv.AppendInt(append(b, `,"progress":`...), int64(j.Progress), 10)
	b = appendTime(append(b, `,"startTimeUtc":`...), j.Start)
	if !j.End.IsZero() {
		b = appendTime(append(b, `,"endTimeUtc":`...), j.End)
	}
	b = appendOrNull(append(b, `,"inputBlobContainerUri":`...), withoutSAS(j.InputContainer))
	b = appendOrNull(append(b, `,"outputBlobContainerUri":`...), withoutSAS(j.OutputContainer))
	b = appendOrNull(append(b, `,"inputBlobName":`...), map[bool]string{true: j.InputBlob}[j.Type == "import"])
	b = appendOrNull(append(b, `,"outputBlobName":`...), j.OutputBlob)
	b = strconv.AppendBool(append(b, `,"excludeKeysInExport":`...), j.ExcludeKeys)
	b = strconv.AppendBool(append(b, `,"includeConfigurations":`...), j.Configurations)
	b = append(b, `,"storageAuthenticationType":"keyBased"`...)
	return append(appendOrNull(append(b, `,"failureReason":`...), j.FailureReason), '}')
}

func withoutSAS(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	return uri
}

// errorLog collects the lines of an importErrors.log.
type errorLog struct {
	text []byte
	lost int
}

func (l *errorLog) add(line document.Value) {
	if len(l.text) > maxImportErrors {
		l.lost++
		return
	}
	l.text = append(line.AppendJSON(l.text), '\n')
}

func (l *errorLog) String() string {
	if l.lost > 0 {
		return fmt.Sprintf("%s{\"lost\":%d}\n", l.text, l.lost)
	}
	return string(l.text)
}
