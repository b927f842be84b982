package hub

import (
	"context"
	"errors"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// readBytes bounds what one Next returns, in bytes as stored.
const readBytes = 1 << 20

// Position says where a reader starts. Exactly one of the fields is used, in this order; the zero Position is the earliest event.
type Position struct {
	Latest    bool      // only events stored from now on
	Sequence  *int64    // from the event with this sequence number
	Offset    *int64    // from the event with this offset
	Enqueued  time.Time // from the first event enqueued at or after; one in the future means the end
	Exclusive bool      // start after the named event instead of with it
}

// ReaderOptions say what to read, as whom and from where.
type ReaderOptions struct {
	EventHub   string // name, compared without case [the built-in endpoint]
	Group      string // consumer group. Admin's handles may leave it empty: such a reader is none of any group, and is not counted
	Partition  string // id
	From       Position
	OwnerLevel *int64 // epoch, not negative: who has the highest reads alone in its group; nil for a reader without
	Name       string // of the receiver, for the errors that others get
	Reuse      bool   // what Next returns is valid until the next call alone, and so costs nothing
	// Ready is called, from any goroutine and without blocking, when there may be events after Next has returned none, or the hub has
	// ended the reader; calls may be merged. [nobody is told]
	Ready func()
	// Ended is called once, from any goroutine and without hub locks, when the hub ends the reader while its session goes on:
	// CodeReceiverDisconnected, CodeEntityNotFound (its consumer group or event hub was deleted). It must not block. [nobody is told]
	Ended func(*Error)
}

// EventReader reads one partition from a position on. Readers do not influence each other, owner levels excepted.
type EventReader struct {
	session   *ServiceSession
	eventHub  *eventHub
	o         ReaderOptions
	partition int
	next      int64 // sequence number of the next event to return
	memory    store.ReadMemory
	cancel    func() // ends the watch

	waiting atomic.Bool // Next has returned nothing and Ready was not called since
	closed  atomic.Bool
	ended   atomic.Pointer[Error] // why the hub has ended it while the session goes on

	ownership *ownership // where its group keeps it; guarded by eventHub.mu
}

// OpenReader starts reading a partition for a consumer group. A reader ends with its session, and with a reset of the hub, whose
// events are counted from 0 again. ServiceConnect. CodeEntityNotFound for an unknown event hub or consumer group,
// CodePartitionOutOfRange, CodeInvalidOffset and CodeInvalidSequence for a position behind the last event, CodeReceiverQuotaExceeded
// for the sixth reader without owner level, CodeEpochTooLow and CodeEpochRequired for one that an owner keeps out.
func (s *ServiceSession) OpenReader(ctx context.Context, o ReaderOptions) (_ *EventReader, err error) {
	defer func() { err = failed(opTelemetryRead, store.Key{}, err) }()
	era := s.hub.era.Load() // before anything is looked up
	e, err := s.hub.findEventHub(o.EventHub)
	if err != nil {
		return nil, err
	}
	if err := s.need(ctx, auth.ServiceConnect, e.name+"/ConsumerGroups/"+o.Group+"/Partitions/"+o.Partition); err != nil {
		return nil, err
	}
	if o.OwnerLevel != nil && *o.OwnerLevel < 0 {
		return nil, s.hub.NewError(CodeArgumentInvalid, "the owner level is negative")
	}
	if o.Ready == nil {
		o.Ready = func() {}
	}
	p, err := e.partition(o.Partition)
	if err != nil {
		return nil, err
	}
	r := &EventReader{session: s, eventHub: e, o: o, partition: p, cancel: func() {}}
	if err := r.open(ctx, era); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// open finds the position and tells everybody who has to know of the reader.
func (r *EventReader) open(ctx context.Context, era int64) (err error) {
	if r.next, err = r.eventHub.seek(ctx, r.partition, r.o.From); err != nil {
		return err
	}
	r.cancel = r.eventHub.log.Watch(r.partition, r.wake)
	if err := r.session.keep(r, era); err != nil {
		return err
	}
	if r.o.Group == "" && r.session.lasting {
		return nil
	}
	return r.eventHub.enter(r)
}

// plus adds without going over: a peer may name any number.
func plus(v, n int64) int64 { return min(v, math.MaxInt64-n) + n }

// seek returns the sequence number of the first event that a position means.
func (e *eventHub) seek(ctx context.Context, partition int, from Position) (int64, error) {
	info, err := e.info(ctx, partition)
	if err != nil {
		return 0, err
	}
	after := int64(0)
	if from.Exclusive {
		after = 1
	}
	switch {
	case from.Latest:
		return info.LastSequence + 1, nil
	case from.Sequence != nil:
		if *from.Sequence > info.LastSequence {
			return 0, e.hub.NewError(CodeInvalidSequence, decimal(*from.Sequence), decimal(info.LastSequence))
		}
		return plus(*from.Sequence, after), nil
	case from.Offset != nil:
		if *from.Offset > info.LastOffset {
			return 0, e.hub.NewError(CodeInvalidOffset, decimal(*from.Offset), decimal(info.LastOffset))
		}
		return e.log.SeekOffset(ctx, partition, plus(*from.Offset, after))
	case !from.Enqueued.IsZero():
		return e.log.SeekTime(ctx, partition, from.Enqueued.Add(time.Duration(after)))
	}
	return 0, nil
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// wake is called after every append.
func (r *EventReader) wake() {
	if r.waiting.Load() && r.waiting.CompareAndSwap(true, false) && !r.closed.Load() {
		r.o.Ready()
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
	if e := r.ended.Load(); e != nil {
		return e
	}
	if err := r.session.live(); err != nil {
		return err
	}
	e := r.session.hub.NewError(CodeClosed)
	e.cause = errReaderClosed
	return e
}

func (r *EventReader) read(ctx context.Context, limit int) ([]store.Event, error) {
	if err := r.eventHub.expire(ctx, r.partition); err != nil {
		return nil, err
	}
	var events []store.Event
	var err error
	if r.o.Reuse {
		events, err = r.eventHub.log.ReadTo(ctx, &r.memory, r.partition, r.next, limit, readBytes)
	} else {
		events, err = r.eventHub.log.Read(ctx, r.partition, r.next, limit, readBytes)
	}
	if n := len(events); n > 0 {
		r.next = events[n-1].Sequence + 1
	}
	return events, err
}

// Last describes the partition, and with it the last event there is.
func (r *EventReader) Last(ctx context.Context) (store.PartitionInfo, error) {
	return r.eventHub.info(ctx, r.partition)
}

// Close ends the reader; Ready is not called afterwards, but a call that is under way may still end. It may be called more than once.
func (r *EventReader) Close() {
	if r.closed.CompareAndSwap(false, true) {
		r.cancel()
		r.eventHub.leave(r)
		r.session.release(r)
	}
}

// end is Close for an end that the owner has to learn of: it is told to call Next once more.
func (r *EventReader) end() {
	waiting := r.waiting.Swap(false)
	r.Close()
	if waiting {
		r.o.Ready()
	}
}

// endWith ends the reader alone, while its session goes on.
func (r *EventReader) endWith(why *Error) {
	if !r.ended.CompareAndSwap(nil, why) {
		return
	}
	r.end()
	if r.o.Ended != nil {
		r.o.Ended(why)
	}
}
