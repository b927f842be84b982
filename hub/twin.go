package hub

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

// maxTwinBody is the longest JSON text of a patch or a whole twin that is read, in bytes: all three parts at their limits, with room for
// escapes, white space and the metadata that SDKs send back.
const maxTwinBody = 1 << 20

// firstVersion is the version of a twin that nobody has written yet, as the real hub gives it.
const firstVersion = 2

// Twin is a twin as back ends see it.
type Twin struct {
	Device
	store.Twin
}

// TwinProperties are a twin's properties as the device or module itself sees them.
type TwinProperties struct{ Desired, Reported store.Section }

// size is how long the JSON of what a back end reads is, without names and metadata.
func (t *Twin) size() int {
	return twin.Length(t.Tags) + twin.Length(t.Desired.Value) + twin.Length(t.Reported.Value)
}

// size is how long the JSON of what the identity reads is, without metadata.
func (p *TwinProperties) size() int {
	return twin.Length(p.Desired.Value) + twin.Length(p.Reported.Value)
}

// DesiredChange is a change of desired properties, for the device or module.
type DesiredChange struct {
	Version int64
	Patch   []byte // JSON: what changed, null for what went, and $version
}

// completeTwin fills in what a twin holds that nobody has written yet. Its metadata tells when the identity was created.
func completeTwin(row *store.TwinRow) {
	t := &row.Twin
	if t.Version == 0 {
		t.Version, t.Writes = firstVersion, 1
		created := generationTime(row.GenerationID)
		t.Desired = store.Section{Value: document.EmptyObject, Version: 1, Updated: created}
		t.Reported = t.Desired
	}
	if !t.Tags.IsDefined() {
		t.Tags = document.EmptyObject
	}
}

// generationTime is when an identity was created: its generation id tells, in .NET ticks.
func generationTime(id string) time.Time {
	ticks, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return time.Time{}
	}
	ticks -= ticksAtEpoch
	const perSecond = int64(time.Second / (100 * time.Nanosecond))
	return time.Unix(ticks/perSecond, ticks%perSecond*100).UTC()
}

// ETag is the twin's etag: base64 of a counter of 8 bytes. It moves with tags and desired properties, not with reported ones.
func (t *Twin) ETag() string { return twinETag(t.Writes) }

func twinETag(writes int64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(writes)))
}

// twinPath is the resource of a twin, which tokens are signed for.
func twinPath(key store.Key) string {
	if key.ModuleID == "" {
		return "twins/" + key.DeviceID
	}
	return "twins/" + key.DeviceID + "/modules/" + key.ModuleID
}

// Twin returns the twin of an identity. ServiceConnect. CodeDeviceNotFound, also for a module that is not there.
func (s *ServiceSession) Twin(ctx context.Context, key store.Key) (t Twin, err error) {
	defer func() { err = s.hub.did(opServiceTwinRead, key, s.conn, t.size(), err) }()
	if err := s.need(ctx, auth.ServiceConnect, twinPath(key)); err != nil {
		return Twin{}, err
	}
	row, err := s.hub.twinRow(ctx, key)
	if err != nil {
		return Twin{}, s.hub.twinError(err, key)
	}
	return s.hub.twinOf(ctx, row)
}

// twinRow reads a complete twin.
func (h *Hub) twinRow(ctx context.Context, key store.Key) (store.TwinRow, error) {
	row, err := h.twins.Twin(ctx, key)
	if err == nil {
		completeTwin(&row)
	}
	return row, err
}

// twinOf adds to a complete row what the store does not hold.
func (h *Hub) twinOf(ctx context.Context, row store.TwinRow) (Twin, error) {
	d, err := h.device(ctx, row.Identity)
	return Twin{Device: d, Twin: row.Twin}, err
}

// twinError is how the hub puts an error about a twin. IoT Hub: the twin of a missing module is answered with 404001.
func (h *Hub) twinError(err error, key store.Key) error {
	if errors.Is(err, store.ErrNotFound) {
		return h.NewError(CodeDeviceNotFound, key.String())
	}
	return h.registryError(err, key)
}

// twinBody is what a back end may write of a twin.
type twinBody struct {
	tags, desired document.Value // Undefined when the body has none
}

// parseTwinBody reads the JSON of a PATCH or PUT of a twin. What only the hub writes is ignored, since SDKs send it back.
func (h *Hub) parseTwinBody(text []byte) (b twinBody, err error) {
	v, err := h.parseDocument(text)
	if err != nil {
		return b, err
	}
	return h.twinBodyOf(v)
}

