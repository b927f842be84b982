package hub

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// routeSources are all sources; their places here index what is kept for each.
var routeSources = [...]RouteSource{
	DeviceMessages, TwinChangeEvents, DeviceLifecycleEvents, DeviceConnectionStateEvents, DigitalTwinChangeEvents, DeviceJobLifecycleEvents,
}

// sourceIndex returns the place of a source.
func sourceIndex(source RouteSource) int {
	for i, s := range routeSources {
		if s == source {
			return i
		}
	}
	panic("hub: there is no route source " + string(source))
}

// builtInPlace is the place of the built-in endpoint.
const builtInPlace = 0

// router is a Routing made ready for use. It never changes.
type router struct {
	routing   Routing // complete and valid
	log       routeLog
	endpoints []*endpoint // at most maxEndpoints and the built-in one, which is the first
	sources   [len(routeSources)]routeTable
}

// routeTable is what becomes of the messages of one source.
type routeTable struct {
	index       int
	routed      bool // some go somewhere, or are counted as orphaned
	builtInOnly bool // all go to the built-in endpoint and nowhere else, as they are
	routes      []compiledRoute
	fallback    *compiledRoute // nil when disabled, and for sources that have none
}

// compiledRoute is an enabled route.
type compiledRoute struct {
	name      string
	condition *query.RouteCondition
	endpoint  int
}

// endpointSet has a bit for each endpoint of a router.
type endpointSet uint16

// endpoint is where messages go: an event hub of this process, or the log where they wait to be delivered elsewhere.
type endpoint struct {
	name        string
	kind        EndpointType
	external    bool
	config      External // of an external one
	sink        Sink     // that its outlet is made with; nil when nothing is delivered
	log         store.EventLog
	enrichments []enrichment
	meters      [len(routeSources)]*routeMeter
}

// newRouter checks a routing and makes a router of it, whose endpoints are to be opened.
func (h *Hub) newRouter(from Routing) (*router, error) {
	routing, err := h.completeRouting(from)
	if err != nil {
		return nil, err
	}
	r := &router{routing: routing, log: newRouteLog(h.log)}
	r.endpoints = append(r.endpoints, &endpoint{name: builtInEndpoint, kind: EndpointBuiltIn, log: h.events})
	r.addEndpoints()
	if err := h.compileRoutes(r); err != nil {
		return nil, err
	}
	if err := h.checkEventHubs(&r.routing); err != nil {
		return nil, err
	}
	for _, e := range r.endpoints {
		for i, source := range routeSources {
			e.meters[i] = h.metrics.routing.meter(e.kind, e.name, source)
		}
		for _, n := range r.routing.Enrichments {
			e.enrich(n)
		}
	}
	for i := range r.sources {
		r.sources[i].settle(r.endpoints)
	}
	return r, h.addSinks(r)
}

// addEndpoints lists the custom endpoints.
func (r *router) addEndpoints() {
	add := func(e External) {
		r.endpoints = append(r.endpoints, &endpoint{name: e.Name, kind: e.Kind, external: e.ConnectionString != "", config: e})
	}
	for _, e := range r.routing.Endpoints.EventHubs {
		add(External{Kind: EndpointEventHubs, Name: e.Name, ConnectionString: e.ConnectionString})
	}
	for _, e := range r.routing.Endpoints.ServiceBusQueues {
		add(External{Kind: EndpointQueues, Name: e.Name, ConnectionString: e.ConnectionString})
	}
	for _, e := range r.routing.Endpoints.ServiceBusTopics {
		add(External{Kind: EndpointTopics, Name: e.Name, ConnectionString: e.ConnectionString})
	}
	for _, e := range r.routing.Endpoints.StorageContainers {
		add(External{Kind: EndpointStorage, Name: e.Name, ConnectionString: e.ConnectionString, Container: e})
	}
}

