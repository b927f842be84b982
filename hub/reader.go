package hub

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// readBytes bounds what one Next returns, in bytes as stored.
const readBytes = 1 << 20

// maxGroup is the longest consumer group name (Event Hubs: 50 characters).
const maxGroup = 50

// EventHub describes the Event Hubs-compatible endpoint.
type EventHub struct {
	Name         string
	Created      time.Time
	PartitionIDs []string
}

// EventHub describes the endpoint. ServiceConnect.
func (s *ServiceSession) EventHub(ctx context.Context) (EventHub, error) {
	if err := s.need(ctx, auth.ServiceConnect, s.hub.cfg.Name+"/$management"); err != nil {
		return EventHub{}, err
	}
	e := EventHub{Name: s.hub.cfg.Name, Created: s.hub.created}
	for i := range s.hub.events.Partitions() {
		e.PartitionIDs = append(e.PartitionIDs, strconv.Itoa(i))
	}
	return e, nil
}

// Partition describes one partition; CodeArgumentInvalid for an unknown one. ServiceConnect.
func (s *ServiceSession) Partition(ctx context.Context, id string) (store.PartitionInfo, error) {
	if err := s.need(ctx, auth.ServiceConnect, s.hub.cfg.Name+"/$management"); err != nil {
		return store.PartitionInfo{}, err
	}
	p, err := s.hub.partition(id)
	if err != nil {
		return store.PartitionInfo{}, err
	}
	return s.hub.events.Info(ctx, p)
}

// partition returns the number of the partition with an id.
func (h *Hub) partition(id string) (int, error) {
	p, err := strconv.Atoi(id)
	if err != nil || p < 0 || p >= h.events.Partitions() || strconv.Itoa(p) != id {
		return 0, h.NewError(CodeArgumentInvalid, "there is no partition "+strconv.Quote(id))
	}
	return p, nil
}

// Position says where a reader starts. Exactly one of the fields is used, in this order; the zero Position is the earliest event.
type Position struct {
	Latest    bool      // only events stored from now on
	Sequence  *int64    // from the event with this sequence number
	Offset    *int64    // from the event with this offset
	Enqueued  time.Time // from the first event enqueued at or after
	Exclusive bool      // start after the named event instead of with it
}

// EventReader reads one partition from a position on. Readers do not influence each other.
type EventReader struct {
	session   *ServiceSession
	partition int
	next      int64 // sequence number of the next event to return
	ready     func()
	cancel    func() // ends the watch

	waiting atomic.Bool // Next has returned nothing and ready was not called since
	closed  atomic.Bool
}

// OpenReader starts reading a partition for a consumer group. ready is called, from any goroutine and without blocking, when
// there may be events after Next has returned none, or the hub has ended the reader; calls may be merged. A reader ends with its
// session, and with a reset of the hub, whose events are counted from 0 again. Any well-formed consumer group name exists. ServiceConnect.
// CodeArgumentInvalid for an unknown partition or a bad group name.
func (s *ServiceSession) OpenReader(ctx context.Context, group, partition string, from Position, ready func()) (*EventReader, error) {
	era := s.hub.era.Load() // before anything is looked up
	if err := s.need(ctx, auth.ServiceConnect, s.hub.cfg.Name+"/ConsumerGroups/"+group+"/Partitions/"+partition); err != nil {
		return nil, err
	}
	if !validGroup(group) {
		return nil, s.hub.NewError(CodeArgumentInvalid, "bad consumer group name "+strconv.Quote(group))
	}
	p, err := s.hub.partition(partition)
	if err != nil {
		return nil, err
	}
	next, err := s.hub.seek(ctx, p, from)
	if err != nil {
		return nil, err
	}
	r := &EventReader{session: s, partition: p, next: next, ready: ready}
	r.cancel = s.hub.events.Watch(p, r.wake)
	if err := s.keep(r, era); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// validGroup reports whether name can be a consumer group: letters, digits and -._ with a letter or digit at both ends, or $Default.
func validGroup(name string) bool {
	if strings.EqualFold(name, "$Default") {
		return true
	}
	for i := range len(name) {
		c := name[i] | 0x20
		letter := c >= 'a' && c <= 'z' || name[i] >= '0' && name[i] <= '9'
		inside := i > 0 && i < len(name)-1 && strings.IndexByte("-._", name[i]) >= 0
		if !letter && !inside {
			return false
		}
	}
	return name != "" && len(name) <= maxGroup
}

// plus adds without going over: a peer may name any number.
func plus(v, n int64) int64 { return min(v, math.MaxInt64-n) + n }

// seek returns the sequence number of the first event that a position means.
func (h *Hub) seek(ctx context.Context, partition int, from Position) (int64, error) {
	after := int64(0)
	if from.Exclusive {
		after = 1
	}
	switch {
	case from.Latest:
		info, err := h.events.Info(ctx, partition)
		return info.LastSequence + 1, err
	case from.Sequence != nil:
		return plus(*from.Sequence, after), nil
	case from.Offset != nil:
		return h.events.SeekOffset(ctx, partition, plus(*from.Offset, after))
	case !from.Enqueued.IsZero():
		return h.events.SeekTime(ctx, partition, from.Enqueued.Add(time.Duration(after)))
	}
	return 0, nil
}

// wake is called after every append.
func (r *EventReader) wake() {
	if r.waiting.Load() && r.waiting.CompareAndSwap(true, false) && !r.closed.Load() {
		r.ready()
	}
}

// errReaderClosed is the cause of an error after Close.
var errReaderClosed = errors.New("the reader is closed")

// Next returns up to limit events, none when all have been read. Only one goroutine may call it at a time. Their texts and bodies
// must not be changed. When events were dropped before they could be read, it goes on with the oldest kept. After the end of the
// reader it fails with the error that the session ended with, or CodeClosed.
func (r *EventReader) Next(ctx context.Context, limit int) ([]store.Event, error) {
	if r.closed.Load() {
		return nil, r.why()
	}
	events, err := r.read(ctx, limit)
	if err != nil || len(events) > 0 || limit <= 0 {
		return events, err
	}
	r.waiting.Store(true)
	events, err = r.read(ctx, limit) // one may have come before we said that we wait
	if len(events) > 0 {
		r.waiting.Store(false)
	}
	return events, err
}

// why is what Next fails with.
func (r *EventReader) why() error {
	if err := r.session.live(); err != nil {
		return err
	}
	e := r.session.hub.NewError(CodeClosed)
	e.cause = errReaderClosed
	return e
}

func (r *EventReader) read(ctx context.Context, limit int) ([]store.Event, error) {
	events, err := r.session.hub.events.Read(ctx, r.partition, r.next, limit, readBytes)
	if n := len(events); n > 0 {
		r.next = events[n-1].Sequence + 1
	}
	return events, err
}

// Close ends the reader; ready is not called afterwards, but a call that is under way may still end. It may be called more than once.
func (r *EventReader) Close() {
	if r.closed.CompareAndSwap(false, true) {
		r.cancel()
		r.session.release(r)
	}
}

// end is Close for an end that the owner has to learn of: it is told to call Next once more.
func (r *EventReader) end() {
	waiting := r.waiting.Swap(false)
	r.Close()
	if waiting {
		r.ready()
	}
}
