package store

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// memRegistry keeps identities in a map, and the device ids in order beside it.
type memRegistry struct {
	mu       sync.RWMutex
	devices  map[string]*memDevice
	order    orderedIDs
	disabled int
	writes   uint64 // counts writes; the etags come from it
}

// memIdentity is an identity and, once somebody has written it, its twin. A stored twin is never changed, only replaced.
type memIdentity struct {
	Identity
	twin *Twin
}

// row copies what is stored; the documents in it are shared, and never change.
func (id *memIdentity) row() TwinRow {
	r := TwinRow{Identity: id.Identity}
	if id.twin != nil {
		r.Twin = *id.twin
	}
	return r
}

// memDevice is a device with its modules, by id. There are few modules, so a slice does.
type memDevice struct {
	memIdentity
	modules []*memIdentity
}

// reset empties the registry. Etags are not given a second time: who remembers one from before must not find it matching.
func (r *memRegistry) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.devices, r.order, r.disabled = map[string]*memDevice{}, orderedIDs{}, 0
}

// Create implements Registry.
func (r *memRegistry) Create(_ context.Context, id Identity) (Identity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.find(id.Key) != nil {
		return Identity{}, ErrExists
	}
	parent := r.devices[id.DeviceID]
	if id.ModuleID != "" && parent == nil {
		return Identity{}, ErrNotFound
	}
	// Ids often are pieces of a request's path; the clone lets go of the rest.
	id.ModuleID, id.ParentScopes = strings.Clone(id.ModuleID), slices.Clone(id.ParentScopes)
	id.ETag = r.nextETag()
	if id.ModuleID != "" {
		id.DeviceID = parent.DeviceID
		at, _ := parent.locate(id.ModuleID)
		parent.modules = slices.Insert(parent.modules, at, &memIdentity{Identity: id})
		return id, nil
	}
	id.DeviceID = strings.Clone(id.DeviceID)
	r.devices[id.DeviceID] = &memDevice{memIdentity: memIdentity{Identity: id}}
	r.order.add(id.DeviceID)
	r.countDisabled(id.Status, 1)
	return id, nil
}

// Get implements Registry.
func (r *memRegistry) Get(_ context.Context, key Key) (Identity, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if id := r.find(key); id != nil {
		return id.Identity, nil
	}
	return Identity{}, ErrNotFound
}

// Update implements Registry.
func (r *memRegistry) Update(_ context.Context, id Identity, ifMatch string) (Identity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.find(id.Key)
	if err := matchETag(old, ifMatch); err != nil {
		return Identity{}, err
	}
	id.Key, id.ParentScopes = old.Key, slices.Clone(id.ParentScopes)
	id.ETag = r.nextETag()
	id.setActivity(old.activity())
	if id.ModuleID == "" {
		r.countDisabled(old.Status, -1)
		r.countDisabled(id.Status, 1)
	}
	old.Identity = id
	return id, nil
}

// Touch implements Registry.
func (r *memRegistry) Touch(_ context.Context, key Key, change func(*Activity)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.find(key)
	if id == nil {
		return ErrNotFound
	}
	a := id.activity()
	change(&a)
	id.setActivity(a)
	return nil
}

func (id *Identity) activity() Activity {
	return Activity{Connected: id.Connected, ConnectedUpdated: id.ConnectedUpdated, LastActivity: id.LastActivity, ModelID: id.ModelID}
}

func (id *Identity) setActivity(a Activity) {
	id.Connected, id.ConnectedUpdated, id.LastActivity, id.ModelID = a.Connected, a.ConnectedUpdated, a.LastActivity, a.ModelID
}

// Delete implements Registry.
func (r *memRegistry) Delete(_ context.Context, key Key, ifMatch string) ([]TwinRow, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.find(key)
	if err := matchETag(id, ifMatch); err != nil {
		return nil, err
	}
	device := r.devices[key.DeviceID]
	if key.ModuleID != "" {
		at, _ := device.locate(key.ModuleID)
		device.modules = slices.Delete(device.modules, at, at+1)
		return []TwinRow{id.row()}, nil
	}
	delete(r.devices, key.DeviceID)
	r.order.remove(key.DeviceID)
	r.countDisabled(id.Status, -1)
	return appendRows([]TwinRow{id.row()}, device.modules, 1+len(device.modules)), nil
}

// Devices implements Registry.
func (r *memRegistry) Devices(_ context.Context, after string, limit int) ([]Identity, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	ids := r.order.after(after, limit)
	list := make([]Identity, len(ids))
	for i, id := range ids {
		list[i] = r.devices[id].Identity
	}
	return list, nil
}

// Modules implements Registry.
func (r *memRegistry) Modules(_ context.Context, deviceID string) ([]Identity, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if d := r.devices[deviceID]; d != nil {
		return d.moduleList(), nil
	}
	return nil, nil
}

// Count implements Registry.
func (r *memRegistry) Count(context.Context) (devices, disabled int, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.devices), r.disabled, nil
}

// find returns the stored identity or nil. The caller holds mu.
func (r *memRegistry) find(key Key) *memIdentity {
	d := r.devices[key.DeviceID]
	if d == nil {
		return nil
	}
	if key.ModuleID == "" {
		return &d.memIdentity
	}
	if at, found := d.locate(key.ModuleID); found {
		return d.modules[at]
	}
	return nil
}

func (d *memDevice) locate(moduleID string) (at int, found bool) {
	return slices.BinarySearchFunc(d.modules, moduleID, func(m *memIdentity, id string) int { return strings.Compare(m.ModuleID, id) })
}

func (d *memDevice) moduleList() []Identity {
	var list []Identity
	for _, m := range d.modules {
		list = append(list, m.Identity)
	}
	return list
}

func (r *memRegistry) countDisabled(s Status, by int) {
	if s == Disabled {
		r.disabled += by
	}
}

// nextETag returns a new etag: IoT Hub's are the base64 text of a decimal counter.
func (r *memRegistry) nextETag() string {
	r.writes++
	return base64.StdEncoding.EncodeToString(strconv.AppendUint(nil, r.writes, 10))
}

// matchETag checks the condition of a write on id, which is nil when there is none.
func matchETag(id *memIdentity, ifMatch string) error {
	switch {
	case id == nil:
		return ErrNotFound
	case ifMatch != "*" && ifMatch != id.ETag:
		return ErrConflict
	}
	return nil
}