// twinBodyOf takes from an object what a back end may write of a twin.
func (h *Hub) twinBodyOf(v document.Value) (b twinBody, err error) {
	if b.tags, err = h.part(v.Get("tags"), "tags"); err != nil {
		return b, err
	}
	properties := v.Get("properties")
	if k := properties.Kind(); k != document.Undefined && k != document.Null && k != document.Object {
		return b, h.NewError(CodeArgumentInvalid, "properties: a JSON object is wanted, not a value of type "+k.String())
	}
	b.desired, err = h.part(properties.Get("desired"), "properties.desired")
	return b, err
}

// parseDocument reads a JSON text that must be an object.
func (h *Hub) parseDocument(text []byte) (document.Value, error) {
	if len(text) > maxTwinBody {
		return document.Value{}, h.NewError(CodeArgumentInvalid, "the JSON is longer than "+strconv.Itoa(maxTwinBody)+" bytes")
	}
	v, err := document.Parse(text)
	if err != nil {
		return v, h.NewError(CodeArgumentInvalid, err.Error())
	}
	if v.Kind() != document.Object {
		return v, h.NewError(CodeArgumentInvalid, "a JSON object is wanted, not a value of type "+v.Kind().String())
	}
	return v, nil
}

// part checks one part of a twin that a back end writes. Null stands for an empty one.
func (h *Hub) part(v document.Value, name string) (document.Value, error) {
	if !v.IsDefined() || v.Kind() == document.Null {
		return document.Value{}, nil
	}
	v = twin.Without(v)
	if problem := twin.Check(v); problem != "" {
		return v, h.NewError(CodeArgumentInvalid, name+": "+problem)
	}
	return v, nil
}

// UpdateTwin merges a patch {"tags":{},"properties":{"desired":{}}} into a twin; either part may be missing. ifMatch is the twin's etag with or
// without quotes, "*" or "" for any. A desired change is told to the identity if it listens. ServiceConnect. CodeDeviceNotFound,
// CodePreconditionFailed, CodeArgumentInvalid, CodeSystemModule ($edgeAgent, $edgeHub).
func (s *ServiceSession) UpdateTwin(ctx context.Context, key store.Key, patch []byte, ifMatch string) (Twin, error) {
	return s.writeTwin(ctx, key, patch, ifMatch, mergeTwin)
}

// ReplaceTwin replaces tags and desired properties; a part that is missing becomes empty. Otherwise it is UpdateTwin.
func (s *ServiceSession) ReplaceTwin(ctx context.Context, key store.Key, body []byte, ifMatch string) (Twin, error) {
	return s.writeTwin(ctx, key, body, ifMatch, replaceTwin)
}

// isSystemModule reports whether a twin is one that back ends write through configurations only: patching "system" modules is not supported
// by design (Azure/iotedge, issue 1162).
func isSystemModule(key store.Key) bool { return key.ModuleID == edgeAgent || key.ModuleID == edgeHub }

