package hub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iolite-emulator/iolite/store"
)

// Limits of names, in characters (article "Azure Event Hubs quotas and limits").
const (
	maxEventHubName = 256
	maxGroupName    = 50
)

// eventHub is something that Event Hubs clients read: the built-in endpoint of the hub, or an event hub that routes lead to. Each has
// partitions, consumer groups, and readers of one partition for one group.
type eventHub struct {
	hub     *Hub
	name    string // in the letters it was made with; names are compared without case
	log     store.EventLog
	created time.Time
	expired []atomic.Int64 // by partition: when it was last searched for events that are too old, in nanoseconds

	mu       sync.Mutex
	gone     bool                      // dropped; nobody may begin to read
	routed   bool                      // an endpoint of the routing; it goes with that
	groups   map[string]*consumerGroup // by name in lower case
	searches map[*EventSearch]struct{}
}

// eventHubs are all event hubs of a hub, by name in lower case. The built-in endpoint is always there.
type eventHubs struct {
	mu  sync.Mutex
	all map[string]*eventHub
}

func (h *Hub) newEventHub(name string, log store.EventLog) *eventHub {
	e := &eventHub{hub: h, name: name, log: log, created: h.clock.Now(), expired: make([]atomic.Int64, log.Partitions()),
		groups: map[string]*consumerGroup{}, searches: map[*EventSearch]struct{}{}}
	e.addGroup(defaultGroup)
	return e
}

// init makes the built-in endpoint.
func (v *eventHubs) init(h *Hub) *eventHub {
	e := h.newEventHub(h.cfg.Name, h.events)
	v.all = map[string]*eventHub{strings.ToLower(e.name): e}
	return e
}

// clear is what a reset does: the built-in endpoint keeps $Default alone, other event hubs are gone. Their readers are ended by the
// sweep of the sessions.
func (v *eventHubs) clear(builtIn *eventHub) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = map[string]*eventHub{strings.ToLower(builtIn.name): builtIn}
	builtIn.mu.Lock()
	defer builtIn.mu.Unlock()
	clear(builtIn.groups)
	for i := range builtIn.expired {
		builtIn.expired[i].Store(0)
	}
	builtIn.addGroup(defaultGroup)
}

// find returns the event hub of a name; the empty one is the built-in endpoint's.
func (h *Hub) findEventHub(name string) (*eventHub, error) {
	if name == "" {
		return h.builtIn, nil
	}
	h.eventHubs.mu.Lock()
	defer h.eventHubs.mu.Unlock()
	if e := h.eventHubs.all[strings.ToLower(name)]; e != nil {
		return e, nil
	}
	return nil, h.NewError(CodeEntityNotFound, shortName(name), "The event hubs here are: "+strings.Join(h.eventHubs.names(), ", ")+".")
}

// names lists the event hubs in order. The caller holds mu.
func (v *eventHubs) names() []string {
	names := make([]string, 0, len(v.all))
	for _, e := range v.all {
		names = append(names, e.name)
	}
	slices.Sort(names)
	return names
}

// openEventHub is putEventHub for an endpoint of the routing, which alone may drop it.
func (h *Hub) openEventHub(ctx context.Context, name string, partitions int, groups []string) (*eventHub, error) {
	h.eventHubs.mu.Lock()
	defer h.eventHubs.mu.Unlock()
	e, err := h.haveEventHub(ctx, name, partitions, groups)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.routed = true
	return e, nil
}

// putEventHub returns the event hub of a name, which it makes unless there is one; the consumer groups are added to those it has.
// CodeArgumentInvalid for a name that cannot be, and for another number of partitions (1 to 32) than it has already; CodeTooManyGroups.
func (h *Hub) putEventHub(ctx context.Context, name string, partitions int, groups []string) (*eventHub, error) {
	h.eventHubs.mu.Lock()
	defer h.eventHubs.mu.Unlock()
	return h.haveEventHub(ctx, name, partitions, groups)
}

// haveEventHub is putEventHub. The caller holds eventHubs.mu.
func (h *Hub) haveEventHub(ctx context.Context, name string, partitions int, groups []string) (*eventHub, error) {
	if err := h.checkEventHub(name, partitions, groups); err != nil {
		return nil, err
	}
	if e := h.eventHubs.all[strings.ToLower(name)]; e != nil {
		return e, e.grow(partitions, groups)
	}
	log, err := h.cfg.Engine.EventHubs().Open(ctx, storedName(name), partitions)
	if err != nil {
		return nil, err
	}
	e := h.newEventHub(name, log)
	if err := e.grow(partitions, groups); err != nil {
		return nil, errors.Join(err, h.cfg.Engine.EventHubs().Drop(ctx, storedName(name)))
	}
	h.eventHubs.all[strings.ToLower(name)] = e
	return e, nil
}

