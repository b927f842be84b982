package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// refusedError is an error as sinks have them.
type refusedError struct{ kind string }

func (e refusedError) Error() string { return "refused: " + e.kind }

func (e refusedError) LastKnownError() string { return e.kind }

// testSink is an endpoint that does as it is told.
type testSink struct {
	External
	wrote func(int)

	mu       sync.Mutex
	down     error    // of every attempt
	never    []string // bodies of messages that are refused
	most     int      // messages that are taken at once; 0 for all
	hang     bool     // until the context ends
	got      []string
	batches  [][]string
	attempts int
	closed   int
}

func (s *testSink) Deliver(ctx context.Context, messages []store.Event) (int, error) {
	s.mu.Lock()
	hang := s.hang
	s.attempts++
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return 0, s.down
	}
	var batch []string
	for i := range messages {
		body := string(messages[i].Body)
		if slices.Contains(s.never, body) {
			s.batches = append(s.batches, batch)
			return i, fmt.Errorf("%w: %w", ErrUndeliverable, refusedError{"InvalidMessage"})
		}
		if s.most > 0 && i == s.most {
			return i, refusedError{"Throttled"}
		}
		s.got, batch = append(s.got, body), append(batch, body)
	}
	s.batches = append(s.batches, batch)
	return len(messages), nil
}

func (s *testSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

func (s *testSink) set(change func(*testSink)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *testSink) bodies() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.got, " ")
}

// testSinks makes them; made are all, in their order.
type testSinks struct {
	mu   sync.Mutex
	made []*testSink
}

func (s *testSinks) make(e External, wrote func(int)) (Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(e.ConnectionString, "broken") {
		return nil, errors.New("the connection string is broken")
	}
	one := &testSink{External: e, wrote: wrote}
	s.made = append(s.made, one)
	return one, nil
}

func (s *testSinks) last() *testSink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made[len(s.made)-1]
}

// toQueue is a routing of everything to one queue.
func toQueue(connection string) Routing {
	return Routing{
		Endpoints: Endpoints{ServiceBusQueues: []ServiceBusEndpoint{{Name: "q", ConnectionString: connection}}}, Routes: []Route{to("q", "")},
	}
}

func toContainer(seconds, chunk int) Routing {
	return Routing{
		Endpoints: Endpoints{StorageContainers: []ContainerEndpoint{{
			Name: "c", ConnectionString: "x", ContainerName: "routed", Encoding: "JSON", BatchFrequencyInSeconds: seconds, MaxChunkSizeInBytes: chunk,
		}}},
		Routes: []Route{to("c", "")},
	}
}

// newOutletHub returns a hub that sends everything to one endpoint, and a device.
func newOutletHub(t *testing.T, r Routing, change ...func(*Config)) (*Hub, *clock.Clock, *testSinks, *DeviceSession) {
	t.Helper()
	sinks := &testSinks{}
	h, c := newTestHub(t, append(change, func(cfg *Config) { cfg.Sinks, cfg.Routing = sinks.make, r })...)
	return h, c, sinks, connect(t, h, "dev-1")
}

func sendBodies(t *testing.T, s *DeviceSession, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		sendTelemetry(t, s, telemetry(body))
	}
}

func wantHealth(t *testing.T, h *Hub, want EndpointHealth) {
	t.Helper()
	if diff := cmp.Diff([]EndpointHealth{want}, h.EndpointHealth()); diff != "" {
		t.Errorf("health (-want +got):\n%s", diff)
	}
}

// advanceUntil moves the clock in small steps: what sleeps may not have begun to.
func advanceUntil(t *testing.T, c *clock.Clock, what string, ok func() bool) {
	t.Helper()
	eventually(t, what, func() bool {
		c.Advance(100 * time.Millisecond)
		return ok()
	})
}

func waitsNothing(h *Hub) func() bool {
	return func() bool { return h.EndpointHealth()[0].Waiting == 0 }
}

func hasStatus(h *Hub, status HealthStatus) func() bool {
	return func() bool { return h.EndpointHealth()[0].Status == status }
}

