package hub

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

func TestEventHubDescribesTheEndpoint(t *testing.T) {
	h, c := newTestHub(t)
	c.Advance(time.Minute)
	e, err := h.Admin().EventHub(ctx, "")
	want := EventHub{Name: "iolite", BuiltIn: true, Created: start, PartitionIDs: []string{"0", "1", "2", "3"}, ConsumerGroups: []string{"$Default"}}
	if diff := cmp.Diff(want, e); diff != "" || err != nil {
		t.Errorf("%v, event hub (-want +got):\n%s", err, diff)
	}
	info, err := h.Admin().Partition(ctx, "IOLITE", "1")
	if diff := cmp.Diff(Partition{EventHub: "iolite", ID: "1", PartitionInfo: store.PartitionInfo{LastSequence: -1, LastOffset: -1}}, info); diff != "" || err != nil {
		t.Errorf("%v, partition (-want +got):\n%s", err, diff)
	}
}

// openHub makes an event hub beside the built-in endpoint.
func openHub(t testing.TB, h *Hub, name string, partitions int, groups ...string) *eventHub {
	t.Helper()
	e, err := h.openEventHub(ctx, name, partitions, groups)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEventHubsBesidesTheBuiltInOneAreReadTheSameWay(t *testing.T) {
	h, c := newTestHub(t)
	e := openHub(t, h, "Alerts", 2, "dashboard")
	if openHub(t, h, "alerts", 2, "archive") != e {
		t.Error("the name in small letters is another event hub")
	}
	if err := e.append(ctx, 1, store.Event{Body: []byte("hot"), Enqueued: c.Now()}, store.Event{Body: []byte("hotter"), Enqueued: c.Now()}); err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"$Default", "dashboard", "archive"} {
		r, err := h.Admin().OpenReader(ctx, ReaderOptions{EventHub: "ALERTS", Group: group, Partition: "1"})
		if err != nil {
			t.Fatal(err)
		}
		events, err := r.Next(ctx, 10)
		if err != nil || len(events) != 2 || string(events[1].Body) != "hotter" {
			t.Errorf("%s: %v, %v", group, events, err)
		}
	}
	info, err := h.Admin().Partition(ctx, "alerts", "1")
	if err != nil || info.LastSequence != 1 || info.EventHub != "Alerts" {
		t.Errorf("%+v, %v", info, err)
	}
	all, err := h.Admin().EventHubs(ctx)
	if err != nil || len(all) != 2 || all[0].Name != "Alerts" || len(all[0].PartitionIDs) != 2 || all[0].BuiltIn || !all[1].BuiltIn {
		t.Errorf("%+v, %v", all, err)
	}
	if builtIn, err := h.Admin().Partition(ctx, "", "1"); err != nil || builtIn.LastSequence != -1 {
		t.Errorf("the built-in endpoint has them, too: %+v, %v", builtIn, err)
	}
}

func TestEventHubsThatCannotBe(t *testing.T) {
	h, _ := newTestHub(t)
	openHub(t, h, "alerts", 2)
	var tooMany []string
	for i := range maxGroups {
		tooMany = append(tooMany, fmt.Sprint("group", i))
	}
	for name, c := range map[string]struct {
		name       string
		partitions int
		groups     []string
		want       Code
	}{
		"no name":             {"", 4, nil, CodeArgumentInvalid},
		"a slash":             {"a/b", 4, nil, CodeArgumentInvalid},
		"too long":            {strings.Repeat("a", 257), 4, nil, CodeArgumentInvalid},
		"the built-in one":    {"IOLITE", 4, nil, CodeArgumentInvalid},
		"a node of the hub":   {"Devices", 4, nil, CodeArgumentInvalid},
		"no partitions":       {"a", 0, nil, CodeArgumentInvalid},
		"33 partitions":       {"a", 33, nil, CodeArgumentInvalid},
		"other partitions":    {"alerts", 3, nil, CodeArgumentInvalid},
		"a bad group":         {"a", 4, []string{"-x"}, CodeArgumentInvalid},
		"21 groups":           {"a", 4, tooMany, CodeTooManyGroups},
		"20 groups":           {"b", 4, tooMany[1:], 0},
		"the longest name":    {strings.Repeat("a", 256), 4, nil, 0},
		"as it is, once more": {"alerts", 2, nil, 0},
	} {
		if _, err := h.openEventHub(ctx, c.name, c.partitions, c.groups); codeOf(err) != c.want {
			t.Errorf("%s: %v, want code %d", name, err, c.want)
		}
	}
	if err := h.HasEventHub("a"); err == nil {
		t.Error("an event hub that was refused is there")
	}
}

