package store

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func newLog(o MemoryOptions) *memLog { return NewMemory(o).events }

// fullEvent has every field set.
func fullEvent() Event {
	return Event{
		SystemProperties: SystemProperties{
			MessageID: "mid", CorrelationID: "cid", UserID: "uid", To: "to", ContentType: "ct", ContentEncoding: "ce",
			Expiry: start.Add(time.Hour), CreationTime: "created", MessageSchema: "schema", Operation: "op", Ack: "full", OutputName: "out",
			InterfaceID: "interface", Subject: "subject", DiagnosticID: "diag", DiagnosticCtx: "ctx",
		},
		Properties: []Property{{Name: "a", Value: "1"}, {Name: "empty"}, {Name: "null", Null: true}, {Name: "", Value: "no name"}},
		Body:       []byte("body"), PartitionKey: "d", DeviceID: "d", ModuleID: "m", GenerationID: "gen", AuthMethod: "auth",
		Source: "Telemetry", ModelID: "model", Enqueued: start,
	}
}

func TestEventsComeBackAsTheyWere(t *testing.T) {
	text := rapid.StringN(0, 40, 300)
	rapid.Check(t, func(t *rapid.T) {
		l := newLog(MemoryOptions{Partitions: 1})
		var want []Event
		for i := range rapid.IntRange(1, 20).Draw(t, "events") {
			e := fullEvent()
			for _, s := range texts(&e) {
				if rapid.Bool().Draw(t, "other text") {
					*s = text.Draw(t, "text")
				}
			}
			for _, s := range words(&e) {
				*s = text.Draw(t, "word")
			}
			e.Properties = e.Properties[:rapid.IntRange(0, 4).Draw(t, "properties")]
			if len(e.Properties) == 0 {
				e.Properties = nil
			}
			e.Body = rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "body")
			e.Expiry = e.Expiry.Add(time.Duration(i) * time.Second)
			e.Sequence = int64(i)
			want = append(want, e)
		}
		must(l.Append(ctx, 0, want...))
		got := must(l.Read(ctx, 0, 0, 1000, 1<<30))
		for i := range got {
			want[i].Offset = got[i].Offset
			if len(want[i].Body) == 0 {
				want[i].Body = got[i].Body // nil or empty
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("events (-want +got):\n%s", diff)
		}
	})
}

func TestFullGlossaryKeepsEventsRight(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1})
	const n = 3 * maxGlossary
	for i := range n {
		must(l.Append(ctx, 0, Event{Source: "Telemetry", ModelID: fmt.Sprintf("model-%d", i), AuthMethod: strings.Repeat("x", maxGlossText+1)}))
	}
	for i, e := range must(l.Read(ctx, 0, 0, n, 1<<30)) {
		if e.ModelID != fmt.Sprintf("model-%d", i) || e.Source != "Telemetry" || len(e.AuthMethod) != maxGlossText+1 {
			t.Fatalf("event %d has model %q, source %q", i, e.ModelID, e.Source)
		}
	}
	if got := len(l.glossary.load().texts); got > maxGlossary+1 {
		t.Errorf("the glossary holds %d texts", got)
	}
}

func TestAppendCopiesWhatItStores(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1})
	body, properties := []byte("body"), []Property{{Name: "n", Value: "v"}}
	must(l.Append(ctx, 0, Event{Body: body, Properties: properties}))
	body[0], properties[0].Value = 'X', "changed"
	if e := must(l.Read(ctx, 0, 0, 1, 100))[0]; string(e.Body) != "body" || e.Properties[0].Value != "v" {
		t.Errorf("stored %q %v", e.Body, e.Properties)
	}
}

func TestOldestEventsGoAtTheByteLimitAndAreCounted(t *testing.T) {
	const limit = 1 << 20
	l := newLog(MemoryOptions{Partitions: 2, EventBytes: limit})
	const n = 2000
	for range n {
		must(l.Append(ctx, 0, Event{Body: make([]byte, 1000)}))
	}
	info := must(l.Info(ctx, 0))
	if info.LastSequence != n-1 || info.FirstSequence == 0 {
		t.Errorf("partition %+v", info)
	}
	if l.Evicted() != info.FirstSequence {
		t.Errorf("Evicted = %d, but the first kept is %d", l.Evicted(), info.FirstSequence)
	}
	if kept := n - info.FirstSequence; kept < limit/2/1024/2 || l.partitions[0].allocated > limit/2 {
		t.Errorf("%d events are kept in %d bytes", kept, l.partitions[0].allocated)
	}
	events := must(l.Read(ctx, 0, 0, 1, 1<<20))
	if len(events) != 1 || events[0].Sequence != info.FirstSequence {
		t.Errorf("reading from a dropped event gives %v, want the oldest kept", events)
	}
}