func TestWhatWaitsForAnEndpointIsDeliveredInOrderAndForgotten(t *testing.T) {
	h, _, sinks, s := newOutletHub(t, toQueue("x"))
	wantHealth(t, h, EndpointHealth{EndpointID: "q", Status: HealthUnknown})
	sendBodies(t, s, "a", "b", "c")
	eventually(t, "all are delivered", func() bool { return sinks.last().bodies() == "a b c" && waitsNothing(h)() })
	eventually(t, "the endpoint is healthy", hasStatus(h, HealthHealthy))
	wantHealth(t, h, EndpointHealth{EndpointID: "q", Status: HealthHealthy, LastSendAttempt: start, LastSuccessfulSendAttempt: start})
	if messages, _ := h.metrics.routing.meter(EndpointQueues, "q", DeviceMessages).total(); messages != 3 {
		t.Errorf("%d messages are counted", messages)
	}
}

func TestAnEndpointThatIsDownBlocksNoDeviceAndLosesNothing(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toQueue("x"))
	sink := sinks.last()
	sink.set(func(s *testSink) { s.down = refusedError{"Unauthorized"} })
	sendBodies(t, s, "a", "b")
	eventually(t, "the endpoint is unhealthy", hasStatus(h, HealthUnhealthy))
	sendBodies(t, s, "c")
	wantHealth(t, h, EndpointHealth{EndpointID: "q", Status: HealthUnhealthy, LastKnownError: "Unauthorized", LastKnownErrorTime: start, LastSendAttempt: start, Waiting: 3})
	advanceUntil(t, c, "it is tried again", func() bool { sink.mu.Lock(); defer sink.mu.Unlock(); return sink.attempts >= 4 })
	if at := c.Now().Sub(start); at < 7*firstRetry { // 1 + 2 + 4 seconds
		t.Errorf("four attempts within %v", at)
	}
	sink.set(func(s *testSink) { s.down = nil })
	advanceUntil(t, c, "all are delivered", func() bool { return sink.bodies() == "a b c" && waitsNothing(h)() })
	eventually(t, "the endpoint is healthy", hasStatus(h, HealthHealthy))
	if m := h.metrics.routing.meter(EndpointQueues, "q", DeviceMessages); m.retried.Load() < 8 || m.dropped.Load() != 0 {
		t.Errorf("%d retries, %d dropped", m.retried.Load(), m.dropped.Load())
	}
}

func TestRetriesAreNeverMoreThanHalfAMinuteApart(t *testing.T) {
	_, c, sinks, s := newOutletHub(t, toQueue("x"))
	sink := sinks.last()
	sink.set(func(s *testSink) { s.down = refusedError{"Transient"} })
	sendBodies(t, s, "a")
	for i := 1; i < 15; i++ {
		before := c.Now()
		eventually(t, "another attempt", func() bool {
			c.Advance(time.Second)
			sink.mu.Lock()
			defer sink.mu.Unlock()
			return sink.attempts > i
		})
		if waited := c.Now().Sub(before); waited > lastRetry+5*time.Second { // and some steps of this test
			t.Errorf("%v until attempt %d", waited, i+1)
		}
	}
}

func TestADeadEndpointCostsMessagesThatHaveWaitedForAnHour(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toQueue("x"))
	sink := sinks.last()
	sink.set(func(s *testSink) { s.down = refusedError{"Timeout"} })
	sendBodies(t, s, "a", "b")
	eventually(t, "the endpoint is unhealthy", hasStatus(h, HealthUnhealthy))
	c.Advance(deadAfter - time.Minute)
	if got := h.EndpointHealth()[0].Waiting; got != 2 {
		t.Fatalf("%d messages wait before the hour is over", got)
	}
	sendBodies(t, s, "young")
	c.Advance(time.Minute)
	advanceUntil(t, c, "the endpoint is dead", hasStatus(h, HealthDead))
	advanceUntil(t, c, "the old ones are dropped", func() bool { return h.EndpointHealth()[0].Waiting == 1 })
	sink.set(func(s *testSink) { s.down = nil })
	advanceUntil(t, c, "the young one is delivered", func() bool { return sink.bodies() == "young" && waitsNothing(h)() })
	eventually(t, "the endpoint is healthy", hasStatus(h, HealthHealthy))
	if m := h.metrics.routing.meter(EndpointQueues, "q", DeviceMessages); m.dropped.Load() != 2 {
		t.Errorf("%d messages are counted as dropped", m.dropped.Load())
	}
}

