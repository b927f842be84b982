package hub

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

// hubs returns endpoints for event hubs of this process, with one partition each.
func hubs(names ...string) (e Endpoints) {
	for _, name := range names {
		e.EventHubs = append(e.EventHubs, EventHubEndpoint{Name: name, Partitions: 1})
	}
	return e
}

// to is a route of device messages.
func to(endpoint, condition string) Route {
	return Route{Name: "r-" + endpoint, Source: DeviceMessages, Condition: condition, EndpointNames: []string{endpoint}}
}

func setRouting(t testing.TB, h *Hub, r Routing) {
	t.Helper()
	if err := h.SetRouting(ctx, r); err != nil {
		t.Fatal(err)
	}
}

// routedBodies returns what an event log holds, partition by partition.
func routedBodies(t testing.TB, log store.EventLog) []string {
	t.Helper()
	bodies := []string{}
	for p := range log.Partitions() {
		events, err := log.Read(ctx, p, 0, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for i := range events {
			bodies = append(bodies, string(events[i].Body))
		}
	}
	return bodies
}

// at returns the bodies that have come to an endpoint.
func bodiesAt(t testing.TB, h *Hub, endpoint string) []string {
	t.Helper()
	e := h.routings.current.Load().find(endpoint)
	if e == nil {
		t.Fatalf("no endpoint %s", endpoint)
	}
	return routedBodies(t, e.log)
}

func wantAt(t testing.TB, h *Hub, endpoint string, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, bodiesAt(t, h, endpoint)); diff != "" {
		t.Errorf("at %s (-want +got):\n%s", endpoint, diff)
	}
}

// telemetry makes a message with application properties given as name=value.
func telemetry(body string, properties ...string) Telemetry {
	m := Telemetry{Body: []byte(body)}
	for _, p := range properties {
		name, value, _ := strings.Cut(p, "=")
		m.Properties = append(m.Properties, store.Property{Name: name, Value: value})
	}
	return m
}

func sendTelemetry(t testing.TB, s *DeviceSession, messages ...Telemetry) {
	t.Helper()
	if err := s.SendTelemetry(ctx, messages...); err != nil {
		t.Fatal(err)
	}
}

func TestAMessageGoesToEachEndpointWhoseRouteMatchesAndElseToTheFallback(t *testing.T) {
	h, _ := newTestHub(t)
	setRouting(t, h, Routing{Endpoints: hubs("hot", "all"), Routes: []Route{to("hot", "level = 'hot'"), to("all", "level = 'hot' OR level = 'warm'")}})
	s := connect(t, h, "d")
	sendTelemetry(t, s, telemetry("1", "level=hot"), telemetry("2", "level=warm"), telemetry("3"), telemetry("4", "level=hot"))
	wantAt(t, h, "hot", "1", "4")
	wantAt(t, h, "all", "1", "2", "4")
	wantAt(t, h, "events", "3")
}

func TestTwoRoutesToOneEndpointDeliverOnce(t *testing.T) {
	h, _ := newTestHub(t)
	second := to("hot", "a = '1'")
	second.Name = "another"
	setRouting(t, h, Routing{Endpoints: hubs("hot"), Routes: []Route{to("hot", "true"), second}})
	sendTelemetry(t, connect(t, h, "d"), telemetry("1", "a=1"))
	wantAt(t, h, "hot", "1")
	wantAt(t, h, "events")
}

func TestARouteToTheBuiltInEndpointLetsItHaveWhatOthersGetToo(t *testing.T) {
	h, _ := newTestHub(t)
	setRouting(t, h, Routing{Endpoints: hubs("hot"), Routes: []Route{to("hot", "true"), to("events", "a = '1'")}})
	sendTelemetry(t, connect(t, h, "d"), telemetry("1", "a=1"), telemetry("2"))
	wantAt(t, h, "hot", "1", "2")
	wantAt(t, h, "events", "1")
}

