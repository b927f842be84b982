package hub

import (
	"strings"
	"sync"
	"testing"
)

// claim opens a reader of partition 0 with an owner level, without one below 0. What it ended with comes by the returned channel.
func claim(t testing.TB, h *Hub, name string, level int64) (*EventReader, chan *Error, error) {
	t.Helper()
	ends := make(chan *Error, 1)
	o := ReaderOptions{Group: "$Default", Partition: "0", Name: name, Ended: func(e *Error) { ends <- e }}
	if level >= 0 {
		o.OwnerLevel = &level
	}
	r, err := h.Admin().OpenReader(ctx, o)
	return r, ends, err
}

func mustClaim(t testing.TB, h *Hub, name string, level int64) (*EventReader, chan *Error) {
	t.Helper()
	r, ends, err := claim(t, h, name, level)
	if err != nil {
		t.Fatal(err)
	}
	return r, ends
}

func TestTheHighestOwnerLevelReadsAlone(t *testing.T) {
	h, _ := newTestHub(t)
	_, plain := mustClaim(t, h, "", -1)
	first, firstEnds := mustClaim(t, h, "one", 1)
	wantEnd(t, plain, CodeReceiverDisconnected)
	_, _, err := claim(t, h, "", -1)
	wantCode(t, err, CodeEpochRequired)
	_, _, err = claim(t, h, "late", 0)
	wantCode(t, err, CodeEpochTooLow)
	if !strings.HasPrefix(errorOf(err).Text, "Receiver 'one' with a higher epoch '1' already exists. Receiver 'late' with epoch 0 cannot be created.") {
		t.Error(err)
	}
	wantNoEnd(t, firstEnds)
	_, secondEnds := mustClaim(t, h, "two", 1)
	why := <-firstEnds
	if !strings.HasPrefix(why.Text, "New receiver 'two' with higher epoch of '1' is created hence current receiver 'one' with epoch '1' is getting disconnected.") {
		t.Error(why)
	}
	_, err = first.Next(ctx, 1)
	wantCode(t, err, CodeReceiverDisconnected)
	third, _ := mustClaim(t, h, "three", 7)
	wantEnd(t, secondEnds, CodeReceiverDisconnected)
	third.Close()
	mustClaim(t, h, "", -1) // the partition is free again
}

func TestOwnerLevelsHoldWithinAGroupAPartitionAndAnEventHub(t *testing.T) {
	h, _ := newTestHub(t)
	openHub(t, h, "alerts", 1)
	if err := h.Admin().PutConsumerGroup(ctx, "", "other"); err != nil {
		t.Fatal(err)
	}
	_, ends := mustClaim(t, h, "", 5)
	for _, o := range []ReaderOptions{
		{Group: "other", Partition: "0"}, {Group: "$Default", Partition: "1"}, {EventHub: "alerts", Group: "$Default", Partition: "0"},
		{Partition: "0"}, // Admin's reader of no group
	} {
		if _, err := h.Admin().OpenReader(ctx, o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	wantNoEnd(t, ends)
}

func TestAtMostFiveReadersWithoutOwnerLevel(t *testing.T) {
	h, _ := newTestHub(t)
	var last *EventReader
	for _, name := range []string{"a", "", "", "", "e"} {
		last, _ = mustClaim(t, h, name, -1)
	}
	_, _, err := claim(t, h, "", -1)
	wantCode(t, err, CodeReceiverQuotaExceeded)
	if want := "which is 5. List of connected receivers - a, nil, nil, nil, e."; !strings.HasSuffix(errorOf(err).Text, want) {
		t.Errorf("%v, want ... %s", err, want)
	}
	last.Close()
	mustClaim(t, h, "", -1)
}

// However readers come and go at once, none stays an owner after it has closed.
func TestOwnershipEndsWithTheReader(t *testing.T) {
	h, _ := newTestHub(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				s, err := h.OpenService(ctx, servicePrincipal(h, 0), nil)
				if err != nil {
					t.Error(err)
					return
				}
				level := int64(n % 3)
				r, err := s.OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: "0", OwnerLevel: &level})
				if err == nil && i%2 == 0 {
					r.Close()
				}
				s.Close()
			}
		})
	}
	wg.Wait()
	mustClaim(t, h, "", -1)
}
