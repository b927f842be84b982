package amqpsrv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// readAhead is how many events are read from the hub at once.
const readAhead = 128

// runtimeMetric is the capability of telling about the end of the partition with every event.
const runtimeMetric amqp10.Symbol = "com.microsoft:enable-receiver-runtime-metric"

// eventReceiver is {event hub}/ConsumerGroups/{group}/Partitions/{id}: a peer reads a partition. Its goroutine, pump, exists
// only while there is something to do: new events, or new credit. It ends when it runs out of either, or with the link.
type eventReceiver struct {
	p       *peer
	link    *amqp10.Link
	service *hub.ServiceSession
	reader  *hub.EventReader
	metrics bool // the peer wants runtime metrics

	// Used by pump alone.
	writer  eventWriter
	waiting []store.Event // read and not yet sent
	next    int           // the first of them
	tags    uint64

	mu      sync.Mutex
	running bool
	again   bool // something changed while pump was running
	gone    bool
}

func (p *peer) attachEventReceiver(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	if err := p.srv.hub.HasEventHub(a.entity); err != nil {
		return nil, p.asError(err)
	}
	from, err := p.filter(l)
	if err != nil {
		return nil, err
	}
	level, err := ownerLevel(l.Properties())
	if err != nil {
		return nil, err
	}
	s, err := p.service(l, a.path)
	if err != nil {
		return nil, err
	}
	r := &eventReceiver{p: p, link: l, service: s}
	if r.reader, err = r.open(hub.ReaderOptions{EventHub: a.entity, Group: a.group, Partition: a.partition, From: from, OwnerLevel: level}); err != nil {
		p.leaveService(s)
		return nil, err
	}
	if slices.Contains(l.DesiredCapabilities(), runtimeMetric) {
		r.metrics = true
		l.SetOfferedCapabilities(runtimeMetric)
	}
	return r, nil
}

// open starts reading. The hub ends the link when it ends the reader.
func (r *eventReceiver) open(o hub.ReaderOptions) (*hub.EventReader, *amqp10.Error) {
	o.Name = r.link.Properties().Text("com.microsoft:receiver-name")
	o.Ready, o.Reuse = r.kick, true
	o.Ended = func(e *hub.Error) { r.link.Detach(hubError(e)) }
	reader, err := r.service.OpenReader(r.p.ctx, o)
	if err != nil {
		return nil, r.p.asError(err)
	}
	return reader, nil
}

// ownerLevel reads the owner level that an attach asks for, nil when it asks for none. Clients write any integer type.
func ownerLevel(properties amqp10.Map) (*int64, *amqp10.Error) {
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
	return &level, nil
}

// filter reads the position that the source's filter asks for. The reply echoes the source; filters that have no effect here
// are left out of it, as AMQP 3.5.3 wants.
func (p *peer) filter(l *amqp10.Link) (hub.Position, *amqp10.Error) {
	source := l.Source()
	from, ignored, err := positionOf(source.Filter)
	if err != nil {
		return from, badMessage(err.Error())
	}
	if len(ignored) > 0 {
		p.log.Warn("source filters are ignored", "category", hub.DeviceTelemetry, "address", l.Address(), "filters", ignored)
		echo := *source
		echo.Filter = slices.DeleteFunc(slices.Clone(source.Filter), func(e amqp10.Entry) bool { return fmt.Sprint(e.Key) != selectorFilter })
		l.SetSource(&echo)
	}
	return from, nil
}

// Flow implements amqp10.Sender.
func (r *eventReceiver) Flow(*amqp10.Link, uint32, bool) { r.kick() }

// Settled implements amqp10.Sender. Reading settles nothing: events stay, and positions are the reader's business.
func (r *eventReceiver) Settled(l *amqp10.Link, id uint32, _ []byte, st amqp10.DeliveryState, settled bool) {
	if !settled && st != nil {
		l.Settle(id, amqp10.Accepted{})
	}
}

// Detached implements amqp10.Node.
func (r *eventReceiver) Detached(_ *amqp10.Link, _ *amqp10.Error) {
	r.mu.Lock()
	r.gone = true
	idle := !r.running
	r.mu.Unlock()
	r.reader.Close() // at once: somebody may wait for the place
	if idle {
		r.p.leaveService(r.service)
	}
}

// kick has pump look again. Any goroutine; it does not block.
func (r *eventReceiver) kick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	if r.running {
		r.again = true
		return
	}
	r.running = true
	r.p.pumps.Go(r.pump)
}

// pump sends events until it runs out of events or of credit. It lets devices that are being served go first: what they send leaves
// together with what woke it.
func (r *eventReceiver) pump() {
	for {
		runtime.Gosched()
		r.send()
		if !r.more() {
			return
		}
	}
}

// more says whether to look again; otherwise pump has ended.
func (r *eventReceiver) more() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again && !r.gone {
		r.again = false
		return true
	}
	r.running = false
	if r.gone {
		r.p.leaveService(r.service)
	}
	return false
}

// send reads and sends until there is nothing to read, or the link takes no more for now.
func (r *eventReceiver) send() {
	for r.link.Credit() > 0 {
		if !r.fill() {
			break
		}
		if !r.transfer() {
			return
		}
	}
	r.link.Drained() // AMQP 2.6.7: credit that cannot be used now is used up, if the peer asked for that
}

// fill reads the next events unless some are waiting.
func (r *eventReceiver) fill() bool {
	if r.next < len(r.waiting) {
		return true
	}
	r.waiting, r.next = nil, 0
	events, err := r.reader.Next(r.p.ctx, int(min(r.link.Credit(), readAhead)))
	if err != nil {
		r.fail(err)
		return false
	}
	if len(events) == 0 {
		return false
	}
	r.waiting = events
	return true
}

// fail detaches the link, unless that is why reading fails.
func (r *eventReceiver) fail(err error) {
	r.mu.Lock()
	gone := r.gone
	r.mu.Unlock()
	if !gone {
		r.link.Detach(r.p.asError(err))
	}
}

// transfer sends what waits; false when the link takes no more for now.
func (r *eventReceiver) transfer() bool {
	last, err := r.lastEnqueued()
	if err != nil {
		r.fail(err)
		return false
	}
	for ; r.next < len(r.waiting); r.next++ {
		if !r.transferOne(&r.waiting[r.next], last) {
			return false
		}
	}
	return true
}

func (r *eventReceiver) transferOne(e *store.Event, last *lastEnqueued) bool {
	r.tags++
	var tag [16]byte // trap 6
	binary.BigEndian.PutUint64(tag[8:], r.tags)
	// Settled unless the peer insists: nothing depends on what it makes of an event.
	_, err := r.link.Send(tag[:], 0, r.writer.event(e, last), r.link.SndSettleMode() != amqp10.SndUnsettled)
	if errors.Is(err, amqp10.ErrTooLarge) {
		r.link.Detach(&amqp10.Error{Condition: amqp10.CondMessageSizeExceeded,
			Description: fmt.Sprintf("The event with sequence number %d is larger than the max-message-size of the link.", e.Sequence)})
	}
	return err == nil
}

// lastEnqueued is what goes with every event to a peer that desires it, nil for others.
func (r *eventReceiver) lastEnqueued() (*lastEnqueued, error) {
	if !r.metrics {
		return nil, nil
	}
	info, err := r.reader.Last(r.p.ctx)
	if err != nil {
		return nil, err
	}
	last := lastOf(info)
	last.retrieved = amqp10.TimestampOf(r.p.srv.hub.Now())
	return &last, nil
}
