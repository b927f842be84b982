package hub

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

func TestReaderStartsWhereItIsTold(t *testing.T) {
	h, c := newTestHub(t, func(cfg *Config) { cfg.Engine = store.NewMemory(store.MemoryOptions{Partitions: 1}) })
	s := connect(t, h, "d")
	for i := range 5 {
		if err := s.SendTelemetry(ctx, Telemetry{Body: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
		c.Advance(time.Second)
	}
	all := readAll(t, h, "d")
	at := func(i int) (seq, offset *int64) { return &all[i].Sequence, &all[i].Offset }
	seq2, off2 := at(2)
	minus, far := int64(-1), int64(1<<40)
	seq4, off4 := at(4)
	last, farAfter := int64(math.MaxInt64), *off4+1
	for name, c := range map[string]struct {
		from Position
		want string
		code Code
	}{
		"the start":            {Position{}, "01234", 0},
		"the end":              {Position{Latest: true}, "", 0},
		"a sequence number":    {Position{Sequence: seq2}, "234", 0},
		"after it":             {Position{Sequence: seq2, Exclusive: true}, "34", 0},
		"the last number":      {Position{Sequence: seq4}, "4", 0},
		"after the last":       {Position{Sequence: seq4, Exclusive: true}, "", 0},
		"an offset":            {Position{Offset: off2}, "234", 0},
		"after that":           {Position{Offset: off2, Exclusive: true}, "34", 0},
		"the last offset":      {Position{Offset: off4}, "4", 0},
		"after the last one":   {Position{Offset: off4, Exclusive: true}, "", 0},
		"offset -1":            {Position{Offset: &minus, Exclusive: true}, "01234", 0},
		"an offset too far":    {Position{Offset: &farAfter}, "", CodeInvalidOffset},
		"a far offset":         {Position{Offset: &far, Exclusive: true}, "", CodeInvalidOffset},
		"a far sequence":       {Position{Sequence: &far}, "", CodeInvalidSequence},
		"after every number":   {Position{Sequence: &last, Exclusive: true}, "", CodeInvalidSequence},
		"after every offset":   {Position{Offset: &last, Exclusive: true}, "", CodeInvalidOffset},
		"a time":               {Position{Enqueued: start.Add(2 * time.Second)}, "234", 0},
		"after that time":      {Position{Enqueued: start.Add(2 * time.Second), Exclusive: true}, "34", 0},
		"a time in between":    {Position{Enqueued: start.Add(2500 * time.Millisecond), Exclusive: true}, "34", 0},
		"a time long ago":      {Position{Enqueued: start.Add(-time.Hour)}, "01234", 0},
		"a time in the future": {Position{Enqueued: start.Add(time.Hour)}, "", 0},
	} {
		r, err := h.Admin().OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: "0", From: c.from})
		if codeOf(err) != c.code {
			t.Fatalf("from %s: %v, want code %d", name, err, c.code)
		}
		if err != nil {
			continue
		}
		var got strings.Builder
		for {
			events, err := r.Next(ctx, 2)
			if err != nil || len(events) == 0 {
				break
			}
			for _, e := range events {
				got.Write(e.Body)
			}
		}
		r.Close()
		if got.String() != c.want {
			t.Errorf("from %s: %q, want %q", name, got.String(), c.want)
		}
	}
}

func TestReaderIsToldOnceWhenItHasReadEverything(t *testing.T) {
	h, _ := newTestHub(t, func(cfg *Config) { cfg.Engine = store.NewMemory(store.MemoryOptions{Partitions: 1}) })
	s := connect(t, h, "d")
	send := func() {
		if err := s.SendTelemetry(ctx, Telemetry{}); err != nil {
			t.Fatal(err)
		}
	}
	told := 0
	r, err := h.Admin().OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: "0", Ready: func() { told++ }})
	if err != nil {
		t.Fatal(err)
	}
	next := func(want int) {
		t.Helper()
		events, err := r.Next(ctx, 10)
		if err != nil || len(events) != want {
			t.Fatalf("Next = %d events, %v; want %d", len(events), err, want)
		}
	}
	send() // nobody waits yet
	next(1)
	send() // the last Next returned something
	next(1)
	next(0)
	if told != 0 {
		t.Fatalf("told %d times before it had to wait", told)
	}
	send()
	send()
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
	next(2)
	next(0)
	r.Close()
	r.Close()
	send()
	if told != 1 {
		t.Errorf("told %d times after Close", told)
	}
	_, err = r.Next(ctx, 1)
	wantCode(t, err, CodeClosed)
}

func TestNoEventIsMissedBetweenReadingAndWaiting(t *testing.T) {
	h, _ := newTestHub(t, func(cfg *Config) { cfg.Engine = store.NewMemory(store.MemoryOptions{Partitions: 1}) })
	s := connect(t, h, "d")
	const n = 5000
	ready := make(chan struct{}, 1)
	r, err := h.Admin().OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: "0", Ready: func() {
		select {
		case ready <- struct{}{}:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			_ = s.SendTelemetry(ctx, Telemetry{Body: fmt.Append(nil, i)})
		}
	})
	for got := 0; got < n; {
		events, err := r.Next(ctx, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if string(e.Body) != fmt.Sprint(got) {
				t.Fatalf("event %d is %s", got, e.Body)
			}
			got++
		}
		if len(events) == 0 {
			<-ready
		}
	}
	wg.Wait()
}

