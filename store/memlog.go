package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of segments in bytes: the first of a partition is small so that an idle hub is, each next one is twice as big.
const (
	minSegment = 8 << 10
	maxSegment = 1 << 20
)

// memLog is the event log: partitions that share nothing but the glossary.
type memLog struct {
	partitions []*memPartition
	glossary   *glossary
}

// memPartition is a queue of segments. mu guards everything above watchers.
type memPartition struct {
	mu           sync.Mutex
	segments     []*segment
	next         int64 // sequence number of the next event
	trimmed      int64 // nothing before this one is read any more
	written      int64 // bytes ever written: the offset of the next event
	allocated    int64 // bytes of the segments kept
	lastEnqueued int64 // nanoseconds since the Unix epoch
	lastOffset   int64 // of the last event

	limit    int64 // of allocated
	watchers atomic.Pointer[[]*watcher]
	evicted  atomic.Int64
	_        [64]byte // keeps the next partition's lock off this cache line
}

// segment holds encoded events one after the other. Bytes below len(buf) never change and buf never moves, so readers use
// them without a lock once they have copied the two slice headers under the partition's. The memory of one that no reader has got is
// used again for the next segment.
type segment struct {
	first  int64    // sequence number of the first event
	offset int64    // of the first event
	buf    []byte   // grows within its capacity
	starts []uint32 // where each event begins in buf
	lent   bool     // a reader got it, and may look at it for as long as it likes
}

type watcher struct{ wake func() }

func newMemLog(partitions int, bytes int64) *memLog {
	l := &memLog{partitions: make([]*memPartition, partitions), glossary: newGlossary()}
	for i := range l.partitions {
		l.partitions[i] = &memPartition{limit: max(bytes/int64(partitions), minSegment), lastEnqueued: math.MinInt64}
	}
	return l
}

func (l *memLog) reset() {
	for _, p := range l.partitions {
		p.mu.Lock()
		p.segments, p.next, p.written, p.allocated, p.lastEnqueued = nil, 0, 0, 0, math.MinInt64
		p.trimmed, p.lastOffset = 0, 0
		p.evicted.Store(0)
		p.mu.Unlock()
	}
}

// Partitions implements EventLog.
func (l *memLog) Partitions() int { return len(l.partitions) }

func (l *memLog) partition(i int) (*memPartition, error) {
	if i < 0 || i >= len(l.partitions) {
		return nil, fmt.Errorf("%w: partition %d", ErrNotFound, i)
	}
	return l.partitions[i], nil
}

// Append implements EventLog. Enqueued never goes back within a partition: an event that is older than the one before it gets that
// one's time.
func (l *memLog) Append(_ context.Context, partition int, events ...Event) (int64, error) {
	p, err := l.partition(partition)
	if err != nil {
		return 0, err
	}
	d := l.encode(events)
	p.mu.Lock()
	first := p.next
	p.append(d)
	p.mu.Unlock()
	d.release()
	if w := p.watchers.Load(); w != nil {
		for _, one := range *w {
			one.wake()
		}
	}
	return first, nil
}

// draft holds encoded events on their way into a segment, so that the partition is locked for no longer than copying takes.
type draft struct {
	buf  []byte
	ends []int // of each event in buf
}

var drafts = sync.Pool{New: func() any { return new(draft) }}

// encode returns the events as a draft; release gives it back.
func (l *memLog) encode(events []Event) *draft {
	d := drafts.Get().(*draft)
	e := encoder{glossary: l.glossary}
	for i := range events {
		d.buf = e.append(d.buf, &events[i])
		d.ends = append(d.ends, len(d.buf))
	}
	return d
}

func (d *draft) release() {
	if cap(d.buf) > maxSegment {
		return
	}
	d.buf, d.ends = d.buf[:0], d.ends[:0]
	drafts.Put(d)
}

