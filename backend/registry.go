package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/door"
)

const (
	apiVersion = "2021-04-12"
	// restTimeout bounds one request.
	restTimeout = 30 * time.Second
	// maxAnswer bounds the body of an answer: 1000 devices of some hundred bytes each fit easily.
	maxAnswer = 16 << 20
)

// Device is a device, or a module when ModuleID is not empty, as the registry tells it. Ids of this package's functions are "device" or
// "device/module".
type Device struct {
	DeviceID        string `json:"deviceId"`
	ModuleID        string `json:"moduleId,omitempty"`
	GenerationID    string `json:"generationId,omitempty"`
	ETag            string `json:"etag,omitempty"`
	ConnectionState string `json:"connectionState,omitempty"`
	Status          string `json:"status,omitempty"`
	Queued          int    `json:"cloudToDeviceMessageCount,omitempty"`
	Authentication  struct {
		Type         string `json:"type,omitempty"`
		SymmetricKey struct {
			PrimaryKey   string `json:"primaryKey,omitempty"`
			SecondaryKey string `json:"secondaryKey,omitempty"`
		} `json:"symmetricKey"`
	} `json:"authentication"`
}

// MaxListed is the most devices that Devices returns: what the registry tells in one answer.
const MaxListed = 1000

// Devices lists up to MaxListed devices.
func (b *Backend) Devices(ctx context.Context) ([]Device, error) {
	var list []Device
	_, err := b.call(ctx, http.MethodGet, "/devices", nil, &list)
	return list, err
}

// Modules lists the modules of a device.
func (b *Backend) Modules(ctx context.Context, deviceID string) ([]Device, error) {
	var list []Device
	_, err := b.call(ctx, http.MethodGet, devicePath(deviceID)+"/modules", nil, &list)
	return list, err
}

// ID returns the device's id, or "device/module".
func (d *Device) ID() string {
	if d.ModuleID == "" {
		return d.DeviceID
	}
	return d.DeviceID + "/" + d.ModuleID
}

// Device returns one device or module, and the JSON that the hub sent.
func (b *Backend) Device(ctx context.Context, id string) (d Device, raw []byte, err error) {
	raw, err = b.call(ctx, http.MethodGet, devicePath(id), nil, &d)
	return d, raw, err
}

// CreateDevice registers a SAS device or module; empty keys are made by the hub.
func (b *Backend) CreateDevice(ctx context.Context, id, primaryKey, secondaryKey string) (d Device, err error) {
	want := Device{Status: "enabled"}
	want.DeviceID, want.ModuleID, _ = strings.Cut(id, "/")
	want.Authentication.Type = "sas"
	want.Authentication.SymmetricKey.PrimaryKey, want.Authentication.SymmetricKey.SecondaryKey = primaryKey, secondaryKey
	_, err = b.call(ctx, http.MethodPut, devicePath(id), want, &d)
	return d, err
}

// DeleteDevice removes a device or module whatever its etag.
func (b *Backend) DeleteDevice(ctx context.Context, id string) error {
	_, err := b.call(ctx, http.MethodDelete, devicePath(id), nil, nil)
	return err
}

// ConnectionString returns what a client of the device or module needs; empty for one without a key.
func (b *Backend) ConnectionString(d Device) string {
	if d.Authentication.SymmetricKey.PrimaryKey == "" {
		return ""
	}
	module := ""
	if d.ModuleID != "" {
		module = ";ModuleId=" + d.ModuleID
	}
	return "HostName=" + b.info.Hostname + ";DeviceId=" + d.DeviceID + module + ";SharedAccessKey=" + d.Authentication.SymmetricKey.PrimaryKey
}

func devicePath(id string) string { return path("/devices/", id) }

// path returns the path of a device or module below room.
func path(room, id string) string {
	device, module, ok := strings.Cut(id, "/")
	if !ok {
		return room + url.PathEscape(device)
	}
	return room + url.PathEscape(device) + "/modules/" + url.PathEscape(module)
}

// call does one REST request and decodes the answer into out unless that is nil.
func (b *Backend) call(ctx context.Context, method, path string, in, out any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	request, err := b.request(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	if method == http.MethodDelete {
		request.Header.Set("If-Match", "*")
	}
	answer, _, err := b.do(request, out)
	return answer, err
}

// request makes a REST request with the policy's token; in becomes its JSON body unless it is nil.
func (b *Backend) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	address, err := b.Address(door.HTTPS)
	if err != nil {
		return nil, err
	}
	token, err := b.Token()
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "https://"+address+path+"?api-version="+apiVersion, &body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", token)
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	return request, nil
}

// do sends a request to the HTTPS door and returns its body; an answer of 400 and above is an error.
func (b *Backend) do(request *http.Request, out any) ([]byte, http.Header, error) {
	transport := &http.Transport{TLSClientConfig: b.TLS(), DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return nil, nil, fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, response.Status, trimmed(text))
	}
	if out != nil {
		err = json.Unmarshal(text, out)
	}
	return text, response.Header, err
}

// PostTelemetry sends one message as a device does over HTTPS.
func (b *Backend) PostTelemetry(ctx context.Context, d Device, body []byte, properties map[string]string) error {
	address, err := b.Address(door.HTTPS)
	if err != nil {
		return err
	}
	token, err := b.DeviceToken(d.DeviceID, d.Authentication.SymmetricKey.PrimaryKey)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"https://"+address+devicePath(d.DeviceID)+"/messages/events?api-version="+apiVersion, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", token)
	for name, value := range properties {
		request.Header["iothub-app-"+name] = []string{value}
	}
	_, _, err = b.do(request, nil)
	return err
}
