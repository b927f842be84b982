package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/hub"
)

// route sets the routing for one test.
func route(t *testing.T, r hub.Routing) {
	t.Helper()
	_, err := running.control.SetRouting(deadline(t), r)
	must(t, err)
	t.Cleanup(func() {
		_, err := running.control.SetRouting(context.Background(), hub.Routing{})
		must(t, err)
	})
}

// eventHubClient is an azeventhubs client of an event hub beside the built-in endpoint.
func eventHubClient(t *testing.T, name, group string) *azeventhubs.ConsumerClient {
	t.Helper()
	connection := strings.Replace(running.backend.Info().EventHubsConnectionString, "EntityPath=iolite", "EntityPath="+name, 1)
	c, err := azeventhubs.NewConsumerClientFromConnectionString(connection, "", group, &azeventhubs.ConsumerClientOptions{TLSConfig: running.tls.Clone()})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close(context.Background())) })
	return c
}

// A paho device sends, and azeventhubs readers find at each event hub what its route's condition selects, in order, with what enrichments add.
func TestRoutesLeadWhatAPahoDeviceSendsToFurtherEventHubs(t *testing.T) {
	d := newDevice(t)
	_, err := running.backend.PatchTwin(deadline(t), d.DeviceID, []byte(`{"tags":{"building":{"floor":3}}}`), "")
	must(t, err)
	toward := func(name, condition string) hub.Route {
		return hub.Route{Name: name, Source: hub.DeviceMessages, Condition: condition, EndpointNames: []string{name}}
	}
	route(t, hub.Routing{
		Endpoints: hub.Endpoints{EventHubs: []hub.EventHubEndpoint{{Name: "hot", Partitions: 1, ConsumerGroups: []string{"dashboard"}}, {Name: "critical", Partitions: 1}}},
		Routes:    []hub.Route{toward("hot", "$body.temperature > 30 AND $twin.tags.building.floor = 3"), toward("critical", "level = 'critical' AND $connectionDeviceId = '"+d.DeviceID+"'")},
		Enrichments: []hub.Enrichment{
			{Key: "hub", Value: "$iothubname", EndpointNames: []string{"hot"}}, {Key: "floor", Value: "$twin.tags.building.floor", EndpointNames: []string{"hot"}},
		},
	})
	rest := follow(t, d)
	c := dialMQTT(t, mqttOptions(d, mqttDoors["mqtt"], deviceToken(t, d)))
	const json = "%24.ct=application%2Fjson&%24.ce=utf-8"
	for i, m := range []struct{ properties, body string }{
		{json, `{"temperature":31}`},
		{json + "&level=critical", `{"temperature":32}`},
		{json, `{"temperature":20}`},
		{"level=critical", `{"temperature":33}`}, // nobody says that this is JSON
		{json, `[31]`},
		{json, `{"temperature":35}`},
	} {
		must(t, done(deadline(t), c.Publish("devices/"+d.DeviceID+"/messages/events/n="+fmt.Sprint(i)+"&"+m.properties, 1, false, m.body)))
	}
	for name, group := range map[string]string{"hot": "dashboard", "critical": azeventhubs.DefaultConsumerGroup} {
		want := map[string][]string{
			"hot":      {`0 {"temperature":31} iolite 3`, `1 {"temperature":32} iolite 3`, `5 {"temperature":35} iolite 3`},
			"critical": {`1 {"temperature":32} <nil> <nil>`, `3 {"temperature":33} <nil> <nil>`},
		}[name]
		var got []string
		for _, e := range receive(t, eventHubClient(t, name, group), "0", azeventhubs.StartPosition{Earliest: to(true)}, len(want)) {
			got = append(got, fmt.Sprint(e.Properties["n"], " ", string(e.Body), " ", e.Properties["hub"], " ", e.Properties["floor"]))
			if e.SystemProperties["iothub-connection-device-id"] != d.DeviceID || e.SystemProperties["iothub-message-source"] != "Telemetry" {
				t.Errorf("annotations at %s: %v", name, e.SystemProperties)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, want := range []string{"2", "4"} { // the fallback route
		if m := next(t, rest); m.ApplicationProperties["n"] != want {
			t.Errorf("message %v at the built-in endpoint, want %s", m.ApplicationProperties["n"], want)
		}
	}
}

// A reader of an event hub that a new routing does not have any more is told, and whoever comes then does not find it.
func TestAReaderEndsWithItsEventHub(t *testing.T) {
	d := newDevice(t)
	route(t, hub.Routing{
		Endpoints: hub.Endpoints{EventHubs: []hub.EventHubEndpoint{{Name: "gone", Partitions: 1}}},
		Routes:    []hub.Route{{Name: "r", Source: hub.DeviceMessages, EndpointNames: []string{"gone"}}},
	})
	sendNumbered(t, d, 1)
	p, err := eventHubClient(t, "gone", azeventhubs.DefaultConsumerGroup).NewPartitionClient("0", &azeventhubs.PartitionClientOptions{StartPosition: azeventhubs.StartPosition{Earliest: to(true)}})
	must(t, err)
	defer func() { must(t, p.Close(context.Background())) }()
	_, err = p.ReceiveEvents(deadline(t), 1, nil)
	must(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := p.ReceiveEvents(deadline(t), 1, nil)
		ended <- err
	}()
	_, err = running.control.SetRouting(deadline(t), hub.Routing{})
	must(t, err)
	if err := <-ended; err == nil || deadline(t).Err() != nil {
		t.Errorf("the reader ended with %v", err)
	}
	if _, err := eventHubClient(t, "gone", azeventhubs.DefaultConsumerGroup).GetEventHubProperties(deadline(t), nil); err == nil {
		t.Error("the event hub is there still")
	}
}

func TestABrokenConditionIsRefusedWithItsPlace(t *testing.T) {
	_, err := running.control.SetRouting(deadline(t), hub.Routing{Routes: []hub.Route{{Name: "r", Source: hub.DeviceMessages, Condition: "$body.a = 1 AND", EndpointNames: []string{"events"}}}})
	if err == nil || !strings.Contains(err.Error(), "routes[0] (r).condition: line 1, column 16") {
		t.Errorf("error %v", err)
	}
}
