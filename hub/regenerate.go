package hub

import (
	"context"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// RegenerateKeys makes new keys for up to 100 identities. policyKey says which: primaryKey, secondaryKey, both, or swap, which exchanges the
// two. Failures of single identities do not stop the others; renewed holds those that have new keys. Connections stay as they are.
// RegistryWrite. CodeInvalidPolicyKey, CodeTooManyDevices, CodeDeviceDefinedMultipleTimes. For one identity: CodeDeviceNotFound,
// CodeModuleNotFound, CodeInvalidOperation (it does not authenticate with keys).
// Source: azure-iot-cli-extension, sdk/iothub/service/models/bulk_regenerate_device_key_py3.py.
func (s *ServiceSession) RegenerateKeys(ctx context.Context, policyKey string, keys []store.Key) (renewed []store.Identity, failed []BulkError, err error) {
	if err := s.need(ctx, auth.RegistryWrite, "devices"); err != nil {
		return nil, nil, err
	}
	renew := keyRenewals[strings.ToLower(policyKey)]
	if renew == nil {
		return nil, nil, s.hub.NewError(CodeInvalidPolicyKey, strconv.Quote(policyKey)+" is none of primaryKey, secondaryKey, both and swap")
	}
	if err := s.hub.checkKeys(keys); err != nil {
		return nil, nil, err
	}
	for _, key := range keys {
		id, err := s.hub.renewKeys(ctx, key, renew)
		if err != nil {
			failed = append(failed, s.hub.bulkError(ctx, key, err))
			continue
		}
		renewed = append(renewed, id)
	}
	return renewed, failed, nil
}

// checkKeys checks what makes a whole request fail.
func (h *Hub) checkKeys(keys []store.Key) error {
	if len(keys) > MaxBulk {
		return h.NewError(CodeTooManyDevices, "more than 100 identities")
	}
	seen := make(map[store.Key]struct{}, len(keys))
	for _, key := range keys {
		if _, twice := seen[key]; twice {
			return h.NewError(CodeDeviceDefinedMultipleTimes, key.String())
		}
		seen[key] = struct{}{}
	}
	return nil
}

// keyRenewals change an authentication, by the name of the policy key in lower case. Some clients leave "Key" out.
var keyRenewals = map[string]func(*store.Authentication){
	"primary":      renewPrimary,
	"primarykey":   renewPrimary,
	"secondary":    renewSecondary,
	"secondarykey": renewSecondary,
	"both":         func(a *store.Authentication) { a.PrimaryKey, a.SecondaryKey = newKeys() },
	"swap":         func(a *store.Authentication) { a.PrimaryKey, a.SecondaryKey = a.SecondaryKey, a.PrimaryKey },
}

func renewPrimary(a *store.Authentication)   { a.PrimaryKey, _ = newKeys() }
func renewSecondary(a *store.Authentication) { a.SecondaryKey, _ = newKeys() }

// renewKeys changes the keys of one identity, until nobody has come in between.
func (h *Hub) renewKeys(ctx context.Context, key store.Key, renew func(*store.Authentication)) (store.Identity, error) {
	for {
		id, err := h.registry.Get(ctx, key)
		if err != nil {
			return id, h.registryError(err, key)
		}
		if id.Authentication.Type != store.AuthSAS {
			return id, h.NewError(CodeInvalidOperation, key.String()+" authenticates with "+string(id.Authentication.Type)+", not with keys")
		}
		renew(&id.Authentication)
		updated, err := h.registry.Update(ctx, id, id.ETag)
		if isConflict(err) {
			continue
		}
		if err != nil {
			return id, h.registryError(err, key)
		}
		return updated, nil
	}
}
