package hub

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// The HTTP poll rule. IoT Hub's documentation asks a device that polls for cloud-to-device messages over HTTPS to do so every
// 25 minutes or more seldom (article "Choose a device communication protocol"). In Iolite
//
//   - a poll is one GET for a message, whether there is one or not, also when the one before it brought a message;
//   - the first poll of a device is free;
//   - a later one must come PollInterval or more after the last poll that was let through: a refused poll does not start the time
//     anew, or an impatient device would never get through;
//   - one that comes sooner is a violation: logged, counted, listed, and with PollEnforce refused. With PollLog it is let through, and
//     the next one is measured from it;
//   - deleting the device, a reset of the hub, and its end forget the last poll.

// maxViolations is how many violations are kept.
const maxViolations = 10_000

// Violation is one HTTP poll for cloud-to-device messages that came sooner than the poll interval.
type Violation struct {
	DeviceID string
	At       time.Time
	Previous time.Time     // the poll it is measured from
	Elapsed  time.Duration // At minus Previous
	Interval time.Duration // the rule in force
	Refused  bool          // answered with 429
	Remote   string        // the poller's address
}

// violations is a ring of the newest violations.
type violations struct {
	mu    sync.Mutex
	kept  []Violation
	first int // index of the oldest once the ring is full
	count int
}

func (v *violations) add(one Violation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count++
	if len(v.kept) < maxViolations {
		v.kept = append(v.kept, one)
		return
	}
	v.kept[v.first] = one
	v.first = (v.first + 1) % maxViolations
}

// Violations returns the kept violations, oldest first (the newest 10,000 are kept).
func (h *Hub) Violations() []Violation {
	v := &h.violations
	v.mu.Lock()
	defer v.mu.Unlock()
	return append(append([]Violation(nil), v.kept[v.first:]...), v.kept[:v.first]...)
}

// ViolationCount returns how many violations happened since start or the last ClearViolations, kept or not.
func (h *Hub) ViolationCount() int {
	h.violations.mu.Lock()
	defer h.violations.mu.Unlock()
	return h.violations.count
}

// ClearViolations forgets them.
func (h *Hub) ClearViolations() {
	v := &h.violations
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kept, v.first, v.count = nil, 0, 0
}

// PollC2D is an HTTP device's GET: it applies the poll rule (CodePollTooSoon with RetryAfter) and locks the next message. ok is
// false when the queue is empty.
func (s *DeviceSession) PollC2D(context.Context) (m store.Message, ok bool, err error) {
	err = s.withQueue(opC2DReceive, func(p *peer) error {
		if err := s.checkPoll(p); err != nil {
			return err
		}
		m, ok = p.poll()
		return nil
	})
	return m, ok, err
}

// checkPoll applies the poll rule. The caller holds the peer's lock.
func (s *DeviceSession) checkPoll(p *peer) error {
	h := s.hub
	if h.cfg.Poll == PollOff {
		return nil
	}
	now, previous := h.clock.Now(), p.lastPoll
	elapsed := now.Sub(previous)
	if previous.IsZero() || elapsed >= h.cfg.PollInterval {
		p.lastPoll = now
		return nil
	}
	v := Violation{
		DeviceID: s.key.DeviceID, At: now, Previous: previous, Elapsed: elapsed, Interval: h.cfg.PollInterval, Refused: h.cfg.Poll == PollEnforce, Remote: remote(s.options.Conn),
	}
	if !v.Refused {
		p.lastPoll = now
		p.later(func() { h.violate(v, s.options.Conn, nil) })
		return nil
	}
	left := h.cfg.PollInterval - elapsed
	seconds := int((left + time.Second - 1) / time.Second)
	e := h.NewError(CodePollTooSoon, h.cfg.PollInterval.String(), (time.Duration(seconds) * time.Second).String())
	e.RetryAfter, e.logged = seconds, true
	p.later(func() { h.violate(v, s.options.Conn, e) })
	return e
}

// violate makes a violation known. refusal is what the device is answered, nil when it is let through.
func (h *Hub) violate(v Violation, c *door.Conn, refusal *Error) {
	h.violations.add(v)
	h.metrics.violations.Inc()
	attrs := append(connectionAttrs(c), slog.String("elapsed", v.Elapsed.String()), slog.String("interval", v.Interval.String()), slog.Bool("refused", v.Refused))
	if refusal != nil {
		attrs = append(attrs, slog.Int("resultType", int(refusal.Code)), slog.String("resultDescription", refusal.Name), slog.Int("statusCode", refusal.Status),
			slog.String("trackingId", refusal.TrackingID))
	}
	h.note(slog.LevelWarn, opC2DReceive, store.Key{DeviceID: v.DeviceID}, "HTTP poll rule violated: a device polls for cloud-to-device messages too often", attrs...)
	if h.cfg.OnViolation != nil {
		h.cfg.OnViolation(v)
	}
}
