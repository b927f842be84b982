package egress

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/control"
	"github.com/iolite-emulator/iolite/hub"
)

// farPolicy is the connection string of an event hub of the far hub, without its last part.
func farPolicy(t *testing.T, entity string) string {
	t.Helper()
	for _, p := range far.backend.Info().Policies {
		if p.Name == "iothubowner" {
			return "Endpoint=sb://" + farAddress + "/;SharedAccessKeyName=" + p.Name + ";SharedAccessKey=" + p.PrimaryKey + ";EntityPath=" + entity
		}
	}
	t.Fatal("the far hub has no policy iothubowner")
	return ""
}

func TestMessagesReachAnEventHubOfASecondHub(t *testing.T) {
	for name, suffix := range map[string]string{"tls": "", "plain": ";UseDevelopmentEmulator=true"} {
		t.Run(name, func(t *testing.T) {
			inbox := "inbox-" + name
			_, err := far.control.PutEventHub(deadline(t), inbox, control.EventHubChange{Partitions: 1})
			must(t, err)
			route(t, hub.Endpoints{EventHubs: []hub.EventHubEndpoint{{Name: "out", ConnectionString: farPolicy(t, inbox) + suffix}}}, "out")
			d := newDevice(t)
			const n = 300
			d.send(t, numbered(0, n)...)
			got, err := far.control.Events(deadline(t), url.Values{"eventHub": {inbox}, "count": {"300"}, "limit": {"1000"}, "timeout": {"20s"}})
			must(t, err)
			if len(got.Events) != n {
				t.Fatalf("%d events came", len(got.Events))
			}
			bodies := numbered(0, n)
			for i, e := range got.Events {
				if e.Body == nil || *e.Body != bodies[i] || e.DeviceID != d.id || e.Source != "Telemetry" {
					t.Fatalf("event %d is %+v", i, e)
				}
			}
			want := map[string]string{"level": "hot", "hub": "iolite"}
			if diff := cmp.Diff(want, got.Events[0].Properties); diff != "" {
				t.Errorf("properties (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnEventHubThatIsNotThereIsTold(t *testing.T) {
	route(t, hub.Endpoints{EventHubs: []hub.EventHubEndpoint{{Name: "out", ConnectionString: farPolicy(t, "late")}}}, "out")
	d := newDevice(t)
	d.send(t, numbered(0, 3)...)
	eventually(t, "the endpoint is unhealthy", func() bool { return health(t, "out").HealthStatus == hub.HealthUnhealthy })
	if got := health(t, "out"); got.LastKnownError != "NotFound" || got.WaitingMessages != 3 {
		t.Errorf("%+v", got)
	}
	_, err := far.control.PutEventHub(deadline(t), "late", control.EventHubChange{Partitions: 1})
	must(t, err)
	got, err := far.control.Events(deadline(t), url.Values{"eventHub": {"late"}, "count": {"3"}, "timeout": {"25s"}})
	must(t, err)
	if len(got.Events) != 3 {
		t.Errorf("%d events came", len(got.Events))
	}
}

func TestTheBuiltInEndpointOfAnotherHubTakesNothing(t *testing.T) {
	route(t, hub.Endpoints{EventHubs: []hub.EventHubEndpoint{{Name: "out", ConnectionString: farPolicy(t, "iolite")}}}, "out")
	newDevice(t).send(t, numbered(0, 1)...)
	eventually(t, "the endpoint is unhealthy", func() bool { return health(t, "out").HealthStatus == hub.HealthUnhealthy })
	if got := health(t, "out"); got.WaitingMessages != 1 {
		t.Errorf("%+v", got)
	}
}