func TestReadersAreRefusedWhatDoesNotExist(t *testing.T) {
	h, _ := newTestHub(t)
	service, err := h.OpenService(ctx, servicePrincipal(h, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Admin().PutConsumerGroup(ctx, "", "My-Group.1_x"); err != nil {
		t.Fatal(err)
	}
	level := int64(-1)
	for name, c := range map[string]struct {
		o    ReaderOptions
		want Code
	}{
		"default":            {ReaderOptions{Group: "$Default", Partition: "0"}, 0},
		"small letters":      {ReaderOptions{Group: "$default", Partition: "3"}, 0},
		"by name":            {ReaderOptions{EventHub: "IoLite", Group: "my-group.1_X", Partition: "0"}, 0},
		"event hub":          {ReaderOptions{EventHub: "other", Group: "$Default", Partition: "0"}, CodeEntityNotFound},
		"group":              {ReaderOptions{Group: "other", Partition: "0"}, CodeEntityNotFound},
		"no group":           {ReaderOptions{Partition: "0"}, CodeEntityNotFound},
		"partition":          {ReaderOptions{Group: "$Default", Partition: "4"}, CodePartitionOutOfRange},
		"negative partition": {ReaderOptions{Group: "$Default", Partition: "-1"}, CodePartitionOutOfRange},
		"partition 00":       {ReaderOptions{Group: "$Default", Partition: "00"}, CodePartitionOutOfRange},
		"no partition":       {ReaderOptions{Group: "$Default"}, CodePartitionOutOfRange},
		"owner level":        {ReaderOptions{Group: "$Default", Partition: "0", OwnerLevel: &level}, CodeArgumentInvalid},
	} {
		r, err := service.OpenReader(ctx, c.o)
		if codeOf(err) != c.want {
			t.Errorf("%s: %v, want code %d", name, err, c.want)
		}
		if r != nil {
			r.Close()
		}
	}
	_, err = h.Admin().Partition(ctx, "", "9")
	wantCode(t, err, CodePartitionOutOfRange)
	_, err = h.Admin().EventHub(ctx, "other")
	wantCode(t, err, CodeEntityNotFound)
}

func TestClosingTheServiceClosesItsReaders(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	r, err := service.OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: "0"})
	if err != nil {
		t.Fatal(err)
	}
	service.Close()
	_, err = r.Next(ctx, 1)
	wantCode(t, err, CodeClosed)
}

func TestEventsGoWhenTheirTimeIsOver(t *testing.T) {
	h, c := newTestHub(t, func(cfg *Config) {
		cfg.Engine, cfg.Retention = store.NewMemory(store.MemoryOptions{Partitions: 1}), 48*time.Hour
	})
	s := connect(t, h, "d")
	send := func(body string) {
		if err := s.SendTelemetry(ctx, Telemetry{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	open := func(from Position) *EventReader {
		r, err := h.Admin().OpenReader(ctx, ReaderOptions{Partition: "0", From: from})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		return r
	}
	info := func() store.PartitionInfo {
		p, err := h.Admin().Partition(ctx, "", "0")
		if err != nil {
			t.Fatal(err)
		}
		return p.PartitionInfo
	}
	send("old")
	early := open(Position{})
	c.Advance(24 * time.Hour)
	send("new")
	full := info()
	if full.FirstSequence != 0 || full.LastSequence != 1 {
		t.Fatalf("before: %+v", full)
	}
	c.Advance(24*time.Hour + time.Second)
	if diff := cmp.Diff(store.PartitionInfo{FirstSequence: 1, LastSequence: 1, LastOffset: full.LastOffset, LastEnqueued: full.LastEnqueued}, info()); diff != "" {
		t.Errorf("after the first has gone (-want +got):\n%s", diff)
	}
	zero := int64(0)
	for name, r := range map[string]*EventReader{"opened before": early, "opened now": open(Position{}), "at what has gone": open(Position{Sequence: &zero}),
		"by offset": open(Position{Offset: &zero}), "by time": open(Position{Enqueued: start})} {
		events, err := r.Next(ctx, 10)
		if err != nil || len(events) != 1 || string(events[0].Body) != "new" {
			t.Errorf("%s: %v, %v", name, events, err)
		}
	}
	late := open(Position{})
	c.Advance(24 * time.Hour)
	if diff := cmp.Diff(store.PartitionInfo{FirstSequence: 2, LastSequence: 1, LastOffset: full.LastOffset, LastEnqueued: full.LastEnqueued}, info()); diff != "" {
		t.Errorf("after all have gone (-want +got):\n%s", diff)
	}
	if events, err := late.Next(ctx, 10); err != nil || len(events) != 0 {
		t.Errorf("%v, %v", events, err)
	}
	last := int64(1)
	resumed := open(Position{Sequence: &last, Exclusive: true})
	send("newest")
	for _, r := range []*EventReader{late, resumed} {
		if events, err := r.Next(ctx, 10); err != nil || len(events) != 1 || events[0].Sequence != 2 {
			t.Errorf("%v, %v", events, err)
		}
	}
}