func TestAnEndpointIsDeadAfterAnHourAlsoWhenNothingIsLeftToTry(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toQueue("x"))
	sinks.last().set(func(s *testSink) { s.down = refusedError{"Timeout"} })
	sendBodies(t, s, "a")
	eventually(t, "the endpoint is unhealthy", hasStatus(h, HealthUnhealthy))
	c.Advance(2 * deadAfter)
	eventually(t, "the message is dropped", waitsNothing(h))
	eventually(t, "the endpoint is dead", hasStatus(h, HealthDead))
}

func TestAClockThatIsMovedFarCostsAWorkingEndpointNothing(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toContainer(60, 0))
	sendBodies(t, s, "a")
	c.Advance(24 * time.Hour)
	advanceUntil(t, c, "the batch is written", func() bool { return sinks.last().bodies() == "a" && waitsNothing(h)() })
}

func TestAMessageThatAnEndpointRefusesIsDroppedAndTheNextGoesOn(t *testing.T) {
	h, _, sinks, s := newOutletHub(t, toQueue("x"))
	sinks.last().set(func(s *testSink) { s.never = []string{"b", "c"} })
	sendBodies(t, s, "a", "b", "c", "d")
	eventually(t, "the others are delivered", func() bool { return sinks.last().bodies() == "a d" && waitsNothing(h)() })
	eventually(t, "the refusal is known", func() bool { return h.EndpointHealth()[0].LastKnownError == "InvalidMessage" })
	eventually(t, "the endpoint is healthy", hasStatus(h, HealthHealthy))
	if m := h.metrics.routing.meter(EndpointQueues, "q", DeviceMessages); m.invalid.Load() != 2 || m.dropped.Load() != 0 {
		t.Errorf("%d invalid, %d dropped", m.invalid.Load(), m.dropped.Load())
	}
}

func TestARefusalIsNoSuccess(t *testing.T) {
	h, _, sinks, s := newOutletHub(t, toQueue("x"))
	sinks.last().set(func(s *testSink) { s.never = []string{"a"} })
	sendBodies(t, s, "a")
	eventually(t, "the refusal is known", func() bool { return h.EndpointHealth()[0].LastKnownError != "" })
	wantHealth(t, h, EndpointHealth{EndpointID: "q", Status: HealthHealthy, LastKnownError: "InvalidMessage", LastKnownErrorTime: start, LastSendAttempt: start})
}

func TestWhatWasTakenBeforeAnErrorIsNotSentAgain(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toQueue("x"))
	sinks.last().set(func(s *testSink) { s.most = 2 })
	sendBodies(t, s, "a", "b", "c", "d", "e")
	advanceUntil(t, c, "all are delivered", waitsNothing(h))
	if got := sinks.last().bodies(); got != "a b c d e" {
		t.Errorf("%s", got)
	}
}

func TestWhenTooManyMessagesWaitTheOldestGoAndAreCounted(t *testing.T) {
	const size, sent = 8 << 10, 400
	h, c, sinks, s := newOutletHub(t, toQueue("x"), func(cfg *Config) { cfg.Engine = store.NewMemory(store.MemoryOptions{HubBytes: 256 << 10}) })
	sink := sinks.last()
	sink.set(func(s *testSink) { s.down = refusedError{"Transient"} })
	for i := range sent {
		sendBodies(t, s, fmt.Sprintf("%04d%s", i, strings.Repeat("x", size)))
	}
	waiting := h.EndpointHealth()[0].Waiting
	if waiting >= sent || waiting < 10 {
		t.Fatalf("%d messages wait", waiting)
	}
	sink.set(func(s *testSink) { s.down = nil })
	advanceUntil(t, c, "what waits is delivered", waitsNothing(h))
	sink.mu.Lock()
	defer sink.mu.Unlock()
	dropped := h.metrics.routing.meter(EndpointQueues, "q", DeviceMessages).dropped.Load()
	if len(sink.got)+int(dropped) != sent || !strings.HasPrefix(sink.got[len(sink.got)-1], fmt.Sprintf("%04d", sent-1)) {
		t.Errorf("%d delivered and %d dropped of %d", len(sink.got), dropped, sent)
	}
}

