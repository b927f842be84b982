package hub

import (
	"context"
	"strconv"
	"time"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

// twinDelta is what a write has done to a twin: for each part a patch that makes the new one of the old one, Undefined for a part that was
// not written.
type twinDelta struct {
	tags, desired, reported document.Value
	whole                   bool // the twin was replaced
}

// twinNoticed reports whether anybody wants to hear of changes of twins.
func (h *Hub) twinNoticed(ctx context.Context) bool {
	return h.noticed(ctx, &twinNotice) || h.noticed(ctx, &digitalTwinNotice)
}

// notifyTwin tells of a write that has made row, complete, of before. The caller holds the peer's lock and is inside the gate of partition.
func (h *Hub) notifyTwin(ctx context.Context, partition int, before *store.Twin, row *store.TwinRow, delta twinDelta, at time.Time) error {
	n := notice{kind: &twinNotice, opType: "updateTwin", correlationID: h.newCorrelationID(), at: at}
	if delta.whole {
		n.opType, n.body = "replaceTwin", appendStoredTwin(nil, row)
	} else {
		n.body = delta.appendJSON(nil, &row.Twin)
	}
	notices := []notice{n}
	if patch := h.digitalTwinPatch(ctx, before, row); patch != nil {
		n.kind, n.opType, n.body = &digitalTwinNotice, "updateTwin", patch
		notices = append(notices, n)
	}
	return h.notify(ctx, partition, row.Key, notices...)
}

// appendJSON appends what an event updateTwin says of the write that has made t.
func (d *twinDelta) appendJSON(b []byte, t *store.Twin) []byte {
	b = strconv.AppendInt(append(b, `{"version":`...), t.Version, 10)
	if d.tags.IsDefined() {
		b = d.tags.AppendJSON(append(b, `,"tags":`...))
	}
	if !d.desired.IsDefined() && !d.reported.IsDefined() {
		return append(b, '}')
	}
	b = append(b, `,"properties":{`...)
	if d.desired.IsDefined() {
		b = appendPatchSection(append(b, `"desired":`...), d.desired, t.Desired, stampOf(t.Desired))
	}
	if d.reported.IsDefined() {
		if d.desired.IsDefined() {
			b = append(b, ',')
		}
		b = appendPatchSection(append(b, `"reported":`...), d.reported, t.Reported, twin.Stamp{Time: t.Reported.Updated})
	}
	return append(b, "}}"...)
}

// appendPatchSection appends a patch of a section with the metadata of what it has written.
func appendPatchSection(b []byte, patch document.Value, s store.Section, stamp twin.Stamp) []byte {
	b = append(openObject(b, patch), `"$metadata":`...)
	b = twin.AppendMetadata(b, twin.Replace(patch, stamp), stamp.Time, stamp.Version)
	b = append(b, `,"$version":`...)
	return append(strconv.AppendInt(b, s.Version, 10), '}')
}

// appendStoredTwin appends a complete twin as events show it whole: what is stored, without the identity's own properties.
func appendStoredTwin(b []byte, row *store.TwinRow) []byte {
	t := &row.Twin
	b = appendText(append(b, `{"deviceId":`...), row.DeviceID)
	if row.ModuleID != "" {
		b = appendText(append(b, `,"moduleId":`...), row.ModuleID)
	}
	b = appendText(append(b, `,"etag":`...), twinETag(t.Writes))
	b = strconv.AppendInt(append(b, `,"version":`...), t.Version, 10)
	if len(t.Tags.Members()) > 0 {
		b = t.Tags.AppendJSON(append(b, `,"tags":`...))
	}
	b = appendFullSection(append(b, `,"properties":{"desired":`...), t.Desired, t.Desired.Version > 1)
	b = appendFullSection(append(b, `,"reported":`...), t.Reported, false)
	return append(b, "}}"...)
}
