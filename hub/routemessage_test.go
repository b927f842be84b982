package hub

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// wantMatch asks whether a condition selects what a device sends.
func wantMatch(t testing.TB, h *Hub, e *store.Event, want map[string]bool) {
	t.Helper()
	for text, matches := range want {
		c, err := query.ParseRouteCondition(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		m := routeMessage{hub: h}
		m.read(e)
		if got := m.matches(c); got != matches {
			t.Errorf("%s: %v, want %v", text, got, matches)
		}
	}
}

func TestConditionsFindEverySystemProperty(t *testing.T) {
	h, c := newTestHub(t)
	e := &store.Event{
		SystemProperties: store.SystemProperties{
			MessageID: "1", CorrelationID: "2", UserID: "3", To: "4", ContentType: "5", ContentEncoding: "6", CreationTime: "7", MessageSchema: "8", Operation: "9",
			Ack: "10", OutputName: "11", InterfaceID: "12", Subject: "13",
		},
		DeviceID: "14", ModuleID: "15", GenerationID: "16", AuthMethod: "17", Source: "18", ModelID: "19", Enqueued: c.Now(),
	}
	wantMatch(t, h, e, map[string]bool{
		`$messageId = '1' AND $message-id = '1'`:                                                 true,
		`$correlationId = '2' AND $userId = '3' AND $to = '4'`:                                   true,
		`$contentType = '5' AND $contentEncoding = '6'`:                                          true,
		`$creationTimeUtc = '7' AND $iothub-creation-time-utc = '7'`:                             true,
		`$iothub-message-schema = '8' AND $iothub-operation = '9' AND $iothub-ack = '10'`:        true,
		`$outputName = '11' AND $iothub-interface-id = '12' AND $dt-subject = '13'`:              true,
		`$connectionDeviceId = '14' AND $connectionModuleId = '15'`:                              true,
		`$connectionDeviceGenerationId = '16' AND $connectionAuthMethod = '17'`:                  true,
		`$iothub-message-source = '18' AND $dt-dataschema = '19'`:                                true,
		`$iothub-connection-auth-generation-id = '16' AND $iothub-connection-auth-method = '17'`: true,
		`enqueuedTime = '2026-01-01T00:00:00.0000000Z'`:                                          true,
		`iothub-message-schema = '8' AND iothub-operation = '9'`:                                 true,
		`messageSchema = '8'`: false,
		`$nothing = '1'`:      false,
	})
}

func TestTheBodyIsLookedAtOnlyWhenTheMessageSaysThatItIsJSON(t *testing.T) {
	h, _ := newTestHub(t)
	const text = `{"a":{"b":[1,"ü"]}}`
	units := utf16.Encode([]rune(text))
	var little, big, wide []byte
	for _, u := range units {
		little, big = binary.LittleEndian.AppendUint16(little, u), binary.BigEndian.AppendUint16(big, u)
	}
	for _, r := range text {
		wide = binary.LittleEndian.AppendUint32(wide, uint32(r))
	}
	for _, c := range []struct {
		contentType, encoding string
		body                  []byte
		want                  bool
	}{
		{"application/json", "utf-8", []byte(text), true},
		{"application/JSON", "UTF-8", []byte(text), true},
		{" application/json ", "utf-8 ", []byte("\uFEFF" + text), true},
		{"application/json", "utf-16", little, true},
		{"application/json", "UTF-16", append([]byte{0xFF, 0xFE}, little...), true},
		{"application/json", "UTF-16", append([]byte{0xFE, 0xFF}, big...), true},
		{"application/json", "utf-32", wide, true},
		{"application/json", "utf-16", []byte(text), false},
		{"application/json", "", []byte(text), false},
		{"application/json", "ascii", []byte(text), false},
		{"", "utf-8", []byte(text), false},
		{"text/plain", "utf-8", []byte(text), false},
		{"application/json; charset=utf-8", "utf-8", []byte(text), false},
	} {
		e := &store.Event{Body: c.body}
		e.ContentType, e.ContentEncoding = c.contentType, c.encoding
		wantMatch(t, h, e, map[string]bool{`$body.a.b[1] = 'ü' AND $body.a.b[0] = 1`: c.want, `NOT ($body.a.b[0] = 2)`: c.want})
	}
}

func TestABodyThatIsNoJSONObjectMatchesNothingAndGoesByTheFallback(t *testing.T) {
	h, _ := newTestHub(t)
	setRouting(t, h, Routing{Endpoints: hubs("hot"), Routes: []Route{to("hot", "$body.a = 1 OR NOT ($body.a = 1)")}})
	s := connect(t, h, "d")
	deep := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	bodies := []string{"", "{", `[{"a":1}]`, `"a"`, `1`, `null`, "\xff\xfe", `{"a":1}{"a":1}`, deep}
	for _, body := range bodies {
		m := telemetry(body)
		m.ContentType, m.ContentEncoding = "application/json", "utf-8"
		sendTelemetry(t, s, m)
	}
	wantAt(t, h, "hot")
	wantAt(t, h, "events", bodies...)
}

// readTwins counts how often a twin is read.
type readTwins struct {
	store.Twins
	reads int
}

func (c *readTwins) Twin(ctx context.Context, key store.Key) (store.TwinRow, error) {
	c.reads++
	return c.Twins.Twin(ctx, key)
}

func TestTheTwinIsReadOnceAndOnlyWhenARouteAsks(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	tag(t, h, store.Key{DeviceID: "d"}, `{"tags":{"Floor":{"number":1}},"properties":{"desired":{"every":"5m"}}}`)
	twins := &readTwins{Twins: h.twins}
	h.twins = twins
	setRouting(t, h, Routing{
		Endpoints:   hubs("a", "b", "c"),
		Routes:      []Route{to("a", "x = '1'"), to("b", "y = '1' AND $twin.tags.floor.NUMBER = 1"), to("c", "y = '1' AND $twin.properties.desired.every = '5m' AND $twin.properties.desired.$version = 2")},
		Enrichments: []Enrichment{{Key: "floor", Value: "$twin.tags.floor.number", EndpointNames: []string{"b"}}},
	})
	sendTelemetry(t, s, telemetry("1", "x=1"))
	if twins.reads != 0 {
		t.Errorf("the twin was read %d times for nothing", twins.reads)
	}
	sendTelemetry(t, s, telemetry("2", "y=1"), telemetry("3", "y=1"), telemetry("4", "y=1"))
	if twins.reads != 1 {
		t.Errorf("the twin was read %d times", twins.reads)
	}
	wantAt(t, h, "b", "2", "3", "4")
	wantAt(t, h, "c", "2", "3", "4")
}

func TestTheTwinOfAModuleIsItsOwn(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	key := store.Key{DeviceID: "d", ModuleID: "m"}
	addDevice(t, h, key)
	tag(t, h, store.Key{DeviceID: "d"}, `{"tags":{"of":"device"}}`)
	tag(t, h, key, `{"tags":{"of":"module"}}`)
	e := &store.Event{DeviceID: "d", ModuleID: "m"}
	wantMatch(t, h, e, map[string]bool{`$twin.tags.of = 'module'`: true, `$twin.tags.of = 'device'`: false})
	wantMatch(t, h, &store.Event{DeviceID: "gone"}, map[string]bool{`$twin.tags.of = 'device'`: false, `NOT is_defined($twin.tags.of)`: true})
}

// wantProperties compares the application properties of the events at an endpoint.
func wantProperties(t testing.TB, h *Hub, endpoint string, want ...[]store.Property) {
	t.Helper()
	events, err := h.routings.current.Load().find(endpoint).log.Read(ctx, PartitionOf("d", h.routings.current.Load().find(endpoint).log.Partitions()), 0, 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]store.Property
	for i := range events {
		got = append(got, events[i].Properties)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("at %s (-want +got):\n%s", endpoint, diff)
	}
}

func TestEnrichmentsAreAddedAtTheirEndpointsAndNowhereElse(t *testing.T) {
	h, _ := newTestHub(t, func(cfg *Config) { cfg.Name = "myhub" })
	s := connect(t, h, "d")
	tag(t, h, store.Key{DeviceID: "d"}, `{"tags":{"place":{"floor":3,"indoor":true},"name":"x"},"properties":{"desired":{"every":"5m"}}}`)
	enrich := func(key, value string) Enrichment {
		return Enrichment{Key: key, Value: value, EndpointNames: []string{"hot", "events"}}
	}
	setRouting(t, h, Routing{Endpoints: hubs("hot", "plain"), Routes: []Route{to("hot", ""), to("plain", ""), to("events", "")}, Enrichments: []Enrichment{
		enrich("hub", "$iothubname"), enrich("customer", "contoso"), enrich("floor", "$twin.tags.place.floor"), enrich("indoor", "$twin.tags.place.indoor"),
		enrich("every", "$twin.properties.desired.every"), enrich("object", "$twin.tags.place"), enrich("missing", "$twin.tags.missing"), enrich("Mine", "theirs"),
	}})
	m := telemetry("1", "mine=own")
	sendTelemetry(t, s, m)
	want := []store.Property{
		{Name: "mine", Value: "own"}, // IoT Hub never modifies application properties
		{Name: "hub", Value: "myhub"}, {Name: "customer", Value: "contoso"}, {Name: "floor", Value: "3"}, {Name: "indoor", Value: "true"}, {Name: "every", Value: "5m"},
		{Name: "object", Value: "$twin.tags.place"}, {Name: "missing", Value: "$twin.tags.missing"},
	}
	for name, want := range map[string][]store.Property{"hot": want, "events": want, "plain": m.Properties} {
		wantProperties(t, h, name, want)
	}
}

func TestAMessageThatEnrichmentsMakeTooLargeIsDropped(t *testing.T) {
	h, _ := newTestHub(t)
	r := metricsOf(t, h)
	setRouting(t, h, Routing{Endpoints: hubs("hot"), Routes: []Route{to("hot", ""), to("events", "")},
		Enrichments: []Enrichment{{Key: "k", Value: "value", EndpointNames: []string{"hot"}}}})
	s := connect(t, h, "d")
	large := Telemetry{Body: make([]byte, maxTelemetry-len(s.to))}
	sendTelemetry(t, s, large)
	sendTelemetry(t, s, telemetry("2"))
	wantAt(t, h, "hot", "2")
	if got := len(bodiesAt(t, h, "events")); got != 2 {
		t.Errorf("%d events at the built-in endpoint", got)
	}
	if got := values(t, r)["iothub_d2c_telemetry_egress_invalid_total"]; got != 1 {
		t.Errorf("%v messages are counted as invalid", got)
	}
}

func TestDigitalTwinChangesAreNotEnriched(t *testing.T) {
	h, _ := newTestHub(t)
	var routes []Route
	for i, source := range []RouteSource{DigitalTwinChangeEvents, TwinChangeEvents} {
		routes = append(routes, Route{Name: string(rune('a' + i)), Source: source, EndpointNames: []string{"hot"}})
	}
	setRouting(t, h, Routing{Endpoints: hubs("hot"), Routes: routes, Enrichments: []Enrichment{{Key: "k", Value: "v", EndpointNames: []string{"hot"}}}})
	for _, source := range []RouteSource{DigitalTwinChangeEvents, TwinChangeEvents} {
		if err := h.deliver(ctx, source, 0, store.Event{DeviceID: "d"}); err != nil {
			t.Fatal(err)
		}
	}
	wantProperties(t, h, "hot", nil, []store.Property{{Name: "k", Value: "v"}})
}
