package hub

import (
	"context"
	"sync"
)

// gate keeps a reset out of one partition while something is stored there.
type gate struct {
	mu sync.RWMutex
	_  [64]byte // keeps the next gate off this cache line
}

// enter begins to store something that belongs to an era: the time from one reset to the next. It reports false when that era is
// over. Otherwise no reset happens until leave.
func (h *Hub) enter(partition int, era int64) bool {
	g := &h.gates[partition]
	g.mu.RLock()
	if h.era.Load() == era {
		return true
	}
	g.mu.RUnlock()
	return false
}

func (h *Hub) leave(partition int) { h.gates[partition].mu.RUnlock() }

// Reset closes every session with CodeClosed and empties registry, queues, events, violations and poll memory. It takes
// milliseconds with 10,000 devices. Registered CAs stay, and so do handles that Admin gave, but not their readers and subscriptions.
// Telemetry and messages that are being sent meanwhile are refused with CodeClosed or forgotten: nothing of what was sent on a session
// of before is there afterwards.
func (h *Hub) Reset(ctx context.Context) error {
	if err := h.empty(ctx); err != nil {
		return err
	}
	h.sweep()
	h.feedback.clear()
	h.feedback.forget()
	h.files.clear()
	h.files.forget()
	h.services.sweep(h.NewError(CodeClosed))
	h.jobs.clear()
	h.transfers.clear()
	h.configurations.clear()
	h.ClearViolations()
	return nil
}

// empty forgets what is stored, and begins a new era in the same moment: who looked something up before belongs to the old one, and
// is either refused, or found and ended by the sweeps that follow.
func (h *Hub) empty(ctx context.Context) error {
	h.routings.mu.Lock()
	defer h.routings.mu.Unlock()
	for i := range h.gates {
		h.gates[i].mu.Lock()
		defer h.gates[i].mu.Unlock()
	}
	if err := h.cfg.Engine.Reset(ctx); err != nil {
		return err
	}
	h.eventHubs.clear(h.builtIn)
	h.era.Add(1)
	return h.resetRouting(ctx)
}
