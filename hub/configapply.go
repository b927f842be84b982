package hub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

// configurations keeps the configurations of a hub, and the twins as they want them. Both locks come before all others.
type configurations struct {
	hub   *Hub
	store store.Configurations

	change sync.Mutex              // held while one changes and the twins follow: one change at a time
	using  sync.RWMutex            // held for reading while a twin is brought up to date; then current does not change
	rules  atomic.Pointer[ruleSet] // nil while there are none

	misfits rate.Sometimes // a twin without room would be logged at each of its changes
}

// ruleSet is all configurations of a hub at one time. It never changes.
type ruleSet struct {
	era    int64
	ranked []*rule // in the order in which they win
	gone   *rule   // one that has been deleted, while the twins let go of it
	edge   bool    // whether there are deployments
}

// find returns the rule of an id, also of one that has gone.
func (s *ruleSet) find(id string) *rule {
	if s.gone != nil && s.gone.ID == id {
		return s.gone
	}
	if at := slices.IndexFunc(s.ranked, func(r *rule) bool { return r.ID == id }); at >= 0 {
		return s.ranked[at]
	}
	return nil
}

// create stores a new configuration and applies it.
func (c *configurations) create(ctx context.Context, era int64, conf store.Configuration) (store.Configuration, error) {
	if _, err := c.hub.rule(conf); err != nil {
		return conf, err
	}
	c.change.Lock()
	defer c.change.Unlock()
	conf.Created = c.hub.clock.Now()
	conf.Updated = conf.Created
	return c.write(ctx, era, conf.ID, func() (store.Configuration, error) { return c.store.Create(ctx, conf, maxConfigurations) })
}

// update replaces what can be replaced of a configuration. IoT Hub: its content stays, whatever the body says.
func (c *configurations) update(ctx context.Context, era int64, conf store.Configuration, ifMatch string) (store.Configuration, error) {
	c.change.Lock()
	defer c.change.Unlock()
	old, err := c.store.Get(ctx, conf.ID)
	if err != nil {
		return conf, c.hub.configurationError(err, conf.ID)
	}
	conf.Content, conf.Created, conf.Updated = old.Content, old.Created, c.hub.clock.Now()
	if _, err := c.hub.rule(conf); err != nil {
		return conf, err
	}
	return c.write(ctx, era, conf.ID, func() (store.Configuration, error) { return c.store.Update(ctx, conf, ifMatch) })
}

// remove deletes a configuration and has the twins let go of it.
func (c *configurations) remove(ctx context.Context, era int64, id, ifMatch string) error {
	c.change.Lock()
	defer c.change.Unlock()
	var gone store.Configuration
	_, err := c.write(ctx, era, id, func() (removed store.Configuration, err error) {
		gone, err = c.store.Delete(ctx, id, ifMatch)
		return gone, err
	})
	return err
}

// write changes the store and has the twins follow. The caller holds change.
func (c *configurations) write(ctx context.Context, era int64, id string, change func() (store.Configuration, error)) (store.Configuration, error) {
	if !c.hub.enter(0, era) {
		return store.Configuration{}, c.hub.NewError(CodeClosed)
	}
	changed, err := change()
	var set *ruleSet
	if err == nil {
		set, err = c.load(ctx, era)
	}
	c.hub.leave(0)
	if err != nil {
		return changed, c.hub.configurationError(err, id)
	}
	if set.find(id) == nil {
		if set.gone, err = c.hub.rule(changed); err != nil {
			return changed, err
		}
	}
	c.publish(set)
	err = c.applyAll(ctx, era, set.find(id))
	if len(set.ranked) == 0 {
		c.publish(nil)
	} else if set.gone != nil {
		c.publish(&ruleSet{era: set.era, ranked: set.ranked, edge: set.edge})
	}
	return changed, err
}

// publish makes a set the one that counts, once nobody works with another.
func (c *configurations) publish(set *ruleSet) {
	c.using.Lock()
	defer c.using.Unlock()
	c.rules.Store(set)
}

