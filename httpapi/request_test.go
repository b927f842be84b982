package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/certs/certtest"
	"github.com/iolite-emulator/iolite/store"
)

// exchange sends raw bytes and returns everything that comes back until the connection is closed.
func (r *rig) exchange(raw string) string {
	r.t.Helper()
	c := r.dial()
	_, err := io.WriteString(c, raw)
	must(r.t, err)
	var answer bytes.Buffer
	_, _ = answer.ReadFrom(c) // ends with whatever ends the connection
	return answer.String()
}

func TestAPIVersionIsWanted(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("iothubowner")
	for _, query := range []string{"?api-version=2021-04-12", "?API-Version=2018-08-30-preview", "?x=y&api-version=2016-02-03"} {
		r.ask("GET", "/devices/d1"+query, token, "").want(200, "")
	}
	for _, query := range []string{"", "?", "?api-version=", "?api-version=1", "?api-version=latest", "?api-version=2021-4-12", "?api-version=1999-01-01", "?api-version=2021-04-12-beta"} {
		r.ask("GET", "/devices/d1"+query, token, "").want(400, "InvalidProtocolVersion")
		r.ask("POST", "/devices/d1/messages/events"+query, r.deviceToken("d1"), "x").want(400, "InvalidProtocolVersion")
	}
	golden(t, "api-version", r.ask("GET", "/devices/d1", token, "").text())
}

func TestCredentialsAreProved(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.device("d10")
	expired := r.deviceToken("d1")
	r.clock.Advance(2 * time.Hour)
	good := r.deviceToken("d1")
	r.ask("POST", eventsOf, good, "x").want(204, "")
	r.ask("POST", eventsOf, r.policyToken("device"), "x").want(204, "")
	for name, token := range map[string]string{
		"none": "", "garbled": "SharedAccessSignature sr=x", "bearer": "Bearer abc", "expired": expired, "of another device": r.deviceToken("d10"),
		"wrong signature": strings.Replace(good, "sig=", "sig=A", 1), "of a policy without DeviceConnect": r.policyToken("service"),
		"with a line break": "SharedAccessSignature\tsr=x",
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			r.ask("POST", eventsOf, token, "x").want(401, "IotHubUnauthorizedAccess")
		})
	}
	golden(t, "unauthorized", r.ask("POST", eventsOf, "", "x").text())
	r.ask("GET", "/devices/d1"+version, good, "").want(401, "IotHubUnauthorizedAccess")
	r.ask("PUT", "/devices/d2"+version, r.policyToken("registryRead"), `{}`).want(401, "IotHubUnauthorizedAccess")
	if n := len(r.events()); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

func TestClientCertificateIsACredential(t *testing.T) {
	r := newRig(t)
	cert := certtest.SelfSigned(t, "anything")
	_, err := r.hub.Admin().CreateIdentity(context.Background(), store.Identity{
		Key: store.Key{DeviceID: "d1"}, Authentication: store.Authentication{Type: store.AuthSelfSigned, PrimaryThumbprint: certtest.SHA256(cert)},
	})
	must(t, err)
	r.device("d2")
	with := r.tls.Clone()
	with.Certificates = []tls.Certificate{cert}
	c := r.newClient(with)
	defer c.CloseIdleConnections()
	r.askWith(c, "POST", eventsOf, "", "x").want(204, "")
	r.askWith(c, "POST", "/devices/d2/messages/events"+version, "", "x").want(401, "IotHubUnauthorizedAccess")
	r.ask("POST", eventsOf, "", "x").want(401, "IotHubUnauthorizedAccess")
}

func TestPathsAreMatchedAsSDKsWriteThem(t *testing.T) {
	r := newRig(t)
	r.device("D1")
	token := r.policyToken("iothubowner")
	for _, path := range []string{"/devices/D1", "/Devices/D1", "/DEVICES/D1/", "/%64evices/D1", "/devices/%441"} {
		r.ask("GET", path+version, token, "").want(200, "")
	}
	for _, path := range []string{"/devices/D1/messages/deviceBound", "/devices/D1/messages/devicebound/", "/devices/D1/Messages/DEVICEBOUND"} {
		r.clock.Advance(25 * time.Minute)
		r.ask("GET", path+version, r.policyToken("device"), "").want(204, "")
	}
	r.ask("GET", "/devices/d1"+version, r.policyToken("iothubowner"), "").want(404, "DeviceNotFound")
	for _, path := range []string{"/", "/device/D1", "/devices//messages/events", "/devices/D1/messages", "/devices%2FD1", "/favicon.ico"} {
		r.ask("GET", path+version, r.policyToken("iothubowner"), "").want(404, "GenericNotFound")
	}
	golden(t, "unknown-path", r.ask("GET", "/nothing/here"+version, "", "").text())
	golden(t, "unknown-method", r.ask("PATCH", "/devices/D1"+version, "", "").want(405, "").text())
}

