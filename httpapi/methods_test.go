package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

const methodsOf = "/twins/d1/methods" + version

// online opens a connection of an identity that answers methods as respond says; nil takes none.
func (r *rig) online(key store.Key, respond func(*hub.DeviceSession, hub.MethodRequest)) *hub.DeviceSession {
	r.t.Helper()
	p := auth.Principal{DeviceID: key.DeviceID, ModuleID: key.ModuleID, Rights: auth.DeviceConnect}
	s, err := r.hub.OpenDevice(r.t.Context(), p, key, hub.DeviceOptions{})
	must(r.t, err)
	r.t.Cleanup(s.Close)
	if respond != nil {
		must(r.t, s.SubscribeMethods(func(m hub.MethodRequest) bool {
			respond(s, m)
			return true
		}))
	}
	return s
}

// echo answers with the name's length and the payload.
func echo(s *hub.DeviceSession, m hub.MethodRequest) { s.RespondMethod(m.ID, len(m.Name), m.Payload) }

func (r *rig) moduleToken(key store.Key) string {
	r.t.Helper()
	primary, _ := hub.DeriveKeys(key)
	token, err := auth.NewToken(host+"/devices/"+key.DeviceID+"/modules/"+key.ModuleID, primary, "", r.clock.Now().Add(time.Hour))
	must(r.t, err)
	return token
}

func TestMethodPayloadsOfEveryKindComeBackAsTheyWere(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.module("d1", "m1")
	r.online(store.Key{DeviceID: "d1"}, echo)
	r.online(store.Key{DeviceID: "d1", ModuleID: "m1"}, echo)
	token := r.policyToken("service")
	for _, payload := range []string{
		`{"a":1.50,"b":[9007199254740993,1e400],"a":2}`, `[]`, `"text \u0000 \/"`, `0`, `-1E+5`, `true`, `false`, `null`, `{ "spaced" : [ 1 , 2 ] }`, `"` + strings.Repeat("x", 128<<10-2) + `"`,
	} {
		for _, path := range []string{methodsOf, "/twins/d1/modules/m1/methods" + version} {
			a := r.ask("POST", path, token, `{"methodName":"reboot","payload":`+payload+`}`).want(200, "")
			if want := `{"status":6,"payload":` + payload + `}`; a.Body != want {
				t.Errorf("%.80s, want %.80s", a.Body, want)
			}
		}
	}
	golden(t, "method-200", r.ask("POST", methodsOf, token, `{"methodName":"reboot","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0}`).want(200, "").text())
}

func TestMethodErrorsComeInTheNestedEnvelope(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.module("d1", "m1")
	token := r.policyToken("service")
	const call = `{"methodName":"reboot"}`
	golden(t, "method-offline", r.ask("POST", methodsOf, token, call).want(404, "DeviceNotOnline").text())
	r.online(store.Key{DeviceID: "d1"}, nil)
	golden(t, "method-unsubscribed", r.ask("POST", methodsOf, token, call).want(404, "DeviceNotOnline").text())
	golden(t, "method-missing", r.ask("POST", "/twins/nobody/methods"+version, token, call).want(404, "DeviceNotFound").text())
	golden(t, "method-missing-module", r.ask("POST", "/twins/d1/modules/m2/methods"+version, token, call).want(404, "ModuleNotFound").text())
	golden(t, "method-unauthorized", r.ask("POST", methodsOf, r.policyToken("registryReadWrite"), call).want(401, "IotHubUnauthorizedAccess").text())
	golden(t, "method-bad-timeout", r.ask("POST", methodsOf, token, `{"methodName":"reboot","responseTimeoutInSeconds":301}`).want(400, "ArgumentInvalid").text())
	r.online(store.Key{DeviceID: "d1"}, func(s *hub.DeviceSession, m hub.MethodRequest) { s.RespondMethod(m.ID, 200, []byte("{")) })
	golden(t, "method-bad-answer", r.ask("POST", methodsOf, token, call).want(502, "GenericBadGateway").text())
	r.online(store.Key{DeviceID: "d1"}, func(s *hub.DeviceSession, m hub.MethodRequest) { s.Close() })
	golden(t, "method-cut", r.ask("POST", methodsOf, token, call).want(404, "DeviceConnectionClosedRemotely").text())
}

