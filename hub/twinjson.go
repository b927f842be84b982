package hub

import (
	"strconv"
	"time"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

// Twins are JSON documents on every door that carries them, so the hub itself writes them.

// AppendJSON appends the properties as devices get them: {"desired":{...,"$version":1},"reported":{...,"$version":1}}.
func (p TwinProperties) AppendJSON(b []byte) []byte {
	b = appendSection(append(b, `{"desired":`...), p.Desired.Value, p.Desired.Version)
	b = appendSection(append(b, `,"reported":`...), p.Reported.Value, p.Reported.Version)
	return append(b, '}')
}

// appendSection appends an object with its $version.
func appendSection(b []byte, v document.Value, version int64) []byte {
	b = openObject(b, v)
	b = append(b, `"$version":`...)
	return append(strconv.AppendInt(b, version, 10), '}')
}

// openObject appends an object without its last brace, ready for another member.
func openObject(b []byte, v document.Value) []byte {
	b = v.AppendJSON(b)
	b = b[:len(b)-1]
	if len(v.Members()) > 0 {
		b = append(b, ',')
	}
	return b
}

// appendFullSection appends an object with its $metadata and $version.
func appendFullSection(b []byte, s store.Section, versioned bool) []byte {
	b = append(openObject(b, s.Value), `"$metadata":`...)
	version := int64(0)
	if versioned {
		version = s.Version
	}
	b = twin.AppendMetadata(b, s.Value, s.Updated, version)
	b = append(b, `,"$version":`...)
	return append(strconv.AppendInt(b, s.Version, 10), '}')
}

// AppendJSON appends the twin as GET /twins answers it (article "Understand and use device twins in IoT Hub").
func (t *Twin) AppendJSON(b []byte) []byte {
	b = appendText(append(b, `{"deviceId":`...), t.DeviceID)
	if t.ModuleID != "" {
		b = appendText(append(b, `,"moduleId":`...), t.ModuleID)
	}
	b = appendText(append(b, `,"etag":`...), t.ETag())
	b = appendText(append(b, `,"deviceEtag":`...), t.Identity.ETag)
	b = appendText(append(b, `,"status":`...), string(t.Status))
	if t.StatusReason != "" {
		b = appendText(append(b, `,"statusReason":`...), t.StatusReason)
	}
	b = appendTime(append(b, `,"statusUpdateTime":`...), t.StatusUpdated)
	b = appendText(append(b, `,"connectionState":`...), ConnectionState(t.Connected))
	b = appendTime(append(b, `,"lastActivityTime":`...), t.LastActivity)
	b = strconv.AppendInt(append(b, `,"cloudToDeviceMessageCount":`...), int64(t.C2DCount), 10)
	b = appendText(append(b, `,"authenticationType":`...), string(t.Authentication.Type))
	b = appendOrNull(append(b, `,"x509Thumbprint":{"primaryThumbprint":`...), t.Authentication.PrimaryThumbprint)
	b = appendOrNull(append(b, `,"secondaryThumbprint":`...), t.Authentication.SecondaryThumbprint)
	b = appendText(append(b, `},"modelId":`...), t.ModelID)
	b = strconv.AppendInt(append(b, `,"version":`...), t.Version, 10)
	b = t.appendDocuments(b)
	return append(b, '}')
}

// appendDocuments appends what devices and back ends have written, and what follows it.
func (t *Twin) appendDocuments(b []byte) []byte {
	if len(t.Tags.Members()) > 0 { // IoT Hub: absent when empty
		b = t.Tags.AppendJSON(append(b, `,"tags":`...))
	}
	b = appendFullSection(append(b, `,"properties":{"desired":`...), t.Desired, true)
	b = appendFullSection(append(b, `,"reported":`...), t.Reported, false)
	b = append(append(b, `},"capabilities":{"iotEdge":`...), strconv.FormatBool(t.IoTEdge)...)
	b = append(b, '}')
	if len(t.Configurations.Members()) > 0 {
		b = t.Configurations.AppendJSON(append(b, `,"configurations":`...))
	}
	if t.DeviceScope != "" {
		b = appendText(append(b, `,"deviceScope":`...), t.DeviceScope)
	}
	if len(t.ParentScopes) > 0 {
		b = append(b, `,"parentScopes":[`...)
		for i, scope := range t.ParentScopes {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, scope)
		}
		b = append(b, ']')
	}
	return b
}

// ConnectionState is the word for whether an identity is connected.
func ConnectionState(connected bool) string {
	if connected {
		return "Connected"
	}
	return "Disconnected"
}

func appendText(b []byte, s string) []byte { return document.AppendString(b, s) }

func appendOrNull(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendText(b, s)
}

// appendTime appends a time as twins show it; never is the year 1.
func appendTime(b []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(b, '"'), twin.TimeFormat), '"')
}
