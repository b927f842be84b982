package hub

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// searchAhead is how many events of a partition a search reads at once.
const searchAhead = 64

// maxBodyPath is how many names and indexes a path into a body may have.
const maxBodyPath = 64

// EventFilter says which events a search finds: those that all of its fields hold for. The zero EventFilter finds every one.
type EventFilter struct {
	EventHub   string // whose events, a name without case [the built-in endpoint]
	DeviceID   string
	ModuleID   string
	Source     string           // iothub-message-source, for instance Telemetry
	Properties []store.Property // application properties with these values
	Body       []BodyValue      // parts of a body that is JSON, whatever content type it has
	Condition  string           // in the routing query language
	Since      time.Time        // enqueued then or later
	Until      time.Time        // enqueued before
}

// BodyValue is a part of a JSON body that has a value.
type BodyValue struct {
	Path  string // names and indexes, as in engine.temperatures[0]
	Value string // a text, or the JSON of any value: 21.5, true, null, {"a":1}
}

// EventCursor is how far a search has come.
type EventCursor struct {
	Era  int64   // how many resets there had been: events are counted from 0 again after each
	Next []int64 // the sequence number of the next event of each partition; empty for the end, only events to come
}

// EventSearch goes through the events of an event hub, those of all partitions in the order in which they were enqueued. It is
// for tests and tools: no consumer group, owner level or limit of readers concerns it. One goroutine may use it at a time.
type EventSearch struct {
	session    *ServiceSession
	eventHub   *eventHub
	filter     EventFilter
	body       []bodyTest
	condition  *query.RouteCondition // nil for none
	message    routeMessage          // that condition is asked about
	partitions []searched
	era        int64

	ready  chan struct{} // holds something when there may be more events, or the search has ended
	cancel []func()      // end the watches
	ended  atomic.Bool
	reason atomic.Pointer[Error] // why the hub has ended it while the session goes on
}

// searched is how far a search has come in a partition.
type searched struct {
	next    int64         // sequence number of the first event that has not been looked at
	waiting []store.Event // read and not looked at yet
}

// bodyTest is a BodyValue taken apart.
type bodyTest struct {
	path []string // an index is "[" and its number
	text string
	json document.Value // Undefined when text is no JSON
}

// FoundEvent is an event and where it stands.
type FoundEvent struct {
	store.Event
	Partition int
}

// ApplicationProperties returns the application properties that readers find: the sender's, and those that stand for system properties.
func (f *FoundEvent) ApplicationProperties() []store.Property { return applicationProperties(&f.Event) }

func applicationProperties(e *store.Event) []store.Property {
	all := slices.Clip(e.Properties)
	e.Reserved(func(name, value string) { all = append(all, store.Property{Name: name, Value: value}) })
	return all
}

func hasAll(properties, wanted []store.Property) bool {
	for _, want := range wanted {
		if !slices.ContainsFunc(properties, func(p store.Property) bool { return p.Name == want.Name && p.Value == want.Value }) {
			return false
		}
	}
	return true
}

// SearchEvents begins to search the events of an event hub. It begins at cursor, or at the oldest event without one.
// A search ends with its session, with its event hub (CodeEntityNotFound), and with a reset of the hub, whose events are
// counted from 0 again. ServiceConnect. CodeArgumentInvalid for a path, a condition, or a cursor of before a reset or of another number of partitions;
// CodeEntityNotFound for an unknown event hub.
func (s *ServiceSession) SearchEvents(ctx context.Context, f EventFilter, cursor *EventCursor) (*EventSearch, error) {
	era := s.hub.era.Load()
	eventHub, err := s.hub.findEventHub(f.EventHub)
	if err != nil {
		return nil, err
	}
	if err := s.need(ctx, auth.ServiceConnect, eventHub.name); err != nil {
		return nil, err
	}
	e := &EventSearch{session: s, eventHub: eventHub, filter: f, message: routeMessage{hub: s.hub}, era: era, ready: make(chan struct{}, 1)}
	if err := e.compile(); err != nil {
		return nil, s.hub.NewError(CodeArgumentInvalid, err.Error())
	}
	if err := e.start(ctx, cursor); err != nil {
		return nil, err
	}
	for i := range e.partitions {
		e.cancel = append(e.cancel, eventHub.log.Watch(i, e.wake))
	}
	if err := cmp.Or(s.keep(e, era), eventHub.admitSearch(e)); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// admitSearch lets a search begin unless the event hub is gone, and ends it when that goes: CodeEntityNotFound.
func (e *eventHub) admitSearch(s *EventSearch) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return e.deleted()
	}
	if !s.ended.Load() { // else its session has ended meanwhile, and it will not be closed once more
		e.searches[s] = struct{}{}
	}
	return nil
}

