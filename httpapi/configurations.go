package httpapi

import (
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
)

// listConfigurations is GET /configurations?top=n.
func (s *Server) listConfigurations(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	top, err := queryTop(r)
	if err != nil {
		return err
	}
	list, err := sv.Configurations(r.Context(), top)
	if err != nil {
		return err
	}
	replyList(w, list, func(b []byte, c *hub.Configuration) []byte { return c.AppendJSON(b) })
	return nil
}

// getConfiguration is GET /configurations/{configuration}.
func (s *Server) getConfiguration(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	c, err := sv.Configuration(r.Context(), param(r, "configuration"))
	if err != nil {
		return err
	}
	replyConfiguration(w, &c)
	return nil
}

// putConfiguration is PUT /configurations/{configuration}: create, or with a quoted If-Match update.
func (s *Server) putConfiguration(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	body, err := readJSONText(r)
	if err != nil {
		return err
	}
	defer releaseBody(body)
	etag, _ := ifMatch(r)
	c, err := sv.PutConfiguration(r.Context(), param(r, "configuration"), body.Bytes(), etag)
	if err != nil {
		return err
	}
	replyConfiguration(w, &c)
	return nil
}

// replyConfiguration answers with a configuration and its etag.
func replyConfiguration(w http.ResponseWriter, c *hub.Configuration) {
	setETag(w, c.ETag)
	replyAppended(w, c.AppendJSON)
}

// deleteConfiguration is DELETE /configurations/{configuration}.
func (s *Server) deleteConfiguration(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	etag, _ := ifMatch(r)
	if err := sv.DeleteConfiguration(r.Context(), param(r, "configuration"), etag); err != nil {
		return err
	}
	return noContent(w)
}

// testQueries is POST /configurations/testQueries: what is wrong with a target condition and metrics.
func (s *Server) testQueries(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	body, err := readJSONText(r)
	if err != nil {
		return err
	}
	defer releaseBody(body)
	problems, err := sv.TestConfigurationQueries(r.Context(), body.Bytes())
	if err != nil {
		return err
	}
	replyAppended(w, problems.AppendJSON)
	return nil
}

// applyConfiguration is POST /devices/{device}/applyConfigurationContent. The Python SDK takes nothing but 204.
func (s *Server) applyConfiguration(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	body, err := readJSONText(r)
	if err != nil {
		return err
	}
	defer releaseBody(body)
	if err := sv.ApplyConfiguration(r.Context(), param(r, "device"), body.Bytes()); err != nil {
		return err
	}
	return noContent(w)
}
