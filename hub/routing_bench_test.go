package hub

import (
	"context"
	"fmt"
	"testing"

	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// BenchmarkRouteCondition is what one condition costs for one message, with its body parsed and its twin read anew.
func BenchmarkRouteCondition(b *testing.B) {
	h, _ := newTestHub(b)
	connect(b, h, "d")
	tag(b, h, store.Key{DeviceID: "d"}, `{"tags":{"floor":1}}`)
	e := &store.Event{DeviceID: "d", Properties: []store.Property{{Name: "temperatureAlert", Value: "false"}, {Name: "severity", Value: "5"}}}
	e.ContentType, e.ContentEncoding = "application/json", "utf-8"
	e.Body = []byte(`{"deviceId":"d","temperature":21.5,"humidity":60,"location":{"building":"43","floor":1},"history":[20.5,20.8,21.1]}`)
	for name, text := range map[string]string{
		"property": `temperatureAlert = 'true'`,
		"number":   `as_number(severity) <= 2 OR $connectionDeviceId = 'x'`,
		"body":     `$body.temperature > 30`,
		"behind":   `temperatureAlert = 'true' AND $body.temperature > 30`, // the property decides
		"twin":     `$twin.tags.floor = 2`,
	} {
		c, err := query.ParseRouteCondition(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			m := &routeMessage{hub: h}
			for b.Loop() {
				*m = routeMessage{hub: h}
				m.read(e)
				if m.matches(c) {
					b.Fatal("it matches")
				}
			}
		})
	}
}

// BenchmarkSendRouted is SendTelemetry with so many routes, of which the last one's condition holds.
func BenchmarkSendRouted(b *testing.B) {
	for _, of := range []string{"property", "body"} {
		for _, n := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("%s/%d", of, n), func(b *testing.B) {
				h, _ := newTestHub(b)
				r := Routing{Endpoints: hubs("hot")}
				for i := range n {
					condition := map[string]string{"property": `temperatureAlert = 'false' AND id = '%d'`, "body": `$body.id = %d`}[of]
					r.Routes = append(r.Routes, Route{Name: fmt.Sprint("r", i), Source: DeviceMessages, Condition: fmt.Sprintf(condition, i), EndpointNames: []string{"hot"}})
				}
				setRouting(b, h, r)
				s := connect(b, h, "d1")
				m := telemetry256()
				m.Properties = append(m.Properties, store.Property{Name: "id", Value: fmt.Sprint(n - 1)})
				m.Body = fmt.Appendf(nil, `{"id":%d,"text":"%0200d"}`, n-1, 0)
				b.ReportAllocs()
				for b.Loop() {
					if err := s.SendTelemetry(context.Background(), m); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func TestAConditionOnPropertiesTakesNoMemory(t *testing.T) {
	h, _ := newTestHub(t)
	e := &store.Event{DeviceID: "d", Properties: []store.Property{{Name: "severity", Value: "5"}}}
	m := &routeMessage{hub: h}
	m.read(e)
	for _, text := range []string{`severity = '4'`, `as_number(severity) < 4`, `$connectionDeviceId = 'x' OR starts_with(severity, '4')`, `is_defined(missing)`} {
		c, err := query.ParseRouteCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { m.matches(c) }); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

// BenchmarkSendToOutside is what a device's send costs when its messages wait for an endpoint outside: one that takes them, and one that is
// down.
func BenchmarkSendToOutside(b *testing.B) {
	for name, down := range map[string]error{"up": nil, "down": refusedError{"Transient"}} {
		b.Run(name, func(b *testing.B) {
			h, _ := newTestHub(b, func(cfg *Config) {
				cfg.Sinks = func(External, func(int)) (Sink, error) { return quietSink{down}, nil }
				cfg.Routing = toQueue("x")
			})
			s := connect(b, h, "d1")
			m := telemetry256()
			b.ReportAllocs()
			for b.Loop() {
				if err := s.SendTelemetry(context.Background(), m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// quietSink takes everything, or nothing.
type quietSink struct{ err error }

func (s quietSink) Deliver(_ context.Context, messages []store.Event) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	return len(messages), nil
}

func (quietSink) Close() error { return nil }