func TestTrimmedEventsAreNeitherReadNorCountedAsEvicted(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1})
	const n, trimmed = 2000, 1234
	var offset int64
	for i := range n {
		must(l.Append(ctx, 0, Event{Body: make([]byte, 100), Enqueued: time.Unix(int64(i), 0)}))
		if i == trimmed-1 {
			offset = must(l.Info(ctx, 0)).LastOffset
		}
	}
	before := l.partitions[0].allocated
	if err := l.Trim(ctx, 0, trimmed); err != nil {
		t.Fatal(err)
	}
	if l.partitions[0].allocated >= before || l.Evicted() != 0 {
		t.Errorf("%d bytes of %d are allocated, %d events evicted", l.partitions[0].allocated, before, l.Evicted())
	}
	if first := must(l.Info(ctx, 0)).FirstSequence; first != trimmed {
		t.Errorf("the first event is %d, want %d", first, trimmed)
	}
	if e := must(l.Read(ctx, 0, 0, 1, 1<<20)); len(e) != 1 || e[0].Sequence != trimmed {
		t.Errorf("read %v, want the first that is kept", e)
	}
	if got := must(l.SeekOffset(ctx, 0, offset)); got != trimmed {
		t.Errorf("SeekOffset of a trimmed event = %d", got)
	}
	if got := must(l.SeekTime(ctx, 0, time.Unix(trimmed-2, 0))); got != trimmed {
		t.Errorf("SeekTime of a trimmed event = %d", got)
	}
	if err := l.Trim(ctx, 0, n+100); err != nil {
		t.Fatal(err)
	}
	if info := must(l.Info(ctx, 0)); info.FirstSequence != n || info.LastSequence != n-1 || !info.LastEnqueued.Equal(time.Unix(n-1, 0)) {
		t.Errorf("an emptied partition says %+v", info)
	}
	must(l.Append(ctx, 0, Event{Body: []byte("next")}))
	if e := must(l.Read(ctx, 0, 0, 10, 1<<20)); len(e) != 1 || e[0].Sequence != n {
		t.Errorf("read %v, want the event after the trimmed ones", e)
	}
}

func TestEventHubsHaveLogsOfTheirOwnUntilDroppedOrReset(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	hubs := m.EventHubs()
	one := must(hubs.Open(ctx, "one", 2))
	must(one.Append(ctx, 1, Event{Body: []byte("a")}))
	if again := must(hubs.Open(ctx, "one", 8)); again.Partitions() != 2 || must(again.Info(ctx, 1)).LastSequence != 0 {
		t.Error("opening a log again does not give the same log")
	}
	if must(must(hubs.Open(ctx, "two", 2)).Info(ctx, 1)).LastSequence != -1 || must(m.Events().Info(ctx, 1)).LastSequence != -1 {
		t.Error("an event came into another log")
	}
	if _, err := hubs.Open(ctx, "three", 0); err == nil {
		t.Error("a log without partitions was made")
	}
	if err := hubs.Drop(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if must(hubs.Open(ctx, "one", 1)).Partitions() != 1 {
		t.Error("a dropped log came back")
	}
	if err := m.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if must(hubs.Open(ctx, "two", 3)).Partitions() != 3 {
		t.Error("a log outlived a reset")
	}
}

func TestEvictionLeavesReadEventsAlone(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1, EventBytes: 64 << 10})
	must(l.Append(ctx, 0, Event{Body: bytes.Repeat([]byte("a"), 1000)}))
	read := must(l.Read(ctx, 0, 0, 1, 1<<20))
	for range 500 {
		must(l.Append(ctx, 0, Event{Body: bytes.Repeat([]byte("b"), 1000)}))
	}
	if !bytes.Equal(read[0].Body, bytes.Repeat([]byte("a"), 1000)) {
		t.Error("an event that was read has changed")
	}
}

// A full log that nobody reads needs no more memory; what a reader got stays as it was, which TestEvictionLeavesReadEventsAlone says.
func TestSegmentsThatNobodyReadAreUsedAgain(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1, EventBytes: 256 << 10})
	p := l.partitions[0]
	fill := func() {
		for range 1000 {
			must(l.Append(ctx, 0, Event{Body: make([]byte, 1000)}))
		}
	}
	fill()
	memory := map[*byte]bool{}
	for _, s := range p.segments {
		memory[&s.buf[0]] = true
	}
	fill()
	for _, s := range p.segments {
		if !memory[&s.buf[0]] {
			t.Error("a segment has new memory")
		}
	}
	if n := p.segments[0].first + int64(len(p.segments[0].starts)); n != p.segments[1].first {
		t.Errorf("the first segment ends before event %d, the next begins with %d", n, p.segments[1].first)
	}
}

