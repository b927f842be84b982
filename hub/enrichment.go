package hub

import (
	"slices"
	"strings"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// enrichment is an Enrichment made ready for use at one endpoint.
type enrichment struct {
	key   string
	value string   // as configured
	path  []string // of the twin, without $twin; nil for other values
	name  bool     // the hub's name
}

// hubNameValue is the value that stands for the hub's name.
const hubNameValue = "$iothubname"

// enrich adds an enrichment if it is for the endpoint.
func (e *endpoint) enrich(n Enrichment) {
	if !slices.ContainsFunc(n.EndpointNames, func(name string) bool { return strings.EqualFold(name, e.name) }) {
		return
	}
	e.enrichments = append(e.enrichments, enrichment{key: n.Key, value: n.Value, path: twinPathOf(n.Value), name: strings.EqualFold(n.Value, hubNameValue)})
}

// twinPathOf returns the names of a value that begins with $twin, and nil for other values.
func twinPathOf(value string) []string {
	root, rest, found := strings.Cut(value, ".")
	if !found || !strings.EqualFold(root, query.TwinRoot) {
		return nil
	}
	return strings.Split(rest, ".")
}

// stamp adds the endpoint's enrichments to a copy of a message. It reports false when the message has become too large, and is to be dropped.
// IoT Hub never modifies application properties, so those that the message has already stay as they are.
func (e *endpoint) stamp(event *store.Event, m *routeMessage) bool {
	properties := slices.Grow(slices.Clone(event.Properties), len(e.enrichments))
	for i := range e.enrichments {
		n := &e.enrichments[i]
		if !property(event.Properties, n.key).IsDefined() {
			properties = append(properties, store.Property{Name: n.key, Value: n.of(m)})
		}
	}
	event.Properties = properties
	return messageSize(&event.SystemProperties, event.Properties, event.Body) <= maxTelemetry
}

// of returns the value for a message. What a twin does not have, or has as an object or an array, is stamped as it is configured.
func (n *enrichment) of(m *routeMessage) string {
	if n.name {
		return m.hub.cfg.Name
	}
	if n.path == nil {
		return n.value
	}
	switch v := m.twinValue(n.path); v.Kind() {
	case document.String, document.Number:
		return v.Text()
	case document.Bool:
		return boolText(v.Bool())
	case document.Undefined, document.Null, document.Array, document.Object:
	}
	return n.value
}

// boolText is how .NET writes a boolean in JSON.
func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}
