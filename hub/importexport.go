package hub

import (
	"context"
	"time"
)

// ImportExportJob is a job that exports the registry to a blob container, or imports it from one. It never shows where to: the URIs carry
// keys.
type ImportExportJob struct {
	ID            string
	Type          string // export or import
	Status        string // enqueued, running, completed, failed, cancelled
	Progress      int    // percent
	FailureReason string
	Start, End    time.Time // zero when not yet
	ExcludeKeys   bool
}

// CreateImportExportJob starts a job from the JSON body of POST /jobs/create. RegistryRead and RegistryWrite. CodeArgumentInvalid,
// CodeJobQuotaExceeded (one at a time), CodeBlobContainer.
func (s *ServiceSession) CreateImportExportJob(_ context.Context, _ []byte) (ImportExportJob, error) {
	return ImportExportJob{}, s.hub.NewError(CodeNotImplemented, "import and export jobs")
}

// ImportExportJobs lists the jobs, newest first. RegistryRead.
func (s *ServiceSession) ImportExportJobs(_ context.Context) ([]ImportExportJob, error) {
	return nil, s.hub.NewError(CodeNotImplemented, "import and export jobs")
}

// ImportExportJob returns a job. RegistryRead. CodeJobNotFound.
func (s *ServiceSession) ImportExportJob(_ context.Context, _ string) (ImportExportJob, error) {
	return ImportExportJob{}, s.hub.NewError(CodeNotImplemented, "import and export jobs")
}

// CancelImportExportJob ends a job; one that is over stays as it is. RegistryWrite. CodeJobNotFound.
func (s *ServiceSession) CancelImportExportJob(_ context.Context, _ string) error {
	return s.hub.NewError(CodeNotImplemented, "import and export jobs")
}

// AppendJSON appends the job as GET /jobs/{id} answers it.
func (j *ImportExportJob) AppendJSON(b []byte) []byte {
	return append(b, "{}"...)
}