// What Iolite does not have yet says so; nothing is answered as if it had been done.
func TestMissingFeaturesAreLoud(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("iothubowner")
	for _, f := range missing {
		path := strings.NewReplacer("{device}", "query", "{module}", "m1", "{job}", "j1", "{configuration}", "c1", "{command}", "x", "{component}", "y",
			"{lock}", "l1").Replace(f.path)
		a := r.ask(f.method, path+version, token, "{}").want(501, "NotImplemented")
		if !strings.Contains(a.Body, f.name) {
			t.Errorf("%s %s: %s does not name %s", f.method, f.path, a.Body, f.name)
		}
	}
	if got := strings.Count(r.log.String(), "not implemented"); got != len(missing) {
		t.Errorf("%d log lines, want %d", got, len(missing))
	}
	golden(t, "not-implemented", r.ask("POST", "/$admin/exportRegistry"+version, token, "{}").text())
}

// A device may be called what a literal of a path is called.
func TestDeviceNamedLikeALiteral(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("iothubowner")
	for _, id := range []string{"query", "Query", "modules", "devices", "keys", "commands"} {
		r.device(id)
		a := r.ask("GET", "/devices/"+id+version, token, "").want(200, "")
		if !strings.Contains(a.Body, fmt.Sprintf(`"deviceId":%q`, id)) {
			t.Errorf("asked for %s, got %s", id, a.Body)
		}
		r.ask("POST", "/devices/"+id+"/messages/events"+version, r.deviceToken(id), "x").want(204, "")
	}
}

// Each malformed request is answered or dropped; the next client notices nothing.
func TestMalformedRequestsHurtNobody(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	for name, test := range map[string]struct{ raw, want string }{
		"no HTTP":                   {"\x10\x20\x00\x04MQTT\r\n\r\n", "HTTP/1.1 400 "},
		"no host":                   {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
		"bad escape":                {"GET /devices/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 "},
		"HTTP/2 preface":            {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1."},
		"two lengths":               {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 400 "},
		"half a million announced":  {"POST " + eventsOf + " HTTP/1.1\r\nHost: x\r\nAuthorization: " + r.deviceToken("d1") + "\r\nContent-Length: 500000\r\n\r\n", "HTTP/1.1 413 "},
		"length beyond int64":       {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", "HTTP/1.1 400 "},
		"unknown transfer encoding": {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 "},
		"bad chunk":                 {"POST " + eventsOf + " HTTP/1.1\r\nHost: x\r\nAuthorization: " + r.deviceToken("d1") + "\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400 "},
		"headers without end":       {"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 100<<10), "HTTP/1.1 431 "},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			if got := r.exchange(test.raw); !strings.HasPrefix(got, test.want) {
				t.Errorf("answer %.60q, want %q", got, test.want)
			}
			r.ask("POST", eventsOf, r.deviceToken("d1"), "x").want(204, "")
		})
	}
}

func TestServerThatIsClosedTakesNobody(t *testing.T) {
	r := newRig(t)
	idle := r.dial()
	_, err := io.WriteString(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	one := make([]byte, 1)
	_, err = idle.Read(one)
	must(t, err)
	r.server.Close()
	if _, err := io.Copy(io.Discard, idle); isTimeout(err) {
		t.Error("the idle connection was not closed")
	}
	request, err := http.NewRequest("GET", "https://"+host+"/", nil)
	must(t, err)
	if response, err := r.client.Do(request); err == nil {
		_ = response.Body.Close()
		t.Fatal("a closed server answered")
	}
}

// Whatever the envelope of an error, its tracking id leads to the one line of the log that says who asked for what, and why not.
func TestTheTrackingIDOfAnErrorIsInTheLog(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("iothubowner")
	id := regexp.MustCompile(`[0-9a-f]{32}-G:0-TimeStamp:[0-9/]+ [0-9:]+`)
	for _, test := range []struct{ method, path, token, body, category string }{
		{"GET", "/devices/nobody", token, "", "DeviceIdentityOperations operation=get deviceId=nobody"},
		{"GET", "/devices/d1", "", "", "Connections operation=deviceConnect deviceId=d1"},
		{"PUT", "/devices/d1", token, "{", "DeviceIdentityOperations deviceId=d1"},
		{"GET", "/twins/nobody", token, "", "C2DTwinOperations operation=read deviceId=nobody"},
		{"POST", "/twins/d1/methods", token, `{"methodName":"m"}`, "DirectMethods operation=send deviceId=d1"},
		{"POST", "/devices/query", token, `{"query":"x"}`, "TwinQueries operation=query"},
		{"POST", "/devices/d1/messages/events", "", "x", "Connections operation=deviceConnect deviceId=d1"},
		{"DELETE", "/devices/d1/messages/devicebound/x", token, "", "C2DCommands operation=complete deviceId=d1"},
		{"GET", "/nothing/here", token, "", "Connections"},
	} {
		r.log.take()
		a := r.ask(test.method, test.path+version, test.token, test.body)
		found, log := id.FindString(a.Body), r.log.String()
		if found == "" || strings.Count(log, found) != 1 || !strings.Contains(log, "category="+test.category+" ") {
			t.Errorf("%s %s: %d %s\nthe log says:\n%s", test.method, test.path, a.Status, a.Body, log)
		}
	}
}
