package hub

import (
	"errors"
	"strconv"
	"strings"
)

// maxReaders is how many readers without owner level may read one partition for one consumer group (article "Azure Event Hubs
// quotas and limits").
const maxReaders = 5

// ownership is who reads one partition for one consumer group. A reader with an owner level (epoch) pushes out one whose level is not
// higher, and all without; as long as it is there, others are refused. Guarded by eventHub.mu.
type ownership struct {
	owner   *EventReader   // nil when nobody has an owner level
	readers []*EventReader // without owner level
}

func (o *ownership) all() []*EventReader {
	if o.owner != nil {
		return []*EventReader{o.owner}
	}
	return append([]*EventReader(nil), o.readers...)
}

// enter admits a reader to its consumer group, pushing out whom it displaces, or refuses it: CodeEntityNotFound,
// CodeReceiverQuotaExceeded, CodeEpochTooLow, CodeEpochRequired.
func (e *eventHub) enter(r *EventReader) error {
	displaced, found, refusal := e.admit(r)
	for _, old := range displaced {
		old.endWith(e.hub.NewError(CodeReceiverDisconnected, r.label(), r.epoch(), old.label(), old.epoch()))
	}
	switch {
	case !found:
		return e.noGroup(r.o.Group)
	case errors.Is(refusal, errReaderClosed):
		return r.why()
	}
	return refusal
}

func (e *eventHub) admit(r *EventReader) (displaced []*EventReader, found bool, refusal error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.groups[strings.ToLower(r.o.Group)]
	if g == nil || e.gone {
		return nil, false, nil
	}
	if r.closed.Load() { // its session has ended meanwhile, and it will not leave any more
		return nil, true, errReaderClosed
	}
	o := &g.partitions[r.partition]
	if r.o.OwnerLevel == nil {
		refusal = o.admitReader(r)
	} else {
		displaced, refusal = o.admitOwner(r)
	}
	if refusal == nil {
		r.ownership = o
	}
	return displaced, true, refusal
}

func (o *ownership) admitReader(r *EventReader) error {
	h := r.session.hub
	if o.owner != nil {
		return h.NewError(CodeEpochRequired, o.owner.epoch())
	}
	if len(o.readers) >= maxReaders {
		names := make([]string, len(o.readers))
		for i, other := range o.readers {
			names[i] = other.label()
		}
		return h.NewError(CodeReceiverQuotaExceeded, strconv.Itoa(maxReaders), strings.Join(names, ", "))
	}
	o.readers = append(o.readers, r)
	return nil
}

func (o *ownership) admitOwner(r *EventReader) (displaced []*EventReader, refusal error) {
	if o.owner != nil && *r.o.OwnerLevel < *o.owner.o.OwnerLevel {
		return nil, r.session.hub.NewError(CodeEpochTooLow, o.owner.label(), o.owner.epoch(), r.label(), r.epoch())
	}
	displaced = o.all()
	o.owner, o.readers = r, nil
	return displaced, nil
}

// leave forgets a reader, displaced or not.
func (e *eventHub) leave(r *EventReader) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o := r.ownership
	if o == nil {
		return
	}
	if o.owner == r {
		o.owner = nil
	}
	for i, one := range o.readers {
		if one == r {
			o.readers = append(o.readers[:i:i], o.readers[i+1:]...)
			break
		}
	}
}

// label is the receiver's name as Event Hubs writes it.
func (r *EventReader) label() string {
	if r.o.Name == "" {
		return "nil"
	}
	return r.o.Name
}

// epoch is the owner level as Event Hubs writes it.
func (r *EventReader) epoch() string {
	if r.o.OwnerLevel == nil {
		return "-1"
	}
	return strconv.FormatInt(*r.o.OwnerLevel, 10)
}
