package hub

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestARoutingIsRefusedWithWhatIsWrongAndWhere(t *testing.T) {
	h, _ := newTestHub(t)
	hot := func(change func(*Route)) Routing {
		r := to("hot", "")
		change(&r)
		return Routing{Endpoints: hubs("hot"), Routes: []Route{r}}
	}
	enriched := func(n Enrichment) Routing { return Routing{Endpoints: hubs("hot"), Enrichments: []Enrichment{n}} }
	container := func(change func(*ContainerEndpoint)) Routing {
		c := ContainerEndpoint{Name: "s", ConnectionString: "x", ContainerName: "c", Encoding: "json"}
		change(&c)
		return Routing{Endpoints: Endpoints{StorageContainers: []ContainerEndpoint{c}}}
	}
	var manyRoutes, manyEnrichments Routing
	for i := range 101 {
		manyRoutes.Routes = append(manyRoutes.Routes, Route{Name: fmt.Sprint("r", i), Source: DeviceMessages, EndpointNames: []string{"events"}})
	}
	for i := range 11 {
		manyEnrichments.Enrichments = append(manyEnrichments.Enrichments, Enrichment{Key: fmt.Sprint("k", i), Value: "v", EndpointNames: []string{"events"}})
	}
	for _, c := range []struct {
		want string
		r    Routing
	}{
		{`routes[0] (r-hot).condition: line 1, column 4: a value, an attribute or a function must stand here, not the end of the query`, hot(func(r *Route) { r.Condition = "a =" })},
		{`routes[0] (r-hot).condition: line 2, column 3: = cannot compare a string with a number`, hot(func(r *Route) { r.Condition = "a = 'x' OR\nb = 1" })},
		{`routes[0] (r-hot).endpointNames: there is no endpoint "cold"`, hot(func(r *Route) { r.EndpointNames = []string{"cold"} })},
		{`routes[0] (r-hot).endpointNames: exactly one endpoint must be named`, hot(func(r *Route) { r.EndpointNames = nil })},
		{`routes[0] (r-hot).endpointNames: exactly one endpoint must be named`, hot(func(r *Route) { r.EndpointNames = []string{"hot", "events"} })},
		{`routes[0] (r-hot).source: "Messages" is none of DeviceMessages, TwinChangeEvents, `, hot(func(r *Route) { r.Source = "Messages" })},
		{`routes[0]: the name "" is not of 1 to 64`, hot(func(r *Route) { r.Name = "" })},
		{`routes[0] (a b): the name "a b" is not of 1 to 64`, hot(func(r *Route) { r.Name = "a b" })},
		{`the name "` + strings.Repeat("x", 65), hot(func(r *Route) { r.Name = strings.Repeat("x", 65) })},
		{`routes[1] (R-HOT): another route is called "R-HOT"`, Routing{Endpoints: hubs("hot"), Routes: []Route{to("hot", ""), {Name: "R-HOT", Source: DeviceMessages, EndpointNames: []string{"hot"}}}}},
		{`routes: there are 101; at most 100 are allowed`, manyRoutes},
		{`endpoints.eventHubs[0] (events): the name "events" is reserved`, Routing{Endpoints: hubs("events")}},
		{`endpoints.eventHubs[0] (FileNotifications): the name "FileNotifications" is reserved`, Routing{Endpoints: hubs("FileNotifications")}},
		{`endpoints.eventHubs[0] (Iolite): the name "Iolite" is reserved`, Routing{Endpoints: hubs("Iolite")}},
		{`the name "messages" is taken by the hub itself`, Routing{Endpoints: hubs("messages")}},
		{`endpoints.eventHubs[0] (a/b): the name "a/b" is not of 1 to 64`, Routing{Endpoints: hubs("a/b")}},
		{`endpoints.eventHubs[1] (HOT): another endpoint is called "HOT"; names are unique across endpoint types`, Routing{Endpoints: hubs("hot", "HOT")}},
		{`endpoints.serviceBusQueues[0] (hot): another endpoint is called "hot"`, Routing{Endpoints: Endpoints{
			EventHubs: hubs("hot").EventHubs, ServiceBusQueues: []ServiceBusEndpoint{{Name: "hot", ConnectionString: "x"}}}}},
		{`endpoints: there are 11 custom endpoints; at most 10 are allowed`, Routing{Endpoints: hubs("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k")}},
		{`endpoints.eventHubs[0] (a): 33 partitions are not between 1 and 32`, Routing{Endpoints: Endpoints{EventHubs: []EventHubEndpoint{{Name: "a", Partitions: 33}}}}},
		{`endpoints.eventHubs[0] (a): bad consumer group name "-"`, Routing{Endpoints: Endpoints{EventHubs: []EventHubEndpoint{{Name: "a", ConsumerGroups: []string{"-"}}}}}},
		{`partitions and consumerGroups are for event hubs of this process`, Routing{Endpoints: Endpoints{EventHubs: []EventHubEndpoint{{Name: "a", ConnectionString: "x", Partitions: 1}}}}},
		{`endpoints.serviceBusTopics[0] (t).connectionString: it must be given`, Routing{Endpoints: Endpoints{ServiceBusTopics: []ServiceBusEndpoint{{Name: "t"}}}}},
		{`(s).encoding: it must be JSON; Avro`, container(func(c *ContainerEndpoint) { c.Encoding = "avro" })},
		{`(s).encoding: it must be JSON; Avro, the real hub's default`, container(func(c *ContainerEndpoint) { c.Encoding = "" })},
		{`(s).containerName: it must be given`, container(func(c *ContainerEndpoint) { c.ContainerName = "" })},
		{`(s).connectionString: it must be given`, container(func(c *ContainerEndpoint) { c.ConnectionString = "" })},
		{`(s).fileNameFormat: {mm} is missing`, container(func(c *ContainerEndpoint) { c.FileNameFormat = "{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}" })},
		{`(s).batchFrequencyInSeconds: 59 is not between 60 and 720`, container(func(c *ContainerEndpoint) { c.BatchFrequencyInSeconds = 59 })},
		{`(s).maxChunkSizeInBytes: 1 is not between 10485760 and 524288000`, container(func(c *ContainerEndpoint) { c.MaxChunkSizeInBytes = 1 })},
		{`fallbackRoute.source: it must be DeviceMessages`, Routing{FallbackRoute: &FallbackRoute{Source: TwinChangeEvents}}},
		{`fallbackRoute.endpointNames: there is no endpoint "x"`, Routing{FallbackRoute: &FallbackRoute{EndpointNames: []string{"x"}}}},
		{`fallbackRoute.condition: line 1, column 1: `, Routing{FallbackRoute: &FallbackRoute{Condition: ")"}}},
		{`enrichments: there are 11; at most 10 are allowed`, manyEnrichments},
		{`enrichments[0] (a b): the key "a b" is not of 1 to 64`, enriched(Enrichment{Key: "a b", Value: "v", EndpointNames: []string{"hot"}})},
		{`enrichments[0]: the key "" is not`, enriched(Enrichment{Value: "v", EndpointNames: []string{"hot"}})},
		{`enrichments[0] (k).value: it has 0 characters`, enriched(Enrichment{Key: "k", EndpointNames: []string{"hot"}})},
		{`enrichments[0] (k).value: it has 4097 characters`, enriched(Enrichment{Key: "k", Value: strings.Repeat("v", 4097), EndpointNames: []string{"hot"}})},
		{`enrichments[0] (k).value: "$twin.deviceId" is none of $twin.tags`, enriched(Enrichment{Key: "k", Value: "$twin.deviceId", EndpointNames: []string{"hot"}})},
		{`enrichments[0] (k).value: "$twin.tags" is none`, enriched(Enrichment{Key: "k", Value: "$twin.tags", EndpointNames: []string{"hot"}})},
		{`enrichments[0] (k).value: "$twin.properties.desired" is none`, enriched(Enrichment{Key: "k", Value: "$twin.properties.desired", EndpointNames: []string{"hot"}})},
		{`enrichments[0] (k).value: "$twin.tags..a" is none`, enriched(Enrichment{Key: "k", Value: "$twin.tags..a", EndpointNames: []string{"hot"}})},
		{`enrichments[0] (k).endpointNames: at least one`, enriched(Enrichment{Key: "k", Value: "v"})},
		{`enrichments[0] (k).endpointNames: there is no endpoint "x"`, enriched(Enrichment{Key: "k", Value: "v", EndpointNames: []string{"x"}})},
		{`enrichments[1] (K): another enrichment has the key "K"`, Routing{Enrichments: []Enrichment{{Key: "k", Value: "v", EndpointNames: []string{"events"}}, {Key: "K", Value: "v", EndpointNames: []string{"events"}}}}},
	} {
		err := h.SetRouting(ctx, c.r)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v\nwant %s", err, c.want)
		}
		if codeOf(err) != CodeArgumentInvalid {
			t.Errorf("%s: code %d", c.want, codeOf(err))
		}
	}
	if got := h.EventHubNames(); len(got) != 1 {
		t.Errorf("refused routings have left the event hubs %v", got)
	}
}