// grow adds consumer groups.
func (e *eventHub) grow(partitions int, groups []string) error {
	if n := e.log.Partitions(); n != partitions {
		return e.hub.NewError(CodeArgumentInvalid, fmt.Sprintf("the event hub %q has %d partitions already, not %d", e.name, n, partitions))
	}
	for _, group := range groups {
		if err := e.putGroup(group); err != nil {
			return err
		}
	}
	return nil
}

// storedName is what the store calls an event hub, which it may keep together with logs of other kinds.
func storedName(name string) string { return "eventhub/" + strings.ToLower(name) }

// checkEventHub says whether an event hub of that kind can be made.
func (h *Hub) checkEventHub(name string, partitions int, groups []string) error {
	switch lower := strings.ToLower(name); {
	case !validEntityName(name, maxEventHubName):
		return h.NewError(CodeArgumentInvalid, "bad event hub name "+strconv.Quote(shortName(name)))
	case lower == strings.ToLower(h.cfg.Name), lower == "devices", lower == "messages":
		return h.NewError(CodeArgumentInvalid, "the name "+strconv.Quote(name)+" is taken by the hub itself")
	case partitions < 1 || partitions > 32:
		return h.NewError(CodeArgumentInvalid, fmt.Sprintf("%d partitions are not between 1 and 32", partitions))
	}
	for _, group := range groups {
		if !validGroup(group) {
			return h.NewError(CodeArgumentInvalid, "bad consumer group name "+strconv.Quote(shortName(group)))
		}
	}
	return nil
}

// dropEventHub forgets an event hub with its events, one of the routing, too; its readers end with CodeEntityNotFound. The built-in
// endpoint stays. Without an event hub of the name it does nothing.
func (h *Hub) dropEventHub(ctx context.Context, name string) error {
	e, err := h.takeEventHub(ctx, name, true)
	if e != nil {
		e.close()
	}
	return err
}

// takeEventHub forgets an event hub, nil for none; whoever calls closes it. One of the routing is refused unless routed.
func (h *Hub) takeEventHub(ctx context.Context, name string, routed bool) (*eventHub, error) {
	lower := strings.ToLower(name)
	h.eventHubs.mu.Lock()
	defer h.eventHubs.mu.Unlock()
	e := h.eventHubs.all[lower]
	if e == nil || e == h.builtIn {
		return nil, nil //nolint:nilnil // there is nothing to do
	}
	e.mu.Lock()
	refused := e.routed && !routed
	e.mu.Unlock()
	if refused {
		return nil, h.NewError(CodeInvalidOperation, e.name+" is an endpoint of the routing and goes with it")
	}
	delete(h.eventHubs.all, lower)
	return e, h.cfg.Engine.EventHubs().Drop(ctx, storedName(name)) // before another of the name can be made
}

// close ends all readers and searches, and lets nobody else begin.
func (e *eventHub) close() {
	e.mu.Lock()
	e.gone = true
	groups, searches := slices.Collect(maps.Values(e.groups)), slices.Collect(maps.Keys(e.searches))
	clear(e.groups)
	e.mu.Unlock()
	for _, s := range searches {
		s.reason.CompareAndSwap(nil, e.deleted())
		s.end()
	}
	for _, g := range groups {
		e.endReaders(g)
	}
}

// append stores events in one partition, all or none. The caller is inside a gate (Hub.enter), so that no reset happens meanwhile.
func (e *eventHub) append(ctx context.Context, partition int, events ...store.Event) error {
	_, err := e.log.Append(ctx, partition, events...)
	return err
}

// partition returns the number of the partition with an id.
func (e *eventHub) partition(id string) (int, error) {
	p, err := strconv.Atoi(id)
	if err != nil || p < 0 || p >= e.log.Partitions() || strconv.Itoa(p) != id {
		return 0, e.hub.NewError(CodePartitionOutOfRange, strconv.Itoa(e.log.Partitions()-1))
	}
	return p, nil
}

// info describes a partition.
func (e *eventHub) info(ctx context.Context, partition int) (store.PartitionInfo, error) {
	if err := e.expire(ctx, partition); err != nil {
		return store.PartitionInfo{}, err
	}
	return e.log.Info(ctx, partition)
}

// validEntityName reports whether name has only letters, digits and -._ with a letter or digit at both ends, and is not longer than limit.
func validEntityName(name string, limit int) bool {
	for i := range len(name) {
		c := name[i] | 0x20
		letter := c >= 'a' && c <= 'z' || name[i] >= '0' && name[i] <= '9'
		inside := i > 0 && i < len(name)-1 && strings.IndexByte("-._", name[i]) >= 0
		if !letter && !inside {
			return false
		}
	}
	return name != "" && len(name) <= limit
}

// shortName cuts a name that goes into an error.
func shortName(name string) string {
	if len(name) <= maxEventHubName {
		return name
	}
	return name[:maxEventHubName] + "..."
}
