package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
)

// seen is what processors have read, by event.
type seen struct {
	mu     sync.Mutex
	events map[string]int // how often each was read, and how often by a processor
}

func (s *seen) add(processor string, e *azeventhubs.ReceivedEventData) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events[fmt.Sprint(processor, " ", e.Properties["n"])]++
	s.events[fmt.Sprint(e.Properties["n"])]++
}

// count returns how many of a test's events 0 to n-1 were read.
func (s *seen) count(test string, n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := 0
	for i := range n {
		if s.events[fmt.Sprintf("%s/%d", test, i)] > 0 {
			found++
		}
	}
	return found
}

// processor is an azeventhubs.Processor that notes every event and sets a checkpoint behind it.
type processor struct {
	name string
	stop func() // returns when it has stopped
}

func startProcessor(t *testing.T, name string, c *azeventhubs.ConsumerClient, store azeventhubs.CheckpointStore, s *seen) *processor {
	t.Helper()
	p, err := azeventhubs.NewProcessor(c, store, &azeventhubs.ProcessorOptions{
		UpdateInterval: 100 * time.Millisecond, PartitionExpirationDuration: 2 * time.Second,
		StartPositions: azeventhubs.StartPositions{Default: azeventhubs.StartPosition{Earliest: to(true)}},
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	wg.Go(func() {
		for {
			partition := p.NextPartitionClient(ctx)
			if partition == nil {
				return
			}
			wg.Go(func() { drain(ctx, t, name, partition, s) })
		}
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return &processor{name, stop}
}

// drain reads a partition until it is lost or the processor stops.
func drain(ctx context.Context, t *testing.T, name string, p *azeventhubs.ProcessorPartitionClient, s *seen) {
	defer p.Close(context.Background())
	for ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		events, err := p.ReceiveEvents(wait, 100, nil)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			if !lost(err) && ctx.Err() == nil {
				t.Errorf("%s, partition %s: %v", name, p.PartitionID(), err)
			}
			return
		}
		for _, e := range events {
			s.add(name, e)
		}
		if len(events) > 0 {
			if err := p.UpdateCheckpoint(ctx, events[len(events)-1], nil); err != nil && ctx.Err() == nil {
				t.Errorf("%s, partition %s: checkpoint: %v", name, p.PartitionID(), err)
			}
		}
	}
}

// lost says whether somebody else has taken the partition.
func lost(err error) bool {
	var e *azeventhubs.Error
	return errors.As(err, &e) && e.Code == azeventhubs.ErrorCodeOwnershipLost
}

// ownerCounts returns how many partitions each owner reads by what the hub says.
func ownerCounts(t *testing.T, group string) map[string]int {
	t.Helper()
	g, err := running.control.ConsumerGroup(deadline(t), "iolite", group)
	must(t, err)
	n := map[string]int{}
	for _, r := range g.Readers {
		if r.OwnerLevel == nil {
			t.Errorf("a reader without owner level: %+v", r)
		}
		n[r.Name]++
	}
	return n
}

// until waits for a condition that nobody announces.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := deadline(t)
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sendSpread sends the messages first to first+n-1, from devices all over the partitions.
func sendSpread(t *testing.T, first, n int) {
	t.Helper()
	for i := range 8 {
		d := newDevice(t)
		for k := first + i; k < first+n; k += 8 {
			must(t, running.backend.PostTelemetry(deadline(t), d, nil, map[string]string{"n": fmt.Sprintf("%s/%d", t.Name(), k)}))
		}
	}
}

// A processor reads everything; a second one takes its half; when either goes, the other takes over from the checkpoints: nothing is
// skipped.
func TestProcessorsShareThePartitionsAndTakeOver(t *testing.T) {
	info := running.backend.Info()
	group := newGroup(t, "iolite")
	const n = 200
	read := &seen{events: map[string]int{}}
	count := func(n int) int { return read.count(t.Name(), n) }
	client := func() *azeventhubs.ConsumerClient {
		c, err := azeventhubs.NewConsumerClientFromConnectionString(info.EventHubsConnectionString, "", group, &azeventhubs.ConsumerClientOptions{TLSConfig: running.tls.Clone()})
		must(t, err)
		t.Cleanup(func() { must(t, c.Close(context.Background())) })
		return c
	}
	store := newCheckpoints()
	sendSpread(t, 0, n)
	one := startProcessor(t, "one", client(), store, read)
	until(t, "one reads all", func() bool { return count(n) == n })
	two := startProcessor(t, "two", client(), store, read)
	until(t, "each has two partitions", func() bool {
		n := ownerCounts(t, group)
		return len(n) == 2 && onlyTwos(n)
	})
	sendSpread(t, n, n)
	until(t, "both together read all", func() bool { return count(2*n) == 2*n })
	one.stop()
	sendSpread(t, 2*n, n)
	until(t, "the other takes over", func() bool { return count(3*n) == 3*n && len(ownerCounts(t, group)) == 1 })
	two.stop()
	sendSpread(t, 3*n, n)
	startProcessor(t, "three", client(), store, read)
	until(t, "a third goes on from the checkpoints", func() bool { return count(4*n) == 4*n })
	read.mu.Lock()
	defer read.mu.Unlock()
	for i := range n {
		if k := fmt.Sprintf("three %s/%d", t.Name(), i); read.events[k] > 0 {
			t.Fatalf("the third read event %d again, which lies before every checkpoint", i)
		}
	}
}

func onlyTwos(n map[string]int) bool {
	for _, k := range n {
		if k != 2 {
			return false
		}
	}
	return true
}
