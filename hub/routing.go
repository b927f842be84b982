package hub

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/iolite-emulator/iolite/store"
)

// RouteSource is what a route takes (Azure Resource Manager: RoutingSource).
type RouteSource string

// The sources of routes. Each message says its own in iothub-message-source, spelt differently.
const (
	DeviceMessages              RouteSource = "DeviceMessages"
	TwinChangeEvents            RouteSource = "TwinChangeEvents"
	DeviceLifecycleEvents       RouteSource = "DeviceLifecycleEvents"
	DeviceConnectionStateEvents RouteSource = "DeviceConnectionStateEvents"
	DigitalTwinChangeEvents     RouteSource = "DigitalTwinChangeEvents"
	DeviceJobLifecycleEvents    RouteSource = "DeviceJobLifecycleEvents"
)

// builtInEndpoint is the name of the Event Hubs-compatible endpoint in routes.
const builtInEndpoint = "events"

// Routing is where messages go, in the form of the property routing of an IoT hub in Azure Resource Manager.
type Routing struct {
	Endpoints     Endpoints      `json:"endpoints"`
	Routes        []Route        `json:"routes"`
	FallbackRoute *FallbackRoute `json:"fallbackRoute,omitempty"` // nil: enabled, to the built-in endpoint
	Enrichments   []Enrichment   `json:"enrichments"`
}

// Endpoints are the custom endpoints of a hub. Their names differ, whatever their kind.
type Endpoints struct {
	EventHubs         []EventHubEndpoint   `json:"eventHubs"`
	ServiceBusQueues  []ServiceBusEndpoint `json:"serviceBusQueues"`
	ServiceBusTopics  []ServiceBusEndpoint `json:"serviceBusTopics"`
	StorageContainers []ContainerEndpoint  `json:"storageContainers"`
}

// EventHubEndpoint is an event hub: elsewhere with a connection string, in this process without one.
type EventHubEndpoint struct {
	Name             string   `json:"name"`
	ConnectionString string   `json:"connectionString,omitempty"` // with EntityPath
	Partitions       int      `json:"partitions,omitempty"`       // of an event hub in this process, 1 to 32 [4]
	ConsumerGroups   []string `json:"consumerGroups,omitempty"`   // of an event hub in this process, besides $Default
}

// ServiceBusEndpoint is a queue or a topic of Service Bus, or of another AMQP 1.0 broker.
type ServiceBusEndpoint struct {
	Name             string `json:"name"`
	ConnectionString string `json:"connectionString"` // with EntityPath
}

// ContainerEndpoint is a blob container that messages are written to in batches.
type ContainerEndpoint struct {
	Name                    string `json:"name"`
	ConnectionString        string `json:"connectionString"` // of the storage account
	ContainerName           string `json:"containerName"`
	FileNameFormat          string `json:"fileNameFormat,omitempty"`          // ["{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}/{mm}"]
	BatchFrequencyInSeconds int    `json:"batchFrequencyInSeconds,omitempty"` // 60 to 720 [300]
	MaxChunkSizeInBytes     int    `json:"maxChunkSizeInBytes,omitempty"`     // 10 MiB to 500 MiB [300 MiB]
	Encoding                string `json:"encoding,omitempty"`                // JSON; Avro, which is the real hub's default, must be refused
}

// Route sends what a source gives and a condition selects to an endpoint.
type Route struct {
	Name          string      `json:"name"`
	Source        RouteSource `json:"source"`
	Condition     string      `json:"condition,omitempty"` // in the routing query language ["true"]
	EndpointNames []string    `json:"endpointNames"`       // exactly one, as in the real hub
	IsEnabled     *bool       `json:"isEnabled,omitempty"` // [true]
}

// FallbackRoute takes the device messages that no route takes.
type FallbackRoute struct {
	Name          string      `json:"name,omitempty"`
	Source        RouteSource `json:"source,omitempty"`        // DeviceMessages
	Condition     string      `json:"condition,omitempty"`     // ["true"]
	EndpointNames []string    `json:"endpointNames,omitempty"` // exactly one ["events"]
	IsEnabled     *bool       `json:"isEnabled,omitempty"`     // [true]
}

