package hub

import (
	"context"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/store"
)

// digitalTwinPatch returns the JSON Patch that makes of the digital twin of before that of row; nil when nobody wants it, for an identity
// without a model, and for a change that a digital twin does not show.
func (h *Hub) digitalTwinPatch(ctx context.Context, before *store.Twin, row *store.TwinRow) []byte {
	if !h.noticed(ctx, &digitalTwinNotice) || row.ModelID == "" {
		return nil
	}
	old := DigitalTwin{store.TwinRow{Identity: row.Identity, Twin: *before}}
	operations := patchBetween(nil, "", old.value(), (&DigitalTwin{*row}).value())
	if len(operations) == 0 {
		return nil
	}
	return document.OfElements(operations).AppendJSON(nil)
}

// patchBetween appends the operations of a JSON Patch (RFC 6902) that make of an object another; path is where both stand.
func patchBetween(operations []document.Value, path string, from, to document.Value) []document.Value {
	for _, m := range from.Members() {
		at := path + "/" + pointerEscape.Replace(m.Name)
		now := to.Get(m.Name)
		switch {
		case !now.IsDefined():
			operations = append(operations, object("op", document.OfString("remove"), "path", document.OfString(at)))
		case m.Value.Kind() == document.Object && now.Kind() == document.Object:
			operations = patchBetween(operations, at, m.Value, now)
		case !document.Equal(m.Value, now):
			operations = append(operations, patchOf("replace", at, now))
		}
	}
	for _, m := range to.Members() {
		if !from.Get(m.Name).IsDefined() {
			operations = append(operations, patchOf("add", path+"/"+pointerEscape.Replace(m.Name), m.Value))
		}
	}
	return operations
}

// pointerEscape writes a name as a JSON Pointer has it (RFC 6901).
var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

func patchOf(op, path string, value document.Value) document.Value {
	return object("op", document.OfString(op), "path", document.OfString(path), "value", value)
}

// notifyModel tells that a connection has named another model than the one before. The caller holds the peer's lock.
func (s *DeviceSession) notifyModel(ctx context.Context, modelID string, at time.Time) {
	h := s.hub
	if !h.noticed(ctx, &digitalTwinNotice) || !h.enter(s.partition, s.era) {
		return
	}
	defer h.leave(s.partition)
	// The real hub writes replace for the first model, too (article "Implement IoT Plug and Play model discovery").
	patch := patchOf("replace", "/$metadata/$model", document.OfString(modelID))
	n := notice{kind: &digitalTwinNotice, opType: "updateTwin", correlationID: h.newCorrelationID(), at: at}
	n.body = document.OfElements([]document.Value{patch}).AppendJSON(nil)
	s.mustNotify(ctx, n)
}
