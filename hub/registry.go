package hub

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// maxListed is the most devices that one listing returns.
const maxListed = 1000

// Device is an identity as the registry shows it.
type Device struct {
	store.Identity
	C2DCount int // cloudToDeviceMessageCount
}

// CreateIdentity registers a device or module, making keys when a SAS identity has none. An edge device gets its scope and the
// modules $edgeAgent and $edgeHub. RegistryWrite. CodeDeviceAlreadyExists, CodeModuleAlreadyExists, CodeDeviceNotFound (of a module),
// CodeTooManyModules, CodeArgumentInvalid.
func (s *ServiceSession) CreateIdentity(ctx context.Context, id store.Identity) (_ Device, err error) {
	defer func() { err = s.hub.did(opIdentityCreate, id.Key, s.conn, 0, err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.RegistryWrite, devicePath(id.Key)); err != nil {
		return Device{}, err
	}
	return s.hub.create(ctx, era, id)
}

// create registers an identity, and has configurations reach it.
func (h *Hub) create(ctx context.Context, era int64, id store.Identity) (Device, error) {
	d, err := h.register(ctx, era, id)
	if err == nil {
		h.configurations.follow(ctx, d.Key)
	}
	return d, err
}

func (h *Hub) register(ctx context.Context, era int64, id store.Identity) (Device, error) {
	if err := h.complete(&id); err != nil {
		return Device{}, err
	}
	id.GenerationID = h.newGeneration()
	id.Connected, id.ConnectedUpdated, id.LastActivity, id.StatusUpdated = false, time.Time{}, time.Time{}, time.Time{}
	if err := h.completeScope(&id, store.Identity{}); err != nil {
		return Device{}, err
	}
	if id.ModuleID != "" {
		return h.createModule(ctx, era, id)
	}
	created, err := h.insert(ctx, era, id)
	if err != nil {
		return Device{}, h.registryError(err, id.Key)
	}
	if created.IoTEdge {
		err = h.createEdgeModules(ctx, era, created)
	}
	return Device{Identity: created}, err
}

// createModule holds the limit of modules per device. Ids that begin with $ are the hub's own: $edgeAgent and $edgeHub.
func (h *Hub) createModule(ctx context.Context, era int64, id store.Identity) (Device, error) {
	if strings.HasPrefix(id.ModuleID, "$") {
		return Device{}, h.NewError(CodeArgumentInvalid, "module ids that begin with $ are reserved")
	}
	h.modules.Lock()
	defer h.modules.Unlock()
	device := store.Key{DeviceID: id.DeviceID}
	if _, err := h.registry.Get(ctx, device); err != nil {
		return Device{}, h.registryError(err, device)
	}
	modules, err := h.registry.Modules(ctx, id.DeviceID)
	if err != nil {
		return Device{}, err
	}
	if _, err := h.registry.Get(ctx, id.Key); err != nil && len(modules) >= maxModules {
		return Device{}, h.NewError(CodeTooManyModules, id.DeviceID, strconv.Itoa(maxModules))
	}
	created, err := h.insert(ctx, era, id)
	if err != nil {
		return Device{}, h.registryError(err, id.Key)
	}
	return Device{Identity: created}, nil
}

// createEdgeModules registers the two system modules of an edge device.
func (h *Hub) createEdgeModules(ctx context.Context, era int64, device store.Identity) error {
	for _, name := range []string{edgeAgent, edgeHub} {
		id := store.Identity{
			Key: store.Key{DeviceID: device.DeviceID, ModuleID: name}, ManagedBy: "iotEdge", Status: store.Enabled,
			Authentication: store.Authentication{Type: store.AuthNone}, GenerationID: h.newGeneration(),
		}
		_, err := h.insert(ctx, era, id)
		switch {
		case errors.Is(err, store.ErrExists): // it was an edge device before
		case errors.Is(err, store.ErrNotFound): // it has just been deleted
		case err != nil:
			return fmt.Errorf("create %s: %w", id.Key, err)
		}
	}
	return nil
}

// UpdateIdentity replaces an identity; ifMatch is an etag without quotes or "*". Keys that are not given are made anew. Disabling a
// device ends its sessions and its modules'. RegistryWrite. CodeDeviceNotFound, CodeModuleNotFound, CodePreconditionFailed,
// CodeArgumentInvalid, CodeInvalidDeviceScope.
func (s *ServiceSession) UpdateIdentity(ctx context.Context, id store.Identity, ifMatch string) (_ Device, err error) {
	defer func() { err = s.hub.did(opIdentityUpdate, id.Key, s.conn, 0, err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.RegistryWrite, devicePath(id.Key)); err != nil {
		return Device{}, err
	}
	return s.hub.update(ctx, era, id, ifMatch)
}

func (h *Hub) update(ctx context.Context, era int64, id store.Identity, ifMatch string) (Device, error) {
	if err := h.complete(&id); err != nil {
		return Device{}, err
	}
	for {
		old, err := h.registry.Get(ctx, id.Key)
		if err != nil {
			return Device{}, h.registryError(err, id.Key)
		}
		match := unquoteETag(ifMatch)
		if match != "*" && match != old.ETag {
			return Device{}, h.NewError(CodePreconditionFailed)
		}
		next, err := h.successor(id, old)
		if err != nil {
			return Device{}, err
		}
		// What was read must still stand, also for "*": no update may undo another's.
		updated, err := h.registry.Update(ctx, next, old.ETag)
		if isConflict(err) && match == "*" {
			continue
		}
		if err != nil {
			return Device{}, h.registryError(err, id.Key)
		}
		if err := h.updated(ctx, era, updated, old); err != nil {
			return Device{}, err
		}
		h.configurations.follow(ctx, id.Key)
		if id.ModuleID == "" && updated.Status != old.Status { // which is its modules', too
			h.configurations.followModules(ctx, id.DeviceID)
		}
		return h.device(ctx, updated)
	}
}

// successor returns id with what a service cannot set taken from old.
func (h *Hub) successor(id, old store.Identity) (store.Identity, error) {
	id.GenerationID = old.GenerationID
	if id.StatusUpdated = old.StatusUpdated; id.Status != old.Status {
		id.StatusUpdated = h.clock.Now()
	}
	return id, h.completeScope(&id, old)
}

// updated does what follows from an update.
func (h *Hub) updated(ctx context.Context, era int64, id, old store.Identity) error {
	if id.IoTEdge && !old.IoTEdge {
		if err := h.createEdgeModules(ctx, era, id); err != nil {
			return err
		}
	}
	if id.ModuleID == "" && id.Status == store.Disabled {
		return h.endDevice(ctx, id.DeviceID, CodeDeviceDisabled)
	}
	return nil
}

// endDevice ends the sessions of a device and its modules.
func (h *Hub) endDevice(ctx context.Context, deviceID string, why Code) error {
	keys, err := h.deviceKeys(ctx, deviceID)
	for _, key := range keys {
		if p := h.findPeer(key); p != nil {
			if p.session != nil {
				p.end(p.session, h.NewError(why))
			}
			h.unlockPeer(p)
		}
	}
	return err
}

// deviceKeys returns the keys of a device and its modules.
func (h *Hub) deviceKeys(ctx context.Context, deviceID string) ([]store.Key, error) {
	keys := []store.Key{{DeviceID: deviceID}}
	modules, err := h.registry.Modules(ctx, deviceID)
	for _, m := range modules {
		keys = append(keys, m.Key)
	}
	return keys, err
}

// Identity returns one identity. RegistryRead. CodeDeviceNotFound, CodeModuleNotFound.
func (s *ServiceSession) Identity(ctx context.Context, key store.Key) (_ Device, err error) {
	defer func() { err = s.hub.did(opIdentityGet, key, s.conn, 0, err) }()
	if err := s.need(ctx, auth.RegistryRead, devicePath(key)); err != nil {
		return Device{}, err
	}
	id, err := s.hub.registry.Get(ctx, key)
	if err != nil {
		return Device{}, s.hub.registryError(err, key)
	}
	return s.hub.device(ctx, id)
}

// device adds what the registry does not hold: the queue's length, activity that is not stored yet, and a module's status, which is its
// device's.
func (h *Hub) device(ctx context.Context, id store.Identity) (Device, error) {
	if id.ModuleID != "" {
		if d, err := h.registry.Get(ctx, store.Key{DeviceID: id.DeviceID}); err == nil { // else it is being deleted
			id.Status, id.StatusReason, id.StatusUpdated = d.Status, d.StatusReason, d.StatusUpdated
		}
	}
	if p := h.findPeer(id.Key); p != nil {
		p.expire()
		if at := p.activity.Load(); at != 0 {
			if active := time.Unix(0, at).UTC(); active.After(id.LastActivity) {
				id.LastActivity = active
			}
		}
		h.unlockPeer(p)
	}
	n, err := h.devicebound.store.Len(ctx, id.Key)
	return Device{Identity: id, C2DCount: n}, err
}

func (h *Hub) devices(ctx context.Context, ids []store.Identity) ([]Device, error) {
	list := make([]Device, len(ids))
	for i, id := range ids {
		var err error
		if list[i], err = h.device(ctx, id); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// DeleteIdentity removes an identity, its modules and its queue, and ends its sessions; ifMatch "" fails with CodePreconditionFailed.
// RegistryWrite. CodeDeviceNotFound, CodeModuleNotFound, CodePreconditionFailed.
func (s *ServiceSession) DeleteIdentity(ctx context.Context, key store.Key, ifMatch string) (err error) {
	defer func() { err = s.hub.did(opIdentityDelete, key, s.conn, 0, err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.RegistryWrite, devicePath(key)); err != nil {
		return err
	}
	return s.hub.delete(ctx, era, key, ifMatch)
}

func (h *Hub) delete(ctx context.Context, era int64, key store.Key, ifMatch string) error {
	wanted := h.noticed(ctx, &lifecycleNotice)
	if wanted {
		l := h.lifecycle(key.DeviceID)
		l.Lock()
		defer l.Unlock()
	}
	p := h.lockPeer(key) // who makes the identity again finds nothing of the old one, and loses nothing of his
	removed, err := h.registry.Delete(ctx, key, unquoteETag(ifMatch))
	if err == nil {
		p.erase(h.notFound(key))
	}
	h.unlockPeer(p)
	if err != nil {
		return h.registryError(err, key)
	}
	for _, id := range removed {
		if id.Key == key {
			continue
		}
		p := h.lockPeer(id.Key)
		p.erase(h.notFound(id.Key))
		h.unlockPeer(p)
	}
	if wanted {
		return h.notifyDeleted(ctx, era, removed)
	}
	return nil
}

// Devices lists up to top devices (1..1000, 0 for 1000) in id order. RegistryRead. CodeArgumentInvalid.
func (s *ServiceSession) Devices(ctx context.Context, top int) ([]Device, error) {
	return s.DevicesAfter(ctx, "", top)
}

// DevicesAfter lists like Devices, beginning with the first id greater than after.
func (s *ServiceSession) DevicesAfter(ctx context.Context, after string, top int) (_ []Device, err error) {
	defer func() { err = s.hub.did(opIdentityGet, store.Key{}, s.conn, 0, err) }()
	if err := s.need(ctx, auth.RegistryRead, "devices"); err != nil {
		return nil, err
	}
	if top < 0 || top > maxListed {
		return nil, s.hub.NewError(CodeArgumentInvalid, "top is not 1 to 1000")
	}
	if top == 0 {
		top = maxListed
	}
	ids, err := s.hub.registry.Devices(ctx, after, top)
	if err != nil {
		return nil, err
	}
	return s.hub.devices(ctx, ids)
}

// Modules lists the modules of a device. RegistryRead. CodeDeviceNotFound.
func (s *ServiceSession) Modules(ctx context.Context, deviceID string) (_ []Device, err error) {
	defer func() { err = s.hub.did(opIdentityGet, store.Key{DeviceID: deviceID}, s.conn, 0, err) }()
	key := store.Key{DeviceID: deviceID}
	if err := s.need(ctx, auth.RegistryRead, devicePath(key)+"/modules"); err != nil {
		return nil, err
	}
	if _, err := s.hub.registry.Get(ctx, key); err != nil {
		return nil, s.hub.registryError(err, key)
	}
	ids, err := s.hub.registry.Modules(ctx, deviceID)
	if err != nil {
		return nil, err
	}
	return s.hub.devices(ctx, ids)
}

// DeviceStatistics counts devices. RegistryRead.
func (s *ServiceSession) DeviceStatistics(ctx context.Context) (total, enabled, disabled int, err error) {
	if err := s.need(ctx, auth.RegistryRead, "statistics/devices"); err != nil {
		return 0, 0, 0, err
	}
	total, disabled, err = s.hub.registry.Count(ctx)
	return total, total - disabled, disabled, err
}

// ConnectedDevices counts connected devices, without modules. RegistryRead.
func (s *ServiceSession) ConnectedDevices(ctx context.Context) (int, error) {
	if err := s.need(ctx, auth.RegistryRead, "statistics/service"); err != nil {
		return 0, err
	}
	return int(s.hub.metrics.connected.Load()), nil
}

// isConflict reports whether somebody else has written in between.
func isConflict(err error) bool { return errors.Is(err, store.ErrConflict) }
