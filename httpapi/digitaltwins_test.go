package httpapi

import (
	"net/url"
	"strings"
	"testing"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

const digitalTwinOf = "/digitaltwins/d1?api-version=2020-09-30"

func TestDigitalTwinLifeOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("service")
	got := r.ask("GET", digitalTwinOf, token, "").want(200, "")
	patched := r.ask("PATCH", digitalTwinOf, token,
		`[{"op":"add","path":"/rate","value":1.50},{"op":"add","path":"/thermostat","value":{"$metadata":{},"target":21}}]`, "If-Match", got.Header.Get("ETag")).want(202, "")
	golden(t, "digitaltwin-patched", patched.text())
	if to := patched.Header.Get("Location"); to != "https://"+host+"/digitaltwins/d1" {
		t.Errorf("Location %q", to)
	}
	golden(t, "digitaltwin-got", r.ask("GET", digitalTwinOf, token, "").want(200, "").text())
	if a := r.ask("GET", "/twins/d1"+version, token, "").want(200, ""); !strings.Contains(a.Body, `"desired":{"rate":1.50,"thermostat":{"__t":"c","target":21},`) {
		t.Errorf("the twin is %s", a.Body)
	}
	r.ask("PATCH", digitalTwinOf, token, `[{"op":"remove","path":"/rate"}]`, "If-Match", got.Header.Get("ETag")).want(412, "PreconditionFailed")
	golden(t, "digitaltwin-bad-patch", r.ask("PATCH", digitalTwinOf, token, `{"rate":1}`).want(400, "InvalidDigitalTwinJsonPatch").text())
	golden(t, "digitaltwin-bad-path", r.ask("PATCH", digitalTwinOf, token, `[{"op":"add","path":"rate","value":1}]`).want(400, "InvalidDigitalTwinPatchPath").text())
	r.ask("PATCH", digitalTwinOf, token, strings.Repeat(`[`, 100_000)).want(400, "InvalidDigitalTwinJsonPatch")
	r.ask("PATCH", digitalTwinOf, token, `[]`, "Content-Type", "text/plain").want(415, "GenericUnsupportedMediaType")
	r.ask("PATCH", digitalTwinOf, token, `[{"op":"add","path":"/rate","value":2}]`, "Content-Type", "application/json-patch+json").want(202, "")
	golden(t, "digitaltwin-missing", r.ask("GET", "/digitaltwins/nobody"+version, token, "").want(404, "DeviceNotFound").text())
}

func TestCommandsOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("service")
	names := make(chan string, 10)
	r.online(store.Key{DeviceID: "d1"}, func(s *hub.DeviceSession, m hub.MethodRequest) {
		names <- m.Name
		s.RespondMethod(m.ID, 202, m.Payload)
	})
	golden(t, "command-200", r.ask("POST", "/digitaltwins/d1/commands/reboot"+version+"&connectTimeoutInSeconds=0&responseTimeoutInSeconds=10", token, `{"delay":1.50}`).want(200, "").text())
	if a := r.ask("POST", "/DigitalTwins/d1/Components/thermostat1/Commands/getMaxMinReport"+version, token, "").want(200, ""); a.Body != "null" {
		t.Errorf("the payload is %s", a.Body)
	}
	for _, want := range []string{"reboot", "thermostat1*getMaxMinReport"} {
		if got := receive(t, "the request", names); got != want {
			t.Errorf("the device was asked for %q, want %q", got, want)
		}
	}
	golden(t, "command-missing", r.ask("POST", "/digitaltwins/nobody/commands/reboot"+version, token, "").want(404, "DeviceNotFound").text())
	for _, query := range []string{"&responseTimeoutInSeconds=ten", "&responseTimeoutInSeconds=4", "&connectTimeoutInSeconds=-1", "&connectTimeoutInSeconds=99999999999999999999"} {
		r.ask("POST", "/digitaltwins/d1/commands/reboot"+version+query, token, "").want(400, "ArgumentInvalid")
	}
	r.ask("POST", "/digitaltwins/d1/commands/reboot"+version, token, "hello").want(400, "ArgumentInvalid")
	r.ask("POST", "/digitaltwins/d1/commands/"+url.PathEscape("a/b")+version, token, "").want(400, "ArgumentInvalid")
}

func TestEveryLegalIDHasADigitalTwin(t *testing.T) {
	r := newRig(t)
	r.device(legalID)
	token := r.policyToken("service")
	for _, encode := range []func(string) string{url.PathEscape, url.QueryEscape} {
		if a := r.ask("GET", "/digitaltwins/"+encode(legalID)+version, token, "").want(200, ""); !strings.Contains(a.Body, `"$dtId":"`+legalID+`"`) {
			t.Errorf("the digital twin is %s", a.Body)
		}
		r.ask("POST", "/digitaltwins/"+encode(legalID)+"/commands/m"+version, token, "").want(404, "DeviceNotOnline")
	}
}
