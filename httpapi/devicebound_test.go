package httpapi

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/store"
)

const boundOf = "/devices/d1/messages/deviceBound"

// receive polls as often as it likes: the clock moves on first.
func (r *rig) receive() *answer {
	r.t.Helper()
	r.clock.Advance(25 * time.Minute)
	return r.ask("GET", boundOf+version, r.deviceToken("d1"), "")
}

// lockOf returns the lock token of a received message.
func lockOf(a *answer) string {
	a.t.Helper()
	etag := a.want(200, "").Header.Get("ETag")
	if len(etag) != 38 || etag[0] != '"' || etag[37] != '"' {
		a.t.Fatalf("ETag %s is no quoted GUID", etag)
	}
	return etag[1:37]
}

func TestReceivedMessageHasItsPropertiesInHeaders(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	golden(t, "devicebound-204", r.receive().want(204, "").text())
	r.send("d1", store.Message{
		SystemProperties: store.SystemProperties{
			MessageID: "m1", CorrelationID: "c1", UserID: "u1", Ack: "full", ContentType: "application/json", ContentEncoding: "utf-8",
			Expiry: r.clock.Now().Add(2 * time.Hour),
		},
		Properties: []store.Property{{Name: "fooBar", Value: "v 1"}, {Name: "not a token", Value: "line\r\nbreak"}},
		Body:       []byte(`{"on":true}`),
	})
	a := r.receive()
	lock := lockOf(a)
	golden(t, "devicebound-200", a.text())
	r.ask("DELETE", boundOf+"/"+lock+version, r.deviceToken("d1"), "", "If-Match", `"`+lock+`"`).want(204, "")
	r.receive().want(204, "")
}

func TestHeaderNamesOfAMessageAreSentAsWritten(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.send("d1", store.Message{SystemProperties: store.SystemProperties{ContentType: "text/plain"}, Properties: []store.Property{{Name: "fooBar", Value: "v"}}})
	r.clock.Advance(25 * time.Minute)
	raw := r.exchange("GET " + boundOf + version + " HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: " + r.deviceToken("d1") + "\r\nConnection: close\r\n\r\n")
	for _, want := range []string{"\r\niothub-app-fooBar: v\r\n", "\r\nETag: \"", "\r\nContentType: text/plain\r\n", "\r\nx-ms-request-id: "} {
		if !strings.Contains(raw, want) {
			t.Errorf("no %q in\n%s", want, raw)
		}
	}
}

func TestSettlingOverHTTP(t *testing.T) {
	for _, test := range []struct {
		name, method, suffix, query string
		again                       bool   // delivered once more
		feedback                    string // asked for with ack full
	}{
		{"complete", "DELETE", "", "", false, "Success"},
		{"reject without value", "DELETE", "", "&reject", false, "Rejected"},
		{"reject with empty value", "DELETE", "", "&reject=", false, "Rejected"},
		{"reject with value", "DELETE", "", "&reject=true", false, "Rejected"},
		{"reject of the Java SDK", "DELETE", "", "&%3Freject=true", false, "Rejected"},
		{"abandon", "POST", "/abandon", "", true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.device("d1")
			r.send("d1", store.Message{SystemProperties: store.SystemProperties{MessageID: "m1", Ack: "full", Expiry: start.Add(40 * time.Hour)}})
			first := r.receive()
			settle := boundOf + "/" + lockOf(first) + test.suffix + version + test.query
			r.ask(test.method, settle, r.deviceToken("d1"), "").want(204, "")
			r.ask(test.method, settle, r.deviceToken("d1"), "").want(412, "DeviceMessageLockLost")
			again := r.receive()
			if got := again.Status == 200; got != test.again {
				t.Fatalf("delivered again: %v, want %v", got, test.again)
			}
			if test.again {
				if n := again.Header.Get("iothub-deliverycount"); n != "1" {
					t.Errorf("delivery count %s, want 1", n)
				}
				return
			}
			feedback := r.ask("GET", "/messages/serviceBound/feedback"+version, r.policyToken("service"), "").want(200, "")
			if !strings.Contains(feedback.Body, `"statusCode":"`+test.feedback+`"`) {
				t.Errorf("feedback %s, want %s", feedback.Body, test.feedback)
			}
		})
	}
}

