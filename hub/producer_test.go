package hub

import (
	"fmt"
	"testing"

	"github.com/iolite-emulator/iolite/store"
)

// produce opens a producer for an event hub with four partitions.
func produce(t testing.TB, h *Hub, partition string) *EventProducer {
	t.Helper()
	openHub(t, h, "alerts", 4)
	p, err := h.Admin().OpenProducer(ctx, "alerts", partition, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// counts returns how many events each partition of alerts has.
func counts(t testing.TB, h *Hub) (n [4]int64) {
	t.Helper()
	for i := range n {
		info, err := h.Admin().Partition(ctx, "alerts", fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		n[i] = info.LastSequence + 1
	}
	return n
}

func TestProducersChooseThePartition(t *testing.T) {
	h, _ := newTestHub(t)
	send := func(p *EventProducer, key string) {
		if err := p.Send(ctx, store.Event{PartitionKey: key}, store.Event{PartitionKey: key}); err != nil {
			t.Fatal(err)
		}
	}
	send(produce(t, h, "2"), "whatever")
	if got := counts(t, h); got != [4]int64{0, 0, 2, 0} {
		t.Errorf("to one partition: %v", got)
	}
	p := produce(t, h, "")
	before := counts(t, h)
	for range 3 {
		send(p, "device-7")
	}
	before[PartitionOf("device-7", 4)] += 6
	if got := counts(t, h); got != before {
		t.Errorf("by key: %v, want %v", got, before)
	}
	for range 4 {
		send(p, "")
	}
	for i := range before {
		before[i] += 2
	}
	if got := counts(t, h); got != before {
		t.Errorf("in turn: %v, want %v", got, before)
	}
}

func TestProducersAreRefusedWhatTheyMayNot(t *testing.T) {
	h, _ := newTestHub(t)
	openHub(t, h, "alerts", 4)
	for name, c := range map[string]struct {
		eventHub, partition string
		want                Code
	}{
		"the built-in endpoint": {"iolite", "", CodeSendClaimRequired},
		"a partition of it":     {"", "1", CodeSendClaimRequired},
		"no such event hub":     {"other", "", CodeEntityNotFound},
		"no such partition":     {"alerts", "4", CodePartitionOutOfRange},
	} {
		if _, err := h.Admin().OpenProducer(ctx, c.eventHub, c.partition, "localhost"); codeOf(err) != c.want {
			t.Errorf("%s: %v, want code %d", name, err, c.want)
		}
	}
}

func TestProducersLearnThatTheirEventHubIsGone(t *testing.T) {
	h, _ := newTestHub(t)
	p := produce(t, h, "")
	if err := h.dropEventHub(ctx, "alerts"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, p.Send(ctx, store.Event{}), CodeEntityNotFound)
	openHub(t, h, "alerts", 4)
	wantCode(t, p.Send(ctx, store.Event{}), CodeEntityNotFound) // it is another one
	s, err := h.OpenService(ctx, servicePrincipal(h, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = s.OpenProducer(ctx, "alerts", "", "localhost"); err != nil {
		t.Fatal(err)
	}
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	wantCode(t, p.Send(ctx, store.Event{}), CodeClosed)
}