func TestMethodsRefuseBadCalls(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.online(store.Key{DeviceID: "d1"}, echo)
	token := r.policyToken("service")
	for name, test := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"nothing":                  {``, 400, "ArgumentInvalid"},
		"null":                     {`null`, 400, "ArgumentInvalid"},
		"no name":                  {`{}`, 400, "ArgumentInvalid"},
		"a name of number":         {`{"methodName":7}`, 400, "ArgumentInvalid"},
		"a time-out of text":       {`{"methodName":"m","responseTimeoutInSeconds":"30"}`, 400, "ArgumentInvalid"},
		"a time-out of a fraction": {`{"methodName":"m","responseTimeoutInSeconds":5.5}`, 400, "ArgumentInvalid"},
		"a time-out too short":     {`{"methodName":"m","responseTimeoutInSeconds":4}`, 400, "ArgumentInvalid"},
		"a time-out that wraps":    {`{"methodName":"m","responseTimeoutInSeconds":9223372036854775807}`, 400, "ArgumentInvalid"},
		"a negative connect":       {`{"methodName":"m","connectTimeoutInSeconds":-9223372036854775808}`, 400, "ArgumentInvalid"},
		"a longer connect":         {`{"methodName":"m","responseTimeoutInSeconds":10,"connectTimeoutInSeconds":11}`, 400, "ArgumentInvalid"},
		"a payload of words":       {`{"methodName":"m","payload":hello}`, 400, "ArgumentInvalid"},
		"a payload too long":       {`{"methodName":"m","payload":"` + strings.Repeat("x", 128<<10-1) + `"}`, 413, "MessageTooLarge"},
		"a body too long":          {`{"methodName":"m","payload":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "MessageTooLarge"},
		"unknown members":          {`{"methodName":"m","nonsense":{},"payload":1}`, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			a := r.ask("POST", methodsOf, token, test.body).want(test.status, test.code)
			if test.code != "" && !strings.HasSuffix(a.Body, `,"ExceptionMessage":""}`) {
				t.Errorf("%s is not nested", a.Body)
			}
		})
	}
	r.ask("POST", methodsOf, token, `{"methodName":"m"}`, "Content-Type", "text/plain").want(415, "GenericUnsupportedMediaType")
	r.ask("POST", "/twins/d1/methods", token, `{"methodName":"m"}`).want(400, "InvalidProtocolVersion")
}

// start asks in the background.
func (r *rig) start(ctx context.Context, path, token, body string) (done <-chan *answer) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(ctx, "POST", "https://"+host+path, strings.NewReader(body))
	must(r.t, err)
	request.Header.Set("Authorization", token)
	c := make(chan *answer, 1)
	go func() {
		defer close(c)
		response, err := r.client.Do(request)
		if err != nil {
			return
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err == nil {
			c <- &answer{r.t, response.StatusCode, response.Header, string(text)}
		}
	}()
	return c
}

func receive[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatalf("%s: closed", what)
		}
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not come", what)
	}
	panic("unreachable")
}

// No time-out of HTTP ends a call that the hub still waits for.
func TestMethodsOutlastTheTimeoutsOfHTTP(t *testing.T) {
	r := newTunedRig(t, func(s *Server) { s.http.ReadTimeout, s.http.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond })
	r.device("d1")
	requests := make(chan hub.MethodRequest, 1)
	session := r.online(store.Key{DeviceID: "d1"}, func(_ *hub.DeviceSession, m hub.MethodRequest) { requests <- m })
	done := r.start(t.Context(), methodsOf, r.policyToken("service"), `{"methodName":"slow","responseTimeoutInSeconds":300}`)
	m := receive(t, "the request", requests)
	over := clock.Wall().Add(900 * time.Millisecond) // the hub's time stands still; the socket's goes on
	poll(t, "all time-outs of HTTP are over", func() bool { return clock.Wall().After(over) })
	session.RespondMethod(m.ID, 200, nil)
	receive(t, "the answer", done).want(200, "")

	done = r.start(t.Context(), methodsOf, r.policyToken("service"), `{"methodName":"slow","responseTimeoutInSeconds":300}`)
	receive(t, "the request", requests)
	r.clock.Advance(301 * time.Second)
	golden(t, "method-timeout", receive(t, "the answer", done).want(504, "GatewayTimeout").text())
}

func TestMethodsWaitForTheDeviceToConnect(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	body := `{"methodName":"m","connectTimeoutInSeconds":10,"responseTimeoutInSeconds":20}`
	done := r.start(t.Context(), methodsOf, r.policyToken("service"), body)
	var late *answer
	poll(t, "the time to connect is over", func() bool {
		r.clock.Advance(time.Second)
		select {
		case late = <-done:
			return true
		default:
			return false
		}
	})
	late.want(404, "DeviceNotOnline")
	for _, part := range []string{`\"message\":\"Timed out waiting for device to connect.\"`, `\"info\":{\"timeout\":\"00:00:10\"}`} {
		if !strings.Contains(late.Body, part) {
			t.Errorf("%s lacks %s", late.Body, part)
		}
	}
	done = r.start(t.Context(), methodsOf, r.policyToken("service"), body)
	r.online(store.Key{DeviceID: "d1"}, echo)
	receive(t, "the answer", done).want(200, "")
}

