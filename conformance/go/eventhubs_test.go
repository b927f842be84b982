package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/backend"
)

// follow reads every event of the device from now on, with go-amqp.
func follow(t *testing.T, d backend.Device) <-chan *amqp.Message {
	t.Helper()
	events := make(chan *amqp.Message, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = running.backend.Events(ctx, false, func() { close(started) }, func(_ string, m *amqp.Message) error {
			if m.Annotations["iothub-connection-device-id"] == d.DeviceID {
				events <- m
			}
			return nil
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-started:
	case <-ended:
		t.Fatal("events cannot be read")
	case <-time.After(patience):
		t.Fatal("events are not read in time")
	}
	return events
}

func next(t *testing.T, events <-chan *amqp.Message) *amqp.Message {
	t.Helper()
	select {
	case m := <-events:
		return m
	case <-time.After(patience):
		t.Fatal("no event came")
		return nil
	}
}

// eventHubsClients are azeventhubs clients on every door that carries the endpoint.
func eventHubsClients(t *testing.T, group string) map[string]*azeventhubs.ConsumerClient {
	t.Helper()
	info := running.backend.Info()
	clients := map[string]*azeventhubs.ConsumerClient{}
	add := func(name, connection string, o *azeventhubs.ConsumerClientOptions) {
		c, err := azeventhubs.NewConsumerClientFromConnectionString(connection, "", group, o)
		must(t, err)
		t.Cleanup(func() { must(t, c.Close(context.Background())) })
		clients[name] = c
	}
	add("amqp", info.EventHubsConnectionString, &azeventhubs.ConsumerClientOptions{TLSConfig: running.tls.Clone()})
	add("eventhub", info.EmulatorConnectionString, nil)
	add("amqp-ws", info.EventHubsConnectionString, &azeventhubs.ConsumerClientOptions{NewWebSocketConn: dialEventHubsWebSocket})
	return clients
}

// dialEventHubsWebSocket is the example of azeventhubs' documentation.
func dialEventHubsWebSocket(ctx context.Context, p azeventhubs.WebSocketConnParams) (net.Conn, error) {
	ws, _, err := websocket.Dial(ctx, p.Host, &websocket.DialOptions{
		Subprotocols: []string{"amqp"},
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: running.tls.Clone()}},
	})
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}

func TestAzeventhubsDescribesHubAndPartitions(t *testing.T) {
	for name, c := range eventHubsClients(t, azeventhubs.DefaultConsumerGroup) {
		t.Run(name, func(t *testing.T) {
			hub, err := c.GetEventHubProperties(deadline(t), nil)
			must(t, err)
			if diff := cmp.Diff([]any{"iolite", []string{"0", "1", "2", "3"}}, []any{hub.Name, hub.PartitionIDs}); diff != "" {
				t.Error(diff)
			}
			for _, id := range hub.PartitionIDs {
				p, err := c.GetPartitionProperties(deadline(t), id, nil)
				must(t, err)
				if p.PartitionID != id || p.EventHubName != "iolite" {
					t.Errorf("partition %s is described as %+v", id, p)
				}
			}
			if _, err := c.GetPartitionProperties(deadline(t), "99", nil); err == nil {
				t.Error("partition 99 exists")
			}
		})
	}
}

// sendNumbered sends n messages, one after the other.
func sendNumbered(t *testing.T, d backend.Device, n int) {
	t.Helper()
	for i := range n {
		must(t, running.backend.PostTelemetry(deadline(t), d, fmt.Appendf(nil, "%d", i), map[string]string{"n": fmt.Sprint(i)}))
	}
}

// locate returns the partition of a device and the received events of its n messages.
func locate(t *testing.T, c *azeventhubs.ConsumerClient, d backend.Device, n int) (string, []*azeventhubs.ReceivedEventData) {
	t.Helper()
	hub, err := c.GetEventHubProperties(deadline(t), nil)
	must(t, err)
	for _, id := range hub.PartitionIDs {
		p, err := c.GetPartitionProperties(deadline(t), id, nil)
		must(t, err)
		if p.IsEmpty {
			continue
		}
		var found []*azeventhubs.ReceivedEventData
		all := receive(t, c, id, azeventhubs.StartPosition{Earliest: to(true)}, int(p.LastEnqueuedSequenceNumber-p.BeginningSequenceNumber)+1)
		for _, e := range all {
			if e.SystemProperties["iothub-connection-device-id"] == d.DeviceID {
				found = append(found, e)
			}
		}
		if len(found) > 0 {
			if len(found) != n {
				t.Fatalf("%d events of the device in partition %s, want %d", len(found), id, n)
			}
			return id, found
		}
	}
	t.Fatal("the device's events are in no partition")
	return "", nil
}

