package hub

import (
	"context"
	"fmt"
	"time"
)

// The operations of connection state events.
const (
	opConnected    = "deviceConnected" // of modules, too
	opDisconnected = "deviceDisconnected"
)

// notifyState tells that the identity has come or gone. The end of a hub and a reset tell nothing. The caller holds the peer's lock.
func (s *DeviceSession) notifyState(ctx context.Context, opType string, at time.Time) {
	h := s.hub
	if !h.noticed(ctx, &connectionNotice) || h.closed.Load() || !h.enter(s.partition, s.era) {
		return
	}
	defer h.leave(s.partition)
	n := notice{kind: &connectionNotice, opType: opType, correlationID: newUUID(), at: at}
	n.body = fmt.Appendf(nil, `{"sequenceNumber":"%s"}`, h.connectionSequence())
	s.mustNotify(ctx, n)
}

// mustNotify is notify for what cannot be refused any more: an error is logged.
func (s *DeviceSession) mustNotify(ctx context.Context, n notice) {
	if err := s.hub.notify(ctx, s.partition, s.key, n); err != nil {
		s.hub.log.ErrorContext(ctx, "an event is lost", "category", Routes, "deviceId", s.key.DeviceID, "moduleId", s.key.ModuleID, "error", err)
	}
}

// fileTimeAtEpoch is the Unix epoch in Windows file time: units of 100 ns since the year 1601.
const fileTimeAtEpoch = 116444736000000000

// connectionSequence returns a number of 256 bits in hexadecimal, greater than all before, also those of a hub of the same name that ran
// before: the time at which the hub began, in Windows file time as the real hub has it, and a counter.
func (h *Hub) connectionSequence() string {
	began := uint64(h.created.UnixNano()/int64(100*time.Nanosecond) + fileTimeAtEpoch)
	const configuration = 2 << 32
	return fmt.Sprintf("%016X%016X%016X%016X", 0, began, uint64(configuration), h.connectionChanges.Add(1))
}