func TestDroppingAnEventHubEndsItsReaders(t *testing.T) {
	h, _ := newTestHub(t)
	e := openHub(t, h, "alerts", 1)
	var ended []error
	r, err := h.Admin().OpenReader(ctx, ReaderOptions{EventHub: "alerts", Group: "$Default", Partition: "0", Ended: func(e *Error) { ended = append(ended, e) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.dropEventHub(ctx, "ALERTS"), h.dropEventHub(ctx, "alerts"), h.dropEventHub(ctx, "iolite")); err != nil {
		t.Fatal(err)
	}
	if len(ended) != 1 {
		t.Fatalf("ended %d times: %v", len(ended), ended)
	}
	wantCode(t, ended[0], CodeEntityNotFound)
	_, err = r.Next(ctx, 1)
	wantCode(t, err, CodeEntityNotFound)
	wantCode(t, h.HasEventHub("alerts"), CodeEntityNotFound)
	if err := h.HasEventHub("iolite"); err != nil {
		t.Errorf("the built-in endpoint is gone: %v", err)
	}
	if openHub(t, h, "alerts", 3) == e {
		t.Error("it came back as it was")
	}
}

func TestDroppingAnEventHubEndsItsSearches(t *testing.T) {
	h, _ := newTestHub(t)
	e := openHub(t, h, "alerts", 1)
	s, err := h.Admin().SearchEvents(ctx, EventFilter{EventHub: "alerts"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := h.dropEventHub(ctx, "alerts"); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Next(ctx)
	wantCode(t, err, CodeEntityNotFound)
	if len(e.searches) != 0 {
		t.Error("the event hub still knows its search")
	}
}

func TestWhoMayDeleteAnEventHub(t *testing.T) {
	h, _ := newTestHub(t)
	openHub(t, h, "routed", 1)
	if e, err := h.Admin().PutEventHub(ctx, "Mine", 2, "a"); err != nil || cmp.Diff([]string{"$Default", "a"}, e.ConsumerGroups) != "" || e.Name != "Mine" {
		t.Fatalf("%+v, %v", e, err)
	}
	for name, want := range map[string]Code{"": CodeInvalidOperation, "iolite": CodeInvalidOperation, "routed": CodeInvalidOperation, "mine": 0, "other": CodeEntityNotFound} {
		if err := h.Admin().DeleteEventHub(ctx, name); codeOf(err) != want {
			t.Errorf("%q: %v, want code %d", name, err, want)
		}
	}
}

func TestAResetLeavesTheBuiltInEndpointWithItsDefaultGroup(t *testing.T) {
	h, _ := newTestHub(t)
	openHub(t, h, "alerts", 1)
	if err := h.Admin().PutConsumerGroup(ctx, "iolite", "dashboard"); err != nil {
		t.Fatal(err)
	}
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	all, err := h.Admin().EventHubs(ctx)
	if err != nil || len(all) != 1 || cmp.Diff([]string{"$Default"}, all[0].ConsumerGroups) != "" {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestConsumerGroupsAreMadeAndDeleted(t *testing.T) {
	h, _ := newTestHub(t)
	admin := h.Admin()
	for name, want := range map[string]Code{
		"my-group.1_x": 0, "MY-GROUP.1_X": 0, "A": 0, strings.Repeat("g", 50): 0, "$default": 0,
		"": CodeArgumentInvalid, "-a": CodeArgumentInvalid, "a-": CodeArgumentInvalid, "a b": CodeArgumentInvalid, "$Other": CodeArgumentInvalid,
		strings.Repeat("g", 51): CodeArgumentInvalid,
	} {
		if err := admin.PutConsumerGroup(ctx, "", name); codeOf(err) != want {
			t.Errorf("%q: %v, want code %d", name, err, want)
		}
	}
	for i := range maxGroups - 4 {
		if err := admin.PutConsumerGroup(ctx, "", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, admin.PutConsumerGroup(ctx, "", "one-more"), CodeTooManyGroups)
	wantCode(t, admin.PutConsumerGroup(ctx, "other", "a"), CodeEntityNotFound)
	wantCode(t, admin.DeleteConsumerGroup(ctx, "", "$Default"), CodeInvalidOperation)
	wantCode(t, admin.DeleteConsumerGroup(ctx, "", "nobody"), CodeEntityNotFound)
	wantCode(t, admin.DeleteConsumerGroup(ctx, "", "a"), 0)
	wantCode(t, admin.PutConsumerGroup(ctx, "", "one-more"), 0)
}

func TestDeletingAConsumerGroupEndsItsReadersAlone(t *testing.T) {
	h, _ := newTestHub(t)
	admin := h.Admin()
	open := func(group string, ended *int) *EventReader {
		if err := admin.PutConsumerGroup(ctx, "", group); err != nil {
			t.Fatal(err)
		}
		r, err := admin.OpenReader(ctx, ReaderOptions{Group: group, Partition: "0", Ended: func(*Error) { *ended++ }})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var gone, stays int
	first, second, other := open("gone", &gone), open("GONE", &gone), open("stays", &stays)
	if err := admin.DeleteConsumerGroup(ctx, "", "Gone"); err != nil {
		t.Fatal(err)
	}
	if gone != 2 || stays != 0 {
		t.Errorf("%d readers of the group were told, and %d of another", gone, stays)
	}
	for _, r := range []*EventReader{first, second} {
		_, err := r.Next(ctx, 1)
		wantCode(t, err, CodeEntityNotFound)
	}
	if _, err := other.Next(ctx, 1); err != nil {
		t.Error(err)
	}
}

// An event hub may have more partitions than the built-in endpoint, and what is too old in it goes.
func TestEventHubsAreSearchedByTheirOwnPartitions(t *testing.T) {
	h, c := newTestHub(t)
	e := openHub(t, h, "alerts", 8)
	found := func() (n int) {
		s, err := h.Admin().SearchEvents(ctx, EventFilter{EventHub: "alerts"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for {
			_, ok, err := s.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return n
			}
			n++
		}
	}
	for p := range 8 {
		if err := e.append(ctx, p, store.Event{Enqueued: c.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	if n := found(); n != 8 {
		t.Errorf("%d events, want 8", n)
	}
	c.Advance(DefaultRetention + time.Second)
	if n := found(); n != 0 {
		t.Errorf("%d events after their time, want none", n)
	}
}
