package httpapi

import (
	"time"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// identityTime is how the identity registry shows times: no zone, up to seven digits of a fraction, 0001-01-01T00:00:00 for never.
// Source: amenzhinsky/iothub, iotservice/registry.go.
const identityTime = "2006-01-02T15:04:05.9999999"

// deviceJSON is a device as the registry shows it.
type deviceJSON struct {
	DeviceID                   string           `json:"deviceId"`
	GenerationID               string           `json:"generationId"`
	ETag                       string           `json:"etag"`
	ConnectionState            string           `json:"connectionState"`
	Status                     store.Status     `json:"status"`
	StatusReason               *string          `json:"statusReason"`
	ConnectionStateUpdatedTime string           `json:"connectionStateUpdatedTime"`
	StatusUpdatedTime          string           `json:"statusUpdatedTime"`
	LastActivityTime           string           `json:"lastActivityTime"`
	CloudToDeviceMessageCount  int              `json:"cloudToDeviceMessageCount"`
	Authentication             authJSON         `json:"authentication"`
	Capabilities               capabilitiesJSON `json:"capabilities"`
	DeviceScope                string           `json:"deviceScope,omitempty"`
	ParentScopes               []string         `json:"parentScopes,omitempty"`
}

// moduleJSON is a module as the registry shows it; its status is that of its device.
type moduleJSON struct {
	ModuleID                   string   `json:"moduleId"`
	ManagedBy                  *string  `json:"managedBy"`
	DeviceID                   string   `json:"deviceId"`
	GenerationID               string   `json:"generationId"`
	ETag                       string   `json:"etag"`
	ConnectionState            string   `json:"connectionState"`
	ConnectionStateUpdatedTime string   `json:"connectionStateUpdatedTime"`
	LastActivityTime           string   `json:"lastActivityTime"`
	CloudToDeviceMessageCount  int      `json:"cloudToDeviceMessageCount"`
	Authentication             authJSON `json:"authentication"`
}

type capabilitiesJSON struct {
	IoTEdge bool `json:"iotEdge"`
}

type authJSON struct {
	SymmetricKey   keysJSON        `json:"symmetricKey"`
	X509Thumbprint thumbprintsJSON `json:"x509Thumbprint"`
	Type           store.AuthType  `json:"type"`
}

type keysJSON struct {
	Primary   *string `json:"primaryKey"`
	Secondary *string `json:"secondaryKey"`
}

type thumbprintsJSON struct {
	Primary   *string `json:"primaryThumbprint"`
	Secondary *string `json:"secondaryThumbprint"`
}

func deviceOf(d hub.Device) deviceJSON {
	return deviceJSON{
		DeviceID: d.DeviceID, GenerationID: d.GenerationID, ETag: d.ETag,
		ConnectionState: hub.ConnectionState(d.Connected), ConnectionStateUpdatedTime: formatIdentityTime(d.ConnectedUpdated),
		Status: d.Status, StatusReason: orNull(d.StatusReason), StatusUpdatedTime: formatIdentityTime(d.StatusUpdated),
		LastActivityTime: formatIdentityTime(d.LastActivity), CloudToDeviceMessageCount: d.C2DCount,
		Authentication: authOf(d.Authentication), Capabilities: capabilitiesJSON{d.IoTEdge},
		DeviceScope: d.DeviceScope, ParentScopes: d.ParentScopes,
	}
}

func moduleOf(d hub.Device) moduleJSON {
	return moduleJSON{
		ModuleID: d.ModuleID, ManagedBy: orNull(d.ManagedBy), DeviceID: d.DeviceID, GenerationID: d.GenerationID, ETag: d.ETag,
		ConnectionState: hub.ConnectionState(d.Connected), ConnectionStateUpdatedTime: formatIdentityTime(d.ConnectedUpdated),
		LastActivityTime: formatIdentityTime(d.LastActivity), CloudToDeviceMessageCount: d.C2DCount,
		Authentication: authOf(d.Authentication),
	}
}

func authOf(a store.Authentication) authJSON {
	return authJSON{
		SymmetricKey:   keysJSON{orNull(a.PrimaryKey), orNull(a.SecondaryKey)},
		X509Thumbprint: thumbprintsJSON{orNull(a.PrimaryThumbprint), orNull(a.SecondaryThumbprint)},
		Type:           a.Type,
	}
}

func formatIdentityTime(t time.Time) string { return t.UTC().Format(identityTime) }

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// identityJSON is a device or module in a request. What only the hub may set is ignored, as IoT Hub does.
type identityJSON struct {
	DeviceID       string           `json:"deviceId"`
	ModuleID       string           `json:"moduleId"`
	Status         store.Status     `json:"status"`
	StatusReason   *string          `json:"statusReason"`
	Authentication *authJSON        `json:"authentication"`
	Capabilities   capabilitiesJSON `json:"capabilities"`
	DeviceScope    *string          `json:"deviceScope"`
	ParentScopes   []string         `json:"parentScopes"`
	ManagedBy      *string          `json:"managedBy"`
}

func (b *identityJSON) identity(key store.Key) store.Identity {
	id := store.Identity{
		Key: key, Status: b.Status, StatusReason: orEmpty(b.StatusReason), IoTEdge: b.Capabilities.IoTEdge,
		DeviceScope: orEmpty(b.DeviceScope), ParentScopes: b.ParentScopes, ManagedBy: orEmpty(b.ManagedBy),
	}
	if a := b.Authentication; a != nil {
		id.Authentication = store.Authentication{
			Type: a.Type, PrimaryKey: orEmpty(a.SymmetricKey.Primary), SecondaryKey: orEmpty(a.SymmetricKey.Secondary),
			PrimaryThumbprint: orEmpty(a.X509Thumbprint.Primary), SecondaryThumbprint: orEmpty(a.X509Thumbprint.Secondary),
		}
	}
	return id
}
