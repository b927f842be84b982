package hub

import (
	"context"
	"errors"
	"slices"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// allRows are the twins of all devices, or of all modules.
type allRows struct {
	modules bool
	batch   []store.TwinRow // used again and again
	row     twinRow
}

func (a *allRows) scan(ctx context.Context, after store.DeviceJobKey, limit int, visit func(queryRow) bool) (ended bool, err error) {
	if a.batch == nil {
		a.batch = make([]store.TwinRow, 0, limit)
	}
	if a.batch, err = a.row.hub.twins.Scan(ctx, a.modules, after.Key, limit, a.batch[:0]); err != nil {
		return false, err
	}
	for i := range a.batch {
		if err := ctx.Err(); err != nil { // one row can keep a query busy for a while
			return false, err
		}
		completeTwin(&a.batch[i])
		if a.row.show(&a.batch[i]); !visit(&a.row) {
			break
		}
	}
	return len(a.batch) < limit, a.row.err
}

// chosenRows are the twins of some devices.
type chosenRows struct {
	ids []string
	row twinRow
}

func (c *chosenRows) scan(ctx context.Context, after store.DeviceJobKey, limit int, visit func(queryRow) bool) (ended bool, err error) {
	at, found := slices.BinarySearch(c.ids, after.DeviceID)
	if found {
		at++
	}
	for n := 0; at < len(c.ids) && n < limit; at++ {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		row, err := c.row.hub.twinRow(ctx, store.Key{DeviceID: c.ids[at]})
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		n++
		if c.row.show(&row); !visit(&c.row) {
			break
		}
	}
	return at == len(c.ids), c.row.err
}

// twinRow shows a complete twin to queries, as the document that Twin.AppendJSON writes, without making that document.
type twinRow struct {
	ctx    context.Context // a row lives as long as one call of a search
	hub    *Hub            // nil for a row that shows only what the store holds
	row    *store.TwinRow
	device *Device           // what the store does not hold, once it was asked for
	whole  [2]document.Value // desired and reported with their metadata, once they were asked for
	err    error             // of asking
}

// queryRow shows one complete twin to a query or a condition.
func (h *Hub) queryRow(ctx context.Context, row *store.TwinRow) query.Row {
	return &twinRow{ctx: ctx, hub: h, row: row}
}

// storedRow shows one complete twin to a condition that is evaluated under the locks of a device: it takes none. Its lastActivityTime is the
// one that was last stored, and it has no cloudToDeviceMessageCount.
func storedRow(row *store.TwinRow) query.Row { return &twinRow{row: row} }

// show turns to another twin.
func (r *twinRow) show(row *store.TwinRow) { r.row, r.device, r.whole = row, nil, [2]document.Value{} }

func (r *twinRow) key() store.DeviceJobKey { return store.DeviceJobKey{Key: r.row.Key} }

func (r *twinRow) appendJSON(b []byte) ([]byte, error) {
	t, err := r.hub.twinOf(r.ctx, *r.row)
	return t.AppendJSON(b), err
}

// Value implements query.Row.
func (r *twinRow) Value(path []string) document.Value {
	rest := path[1:]
	switch path[0] {
	case "tags":
		if len(r.row.Twin.Tags.Members()) == 0 {
			return document.Value{}
		}
		return follow(r.row.Twin.Tags, rest)
	case "properties":
		return r.properties(rest)
	case "configurations":
		if len(r.row.Twin.Configurations.Members()) == 0 {
			return document.Value{}
		}
		return follow(r.row.Twin.Configurations, rest)
	case "x509Thumbprint":
		return r.thumbprint(rest)
	case "capabilities":
		return objectAt(rest, pair{"iotEdge", document.OfBool(r.row.IoTEdge)})
	case "parentScopes":
		return follow(scopes(r.row.ParentScopes), rest)
	}
	if len(rest) > 0 {
		return document.Value{}
	}
	return r.scalar(path[0])
}

// follow goes down a path of members.
func follow(v document.Value, path []string) document.Value {
	for _, name := range path {
		v = v.Get(name)
	}
	return v
}

// scalar returns a member of the twin's document that has no parts.
func (r *twinRow) scalar(name string) document.Value {
	id := &r.row.Identity
	switch name {
	case "deviceId":
		return document.OfString(id.DeviceID)
	case "moduleId":
		return optional(id.ModuleID)
	case "etag":
		return document.OfString(twinETag(r.row.Twin.Writes))
	case "deviceEtag":
		return document.OfString(id.ETag)
	case "status", "statusReason", "statusUpdateTime":
		return r.status(name)
	case "connectionState":
		return document.OfString(ConnectionState(id.Connected))
	case "lastActivityTime":
		if r.hub == nil {
			return timeValue(id.LastActivity)
		}
		return timeValue(r.asked().LastActivity)
	case "cloudToDeviceMessageCount":
		if r.hub == nil {
			return document.Value{}
		}
		return document.OfInt(int64(r.asked().C2DCount))
	case "authenticationType":
		return document.OfString(string(id.Authentication.Type))
	case "version":
		return document.OfInt(r.row.Twin.Version)
	case "modelId":
		return document.OfString(id.ModelID)
	case "deviceScope":
		return optional(id.DeviceScope)
	}
	return document.Value{}
}

// status returns one of the members about the status. A module's is its device's.
func (r *twinRow) status(name string) document.Value {
	id := &r.row.Identity
	if id.ModuleID != "" && r.hub != nil {
		id = &r.asked().Identity
	}
	switch name {
	case "statusReason":
		return optional(id.StatusReason)
	case "statusUpdateTime":
		return timeValue(id.StatusUpdated)
	}
	return document.OfString(string(id.Status))
}

// optional is a text that is left out when it is empty.
func optional(s string) document.Value {
	if s == "" {
		return document.Value{}
	}
	return document.OfString(s)
}

// asked returns what the hub knows beside the store. It is asked for only when a query wants it, for that takes the locks of the device.
func (r *twinRow) asked() *Device {
	if r.device == nil {
		d, err := r.hub.device(r.ctx, r.row.Identity)
		if r.device = &d; err != nil {
			r.err = err
		}
	}
	return r.device
}

// pair is a member of a small object.
type pair struct {
	name  string
	value document.Value
}

// objectAt returns what stands at a path in an object of a few members.
func objectAt(path []string, pairs ...pair) document.Value {
	if len(path) == 0 {
		members := make([]document.Member, len(pairs))
		for i, p := range pairs {
			members[i] = document.Member{Name: p.name, Value: p.value}
		}
		return document.OfMembers(members)
	}
	for i := range pairs {
		if pairs[i].name == path[0] {
			return follow(pairs[i].value, path[1:])
		}
	}
	return document.Value{}
}

func (r *twinRow) thumbprint(path []string) document.Value {
	a := &r.row.Authentication
	return objectAt(path, pair{"primaryThumbprint", textOrNull(a.PrimaryThumbprint)}, pair{"secondaryThumbprint", textOrNull(a.SecondaryThumbprint)})
}

func textOrNull(s string) document.Value {
	if s == "" {
		return document.NullValue
	}
	return document.OfString(s)
}

// scopes returns an array of texts; none when it would be empty.
func scopes(texts []string) document.Value {
	if len(texts) == 0 {
		return document.Value{}
	}
	elements := make([]document.Value, len(texts))
	for i, s := range texts {
		elements[i] = document.OfString(s)
	}
	return document.OfElements(elements)
}

func (r *twinRow) properties(path []string) document.Value {
	switch {
	case len(path) == 0:
		return objectAt(nil, pair{"desired", r.wholeSection(desiredBag)}, pair{"reported", r.wholeSection(reportedBag)})
	case path[0] == "desired":
		return r.section(desiredBag, path[1:])
	case path[0] == "reported":
		return r.section(reportedBag, path[1:])
	}
	return document.Value{}
}

// The two bags of properties.
const (
	desiredBag = iota
	reportedBag
)

func (r *twinRow) bag(of int) *store.Section {
	if of == desiredBag {
		return &r.row.Twin.Desired
	}
	return &r.row.Twin.Reported
}

// wholeSection returns a section with its $metadata and $version. It is made once for a row: a query may ask for it many times.
func (r *twinRow) wholeSection(of int) document.Value {
	if !r.whole[of].IsDefined() {
		r.whole[of] = parsed(appendFullSection(nil, *r.bag(of), of == desiredBag))
	}
	return r.whole[of]
}

// section returns what stands at a path in a section with its $metadata and $version.
func (r *twinRow) section(of int, path []string) document.Value {
	s := r.bag(of)
	switch {
	case len(path) == 0:
		return r.wholeSection(of)
	case path[0] == "$version":
		return follow(document.OfInt(s.Version), path[1:])
	case path[0] == "$metadata":
		if path[len(path)-1] != "$lastUpdated" {
			return follow(r.wholeSection(of), path)
		}
		return updated(document.Member{Value: s.Value, Updated: s.Updated}, path[1:])
	}
	return follow(s.Value, path)
}

// updated returns what stands at a path of metadata that ends with $lastUpdated.
func updated(m document.Member, path []string) document.Value {
	for ; len(path) > 1; path = path[1:] {
		next, found := m.Value.Member(path[0])
		if !found {
			return document.Value{}
		}
		m = next
	}
	return timeValue(m.Updated)
}

// parsed reads JSON that the hub wrote itself.
func parsed(text []byte) document.Value {
	v, err := document.Parse(text)
	if err != nil {
		return document.Value{}
	}
	return v
}

// jobRows are the rows of devices.jobs.
type jobRows struct {
	hub   *Hub
	batch []store.DeviceJobRow // used again and again
	row   jobRow
}

func (j *jobRows) scan(ctx context.Context, after store.DeviceJobKey, limit int, visit func(queryRow) bool) (ended bool, err error) {
	if j.batch, err = j.hub.jobs.store.Devices(ctx, after, limit, j.batch[:0]); err != nil {
		return false, err
	}
	for i := range j.batch {
		j.row = jobRow{row: &j.batch[i], doc: jobAt(&j.batch[i])}
		if !visit(&j.row) {
			break
		}
	}
	return len(j.batch) < limit, nil
}

// jobRow shows a job at a device to queries.
type jobRow struct {
	row *store.DeviceJobRow
	doc document.Value
}

// Value implements query.Row.
func (r *jobRow) Value(path []string) document.Value { return follow(r.doc, path) }

func (r *jobRow) key() store.DeviceJobKey {
	return store.DeviceJobKey{JobID: r.row.Job.ID, Key: r.row.Key}
}

func (r *jobRow) appendJSON(b []byte) ([]byte, error) { return r.doc.AppendJSON(b), nil }