func (s *ServiceSession) writeTwin(ctx context.Context, key store.Key, text []byte, ifMatch string, how twinWrite) (t Twin, err error) {
	defer func() { err = s.hub.did(opServiceTwinUpdate, key, s.conn, len(text), err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.ServiceConnect, twinPath(key)); err != nil {
		return Twin{}, err
	}
	if isSystemModule(key) {
		return Twin{}, s.hub.NewError(CodeSystemModule)
	}
	body, err := s.hub.parseTwinBody(text)
	if err != nil {
		return Twin{}, err
	}
	row, err := s.hub.changeTwin(ctx, era, key, ifMatch, how.with(body))
	if err != nil {
		return Twin{}, err
	}
	return s.hub.twinOf(ctx, row)
}

// twinWrite changes tags and desired properties. The device is told of desired properties that were written.
type twinWrite func(t *store.Twin, body twinBody, now time.Time) twinDelta

// with makes of it the change that a body asks for.
func (w twinWrite) with(body twinBody) twinChange {
	return func(t *store.Twin, now time.Time) (twinDelta, error) { return w(t, body, now), nil }
}

// twinChange changes what back ends write of a twin, or says why it cannot be. It returns what twinWrite does.
type twinChange func(t *store.Twin, now time.Time) (twinDelta, error)

// mergeTwin is PATCH. An empty patch of the desired properties changes nothing: C# sends one along with every change of tags.
func mergeTwin(t *store.Twin, body twinBody, now time.Time) twinDelta {
	if body.tags.IsDefined() {
		t.Tags = twin.Merge(t.Tags, body.tags, twin.Stamp{})
	}
	if len(body.desired.Members()) == 0 {
		return twinDelta{tags: body.tags}
	}
	next(&t.Desired, now)
	t.Desired.Value = twin.Merge(t.Desired.Value, body.desired, stampOf(t.Desired))
	return twinDelta{tags: body.tags, desired: body.desired}
}

// replaceTwin is PUT.
func replaceTwin(t *store.Twin, body twinBody, now time.Time) twinDelta {
	orEmptyObject(&body.tags)
	orEmptyObject(&body.desired)
	t.Tags = twin.Replace(body.tags, twin.Stamp{})
	old := t.Desired.Value
	next(&t.Desired, now)
	t.Desired.Value = twin.Replace(body.desired, stampOf(t.Desired))
	return twinDelta{desired: twin.Difference(old, t.Desired.Value), whole: true}
}

func orEmptyObject(v *document.Value) {
	if !v.IsDefined() {
		*v = document.EmptyObject
	}
}

// next counts a write of a section.
func next(s *store.Section, now time.Time) {
	s.Version++
	s.Updated = now
}

func stampOf(s store.Section) twin.Stamp { return twin.Stamp{Time: s.Updated, Version: s.Version} }

// changeTwin changes what back ends write of a twin, tells the identity of new desired properties, and has configurations follow. CodeClosed
// when the era is over.
func (h *Hub) changeTwin(ctx context.Context, era int64, key store.Key, ifMatch string, change twinChange) (store.TwinRow, error) {
	row, err := h.changeTwinAlone(ctx, era, key, ifMatch, change)
	if err != nil || !h.configurations.follow(ctx, key) {
		return row, err
	}
	if row, err = h.twinRow(ctx, key); err != nil {
		return row, h.twinError(err, key)
	}
	return row, nil
}

// changeTwinAlone is changeTwin without the configurations.
func (h *Hub) changeTwinAlone(ctx context.Context, era int64, key store.Key, ifMatch string, change twinChange) (store.TwinRow, error) {
	match := unquoteETag(ifMatch)
	wanted := h.twinNoticed(ctx)
	gate := h.gateFor(wanted, key)
	p := h.lockPeer(key) // so that changes are told in their order
	defer h.unlockPeer(p)
	if !h.enter(gate, era) {
		return store.TwinRow{}, h.NewError(CodeClosed)
	}
	defer h.leave(gate)
	var before store.Twin
	var delta twinDelta
	var at time.Time
	row, err := h.writeTwin(ctx, key, anyGeneration, func(t *store.Twin, now time.Time) error {
		before, at = *t, now
		if ifMatch != "" && match != "*" && match != twinETag(t.Writes) {
			return h.NewError(CodePreconditionFailed)
		}
		t.Writes++
		var err error
		if delta, err = change(t, now); err != nil {
			return err
		}
		if err := h.checkPart("tags", t.Tags, twin.MaxTags); err != nil {
			return err
		}
		return h.checkPart("properties.desired", t.Desired.Value, twin.MaxSection)
	})
	if err != nil {
		return row, err
	}
	if delta.desired.IsDefined() {
		p.tellDesired(&row, delta.desired)
	}
	if wanted {
		err = h.notifyTwin(ctx, gate, &before, &row, delta, at)
	}
	return row, err
}

// anyGeneration is for a writer who means whatever identity has the key.
const anyGeneration = ""

// writeTwin reads, changes and writes a twin until nobody has come in between.
func (h *Hub) writeTwin(ctx context.Context, key store.Key, generation string, change func(t *store.Twin, now time.Time) error) (store.TwinRow, error) {
	for {
		row, err := h.twins.Twin(ctx, key)
		if err != nil {
			return row, h.twinError(err, key)
		}
		if generation != anyGeneration && generation != row.GenerationID {
			return row, h.notFound(key)
		}
		stored := row.Twin.Version
		completeTwin(&row)
		if err := change(&row.Twin, h.clock.Now()); err != nil {
			return row, err
		}
		row.Twin.Version++
		err = h.twins.UpdateTwin(ctx, key, row.GenerationID, stored, row.Twin)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return row, h.twinError(err, key)
		}
		return row, nil
	}
}

// checkPart holds the limits of one part. Merging can nest deeper than the patch itself, so the whole is looked at.
func (h *Hub) checkPart(name string, v document.Value, most int) error {
	if size := twin.Size(v); size > most {
		return h.NewError(CodeArgumentInvalid, fmt.Sprintf("%s would have %s", name, sizes(size, most)))
	}
	if length := twin.Length(v); length > most*twin.MaxStretch { // what does not count must not fill the memory either
		return h.NewError(CodeArgumentInvalid, fmt.Sprintf("the JSON of %s would have %s", name, sizes(length, most*twin.MaxStretch)))
	}
	if problem := twin.Check(v); problem != "" {
		return h.NewError(CodeArgumentInvalid, name+": "+problem)
	}
	return nil
}

// Twin returns the identity's properties. CodeDeviceNotFound in the moment of its deletion.
func (s *DeviceSession) Twin(ctx context.Context) (p TwinProperties, err error) {
	defer func() { err = s.hub.did(opDeviceTwinRead, s.key, s.options.Conn, p.size(), err) }()
	if err := s.live(); err != nil {
		return TwinProperties{}, err
	}
	s.active()
	row, err := s.hub.twinRow(ctx, s.key)
	if err != nil {
		return TwinProperties{}, s.hub.twinError(err, s.key)
	}
	if row.GenerationID != s.generation {
		return TwinProperties{}, s.hub.notFound(s.key)
	}
	return TwinProperties{row.Twin.Desired, row.Twin.Reported}, nil
}