func TestABatchIsWrittenWhenItsTimeIsOver(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toContainer(90, 0))
	sendBodies(t, s, "a", "b")
	c.Advance(89 * time.Second)
	sendBodies(t, s, "c")
	if got := sinks.last().bodies(); got != "" || h.EndpointHealth()[0].Waiting != 3 {
		t.Fatalf("%q is written, %+v", got, h.EndpointHealth())
	}
	c.Advance(time.Second)
	advanceUntil(t, c, "the batch is written", func() bool { return sinks.last().bodies() == "a b c" && waitsNothing(h)() })
	if got := len(sinks.last().batches); got != 1 {
		t.Errorf("there were %d batches", got)
	}
	sinks.last().wrote(123)
	if m := h.metrics.routing.meter(EndpointStorage, "c", DeviceMessages); m.blobs.Load() != 1 || m.blobBytes.Load() != 123 {
		t.Errorf("%d blobs of %d bytes", m.blobs.Load(), m.blobBytes.Load())
	}
}

func TestABatchIsWrittenWhenItIsLarge(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toContainer(720, minChunk))
	body := strings.Repeat("x", 200<<10)
	for range minChunk/len(body) + 2 {
		sendBodies(t, s, body)
	}
	advanceUntil(t, c, "most of it is written", func() bool { return h.EndpointHealth()[0].Waiting < 3 })
	if at := c.Now().Sub(start); at > 60*time.Second {
		t.Errorf("it took %v", at)
	}
	if got := len(sinks.last().batches); got != 1 {
		t.Errorf("there were %d batches", got)
	}
}

func TestABatchThatCannotBeWrittenWaits(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toContainer(60, 0))
	sink := sinks.last()
	sink.set(func(s *testSink) { s.down = refusedError{"NotFound"} })
	sendBodies(t, s, "a")
	advanceUntil(t, c, "the endpoint is unhealthy", hasStatus(h, HealthUnhealthy))
	sendBodies(t, s, "b")
	sink.set(func(s *testSink) { s.down = nil })
	advanceUntil(t, c, "the batch is written", func() bool { return sink.bodies() == "a b" && waitsNothing(h)() })
	if at := c.Now().Sub(start); at > 100*time.Second {
		t.Errorf("only after %v", at)
	}
}

func TestWhatWaitsForAnEndpointThatIsChangedGoesToTheChangedOne(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toQueue("x"))
	first := sinks.last()
	first.set(func(s *testSink) { s.down = refusedError{"NotFound"} })
	sendBodies(t, s, "a", "b")
	eventually(t, "the endpoint is unhealthy", hasStatus(h, HealthUnhealthy))
	setRouting(t, h, toQueue("y"))
	second := sinks.last()
	sendBodies(t, s, "c")
	advanceUntil(t, c, "all are delivered", func() bool { return second.bodies() == "a b c" && waitsNothing(h)() })
	eventually(t, "the old sink is closed", func() bool { first.mu.Lock(); defer first.mu.Unlock(); return first.closed == 1 })
	if got := first.bodies(); got != "" || second.ConnectionString != "y" {
		t.Errorf("the old endpoint got %s, the new one is %+v", got, second.External)
	}
}

func TestAnEndpointThatStaysIsNotDisturbed(t *testing.T) {
	h, _, sinks, s := newOutletHub(t, toQueue("x"))
	first := sinks.last()
	r := toQueue("x")
	r.Routes = append(r.Routes, to("events", "a = 'b'"))
	setRouting(t, h, r)
	sendBodies(t, s, "a")
	eventually(t, "the first sink goes on", func() bool { return first.bodies() == "a" })
	if first.closed != 0 {
		t.Error("it was closed")
	}
}

func TestAnEndpointThatIsRemovedIsGone(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toQueue("x"))
	sink := sinks.last()
	sink.set(func(s *testSink) { s.down = refusedError{"NotFound"} })
	sendBodies(t, s, "a")
	eventually(t, "the endpoint is unhealthy", hasStatus(h, HealthUnhealthy))
	setRouting(t, h, Routing{})
	eventually(t, "the sink is closed", func() bool { sink.mu.Lock(); defer sink.mu.Unlock(); return sink.closed == 1 })
	if got := h.EndpointHealth(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	setRouting(t, h, toQueue("x"))
	sendBodies(t, s, "b")
	advanceUntil(t, c, "only the new message is delivered", func() bool { return sinks.last().bodies() == "b" })
}

