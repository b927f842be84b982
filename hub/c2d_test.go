package hub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// toDevice is a message for a device.
func toDevice(deviceID, body string, change ...func(*store.Message)) store.Message {
	m := store.Message{Body: []byte(body)}
	m.MessageID, m.To = body, "/devices/"+deviceID+"/messages/devicebound"
	for _, f := range change {
		f(&m)
	}
	return m
}

func withAck(ack string) func(*store.Message) { return func(m *store.Message) { m.Ack = ack } }

func send(t testing.TB, h *Hub, messages ...store.Message) {
	t.Helper()
	for _, m := range messages {
		if err := h.Admin().SendC2D(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
}

// inbox is a receiver that notes what is pushed to it.
type inbox struct {
	mu     sync.Mutex
	got    []store.Message
	refuse bool
}

func (b *inbox) deliver(m store.Message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, m)
	return !b.refuse
}

func (b *inbox) all() []store.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

// bodies returns what was pushed, as "body#delivery".
func (b *inbox) bodies() []string {
	var list []string
	for _, m := range b.all() {
		list = append(list, fmt.Sprintf("%s#%d", m.Body, m.DeliveryCount))
	}
	return list
}

// expect waits until exactly these have been pushed.
func (b *inbox) expect(t testing.TB, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("pushed %v (have %v)", want, b.bodies()), func() bool { return len(b.all()) >= len(want) })
	if diff := cmp.Diff(want, b.bodies()); diff != "" {
		t.Fatalf("pushed (-want +got):\n%s", diff)
	}
}

// token returns the lock token of the i-th push.
func (b *inbox) token(i int) string { return b.all()[i].LockToken }

func subscribe(t testing.TB, s *DeviceSession, credit int) (*inbox, *Subscription) {
	t.Helper()
	b := &inbox{}
	sub, err := s.SubscribeC2D(b.deliver)
	if err != nil {
		t.Fatal(err)
	}
	sub.SetCredit(credit)
	return b, sub
}

func count(t testing.TB, h *Hub, deviceID string) int {
	t.Helper()
	d, err := h.Admin().Identity(ctx, store.Key{DeviceID: deviceID})
	if err != nil {
		t.Fatal(err)
	}
	return d.C2DCount
}

