package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
)

// notices reads what the hub tells of a device, and routes it to the built-in endpoint until the test ends.
func notices(t *testing.T, d backend.Device) func(n int) []*azeventhubs.ReceivedEventData {
	t.Helper()
	before, err := running.control.Routing(deadline(t))
	must(t, err)
	t.Cleanup(func() { _, err := running.control.SetRouting(context.Background(), before); must(t, err) })
	routing := before
	for _, source := range []hub.RouteSource{hub.TwinChangeEvents, hub.DeviceLifecycleEvents, hub.DeviceConnectionStateEvents, hub.DigitalTwinChangeEvents} {
		routing.Routes = append(routing.Routes, hub.Route{Name: string(source), Source: source, Condition: "deviceId = '" + d.DeviceID + "'", EndpointNames: []string{"events"}})
	}
	c := eventHubsClients(t, "$Default")["amqp"]
	id := fmt.Sprint(hub.PartitionOf(d.DeviceID, 4))
	info, err := c.GetPartitionProperties(deadline(t), id, nil)
	must(t, err)
	p, err := c.NewPartitionClient(id, &azeventhubs.PartitionClientOptions{StartPosition: azeventhubs.StartPosition{SequenceNumber: &info.LastEnqueuedSequenceNumber}})
	must(t, err)
	t.Cleanup(func() { must(t, p.Close(context.Background())) })
	_, err = running.control.SetRouting(deadline(t), routing)
	must(t, err)
	return func(n int) (events []*azeventhubs.ReceivedEventData) {
		t.Helper()
		for len(events) < n {
			more, err := p.ReceiveEvents(deadline(t), n-len(events), nil)
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			for _, e := range more {
				if e.SystemProperties["iothub-connection-device-id"] == d.DeviceID {
					events = append(events, e)
				}
			}
			if err != nil {
				t.Fatalf("%d events came, %d are wanted", len(events), n)
			}
		}
		return events
	}
}

// told names the operations of events and, for modules, whom they are about.
func told(events []*azeventhubs.ReceivedEventData) (names []string) {
	for _, e := range events {
		name := fmt.Sprint(e.Properties["opType"])
		if module := e.Properties["moduleId"]; module != nil {
			name += " " + fmt.Sprint(module)
		}
		names = append(names, name)
	}
	return names
}

// TestARouteTellsTheWholeLifeOfADevice: a device that comes, works and goes over MQTT, with a module on AMQP, as a reader of Event Hubs sees it.
func TestARouteTellsTheWholeLifeOfADevice(t *testing.T) {
	d := newDevice(t)
	read := notices(t, d)
	p := newPeer(t, mqttDoors["mqtt"], d, true, twinAnswers)
	p.send("$iothub/twin/PATCH/properties/reported/?$rid=1", 1, `{"temperature":21.5}`)
	p.next("$iothub/twin/res/204/?$rid=1&$version=2")
	_, err := running.backend.PatchTwin(deadline(t), d.DeviceID, json.RawMessage(`{"tags":{"floor":1},"properties":{"desired":{"interval":5}}}`), "")
	must(t, err)
	p.Disconnect(250)
	if diff := cmp.Diff([]string{"deviceConnected", "updateTwin", "updateTwin", "deviceDisconnected"}, told(read(4))); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	m, err := running.backend.CreateDevice(deadline(t), d.DeviceID+"/m1", "", "")
	must(t, err)
	conn := dialAMQP(t, door.AMQP)
	token, err := running.backend.TokenFor(m, time.Hour)
	must(t, err)
	must(t, backend.PutToken(deadline(t), conn, token))
	sender, err := newSession(t, conn).NewSender(deadline(t), "/devices/"+d.DeviceID+"/modules/m1/messages/events", nil)
	must(t, err)
	must(t, sender.Close(deadline(t)))
	must(t, conn.Close())
	events := read(3)
	must(t, running.backend.DeleteDevice(deadline(t), d.DeviceID))
	events = append(events, read(2)...)
	want := []string{"createDeviceIdentity m1", "deviceConnected m1", "deviceDisconnected m1", "deleteDeviceIdentity m1", "deleteDeviceIdentity"}
	if diff := cmp.Diff(want, told(events)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	found, err := running.control.Events(deadline(t), url.Values{"deviceId": {d.DeviceID}, "moduleId": {"m1"}, "source": {"deviceConnectionStateEvents"},
		"property.opType": {"deviceDisconnected"}, "timeout": {"5s"}})
	if err != nil || len(found.Events) != 1 || found.Events[0].Source != "deviceConnectionStateEvents" {
		t.Errorf("the control API finds %+v, %v", found.Events, err)
	}
	if e := events[1]; len(string(e.Body)) != len(`{"sequenceNumber":""}`)+64 || string(e.Body) >= string(events[2].Body) {
		t.Errorf("connected %s, disconnected %s", e.Body, events[2].Body)
	}
}

func TestEventsOtherThanTelemetryLookAsDocumented(t *testing.T) {
	d := newDevice(t)
	read := notices(t, d)
	_, err := running.backend.PatchTwin(deadline(t), d.DeviceID, json.RawMessage(`{"tags":{"tag1":"new value"},"properties":{"desired":{"property1":"new value"}}}`), "")
	must(t, err)
	e := read(1)[0]
	at := fmt.Sprint(e.Properties["operationTimestamp"])
	want := map[string]any{"hubName": "iolite", "deviceId": d.DeviceID, "opType": "updateTwin", "iothub-message-schema": "twinChangeNotification", "operationTimestamp": at}
	if diff := cmp.Diff(want, e.Properties); diff != "" {
		t.Errorf("properties (-want +got)\n%s", diff)
	}
	updated := strings.TrimRight(strings.TrimSuffix(at, "Z"), "0") + "Z"
	if len(at) != len("2022-06-01T22:27:50.2612586Z") {
		t.Errorf("operationTimestamp %s", at)
	}
	stamp := fmt.Sprintf(`"$lastUpdated":%q,"$lastUpdatedVersion":2`, updated)
	body := fmt.Sprintf(`{"version":3,"tags":{"tag1":"new value"},"properties":{"desired":{"property1":"new value","$metadata":{%s,"property1":{%s}},"$version":2}}}`, stamp, stamp)
	if string(e.Body) != body {
		t.Errorf("body %s\nwant %s", e.Body, body)
	}
	if e.ContentType == nil || *e.ContentType != "application/json" || e.CorrelationID == nil || e.PartitionKey != nil {
		t.Errorf("%+v", e)
	}
	for _, name := range []string{"iothub-connection-auth-method", "iothub-connection-auth-generation-id", "iothub-connection-module-id", "dt-dataschema"} {
		if v, there := e.SystemProperties[name]; there {
			t.Errorf("%s is %v", name, v)
		}
	}
	if e.SystemProperties["iothub-message-source"] != "twinChangeEvents" || e.SystemProperties["iothub-enqueuedtime"] == nil {
		t.Errorf("%v", e.SystemProperties)
	}
}
