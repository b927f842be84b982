package hub

import (
	"context"
	"math/bits"
	"sync"

	"github.com/iolite-emulator/iolite/store"
)

// choose returns the endpoints that a message goes to: each of those whose route it matches, or that of the fallback route.
func (s *routeTable) choose(m *routeMessage) (to endpointSet, byFallback bool) {
	for i := range s.routes {
		r := &s.routes[i]
		if bit := endpointSet(1) << r.endpoint; to&bit == 0 && m.goesBy(r) {
			to |= bit
		}
	}
	if to == 0 && s.fallback != nil && m.goesBy(s.fallback) {
		return 1 << s.fallback.endpoint, true
	}
	return to, false
}

// delivery is the work of one deliver.
type delivery struct {
	message routeMessage
	to      []endpointSet // of each message
	batch   []store.Event
}

var deliveries = sync.Pool{New: func() any { return new(delivery) }}

func (d *delivery) release() {
	d.message = routeMessage{}
	clear(d.batch)
	d.to, d.batch = d.to[:0], d.batch[:0]
	deliveries.Put(d)
}

// dispatch stores messages at each endpoint that one of the routes sends them to.
func (h *Hub) dispatch(ctx context.Context, r *router, s *routeTable, partition int, messages []store.Event) error {
	d := deliveries.Get().(*delivery)
	defer d.release()
	d.message.hub, d.message.log = h, &r.log
	var some endpointSet
	every := ^endpointSet(0)
	for i := range messages {
		d.message.read(&messages[i])
		to, byFallback := s.choose(&d.message)
		d.to = append(d.to, to)
		some |= to
		every &= to
		switch {
		case byFallback && len(s.routes) > 0: // nothing falls back where there are no routes
			r.endpoints[bits.TrailingZeros16(uint16(to))].meters[s.index].fall(1)
		case to == 0 && routeSources[s.index] == DeviceMessages:
			h.metrics.routing.orphan(DeviceMessages, 1)
			r.log.orphaned(&messages[i])
		}
	}
	for ; some != 0; some &= some - 1 {
		i := bits.TrailingZeros16(uint16(some))
		e, batch := r.endpoints[i], messages
		if bit := endpointSet(1) << i; every&bit == 0 || len(e.enrichments) > 0 {
			batch = d.collect(e, s, bit, messages)
		}
		if err := e.append(ctx, s.index, partition, batch); err != nil {
			return err
		}
	}
	return nil
}

// collect returns the messages for one endpoint, with its enrichments.
func (d *delivery) collect(e *endpoint, s *routeTable, bit endpointSet, messages []store.Event) []store.Event {
	clear(d.batch)
	d.batch = d.batch[:0]
	for i := range messages {
		if d.to[i]&bit == 0 {
			continue
		}
		d.batch = append(d.batch, messages[i])
		if len(e.enrichments) == 0 || routeSources[s.index] == DigitalTwinChangeEvents { // "message enrichments don't apply to digital twin change events"
			continue
		}
		one := &d.batch[len(d.batch)-1]
		d.message.read(&messages[i])
		if !e.stamp(one, &d.message) {
			e.meters[s.index].refuse(1)
			d.message.log.invalid(one, e.name)
			d.batch = d.batch[:len(d.batch)-1]
		}
	}
	return d.batch
}

// append stores messages of one device. A partition of another number of partitions is found by its id.
func (e *endpoint) append(ctx context.Context, source, partition int, messages []store.Event) error {
	if len(messages) == 0 {
		return nil
	}
	from := partition
	if n := e.log.Partitions(); n == 1 {
		partition = 0
	} else if e.kind != EndpointBuiltIn {
		partition = PartitionOf(messages[0].DeviceID, n)
	}
	if _, err := e.log.Append(ctx, partition, messages...); err != nil {
		return err
	}
	if e.external {
		return nil // whoever delivers them counts
	}
	size := 0
	for i := range messages {
		m := &messages[i]
		size += messageSize(&m.SystemProperties, m.Properties, m.Body)
	}
	e.meters[source].stored(from, len(messages), size, messages[0].Enqueued)
	return nil
}
