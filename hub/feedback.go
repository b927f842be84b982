package hub

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// When a batch of feedback is closed (article "Send cloud-to-device messages from an IoT hub", section Message feedback).
const (
	feedbackBatch = 64
	feedbackWait  = 15 * time.Second
)

// feedbackTime is how record times are written: .NET's round-trip format in UTC.
const feedbackTime = "2006-01-02T15:04:05.0000000Z"

// feedbackRecord is one element of a batch.
type feedbackRecord struct {
	OriginalMessageID  string  `json:"originalMessageId"`
	Description        string  `json:"description"`
	DeviceGenerationID string  `json:"deviceGenerationId"`
	DeviceID           string  `json:"deviceId"`
	EnqueuedTimeUTC    string  `json:"enqueuedTimeUtc"` // when the outcome happened
	StatusCode         outcome `json:"statusCode"`
}

// feedbackQueue gathers records into batches and queues those. The real hub closes a batch at 64 records or after 15 seconds; Iolite
// also closes it as soon as a receiver waits for it, so that nobody waits for the clock.
type feedbackQueue struct {
	serviceQueue
	open  []feedbackRecord // of the batch that is not closed yet
	flush *clock.Timer     // closes it after feedbackWait; nil when it is empty
}

func (f *feedbackQueue) init(h *Hub) {
	f.op = opFeedback
	f.what, f.resource, f.to = "feedback", "messages/servicebound/feedback", "/messages/serviceBound/feedback"
	f.contentType = "application/vnd.microsoft.iothub.feedback.json"
	f.serviceQueue.init(h, h.cfg.Engine.Feedback(), f.closeBatch)
}

// wantsFeedback reports whether a message asks to hear of an outcome.
func wantsFeedback(ack string, o outcome) bool {
	switch ack {
	case "full":
		return true
	case "positive":
		return o == outcomeSuccess
	case "negative":
		return o != outcomeSuccess
	}
	return false
}

// report makes records of what happened to messages of key, as far as they ask for it.
func (f *feedbackQueue) report(h *Hub, key store.Key, messages []store.Message, o outcome) {
	var records []feedbackRecord
	for _, m := range messages {
		if wantsFeedback(m.Ack, o) {
			records = append(records, feedbackRecord{OriginalMessageID: m.MessageID, Description: string(o), DeviceID: key.DeviceID, StatusCode: o})
		}
	}
	if len(records) == 0 {
		return
	}
	id, err := h.registry.Get(context.Background(), store.Key{DeviceID: key.DeviceID})
	if err != nil {
		return // the device was deleted in this moment, and its messages with it
	}
	now := h.clock.Now().Format(feedbackTime)
	for i := range records {
		records[i].DeviceGenerationID, records[i].EnqueuedTimeUTC = id.GenerationID, now
	}
	f.add(records)
}

func (f *feedbackQueue) add(records []feedbackRecord) {
	f.mu.Lock()
	defer f.unlock()
	f.open = append(f.open, records...)
	for len(f.open) >= feedbackBatch {
		f.closeBatch()
	}
	if len(f.open) > 0 && f.flush == nil {
		f.flush = f.hub.clock.AfterFunc(feedbackWait, f.onFlush)
	}
	f.dirty = true // who waits takes even what is not closed
}

// forgetDevice drops the records of a deleted device that are in no batch yet (IoT Hub: "When a device is deleted, any pending feedback is
// deleted as well"). Those of a new device by its name stay.
func (f *feedbackQueue) forgetDevice(deviceID string) {
	id, err := f.hub.registry.Get(context.Background(), store.Key{DeviceID: deviceID})
	f.mu.Lock()
	defer f.unlock()
	f.open = slices.DeleteFunc(f.open, func(r feedbackRecord) bool {
		return r.DeviceID == deviceID && (err != nil || r.DeviceGenerationID != id.GenerationID)
	})
	f.stopFlush()
}

// stopFlush stops the timer when no batch is open. The caller holds the lock.
func (f *feedbackQueue) stopFlush() {
	if len(f.open) == 0 && f.flush != nil {
		f.flush.Stop()
		f.flush = nil
	}
}

// onFlush is the function of the timer flush.
func (f *feedbackQueue) onFlush() {
	f.mu.Lock()
	defer f.unlock()
	f.closeBatch()
}

// closeBatch queues up to 64 records as one message. The caller holds the lock.
func (f *feedbackQueue) closeBatch() {
	n := min(len(f.open), feedbackBatch)
	if n == 0 {
		return
	}
	body, err := json.Marshal(f.open[:n])
	if err != nil {
		f.hub.log.Error("feedback cannot be written", "category", C2DCommands, "error", err)
	}
	f.open = append([]feedbackRecord(nil), f.open[n:]...)
	f.stopFlush()
	f.post(body)
}

// clear forgets everything that is not queued, for Reset and Close.
func (f *feedbackQueue) clear() {
	f.mu.Lock()
	f.open = nil
	f.stopFlush()
	f.unlock()
	f.serviceQueue.clear()
}

// SubscribeFeedback pushes feedback batches; the rules of DeviceSession.SubscribeC2D hold, but several subscriptions compete for
// the one queue. The body of each message is the JSON array of records. The subscription ends with the session, and with a reset of
// the hub. ServiceConnect.
func (s *ServiceSession) SubscribeFeedback(deliver func(store.Message) bool) (*Subscription, error) {
	return s.subscribe(&s.hub.feedback.serviceQueue, deliver)
}

// PollFeedback locks the next feedback batch; ok is false when there is none. ServiceConnect.
func (s *ServiceSession) PollFeedback(ctx context.Context) (m store.Message, ok bool, err error) {
	return s.poll(ctx, &s.hub.feedback.serviceQueue)
}

// CompleteFeedback removes a batch. CodeLockLost.
func (s *ServiceSession) CompleteFeedback(ctx context.Context, lockToken string) error {
	return s.complete(ctx, &s.hub.feedback.serviceQueue, lockToken)
}

// AbandonFeedback gives a batch back to be delivered again. CodeLockLost.
func (s *ServiceSession) AbandonFeedback(ctx context.Context, lockToken string) error {
	return s.abandon(ctx, &s.hub.feedback.serviceQueue, lockToken)
}
