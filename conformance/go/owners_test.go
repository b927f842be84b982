package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"github.com/iolite-emulator/iolite/control"
)

// newGroup makes a consumer group for one test.
func newGroup(t *testing.T, eventHub string) string {
	t.Helper()
	name := "group-" + strings.ToLower(rand.Text()[:8])
	must(t, running.control.PutConsumerGroup(deadline(t), eventHub, name))
	t.Cleanup(func() { must(t, running.control.DeleteConsumerGroup(context.Background(), eventHub, name)) })
	return name
}

// once keeps azeventhubs from trying again what is refused for good.
var once = azeventhubs.RetryOptions{MaxRetries: -1}

// entity is the connection string of an event hub, which need not be there.
func entity(eventHub string) string {
	return strings.Replace(running.backend.Info().EmulatorConnectionString, ";EntityPath=iolite", ";EntityPath="+eventHub, 1)
}

// consumer is an azeventhubs client that tries once.
func consumer(t *testing.T, eventHub, group string) *azeventhubs.ConsumerClient {
	t.Helper()
	c, err := azeventhubs.NewConsumerClientFromConnectionString(entity(eventHub), "", group, &azeventhubs.ConsumerClientOptions{RetryOptions: once})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close(context.Background())) })
	return c
}

// attached opens a reader and returns it when it is attached, or the error.
func attached(t *testing.T, c *azeventhubs.ConsumerClient, o azeventhubs.PartitionClientOptions) (*azeventhubs.PartitionClient, error) {
	t.Helper()
	o.Prefetch = -1 // so that nothing is read ahead
	p, err := c.NewPartitionClient("0", &o)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close(context.Background())) })
	ctx, cancel := context.WithTimeout(deadline(t), 300*time.Millisecond)
	defer cancel()
	_, err = p.ReceiveEvents(ctx, 1, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return p, err
}

func TestAzeventhubsOwnerLevels(t *testing.T) {
	c := consumer(t, "iolite", newGroup(t, "iolite"))
	open := func(level *int64) (*azeventhubs.PartitionClient, error) {
		return attached(t, c, azeventhubs.PartitionClientOptions{OwnerLevel: level, StartPosition: azeventhubs.StartPosition{Latest: to(true)}})
	}
	plain, err := open(nil)
	must(t, err)
	first, err := open(to(int64(1)))
	must(t, err)
	loses := func(name string, p *azeventhubs.PartitionClient) {
		t.Helper()
		if _, err := p.ReceiveEvents(deadline(t), 1, nil); !lost(err) {
			t.Errorf("%s: %v, want a lost ownership", name, err)
		}
	}
	loses("the reader without owner level", plain)
	// azeventhubs takes a refused attach for a lost connection, whatever the condition is.
	if _, err := open(nil); err == nil || !strings.Contains(err.Error(), "amqp:link:stolen, Description: At least one receiver for the endpoint is created with epoch of '1'") {
		t.Errorf("without owner level beside an owner: %v", err)
	}
	if _, err := open(to(int64(0))); err == nil || !strings.Contains(err.Error(), "or ensure all old epoch receivers are closed or disconnected.") {
		t.Errorf("with a lower level: %v", err)
	}
	if _, err := open(to(int64(1))); err != nil {
		t.Errorf("with the same level: %v", err)
	}
	loses("the reader of the same level", first)
}

func TestAzeventhubsIsRefusedTheSixthReader(t *testing.T) {
	c := consumer(t, "iolite", newGroup(t, "iolite"))
	for i := range 6 {
		_, err := attached(t, c, azeventhubs.PartitionClientOptions{StartPosition: azeventhubs.StartPosition{Latest: to(true)}})
		if i < 5 {
			must(t, err)
		} else if err == nil || !strings.Contains(err.Error(), "Exceeded the maximum number of allowed receivers per partition in a consumer group which is 5.") {
			t.Errorf("the sixth: %v", err)
		}
	}
}