func TestAResetForgetsWhatWaitsAndEndsDeliveries(t *testing.T) {
	h, c, sinks, s := newOutletHub(t, toQueue("x"))
	first := sinks.last()
	first.set(func(s *testSink) { s.hang = true })
	sendBodies(t, s, "a")
	eventually(t, "a delivery is under way", func() bool { first.mu.Lock(); defer first.mu.Unlock(); return first.attempts == 1 })
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	sendBodies(t, connect(t, h, "dev-1"), "b")
	advanceUntil(t, c, "the new message is delivered", func() bool { return sinks.last().bodies() == "b" })
	if first.bodies() != "" || first == sinks.last() {
		t.Error("the delivery of before went on")
	}
	wantHealth(t, h, EndpointHealth{EndpointID: "q", Status: HealthHealthy, LastSendAttempt: h.EndpointHealth()[0].LastSendAttempt, LastSuccessfulSendAttempt: h.EndpointHealth()[0].LastSuccessfulSendAttempt})
}

func TestAHubThatIsClosedLeavesADeliveryThatHangs(t *testing.T) {
	h, _, sinks, s := newOutletHub(t, toQueue("x"))
	sinks.last().set(func(s *testSink) { s.hang = true })
	sendBodies(t, s, "a")
	h.Close()
	if sink := sinks.last(); sink.closed != 1 {
		t.Errorf("the sink was closed %d times", sink.closed)
	}
}

func TestAnEndpointThatCanNeverWorkIsRefusedWithItsPlace(t *testing.T) {
	h, _, sinks, s := newOutletHub(t, toQueue("x"))
	err := h.SetRouting(ctx, toQueue("broken"))
	wantCode(t, err, CodeArgumentInvalid)
	if !strings.Contains(err.Error(), "serviceBusQueues (q)") || !strings.Contains(err.Error(), "the connection string is broken") {
		t.Error(err)
	}
	sendBodies(t, s, "a")
	eventually(t, "the routing of before is in force", func() bool { return sinks.last().bodies() == "a" })
}

func TestMessagesOfEachSourceAreCountedAsSuch(t *testing.T) {
	r := toQueue("x")
	r.Routes = append(r.Routes, Route{Name: "twins", Source: TwinChangeEvents, EndpointNames: []string{"q"}})
	h, _, sinks, _ := newOutletHub(t, r)
	o := h.outlets.find("Q")
	for source, want := range map[string]RouteSource{
		"Telemetry": DeviceMessages, "twinChangeEvents": TwinChangeEvents, "deviceLifecycleEvents": DeviceLifecycleEvents, "deviceConnectionStateEvents": DeviceConnectionStateEvents,
		"digitalTwinChangeEvents": DigitalTwinChangeEvents, "deviceJobLifecycleEvents": DeviceJobLifecycleEvents,
	} {
		if got := o.meter(source).key.source; got != want {
			t.Errorf("%s counts as %s", source, got)
		}
	}
	if sinks.last().Kind != EndpointQueues {
		t.Error(sinks.last().External)
	}
}

func TestDeliveriesSurviveChangesAndResetsUnderLoad(t *testing.T) {
	h, c, sinks, _ := newOutletHub(t, toQueue("x"))
	const turns = 60
	over := make(chan struct{})
	var busy sync.WaitGroup
	for i := range 4 {
		busy.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				s, err := h.OpenDevice(ctx, owner(store.Key{DeviceID: fmt.Sprint("dev-", i)}), store.Key{DeviceID: fmt.Sprint("dev-", i)}, DeviceOptions{})
				if err != nil { // a reset has just forgotten the device
					_, _ = h.Admin().CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: fmt.Sprint("dev-", i)}})
					continue
				}
				for range 20 {
					_ = s.SendTelemetry(ctx, telemetry("x"))
				}
			}
		})
	}
	busy.Go(func() {
		for i := range turns {
			sinks.last().set(func(s *testSink) {
				if i%2 == 0 {
					s.down = refusedError{"Transient"}
				}
			})
			_ = h.SetRouting(ctx, toQueue(fmt.Sprint("x", i%3)))
			c.Advance(time.Second)
			if i%10 == 9 {
				if err := h.Reset(ctx); err != nil {
					t.Error(err)
				}
			}
			h.EndpointHealth()
		}
		close(over)
	})
	busy.Wait()
	setRouting(t, h, toQueue("last"))
	sendBodies(t, connect(t, h, "dev-9"), "the end")
	advanceUntil(t, c, "what was sent last is delivered", func() bool { return strings.HasSuffix(sinks.last().bodies(), "the end") && waitsNothing(h)() })
	for _, s := range sinks.made[:len(sinks.made)-1] {
		s.mu.Lock()
		if s.closed > 1 {
			t.Errorf("a sink was closed %d times", s.closed)
		}
		s.mu.Unlock()
	}
}