// deleted is the error of an event hub that is not there any more.
func (e *eventHub) deleted() *Error {
	return e.hub.NewError(CodeEntityNotFound, e.name, "It was deleted.")
}

// compile makes sense of the filter.
func (e *EventSearch) compile() (err error) {
	for _, one := range e.filter.Body {
		test, err := one.compile()
		if err != nil {
			return err
		}
		e.body = append(e.body, test)
	}
	if e.filter.Condition != "" {
		if e.condition, err = query.ParseRouteCondition(e.filter.Condition); err != nil {
			return fmt.Errorf("condition: %w", err)
		}
	}
	return nil
}

// start finds where each partition's search begins.
func (e *EventSearch) start(ctx context.Context, cursor *EventCursor) error {
	n := e.eventHub.log.Partitions()
	goesOn := cursor != nil && len(cursor.Next) > 0
	if goesOn && cursor.Era != e.era {
		return e.session.hub.NewError(CodeArgumentInvalid, "the cursor is of before a reset")
	}
	if goesOn && len(cursor.Next) != n {
		return e.session.hub.NewError(CodeArgumentInvalid, fmt.Sprintf("the cursor is of %d partitions, and there are %d", len(cursor.Next), n))
	}
	e.partitions = make([]searched, n)
	for i := range e.partitions {
		p := &e.partitions[i]
		switch {
		case goesOn:
			p.next = cursor.Next[i]
		case cursor != nil:
			info, err := e.eventHub.info(ctx, i)
			if err != nil {
				return err
			}
			p.next = info.LastSequence + 1
		case !e.filter.Since.IsZero():
			var err error
			if p.next, err = e.eventHub.log.SeekTime(ctx, i, e.filter.Since); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b BodyValue) compile() (bodyTest, error) {
	t := bodyTest{text: b.Value}
	if v, err := document.Parse([]byte(b.Value)); err == nil {
		t.json = v
	}
	for name := range strings.SplitSeq(b.Path, ".") {
		name, indexes, indexed := strings.Cut(name, "[")
		if name != "" {
			t.path = append(t.path, name)
		}
		if !indexed {
			if name == "" {
				return t, fmt.Errorf("the path %q has an empty name", shown(b.Path))
			}
			continue
		}
		for index := range strings.SplitSeq(indexes, "[") {
			number, closed := strings.CutSuffix(index, "]")
			if n, err := strconv.Atoi(number); err != nil || n < 0 || !closed {
				return t, fmt.Errorf("the path %q has an index that is no number", shown(b.Path))
			}
			t.path = append(t.path, "["+number)
		}
	}
	if len(t.path) > maxBodyPath {
		return t, fmt.Errorf("a path has more than %d names", maxBodyPath)
	}
	return t, nil
}

// shown cuts what a stranger wrote.
func shown(s string) string { return s[:min(len(s), 128)] }

// wake is called after every append.
func (e *EventSearch) wake() {
	select {
	case e.ready <- struct{}{}:
	default:
	}
}

// Next returns the next event that the filter finds; ok is false when there is none for now. It fails with the error the session
// ended with, or CodeClosed, once the search has ended.
func (e *EventSearch) Next(ctx context.Context) (found FoundEvent, ok bool, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return found, false, err
		}
		p, err := e.first(ctx)
		if err != nil || p < 0 {
			return found, false, err
		}
		s := &e.partitions[p]
		event := s.waiting[0]
		s.waiting, s.next = s.waiting[1:], event.Sequence+1
		if e.matches(&event) {
			return FoundEvent{event, p}, true, nil
		}
	}
}

