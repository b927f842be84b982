package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// Limits of a request for events.
const (
	maxEvents       = 1000 // in one answer
	defaultEvents   = 100
	maxEventBytes   = 16 << 20 // of an answer, about; the first event always fits
	maxEventTimeout = 10 * time.Minute
	maxLasting      = 100              // requests that wait or follow, at once: each is woken by every event
	followBytes     = 1 << 20          // gathered for a follower before they are written
	followWrite     = 30 * time.Second // for a follower to take what it is sent
)

// Event is an event as Event Hubs readers find it.
type Event struct {
	Partition        string            `json:"partition"`
	SequenceNumber   int64             `json:"sequenceNumber"`
	Offset           string            `json:"offset"`
	EnqueuedTime     time.Time         `json:"enqueuedTime"`
	Source           string            `json:"source"` // iothub-message-source
	DeviceID         string            `json:"deviceId"`
	ModuleID         string            `json:"moduleId,omitempty"`
	SystemProperties map[string]string `json:"systemProperties"`
	Properties       map[string]string `json:"properties"` // application properties; of those of one name, the last
	Body             *string           `json:"body,omitempty"`
	BodyBase64       []byte            `json:"bodyBase64,omitempty"` // a body that is no UTF-8
	JSON             json.RawMessage   `json:"json,omitempty"`       // a body that is JSON, as a value
}

// Events is the answer of GET /iolite/v1/events.
type Events struct {
	Events []Event `json:"events"`
	Cursor string  `json:"cursor"` // to go on behind them
}

func eventOf(f *hub.FoundEvent) Event {
	e := Event{
		Partition: strconv.Itoa(f.Partition), SequenceNumber: f.Sequence, Offset: strconv.FormatInt(f.Offset, 10), EnqueuedTime: f.Enqueued,
		Source: f.Source, DeviceID: f.DeviceID, ModuleID: f.ModuleID, SystemProperties: systemProperties(&f.Event), Properties: map[string]string{},
	}
	for _, p := range f.ApplicationProperties() {
		e.Properties[p.Name] = p.Value
	}
	if !utf8.Valid(f.Body) {
		e.BodyBase64 = f.Body
		return e
	}
	text := string(f.Body)
	e.Body = &text
	if json.Valid(f.Body) {
		e.JSON = f.Body
	}
	return e
}

// systemProperties are those that are there, by the names that IoT Hub's REST gives them; readers find the others among the application properties.
func systemProperties(e *store.Event) map[string]string {
	all := map[string]string{
		"message-id": e.MessageID, "correlation-id": e.CorrelationID, "user-id": e.UserID, "to": e.To, "content-type": e.ContentType, "content-encoding": e.ContentEncoding,
		"iothub-interface-id": e.InterfaceID, "dt-subject": e.Subject, "dt-dataschema": e.ModelID,
		"iothub-connection-auth-method": e.AuthMethod, "iothub-connection-auth-generation-id": e.GenerationID, "x-opt-partition-key": e.PartitionKey,
	}
	if !e.Expiry.IsZero() {
		all["absolute-expiry-time"] = e.Expiry.UTC().Format(time.RFC3339Nano)
	}
	for name, value := range all {
		if value == "" {
			delete(all, name)
		}
	}
	return all
}

// eventsRequest is what the query of GET /iolite/v1/events asks for.
type eventsRequest struct {
	filter  hub.EventFilter
	cursor  *hub.EventCursor // nil: from the oldest event
	limit   int
	count   int           // how many events to wait for
	timeout time.Duration // 0: do not wait
	follow  bool
}

// getEvents is GET /iolite/v1/events: what is there; with timeout, as soon as an event matches; with follow, one after the other.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	q, err := readEventsRequest(r.URL.RawQuery)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx := r.Context()
	if q.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.timeout)
		defer cancel()
	}
	if q.timeout > 0 || q.follow {
		if !s.lasting.TryAcquire(1) {
			problem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d requests wait for events or follow them already", maxLasting))
			return
		}
		defer s.lasting.Release(1)
	}
	search, err := s.Hub.Admin().SearchEvents(ctx, q.filter, q.cursor)
	if err != nil {
		s.refuse(w, err)
		return
	}
	defer search.Close()
	if q.follow {
		s.follow(ctx, w, search)
		return
	}
	if q.timeout > 0 {
		unhurried(w, time.Time{})
	}
	events, err := q.collect(ctx, search)
	switch {
	case err != nil:
		s.refuse(w, err)
	case len(events) < q.count && ctx.Err() == nil:
		problem(w, http.StatusBadRequest, fmt.Sprintf("count: %d events fill an answer; wait for no more, and go on at cursor %s", len(events), cursorText(search.Cursor())))
	case len(events) < q.count:
		problem(w, http.StatusNotFound, fmt.Sprintf("%d events matched within %v, and not %d; as far as cursor %s", len(events), q.timeout, q.count, cursorText(search.Cursor())))
	default:
		reply(w, http.StatusOK, Events{events, cursorText(search.Cursor())})
	}
}

// refuse answers with an error of the hub.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	e, created := hub.AsError(err)
	if created {
		s.Logger.Error("a control request failed", "trackingId", e.TrackingID, "error", err)
	}
	problem(w, e.Status, e.Text)
}