// UpdateReported merges a JSON patch into the reported properties and returns their new version. A version base other than 0 is the one
// the patch was made for. CodeArgumentInvalid, CodePreconditionFailed (base).
func (s *DeviceSession) UpdateReported(ctx context.Context, patch []byte, base int64) (version int64, err error) {
	defer func() { err = s.hub.did(opDeviceTwinUpdate, s.key, s.options.Conn, len(patch), err) }()
	if err := s.live(); err != nil {
		return 0, err
	}
	s.active()
	return s.hub.report(ctx, s.key, s.generation, patch, base)
}

// PlantReported merges a JSON patch into the reported properties of an identity, as if it had reported them itself: for seeds, which the
// real hub does not have. ServiceConnect. CodeDeviceNotFound, CodeArgumentInvalid.
func (s *ServiceSession) PlantReported(ctx context.Context, key store.Key, patch []byte) error {
	if err := s.need(ctx, auth.ServiceConnect, twinPath(key)); err != nil {
		return err
	}
	_, err := s.hub.report(ctx, key, anyGeneration, patch, 0)
	return err
}

// report merges a patch into reported properties. CodeClosed when a reset came in between.
func (h *Hub) report(ctx context.Context, key store.Key, generation string, patch []byte, base int64) (version int64, err error) {
	era := h.era.Load()
	v, err := h.parseDocument(patch)
	if err != nil {
		return 0, err
	}
	if problem := twin.Check(v); problem != "" {
		return 0, h.NewError(CodeArgumentInvalid, problem)
	}
	row, err := h.mergeReported(ctx, era, key, generation, v, base)
	if err == nil {
		h.configurations.follow(ctx, key)
	}
	return row.Twin.Reported.Version, err
}

// mergeReported is report for a checked patch. It takes the peer's lock only when somebody is to be told.
func (h *Hub) mergeReported(ctx context.Context, era int64, key store.Key, generation string, patch document.Value, base int64) (store.TwinRow, error) {
	var before store.Twin
	merge := func(t *store.Twin, now time.Time) error {
		before = *t
		if base != 0 && base != t.Reported.Version {
			return h.NewError(CodePreconditionFailed, fmt.Sprintf("the reported properties have version %d, not %d", t.Reported.Version, base))
		}
		next(&t.Reported, now)
		t.Reported.Value = twin.Merge(t.Reported.Value, patch, twin.Stamp{Time: now})
		return h.checkPart("properties.reported", t.Reported.Value, twin.MaxSection)
	}
	if !h.twinNoticed(ctx) {
		return h.writeTwin(ctx, key, generation, merge)
	}
	gate := h.gateFor(true, key)
	p := h.lockPeer(key)
	defer h.unlockPeer(p)
	if !h.enter(gate, era) {
		return store.TwinRow{}, h.NewError(CodeClosed)
	}
	defer h.leave(gate)
	row, err := h.writeTwin(ctx, key, generation, merge)
	if err == nil {
		err = h.notifyTwin(ctx, gate, &before, &row, twinDelta{reported: patch}, row.Twin.Reported.Updated)
	}
	return row, err
}

// active notes that the identity has done something.
func (s *DeviceSession) active() { s.peer.activity.Store(s.hub.clock.Now().UnixNano()) }

// SubscribeDesired has deliver called with every change of the desired properties from now on, in order, one call at a time, without hub
// locks, until UnsubscribeDesired or the end of the session. deliver must not block. A second subscription replaces the first.
func (s *DeviceSession) SubscribeDesired(deliver func(DesiredChange)) error {
	return s.subscribe(func(t *tasks) { t.desired = deliver })
}

// UnsubscribeDesired ends what SubscribeDesired began. A call of deliver may be under way still.
func (s *DeviceSession) UnsubscribeDesired() { s.unsubscribe(func(t *tasks) { t.desired = nil }) }

// tellDesired tells the connected identity of a change that has made row. The caller holds the lock.
func (p *peer) tellDesired(row *store.TwinRow, patch document.Value) {
	s := p.session
	if s == nil || s.generation != row.GenerationID { // its identity was deleted and made again, and it is about to end
		return
	}
	t := s.tasks.Load()
	if t == nil || t.desired == nil {
		return
	}
	version := row.Twin.Desired.Version
	deliver, change := t.desired, DesiredChange{Version: version, Patch: appendSection(nil, patch, version)}
	t.changes.add(p.hub, func() {
		if s.ended.Load() == nil {
			deliver(change)
		}
	})
}
