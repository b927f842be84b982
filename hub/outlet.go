package hub

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/iolite-emulator/iolite/store"
)

// How messages are delivered to endpoints outside. Times are by the clock.
const (
	sendMessages  = 256                    // at once to a queue, topic or event hub
	sendBytes     = 1 << 20                // the same
	batchMessages = 20_000                 // in one batch for a container, whatever maxChunkSizeInBytes says
	batchBytes    = 16 << 20               // the same: half of what may wait
	batchPoll     = 250 * time.Millisecond // how often a batch is looked at that grows
	firstRetry    = time.Second
	lastRetry     = 30 * time.Second // the wait doubles until then
	deadAfter     = time.Hour        // "EndpointDead: endpoint has not been accepting messages from IoT Hub for over an hour"
)

// External is an endpoint outside of this process.
type External struct {
	Kind             EndpointType
	Name             string
	ConnectionString string            // with EntityPath, or of a storage account
	Container        ContainerEndpoint // of EndpointStorage, complete
}

// Sinks makes the sink of an external endpoint. It connects to nothing yet: an error says that the endpoint can never work as it is configured,
// and holds no secret. wrote is to be called for each blob that was written for messages.
type Sinks func(e External, wrote func(bytes int)) (Sink, error)

// outlet delivers what waits for one external endpoint, in order. Its goroutine is the only one that uses sink; it ends with the hub, with a
// reset, and when the endpoint is changed or removed.
type outlet struct {
	External
	hub    *Hub
	log    store.EventLog // of one partition: what waits
	sink   Sink
	meters *[len(routeSources)]*routeMeter
	stop   context.CancelFunc
	done   chan struct{}
	refuse rate.Sometimes // log lines about messages that are refused

	next    int64     // sequence number of the first message that was not taken
	failing time.Time // since when the endpoint takes nothing; zero while it does
	wait    time.Duration

	mu     sync.Mutex // of level 3
	health EndpointHealth
}

// outlets are the outlets of the routing in force, by the lower-case names of their endpoints. They are replaced under routings.mu.
type outlets struct {
	mu  sync.Mutex // of level 2
	all map[string]*outlet
}

// addSinks makes the sinks of external endpoints; none when this hub delivers nothing to outside.
func (h *Hub) addSinks(r *router) error {
	if h.cfg.Sinks == nil {
		return nil
	}
	for _, e := range r.endpoints {
		if !e.external {
			continue
		}
		var err error
		if e.sink, err = h.cfg.Sinks(e.config, e.meters[sourceIndex(DeviceMessages)].blob); err != nil {
			return h.routingError("endpoints."+string(e.kind)+" ("+e.name+")", err.Error())
		}
	}
	return nil
}

// turn has the outlets serve another router. Outlets of endpoints that stay as they are go on undisturbed. What waits for an endpoint that was
// changed waits for the changed one.
func (o *outlets) turn(h *Hub, r *router) {
	o.mu.Lock()
	defer o.mu.Unlock()
	next := map[string]*outlet{}
	for _, e := range r.endpoints {
		if e.sink == nil {
			continue
		}
		key := strings.ToLower(e.name)
		old := o.all[key]
		if old != nil && old.External == e.config && old.log == e.log {
			next[key] = old
			delete(o.all, key)
			continue
		}
		next[key] = newOutlet(h, e, old)
	}
	for _, old := range o.all {
		old.stop()
	}
	o.all = next
}

// end stops all outlets; their goroutines are among Hub.pushes.
func (o *outlets) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, one := range o.all {
		one.stop()
	}
}

func (o *outlets) find(name string) *outlet {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all[strings.ToLower(name)]
}

