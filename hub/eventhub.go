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

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// defaultGroup is the consumer group that every event hub has.
const defaultGroup = "$Default"

// Limits of names, in characters (article "Azure Event Hubs quotas and limits").
const (
	maxEventHubName = 256
	maxGroupName    = 50
)

// maxGroups is how many consumer groups an event hub may have, $Default included (article "Read device-to-cloud messages from the
// built-in endpoint": up to 20 for each IoT hub).
const maxGroups = 20

// eventHub is something that Event Hubs clients read: the built-in endpoint of the hub, or an event hub that routes lead to. Each has
// partitions, consumer groups, and readers of one partition for one group.
type eventHub struct {
	hub     *Hub
	name    string // in the letters it was made with; names are compared without case
	log     store.EventLog
	created time.Time
	expired []atomic.Int64 // by partition: when it was last searched for events that are too old, in nanoseconds

	mu     sync.Mutex
	gone   bool                      // dropped; nobody may begin to read
	routed bool                      // an endpoint of the routing; it goes with that
	groups map[string]*consumerGroup // by name in lower case
}

// consumerGroup is one view of the events: its readers know of each other, and of no other group's.
type consumerGroup struct {
	name       string
	created    time.Time
	partitions []ownership
}

// eventHubs are all event hubs of a hub, by name in lower case. The built-in endpoint is always there.
type eventHubs struct {
	mu  sync.Mutex
	all map[string]*eventHub
}

func (h *Hub) newEventHub(name string, log store.EventLog) *eventHub {
	e := &eventHub{hub: h, name: name, log: log, created: h.clock.Now(), expired: make([]atomic.Int64, log.Partitions()), groups: map[string]*consumerGroup{}}
	e.addGroup(defaultGroup)
	return e
}