// append stores the events of a draft, as many at once as have room in a segment; the caller holds mu.
func (p *memPartition) append(d *draft) {
	start := 0
	for ends := d.ends; len(ends) > 0; {
		s := p.room(ends[0] - start)
		n := 0
		for at := start; n < len(ends) && ends[n]-start <= cap(s.buf)-len(s.buf); n++ {
			p.keepOrder(d.buf[at:])
			s.starts = append(s.starts, uint32(len(s.buf)+at-start))
			p.lastOffset = p.written + int64(at-start)
			at = ends[n]
		}
		end := ends[n-1]
		s.buf = append(s.buf, d.buf[start:end]...)
		p.next += int64(n)
		p.written += int64(end - start)
		start, ends = end, ends[n:]
	}
}

// keepOrder notes when an event was enqueued, and makes that no earlier than the event before it.
func (p *memPartition) keepOrder(event []byte) {
	enqueued := int64(binary.LittleEndian.Uint64(event))
	if enqueued < p.lastEnqueued {
		binary.LittleEndian.PutUint64(event, uint64(p.lastEnqueued))
		return
	}
	p.lastEnqueued = enqueued
}

// room returns the segment that takes the next size bytes, a new one if need be; the oldest go for it.
func (p *memPartition) room(size int) *segment {
	capacity := minSegment
	if n := len(p.segments); n > 0 {
		last := p.segments[n-1]
		if cap(last.buf)-len(last.buf) >= size {
			return last
		}
		capacity = 2 * cap(last.buf)
	}
	// No bigger than an eighth of the limit, so that dropping the oldest drops no more than that.
	capacity = max(min(capacity, maxSegment, int(p.limit/8)), size)
	s := p.evictFor(capacity)
	if s == nil {
		s = &segment{buf: make([]byte, 0, capacity)}
	}
	*s = segment{first: p.next, offset: p.written, buf: s.buf[:0], starts: s.starts[:0]}
	p.segments = append(p.segments, s)
	p.allocated += int64(capacity)
	return s
}

// evictFor drops the oldest segments until there is room for another of capacity bytes. It returns one of them that may be used again as
// that, nil when there is none.
func (p *memPartition) evictFor(capacity int) (free *segment) {
	for len(p.segments) > 0 && p.allocated+int64(capacity) > p.limit {
		old := p.segments[0]
		p.segments[0] = nil
		p.segments = p.segments[1:]
		p.allocated -= int64(cap(old.buf))
		p.evicted.Add(int64(len(old.starts)))
		if cap(old.buf) == capacity && !old.lent {
			free = old
		}
	}
	return free
}

// Read implements EventLog. The events' texts and bodies point into the log's memory, which never changes: callers must not
// change them either, and keep the segment they came from alive for as long as they keep them.
func (l *memLog) Read(ctx context.Context, partition int, from int64, limit, maxBytes int) ([]Event, error) {
	return l.ReadTo(ctx, new(ReadMemory), partition, from, limit, maxBytes)
}

// ReadTo implements EventLog, as Read does.
func (l *memLog) ReadTo(_ context.Context, memory *ReadMemory, partition int, from int64, limit, maxBytes int) ([]Event, error) {
	p, err := l.partition(partition)
	if err != nil {
		return nil, err
	}
	events, props := memory.events[:0], memory.properties[:0]
	for len(events) < limit {
		s, first, ok := p.segmentAt(from)
		if !ok {
			break
		}
		from = first
		at := int(from - s.first)
		n := s.count(at, limit-len(events), &maxBytes, len(events) == 0)
		if n == 0 {
			break
		}
		events = slices.Grow(events, n)
		for range n {
			events = append(events, Event{Sequence: from, Offset: s.offset + int64(s.starts[at])})
			props = decodeEvent(s.event(at), &events[len(events)-1], props, l.glossary)
			at, from = at+1, from+1
		}
	}
	if len(events) == 0 {
		memory.rest()
		return nil, nil
	}
	memory.events, memory.properties = events, props
	return events, nil
}

// segmentAt returns a snapshot of the segment that holds the event from, or the oldest event when from is no longer kept, and that
// event's sequence number; ok is false when there is no such event yet.
func (p *memPartition) segmentAt(from int64) (s segment, first int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from = max(from, p.trimmed)
	if from >= p.next || len(p.segments) == 0 {
		return segment{}, from, false
	}
	i := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].first > from })
	found := p.segments[max(i-1, 0)]
	found.lent = true
	return *found, max(from, found.first), true
}

