package hub

import (
	"context"
	"errors"

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
	IsEnabled     bool        `json:"isEnabled"`
}

// FallbackRoute takes the device messages that no route takes.
type FallbackRoute struct {
	Source        RouteSource `json:"source,omitempty"` // DeviceMessages
	Condition     string      `json:"condition,omitempty"`
	EndpointNames []string    `json:"endpointNames"` // the built-in endpoint
	IsEnabled     bool        `json:"isEnabled"`
}

// Enrichment adds an application property to messages on their way to some endpoints.
type Enrichment struct {
	Key           string   `json:"key"`
	Value         string   `json:"value"` // a text, $iothubname, or $twin.tags.x, $twin.properties.desired.x, $twin.properties.reported.x
	EndpointNames []string `json:"endpointNames"`
}

// ErrUndeliverable says that an endpoint will never take a message.
var ErrUndeliverable = errors.New("the endpoint refuses the message")

// Sink takes messages to an endpoint outside of the hub. One goroutine uses it.
type Sink interface {
	// Deliver sends messages in order and returns how many the endpoint has taken; err says why it took no more. An error that
	// errors.Is ErrUndeliverable holds for concerns the next message alone, which is to be dropped; after others it is worth to try again.
	Deliver(ctx context.Context, messages []store.Event) (taken int, err error)
	// Close gives up connections. What was taken has been stored by the endpoint before.
	Close() error
}

// routed says whether messages of a source go anywhere; who makes them looks here first, since most hubs have no routes.
func (h *Hub) routed(source RouteSource) bool { return source == DeviceMessages }

// deliver stores messages of one device where the routes want them. All are of one source and one partition, and the caller is
// inside the gate of that partition (enter). On return they are as durable as the engine makes them.
func (h *Hub) deliver(ctx context.Context, source RouteSource, partition int, messages ...store.Event) error {
	if !h.routed(source) {
		return nil
	}
	_, err := h.events.Append(ctx, partition, messages...)
	return err
}
