package httpapi

import (
	"context"
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// servicebound is a queue from the hub to back ends, below /messages/servicebound/.
type servicebound struct {
	contentType string
	poll        func(*hub.ServiceSession, context.Context) (m store.Message, ok bool, err error)
	complete    settlement
	abandon     settlement
}

type settlement func(s *hub.ServiceSession, ctx context.Context, lockToken string) error

var (
	feedback = servicebound{
		"application/vnd.microsoft.iothub.feedback.json",
		(*hub.ServiceSession).PollFeedback, (*hub.ServiceSession).CompleteFeedback, (*hub.ServiceSession).AbandonFeedback,
	}
	fileNotifications = servicebound{
		"application/vnd.microsoft.iothub.filenotification.json",
		(*hub.ServiceSession).PollFileNotification, (*hub.ServiceSession).CompleteFileNotification, (*hub.ServiceSession).AbandonFileNotification,
	}
)

// get is GET /messages/servicebound/...: lock and return the next message.
func (q servicebound) get(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
	m, ok, err := q.poll(sv, r.Context())
	if err != nil {
		return err
	}
	if !ok {
		return noContent(w)
	}
	writeMessage(w, m, []string{q.contentType})
	return nil
}

// settle is DELETE .../{lock} with complete, and POST .../{lock}/abandon with abandon.
func (servicebound) settle(do settlement) serviceHandler {
	return func(w http.ResponseWriter, r *http.Request, sv *hub.ServiceSession) error {
		if err := do(sv, r.Context(), param(r, "lock")); err != nil {
			return err
		}
		return noContent(w)
	}
}
