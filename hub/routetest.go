package hub

import (
	"context"
	"errors"
	"strings"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// RouteTest is a message to try routes with (Azure Resource Manager: TestAllRoutesInput).
type RouteTest struct {
	Source  RouteSource      `json:"routingSource,omitempty"` // [DeviceMessages]
	Message RouteTestMessage `json:"message"`
	Twin    *RouteTestTwin   `json:"twin,omitempty"` // [that of the device in the system property connectionDeviceId]
}

// RouteTestMessage is the message.
type RouteTestMessage struct {
	Body             string            `json:"body,omitempty"` // as text, whatever contentEncoding says
	AppProperties    map[string]string `json:"appProperties,omitempty"`
	SystemProperties map[string]string `json:"systemProperties,omitempty"` // by the names that conditions know, without $; others are ignored
}

// RouteTestTwin is the twin of who sent it.
type RouteTestTwin struct {
	Tags       document.Value          `json:"tags"`
	Properties RouteTestTwinProperties `json:"properties"`
}

// RouteTestTwinProperties are the properties of a RouteTestTwin.
type RouteTestTwinProperties struct {
	Desired  document.Value `json:"desired"`
	Reported document.Value `json:"reported"`
}

// RouteTestResult says where a message would go.
type RouteTestResult struct {
	Routes    []Route  // that match
	Endpoints []string // that get the message
	Fallback  bool     // it goes by the fallback route
}

// TestRoutes says which of the enabled routes a message would match, and sends nothing. CodeArgumentInvalid for an unknown source.
func (h *Hub) TestRoutes(_ context.Context, t RouteTest) (RouteTestResult, error) {
	if t.Source == "" {
		t.Source = DeviceMessages
	}
	if !knownSource(&t.Source) {
		return RouteTestResult{}, h.NewError(CodeArgumentInvalid, "routingSource: "+string(t.Source)+" is none of "+sourceNames())
	}
	r := h.routings.current.Load()
	m := t.routeMessage(h)
	var result RouteTestResult
	s := &r.sources[sourceIndex(t.Source)]
	enabled := 0 // of this source, in the order of s.routes
	for _, route := range r.routing.Routes {
		if route.Source != t.Source || !*route.IsEnabled {
			continue
		}
		if m.goesBy(&s.routes[enabled]) {
			result.Routes = append(result.Routes, route)
		}
		enabled++
	}
	to, byFallback := s.choose(m)
	result.Fallback = byFallback
	for i, e := range r.endpoints {
		if to&(1<<i) != 0 {
			result.Endpoints = append(result.Endpoints, e.name)
		}
	}
	return result, nil
}

// OneRouteTest is a message to try one route with, which the hub need not have (Azure Resource Manager: TestRouteInput).
type OneRouteTest struct {
	Route   Route            `json:"route"`
	Message RouteTestMessage `json:"message"`
	Twin    *RouteTestTwin   `json:"twin,omitempty"` // as in RouteTest
}

// RouteOutcome says whether a message matches a route.
type RouteOutcome string

// The outcomes.
const (
	RouteMatches   RouteOutcome = "true"
	RouteFails     RouteOutcome = "false"
	RouteUndefined RouteOutcome = "undefined" // the message lacks something, or the condition is broken
)

// TestRoute says whether a message would match a route's condition. broken is not nil when that cannot be parsed.
func (h *Hub) TestRoute(_ context.Context, t OneRouteTest) (outcome RouteOutcome, broken *query.SyntaxError) {
	c, err := query.ParseRouteCondition(t.Route.Condition)
	if errors.As(err, &broken) {
		return RouteUndefined, broken
	}
	test := RouteTest{Message: t.Message, Twin: t.Twin}
	switch matches, undefined := c.Matches(test.routeMessage(h)); {
	case matches:
		return RouteMatches, nil
	case undefined:
		return RouteUndefined, nil
	}
	return RouteFails, nil
}

// routeMessage returns the message as conditions see it.
func (t *RouteTest) routeMessage(h *Hub) *routeMessage {
	e := &store.Event{Body: []byte(t.Message.Body), Enqueued: h.clock.Now()}
	for name, value := range t.Message.AppProperties {
		e.Properties = append(e.Properties, store.Property{Name: name, Value: value})
	}
	for name, value := range t.Message.SystemProperties {
		canonical, _ := query.SystemProperty(strings.TrimPrefix(name, "$"))
		if field := systemField(e, canonical); field != nil {
			*field = value
		}
	}
	m := &routeMessage{hub: h}
	m.read(e)
	if isJSONText(e) { // a text is no UTF-16 any more
		m.body, m.bodyParsed = parseObject(e.Body), true
	}
	if t.Twin != nil {
		m.twinRead, m.hasTwin = true, true
		m.twin.Tags, m.twin.Desired.Value, m.twin.Reported.Value = t.Twin.Tags, t.Twin.Properties.Desired, t.Twin.Properties.Reported
	}
	return m
}