// addGroup makes a consumer group. The caller holds mu, or nobody else knows e yet.
func (e *eventHub) addGroup(name string) {
	e.groups[strings.ToLower(name)] = &consumerGroup{name: name, created: e.hub.clock.Now(), partitions: make([]ownership, e.log.Partitions())}
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
	e, err := h.putEventHub(ctx, name, partitions, groups)
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
	if err := h.checkEventHub(name, partitions, groups); err != nil {
		return nil, err
	}
	h.eventHubs.mu.Lock()
	defer h.eventHubs.mu.Unlock()
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

// dropEventHub forgets an event hub with its events; its readers end with CodeEntityNotFound. The built-in endpoint stays. Without an
// event hub of the name it does nothing.
func (h *Hub) dropEventHub(ctx context.Context, name string) error {
	e := h.takeEventHub(name)
	if e == nil {
		return nil
	}
	e.close()
	return h.cfg.Engine.EventHubs().Drop(ctx, storedName(name))
}

func (h *Hub) takeEventHub(name string) *eventHub {
	lower := strings.ToLower(name)
	h.eventHubs.mu.Lock()
	defer h.eventHubs.mu.Unlock()
	e := h.eventHubs.all[lower]
	if e == nil || e == h.builtIn {
		return nil
	}
	delete(h.eventHubs.all, lower)
	return e
}

// close ends all readers, and lets nobody else begin.
func (e *eventHub) close() {
	e.mu.Lock()
	e.gone = true
	groups := slices.Collect(maps.Values(e.groups))
	clear(e.groups)
	e.mu.Unlock()
	for _, g := range groups {
		e.endReaders(g)
	}
}

// endReaders ends the readers of a group that is not in groups any more.
func (e *eventHub) endReaders(g *consumerGroup) {
	var readers []*EventReader
	e.mu.Lock()
	for i := range g.partitions {
		readers = append(readers, g.partitions[i].all()...)
	}
	e.mu.Unlock()
	for _, r := range readers {
		r.endWith(e.noGroup(g.name))
	}
}

// noGroup is the error of a consumer group that is not there.
func (e *eventHub) noGroup(name string) *Error {
	e.mu.Lock()
	groups := e.groupNames()
	e.mu.Unlock()
	return e.hub.NewError(CodeEntityNotFound, e.hub.cfg.Name+":eventhub:"+e.name+"|"+shortName(name),
		"The consumer groups of "+e.name+" are: "+strings.Join(groups, ", ")+".")
}

// groupNames lists the consumer groups in order. The caller holds mu.
func (e *eventHub) groupNames() []string {
	names := make([]string, 0, len(e.groups))
	for _, g := range e.groups {
		names = append(names, g.name)
	}
	slices.Sort(names)
	return names
}

// putGroup makes a consumer group unless there is one.
func (e *eventHub) putGroup(name string) error {
	if !validGroup(name) {
		return e.hub.NewError(CodeArgumentInvalid, "bad consumer group name "+strconv.Quote(shortName(name)))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.groups[strings.ToLower(name)] != nil {
		return nil
	}
	if len(e.groups) >= maxGroups {
		return e.hub.NewError(CodeTooManyGroups, e.name, strconv.Itoa(maxGroups))
	}
	e.addGroup(name)
	return nil
}

// deleteGroup forgets a consumer group and ends its readers; $Default stays.
func (e *eventHub) deleteGroup(name string) error {
	lower := strings.ToLower(name)
	if lower == strings.ToLower(defaultGroup) {
		return e.hub.NewError(CodeInvalidOperation, "the consumer group "+defaultGroup+" cannot be deleted")
	}
	e.mu.Lock()
	g := e.groups[lower]
	delete(e.groups, lower)
	e.mu.Unlock()
	if g == nil {
		return e.noGroup(name)
	}
	e.endReaders(g)
	return nil
}

// Bounds and default of how long an event hub keeps events (article "Read device-to-cloud messages from the built-in endpoint":
// one day, up to seven).
const (
	MinRetention     = 24 * time.Hour
	MaxRetention     = 7 * 24 * time.Hour
	DefaultRetention = MinRetention
)

// expireEvery is how much of the hub's time goes by before a partition that is being read is searched for what is too old, again.
const expireEvery = time.Second

// expire drops the events of a partition that are older than the retention. Whoever looks at a partition calls it first, so that
// nobody gets an event that is too old by more than expireEvery.
func (e *eventHub) expire(ctx context.Context, partition int) error {
	now := e.hub.clock.Now()
	due := &e.expired[partition]
	if last := due.Load(); last != 0 && now.UnixNano()-last < int64(expireEvery) && now.UnixNano() >= last {
		return nil
	}
	oldest, err := e.log.SeekTime(ctx, partition, now.Add(-e.hub.cfg.Retention))
	if err != nil {
		return err
	}
	due.Store(now.UnixNano())
	return e.log.Trim(ctx, partition, oldest)
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

// validGroup reports whether name can be a consumer group.
func validGroup(name string) bool {
	return strings.EqualFold(name, defaultGroup) || validEntityName(name, maxGroupName)
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

// ConsumerGroup describes a consumer group and who reads for it.
type ConsumerGroup struct {
	EventHub string
	Name     string
	Created  time.Time
	Readers  []Reader // in the order of partitions
}

// Reader describes a reader of one partition.
type Reader struct {
	Partition  string
	OwnerLevel *int64 // nil for a reader without
	Name       string // of the receiver, as the client gave it
	Remote     string // address; empty inside the process
}

// ConsumerGroup describes a consumer group. ServiceConnect for the whole hub. CodeEntityNotFound.
func (s *ServiceSession) ConsumerGroup(ctx context.Context, eventHub, group string) (ConsumerGroup, error) {
	if err := s.need(ctx, auth.ServiceConnect, ""); err != nil {
		return ConsumerGroup{}, err
	}
	e, err := s.hub.findEventHub(eventHub)
	if err != nil {
		return ConsumerGroup{}, err
	}
	if c, ok := e.describeGroup(group); ok {
		return c, nil
	}
	return ConsumerGroup{}, e.noGroup(group)
}

func (e *eventHub) describeGroup(name string) (c ConsumerGroup, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.groups[strings.ToLower(name)]
	if g == nil {
		return c, false
	}
	c = ConsumerGroup{EventHub: e.name, Name: g.name, Created: g.created}
	for i := range g.partitions {
		for _, r := range g.partitions[i].all() {
			one := Reader{Partition: strconv.Itoa(i), OwnerLevel: r.o.OwnerLevel, Name: r.o.Name}
			if r.session.conn != nil {
				one.Remote = r.session.conn.RemoteAddr().String()
			}
			c.Readers = append(c.Readers, one)
		}
	}
	return c, true
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
	e.mu.Lock()
	routed := e.routed
	e.mu.Unlock()
	switch {
	case e == s.hub.builtIn:
		return s.hub.NewError(CodeInvalidOperation, "the built-in endpoint cannot be deleted")
	case routed:
		return s.hub.NewError(CodeInvalidOperation, e.name+" is an endpoint of the routing and goes with it")
	}
	return s.hub.dropEventHub(ctx, e.name)
}

// PutConsumerGroup makes a consumer group unless there is one; names are compared without case. ServiceConnect for the whole hub.
// CodeEntityNotFound, CodeArgumentInvalid (up to 50 letters, digits and -._ with a letter or digit at both ends), CodeTooManyGroups.
func (s *ServiceSession) PutConsumerGroup(ctx context.Context, eventHub, group string) error {
	e, err := s.hub.findEventHub(eventHub)
	if err != nil {
		return err
	}
	if err := s.need(ctx, auth.ServiceConnect, ""); err != nil {
		return err
	}
	return e.putGroup(group)
}

// DeleteConsumerGroup forgets a consumer group; its readers end with CodeEntityNotFound. ServiceConnect for the whole hub.
// CodeEntityNotFound, CodeInvalidOperation for $Default.
func (s *ServiceSession) DeleteConsumerGroup(ctx context.Context, eventHub, group string) error {
	e, err := s.hub.findEventHub(eventHub)
	if err != nil {
		return err
	}
	if err := s.need(ctx, auth.ServiceConnect, ""); err != nil {
		return err
	}
	return e.deleteGroup(group)
}
