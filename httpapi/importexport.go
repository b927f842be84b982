package httpapi

import (
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
)

// createImportExportJob is POST /jobs/create.
func (s *Server) createImportExportJob(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	body, err := readJSONText(r)
	if err != nil {
		return err
	}
	defer releaseBody(body)
	j, err := sv.CreateImportExportJob(r.Context(), body.Bytes())
	if err != nil {
		return err
	}
	replyAppended(w, j.AppendJSON)
	return nil
}

// listImportExportJobs is GET /jobs.
func (s *Server) listImportExportJobs(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	jobs, err := sv.ImportExportJobs(r.Context())
	if err != nil {
		return err
	}
	replyList(w, jobs, func(b []byte, j *hub.ImportExportJob) []byte { return j.AppendJSON(b) })
	return nil
}

// getImportExportJob is GET /jobs/{job}.
func (s *Server) getImportExportJob(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	j, err := sv.ImportExportJob(r.Context(), param(r, "job"))
	if err != nil {
		return err
	}
	replyAppended(w, j.AppendJSON)
	return nil
}

// cancelImportExportJob is DELETE /jobs/{job}.
func (s *Server) cancelImportExportJob(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	if err := sv.CancelImportExportJob(r.Context(), param(r, "job")); err != nil {
		return err
	}
	return noContent(w)
}