func TestWithoutFallbackWhatNoRouteTakesIsOrphaned(t *testing.T) {
	h, _ := newTestHub(t)
	r := metricsOf(t, h)
	setRouting(t, h, Routing{Endpoints: hubs("hot"), Routes: []Route{to("hot", "a = '1'")}, FallbackRoute: &FallbackRoute{IsEnabled: new(false)}})
	sendTelemetry(t, connect(t, h, "d"), telemetry("1", "a=1"), telemetry("2"), telemetry("3"))
	wantAt(t, h, "hot", "1")
	wantAt(t, h, "events")
	got := values(t, r)
	for name, want := range map[string]float64{
		"iothub_d2c_telemetry_egress_orphaned_total": 2, "iothub_d2c_telemetry_egress_success_total": 1, "iothub_d2c_endpoints_egress_event_hubs_total": 1,
		"iothub_d2c_telemetry_egress_fallback_total": 0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestTheFallbackIsCountedAndMayHaveAConditionAndAnotherEndpoint(t *testing.T) {
	h, _ := newTestHub(t)
	r := metricsOf(t, h)
	setRouting(t, h, Routing{Endpoints: hubs("hot", "rest"), Routes: []Route{to("hot", "a = '1'")},
		FallbackRoute: &FallbackRoute{Condition: "b = '1'", EndpointNames: []string{"rest"}}})
	sendTelemetry(t, connect(t, h, "d"), telemetry("1", "a=1"), telemetry("2", "b=1"), telemetry("3"))
	wantAt(t, h, "rest", "2")
	wantAt(t, h, "events")
	got := values(t, r)
	if got["iothub_d2c_telemetry_egress_fallback_total"] != 1 || got["iothub_d2c_telemetry_egress_orphaned_total"] != 1 {
		t.Errorf("metrics %v", got)
	}
}

func TestADisabledRouteTakesNothing(t *testing.T) {
	h, _ := newTestHub(t)
	route := to("hot", "true")
	route.IsEnabled = new(false)
	setRouting(t, h, Routing{Endpoints: hubs("hot"), Routes: []Route{route}})
	sendTelemetry(t, connect(t, h, "d"), telemetry("1"))
	wantAt(t, h, "hot")
	wantAt(t, h, "events", "1")
}

func TestARoutedMessageKeepsItsAnnotations(t *testing.T) {
	h, _ := newTestHub(t)
	setRouting(t, h, Routing{Endpoints: hubs("hot"), Routes: []Route{to("hot", "true"), to("events", "true")}})
	m := telemetry("1", "a=1")
	m.ContentType, m.MessageID = "text/plain", "m1"
	sendTelemetry(t, connect(t, h, "d"), m)
	hot, err := h.routings.current.Load().find("hot").log.Read(ctx, 0, 0, 10, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(readAll(t, h, "d"), hot); diff != "" {
		t.Errorf("(-built-in +hot):\n%s", diff)
	}
}

func TestARouteOfAnotherSourceTakesNoTelemetryAndNeedsNoFallback(t *testing.T) {
	h, _ := newTestHub(t)
	twins := Route{Name: "twins", Source: TwinChangeEvents, EndpointNames: []string{"changes"}}
	setRouting(t, h, Routing{Endpoints: hubs("changes"), Routes: []Route{twins}})
	sendTelemetry(t, connect(t, h, "d"), telemetry("1"))
	wantAt(t, h, "changes")
	wantAt(t, h, "events", "1")
	for source, want := range map[RouteSource]bool{DeviceMessages: true, TwinChangeEvents: true, DeviceLifecycleEvents: false} {
		if got := h.routed(source); got != want {
			t.Errorf("%s is routed: %v, want %v", source, got, want)
		}
	}
	if err := h.deliver(ctx, TwinChangeEvents, 0, store.Event{Body: []byte("t"), DeviceID: "d"}); err != nil {
		t.Fatal(err)
	}
	if err := h.deliver(ctx, DeviceLifecycleEvents, 0, store.Event{Body: []byte("l"), DeviceID: "d"}); err != nil {
		t.Fatal(err)
	}
	wantAt(t, h, "changes", "t")
	wantAt(t, h, "events", "1")
}

func TestAFurtherEventHubSpreadsDevicesOverItsOwnPartitions(t *testing.T) {
	h, _ := newTestHub(t)
	setRouting(t, h, Routing{Endpoints: Endpoints{EventHubs: []EventHubEndpoint{{Name: "wide", Partitions: 16}}}, Routes: []Route{to("wide", "")}})
	log := h.routings.current.Load().find("wide").log
	for i := range 20 {
		id := fmt.Sprint("Device-", i)
		sendTelemetry(t, connect(t, h, id), telemetry(id))
		events, err := log.Read(ctx, PartitionOf(id, 16), 0, 100, 1<<20)
		if err != nil || len(events) == 0 || string(events[len(events)-1].Body) != id {
			t.Fatalf("%s is not in its partition: %v", id, err)
		}
	}
}

func TestWhatGoesOutsideWaitsInALogOfItsOwn(t *testing.T) {
	h, _ := newTestHub(t)
	setRouting(t, h, Routing{Endpoints: Endpoints{ServiceBusQueues: []ServiceBusEndpoint{{Name: "q", ConnectionString: "Endpoint=sb://x/;EntityPath=q"}}}, Routes: []Route{to("q", "")}})
	sendTelemetry(t, connect(t, h, "d"), telemetry("1"))
	wantAt(t, h, "q", "1")
	e := h.routings.current.Load().find("q")
	if !e.external || e.kind != EndpointQueues || e.log.Partitions() != 1 {
		t.Errorf("endpoint %+v", e)
	}
}

func TestRoutingIsReplacedAsAWholeOrNotAtAll(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	setRouting(t, h, Routing{Endpoints: hubs("kept", "gone"), Routes: []Route{to("kept", ""), to("gone", "")}})
	sendTelemetry(t, s, telemetry("1"))
	before := h.Routing()
	wantCode(t, h.SetRouting(ctx, Routing{Endpoints: hubs("new"), Routes: []Route{to("new", "a =")}}), CodeArgumentInvalid)
	if diff := cmp.Diff(before, h.Routing()); diff != "" {
		t.Errorf("a bad routing changed (-before +after):\n%s", diff)
	}
	setRouting(t, h, Routing{Endpoints: hubs("kept"), Routes: []Route{to("kept", "")}})
	sendTelemetry(t, s, telemetry("2"))
	wantAt(t, h, "kept", "1", "2")
	setRouting(t, h, Routing{Endpoints: hubs("kept", "gone"), Routes: []Route{to("gone", "")}})
	wantAt(t, h, "gone")
	sendTelemetry(t, s, telemetry("3"))
	wantAt(t, h, "gone", "3")
	wantAt(t, h, "events")
}

func TestARoutingThatIsRefusedLeavesEventHubsAsTheyAre(t *testing.T) {
	h, _ := newTestHub(t)
	kept := openHub(t, h, "kept", 4)
	if err := kept.append(ctx, 0, store.Event{Body: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	var groups []string
	for i := range maxGroups - 1 {
		groups = append(groups, fmt.Sprint("g", i))
	}
	openHub(t, h, "full", 4, groups...)
	to := hubs("kept", "full")
	to.EventHubs[0].Partitions, to.EventHubs[1].Partitions = 4, 4
	to.EventHubs[0].ConsumerGroups, to.EventHubs[1].ConsumerGroups = []string{"more"}, []string{"G0", "more"}
	wantCode(t, h.SetRouting(ctx, Routing{Endpoints: to}), CodeArgumentInvalid)
	if diff := cmp.Diff([]string{"$Default"}, kept.describe().ConsumerGroups); diff != "" {
		t.Errorf("consumer groups (-before +after):\n%s", diff)
	}
	if found, err := h.findEventHub("kept"); err != nil || found != kept {
		t.Errorf("the event hub is gone: %v", err)
	}
	to.EventHubs[1].ConsumerGroups = []string{"G0"}
	setRouting(t, h, Routing{Endpoints: to})
}

func TestAnEventHubKeepsItsPartitions(t *testing.T) {
	h, _ := newTestHub(t)
	setRouting(t, h, Routing{Endpoints: hubs("a")})
	other := hubs("a")
	other.EventHubs[0].Partitions = 2
	wantCode(t, h.SetRouting(ctx, Routing{Endpoints: other}), CodeArgumentInvalid)
	setRouting(t, h, Routing{})
	setRouting(t, h, Routing{Endpoints: other})
}

func TestAResetReturnsToTheRoutingOfTheStart(t *testing.T) {
	h, _ := newTestHub(t, func(cfg *Config) { cfg.Routing = Routing{Endpoints: hubs("first"), Routes: []Route{to("first", "")}} })
	want := h.Routing()
	sendTelemetry(t, connect(t, h, "d"), telemetry("1"))
	wantAt(t, h, "first", "1")
	setRouting(t, h, Routing{Endpoints: hubs("second"), Routes: []Route{to("second", "")}})
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, h.Routing()); diff != "" {
		t.Errorf("(-start +after reset):\n%s", diff)
	}
	wantAt(t, h, "first")
	sendTelemetry(t, connect(t, h, "d"), telemetry("2"))
	wantAt(t, h, "first", "2")
}

// Every acknowledged message is at one endpoint that stays, whatever the routing was in that moment.
func TestChangingRoutesUnderLoadLosesNothing(t *testing.T) {
	h, _ := newTestHub(t)
	routings := []Routing{
		{Endpoints: hubs("a", "b"), Routes: []Route{to("a", "")}},
		{Endpoints: hubs("a", "b"), Routes: []Route{to("b", "n = '1'")}},
		{Endpoints: hubs("a", "b", "c"), Routes: []Route{to("b", "")}},
	}
	setRouting(t, h, routings[0])
	var senders sync.WaitGroup
	var sent atomic.Int64
	stop := make(chan struct{})
	for i := range 4 {
		s := connect(t, h, fmt.Sprint("d", i))
		senders.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.SendTelemetry(context.Background(), telemetry("x", "n=1"), telemetry("y")); err != nil {
					t.Error(err)
					return
				}
				sent.Add(2)
			}
		})
	}
	for i := range 200 {
		setRouting(t, h, routings[i%len(routings)])
	}
	close(stop)
	senders.Wait()
	var kept int64
	for _, name := range []string{"a", "b", "events"} {
		log := h.routings.current.Load().find(name).log
		for p := range log.Partitions() {
			info, err := log.Info(ctx, p)
			if err != nil {
				t.Fatal(err)
			}
			kept += info.LastSequence + 1
		}
	}
	if kept != sent.Load() {
		t.Errorf("%d messages were acknowledged and %d stored", sent.Load(), kept)
	}
}

func TestTheLogTellsWhatRoutingDidNotDo(t *testing.T) {
	var text strings.Builder
	h, _ := newTestHub(t, func(cfg *Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	setRouting(t, h, Routing{Endpoints: hubs("hot"), Routes: []Route{to("hot", "a = '1'")}, FallbackRoute: &FallbackRoute{IsEnabled: new(false)},
		Enrichments: []Enrichment{{Key: "k", Value: "v", EndpointNames: []string{"hot"}}}})
	s := connect(t, h, "d")
	for range 20 {
		sendTelemetry(t, s, telemetry("1"))
	}
	large := telemetry("", "a=1")
	large.Body = make([]byte, maxTelemetry-len(s.to)-2)
	sendTelemetry(t, s, large)
	for operation, want := range map[string]int{"operation=undefinedRouteEvaluation": 20, "operation=orphanedMessage": 10, "operation=invalidMessage": 1, "routeName=r-hot": 20, "category=Routes": 31} {
		if got := strings.Count(text.String(), operation); got != want {
			t.Errorf("%s stands %d times in the log, want %d", operation, got, want)
		}
	}
}

func TestNothingFallsBackWithoutRoutes(t *testing.T) {
	h, _ := newTestHub(t)
	r := metricsOf(t, h)
	s := connect(t, h, "d")
	sendTelemetry(t, s, telemetry("1"))
	setRouting(t, h, Routing{Enrichments: []Enrichment{{Key: "k", Value: "v", EndpointNames: []string{"events"}}}})
	sendTelemetry(t, s, telemetry("2"))
	if got := values(t, r); got["iothub_d2c_telemetry_egress_fallback_total"] != 0 || got["iothub_d2c_telemetry_egress_success_total"] != 2 {
		t.Errorf("metrics %v", got)
	}
}