// Events that are stored together become what they would have become one after the other: in segments, when the oldest go, with times
// that go back, and of whoever they are.
func TestStoringTogetherIsStoringOneAfterTheOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := MemoryOptions{Partitions: 1, EventBytes: 64 << 10}
		together, single := newLog(o), newLog(o)
		few := rapid.SampledFrom([]string{"", "a", "b"})
		for range rapid.IntRange(1, 5).Draw(t, "batches") {
			var batch []Event
			for range rapid.IntRange(1, 12).Draw(t, "events") {
				e := Event{
					DeviceID: few.Draw(t, "device"), ModuleID: few.Draw(t, "module"), GenerationID: few.Draw(t, "generation"), PartitionKey: few.Draw(t, "key"),
					AuthMethod: few.Draw(t, "method"), Source: few.Draw(t, "source"), ModelID: few.Draw(t, "model"),
					Enqueued: start.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "time"))), Body: make([]byte, rapid.IntRange(0, 6000).Draw(t, "size")),
				}
				e.MessageID = few.Draw(t, "id")
				batch = append(batch, e)
				must(single.Append(ctx, 0, e))
			}
			must(together.Append(ctx, 0, batch...))
		}
		if diff := cmp.Diff(must(single.Info(ctx, 0)), must(together.Info(ctx, 0))); diff != "" {
			t.Fatalf("partition (-single +together):\n%s", diff)
		}
		if diff := cmp.Diff(must(single.Read(ctx, 0, 0, 1000, 1<<30)), must(together.Read(ctx, 0, 0, 1000, 1<<30)), cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatalf("events (-single +together):\n%s", diff)
		}
	})
}

func TestHugeEventGetsItsOwnSegment(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1, EventBytes: 64 << 10})
	must(l.Append(ctx, 0, Event{Body: []byte("small")}))
	must(l.Append(ctx, 0, Event{Body: make([]byte, 2<<20)}))
	if e := must(l.Read(ctx, 0, 1, 1, 1)); len(e) != 1 || len(e[0].Body) != 2<<20 {
		t.Errorf("read %d events", len(e))
	}
}

func TestReadStopsAtItsLimits(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1})
	for range 100 {
		must(l.Append(ctx, 0, Event{Body: make([]byte, 1000)}))
	}
	for _, c := range []struct{ from, limit, bytes, want int }{
		{0, 1000, 1 << 30, 100}, {90, 1000, 1 << 30, 10}, {100, 10, 1 << 30, 0}, {200, 10, 1 << 30, 0}, {-5, 10, 1 << 30, 10},
		{0, 0, 1 << 30, 0}, {0, 1000, 1, 1}, {0, 1000, 5 * 1020, 5},
	} {
		if got := len(must(l.Read(ctx, 0, int64(c.from), c.limit, c.bytes))); got != c.want {
			t.Errorf("Read(from %d, limit %d, %d bytes) = %d events, want %d", c.from, c.limit, c.bytes, got, c.want)
		}
	}
	_, err := l.Read(ctx, 7, 0, 1, 1)
	wantErr(t, err, ErrNotFound)
}

func TestSeekFindsTheFirstEventAtOrAfter(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1, EventBytes: 256 << 10})
	const n = 600
	for i := range n {
		must(l.Append(ctx, 0, Event{Enqueued: start.Add(time.Duration(i) * time.Second), Body: make([]byte, 1000)}))
	}
	first := must(l.Info(ctx, 0)).FirstSequence
	for _, e := range must(l.Read(ctx, 0, 0, n, 1<<30)) {
		for what, got := range map[string]int64{
			"its offset":         must(l.SeekOffset(ctx, 0, e.Offset)),
			"just before":        must(l.SeekOffset(ctx, 0, e.Offset-1)),
			"its time":           must(l.SeekTime(ctx, 0, e.Enqueued)),
			"a time just before": must(l.SeekTime(ctx, 0, e.Enqueued.Add(-time.Millisecond))),
		} {
			if got != e.Sequence {
				t.Fatalf("seeking %s of event %d gives %d", what, e.Sequence, got)
			}
		}
	}
	if got := must(l.SeekTime(ctx, 0, start)); got != first {
		t.Errorf("seeking a dropped time gives %d, want the oldest kept, %d", got, first)
	}
	if got := must(l.SeekTime(ctx, 0, start.Add(time.Hour))); got != n {
		t.Errorf("seeking a time to come gives %d, want %d", got, n)
	}
	if got := must(l.SeekOffset(ctx, 0, 1<<40)); got != n {
		t.Errorf("seeking an offset to come gives %d, want %d", got, n)
	}
}

