package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// methodJSON is a direct method to be called. Source: azure-iot-sdk-csharp, iothub/service/src/Messaging/CloudToDeviceMethod.cs.
type methodJSON struct {
	Name            string          `json:"methodName"`
	ResponseTimeout int64           `json:"responseTimeoutInSeconds"`
	ConnectTimeout  int64           `json:"connectTimeoutInSeconds"`
	Payload         json.RawMessage `json:"payload"`
}

func (m *methodJSON) call() hub.MethodCall {
	return hub.MethodCall{
		Name: m.Name, Payload: m.Payload, ResponseTimeout: seconds(m.ResponseTimeout), ConnectTimeout: seconds(m.ConnectTimeout),
	}
}

// seconds returns n seconds, or as many hours as no limit allows instead of a number that overflows.
func seconds(n int64) time.Duration {
	const far = 1 << 30
	return time.Duration(min(max(n, -far), far)) * time.Second
}

// methodCaller is who may call direct methods: a back end, or a module.
type methodCaller interface {
	InvokeMethod(ctx context.Context, key store.Key, call hub.MethodCall) (hub.MethodResult, error)
	Close()
}

// postMethod is POST /twins/{device}[/modules/{module}]/methods: call a direct method and wait for its result.
func (s *Server) postMethod(w http.ResponseWriter, r *http.Request) {
	result, err := s.invoke(w, r)
	if err != nil {
		s.failNested(w, r, err)
		return
	}
	replyAppended(w, func(b []byte) []byte {
		b = strconv.AppendInt(append(b, `{"status":`...), int64(result.Status), 10)
		return append(append(append(b, `,"payload":`...), result.Payload...), '}')
	})
}

func (s *Server) invoke(w http.ResponseWriter, r *http.Request) (hub.MethodResult, error) {
	caller, err := s.openCaller(r)
	if err != nil {
		return hub.MethodResult{}, err
	}
	defer caller.Close()
	var body methodJSON
	if err := readJSON(r, &body); err != nil {
		return hub.MethodResult{}, err
	}
	return await(w, r, func(ctx context.Context) (hub.MethodResult, error) {
		return caller.InvokeMethod(ctx, pathKey(r), body.call())
	})
}

// openCaller proves who calls. A module says so in a header, as IoT Edge modules do, or its token does. With the header it may leave the
// api-version out: azure-iot-device for Node does.
func (s *Server) openCaller(r *http.Request) (methodCaller, error) {
	device, module, edge := strings.Cut(r.Header.Get("x-ms-edge-moduleId"), "/")
	if _, given := queryValue(r.URL.RawQuery, "api-version"); given || !edge {
		if err := checkAPIVersion(r); err != nil {
			return nil, err
		}
	}
	claimed := store.Key{DeviceID: unescape(device), ModuleID: unescape(module)}
	c := wireOf(r).Conn
	p, err := s.hub.Authenticate(r.Context(), credential(r, c), claimed)
	switch {
	case err != nil:
		return nil, err
	case claimed.DeviceID == "" && p.IsPolicy():
		return s.hub.OpenService(r.Context(), p, c)
	case claimed.DeviceID == "":
		claimed = store.Key{DeviceID: p.DeviceID, ModuleID: p.ModuleID}
	}
	return s.hub.OpenDevice(r.Context(), p, claimed, hub.DeviceOptions{Conn: c, UserAgent: r.UserAgent(), Transient: true})
}