// event returns the bytes of the event at index at.
func (s *segment) event(at int) []byte {
	end := len(s.buf)
	if at+1 < len(s.starts) {
		end = int(s.starts[at+1])
	}
	return s.buf[s.starts[at]:end:end]
}

// count returns how many events from index at on fit limit and the bytes left, which it reduces; the very first always fits.
func (s *segment) count(at, limit int, left *int, first bool) int {
	n := 0
	for ; n < limit && at+n < len(s.starts); n++ {
		size := len(s.event(at + n))
		if size > *left && !(first && n == 0) {
			break
		}
		*left -= size
	}
	return n
}

func (s *segment) enqueued(at int) time.Time {
	return time.Unix(0, int64(binary.LittleEndian.Uint64(s.buf[s.starts[at]:]))).UTC()
}

// SeekTime implements EventLog.
func (l *memLog) SeekTime(_ context.Context, partition int, t time.Time) (int64, error) {
	return l.seek(partition, func(s *segment, at int) bool { return !s.enqueued(at).Before(t) })
}

// SeekOffset implements EventLog.
func (l *memLog) SeekOffset(_ context.Context, partition int, offset int64) (int64, error) {
	return l.seek(partition, func(s *segment, at int) bool { return s.offset+int64(s.starts[at]) >= offset })
}

// seek returns the first kept event for which reached holds; it holds for all that follow.
func (l *memLog) seek(partition int, reached func(s *segment, at int) bool) (int64, error) {
	p, err := l.partition(partition)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := sort.Search(len(p.segments), func(i int) bool { return reached(p.segments[i], len(p.segments[i].starts)-1) })
	if i == len(p.segments) {
		return p.next, nil
	}
	s := p.segments[i]
	return max(p.trimmed, s.first+int64(sort.Search(len(s.starts), func(at int) bool { return reached(s, at) }))), nil
}

// Trim implements EventLog. Segments go as a whole, once nothing of them is wanted.
func (l *memLog) Trim(_ context.Context, partition int, before int64) error {
	p, err := l.partition(partition)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trimmed = max(p.trimmed, min(before, p.next))
	for len(p.segments) > 0 {
		old := p.segments[0]
		if old.first+int64(len(old.starts)) > p.trimmed {
			break
		}
		p.segments[0] = nil
		p.segments = p.segments[1:]
		p.allocated -= int64(cap(old.buf))
	}
	return nil
}

// Info implements EventLog. A partition that never had an event has LastOffset -1.
func (l *memLog) Info(_ context.Context, partition int) (PartitionInfo, error) {
	p, err := l.partition(partition)
	if err != nil {
		return PartitionInfo{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	info := PartitionInfo{FirstSequence: p.next, LastSequence: p.next - 1, LastOffset: -1}
	if p.next > 0 {
		info.LastOffset, info.LastEnqueued = p.lastOffset, time.Unix(0, p.lastEnqueued).UTC()
	}
	if len(p.segments) > 0 {
		info.FirstSequence = max(p.segments[0].first, p.trimmed)
	}
	return info, nil
}

// Watch implements EventLog. A wake that was under way when the watch was cancelled may still happen.
func (l *memLog) Watch(partition int, wake func()) (cancel func()) {
	p, err := l.partition(partition)
	if err != nil {
		return func() {}
	}
	w := &watcher{wake: wake}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setWatchers(append(p.watcherList(), w))
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.setWatchers(slices.DeleteFunc(p.watcherList(), func(o *watcher) bool { return o == w }))
	}
}

// watcherList returns a copy of the watchers; setWatchers replaces them. The caller holds mu.
func (p *memPartition) watcherList() []*watcher {
	if w := p.watchers.Load(); w != nil {
		return slices.Clone(*w)
	}
	return nil
}

func (p *memPartition) setWatchers(w []*watcher) {
	if len(w) == 0 {
		p.watchers.Store(nil)
		return
	}
	p.watchers.Store(&w)
}

// Evicted implements EventLog.
func (l *memLog) Evicted() int64 {
	var n int64
	for _, p := range l.partitions {
		n += p.evicted.Load()
	}
	return n
}