// newOutlet starts an outlet, which begins to deliver when the one of before has ended.
func newOutlet(h *Hub, e *endpoint, before *outlet) *outlet {
	ctx, stop := context.WithCancel(context.Background())
	o := &outlet{
		External: e.config, hub: h, log: e.log, sink: e.sink, meters: &e.meters, stop: stop, done: make(chan struct{}),
		refuse: rate.Sometimes{First: 10, Interval: 10 * time.Second}, health: EndpointHealth{EndpointID: e.name, Status: HealthUnknown},
	}
	if info, err := o.log.Info(ctx, 0); err == nil {
		o.next = info.FirstSequence
	}
	if !h.pushes.run(func() { o.run(ctx, before) }) {
		stop()
		close(o.done)
	}
	return o
}

// run delivers until ctx ends.
func (o *outlet) run(ctx context.Context, before *outlet) {
	defer close(o.done)
	defer o.stop()
	if before != nil {
		<-before.done
		if before.log == o.log {
			o.next = before.next
		}
	}
	defer func() { _ = o.sink.Close() }()
	wake := make(chan struct{}, 1)
	defer o.log.Watch(0, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})()
	for ctx.Err() == nil {
		if pause, idle := o.step(ctx); idle {
			select {
			case <-wake:
			case <-ctx.Done():
			}
		} else if pause > 0 {
			_ = o.hub.clock.Sleep(ctx, pause)
		}
	}
}

// step delivers some messages. It returns how long to pause before the next step, or idle when there is nothing to do until messages come.
func (o *outlet) step(ctx context.Context) (pause time.Duration, idle bool) {
	messages, pause := o.read(ctx)
	messages = o.expire(messages)
	if len(messages) == 0 {
		return pause, pause == 0 && !o.more(ctx)
	}
	o.attempting()
	taken, err := o.sink.Deliver(ctx, messages)
	if ctx.Err() != nil && taken == 0 {
		return 0, false
	}
	if taken > 0 {
		o.took(messages[:taken])
		o.works(true)
	}
	switch {
	case err == nil || ctx.Err() != nil:
		return 0, false
	case errors.Is(err, ErrUndeliverable) && taken < len(messages):
		o.works(taken > 0)
		o.skip(&messages[taken], err)
		return 0, false
	}
	return o.failed(messages[taken:], err), false
}

// more reports whether messages wait.
func (o *outlet) more(ctx context.Context) bool {
	info, err := o.log.Info(ctx, 0)
	return err == nil && info.LastSequence >= o.next
}

// read returns the next messages; none and a pause while a batch is not due.
func (o *outlet) read(ctx context.Context) ([]store.Event, time.Duration) {
	limit, bytes := sendMessages, sendBytes
	if o.Kind == EndpointStorage {
		if pause := o.gathering(ctx); pause > 0 {
			return nil, pause
		}
		limit, bytes = batchMessages, o.batchBytes()
	}
	messages, err := o.log.Read(ctx, 0, o.next, limit, bytes)
	if err != nil {
		o.hub.log.Error("cannot read what waits for an endpoint", "category", Routes, "endpointName", o.Name, "error", err)
		return nil, lastRetry
	}
	if len(messages) > 0 && messages[0].Sequence > o.next {
		o.lost(int(messages[0].Sequence - o.next))
		o.next = messages[0].Sequence
	}
	return messages, 0
}

func (o *outlet) batchBytes() int { return min(batchBytes, o.Container.MaxChunkSizeInBytes) }

// gathering returns how long to wait until it is worth to look at the batch again; 0 when it is due, or when there is none.
func (o *outlet) gathering(ctx context.Context) time.Duration {
	first, err := o.log.Read(ctx, 0, o.next, 1, 1)
	if err != nil || len(first) == 0 || !o.failing.IsZero() {
		return 0
	}
	info, err := o.log.Info(ctx, 0)
	if err != nil || info.LastSequence-first[0].Sequence >= batchMessages || info.LastOffset-first[0].Offset >= int64(o.batchBytes()) {
		return 0
	}
	due := first[0].Enqueued.Add(time.Duration(o.Container.BatchFrequencyInSeconds) * time.Second)
	return max(0, min(batchPoll, due.Sub(o.hub.clock.Now())))
}