// unhurried takes the server's time limits off a request that lasts; write, when not zero, is the new one for writing.
func unhurried(w http.ResponseWriter, write time.Time) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // what cannot be set ends the request early, no more
	_ = c.SetWriteDeadline(write)
}

// collect returns what there is, up to the limit; while that is less than is waited for, it waits until ctx has ended.
func (q *eventsRequest) collect(ctx context.Context, search *hub.EventSearch) ([]Event, error) {
	events := []Event{}
	bytes := 0
	for len(events) < q.limit && bytes < maxEventBytes {
		found, ok, err := search.Next(ctx)
		if ok {
			events = append(events, eventOf(&found))
			bytes += 2 * len(found.Body)
			continue
		}
		if err == nil && len(events) >= q.count {
			break
		}
		if err == nil {
			err = search.Wait(ctx)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return events, nil
}

// follow writes events, one JSON object a line, until ctx, the search or the follower's patience ends.
func (s *Server) follow(ctx context.Context, w http.ResponseWriter, search *hub.EventSearch) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	var lines bytes.Buffer
	for begun := false; ; {
		found, ok, err := search.Next(ctx)
		if ok {
			e := eventOf(&found)
			_ = json.NewEncoder(&lines).Encode(&e) // every value of this package can be encoded
		}
		if !ok && (!begun || lines.Len() > 0) || lines.Len() > followBytes {
			begun = true
			unhurried(w, clock.Wall().Add(followWrite))
			if _, err := w.Write(lines.Bytes()); err != nil || out.Flush() != nil {
				return
			}
			lines.Reset()
		}
		if err != nil || !ok && search.Wait(ctx) != nil {
			return
		}
	}
}

// readEventsRequest reads the query of a request.
func readEventsRequest(raw string) (*eventsRequest, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errors.New("the query cannot be read")
	}
	q := &eventsRequest{limit: defaultEvents}
	for name, all := range values {
		for _, value := range all {
			if err := q.set(name, value); err != nil {
				return nil, fmt.Errorf("%s: %w", shorten(name), err)
			}
		}
	}
	if q.count > 0 && q.timeout == 0 {
		return nil, errors.New("count: says how many events to wait for, and needs a timeout")
	}
	if q.timeout > 0 && q.count == 0 && !q.follow {
		q.count = 1
	}
	q.limit = max(q.limit, q.count)
	return q, nil
}

// set takes one parameter.
func (q *eventsRequest) set(name, value string) (err error) {
	f := &q.filter
	if path, ok := strings.CutPrefix(name, "body."); ok {
		f.Body = append(f.Body, hub.BodyValue{Path: path, Value: value})
		return nil
	}
	if property, ok := strings.CutPrefix(name, "property."); ok {
		f.Properties = append(f.Properties, store.Property{Name: property, Value: value})
		return nil
	}
	switch name {
	case "eventHub":
		f.EventHub = value
	case "condition":
		f.Condition = value
	case "deviceId":
		f.DeviceID = value
	case "moduleId":
		f.ModuleID = value
	case "source":
		f.Source = value
	case "since":
		f.Since, err = time.Parse(time.RFC3339Nano, value)
	case "until":
		f.Until, err = time.Parse(time.RFC3339Nano, value)
	case "cursor":
		q.cursor, err = parseCursor(value)
	case "limit":
		q.limit, err = number(value)
	case "count":
		q.count, err = number(value)
	case "timeout":
		if q.timeout, err = time.ParseDuration(value); err == nil && (q.timeout <= 0 || q.timeout > maxEventTimeout) {
			err = fmt.Errorf("%v is not between 0 and %v", q.timeout, maxEventTimeout)
		}
	case "follow":
		q.follow, err = strconv.ParseBool(value)
	default:
		err = errors.New("there is no such parameter")
	}
	return err
}

func number(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > maxEvents {
		return 0, fmt.Errorf("%s is no number between 1 and %d", quote(value), maxEvents)
	}
	return n, nil
}

// shorten cuts what a stranger wrote.
func shorten(s string) string { return strings.Trim(quote(s), "'") }

// cursorText writes a cursor: the era, and the sequence numbers of the next events in the order of partitions.
func cursorText(c hub.EventCursor) string {
	b := strconv.AppendInt(nil, c.Era, 10)
	for _, next := range c.Next {
		b = strconv.AppendInt(append(b, '.'), next, 10)
	}
	return string(b)
}

// parseCursor reads a cursor, or "end", which is behind the last event there is.
func parseCursor(text string) (*hub.EventCursor, error) {
	if text == "end" {
		return &hub.EventCursor{}, nil
	}
	var numbers []int64
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil || n < 0 || len(numbers) == maxEvents {
			return nil, errNoCursor(text)
		}
		numbers = append(numbers, n)
	}
	if len(numbers) < 2 {
		return nil, errNoCursor(text)
	}
	return &hub.EventCursor{Era: numbers[0], Next: numbers[1:]}, nil
}

func errNoCursor(text string) error {
	return fmt.Errorf("%s is no cursor: take it from an answer, or end", quote(text))
}
