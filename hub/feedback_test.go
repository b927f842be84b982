package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

// failer is a test or a property test.
type failer interface {
	Helper()
	Fatal(args ...any)
}

func records(t failer, m store.Message) []feedbackRecord {
	t.Helper()
	var list []feedbackRecord
	if err := json.Unmarshal(m.Body, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// drainFeedback polls and completes all feedback there is.
func drainFeedback(t failer, h *Hub) []feedbackRecord {
	t.Helper()
	service := h.Admin()
	defer service.Close()
	var all []feedbackRecord
	for {
		m, ok, err := service.PollFeedback(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, records(t, m)...)
		if err := service.CompleteFeedback(ctx, m.LockToken); err != nil {
			t.Fatal(err)
		}
	}
}

// outcomes brings about each outcome for a message of device d, which is connected and gets no messages from elsewhere.
var outcomes = map[outcome]func(t *testing.T, h *Hub, s *DeviceSession, advance func(time.Duration)){
	outcomeSuccess: func(t *testing.T, _ *Hub, s *DeviceSession, _ func(time.Duration)) {
		settleNext(t, s, (*DeviceSession).CompleteC2D)
	},
	outcomeRejected: func(t *testing.T, _ *Hub, s *DeviceSession, _ func(time.Duration)) {
		settleNext(t, s, (*DeviceSession).RejectC2D)
	},
	outcomeExceeded: func(t *testing.T, _ *Hub, s *DeviceSession, advance func(time.Duration)) {
		for range c2dAbandons {
			pollNext(t, s)
			advance(c2dLock) // a lock that runs out does not count
			settleNext(t, s, (*DeviceSession).AbandonC2D)
		}
		if _, ok, _ := s.PollC2D(ctx); ok {
			t.Error("a delivery after the tenth abandon")
		}
	},
	outcomeExpired: func(_ *testing.T, _ *Hub, _ *DeviceSession, advance func(time.Duration)) { advance(c2dTTL) },
	outcomePurged: func(t *testing.T, h *Hub, _ *DeviceSession, _ func(time.Duration)) {
		if n, err := h.Admin().PurgeC2D(ctx, "d"); n != 1 || err != nil {
			t.Errorf("PurgeC2D = %d, %v", n, err)
		}
	},
}

func pollNext(t *testing.T, s *DeviceSession) store.Message {
	t.Helper()
	m, ok, err := s.PollC2D(ctx)
	if err != nil || !ok {
		t.Fatalf("PollC2D = %v, %v", ok, err)
	}
	return m
}

func settleNext(t *testing.T, s *DeviceSession, how func(*DeviceSession, context.Context, string) error) {
	t.Helper()
	if err := how(s, ctx, pollNext(t, s).LockToken); err != nil {
		t.Fatal(err)
	}
}

func TestFeedbackIsGivenForTheOutcomesThatWereAskedFor(t *testing.T) {
	for ack, wants := range map[string]func(outcome) bool{
		"":         func(outcome) bool { return false },
		"none":     func(outcome) bool { return false },
		"positive": func(o outcome) bool { return o == outcomeSuccess },
		"negative": func(o outcome) bool { return o != outcomeSuccess },
		"full":     func(outcome) bool { return true },
	} {
		for o, bringAbout := range outcomes {
			t.Run(fmt.Sprintf("%s of ack %q", o, ack), func(t *testing.T) {
				h, c := newTestHub(t, func(cfg *Config) { cfg.Poll = PollOff })
				s := connect(t, h, "d")
				id, _ := h.registry.Get(ctx, s.Key())
				send(t, h, toDevice("d", "m-1", withAck(ack)))
				bringAbout(t, h, s, c.Advance)
				var want []feedbackRecord
				if wants(o) {
					want = []feedbackRecord{{
						OriginalMessageID: "m-1", Description: string(o), DeviceGenerationID: id.GenerationID, DeviceID: "d",
						EnqueuedTimeUTC: c.Now().Format("2006-01-02T15:04:05.0000000Z"), StatusCode: o,
					}}
				}
				if diff := cmp.Diff(want, drainFeedback(t, h)); diff != "" {
					t.Errorf("records (-want +got):\n%s", diff)
				}
				if n := count(t, h, "d"); n != 0 {
					t.Errorf("%d messages are left in the queue", n)
				}
			})
		}
	}
}

// purge makes n records of feedback at once.
func purge(t testing.TB, h *Hub, n int) {
	t.Helper()
	for i := range n {
		send(t, h, toDevice("d", fmt.Sprint(i), withAck("full")))
	}
	if _, err := h.Admin().PurgeC2D(ctx, "d"); err != nil {
		t.Fatal(err)
	}
}

func subscribeFeedback(t testing.TB, h *Hub, credit int) (*inbox, *ServiceSession) {
	t.Helper()
	b, service := &inbox{}, h.Admin()
	sub, err := service.SubscribeFeedback(b.deliver)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	sub.SetCredit(credit)
	return b, service
}

func (b *inbox) batchSizes(t testing.TB) []int {
	var sizes []int
	for _, m := range b.all() {
		sizes = append(sizes, len(records(t, m)))
	}
	return sizes
}

func (b *inbox) expectBatches(t testing.TB, want ...int) {
	t.Helper()
	eventually(t, fmt.Sprintf("batches of %v (have %v)", want, b.batchSizes(t)), func() bool { return len(b.all()) >= len(want) })
	if diff := cmp.Diff(want, b.batchSizes(t)); diff != "" {
		t.Fatalf("batches (-want +got):\n%s", diff)
	}
}

func TestWaitingReceiverGetsFeedbackAtOnce(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	b, service := subscribeFeedback(t, h, 10)
	purge(t, h, 3)
	b.expectBatches(t, 3)
	purge(t, h, 1)
	b.expectBatches(t, 3, 1)
	m := b.all()[0]
	if m.ContentType != "application/vnd.microsoft.iothub.feedback.json" || m.UserID != "iolite" || !m.Enqueued.Equal(start) {
		t.Errorf("batch %+v", m)
	}
	if err := service.CompleteFeedback(ctx, m.LockToken); err != nil {
		t.Error(err)
	}
	wantCode(t, service.CompleteFeedback(ctx, m.LockToken), CodeLockLost)
}

func TestFeedbackIsBatchedWhileNobodyWaits(t *testing.T) {
	h, c := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	purge(t, h, 50)
	purge(t, h, 20) // closes a batch of 64
	c.Advance(feedbackWait)
	purge(t, h, 2)
	purge(t, h, 3) // not closed when the receiver comes
	b, _ := subscribeFeedback(t, h, 10)
	b.expectBatches(t, 64, 6, 5)
}

func TestFeedbackExpiresAndIsDroppedAfterTenDeliveries(t *testing.T) {
	h, c := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	service := h.Admin()
	purge(t, h, 1)
	for range serviceboundAbandons {
		m, ok, err := service.PollFeedback(ctx)
		if err != nil || !ok {
			t.Fatalf("PollFeedback = %v, %v", ok, err)
		}
		if err := service.AbandonFeedback(ctx, m.LockToken); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok, _ := service.PollFeedback(ctx); ok {
		t.Error("a delivery after the tenth abandon")
	}
	purge(t, h, 1)
	c.Advance(feedbackWait + serviceboundTTL)
	if _, ok, _ := service.PollFeedback(ctx); ok {
		t.Error("feedback outlived its time")
	}
}

func TestFeedbackReceiversCompete(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	a, _ := subscribeFeedback(t, h, 1)
	b, _ := subscribeFeedback(t, h, 1)
	purge(t, h, 1)
	purge(t, h, 1)
	eventually(t, "each has one", func() bool { return len(a.all()) == 1 && len(b.all()) == 1 })
}

func TestFeedbackOfAClosedReceiverGoesToTheNext(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	a, service := subscribeFeedback(t, h, 1)
	purge(t, h, 1)
	a.expectBatches(t, 1)
	b, _ := subscribeFeedback(t, h, 1)
	service.Close()
	b.expectBatches(t, 1)
	if n := b.all()[0].DeliveryCount; n != 2 {
		t.Errorf("delivery count %d, want 2", n)
	}
}

func TestFeedbackThatIsNotCompletedComesAgain(t *testing.T) {
	h, c := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	purge(t, h, 1)
	service := h.Admin()
	poll := func() store.Message {
		t.Helper()
		m, ok, err := service.PollFeedback(ctx)
		if err != nil || !ok {
			t.Fatalf("PollFeedback = %v, %v", ok, err)
		}
		return m
	}
	first := poll()
	if _, ok, _ := service.PollFeedback(ctx); ok {
		t.Fatal("a batch was delivered while it was locked")
	}
	c.Advance(serviceboundLock)
	second := poll() // the lock ran out
	wantCode(t, service.CompleteFeedback(ctx, first.LockToken), CodeLockLost)
	if err := service.AbandonFeedback(ctx, second.LockToken); err != nil {
		t.Fatal(err)
	}
	third := poll()
	if third.DeliveryCount != 3 || third.Abandons != 1 {
		t.Errorf("delivery %d, abandoned %d times, want 3 and 1", third.DeliveryCount, third.Abandons)
	}
	if err := service.CompleteFeedback(ctx, third.LockToken); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := service.PollFeedback(ctx); ok {
		t.Error("a completed batch came again")
	}
}

// IoT Hub: a batch whose lock runs out again and again is not dropped, but expires.
func TestFeedbackWhoseLockRunsOutIsNotDroppedBeforeItExpires(t *testing.T) {
	h, c := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	service := h.Admin()
	purge(t, h, 1)
	deliveries := 0
	for {
		_, ok, err := service.PollFeedback(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		deliveries++
		c.Advance(serviceboundLock)
	}
	if want := int(serviceboundTTL / serviceboundLock); deliveries != want {
		t.Errorf("%d deliveries in an hour, want %d", deliveries, want)
	}
}

func TestPendingFeedbackIsDeletedWithItsDevice(t *testing.T) {
	h, c := newTestHub(t)
	for _, id := range []string{"d", "other"} {
		addDevice(t, h, store.Key{DeviceID: id})
	}
	purge(t, h, 3)
	send(t, h, toDevice("other", "stays", withAck("full")))
	if _, err := h.Admin().PurgeC2D(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	if err := h.Admin().DeleteIdentity(ctx, store.Key{DeviceID: "d"}, "*"); err != nil {
		t.Fatal(err)
	}
	addDevice(t, h, store.Key{DeviceID: "d"})
	purge(t, h, 1)
	c.Advance(feedbackWait)
	var got []string
	for _, r := range drainFeedback(t, h) {
		got = append(got, r.DeviceID+" "+r.OriginalMessageID)
	}
	if diff := cmp.Diff([]string{"other stays", "d 0"}, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}