func TestMessagesArePushedInOrderUpToTheCredit(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	b, sub := subscribe(t, s, 2)
	send(t, h, toDevice("d", "1"), toDevice("d", "2"), toDevice("d", "3"))
	b.expect(t, "1#1", "2#1")
	sub.AddCredit(1)
	b.expect(t, "1#1", "2#1", "3#1")
	for i := range 3 {
		if err := s.CompleteC2D(ctx, b.token(i)); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, s.CompleteC2D(ctx, b.token(0)), CodeLockLost)
	if n := count(t, h, "d"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestPushedMessageIsWhatWasSent(t *testing.T) {
	h, _ := newTestHub(t)
	b, _ := subscribe(t, connect(t, h, "a b"[:1]), 1)
	expiry := start.Add(10 * time.Minute)
	send(t, h, toDevice("a", "m", func(m *store.Message) {
		m.Expiry = expiry
		m.Properties = []store.Property{{Name: "iothub-ack", Value: "Full"}, {Name: "x", Value: "y"}}
	}))
	b.expect(t, "m#1")
	got := b.all()[0]
	want := store.Message{
		SystemProperties: store.SystemProperties{MessageID: "m", To: "/devices/a/messages/devicebound", Ack: "full", Expiry: expiry},
		Properties:       []store.Property{{Name: "x", Value: "y"}}, Body: []byte("m"), Enqueued: start, Deadline: expiry, DeliveryCount: 1,
		Sequence: got.Sequence, LockToken: got.LockToken, LockedUntil: start.Add(time.Minute),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if len(got.LockToken) != 36 {
		t.Errorf("lock token %q is no GUID", got.LockToken)
	}
}

func TestAbandonedMessageComesAgainBeforeLaterOnes(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	b, sub := subscribe(t, s, 2)
	send(t, h, toDevice("d", "1"), toDevice("d", "2"), toDevice("d", "3"))
	b.expect(t, "1#1", "2#1")
	if err := s.AbandonC2D(ctx, b.token(0)); err != nil {
		t.Fatal(err)
	}
	sub.AddCredit(2)
	b.expect(t, "1#1", "2#1", "1#2", "3#1")
}

func TestLockRunsOutAndTheMessageComesAgain(t *testing.T) {
	h, c := newTestHub(t)
	s := connect(t, h, "d")
	b, _ := subscribe(t, s, 2)
	send(t, h, toDevice("d", "1"))
	b.expect(t, "1#1")
	c.Advance(time.Minute - time.Nanosecond)
	b.expect(t, "1#1")
	c.Advance(time.Nanosecond)
	b.expect(t, "1#1", "1#2")
	wantCode(t, s.CompleteC2D(ctx, b.token(0)), CodeLockLost)
	if err := s.CompleteC2D(ctx, b.token(1)); err != nil {
		t.Error(err)
	}
}

func TestDisconnectionGivesMessagesBackAndTheQueueSurvives(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	b, _ := subscribe(t, s, 5)
	send(t, h, toDevice("d", "1"), toDevice("d", "2"))
	b.expect(t, "1#1", "2#1")
	s.Close()
	wantCode(t, s.CompleteC2D(ctx, b.token(0)), CodeClosed)
	again, _ := subscribe(t, connect(t, h, "d"), 5)
	again.expect(t, "1#2", "2#2")
}

func TestRefusedDeliveryIsNotCountedAndStopsThePush(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	b, sub := subscribe(t, s, 0)
	b.refuse = true
	send(t, h, toDevice("d", "1"), toDevice("d", "2"))
	sub.SetCredit(5)
	b.expect(t, "1#1")
	eventually(t, "the push stops", func() bool {
		s.peer.mu.Lock()
		defer s.peer.mu.Unlock()
		return !sub.pushing
	})
	b.refuse = false
	sub.SetCredit(5)
	b.expect(t, "1#1", "1#1", "2#1")
}

func TestSecondSubscriptionReplacesTheFirst(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	first, old := subscribe(t, s, 1)
	send(t, h, toDevice("d", "1"))
	first.expect(t, "1#1")
	second, _ := subscribe(t, s, 5)
	second.expect(t, "1#2")
	old.SetCredit(5)
	send(t, h, toDevice("d", "2"))
	second.expect(t, "1#2", "2#1")
	first.expect(t, "1#1")
	old.Close()
}

func TestClosedSubscriptionGivesBack(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	b, sub := subscribe(t, s, 1)
	send(t, h, toDevice("d", "1"))
	b.expect(t, "1#1")
	sub.Close()
	sub.Close()
	wantCode(t, s.CompleteC2D(ctx, b.token(0)), CodeLockLost)
	b2, _ := subscribe(t, s, 1)
	b2.expect(t, "1#2")
}

func TestDeliverMayCallTheHub(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	done := make(chan error, 3)
	var sub *Subscription
	ready := make(chan struct{})
	sub, err := s.SubscribeC2D(func(m store.Message) bool {
		<-ready
		sub.AddCredit(1)
		done <- s.CompleteC2D(ctx, m.LockToken)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	sub.SetCredit(1)
	send(t, h, toDevice("d", "1"), toDevice("d", "2"), toDevice("d", "3"))
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestC2DLimits(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	set := func(f func(*store.Message)) store.Message { return toDevice("d", "m", f) }
	for name, c := range map[string]struct {
		m    store.Message
		want Code
	}{
		"unknown device":  {toDevice("nobody", "m"), CodeDeviceNotFound},
		"unknown module":  {set(func(m *store.Message) { m.To = "/devices/d/modules/m/messages/devicebound" }), CodeModuleNotFound},
		"no to":           {set(func(m *store.Message) { m.To = "" }), CodeArgumentInvalid},
		"bad ack":         {set(withAck("maybe")), CodeArgumentInvalid},
		"bad message id":  {set(func(m *store.Message) { m.MessageID = "a b" }), CodeArgumentInvalid},
		"64 KiB":          {set(func(m *store.Message) { m.Body = make([]byte, 64<<10-len(m.MessageID)-len(m.To)) }), 0},
		"more":            {set(func(m *store.Message) { m.Body = make([]byte, 64<<10-len(m.MessageID)-len(m.To)+1) }), CodeMessageTooLarge},
		"expired":         {set(func(m *store.Message) { m.Expiry = start }), CodeInvalidMessageExpiry},
		"expires soon":    {set(func(m *store.Message) { m.Expiry = start.Add(time.Second) }), 0},
		"zero expiry":     {set(func(m *store.Message) { m.Expiry = time.Time{} }), 0},
		"expiry in 1970":  {set(func(m *store.Message) { m.Expiry = time.Unix(0, 0) }), 0},
		"none of any ack": {set(withAck("NONE")), 0},
	} {
		if got := codeOf(h.Admin().SendC2D(ctx, c.m)); got != c.want {
			t.Errorf("%s: code %d, want %d", name, got, c.want)
		}
	}
}

func TestFiftyFirstMessageIsRefused(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	b, _ := subscribe(t, s, 1)
	for i := range 50 {
		send(t, h, toDevice("d", fmt.Sprint(i)))
	}
	b.expect(t, "0#1") // it is locked, and still counts
	wantCode(t, h.Admin().SendC2D(ctx, toDevice("d", "50")), CodeQueueDepthExceeded)
	if err := s.CompleteC2D(ctx, b.token(0)); err != nil {
		t.Fatal(err)
	}
	send(t, h, toDevice("d", "50"))
	if n := count(t, h, "d"); n != 50 {
		t.Errorf("C2DCount = %d, want 50", n)
	}
}

func TestMessagesExpireOneByOne(t *testing.T) {
	h, c := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	send(t, h, toDevice("d", "default"))
	send(t, h, toDevice("d", "soon", func(m *store.Message) { m.Expiry = start.Add(time.Minute) }))
	send(t, h, toDevice("d", "late", func(m *store.Message) { m.Expiry = start.Add(48 * time.Hour) }))
	for _, step := range []struct {
		advance time.Duration
		left    int
	}{{time.Minute - 1, 3}, {1, 2}, {59*time.Minute - 1, 2}, {1, 1}, {47*time.Hour - 1, 1}, {1, 0}} {
		c.Advance(step.advance)
		if n := count(t, h, "d"); n != step.left {
			t.Errorf("%v after start: %d messages, want %d", c.Now().Sub(start), n, step.left)
		}
	}
}

func TestMessageDoesNotExpireWhileLocked(t *testing.T) {
	h, c := newTestHub(t)
	s := connect(t, h, "d")
	b, _ := subscribe(t, s, 1)
	send(t, h, toDevice("d", "1", func(m *store.Message) { m.Expiry = start.Add(time.Second) }))
	b.expect(t, "1#1")
	c.Advance(30 * time.Second)
	if err := s.CompleteC2D(ctx, b.token(0)); err != nil {
		t.Errorf("completing a locked message after its expiry: %v", err)
	}
}

func TestDeletingADeviceDeletesItsQueue(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	send(t, h, toDevice("d", "1"))
	if err := h.Admin().DeleteIdentity(ctx, store.Key{DeviceID: "d"}, "*"); err != nil {
		t.Fatal(err)
	}
	addDevice(t, h, store.Key{DeviceID: "d"})
	if n := count(t, h, "d"); n != 0 {
		t.Errorf("a new device finds %d messages", n)
	}
}

func TestModuleHasAQueueOfItsOwn(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	key := store.Key{DeviceID: "d", ModuleID: "m"}
	addDevice(t, h, key)
	send(t, h, toDevice("d", "1", func(m *store.Message) { m.To = "/devices/d/modules/m/messages/deviceBound" }))
	s, err := h.OpenDevice(ctx, owner(key), key, DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := subscribe(t, s, 1)
	b.expect(t, "1#1")
	if n := count(t, h, "d"); n != 0 {
		t.Errorf("the device's queue holds %d", n)
	}
}

func TestNoTimerIsLeftWhenNothingIsQueued(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	b, _ := subscribe(t, s, 1)
	send(t, h, toDevice("d", "1"))
	b.expect(t, "1#1")
	if err := s.CompleteC2D(ctx, b.token(0)); err != nil {
		t.Fatal(err)
	}
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	if !s.peer.next.IsZero() || s.peer.timer.Stop() {
		t.Error("the queue's timer still runs")
	}
}

func TestParseTo(t *testing.T) {
	for to, want := range map[string]store.Key{
		"/devices/d1/messages/devicebound":                  {DeviceID: "d1"},
		"devices/d1/messages/deviceBound/":                  {DeviceID: "d1"},
		"/Devices/D1/Messages/DEVICEBOUND":                  {DeviceID: "D1"},
		"amqps://host:5671/devices/d1/messages/devicebound": {DeviceID: "d1"},
		"/devices/a%23b%25c/messages/devicebound":           {DeviceID: "a#b%c"},
		"/devices/a%b/messages/devicebound":                 {DeviceID: "a%b"},
		"/devices/a%20b/messages/devicebound":               {DeviceID: "a%20b"}, // decoded it is no id
		"/devices/a+b/messages/devicebound":                 {DeviceID: "a+b"},
		"/devices/d1/modules/m%241/messages/devicebound":    {DeviceID: "d1", ModuleID: "m$1"},
		"": {}, "/": {}, "/devices//messages/devicebound": {}, "/devices/d1/messages/events": {}, "/devices/d1/messages/devicebound/x": {},
		"/devices/d 1/messages/devicebound": {}, "/devices/d1/modules//messages/devicebound": {}, "http://devices/d1/messages/devicebound": {},
		"/devices/" + strings.Repeat("d", 129) + "/messages/devicebound": {},
	} {
		got, ok := parseTo(to)
		if ok != (want != store.Key{}) || ok && got != want {
			t.Errorf("parseTo(%q) = %+v, %v; want %+v", to, got, ok, want)
		}
	}
}

func FuzzParseTo(f *testing.F) {
	f.Add("/devices/d1/messages/devicebound")
	f.Add("amqps://host:5671/devices/a%23b/modules/m%241/messages/devicebound")
	f.Fuzz(func(t *testing.T, to string) {
		key, ok := parseTo(to)
		if ok && (!validID(key.DeviceID) || key.ModuleID != "" && !validID(key.ModuleID)) {
			t.Errorf("parseTo(%q) = %+v, which is no id", to, key)
		}
	})
}

// ledger follows every message of a property test from sending to its one outcome.
type ledger struct {
	h        *Hub
	s        *DeviceSession
	clock    *clock.Clock
	sent     int
	locked   map[string]string    // lock token -> body
	until    map[string]time.Time // when each lock runs out
	settled  map[string][]string  // body -> outcomes
	attempts map[string]int
	abandons map[string]int
}

func (l *ledger) send(*rapid.T) {
	body := fmt.Sprint(l.sent)
	if err := l.h.Admin().SendC2D(ctx, toDevice("d", body, withAck("full"))); err == nil {
		l.sent++
	}
}

func (l *ledger) poll(t *rapid.T) {
	m, ok, err := l.s.PollC2D(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		body := string(m.Body)
		for _, other := range l.locked {
			if other == body {
				t.Fatalf("%s was delivered while it was locked", body)
			}
		}
		if l.attempts[body]++; m.DeliveryCount != l.attempts[body] || m.Abandons != l.abandons[body] || m.Abandons >= c2dAbandons {
			t.Fatalf("%s: delivery %d, abandoned %d times, at attempt %d after %d abandons", body, m.DeliveryCount, m.Abandons, l.attempts[body], l.abandons[body])
		}
		l.locked[m.LockToken], l.until[m.LockToken] = body, m.LockedUntil
	}
}

func (l *ledger) settle(t *rapid.T) {
	if len(l.locked) == 0 {
		t.Skip("nothing is locked")
	}
	tokens := make([]string, 0, len(l.locked))
	for token := range l.locked {
		tokens = append(tokens, token)
	}
	slices.SortFunc(tokens, func(a, b string) int { return strings.Compare(l.locked[a], l.locked[b]) })
	token := rapid.SampledFrom(tokens).Draw(t, "token")
	how := rapid.SampledFrom([]string{"complete", "reject", "abandon", "abandon", "abandon"}).Draw(t, "how")
	settle := map[string]func(*DeviceSession, context.Context, string) error{
		"complete": (*DeviceSession).CompleteC2D, "reject": (*DeviceSession).RejectC2D, "abandon": (*DeviceSession).AbandonC2D,
	}[how]
	if err := settle(l.s, ctx, token); err != nil {
		t.Fatalf("settling a locked message: %v", err)
	}
	if how == "abandon" {
		l.abandons[l.locked[token]]++
	}
	delete(l.locked, token)
}

func (l *ledger) sleep(t *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 20 * time.Minute}).Draw(t, "advance")
	l.clock.Advance(d)
	for token, until := range l.until {
		if !until.After(l.clock.Now()) {
			delete(l.locked, token)
		}
	}
}

// check reads the feedback and checks that each message had at most one outcome.
func (l *ledger) check(t *rapid.T) {
	for _, r := range drainFeedback(t, l.h) {
		l.settled[r.OriginalMessageID] = append(l.settled[r.OriginalMessageID], string(r.StatusCode))
	}
	waiting, err := l.h.Admin().Identity(ctx, store.Key{DeviceID: "d"})
	if err != nil {
		t.Fatal(err)
	}
	for body, outcomes := range l.settled {
		if len(outcomes) != 1 {
			t.Fatalf("message %s has the outcomes %v", body, outcomes)
		}
	}
	if waiting.C2DCount+len(l.settled) != l.sent {
		t.Fatalf("%d sent, but %d wait and %d have an outcome", l.sent, waiting.C2DCount, len(l.settled))
	}
}

func TestEveryMessageHasExactlyOneOutcome(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h, c := newTestHub(t, func(cfg *Config) { cfg.Poll = PollOff })
		l := &ledger{h: h, clock: c, s: connect(t, h, "d"), locked: map[string]string{}, until: map[string]time.Time{}, settled: map[string][]string{}, attempts: map[string]int{}, abandons: map[string]int{}}
		rt.Repeat(map[string]func(*rapid.T){"send": l.send, "poll": l.poll, "poll again": l.poll, "settle": l.settle, "sleep": l.sleep, "": l.check})
	})
}

// flaky is a device that completes most messages, abandons some, and reconnects now and then without warning.
type flaky struct {
	h       *Hub
	tokens  chan string
	session *DeviceSession
	sub     *Subscription
	handled int
}

func (f *flaky) connect(t *testing.T) {
	f.session = connect(t, f.h, "d")
	sub, err := f.session.SubscribeC2D(func(m store.Message) bool {
		select {
		case f.tokens <- m.LockToken:
			return true
		default:
			return false
		}
	})
	if err != nil {
		t.Error(err)
		return
	}
	f.sub = sub
	f.sub.SetCredit(20)
}

func (f *flaky) handle(t *testing.T, token string) {
	f.handled++
	switch {
	case f.handled%40 == 0:
		f.connect(t) // tokens of the old connection are of no use
	case f.handled%7 == 0:
		_ = f.session.AbandonC2D(ctx, token)
	default:
		_ = f.session.CompleteC2D(ctx, token)
	}
	f.sub.SetCredit(10)
}

func TestConcurrentSendersAndAFlakyDeviceLoseNothing(t *testing.T) {
	h, _ := newTestHub(t)
	const senders, each = 3, 300
	f := &flaky{h: h, tokens: make(chan string, 64)}
	f.connect(t)
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				m := toDevice("d", fmt.Sprintf("%d-%d", s, i), withAck("full"))
				eventually(t, "the queue has room", func() bool { return h.Admin().SendC2D(ctx, m) == nil })
			}
		})
	}
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case token := <-f.tokens:
				f.handle(t, token)
			case <-done:
				return
			}
		}
	})
	seen := map[string]outcome{}
	eventually(t, "every message has an outcome", func() bool {
		for _, r := range drainFeedback(t, h) {
			if other, twice := seen[r.OriginalMessageID]; twice {
				t.Errorf("%s: %s and %s", r.OriginalMessageID, other, r.StatusCode)
			}
			seen[r.OriginalMessageID] = r.StatusCode
		}
		return len(seen) == senders*each
	})
	close(done)
	wg.Wait()
	if n := count(t, h, "d"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func BenchmarkC2DFromEnqueueToComplete(b *testing.B) {
	h, _ := newTestHub(b)
	s := connect(b, h, "d")
	pushed := make(chan string, 1)
	sub, err := s.SubscribeC2D(func(m store.Message) bool {
		pushed <- m.LockToken
		return true
	})
	if err != nil {
		b.Fatal(err)
	}
	service, m := h.Admin(), toDevice("d", "m")
	b.ReportAllocs()
	for b.Loop() {
		sub.SetCredit(1)
		if err := service.SendC2D(ctx, m); err != nil {
			b.Fatal(err)
		}
		if err := s.CompleteC2D(ctx, <-pushed); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAckMayBeWrittenAsTheJavaSDKDoes(t *testing.T) {
	for text, want := range map[string]string{"": "", "None": "none", "positive": "positive", "Full": "full", "PositiveOnly": "positive", "negativeonly": "negative"} {
		h, _ := newTestHub(t)
		m := store.Message{SystemProperties: store.SystemProperties{Ack: text}}
		if err := h.checkC2D(&m); err != nil || m.Ack != want {
			t.Errorf("%q: %q, %v", text, m.Ack, err)
		}
	}
}