// load reads all configurations.
func (c *configurations) load(ctx context.Context, era int64) (*ruleSet, error) {
	stored, err := c.store.List(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(stored, byPrecedence)
	set := &ruleSet{era: era}
	for _, conf := range stored {
		r, err := c.hub.rule(conf)
		if err != nil {
			return nil, err
		}
		set.ranked = append(set.ranked, r)
		set.edge = set.edge || r.kind == edgeContent
	}
	return set, nil
}

// clear forgets the rules of a former era.
func (c *configurations) clear() {
	c.using.Lock()
	defer c.using.Unlock()
	if set := c.rules.Load(); set != nil && set.era != c.hub.era.Load() {
		c.rules.Store(nil)
	}
}

// applyAll brings every twin up to date that a changed rule is, or was, for.
func (c *configurations) applyAll(ctx context.Context, era int64, changed *rule) (err error) {
	var rows []store.TwinRow
	for after := (store.Key{}); ; after = rows[len(rows)-1].Key {
		if rows, err = c.hub.twins.Scan(ctx, changed.kind == moduleContent, after, jobScan, rows[:0]); err != nil || len(rows) == 0 {
			return err
		}
		for i := range rows {
			if changed.kind == edgeContent && !c.hub.mayBeDeployedTo(ctx, &rows[i]) {
				continue
			}
			if err := c.reach(ctx, era, rows[i].Key, changed); err != nil {
				return err
			}
		}
	}
}

// mayBeDeployedTo reports whether a device is an edge device, or has modules from the time when it was one.
func (h *Hub) mayBeDeployedTo(ctx context.Context, row *store.TwinRow) bool {
	if row.IoTEdge {
		return true
	}
	modules, err := h.registry.Modules(ctx, row.DeviceID)
	return err != nil || len(modules) > 0
}

// follow brings a twin up to date after a change of its own, and reports whether there are configurations at all: without, it costs one
// atomic load. The caller holds no lock. What goes wrong is only logged: the change itself stands.
func (c *configurations) follow(ctx context.Context, key store.Key) bool {
	set := c.rules.Load()
	if set == nil {
		return false
	}
	if err := c.reach(context.WithoutCancel(ctx), set.era, key, nil); err != nil {
		c.hub.log.Error("configurations cannot follow the change of a twin", "category", Configurations, "deviceId", key.DeviceID, "moduleId", key.ModuleID, "error", err)
	}
	return true
}

// followModules is follow for all modules of a device.
func (c *configurations) followModules(ctx context.Context, deviceID string) {
	if c.rules.Load() == nil {
		return
	}
	keys, err := c.hub.deviceKeys(ctx, deviceID)
	if err != nil {
		c.hub.log.Error("configurations cannot follow the change of a device", "category", Configurations, "deviceId", deviceID, "error", err)
	}
	for _, key := range keys[1:] {
		c.follow(ctx, key)
	}
}

// reach brings up to date a twin, and the modules of a device when there are deployments.
func (c *configurations) reach(ctx context.Context, era int64, key store.Key, changed *rule) error {
	c.using.RLock()
	defer c.using.RUnlock()
	set := c.rules.Load()
	if set == nil || set.era != era || era != c.hub.era.Load() {
		return nil
	}
	keys := []store.Key{key}
	if key.ModuleID == "" && set.edge || changed != nil && changed.kind == edgeContent {
		more, err := c.modules(ctx, set, key)
		if err != nil {
			return err
		}
		keys = append(keys, more...)
	}
	for _, key := range keys {
		if err := c.settle(ctx, set, key, changed); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

// modules returns the keys of a device's modules. On an edge device those are made that deployments for it have properties for.
func (c *configurations) modules(ctx context.Context, set *ruleSet, key store.Key) (keys []store.Key, err error) {
	row, err := c.hub.twinRow(ctx, key)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	if row.IoTEdge {
		c.makeModules(ctx, set, &row)
	}
	keys, err = c.hub.deviceKeys(ctx, key.DeviceID)
	return keys[1:], err
}

// makeModules makes the modules that deployments for an edge device have properties for.
func (c *configurations) makeModules(ctx context.Context, set *ruleSet, row *store.TwinRow) {
	for _, r := range set.ranked {
		if r.kind != edgeContent || !r.condition.matches(storedRow(row)) {
			continue
		}
		if err := c.hub.makeModules(ctx, set.era, row.DeviceID, r.content); isCode(err, CodeClosed) {
			return
		} else if err != nil {
			c.hub.log.Warn("a deployment cannot make its modules", "category", Configurations, "configurationId", r.ID, "deviceId", row.DeviceID, "error", err)
		}
	}
}

func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// makeModules registers the modules that a deployment has properties for and that the device does not have. Edge devices' own modules are
// registered with them.
func (h *Hub) makeModules(ctx context.Context, era int64, deviceID string, c content) error {
	for id := range c.parts {
		key := store.Key{DeviceID: deviceID, ModuleID: id}
		if _, err := h.registry.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
			continue
		}
		module := store.Identity{Key: key, ManagedBy: "iotEdge", GenerationID: h.newGeneration()}
		if err := h.complete(&module); err != nil {
			return err
		}
		if _, err := h.createModule(ctx, era, module); err != nil && !isCode(err, CodeModuleAlreadyExists) {
			return err
		}
	}
	return nil
}

// settle brings one twin up to date. changed is a rule that has changed; without one, nothing happens as long as the same rules apply, so
// that what back ends write over a configuration stays.
func (c *configurations) settle(ctx context.Context, set *ruleSet, key store.Key, changed *rule) error {
	// So that changes are told in their order, and nobody plans with what another is about to write.
	wanted := c.hub.twinNoticed(ctx)
	gate := c.hub.gateFor(wanted, key)
	p := c.hub.lockPeer(key)
	defer c.hub.unlockPeer(p)
	if !c.hub.enter(gate, set.era) {
		return nil // a reset has forgotten all of it
	}
	defer c.hub.leave(gate)
	for {
		plan, row, err := c.plan(ctx, set, key, changed)
		if err != nil || plan == nil {
			return err
		}
		stored := row.Twin.Version
		completeTwin(&row)
		before, now := row.Twin, c.hub.clock.Now()
		patch := plan.carryOut(&row.Twin, now)
		if err := c.hub.checkPart(desiredPath, row.Twin.Desired.Value, twin.MaxSection); err != nil {
			c.misfits.Do(func() {
				c.hub.log.Warn("configurations do not fit into a twin", "category", Configurations, "deviceId", key.DeviceID, "moduleId", key.ModuleID, "error", err)
			})
			return nil
		}
		err = c.hub.twins.UpdateTwin(ctx, key, row.GenerationID, stored, row.Twin)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err == nil {
			_ = c.hub.did(opConfigurationTwin, key, nil, 0, nil)
		}
		if err == nil && patch.IsDefined() {
			p.tellDesired(&row, patch)
		}
		if err == nil && wanted {
			err = c.hub.notifyTwin(ctx, gate, &before, &row, twinDelta{desired: patch}, now)
		}
		return err
	}
}

// plan is what a twin needs to be as the rules want it.
type plan struct {
	statuses document.Value // the twin's new configurations
	whole    bool           // wanted replaces all desired properties
	wanted   document.Value // an object; null for what is removed
}

// plan reads a twin, as it is stored, and works out what it needs: nil when nothing.
func (c *configurations) plan(ctx context.Context, set *ruleSet, key store.Key, changed *rule) (*plan, store.TwinRow, error) {
	var device *store.TwinRow
	if key.ModuleID != "" {
		d, err := c.hub.twinRow(ctx, store.Key{DeviceID: key.DeviceID})
		if err != nil {
			return nil, d, err
		}
		device = &d
	}
	stored, err := c.hub.twins.Twin(ctx, key)
	if err != nil {
		return nil, stored, err
	}
	row := stored
	completeTwin(&row)
	if device != nil { // a module's status is its device's
		row.Status, row.StatusReason, row.StatusUpdated = device.Status, device.StatusReason, device.StatusUpdated
	}
	return set.plan(&row, device, changed), stored, nil
}

// The statuses of a configuration at a twin: whether it has a part in the desired properties, or others cover all of it.
var (
	statusApplied  = object("status", document.OfString("Applied"))
	statusTargeted = object("status", document.OfString("Targeted"))
)

// plan works out what a complete row needs: nil when nothing. device is the complete row of a module's device.
func (s *ruleSet) plan(row, device *store.TwinRow, changed *rule) *plan {
	p := &plan{wanted: document.EmptyObject}
	statuses := s.deployments(p, row, device)
	above := document.EmptyObject // what rules of higher rank want
	for _, r := range s.ranked {
		if r.kind == edgeContent || !r.targets(row, nil) {
			continue
		}
		status := statusTargeted
		if with := overlay(r.parts[""].value, above); !document.Equal(with, above) {
			status, above = statusApplied, with
		}
		statuses = append(statuses, document.Member{Name: r.ID, Value: status})
	}
	p.wanted = overlay(p.wanted, above)
	if len(statuses) > 0 {
		p.statuses = document.OfMembers(statuses)
	}
	old := row.Twin.Configurations
	if changed != nil && !old.Get(changed.ID).IsDefined() && !p.statuses.Get(changed.ID).IsDefined() {
		changed = nil
	}
	if changed == nil && document.Equal(old, p.statuses) {
		return nil
	}
	have := row.Twin.Desired.Value
	if !p.whole {
		removed, _ := without(have, s.applied(old), p.wanted)
		p.wanted = effective(have, overlay(removed, p.wanted))
	}
	if document.Equal(old, p.statuses) && !p.changes(have) {
		return nil
	}
	return p
}

// deployments adds to a plan what deployments want of a module: those of the first one that is not layered, and of the layered ones that rank
// higher (article "Understand IoT Edge automatic deployments").
func (s *ruleSet) deployments(p *plan, row, device *store.TwinRow) (statuses []document.Member) {
	base := slices.IndexFunc(s.ranked, func(r *rule) bool { return r.kind == edgeContent && !r.layered && r.targets(row, device) })
	for i := len(s.ranked) - 1; i >= 0; i-- {
		r := s.ranked[i]
		if r.kind != edgeContent || !r.targets(row, device) {
			continue
		}
		part, has := r.parts[row.ModuleID]
		if !has && row.ModuleID != edgeAgent {
			continue
		}
		status := statusTargeted
		if base >= 0 && i <= base {
			status = statusApplied
			if has {
				p.wanted, p.whole = overlay(p.wanted, part.value), p.whole || part.whole
			}
		}
		statuses = append(statuses, document.Member{Name: r.ID, Value: status})
	}
	return statuses
}

// applied returns what the rules in a twin's configurations have put into its desired properties and take with them. IoT Hub: a device that
// no deployment is for any more keeps its modules as they are.
func (s *ruleSet) applied(statuses document.Value) document.Value {
	all := document.EmptyObject
	for _, m := range statuses.Members() {
		if r := s.find(m.Name); r != nil && r.kind != edgeContent && document.Equal(m.Value, statusApplied) {
			all = overlay(all, r.parts[""].value)
		}
	}
	return all
}

// changes reports whether a plan changes desired properties.
func (p *plan) changes(have document.Value) bool {
	if p.whole {
		return !document.Equal(have, twin.Replace(p.wanted, twin.Stamp{}))
	}
	return len(p.wanted.Members()) > 0
}

// carryOut changes a twin, and returns what the device is to be told: Undefined when its desired properties stay as they are.
func (p *plan) carryOut(t *store.Twin, now time.Time) document.Value {
	t.Version++
	t.Configurations = p.statuses
	old := t.Desired.Value
	if !p.changes(old) {
		return document.Value{}
	}
	t.Writes++
	next(&t.Desired, now)
	if p.whole {
		t.Desired.Value = twin.Replace(p.wanted, stampOf(t.Desired))
		return twin.Difference(old, t.Desired.Value)
	}
	t.Desired.Value = twin.Merge(old, p.wanted, stampOf(t.Desired))
	return p.wanted
}

// ApplyConfiguration writes a configuration content, the JSON body of POST /devices/{id}/applyConfigurationContent, to an IoT Edge
// device once. RegistryWrite. CodeDeviceNotFound, CodeInvalidOperation (not an edge device), CodeInvalidConfigContent.
func (s *ServiceSession) ApplyConfiguration(ctx context.Context, deviceID string, body []byte) (err error) {
	defer func() { err = s.hub.did(opConfigurationApply, store.Key{DeviceID: deviceID}, s.conn, len(body), err) }()
	h, era := s.hub, s.hub.era.Load()
	key := store.Key{DeviceID: deviceID}
	if err := s.need(ctx, auth.RegistryWrite, devicePath(key)+"/applyConfigurationContent"); err != nil {
		return err
	}
	v, err := h.parseDocument(body)
	if err != nil {
		return err
	}
	id, err := h.registry.Get(ctx, key)
	if err != nil {
		return h.registryError(err, key)
	}
	if !id.IoTEdge {
		return h.newErrorText(CodeInvalidOperation, "Device "+deviceID+" is not an Azure IoT Edge device.")
	}
	c, problem := parseContent(v)
	if problem == "" && c.kind == moduleContent {
		problem = "moduleContent cannot be applied to a device"
	}
	if problem != "" {
		return h.NewError(CodeInvalidConfigContent, problem)
	}
	if c.kind == edgeContent {
		if err := h.makeModules(ctx, era, deviceID, c); err != nil {
			return err
		}
	}
	for moduleID, part := range c.parts {
		p := plan{wanted: part.value, whole: part.whole}
		if _, err := h.changeTwin(ctx, era, store.Key{DeviceID: deviceID, ModuleID: moduleID}, "", p.carryOutOnce); err != nil {
			return err
		}
	}
	return nil
}

// carryOutOnce is carryOut for changeTwin, which counts the write itself.
func (p *plan) carryOutOnce(t *store.Twin, now time.Time) (twinDelta, error) {
	before := *t
	p.statuses = t.Configurations
	patch := p.carryOut(t, now)
	t.Version, t.Writes = before.Version, before.Writes
	return twinDelta{desired: patch}, nil
}

// isCode reports whether err is the hub's error of that code.
func isCode(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}