func TestEnqueuedTimeNeverGoesBack(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1})
	must(l.Append(ctx, 0, Event{Enqueued: start.Add(time.Second)}))
	must(l.Append(ctx, 0, Event{Enqueued: start}))
	if e := must(l.Read(ctx, 0, 1, 1, 100))[0]; !e.Enqueued.Equal(start.Add(time.Second)) {
		t.Errorf("Enqueued = %v", e.Enqueued)
	}
}

func TestWatchersAreWokenUntilCancelled(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 2})
	var a, b int
	cancelA := l.Watch(0, func() { a++ })
	cancelB := l.Watch(0, func() { b++ })
	must(l.Append(ctx, 0, Event{}))
	must(l.Append(ctx, 1, Event{}))
	cancelA()
	must(l.Append(ctx, 0, Event{}))
	cancelB()
	cancelB()
	must(l.Append(ctx, 0, Event{}))
	if a != 1 || b != 2 {
		t.Errorf("woken %d and %d times, want 1 and 2", a, b)
	}
	if l.partitions[0].watchers.Load() != nil {
		t.Error("an empty list of watchers is kept")
	}
}

func TestConcurrentSendersKeepTheirOwnOrder(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1})
	const senders, each = 4, 2000
	var stop atomic.Bool
	var reader, writers sync.WaitGroup
	last := map[string]int{}
	reader.Go(func() {
		for next := int64(0); next < senders*each; {
			for _, e := range must(l.Read(ctx, 0, next, 100, 1<<20)) {
				var n int
				_, _ = fmt.Sscan(string(e.Body), &n)
				if e.Sequence != next || n != last[e.DeviceID] {
					t.Errorf("event %d is number %d of %s, want %d", e.Sequence, n, e.DeviceID, last[e.DeviceID])
					stop.Store(true)
				}
				last[e.DeviceID]++
				next++
			}
			if stop.Load() {
				return
			}
		}
	})
	for s := range senders {
		writers.Go(func() {
			for i := range each {
				must(l.Append(ctx, 0, Event{DeviceID: fmt.Sprint("d", s), Body: fmt.Append(nil, i), Enqueued: start}))
			}
		})
	}
	writers.Wait()
	reader.Wait()
}

func BenchmarkAppend(b *testing.B) {
	l := newLog(MemoryOptions{Partitions: 1, EventBytes: 64 << 20})
	e := fullEvent()
	e.Body = make([]byte, 256)
	events := []Event{e}
	b.ReportAllocs()
	for b.Loop() {
		must(l.Append(ctx, 0, events...))
	}
}

func BenchmarkRead(b *testing.B) {
	l := newLog(MemoryOptions{Partitions: 1, EventBytes: 64 << 20})
	e := fullEvent()
	e.Body = make([]byte, 256)
	for range 100 {
		must(l.Append(ctx, 0, e))
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := len(must(l.Read(ctx, 0, 0, 100, 1<<30))); n != 100 {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/event")
}

// What is read into used memory is what Read returns, and waiting keeps nothing of the log alive.
func TestReadingIntoTheSameMemory(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1})
	for i := range 100 {
		e := fullEvent()
		e.Body, e.Properties = fmt.Append(nil, i), e.Properties[:i%5]
		must(l.Append(ctx, 0, e))
	}
	var memory ReadMemory
	for from := int64(0); from < 100; from += 7 {
		want := must(l.Read(ctx, 0, from, 7, 1<<20))
		if diff := cmp.Diff(want, must(l.ReadTo(ctx, &memory, 0, from, 7, 1<<20))); diff != "" {
			t.Fatalf("from %d (-Read +ReadTo):\n%s", from, diff)
		}
	}
	if got := must(l.ReadTo(ctx, &memory, 0, 100, 7, 1<<20)); len(got) != 0 {
		t.Fatal(got)
	}
	for _, e := range memory.events[:cap(memory.events)] {
		if e.Body != nil || e.MessageID != "" {
			t.Fatalf("%+v is kept", e)
		}
	}
	must(l.ReadTo(ctx, &memory, 0, 0, 100, 1<<20))
	if must(l.ReadTo(ctx, &memory, 0, 100, 100, 1<<20)); cap(memory.events) != 0 {
		t.Errorf("room for %d events is kept", cap(memory.events))
	}
}
