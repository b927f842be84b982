package hub

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/iolite-emulator/iolite/store"
)

// The operations of lifecycle events.
const (
	opCreate = "createDeviceIdentity" // of modules, too
	opDelete = "deleteDeviceIdentity"
)

// lifecycleLocks is the number of locks that keep creation and deletion of a device in order.
const lifecycleLocks = 16

// lifecycle returns the lock that a device and its modules are created and deleted under while somebody wants to hear of it.
func (h *Hub) lifecycle(deviceID string) *sync.Mutex {
	return &h.lifecycles[maphash.String(h.seed, deviceID)%lifecycleLocks]
}

// insert adds an identity to the registry, and tells of it before anything else can happen to it. CodeClosed when the era is over.
func (h *Hub) insert(ctx context.Context, era int64, id store.Identity) (store.Identity, error) {
	wanted := h.noticed(ctx, &lifecycleNotice)
	if wanted {
		l := h.lifecycle(id.DeviceID)
		l.Lock()
		defer l.Unlock()
		p := h.lockPeer(id.Key)
		defer h.unlockPeer(p)
	}
	gate := h.gateFor(wanted, id.Key)
	if !h.enter(gate, era) {
		return id, h.NewError(CodeClosed)
	}
	defer h.leave(gate)
	created, err := h.registry.Create(ctx, id)
	if err != nil || !wanted {
		return created, err
	}
	return created, h.notifyLifecycle(ctx, gate, opCreate, store.TwinRow{Identity: created})
}

// notifyDeleted tells of identities that are no more: modules first, as their device does not outlive them. The caller holds the lifecycle's
// lock. After a reset there is nobody left to tell of.
func (h *Hub) notifyDeleted(ctx context.Context, era int64, removed []store.TwinRow) error {
	partition := h.gateFor(true, removed[0].Key)
	if !h.enter(partition, era) {
		return nil
	}
	defer h.leave(partition)
	for _, row := range slices.Backward(removed) {
		if err := h.notifyLifecycle(ctx, partition, opDelete, row); err != nil {
			return err
		}
	}
	return nil
}

func (h *Hub) notifyLifecycle(ctx context.Context, partition int, opType string, row store.TwinRow) error {
	completeTwin(&row)
	n := notice{kind: &lifecycleNotice, opType: opType, correlationID: h.newCorrelationID(), at: h.clock.Now(), body: appendStoredTwin(nil, &row)}
	return h.notify(ctx, partition, row.Key, n)
}
