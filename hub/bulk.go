package hub

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

// MaxBulk is the most operations of one bulk request.
const MaxBulk = 100

// BulkItem is one operation of a bulk request.
type BulkItem struct {
	Identity store.Identity // ETag is the one to match for the IfMatchETag modes
	// Mode is create, update, updateIfMatchETag, createOrUpdate, createOrUpdateIfMatchETag, delete, deleteIfMatchETag, updateTwin or
	// updateTwinIfMatchETag. Case does not matter.
	Mode string
	// What is merged into the identity's twin, a new one's too; Undefined and null for nothing.
	Tags, Desired document.Value
	// TwinETag is the one to match for updateTwinIfMatchETag and, when it is given, for the twin of an identity that was there before.
	TwinETag string
}

// BulkError is the failure of one item.
type BulkError struct {
	store.Key
	Err *Error
}

// bulkMode is what an import mode does. Source: azure-iot-sdk-csharp, iothub/service/src/ImportMode.cs.
type bulkMode struct {
	create, update, delete, twin bool
	match                        bool // an etag has to match: the twin's if twin, else the identity's
}

// bulkModes holds the import modes, by their names in lower case.
var bulkModes = map[string]bulkMode{
	"create":                    {create: true},
	"update":                    {update: true},
	"updateifmatchetag":         {update: true, match: true},
	"createorupdate":            {create: true, update: true},
	"createorupdateifmatchetag": {create: true, update: true, match: true},
	"delete":                    {delete: true},
	"deleteifmatchetag":         {delete: true, match: true},
	"updatetwin":                {twin: true},
	"updatetwinifmatchetag":     {twin: true, match: true},
}

// Bulk carries out up to 100 operations; failures of single items do not stop the others. RegistryWrite, and ServiceConnect for the
// updateTwin modes. CodeTooManyDevices, CodeDeviceDefinedMultipleTimes, CodeArgumentInvalid (unknown mode).
func (s *ServiceSession) Bulk(ctx context.Context, items []BulkItem) (_ []BulkError, err error) {
	defer func() { err = s.hub.did(opIdentityBulk, store.Key{}, s.conn, 0, err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.RegistryWrite, "devices"); err != nil {
		return nil, err
	}
	if err := s.checkBulk(ctx, items); err != nil {
		return nil, err
	}
	var failed []BulkError
	for _, item := range items {
		if err := s.bulkOne(ctx, era, item); err != nil {
			failed = append(failed, s.hub.bulkError(ctx, item.Identity.Key, err))
		}
	}
	return failed, nil
}

// bulkOne is one operation of a back end's. The hub's own bulkOne is for imports, too, which bring back twins of system modules.
func (s *ServiceSession) bulkOne(ctx context.Context, era int64, item BulkItem) error {
	if item.writesTwin() && isSystemModule(item.Identity.Key) {
		return s.hub.NewError(CodeSystemModule)
	}
	return s.hub.bulkOne(ctx, era, item)
}

// writesTwin reports whether an operation is about the twin, too.
func (i *BulkItem) writesTwin() bool {
	mode := bulkModes[strings.ToLower(i.Mode)]
	return mode.twin || !mode.delete && (given(i.Tags) || given(i.Desired))
}

// bulkError is the failure of the item about key. The cause of one that is not for the peer is logged.
func (h *Hub) bulkError(ctx context.Context, key store.Key, err error) BulkError {
	e, created := AsError(err)
	if created {
		h.log.ErrorContext(ctx, "a bulk operation failed", "category", DeviceIdentityOperations, "deviceId", key.DeviceID, "moduleId", key.ModuleID, "error", errors.Unwrap(e), "trackingId", e.TrackingID)
	}
	return BulkError{Key: key, Err: e}
}

// checkBulk checks what makes a whole request fail.
func (s *ServiceSession) checkBulk(ctx context.Context, items []BulkItem) error {
	if len(items) > MaxBulk {
		return s.hub.NewError(CodeTooManyDevices, "more than 100 operations")
	}
	seen := make(map[store.Key]struct{}, len(items))
	for _, item := range items {
		mode, known := bulkModes[strings.ToLower(item.Mode)]
		if !known {
			return s.hub.NewError(CodeArgumentInvalid, "unknown import mode "+strconv.Quote(item.Mode))
		}
		if mode.twin {
			if err := s.need(ctx, auth.ServiceConnect, "twins"); err != nil {
				return err
			}
		}
		if _, twice := seen[item.Identity.Key]; twice {
			return s.hub.NewError(CodeDeviceDefinedMultipleTimes, item.Identity.Key.String())
		}
		seen[item.Identity.Key] = struct{}{}
	}
	return nil
}

// bulkOne carries one operation out. What is wrong with its twin is found before the identity is touched.
func (h *Hub) bulkOne(ctx context.Context, era int64, item BulkItem) error {
	mode, key, etag := bulkModes[strings.ToLower(item.Mode)], item.Identity.Key, "*"
	if mode.delete {
		if mode.match {
			etag = item.Identity.ETag
		}
		return h.delete(ctx, era, key, etag)
	}
	body, err := h.bulkTwin(item)
	if err != nil {
		return err
	}
	isNew := false
	if !mode.twin {
		if isNew, err = h.bulkIdentity(ctx, era, item.Identity, mode); err != nil {
			return err
		}
		if !body.tags.IsDefined() && !body.desired.IsDefined() {
			return nil
		}
	}
	ifMatch := ""
	switch {
	case mode.twin && mode.match:
		ifMatch = `"` + unquoteETag(item.TwinETag) + `"` // none matches nothing
	case !mode.twin && !isNew:
		ifMatch = item.TwinETag
	}
	_, err = h.changeTwin(ctx, era, key, ifMatch, twinWrite(mergeTwin).with(body))
	return err
}

// bulkIdentity creates or updates an identity, and reports whether it is new.
func (h *Hub) bulkIdentity(ctx context.Context, era int64, id store.Identity, mode bulkMode) (isNew bool, err error) {
	etag := "*"
	if mode.match {
		etag = id.ETag
	}
	if mode.create && mode.update {
		_, err := h.registry.Get(ctx, id.Key)
		mode.create = errors.Is(err, store.ErrNotFound)
	}
	if mode.create {
		_, err = h.create(ctx, era, id)
		return true, err
	}
	_, err = h.update(ctx, era, id, etag)
	return false, err
}

// bulkTwin checks what an item brings for a twin.
func (h *Hub) bulkTwin(item BulkItem) (b twinBody, err error) {
	if b.tags, err = h.bulkPart(item.Tags, "tags", twin.MaxTags); err != nil {
		return b, err
	}
	b.desired, err = h.bulkPart(item.Desired, "properties.desired", twin.MaxSection)
	return b, err
}

func (h *Hub) bulkPart(v document.Value, name string, most int) (document.Value, error) {
	if k := v.Kind(); k != document.Undefined && k != document.Null && k != document.Object {
		return v, h.NewError(CodeArgumentInvalid, name+": a JSON object is wanted, not a value of type "+k.String())
	}
	v, err := h.part(v, name)
	if err != nil || !v.IsDefined() {
		return v, err
	}
	return v, h.checkPart(name, twin.Merge(document.EmptyObject, v, twin.Stamp{}), most)
}
