package hub

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Limits of a routing (IoT Hub, paid tiers: "a maximum of 100 routing rules", "a maximum of 10 custom endpoints across all endpoint types", "up to
// 10 enrichments per IoT hub").
const (
	maxRoutes       = 100
	maxEndpoints    = 10
	maxEnrichments  = 10
	maxRoutingName  = 64
	maxEnrichment   = 4096 // characters of a value; Iolite's own
	defaultHubParts = 4
)

// at is where something stands in a routing.
func at(list string, i int, name string) string {
	if name == "" {
		return fmt.Sprintf("%s[%d]", list, i)
	}
	return fmt.Sprintf("%s[%d] (%s)", list, i, name)
}

// routingError says what is wrong with a routing, and where.
func (h *Hub) routingError(at, problem string) *Error {
	return h.NewError(CodeArgumentInvalid, "routing: "+at+": "+problem)
}

// completeRouting returns a copy of a routing with its defaults, in which names and sources are checked. Conditions are not.
func (h *Hub) completeRouting(from Routing) (Routing, error) {
	r := from.clone()
	if r.FallbackRoute == nil {
		r.FallbackRoute = &FallbackRoute{}
	}
	for _, check := range []func(*Routing) error{h.checkEndpoints, h.checkRoutes, h.checkFallback, h.checkEnrichments} {
		if err := check(&r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// clone returns a copy that shares nothing that could change. Lists are never nil.
func (r Routing) clone() Routing {
	r.Endpoints.EventHubs = copied(r.Endpoints.EventHubs)
	r.Endpoints.ServiceBusQueues = copied(r.Endpoints.ServiceBusQueues)
	r.Endpoints.ServiceBusTopics = copied(r.Endpoints.ServiceBusTopics)
	r.Endpoints.StorageContainers = copied(r.Endpoints.StorageContainers)
	r.Routes, r.Enrichments = copied(r.Routes), copied(r.Enrichments)
	for i := range r.Endpoints.EventHubs {
		r.Endpoints.EventHubs[i].ConsumerGroups = slices.Clone(r.Endpoints.EventHubs[i].ConsumerGroups)
	}
	for i := range r.Routes {
		r.Routes[i].EndpointNames, r.Routes[i].IsEnabled = copied(r.Routes[i].EndpointNames), enabled(r.Routes[i].IsEnabled)
	}
	for i := range r.Enrichments {
		r.Enrichments[i].EndpointNames = copied(r.Enrichments[i].EndpointNames)
	}
	if r.FallbackRoute != nil {
		f := *r.FallbackRoute
		f.EndpointNames, f.IsEnabled = slices.Clone(f.EndpointNames), enabled(f.IsEnabled)
		r.FallbackRoute = &f
	}
	return r
}

func copied[T any](s []T) []T { return append(make([]T, 0, len(s)), s...) }

// enabled copies isEnabled; nil is true.
func enabled(is *bool) *bool { return new(is == nil || *is) }

// checkName holds the rules of the names of endpoints and routes: "The name can only include alphanumeric characters, periods, underscores,
// hyphens and has a maximum length of 64 characters".
func (h *Hub) checkName(at, name string) error {
	if len(name) == 0 || len(name) > maxRoutingName || strings.Trim(name, nameCharacters) != "" {
		return h.routingError(at, "the name "+strconv.Quote(name)+" is not of 1 to 64 letters, digits and ._-")
	}
	return nil
}

const nameCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

// reservedEndpoints are names that no custom endpoint may have ("the following names are reserved: events, fileNotifications, $default").
var reservedEndpoints = []string{builtInEndpoint, "fileNotifications", "$default"}

// checkEndpoints checks the custom endpoints and fills in their defaults.
func (h *Hub) checkEndpoints(r *Routing) error {
	n := &names{hub: h, taken: map[string]bool{}}
	e := &r.Endpoints
	for i := range e.EventHubs {
		n.add(at("endpoints.eventHubs", i, e.EventHubs[i].Name), e.EventHubs[i].Name)
		n.keep(h.checkHubEndpoint(at("endpoints.eventHubs", i, e.EventHubs[i].Name), &e.EventHubs[i]))
	}
	n.addServiceBus("endpoints.serviceBusQueues", e.ServiceBusQueues)
	n.addServiceBus("endpoints.serviceBusTopics", e.ServiceBusTopics)
	for i := range e.StorageContainers {
		place := at("endpoints.storageContainers", i, e.StorageContainers[i].Name)
		n.add(place, e.StorageContainers[i].Name)
		n.keep(h.checkContainer(place, &e.StorageContainers[i]))
	}
	if len(n.taken) > maxEndpoints {
		return h.routingError("endpoints", fmt.Sprintf("there are %d custom endpoints; at most %d are allowed", len(n.taken), maxEndpoints))
	}
	return n.err
}

// names checks that names of endpoints are good and differ.
type names struct {
	hub   *Hub
	taken map[string]bool
	err   error // the first
}

func (n *names) keep(err error) {
	if n.err == nil {
		n.err = err
	}
}

func (n *names) add(at, name string) {
	key := strings.ToLower(name)
	switch {
	case slices.ContainsFunc(reservedEndpoints, func(r string) bool { return strings.EqualFold(r, name) }), strings.EqualFold(name, n.hub.cfg.Name):
		n.keep(n.hub.routingError(at, "the name "+strconv.Quote(name)+" is reserved"))
	case n.taken[key]:
		n.keep(n.hub.routingError(at, "another endpoint is called "+strconv.Quote(name)+"; names are unique across endpoint types"))
	default:
		n.keep(n.hub.checkName(at, name))
	}
	n.taken[key] = true
}

func (n *names) addServiceBus(kind string, list []ServiceBusEndpoint) {
	for i := range list {
		place := at(kind, i, list[i].Name)
		n.add(place, list[i].Name)
		n.keep(n.hub.needText(place+".connectionString", list[i].ConnectionString))
	}
}

func (h *Hub) needText(at, text string) error {
	if text == "" {
		return h.routingError(at, "it must be given")
	}
	return nil
}

func (h *Hub) checkHubEndpoint(at string, e *EventHubEndpoint) error {
	if e.ConnectionString != "" {
		if e.Partitions != 0 || len(e.ConsumerGroups) > 0 {
			return h.routingError(at, "partitions and consumerGroups are for event hubs of this process, which have no connectionString")
		}
		return nil
	}
	if e.Partitions == 0 {
		e.Partitions = defaultHubParts
	}
	if err := h.checkEventHub(e.Name, e.Partitions, e.ConsumerGroups); err != nil {
		problem, _ := AsError(err)
		return h.routingError(at, strings.TrimPrefix(problem.Text, rows[CodeArgumentInvalid].Text+": "))
	}
	if len(e.ConsumerGroups) >= maxGroups {
		return h.routingError(at+".consumerGroups", fmt.Sprintf("there are %d; at most %d are allowed besides %s", len(e.ConsumerGroups), maxGroups-1, defaultGroup))
	}
	return nil
}

// Bounds and defaults of blob containers (Azure Resource Manager: RoutingStorageContainerProperties).
const (
	minBatchSeconds, maxBatchSeconds, defaultBatchSeconds = 60, 720, 300
	minChunk, maxChunk, defaultChunk                      = 10 << 20, 500 << 20, 300 << 20
	defaultFileName                                       = "{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}/{mm}"
)

// fileNameTokens must all stand in a fileNameFormat.
var fileNameTokens = []string{"{iothub}", "{partition}", "{YYYY}", "{MM}", "{DD}", "{HH}", "{mm}"}

func (h *Hub) checkContainer(at string, e *ContainerEndpoint) error {
	if e.FileNameFormat == "" {
		e.FileNameFormat = defaultFileName
	}
	if e.BatchFrequencyInSeconds == 0 {
		e.BatchFrequencyInSeconds = defaultBatchSeconds
	}
	if e.MaxChunkSizeInBytes == 0 {
		e.MaxChunkSizeInBytes = defaultChunk
	}
	for _, token := range fileNameTokens {
		if !strings.Contains(e.FileNameFormat, token) {
			return h.routingError(at+".fileNameFormat", token+" is missing; every one of "+strings.Join(fileNameTokens, " ")+" must be used")
		}
	}
	switch {
	case e.ConnectionString == "":
		return h.needText(at+".connectionString", "")
	case e.ContainerName == "":
		return h.needText(at+".containerName", "")
	case e.BatchFrequencyInSeconds < minBatchSeconds || e.BatchFrequencyInSeconds > maxBatchSeconds:
		return h.routingError(at+".batchFrequencyInSeconds", fmt.Sprintf("%d is not between %d and %d", e.BatchFrequencyInSeconds, minBatchSeconds, maxBatchSeconds))
	case e.MaxChunkSizeInBytes < minChunk || e.MaxChunkSizeInBytes > maxChunk:
		return h.routingError(at+".maxChunkSizeInBytes", fmt.Sprintf("%d is not between %d and %d", e.MaxChunkSizeInBytes, minChunk, maxChunk))
	case !strings.EqualFold(e.Encoding, "JSON"):
		return h.routingError(at+".encoding", "it must be JSON; Avro, the real hub's default, is not implemented")
	}
	e.Encoding = "JSON"
	return nil
}

// checkRoutes checks names and sources of the routes.
func (h *Hub) checkRoutes(r *Routing) error {
	if len(r.Routes) > maxRoutes {
		return h.routingError("routes", fmt.Sprintf("there are %d; at most %d are allowed", len(r.Routes), maxRoutes))
	}
	taken := map[string]bool{}
	for i := range r.Routes {
		route := &r.Routes[i]
		place := at("routes", i, route.Name)
		if err := h.checkName(place, route.Name); err != nil {
			return err
		}
		if key := strings.ToLower(route.Name); taken[key] {
			return h.routingError(place, "another route is called "+strconv.Quote(route.Name))
		} else {
			taken[key] = true
		}
		if !knownSource(&route.Source) {
			return h.routingError(place+".source", strconv.Quote(string(route.Source))+" is none of "+sourceNames())
		}
		orTrue(&route.Condition)
	}
	return nil
}

// knownSource brings a source into its documented spelling.
func knownSource(s *RouteSource) bool {
	for _, known := range routeSources {
		if strings.EqualFold(string(known), string(*s)) {
			*s = known
			return true
		}
	}
	return false
}

func sourceNames() string {
	var b strings.Builder
	for i, s := range routeSources {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(s))
	}
	return b.String()
}

// orTrue fills in the default condition ("If no condition is provided, it evaluates to true by default").
func orTrue(condition *string) {
	if strings.TrimSpace(*condition) == "" {
		*condition = "true"
	}
}

func (h *Hub) checkFallback(r *Routing) error {
	f := r.FallbackRoute
	if f.Source == "" {
		f.Source = DeviceMessages
	}
	if !knownSource(&f.Source) || f.Source != DeviceMessages {
		return h.routingError("fallbackRoute.source", "it must be "+string(DeviceMessages))
	}
	if len(f.EndpointNames) == 0 {
		f.EndpointNames = []string{builtInEndpoint}
	}
	f.IsEnabled = enabled(f.IsEnabled)
	orTrue(&f.Condition)
	return nil
}

// checkEnrichments checks keys and values ("A key can only contain alphanumeric characters or these special characters: hyphen, underscore, and
// period").
func (h *Hub) checkEnrichments(r *Routing) error {
	if len(r.Enrichments) > maxEnrichments {
		return h.routingError("enrichments", fmt.Sprintf("there are %d; at most %d are allowed", len(r.Enrichments), maxEnrichments))
	}
	taken := map[string]bool{}
	for i := range r.Enrichments {
		n := &r.Enrichments[i]
		place, key := at("enrichments", i, n.Key), strings.ToLower(n.Key)
		switch {
		case n.Key == "" || len(n.Key) > maxRoutingName || strings.Trim(n.Key, nameCharacters) != "":
			return h.routingError(place, "the key "+strconv.Quote(n.Key)+" is not of 1 to 64 letters, digits and ._-")
		case taken[key]:
			return h.routingError(place, "another enrichment has the key "+strconv.Quote(n.Key))
		case n.Value == "" || len(n.Value) > maxEnrichment:
			return h.routingError(place+".value", fmt.Sprintf("it has %d characters, not 1 to %d", len(n.Value), maxEnrichment))
		case !validEnrichmentValue(n.Value):
			return h.routingError(place+".value", strconv.Quote(n.Value)+" is none of $twin.tags, $twin.properties.desired and $twin.properties.reported with a name")
		case len(n.EndpointNames) == 0:
			return h.routingError(place+".endpointNames", "at least one endpoint must be named")
		}
		taken[key] = true
		for _, name := range n.EndpointNames {
			if !r.hasEndpoint(name) {
				return h.routingError(place+".endpointNames", "there is no endpoint "+strconv.Quote(name))
			}
		}
	}
	return nil
}

// validEnrichmentValue reports whether a value that begins with $twin names something in a twin.
func validEnrichmentValue(value string) bool {
	path := twinPathOf(value)
	switch {
	case path == nil:
		return !strings.EqualFold(value, "$twin")
	case slices.Contains(path, ""):
		return false
	case strings.EqualFold(path[0], "tags"):
		return len(path) > 1
	}
	return len(path) > 2 && strings.EqualFold(path[0], "properties") && (strings.EqualFold(path[1], "desired") || strings.EqualFold(path[1], "reported"))
}

// hasEndpoint reports whether there is an endpoint with a name.
func (r *Routing) hasEndpoint(name string) bool {
	is := func(other string) bool { return strings.EqualFold(name, other) }
	e := &r.Endpoints
	return is(builtInEndpoint) ||
		slices.ContainsFunc(e.EventHubs, func(e EventHubEndpoint) bool { return is(e.Name) }) ||
		slices.ContainsFunc(e.ServiceBusQueues, func(e ServiceBusEndpoint) bool { return is(e.Name) }) ||
		slices.ContainsFunc(e.ServiceBusTopics, func(e ServiceBusEndpoint) bool { return is(e.Name) }) ||
		slices.ContainsFunc(e.StorageContainers, func(e ContainerEndpoint) bool { return is(e.Name) })
}
