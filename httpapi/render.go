package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

const jsonType = "application/json; charset=utf-8"

// begin sets the headers that every answer has. The map is written directly: net/http would send "Etag" and "X-Ms-Request-Id",
// and lose the case of property names.
func begin(w http.ResponseWriter) http.Header {
	h := w.Header()
	h["x-ms-request-id"] = []string{requestID()}
	return h
}

// reply answers with a JSON value. It must be one that encoding/json can encode.
func reply(w http.ResponseWriter, status int, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	replyText(w, status, body)
	return nil
}

// replyText answers with a JSON text.
func replyText(w http.ResponseWriter, status int, body []byte) {
	begin(w)
	writeText(w, status, body)
}

// writeText is replyText after begin.
func writeText(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = []string{jsonType}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: nobody to tell
}

// replyAppended answers 200 with the JSON text that write appends.
func replyAppended(w http.ResponseWriter, write func([]byte) []byte) {
	b := bodyPool.Get().(*bytes.Buffer)
	text := write(b.AvailableBuffer())
	replyText(w, http.StatusOK, text)
	b.Write(text) // keeps the room for the next
	releaseBody(b)
}

// replyList answers with an array of what write appends for each item.
func replyList[T any](w http.ResponseWriter, items []T, write func([]byte, *T) []byte) {
	replyAppended(w, func(b []byte) []byte {
		b = append(b, '[')
		for i := range items {
			if i > 0 {
				b = append(b, ',')
			}
			b = write(b, &items[i])
		}
		return append(b, ']')
	})
}

// noContent answers 204.
func noContent(w http.ResponseWriter) error {
	begin(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// setETag sends an etag quoted, as every IoT Hub resource has it.
func setETag(w http.ResponseWriter, etag string) {
	w.Header()["ETag"] = []string{`"` + etag + `"`}
}

// fail answers with err. Most operations come in the classic envelope, module conflicts in the flat one.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := s.hubError(r, err)
	if e.Code == hub.CodeModuleAlreadyExists {
		failWith(w, e, flat(s, e))
		return
	}
	failWith(w, e, classic(e))
}

// failNested answers with err in the envelope of direct methods.
func (s *Server) failNested(w http.ResponseWriter, r *http.Request, err error) {
	e := s.hubError(r, err)
	failWith(w, e, nested(s, e))
}

// hubError returns err as the hub error to render, and logs it.
func (s *Server) hubError(r *http.Request, err error) *hub.Error {
	return s.answer(r, store.Key{DeviceID: param(r, "device"), ModuleID: param(r, "module")}, err)
}

// answer is hubError for a request about key.
func (s *Server) answer(r *http.Request, key store.Key, err error) *hub.Error {
	if own := (*refusal)(nil); errors.As(err, &own) {
		err = s.hub.NewError(own.code, own.detail)
	}
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil { // said to nobody, or to the half of a connection that still listens
		return s.hub.NewError(hub.CodeClientClosed)
	}
	at := hub.Peer{Conn: wireOf(r).Conn, Key: key, Category: category(r)}
	return s.hub.Answer(at, err, slog.String("method", r.Method), slog.String("path", r.URL.EscapedPath()))
}

func failWith(w http.ResponseWriter, e *hub.Error, body any) {
	h := w.Header()
	h["iothub-errorcode"] = []string{e.Name}
	if e.Status == http.StatusTooManyRequests { // IoT Hub: a throttled client is hung up on
		h["Connection"] = []string{"close"}
	}
	if e.RetryAfter > 0 {
		h["Retry-After"] = []string{strconv.Itoa(e.RetryAfter)}
	}
	_ = reply(w, e.Status, body)
}

// classic is the envelope of most operations: the name in the text must agree with the header, or the C# SDK knows no code.
func classic(e *hub.Error) any {
	return struct {
		Message          string
		ExceptionMessage string
	}{"ErrorCode:" + e.Name + ";" + e.Text, "Tracking ID:" + e.TrackingID}
}

// flat is the envelope of module conflicts.
func flat(s *Server, e *hub.Error) any { return json.RawMessage(s.hub.AppendError(nil, e)) }

// nested is the envelope of direct methods. The empty ExceptionMessage matters: the Java SDK appends it to the nested JSON and
// then parses the whole.
func nested(s *Server, e *hub.Error) any {
	inner := s.hub.AppendError(nil, e)
	inner = append(inner[:len(inner)-1], `,"info":{`...)
	if e.Timeout != "" {
		inner = document.AppendString(append(inner, `"timeout":`...), e.Timeout)
	}
	return struct {
		Message          string
		ExceptionMessage string
	}{string(append(inner, "}}"...)), ""}
}
