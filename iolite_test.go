package iolite_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite"
	"github.com/iolite-emulator/iolite/control/client"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/iolitetest"
	"github.com/iolite-emulator/iolite/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const seed = `
devices:
  - id: plain
    twin:
      tags: {floor: 1}
      desired: {limits: {low: 10, high: 30.5}}
      reported: {firmware: "1.0"}
    modules: [{id: m1, twin: {desired: {unit: C}}}]
    messages:
      - {body: first, messageId: a, ack: full, properties: {colour: red}}
      - {bodyBase64: AAEC}
  - id: off
    status: disabled
    statusReason: under repair
  - id: certified
    authentication: {type: selfSigned, primaryThumbprint: 0123456789012345678901234567890123456789}
`

func withSeed(text string) iolitetest.Option {
	return iolitetest.With(func(o *iolite.Options) { o.Seed = strings.NewReader(text) })
}

func TestSeedIsThereWhenTheDoorsOpen(t *testing.T) {
	e := iolitetest.Run(t, withSeed(seed), iolitetest.WithDevices("extra", "plain"))
	admin := e.Hub().Admin()
	list, err := admin.Devices(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		got = append(got, fmt.Sprintf("%s %s %s %d", d.DeviceID, d.Status, d.Authentication.Type, d.C2DCount))
	}
	want := []string{"certified enabled selfSigned 0", "extra enabled sas 0", "off disabled sas 0", "plain enabled sas 2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	if _, err := admin.Identity(t.Context(), store.Key{DeviceID: "plain", ModuleID: "m1"}); err != nil {
		t.Errorf("module: %v", err)
	}
}

func TestSeedPlantsTwins(t *testing.T) {
	admin := iolitetest.Run(t, withSeed(seed)).Hub().Admin()
	tw, err := admin.Twin(t.Context(), store.Key{DeviceID: "plain"})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{string(tw.Tags.AppendJSON(nil)), string(tw.Desired.Value.AppendJSON(nil)), string(tw.Reported.Value.AppendJSON(nil))}
	if tw, err = admin.Twin(t.Context(), store.Key{DeviceID: "plain", ModuleID: "m1"}); err != nil {
		t.Fatal(err)
	}
	got = append(got, string(tw.Desired.Value.AppendJSON(nil)))
	want := []string{`{"floor":1}`, `{"limits":{"high":30.5,"low":10}}`, `{"firmware":"1.0"}`, `{"unit":"C"}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestKeysOfNamedDevicesNeverChange(t *testing.T) {
	first, err := iolitetest.Run(t, iolitetest.WithDevices("d1")).DeviceConnectionString(t.Context(), store.Key{DeviceID: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := iolitetest.Run(t, iolitetest.WithDevices("d1")).DeviceConnectionString(t.Context(), store.Key{DeviceID: "d1"})
	if err != nil || first != second {
		t.Errorf("%q, then %q (%v)", first, second, err)
	}
}

func TestResetBringsBackTheSeedAndRealTime(t *testing.T) {
	e := iolitetest.Run(t, withSeed(seed))
	admin := e.Hub().Admin()
	for i := range 10000 {
		if _, err := admin.CreateIdentity(t.Context(), store.Identity{Key: store.Key{DeviceID: fmt.Sprintf("d%d", i)}}); err != nil {
			t.Fatal(err)
		}
	}
	e.Clock().Advance(2 * time.Hour) // the seed's messages expire
	if err := e.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := admin.Devices(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || list[2].C2DCount != 2 {
		t.Errorf("after reset: %d devices, %+v", len(list), list[len(list)-1])
	}
	if e.Clock().Offset() != 0 {
		t.Errorf("the clock is still moved by %v", e.Clock().Offset())
	}
}

func TestConsumerGroupsComeFromOptionsAndSeedAndComeBack(t *testing.T) {
	e := iolitetest.Run(t, withSeed("consumerGroups: [dashboard]"), iolitetest.With(func(o *iolite.Options) { o.ConsumerGroups = []string{"archive", "Dashboard"} }))
	admin := e.Hub().Admin()
	want := []string{"$Default", "archive", "dashboard"}
	for range 2 {
		if err := admin.PutConsumerGroup(t.Context(), "", "mine"); err != nil {
			t.Fatal(err)
		}
		if err := e.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		h, err := admin.EventHub(t.Context(), "")
		if diff := cmp.Diff(want, h.ConsumerGroups); diff != "" || err != nil {
			t.Errorf("%v, after a reset (-want +got):\n%s", err, diff)
		}
	}
}

// TestNoRouteIsToldOfTheSeed: its devices were there before, at the start and after a reset.
func TestNoRouteIsToldOfTheSeed(t *testing.T) {
	const routed = seed + `
routing:
  routes:
    - {name: lives, source: DeviceLifecycleEvents, endpointNames: [events]}
    - {name: twins, source: TwinChangeEvents, endpointNames: [events]}
`
	e := iolitetest.Run(t, withSeed(routed), iolitetest.WithDevices("extra"))
	admin := e.Hub().Admin()
	for range 2 {
		if _, err := admin.CreateIdentity(t.Context(), store.Identity{Key: store.Key{DeviceID: "new"}}); err != nil {
			t.Fatal(err)
		}
		events := int64(0)
		for _, p := range []string{"0", "1", "2", "3"} {
			info, err := admin.Partition(t.Context(), "", p)
			if err != nil {
				t.Fatal(err)
			}
			events += info.LastSequence - info.FirstSequence + 1
		}
		if events != 1 {
			t.Errorf("%d events, only that of the new device is wanted", events)
		}
		if err := e.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

const seededRouting = `
routing:
  endpoints:
    eventHubs:
      - {name: alerts, partitions: 2, consumerGroups: [dashboard]}
  routes:
    - name: hot
      source: DeviceMessages
      condition: $body.temperature > 30 OR level = 'critical'
      endpointNames: [alerts]
    - {name: changes, source: TwinChangeEvents, endpointNames: [events], isEnabled: false}
  fallbackRoute: {isEnabled: true}
  enrichments:
    - {key: floor, value: $twin.tags.floor, endpointNames: [alerts, events]}
`

func TestRoutingComesFromTheSeedOrOptionsAndComesBack(t *testing.T) {
	e := iolitetest.Run(t, withSeed(seededRouting))
	want := e.Hub().Routing()
	if len(want.Routes) != 2 || *want.Routes[1].IsEnabled || want.Endpoints.EventHubs[0].Partitions != 2 || want.Enrichments[0].Key != "floor" {
		t.Errorf("routing %+v", want)
	}
	if err := e.Hub().SetRouting(t.Context(), hub.Routing{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, e.Hub().Routing()); diff != "" {
		t.Errorf("after a reset (-want +got):\n%s", diff)
	}
	first := iolitetest.Run(t, withSeed(seededRouting), iolitetest.With(func(o *iolite.Options) { o.Routing = &hub.Routing{} }))
	if r := first.Hub().Routing(); len(r.Routes) != 0 {
		t.Errorf("the seed counts more than the options: %+v", r)
	}
}

func TestABadRouteInASeedIsToldWithItsPlace(t *testing.T) {
	_, err := iolite.Start(t.Context(), iolite.Options{SeedName: "hub.yaml", Seed: strings.NewReader(strings.Replace(seededRouting, "> 30 OR", "> 30 OR OR", 1))})
	if err == nil || !strings.HasPrefix(err.Error(), "hub.yaml: ") || !strings.Contains(err.Error(), "routes[0] (hot).condition: line 1, column 27") {
		t.Errorf("error %v", err)
	}
}

func TestResetsAtTheSameTimePlantTheSeedOnce(t *testing.T) {
	e := iolitetest.Run(t, withSeed(seed), iolitetest.WithDevices("extra"))
	var group errgroup.Group
	for range 20 {
		group.Go(func() error { return e.Reset(t.Context()) })
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	list, err := e.Hub().Admin().Devices(t.Context(), 0)
	if err != nil || len(list) != 4 {
		t.Errorf("%d devices, %v", len(list), err)
	}
}

func TestReadyOnlyWhileEveryDoorAccepts(t *testing.T) {
	e := iolitetest.Run(t)
	api := client.New(e.Info().Control)
	if err := api.Ready(t.Context()); err != nil {
		t.Errorf("Ready after Start: %v", err)
	}
	for _, d := range []door.Door{door.MQTT, door.AMQP, door.HTTPS, door.PlainAMQP} {
		if e.Port(d) == 0 {
			t.Errorf("the %s door is shut", d)
		}
	}
	e.Close()
	if e.Ready() {
		t.Error("Ready after Close")
	}
	http.DefaultClient.CloseIdleConnections()
}

// They are registered by the first scrape, and once.
func TestEveryScrapeTellsOfTheHubAndTheProcess(t *testing.T) {
	e := iolitetest.Run(t)
	for range 2 {
		r, err := http.Get("http://" + e.Info().Control + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		http.DefaultClient.CloseIdleConnections()
		for _, name := range []string{"iolite_errors_total", "iothub_devices_total_devices", "go_goroutines", "process_start_time_seconds"} {
			if !strings.Contains(string(text), "\n"+name) {
				t.Errorf("there is no %s", name)
			}
		}
	}
}

func TestStartRefusesWhatCannotBe(t *testing.T) {
	taken := iolitetest.Run(t)
	for name, o := range map[string]iolite.Options{
		"too many partitions":       {Partitions: 33},
		"too long a retention":      {Retention: 8 * 24 * time.Hour},
		"bad consumer group":        {ConsumerGroups: []string{"-x"}},
		"seed with a bad group":     {Seed: strings.NewReader("consumerGroups: [a b]")},
		"misspelt seed":             {Seed: strings.NewReader("devcies: []")},
		"seed with a twin of an id": {Seed: strings.NewReader("devices: [{id: a}, {id: a}]")},
		"seed with a bad twin":      {Seed: strings.NewReader("devices: [{id: a, twin: {reported: {a.b: 1}}}]")},
		"seed with a list for tags": {Seed: strings.NewReader("devices: [{id: a, twin: {tags: [1]}}]")},
		"seed with a bad route":     {Seed: strings.NewReader("routing: {routes: [{name: r, source: DeviceMessages, condition: 'a =', endpointNames: [events]}]}")},
		"seed with a wrong key":     {Seed: strings.NewReader("routing: {routes: [{name: r, source: DeviceMessages, endpoint: events}]}")},
		"bad route":                 {Routing: &hub.Routing{Routes: []hub.Route{{Name: "r"}}}},
		"taken port":                {MQTT: iolite.Port(taken.Port(door.MQTT))},
		"bad device name":           {Devices: []string{"no spaces allowed"}},
		"public host name":          {Hostname: "com"},
	} {
		e, err := iolite.Start(context.Background(), o)
		if err == nil {
			e.Close()
			t.Errorf("%s: started", name)
		}
	}
}

func TestShutDoorsAreShut(t *testing.T) {
	e := iolitetest.Run(t, iolitetest.With(func(o *iolite.Options) { o.EventHub, o.AMQP, o.Control = iolite.Off, iolite.Off, "off" }))
	if e.Port(door.AMQP) != 0 || e.Port(door.PlainAMQP) != 0 || e.Port(door.MQTT) == 0 || e.Info().Control != "" {
		t.Errorf("doors: %+v", e.Info().Doors)
	}
}

func TestComposeFileHasTheKeysOfItsDeviceAndPolicy(t *testing.T) {
	text, err := os.ReadFile("docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	e := iolitetest.Run(t, iolitetest.WithDevices("device1"), iolitetest.With(func(o *iolite.Options) { o.Hostname = "iolite.azure-devices.net" }))
	device, err := e.DeviceConnectionString(t.Context(), store.Key{DeviceID: "device1"})
	if err != nil {
		t.Fatal(err)
	}
	_, keys, _ := strings.Cut(e.EmulatorConnectionString(), ";")
	for _, want := range []string{device, keys} {
		if !strings.Contains(string(text), want) {
			t.Errorf("docker-compose.yml has no %q", want)
		}
	}
}
