package httpapi

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/iolite-emulator/iolite/hub"
)

// putJob is PUT /jobs/v2/{job}: schedule a job.
func (s *Server) putJob(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	body, err := readJSONText(r)
	if err != nil {
		return err
	}
	defer releaseBody(body)
	return replyJob(w)(sv.ScheduleJob(r.Context(), param(r, "job"), body.Bytes()))
}

// getJob is GET /jobs/v2/{job}. A job that nobody knows is answered with 200 and the type and status "unknown".
func (s *Server) getJob(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	return replyJob(w)(sv.Job(r.Context(), param(r, "job")))
}

// cancelJob is POST /jobs/v2/{job}/cancel.
func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	return replyJob(w)(sv.CancelJob(r.Context(), param(r, "job")))
}

// replyJob returns what answers with a job.
func replyJob(w http.ResponseWriter) func(hub.Job, error) error {
	return func(j hub.Job, err error) error {
		if err == nil {
			replyAppended(w, j.AppendJSON)
		}
		return err
	}
}

// queryJobs is GET /jobs/v2/query?jobType=t&jobStatus=s, a page at a time. pageSize and continuationToken are how older SDKs ask for it.
func (s *Server) queryJobs(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	kind, _ := queryValue(r.URL.RawQuery, "jobType")
	status, _ := queryValue(r.URL.RawQuery, "jobStatus")
	p, err := paging(r)
	if err != nil {
		return err
	}
	page, err := sv.QueryJobs(r.Context(), hub.JobQuery{Type: kind, Status: status, Size: p.size, Continuation: p.continuation})
	if err != nil {
		return err
	}
	setPage(w, "JobResponse", page.Continuation)
	replyList(w, page.Jobs, func(b []byte, j *hub.Job) []byte { return j.AppendJSON(b) })
	return nil
}

// pageAsked is the page that a request asks for.
type pageAsked struct {
	size         int // 0 when not said
	continuation string
}

// paging reads what a request says about the page it wants: headers, or the query parameters of older SDKs.
func paging(r *http.Request) (p pageAsked, err error) {
	size := r.Header.Get("x-ms-max-item-count")
	if size == "" {
		size, _ = queryValue(r.URL.RawQuery, "pageSize")
	}
	if p.continuation = r.Header.Get("x-ms-continuation"); p.continuation == "" {
		p.continuation, _ = queryValue(r.URL.RawQuery, "continuationToken")
	}
	if size == "" {
		return p, nil
	}
	if p.size, err = strconv.Atoi(size); err != nil || p.size < 1 {
		return p, refuse(hub.CodeArgumentInvalid, fmt.Sprintf("x-ms-max-item-count: %q is no positive number", size))
	}
	return p, nil
}

// setPage sends what a page is made of and, when there is a next one, how to ask for it.
func setPage(w http.ResponseWriter, itemType, continuation string) {
	h := w.Header()
	h["x-ms-item-type"] = []string{itemType}
	if continuation != "" {
		h["x-ms-continuation"] = []string{continuation}
	}
}
