package hub

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/auth"
)

// defaultGroup is the consumer group that every event hub has.
const defaultGroup = "$Default"

// maxGroups is how many consumer groups an event hub may have, $Default included (article "Read device-to-cloud messages from the
// built-in endpoint": up to 20 for each IoT hub).
const maxGroups = 20

// consumerGroup is one view of the events: its readers know of each other, and of no other group's.
type consumerGroup struct {
	name       string
	created    time.Time
	partitions []ownership
}

// addGroup makes a consumer group. The caller holds mu, or nobody else knows e yet.
func (e *eventHub) addGroup(name string) {
	e.groups[strings.ToLower(name)] = &consumerGroup{name: name, created: e.hub.clock.Now(), partitions: make([]ownership, e.log.Partitions())}
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

// groupsWith returns how many consumer groups there would be with others.
func (e *eventHub) groupsWith(others []string) int {
	e.mu.Lock()
	all := maps.Clone(e.groups)
	e.mu.Unlock()
	for _, name := range others {
		all[strings.ToLower(name)] = nil
	}
	return len(all)
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

// validGroup reports whether name can be a consumer group.
func validGroup(name string) bool {
	return strings.EqualFold(name, defaultGroup) || validEntityName(name, maxGroupName)
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