// first returns the partition whose next event is the oldest, -1 when there is no event.
func (e *EventSearch) first(ctx context.Context) (int, error) {
	if e.ended.Load() {
		return -1, e.why()
	}
	first := -1
	for i := range e.partitions {
		s := &e.partitions[i]
		if len(s.waiting) == 0 {
			if err := e.read(ctx, i); err != nil {
				return -1, err
			}
		}
		if len(s.waiting) > 0 && (first < 0 || s.waiting[0].Enqueued.Before(e.partitions[first].waiting[0].Enqueued)) {
			first = i
		}
	}
	return first, nil
}

// read takes the next events of a partition.
func (e *EventSearch) read(ctx context.Context, partition int) (err error) {
	if err := e.eventHub.expire(ctx, partition); err != nil {
		return err
	}
	s := &e.partitions[partition]
	s.waiting, err = e.eventHub.log.Read(ctx, partition, s.next, searchAhead, readBytes)
	return err
}

// why is what an ended search fails with.
func (e *EventSearch) why() error {
	if reason := e.reason.Load(); reason != nil {
		return reason
	}
	if err := e.session.live(); err != nil {
		return err
	}
	return e.session.hub.NewError(CodeClosed)
}

// Wait waits until there may be more events, the search has ended, or ctx has; it returns the error of ctx alone.
func (e *EventSearch) Wait(ctx context.Context) error {
	select {
	case <-e.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Cursor returns how far Next has come.
func (e *EventSearch) Cursor() EventCursor {
	c := EventCursor{Era: e.era, Next: make([]int64, len(e.partitions))}
	for i := range e.partitions {
		c.Next[i] = e.partitions[i].next
	}
	return c
}

// Close ends the search. It may be called more than once.
func (e *EventSearch) Close() {
	if !e.ended.CompareAndSwap(false, true) {
		return
	}
	for _, cancel := range e.cancel {
		cancel()
	}
	e.eventHub.mu.Lock()
	delete(e.eventHub.searches, e)
	e.eventHub.mu.Unlock()
	e.session.release(e)
}

// end is Close for an end that the owner has to learn of.
func (e *EventSearch) end() {
	e.Close()
	e.wake()
}

func (e *EventSearch) matches(event *store.Event) bool {
	f := &e.filter
	switch {
	case f.DeviceID != "" && event.DeviceID != f.DeviceID,
		f.ModuleID != "" && event.ModuleID != f.ModuleID,
		f.Source != "" && !strings.EqualFold(event.Source, f.Source),
		event.Enqueued.Before(f.Since),
		!f.Until.IsZero() && !event.Enqueued.Before(f.Until):
		return false
	}
	if len(f.Properties) > 0 && !hasAll(applicationProperties(event), f.Properties) {
		return false
	}
	if len(e.body) > 0 && !e.bodyMatches(event.Body) {
		return false
	}
	if e.condition == nil {
		return true
	}
	e.message.read(event)
	return e.message.matches(e.condition)
}

func (e *EventSearch) bodyMatches(body []byte) bool {
	v, err := document.Parse(body)
	return err == nil && !slices.ContainsFunc(e.body, func(t bodyTest) bool { return !t.holds(v) })
}

// holds says whether the value at the path is the text, or equals the JSON: numbers by what they amount to.
func (t *bodyTest) holds(v document.Value) bool {
	for _, name := range t.path {
		if number, isIndex := strings.CutPrefix(name, "["); isIndex {
			n, _ := strconv.Atoi(number)
			if v.Kind() != document.Array || n >= len(v.Elements()) {
				return false
			}
			v = v.Elements()[n]
			continue
		}
		if v.Kind() != document.Object {
			return false
		}
		v = v.Get(name)
	}
	if v.Kind() == document.String && v.Text() == t.text {
		return true
	}
	if n, isNumber := v.Float(); isNumber {
		want, ok := t.json.Float()
		return ok && n == want
	}
	return v.IsDefined() && t.json.IsDefined() && document.Equal(v, t.json)
}
