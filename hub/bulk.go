package hub

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// maxBulk is the most operations of one bulk request.
const maxBulk = 100

// BulkItem is one operation of a bulk request.
type BulkItem struct {
	Identity store.Identity // ETag is the one to match for the IfMatchETag modes
	Mode     string         // create, update, updateIfMatchETag, createOrUpdate, createOrUpdateIfMatchETag, delete, deleteIfMatchETag
}

// BulkError is the failure of one item.
type BulkError struct {
	store.Key
	Err *Error
}

// bulkModes carry out an operation, by its mode in lower case.
var bulkModes = map[string]func(ctx context.Context, h *Hub, id store.Identity) error{
	"create": func(ctx context.Context, h *Hub, id store.Identity) error {
		_, err := h.create(ctx, id)
		return err
	},
	"update":                    func(ctx context.Context, h *Hub, id store.Identity) error { return h.bulkUpdate(ctx, id, "*") },
	"updateifmatchetag":         func(ctx context.Context, h *Hub, id store.Identity) error { return h.bulkUpdate(ctx, id, id.ETag) },
	"createorupdate":            func(ctx context.Context, h *Hub, id store.Identity) error { return h.bulkUpsert(ctx, id, "*") },
	"createorupdateifmatchetag": func(ctx context.Context, h *Hub, id store.Identity) error { return h.bulkUpsert(ctx, id, id.ETag) },
	"delete":                    func(ctx context.Context, h *Hub, id store.Identity) error { return h.delete(ctx, id.Key, "*") },
	"deleteifmatchetag":         func(ctx context.Context, h *Hub, id store.Identity) error { return h.delete(ctx, id.Key, id.ETag) },
}

func (h *Hub) bulkUpdate(ctx context.Context, id store.Identity, ifMatch string) error {
	_, err := h.update(ctx, id, ifMatch)
	return err
}

func (h *Hub) bulkUpsert(ctx context.Context, id store.Identity, ifMatch string) error {
	if _, err := h.registry.Get(ctx, id.Key); err == nil {
		return h.bulkUpdate(ctx, id, ifMatch)
	}
	_, err := h.create(ctx, id)
	return err
}

// Bulk carries out up to 100 operations; failures of single items do not stop the others. RegistryWrite. CodeTooManyDevices,
// CodeDeviceDefinedMultipleTimes, CodeArgumentInvalid (unknown mode), CodeNotImplemented (updateTwin modes).
func (s *ServiceSession) Bulk(ctx context.Context, items []BulkItem) ([]BulkError, error) {
	if err := s.need(ctx, auth.RegistryWrite, "devices"); err != nil {
		return nil, err
	}
	if err := s.hub.checkBulk(items); err != nil {
		return nil, err
	}
	var failed []BulkError
	for _, item := range items {
		err := bulkModes[strings.ToLower(item.Mode)](ctx, s.hub, item.Identity)
		if err == nil {
			continue
		}
		e, created := AsError(err)
		if created {
			s.hub.log.ErrorContext(ctx, "a bulk operation failed", "device", item.Identity.DeviceID, "error", errors.Unwrap(e), "trackingId", e.TrackingID)
		}
		failed = append(failed, BulkError{Key: item.Identity.Key, Err: e})
	}
	return failed, nil
}

// checkBulk checks what makes a whole request fail.
func (h *Hub) checkBulk(items []BulkItem) error {
	if len(items) > maxBulk {
		return h.NewError(CodeTooManyDevices, strconv.Itoa(len(items))+" operations of at most 100")
	}
	seen := make(map[store.Key]struct{}, len(items))
	for _, item := range items {
		mode := strings.ToLower(item.Mode)
		if strings.HasPrefix(mode, "updatetwin") {
			return h.NewError(CodeNotImplemented, "the import mode "+item.Mode)
		}
		if bulkModes[mode] == nil {
			return h.NewError(CodeArgumentInvalid, "unknown import mode "+strconv.Quote(item.Mode))
		}
		if _, twice := seen[item.Identity.Key]; twice {
			return h.NewError(CodeDeviceDefinedMultipleTimes, item.Identity.Key.String())
		}
		seen[item.Identity.Key] = struct{}{}
	}
	return nil
}
