package hub

import (
	"context"
	"strconv"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// EventHub describes an event hub.
type EventHub struct {
	Name           string
	BuiltIn        bool // the hub's own endpoint
	Created        time.Time
	PartitionIDs   []string
	ConsumerGroups []string // in order
}

func (e *eventHub) describe() EventHub {
	out := EventHub{Name: e.name, BuiltIn: e == e.hub.builtIn, Created: e.created}
	for i := range e.log.Partitions() {
		out.PartitionIDs = append(out.PartitionIDs, strconv.Itoa(i))
	}
	e.mu.Lock()
	out.ConsumerGroups = e.groupNames()
	e.mu.Unlock()
	return out
}

// EventHubNames lists the event hubs that there are, the built-in endpoint among them, in order.
func (h *Hub) EventHubNames() []string {
	h.eventHubs.mu.Lock()
	defer h.eventHubs.mu.Unlock()
	return h.eventHubs.names()
}

// HasEventHub fails with CodeEntityNotFound when there is no event hub of the name.
func (h *Hub) HasEventHub(name string) error {
	_, err := h.findEventHub(name)
	return err
}

// managed returns an event hub whose $management the session may read.
func (s *ServiceSession) managed(ctx context.Context, name string) (*eventHub, error) {
	e, err := s.hub.findEventHub(name)
	if err != nil {
		return nil, err
	}
	return e, s.need(ctx, auth.ServiceConnect, e.name+"/$management")
}

// EventHub describes the event hub of a name, the built-in endpoint for the empty one. ServiceConnect. CodeEntityNotFound.
func (s *ServiceSession) EventHub(ctx context.Context, name string) (_ EventHub, err error) {
	defer func() { err = failed(opTelemetryRead, store.Key{}, err) }()
	e, err := s.managed(ctx, name)
	if err != nil {
		return EventHub{}, err
	}
	return e.describe(), nil
}

// EventHubs describes all event hubs, in the order of their names. ServiceConnect for the whole hub.
func (s *ServiceSession) EventHubs(ctx context.Context) ([]EventHub, error) {
	if err := s.need(ctx, auth.ServiceConnect, ""); err != nil {
		return nil, err
	}
	var all []EventHub
	for _, name := range s.hub.EventHubNames() {
		if e, err := s.hub.findEventHub(name); err == nil { // else it has gone meanwhile
			all = append(all, e.describe())
		}
	}
	return all, nil
}

// Partition describes one partition of an event hub.
type Partition struct {
	EventHub string
	ID       string
	store.PartitionInfo
}

// Partition describes one partition of an event hub, of the built-in endpoint for the empty name. ServiceConnect. CodeEntityNotFound,
// CodePartitionOutOfRange.
func (s *ServiceSession) Partition(ctx context.Context, eventHub, id string) (_ Partition, err error) {
	defer func() { err = failed(opTelemetryRead, store.Key{}, err) }()
	e, err := s.managed(ctx, eventHub)
	if err != nil {
		return Partition{}, err
	}
	p, err := e.partition(id)
	if err != nil {
		return Partition{}, err
	}
	info, err := e.info(ctx, p)
	return Partition{EventHub: e.name, ID: id, PartitionInfo: info}, err
}

// PutEventHub makes an event hub beside the built-in endpoint, with 1 to 32 partitions and consumer groups besides $Default. To one that
// is there it adds consumer groups. ServiceConnect for the whole hub. CodeArgumentInvalid (a name that cannot be, another number of
// partitions than it has), CodeTooManyGroups.
func (s *ServiceSession) PutEventHub(ctx context.Context, name string, partitions int, groups ...string) (EventHub, error) {
	if err := s.need(ctx, auth.ServiceConnect, ""); err != nil {
		return EventHub{}, err
	}
	e, err := s.hub.putEventHub(ctx, name, partitions, groups)
	if err != nil {
		return EventHub{}, err
	}
	return e.describe(), nil
}

// DeleteEventHub forgets an event hub and its events; its readers end with CodeEntityNotFound. ServiceConnect for the whole hub.
// CodeEntityNotFound, CodeInvalidOperation for the built-in endpoint and those of the routing.
func (s *ServiceSession) DeleteEventHub(ctx context.Context, name string) error {
	if err := s.need(ctx, auth.ServiceConnect, ""); err != nil {
		return err
	}
	e, err := s.hub.findEventHub(name)
	if err != nil {
		return err
	}
	if e == s.hub.builtIn {
		return s.hub.NewError(CodeInvalidOperation, "the built-in endpoint cannot be deleted")
	}
	taken, err := s.hub.takeEventHub(ctx, e.name, false)
	if taken != nil {
		taken.close()
	}
	return err
}