// checkEventHubs refuses what event hubs that are there cannot become, before anything is changed: another number of partitions, with which
// their events would be lost, and more consumer groups than may be.
func (h *Hub) checkEventHubs(r *Routing) error {
	for i, e := range r.Endpoints.EventHubs {
		if e.ConnectionString != "" {
			continue
		}
		there, err := h.findEventHub(e.Name)
		if err != nil {
			continue
		}
		place := at("endpoints.eventHubs", i, e.Name)
		if n := there.log.Partitions(); n != e.Partitions {
			return h.routingError(place+".partitions", fmt.Sprintf("this event hub has %d, and their number cannot change", n))
		}
		if n := there.groupsWith(e.ConsumerGroups); n > maxGroups {
			return h.routingError(place+".consumerGroups", fmt.Sprintf("with those that this event hub has there would be %d; at most %d are allowed", n, maxGroups))
		}
	}
	return nil
}

// openEndpoints opens the logs of the endpoints.
func (h *Hub) openEndpoints(ctx context.Context, r *router) error {
	for place := range r.endpoints {
		if err := h.openEndpoint(ctx, r, place); err != nil {
			return err
		}
	}
	return nil
}

func (h *Hub) openEndpoint(ctx context.Context, r *router, place int) (err error) {
	switch e := r.endpoints[place]; {
	case e.external:
		e.log, err = h.cfg.Engine.EventHubs().Open(ctx, e.waiting(), 1) // one, so that what waits stays in one order
	case place > builtInPlace:
		config := &r.routing.Endpoints.EventHubs[place-1] // they come right after the built-in endpoint
		var hub *eventHub
		if hub, err = h.openEventHub(ctx, config.Name, config.Partitions, config.ConsumerGroups); err == nil {
			e.log = hub.log
		}
	}
	return err
}

// waiting is the name of the log where messages wait for an endpoint outside.
func (e *endpoint) waiting() string { return "waiting/" + strings.ToLower(e.name) }

// drop forgets what an endpoint holds; readers of an event hub end.
func (e *endpoint) drop(ctx context.Context, h *Hub) error {
	if e.external {
		return h.cfg.Engine.EventHubs().Drop(ctx, e.waiting())
	}
	return h.dropEventHub(ctx, e.name)
}

// find returns the endpoint with a name, nil when there is none, or no router.
func (r *router) find(name string) *endpoint {
	if r == nil {
		return nil
	}
	if i := r.place(name); i >= 0 {
		return r.endpoints[i]
	}
	return nil
}

// place returns the place of the endpoint with a name, -1 when there is none.
func (r *router) place(name string) int {
	for i, e := range r.endpoints {
		if strings.EqualFold(e.name, name) {
			return i
		}
	}
	return -1
}

// compileRoutes fills the tables of the sources.
func (h *Hub) compileRoutes(r *router) error {
	for i := range r.sources {
		r.sources[i].index = i
	}
	for i := range r.routing.Routes {
		route := &r.routing.Routes[i]
		c, err := h.compileRoute(r, at("routes", i, route.Name), route.Condition, route.EndpointNames)
		if err != nil {
			return err
		}
		c.name = route.Name
		if *route.IsEnabled {
			s := &r.sources[sourceIndex(route.Source)]
			s.routes = append(s.routes, c)
		}
	}
	f := r.routing.FallbackRoute
	c, err := h.compileRoute(r, "fallbackRoute", f.Condition, f.EndpointNames)
	c.name = "$fallback" // as the real hub's logs have it
	if err == nil && *f.IsEnabled {
		r.sources[sourceIndex(DeviceMessages)].fallback = &c
	}
	return err
}

func (h *Hub) compileRoute(r *router, at, condition string, endpointNames []string) (c compiledRoute, err error) {
	if len(endpointNames) != 1 {
		return c, h.routingError(at+".endpointNames", "exactly one endpoint must be named")
	}
	if c.endpoint = r.place(endpointNames[0]); c.endpoint < 0 {
		return c, h.routingError(at+".endpointNames", "there is no endpoint "+strconv.Quote(endpointNames[0]))
	}
	if c.condition, err = query.ParseRouteCondition(condition); err != nil {
		return c, h.routingError(at+".condition", err.Error())
	}
	return c, nil
}

// settle finds the short way for a source.
func (s *routeTable) settle(endpoints []*endpoint) {
	isDevice := routeSources[s.index] == DeviceMessages
	s.routed = isDevice || len(s.routes) > 0
	if len(s.routes) > 0 || !isDevice || s.fallback == nil {
		return
	}
	s.builtInOnly = s.fallback.endpoint == builtInPlace && s.fallback.condition.IsAlways() && len(endpoints[builtInPlace].enrichments) == 0
}
