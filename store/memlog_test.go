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
