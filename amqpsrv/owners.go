package amqpsrv

import (
	"fmt"
	"sync"

	"github.com/iolite-emulator/iolite/amqp10"
)

// maxReaders is how many receivers without owner level may read one partition for one consumer group (article "Azure Event
// Hubs quotas and limits").
const maxReaders = 5

// ownerKey names a partition as one consumer group sees it; the group's name is in lower case.
type ownerKey struct{ group, partition string }

// owners keeps, over all connections, who reads which partition and with what owner level (epoch). A receiver with a level
// pushes out one whose level is not higher, and all without; as long as it is there, others are refused.
type owners struct {
	mu sync.Mutex // never held while calling the engine
	m  map[ownerKey]*ownership
}

type ownership struct {
	owner   *amqp10.Link // nil when nobody has an owner level
	level   int64
	readers map[*amqp10.Link]struct{} // without owner level
}

// ownerLevel reads the owner level that an attach asks for, nil when it asks for none.
func ownerLevel(properties amqp10.Map) (*int64, error) {
	v, ok := properties.Lookup("com.microsoft:epoch")
	if !ok || v == nil {
		return nil, nil
	}
	var level int64
	switch n := v.(type) {
	case int64:
		level = n
	case int32:
		level = int64(n)
	case uint32:
		level = int64(n)
	case uint64:
		level = int64(min(n, 1<<63-1))
	default:
		return nil, badMessage("com.microsoft:epoch is not a long")
	}
	if level < 0 {
		return nil, badMessage("com.microsoft:epoch is negative")
	}
	return &level, nil
}

// enter admits a link, pushing out whom it displaces, or refuses it.
func (o *owners) enter(key ownerKey, l *amqp10.Link, level *int64) error {
	displaced, refusal := o.admit(key, l, level)
	for _, old := range displaced {
		old.Detach(&amqp10.Error{Condition: amqp10.CondStolen,
			Description: fmt.Sprintf("A receiver with the owner level %d has taken the partition.", *level)})
	}
	if refusal != nil {
		return refusal
	}
	return nil
}

func (o *owners) admit(key ownerKey, l *amqp10.Link, level *int64) ([]*amqp10.Link, *amqp10.Error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.m[key]
	if w == nil {
		if o.m == nil {
			o.m = map[ownerKey]*ownership{}
		}
		w = &ownership{readers: map[*amqp10.Link]struct{}{}}
		o.m[key] = w
	}
	if level == nil {
		return nil, w.admitReader(l)
	}
	return w.admitOwner(l, *level)
}

func (w *ownership) admitReader(l *amqp10.Link) *amqp10.Error {
	if w.owner != nil {
		return &amqp10.Error{Condition: amqp10.CondStolen,
			Description: fmt.Sprintf("A receiver with the owner level %d reads the partition, so that one without is not allowed.", w.level)}
	}
	if len(w.readers) >= maxReaders {
		return &amqp10.Error{Condition: amqp10.CondResourceLimitExceeded,
			Description: fmt.Sprintf("Exceeded the maximum number of allowed receivers per partition in a consumer group, which is %d.", maxReaders)}
	}
	w.readers[l] = struct{}{}
	return nil
}

func (w *ownership) admitOwner(l *amqp10.Link, level int64) (displaced []*amqp10.Link, _ *amqp10.Error) {
	if w.owner != nil && level < w.level {
		return nil, &amqp10.Error{Condition: amqp10.CondStolen,
			Description: fmt.Sprintf("A receiver with the higher owner level %d reads the partition.", w.level)}
	}
	if w.owner != nil {
		displaced = append(displaced, w.owner)
	}
	for old := range w.readers {
		displaced = append(displaced, old)
	}
	clear(w.readers)
	w.owner, w.level = l, level
	return displaced, nil
}

// leave forgets a link, displaced or not.
func (o *owners) leave(key ownerKey, l *amqp10.Link) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.m[key]
	if w == nil {
		return
	}
	delete(w.readers, l)
	if w.owner == l {
		w.owner = nil
	}
	if w.owner == nil && len(w.readers) == 0 {
		delete(o.m, key)
	}
}
