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
	last := int64(math.MaxInt64)
	for name, c := range map[string]struct {
		from Position
		want string
	}{
		"the start":            {Position{}, "01234"},
		"the end":              {Position{Latest: true}, ""},
		"a sequence number":    {Position{Sequence: seq2}, "234"},
		"after it":             {Position{Sequence: seq2, Exclusive: true}, "34"},
		"an offset":            {Position{Offset: off2}, "234"},
		"after that":           {Position{Offset: off2, Exclusive: true}, "34"},
		"offset -1":            {Position{Offset: &minus, Exclusive: true}, "01234"},
		"a far offset":         {Position{Offset: &far}, ""},
		"a far sequence":       {Position{Sequence: &far}, ""},
		"after every number":   {Position{Sequence: &last, Exclusive: true}, ""},
		"after every offset":   {Position{Offset: &last, Exclusive: true}, ""},
		"a time":               {Position{Enqueued: start.Add(2 * time.Second)}, "234"},
		"after that time":      {Position{Enqueued: start.Add(2 * time.Second), Exclusive: true}, "34"},
		"a time in between":    {Position{Enqueued: start.Add(2500 * time.Millisecond), Exclusive: true}, "34"},
		"a time long ago":      {Position{Enqueued: start.Add(-time.Hour)}, "01234"},
		"a time in the future": {Position{Enqueued: start.Add(time.Hour)}, ""},
	} {
		r, err := h.Admin().OpenReader(ctx, "$Default", "0", c.from, func() {})
		if err != nil {
			t.Fatal(err)
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
	r, err := h.Admin().OpenReader(ctx, "$Default", "0", Position{}, func() { told++ })
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
	r, err := h.Admin().OpenReader(ctx, "$Default", "0", Position{}, func() {
		select {
		case ready <- struct{}{}:
		default:
		}
	})
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
	for _, c := range []struct {
		group, partition string
		want             Code
	}{
		{"$Default", "0", 0}, {"$default", "3", 0}, {"my-group.1_x", "0", 0}, {"A", "0", 0}, {strings.Repeat("g", 50), "0", 0},
		{"", "0", CodeArgumentInvalid}, {"-a", "0", CodeArgumentInvalid}, {"a-", "0", CodeArgumentInvalid}, {"a b", "0", CodeArgumentInvalid},
		{"$Other", "0", CodeArgumentInvalid}, {strings.Repeat("g", 51), "0", CodeArgumentInvalid},
		{"$Default", "4", CodeArgumentInvalid}, {"$Default", "-1", CodeArgumentInvalid}, {"$Default", "00", CodeArgumentInvalid}, {"$Default", "", CodeArgumentInvalid},
	} {
		r, err := h.Admin().OpenReader(ctx, c.group, c.partition, Position{}, func() {})
		if codeOf(err) != c.want {
			t.Errorf("group %q, partition %q: %v, want code %d", c.group, c.partition, err, c.want)
		}
		if r != nil {
			r.Close()
		}
	}
	_, err := h.Admin().Partition(ctx, "9")
	wantCode(t, err, CodeArgumentInvalid)
}

func TestEventHubDescribesTheEndpoint(t *testing.T) {
	h, c := newTestHub(t)
	c.Advance(time.Minute)
	e, err := h.Admin().EventHub(ctx)
	if diff := cmp.Diff(EventHub{Name: "iolite", Created: start, PartitionIDs: []string{"0", "1", "2", "3"}}, e); diff != "" || err != nil {
		t.Errorf("%v, event hub (-want +got):\n%s", err, diff)
	}
	info, err := h.Admin().Partition(ctx, "1")
	if diff := cmp.Diff(store.PartitionInfo{LastSequence: -1, LastOffset: -1}, info); diff != "" || err != nil {
		t.Errorf("%v, partition (-want +got):\n%s", err, diff)
	}
}

func TestClosingTheServiceClosesItsReaders(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	r, err := service.OpenReader(ctx, "$Default", "0", Position{}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	service.Close()
	_, err = r.Next(ctx, 1)
	wantCode(t, err, CodeClosed)
}