// Enrichment adds an application property to messages on their way to some endpoints.
type Enrichment struct {
	Key           string   `json:"key"`
	Value         string   `json:"value"` // a text, $iothubname, or $twin.tags.x, $twin.properties.desired.x, $twin.properties.reported.x
	EndpointNames []string `json:"endpointNames"`
}

// ErrUndeliverable says that an endpoint will never take a message.
var ErrUndeliverable = errors.New("the endpoint refuses the message")

// Sink takes messages to an endpoint outside of the hub. One goroutine uses it. One that was never asked to deliver needs no Close.
type Sink interface {
	// Deliver sends messages in order and returns how many the endpoint has taken; err says why it took no more. An error that
	// errors.Is ErrUndeliverable holds for concerns the next message alone, which is to be dropped; after others it is worth to try again.
	Deliver(ctx context.Context, messages []store.Event) (taken int, err error)
	// Close gives up connections. What was taken has been stored by the endpoint before.
	Close() error
}

// routings are the routing in force and the way to another one.
type routings struct {
	mu      sync.Mutex // held while the routing changes; before any gate
	current atomic.Pointer[router]
}

// Routing returns the routing in force with all defaults filled in.
func (h *Hub) Routing() Routing { return h.routings.current.Load().routing.clone() }

// SetRouting replaces the whole routing, or nothing when it fails. Messages that are being sent meanwhile go by the old or by the new one, and
// when it returns, none goes by the old one any more. Event hubs and waiting messages of endpoints that are gone, are gone with them; those of
// endpoints that stay are kept. CodeArgumentInvalid says what is wrong, and where.
func (h *Hub) SetRouting(ctx context.Context, to Routing) error {
	h.routings.mu.Lock()
	defer h.routings.mu.Unlock()
	old := h.routings.current.Load()
	r, err := h.newRouter(to)
	if err != nil {
		return err
	}
	if err := h.openEndpoints(ctx, r); err != nil {
		return errors.Join(err, h.dropEndpoints(ctx, r, old))
	}
	h.routings.current.Store(r)
	for i := range h.gates { // whoever is inside may go by the old one
		h.gates[i].mu.Lock()
		h.gates[i].mu.Unlock() //nolint:staticcheck // it is enough to have been alone
	}
	h.outlets.turn(h, r)
	return h.dropEndpoints(ctx, old, r)
}

// dropEndpoints drops the endpoints that are in one router and not in the next.
func (h *Hub) dropEndpoints(ctx context.Context, old, next *router) error {
	for _, e := range old.endpoints[builtInPlace+1:] {
		if n := next.find(e.name); e.log != nil && (n == nil || n.external != e.external) {
			if err := e.drop(ctx, h); err != nil {
				return err
			}
		}
	}
	return nil
}

// resetRouting returns to the routing that the hub began with. The caller holds routings.mu, and every gate if there are sessions.
func (h *Hub) resetRouting(ctx context.Context) error {
	r, err := h.newRouter(h.cfg.Routing)
	if err != nil {
		return err
	}
	if err := h.openEndpoints(ctx, r); err != nil {
		return err
	}
	h.routings.current.Store(r)
	h.outlets.turn(h, r)
	return nil
}

// routed says whether messages of a source go anywhere; who makes them looks here first, since most hubs have no routes.
func (h *Hub) routed(source RouteSource) bool {
	return h.routings.current.Load().sources[sourceIndex(source)].routed
}

// deliver stores messages of one device where the routes want them. All are of one source and one partition, and the caller is
// inside the gate of that partition (enter). On return they are as durable as the engine makes them.
func (h *Hub) deliver(ctx context.Context, source RouteSource, partition int, messages ...store.Event) error {
	r := h.routings.current.Load()
	s := &r.sources[sourceIndex(source)]
	switch {
	case s.builtInOnly:
		return r.endpoints[builtInPlace].append(ctx, s.index, partition, messages)
	case s.routed:
		return h.dispatch(ctx, r, s, partition, messages)
	}
	return nil
}