// took forgets messages that the endpoint has taken.
func (o *outlet) took(messages []store.Event) {
	for len(messages) > 0 {
		n, source := 1, messages[0].Source
		for n < len(messages) && messages[n].Source == source {
			n++
		}
		o.meter(source).delivered(messages[:n]...)
		messages = o.pass(messages, n)
	}
}

// pass moves on behind the first n messages and returns the others.
func (o *outlet) pass(messages []store.Event, n int) []store.Event {
	o.next = messages[n-1].Sequence + 1
	if err := o.log.Trim(context.Background(), 0, o.next); err != nil {
		o.hub.log.Error("cannot forget what an endpoint has taken", "category", Routes, "endpointName", o.Name, "error", err)
	}
	return messages[n:]
}

// meter returns the meter for messages of a source, which they spell otherwise than routes do.
func (o *outlet) meter(source string) *routeMeter {
	for i, s := range routeSources {
		if strings.EqualFold(string(s), source) {
			return o.meters[i]
		}
	}
	return o.meters[sourceIndex(DeviceMessages)]
}

// expire drops the messages that a dead endpoint did not take within an hour, and returns the others.
func (o *outlet) expire(messages []store.Event) []store.Event {
	now, n := o.hub.clock.Now(), 0
	if o.failing.IsZero() || now.Sub(o.failing) < deadAfter {
		return messages
	}
	for n < len(messages) && now.Sub(messages[n].Enqueued) >= deadAfter {
		o.meter(messages[n].Source).drop(1)
		n++
	}
	if n == 0 {
		return messages
	}
	o.died()
	o.note(slog.LevelError, "droppedMessage", "messages were dropped: the endpoint is dead", slog.Int("messages", n))
	return o.pass(messages, n)
}

// lost notes messages that were pushed out before the endpoint took them. Where they came from is not known any more.
func (o *outlet) lost(n int) {
	o.meters[sourceIndex(DeviceMessages)].drop(n)
	o.note(slog.LevelError, "droppedMessage", "messages were dropped: too many wait for the endpoint", slog.Int("messages", n))
}

// skip drops a message that the endpoint will never take.
func (o *outlet) skip(m *store.Event, err error) {
	o.meter(m.Source).refuse(1)
	o.refuse.Do(func() {
		o.note(slog.LevelError, "invalidMessage", "the endpoint refuses a message, which is dropped",
			append(identityAttrs(store.Key{DeviceID: m.DeviceID, ModuleID: m.ModuleID}), slog.String("messageId", m.MessageID), slog.Any("error", err))...)
	})
	o.pass([]store.Event{*m}, 1)
	o.refused(err)
}

// failed notes an attempt in vain and returns how long to wait before the next.
func (o *outlet) failed(messages []store.Event, err error) time.Duration {
	now := o.hub.clock.Now()
	perSource := map[*routeMeter]int{}
	for i := range messages {
		perSource[o.meter(messages[i].Source)]++
	}
	for m, n := range perSource {
		m.retry(n)
	}
	if o.failing.IsZero() {
		o.failing, o.wait = now, firstRetry/2
	}
	o.wait = min(2*o.wait, lastRetry)
	o.unhealthy(err, now.Sub(o.failing) >= deadAfter)
	return o.wait
}

// works notes that the endpoint is there, and whether it has just taken messages.
func (o *outlet) works(took bool) {
	o.failing, o.wait = time.Time{}, 0
	o.healthy(took)
}

// note writes a log line in the words of IoT Hub's resource logs (article "Troubleshoot message routing", section Operation names).
func (o *outlet) note(level slog.Level, operation, message string, attrs ...slog.Attr) {
	o.hub.log.LogAttrs(context.Background(), level, message, append([]slog.Attr{
		slog.String("category", string(Routes)), slog.String("operation", operation), slog.String("endpointName", o.Name),
	}, attrs...)...)
}