// A caller that hangs up ends its call.
func TestMethodsEndWithTheirCaller(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	requests := make(chan hub.MethodRequest, 1)
	r.online(store.Key{DeviceID: "d1"}, func(_ *hub.DeviceSession, m hub.MethodRequest) { requests <- m })
	body := `{"methodName":"m","responseTimeoutInSeconds":300}`
	ended := make(chan struct{})
	inner := r.server.http.Handler
	r.server.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		defer close(ended)
		inner.ServeHTTP(w, q)
	})
	c := r.dial()
	_, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s", methodsOf, host, r.policyToken("service"), len(body), body)
	must(t, err)
	receive(t, "the request", requests)
	must(t, c.Close())
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the call goes on without its caller")
	}
	if text := r.log.String(); strings.Contains(text, "request failed") {
		t.Errorf("the log says:\n%s", text)
	}
}

// An edge module calls methods with its own credential, named in a header or by its token.
func TestModulesCallMethods(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.device("d2")
	caller, callee := store.Key{DeviceID: "d1", ModuleID: "caller"}, store.Key{DeviceID: "d1", ModuleID: "callee"}
	r.module("d1", "caller")
	r.module("d1", "callee")
	r.online(callee, echo)
	r.online(store.Key{DeviceID: "d1"}, echo)
	r.online(store.Key{DeviceID: "d2"}, echo)
	const to, call = "/twins/d1/modules/callee/methods" + version, `{"methodName":"m"}`
	token := r.moduleToken(caller)
	r.ask("POST", to, token, call, "x-ms-edge-moduleId", "d1/caller").want(200, "")
	r.ask("POST", to, token, call).want(200, "")
	r.ask("POST", "/twins/d1/modules/callee/methods", token, call, "x-ms-edge-moduleId", "d1/caller").want(200, "") // as Node does
	r.ask("POST", "/twins/d1/modules/callee/methods?api-version=1", token, call, "x-ms-edge-moduleId", "d1/caller").want(400, "InvalidProtocolVersion")
	r.ask("POST", "/twins/d1/modules/callee/methods", token, call).want(400, "InvalidProtocolVersion")
	r.ask("POST", methodsOf, token, call, "x-ms-edge-moduleId", "d1/caller").want(200, "")
	r.ask("POST", "/twins/d2/methods"+version, token, call, "x-ms-edge-moduleId", "d1/caller").want(401, "IotHubUnauthorizedAccess")
	r.ask("POST", to, token, call, "x-ms-edge-moduleId", "d1/callee").want(401, "IotHubUnauthorizedAccess")
	r.ask("POST", to, r.deviceToken("d1"), call).want(401, "IotHubUnauthorizedAccess")
	r.ask("POST", to, r.policyToken("service"), call, "x-ms-edge-moduleId", "d1/caller").want(401, "IotHubUnauthorizedAccess")
	r.ask("POST", to, "", call, "x-ms-edge-moduleId", "/").want(401, "IotHubUnauthorizedAccess")
	if connected, err := r.hub.Admin().Identity(t.Context(), caller); err != nil || connected.Connected {
		t.Errorf("the caller counts as connected: %v, %v", connected.Connected, err)
	}
}

// A client that has sent its next request already gets both answers.
func TestMethodsWithTheNextRequestBehindThem(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	requests := make(chan hub.MethodRequest, 1)
	session := r.online(store.Key{DeviceID: "d1"}, func(_ *hub.DeviceSession, m hub.MethodRequest) { requests <- m })
	body := `{"methodName":"m"}`
	c := r.dial()
	token := r.policyToken("service")
	_, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s", methodsOf, host, token, len(body), body)
	must(t, err)
	m := receive(t, "the request", requests)
	_, err = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nX: y\r\niothub-app-fooBar: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", eventsOf, host, r.deviceToken("d1"))
	must(t, err)
	session.RespondMethod(m.ID, 200, []byte("1"))
	text, err := io.ReadAll(c)
	must(t, err)
	if n := strings.Count(string(text), "HTTP/1.1 20"); n != 2 {
		t.Errorf("%d answers:\n%s", n, text)
	}
	if e := r.events(); len(e) != 1 || len(e[0].Properties) != 1 || e[0].Properties[0].Name != "fooBar" {
		t.Errorf("the event is %+v", e)
	}
}
