package amqpsrv

import (
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// TestAnEventOtherThanTelemetryArrivesAsDocumented: with the annotations of the article "Azure IoT Hub non-telemetry event schemas" and no others,
// above all none about authentication.
func TestAnEventOtherThanTelemetryArrivesAsDocumented(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.must(r.hub.SetRouting(r.ctx(), hub.Routing{Routes: []hub.Route{{Name: "lives", Source: hub.DeviceLifecycleEvents, EndpointNames: []string{"events"}}}}))
	for _, key := range []store.Key{{DeviceID: "d1"}, {DeviceID: "d1", ModuleID: "m"}} {
		_, err := r.hub.Admin().CreateIdentity(r.ctx(), store.Identity{Key: key})
		r.must(err)
	}
	l := r.receiver(r.asService(), "iolite/ConsumerGroups/$Default/Partitions/"+strconv.Itoa(hub.PartitionOf("d1", 4)), 10)
	for _, module := range []string{"", "m"} {
		m := r.receive(l)
		var names []string
		for key := range m.Annotations {
			names = append(names, key.(string))
		}
		slices.Sort(names)
		annotations := []string{"iothub-connection-device-id", "iothub-connection-module-id", "iothub-enqueuedtime", "iothub-message-source", "x-opt-enqueued-time", "x-opt-offset", "x-opt-sequence-number"}
		properties := []string{"deviceId", "hubName", "iothub-message-schema", "moduleId", "opType", "operationTimestamp"}
		if module == "" {
			annotations = slices.Delete(annotations, 1, 2)
			properties = slices.Delete(properties, 3, 4)
		}
		if diff := cmp.Diff(annotations, names); diff != "" {
			t.Errorf("annotations (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(properties, slices.Sorted(maps.Keys(m.ApplicationProperties))); diff != "" {
			t.Errorf("application properties (-want +got):\n%s", diff)
		}
		p := m.Properties
		if string(p.UserID) != "iolite" || *p.ContentType != "application/json" || *p.ContentEncoding != "utf-8" || p.CorrelationID == nil || p.MessageID != nil || p.To != nil {
			t.Errorf("properties %+v", p)
		}
		if m.Annotations["iothub-message-source"] != "deviceLifecycleEvents" || m.ApplicationProperties["opType"] != "createDeviceIdentity" ||
			m.ApplicationProperties["iothub-message-schema"] != "deviceLifecycleNotification" {
			t.Errorf("%v %v", m.Annotations, m.ApplicationProperties)
		}
	}
}
