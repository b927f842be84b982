package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/iolite-emulator/iolite/hub"
)

// getDigitalTwin is GET /digitaltwins/{device}.
func (s *Server) getDigitalTwin(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	t, err := sv.DigitalTwin(r.Context(), param(r, "device"))
	if err != nil {
		return err
	}
	setETag(w, t.ETag())
	replyAppended(w, t.AppendJSON)
	return nil
}

// patchDigitalTwin is PATCH /digitaltwins/{device}: a JSON Patch of desired properties, answered with 202, the new etag and where to look.
func (s *Server) patchDigitalTwin(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	body, err := readJSONText(r)
	if err != nil {
		return err
	}
	defer releaseBody(body)
	given, _ := ifMatch(r)
	etag, err := sv.UpdateDigitalTwin(r.Context(), param(r, "device"), body.Bytes(), given)
	if err != nil {
		return err
	}
	setETag(w, etag)
	h := begin(w)
	h["Location"] = []string{"https://" + r.Host + r.URL.EscapedPath()}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// postCommand is POST /digitaltwins/{device}[/components/{component}]/commands/{command}: call a command, whose argument is the body, and
// wait for its result.
func (s *Server) postCommand(w http.ResponseWriter, r *http.Request) {
	result, err := s.command(w, r)
	if err != nil {
		s.failNested(w, r, err)
		return
	}
	h := begin(w)
	h["x-ms-command-statuscode"] = []string{strconv.Itoa(result.Status)}
	h["x-ms-request-id"] = []string{result.RequestID}
	writeText(w, http.StatusOK, result.Payload)
}

func (s *Server) command(w http.ResponseWriter, r *http.Request) (hub.CommandResult, error) {
	sv, err := s.openService(r)
	if err != nil {
		return hub.CommandResult{}, err
	}
	defer sv.Close()
	call := hub.MethodCall{Name: param(r, "command")}
	if call.ConnectTimeout, err = querySeconds(r, "connectTimeoutInSeconds"); err != nil {
		return hub.CommandResult{}, err
	}
	if call.ResponseTimeout, err = querySeconds(r, "responseTimeoutInSeconds"); err != nil {
		return hub.CommandResult{}, err
	}
	body, err := readJSONText(r)
	if err != nil {
		return hub.CommandResult{}, err
	}
	defer releaseBody(body)
	call.Payload = body.Bytes()
	return await(w, r, func(ctx context.Context) (hub.CommandResult, error) {
		return sv.InvokeCommand(ctx, param(r, "device"), param(r, "component"), call)
	})
}

// querySeconds reads a query parameter that is a number of seconds, 0 when it is not there.
func querySeconds(r *http.Request, name string) (time.Duration, error) {
	text, ok := queryValue(r.URL.RawQuery, name)
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, refuse(hub.CodeArgumentInvalid, fmt.Sprintf("%s: %q is not a number", name, text))
	}
	return seconds(n), nil
}