// receive reads n events from a position.
func receive(t *testing.T, c *azeventhubs.ConsumerClient, partition string, from azeventhubs.StartPosition, n int) []*azeventhubs.ReceivedEventData {
	t.Helper()
	p, err := c.NewPartitionClient(partition, &azeventhubs.PartitionClientOptions{StartPosition: from})
	must(t, err)
	defer func() { must(t, p.Close(context.Background())) }()
	var got []*azeventhubs.ReceivedEventData
	for len(got) < n {
		batch, err := p.ReceiveEvents(deadline(t), n-len(got), nil)
		if err != nil && !(errors.Is(err, context.DeadlineExceeded) && len(batch) > 0) {
			t.Fatalf("received %d of %d: %v", len(got), n, err)
		}
		got = append(got, batch...)
	}
	return got
}

func to[T any](v T) *T { return &v }

func TestAzeventhubsStartsWhereItIsTold(t *testing.T) {
	for name, c := range eventHubsClients(t, azeventhubs.DefaultConsumerGroup) {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			sendNumbered(t, d, 5)
			partition, events := locate(t, c, d, 5)
			second := events[1]
			for position, from := range map[string]azeventhubs.StartPosition{
				"after the sequence number": {SequenceNumber: &events[0].SequenceNumber},
				"with the sequence number":  {SequenceNumber: &second.SequenceNumber, Inclusive: true},
				"after the offset":          {Offset: &events[0].Offset},
				"with the offset":           {Offset: &second.Offset, Inclusive: true},
				"with the enqueued time":    {EnqueuedTime: second.EnqueuedTime, Inclusive: true},
			} {
				got := receive(t, c, partition, from, 1)[0]
				if position == "with the enqueued time" {
					// several events may share a millisecond
					if got.EnqueuedTime.Before(*second.EnqueuedTime) {
						t.Errorf("%s: event of %v", position, got.EnqueuedTime)
					}
					continue
				}
				if got.SequenceNumber != second.SequenceNumber {
					t.Errorf("%s: sequence number %d, want %d", position, got.SequenceNumber, second.SequenceNumber)
				}
			}
		})
	}
}

func TestAzeventhubsFollowsTheLatest(t *testing.T) {
	for name, c := range eventHubsClients(t, newGroup(t, "iolite")) {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			sendNumbered(t, d, 1)
			partition, _ := locate(t, c, d, 1)
			p, err := c.NewPartitionClient(partition, &azeventhubs.PartitionClientOptions{StartPosition: azeventhubs.StartPosition{Latest: to(true)}})
			must(t, err)
			defer func() { must(t, p.Close(context.Background())) }()
			// The link is attached by the first receive; one that ends at once proves there is nothing old to see.
			ctx, cancel := context.WithTimeout(deadline(t), 200*time.Millisecond)
			if old, err := p.ReceiveEvents(ctx, 1, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("received %d old events, %v", len(old), err)
			}
			cancel()
			sendNumbered(t, d, 1)
			got, err := p.ReceiveEvents(deadline(t), 1, nil)
			must(t, err)
			if got[0].Properties["n"] != "0" || got[0].SystemProperties["iothub-connection-device-id"] != d.DeviceID {
				t.Errorf("got %+v", got[0])
			}
		})
	}
}

func TestEventsCarryTheHubsAnnotations(t *testing.T) {
	d := newDevice(t)
	events := follow(t, d)
	sendNumbered(t, d, 1)
	m := next(t, events)
	for name, kind := range map[string]any{
		"x-opt-sequence-number": int64(0), "x-opt-offset": "", "x-opt-enqueued-time": time.Time{}, "iothub-enqueuedtime": time.Time{},
		"iothub-connection-device-id": "", "iothub-connection-auth-method": "", "iothub-connection-auth-generation-id": "", "iothub-message-source": "",
	} {
		if got := m.Annotations[name]; fmt.Sprintf("%T", got) != fmt.Sprintf("%T", kind) {
			t.Errorf("%s is %T %v, want a %T", name, got, got, kind)
		}
	}
	if got := m.Annotations["iothub-message-source"]; got != "Telemetry" {
		t.Errorf("iothub-message-source = %v", got)
	}
}