func TestWhatARoutingLeavesOutIsFilledIn(t *testing.T) {
	h, _ := newTestHub(t)
	setRouting(t, h, Routing{
		Endpoints: Endpoints{
			EventHubs:         []EventHubEndpoint{{Name: "hot"}},
			StorageContainers: []ContainerEndpoint{{Name: "s", ConnectionString: "x", ContainerName: "c", Encoding: "json"}},
		},
		Routes: []Route{{Name: "r", Source: "twinchangeevents", EndpointNames: []string{"HOT"}}},
	})
	want := Routing{
		Endpoints: Endpoints{
			EventHubs:        []EventHubEndpoint{{Name: "hot", Partitions: 4}},
			ServiceBusQueues: []ServiceBusEndpoint{}, ServiceBusTopics: []ServiceBusEndpoint{},
			StorageContainers: []ContainerEndpoint{{
				Name: "s", ConnectionString: "x", ContainerName: "c", FileNameFormat: "{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}/{mm}", BatchFrequencyInSeconds: 300,
				MaxChunkSizeInBytes: 314572800, Encoding: "JSON",
			}},
		},
		Routes:        []Route{{Name: "r", Source: TwinChangeEvents, Condition: "true", EndpointNames: []string{"HOT"}, IsEnabled: new(true)}},
		FallbackRoute: &FallbackRoute{Source: DeviceMessages, Condition: "true", EndpointNames: []string{"events"}, IsEnabled: new(true)},
		Enrichments:   []Enrichment{},
	}
	if diff := cmp.Diff(want, h.Routing()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got := h.Routing()
	got.Routes[0].EndpointNames[0], *got.FallbackRoute.IsEnabled = "other", false // a copy
	setRouting(t, h, h.Routing())
	if diff := cmp.Diff(want, h.Routing()); diff != "" {
		t.Errorf("what was read cannot be written back (-want +got):\n%s", diff)
	}
}

func TestAHubDoesNotBeginWithABadRouting(t *testing.T) {
	old, _ := newTestHub(t)
	cfg := old.cfg
	cfg.Routing = Routing{Routes: []Route{{Name: "r"}}}
	if h, err := New(cfg); err == nil || h != nil {
		t.Error("a hub has begun")
	}
}

func TestRoutesAreTriedWithAMessageThatIsNotSent(t *testing.T) {
	h, _ := newTestHub(t)
	connect(t, h, "d")
	setRouting(t, h, Routing{Endpoints: hubs("hot", "cold"), Routes: []Route{
		to("hot", "$body.t > 30 AND level = 'x' AND $twin.tags.floor = 1"), to("cold", "$connectionDeviceId = 'd'"),
		{Name: "off", Source: DeviceMessages, EndpointNames: []string{"hot"}, IsEnabled: new(false)}, {Name: "twins", Source: TwinChangeEvents, EndpointNames: []string{"hot"}},
	}})
	test := RouteTest{Message: RouteTestMessage{
		Body: `{"t":31}`, AppProperties: map[string]string{"Level": "x"},
		SystemProperties: map[string]string{"contentType": "application/json", "contentEncoding": "utf-16", "connectionDeviceId": "d", "other": "y"},
	}}
	try := func(wantFallback bool, routes, endpoints string) {
		t.Helper()
		got, err := h.TestRoutes(ctx, test)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range got.Routes {
			names = append(names, r.Name)
		}
		if strings.Join(names, " ") != routes || strings.Join(got.Endpoints, " ") != endpoints || got.Fallback != wantFallback {
			t.Errorf("routes %v, endpoints %v, fallback %v; want %s, %s, %v", names, got.Endpoints, got.Fallback, routes, endpoints, wantFallback)
		}
	}
	try(false, "r-cold", "cold")
	test.Twin = &RouteTestTwin{Tags: parseValue(t, `{"floor":1}`)}
	try(false, "r-hot r-cold", "hot cold")
	test.Message.SystemProperties = nil
	try(true, "", "events")
	test.Source = "twinChangeEvents"
	try(false, "twins", "hot")
	test.Source, test.Twin = DeviceLifecycleEvents, nil
	try(false, "", "")
	test.Source = "x"
	_, err := h.TestRoutes(ctx, test)
	wantCode(t, err, CodeArgumentInvalid)
	wantAt(t, h, "hot")
	wantAt(t, h, "cold")
	wantAt(t, h, "events")
}

func TestARouteIsTriedBeforeTheHubHasIt(t *testing.T) {
	h, _ := newTestHub(t)
	for condition, want := range map[string]RouteOutcome{"": RouteMatches, "a = '1'": RouteMatches, "a = '2'": RouteFails, "b = '1'": RouteUndefined, "$twin.tags.x = 1": RouteMatches} {
		got, broken := h.TestRoute(ctx, OneRouteTest{
			Route: Route{Condition: condition}, Message: RouteTestMessage{AppProperties: map[string]string{"a": "1"}}, Twin: &RouteTestTwin{Tags: parseValue(t, `{"x":1}`)},
		})
		if got != want || broken != nil {
			t.Errorf("%q: %s (%v), want %s", condition, got, broken, want)
		}
	}
	got, broken := h.TestRoute(ctx, OneRouteTest{Route: Route{Condition: "a =\n'1' AND"}})
	if got != RouteUndefined || broken == nil || broken.Line != 2 || broken.Column != 8 {
		t.Errorf("%s, %v", got, broken)
	}
}