func TestLockThatRanOutIsLost(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.send("d1", store.Message{SystemProperties: store.SystemProperties{Expiry: start.Add(40 * time.Hour)}})
	lock := lockOf(r.receive())
	r.clock.Advance(61 * time.Second)
	a := r.ask("DELETE", boundOf+"/"+lock+version, r.deviceToken("d1"), "").want(412, "DeviceMessageLockLost")
	golden(t, "lock-lost", a.text())
	r.ask("DELETE", boundOf+"/no-lock-at-all"+version, r.deviceToken("d1"), "").want(412, "DeviceMessageLockLost")
}

func TestPollThatComesTooSoonIsToldWhenToComeBack(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.receive().want(204, "")
	r.clock.Advance(10 * time.Minute)
	a := r.ask("GET", boundOf+version, r.deviceToken("d1"), "").want(429, "ThrottlingException")
	if got := a.Header.Get("Retry-After"); got != "900" {
		t.Errorf("Retry-After %q, want 900", got)
	}
	golden(t, "poll-too-soon", a.text())
	if n := r.hub.ViolationCount(); n != 1 {
		t.Errorf("%d violations, want 1", n)
	}
}

func TestOtherLockTimesAreLoggedNotIgnoredInSilence(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.ask("GET", boundOf+version, r.deviceToken("d1"), "", "IotHub-MessageLockTimeout", "120").want(204, "")
	if !strings.Contains(r.log.String(), "iothub-messagelocktimeout") {
		t.Errorf("nothing in the log:\n%s", r.log)
	}
}

func TestFeedbackOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("service")
	const feedback = "/messages/servicebound/feedback"
	golden(t, "feedback-204", r.ask("GET", feedback+version, token, "").want(204, "").text())
	r.send("d1", store.Message{SystemProperties: store.SystemProperties{MessageID: "m1", Ack: "positive"}})
	r.ask("DELETE", boundOf+"/"+lockOf(r.receive())+version, r.deviceToken("d1"), "").want(204, "")
	r.clock.Advance(15 * time.Second)
	token = r.policyToken("service")
	a := r.ask("GET", feedback+version, token, "")
	golden(t, "feedback-200", a.text())
	r.ask("POST", feedback+"/"+lockOf(a)+"/abandon"+version, token, "").want(204, "")
	a = r.ask("GET", feedback+version, token, "")
	r.ask("DELETE", feedback+"/"+lockOf(a)+version, token, "").want(204, "")
	r.ask("DELETE", feedback+"/"+lockOf(a)+version, token, "").want(412, "DeviceMessageLockLost")
	r.ask("GET", feedback+version, token, "").want(204, "")
	r.ask("GET", feedback+version, r.policyToken("registryRead"), "").want(401, "IotHubUnauthorizedAccess")
}

func TestPurgeEmptiesTheQueue(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	for range 3 {
		r.send("d1", store.Message{})
	}
	a := r.ask("DELETE", "/devices/d1/commands"+version, r.policyToken("service"), "").want(200, "")
	if want := `{"deviceId":"d1","moduleId":null,"totalMessagesPurged":3}`; a.Body != want {
		t.Errorf("body %s, want %s", a.Body, want)
	}
	r.receive().want(204, "")
	r.ask("DELETE", "/devices/nobody/commands"+version, r.policyToken("service"), "").want(404, "DeviceNotFound")
}

func TestDisabledDeviceMayNothing(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	admin := r.hub.Admin()
	d, err := admin.Identity(context.Background(), store.Key{DeviceID: "d1"})
	must(t, err)
	d.Status = store.Disabled
	_, err = admin.UpdateIdentity(context.Background(), d.Identity, "*")
	must(t, err)
	r.ask("POST", eventsOf, r.deviceToken("d1"), "x").want(401, "IotHubUnauthorizedAccess")
	r.receive().want(401, "IotHubUnauthorizedAccess")
}