// What is not there is refused at once, and for good.
func TestAzeventhubsIsRefusedWhatIsNotThere(t *testing.T) {
	latest := azeventhubs.StartPosition{Latest: to(true)}
	for name, c := range map[string]struct {
		eventHub, group string
		from            azeventhubs.StartPosition
		want            string
	}{
		"event hub":       {"nothing", "$Default", latest, "The messaging entity 'nothing' could not be found."},
		"consumer group":  {"iolite", "nobody", latest, "The messaging entity 'iolite:eventhub:iolite|nobody' could not be found."},
		"offset":          {"iolite", "$Default", azeventhubs.StartPosition{Offset: to("999999999999")}, "The supplied offset '999999999999' is invalid. The last offset in the system is '"},
		"sequence number": {"iolite", "$Default", azeventhubs.StartPosition{SequenceNumber: to(int64(999999999999))}, "The supplied sequence number '999999999999' is invalid."},
	} {
		p, err := consumer(t, c.eventHub, c.group).NewPartitionClient("0", &azeventhubs.PartitionClientOptions{StartPosition: c.from})
		must(t, err)
		ctx := deadline(t)
		_, err = p.ReceiveEvents(ctx, 1, nil)
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		must(t, p.Close(context.Background()))
	}
}

// An event hub beside the built-in one takes producers, and is read on every door; the built-in one takes none.
func TestAzeventhubsProducesAndConsumes(t *testing.T) {
	name := "hub-" + strings.ToLower(rand.Text()[:8])
	made, err := running.control.PutEventHub(deadline(t), name, control.EventHubChange{Partitions: 3})
	must(t, err)
	if made.EmulatorConnectionString != entity(name) {
		t.Errorf("the connection string is %q", made.EmulatorConnectionString)
	}
	t.Cleanup(func() { must(t, running.control.DeleteEventHub(context.Background(), name)) })
	producer := func(eventHub string) *azeventhubs.ProducerClient {
		p, err := azeventhubs.NewProducerClientFromConnectionString(entity(eventHub), "", &azeventhubs.ProducerClientOptions{RetryOptions: once})
		must(t, err)
		t.Cleanup(func() { must(t, p.Close(context.Background())) })
		return p
	}
	p := producer(name)
	send := func(o azeventhubs.EventDataBatchOptions, bodies ...string) {
		t.Helper()
		batch, err := p.NewEventDataBatch(deadline(t), &o)
		must(t, err)
		for _, body := range bodies {
			must(t, batch.AddEventData(&azeventhubs.EventData{Body: []byte(body), Properties: map[string]any{"p": "v"}}, nil))
		}
		must(t, p.SendEventDataBatch(deadline(t), batch, nil))
	}
	send(azeventhubs.EventDataBatchOptions{PartitionID: to("2")}, "a", "b")
	send(azeventhubs.EventDataBatchOptions{PartitionID: to("2"), MaxBytes: 1 << 20}, strings.Repeat("c", 900<<10))
	send(azeventhubs.EventDataBatchOptions{PartitionKey: to("key")}, "d", "e", "f")
	send(azeventhubs.EventDataBatchOptions{}, "g")
	events := receive(t, consumer(t, name, "$Default"), "2", azeventhubs.StartPosition{Earliest: to(true)}, 3)
	if string(events[1].Body) != "b" || events[1].Properties["p"] != "v" || len(events[2].Body) != 900<<10 {
		t.Errorf("%s %v %d", events[1].Body, events[1].Properties, len(events[2].Body))
	}
	properties, err := consumer(t, name, "$Default").GetEventHubProperties(deadline(t), nil)
	must(t, err)
	total := int64(0)
	for _, id := range properties.PartitionIDs {
		partition, err := p.GetPartitionProperties(deadline(t), id, nil)
		must(t, err)
		total += partition.LastEnqueuedSequenceNumber + 1
	}
	if len(properties.PartitionIDs) != 3 || total != 7 {
		t.Errorf("%d events in partitions %v", total, properties.PartitionIDs)
	}
	builtIn := producer("iolite")
	_, err = builtIn.NewEventDataBatch(deadline(t), nil)
	if refusal := (*azeventhubs.Error)(nil); !errors.As(err, &refusal) || refusal.Code != azeventhubs.ErrorCodeUnauthorizedAccess {
		t.Errorf("a producer for the built-in endpoint: %v", err)
	}
}
