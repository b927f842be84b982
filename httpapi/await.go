package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

// await calls work, which may wait for minutes in the hub's time. Meanwhile no time-out of HTTP counts, and a client that hangs up ends
// the context. Afterwards the answer has writeTimeout to go out.
func await[T any](w http.ResponseWriter, r *http.Request, work func(context.Context) (T, error)) (T, error) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // fails only for a writer that is not of net/http
	_ = c.SetWriteDeadline(time.Time{})
	wireOf(r).listen()
	result, err := work(r.Context())
	_ = c.SetWriteDeadline(clock.Wall().Add(writeTimeout))
	return result, err
}
