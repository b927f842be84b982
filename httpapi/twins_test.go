package httpapi

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// module registers a SAS module with fixed keys.
func (r *rig) module(device, id string) {
	r.t.Helper()
	key := store.Key{DeviceID: device, ModuleID: id}
	primary, secondary := hub.DeriveKeys(key)
	_, err := r.hub.Admin().CreateIdentity(r.t.Context(), store.Identity{
		Key: key, Authentication: store.Authentication{Type: store.AuthSAS, PrimaryKey: primary, SecondaryKey: secondary},
	})
	must(r.t, err)
}

func TestTwinLifeOverHTTP(t *testing.T) {
	for _, kind := range []struct{ name, path string }{{"device", "/twins/d1" + version}, {"module", "/twins/d1/modules/m1" + version}} {
		t.Run(kind.name, func(t *testing.T) {
			r := newRig(t)
			r.device("d1")
			r.module("d1", "m1")
			token := r.policyToken("service")
			golden(t, kind.name+"-twin-new", r.ask("GET", kind.path, token, "").want(200, "").text())
			patched := r.ask("PATCH", kind.path, token, `{"tags":{"site":{"floor":4503599627370495}},"properties":{"desired":{"rate":1.50,"gone":null,"list":[1,{"a":"ü"}]}}}`).want(200, "")
			golden(t, kind.name+"-twin-patched", patched.text())
			etag := patched.Header.Get("ETag")
			r.ask("PATCH", kind.path, token, `{"tags":{"site":null}}`, "If-Match", `"AAAAAAAAAAA="`).want(412, "PreconditionFailed")
			golden(t, kind.name+"-twin-replaced", r.ask("PUT", kind.path, token, `{"properties":{"desired":{"rate":2}}}`, "If-Match", etag).want(200, "").text())
			r.ask("PUT", kind.path, token, `{}`, "If-Match", etag).want(412, "PreconditionFailed")
			golden(t, kind.name+"-twin-got", r.ask("GET", kind.path, token, "").want(200, "").text())
		})
	}
}

func TestTwinErrorsOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("service")
	r.ask("PUT", "/devices/edge"+version, r.policyToken("registryReadWrite"), `{"capabilities":{"iotEdge":true}}`).want(200, "")
	golden(t, "twin-of-system-module", r.ask("PATCH", "/twins/edge/modules/$edgeAgent"+version, token, `{}`).want(401, "SystemModuleModifyUnauthorizedAccess").text())
	golden(t, "twin-missing", r.ask("GET", "/twins/nobody"+version, token, "").want(404, "DeviceNotFound").text())
	golden(t, "twin-of-missing-module", r.ask("GET", "/twins/d1/modules/m1"+version, token, "").want(404, "DeviceNotFound").text())
	r.ask("PATCH", "/twins/d1/modules/m1"+version, token, `{}`).want(404, "DeviceNotFound")
	golden(t, "twin-stale", r.ask("PATCH", "/twins/d1"+version, token, `{}`, "If-Match", `"c3RhbGU="`).want(412, "PreconditionFailed").text())
	for name, test := range map[string]struct {
		body, contentType string
		status            int
		code              string
	}{
		"nothing":           {``, "", 400, "ArgumentInvalid"},
		"half":              {`{"tags":`, "application/json", 400, "ArgumentInvalid"},
		"two":               {`{}{}`, "application/json", 400, "ArgumentInvalid"},
		"an array":          {`[]`, "application/json", 400, "ArgumentInvalid"},
		"null":              {`null`, "application/json", 400, "ArgumentInvalid"},
		"tags of text":      {`{"tags":"x"}`, "application/json", 400, "ArgumentInvalid"},
		"a dot in a key":    {`{"tags":{"a.b":1}}`, "application/json", 400, "ArgumentInvalid"},
		"a null in a list":  {`{"properties":{"desired":{"a":[null]}}}`, "application/json", 400, "ArgumentInvalid"},
		"deep":              {strings.Repeat(`{"tags":`, 100_000), "application/json", 400, "ArgumentInvalid"},
		"tags over 8 KiB":   {`{"tags":{"a":"` + strings.Repeat("x", 4000) + `","b":"` + strings.Repeat("x", 4000) + `","c":"` + strings.Repeat("x", 4000) + `"}}`, "", 400, "ArgumentInvalid"},
		"over 1 MiB":        {`{"tags":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`, "application/json", 413, "MessageTooLarge"},
		"plain text":        {`{}`, "text/plain", 415, "GenericUnsupportedMediaType"},
		"a form":            {`a=b`, "application/x-www-form-urlencoded", 415, "GenericUnsupportedMediaType"},
		"JSON with charset": {`{}`, "Application/JSON; charset=utf-8", 200, ""},
		"JSON merge patch":  {`{}`, "application/merge-patch+json", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			var headers []string
			if test.contentType != "" {
				headers = []string{"Content-Type", test.contentType}
			}
			for _, method := range []string{"PATCH", "PUT"} {
				r.ask(method, "/twins/d1"+version, token, test.body, headers...).want(test.status, test.code)
			}
		})
	}
}

func TestTwinETagsAreTakenInEveryForm(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("iothubowner")
	for _, form := range []string{`"%s"`, "%s", `W/"%s"`, "*", `"*"`} {
		etag := strings.Trim(r.ask("GET", "/twins/d1"+version, token, "").want(200, "").Header.Get("ETag"), `"`)
		r.ask("PATCH", "/twins/d1"+version, token, `{"tags":{"a":1}}`, "If-Match", strings.ReplaceAll(form, "%s", etag)).want(200, "")
	}
	r.ask("PATCH", "/twins/d1"+version, token, `{"tags":{"a":1}}`, "If-Match", `""`).want(412, "PreconditionFailed")
}

// The Java service SDK sends PATCH as a POST with a header.
func TestAPostThatAsksForPatchIsOne(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("service")
	for i, name := range []string{"PATCH", "patch"} {
		want := fmt.Sprintf(`"tags":{"n":%d}`, i)
		a := r.ask("POST", "/twins/d1"+version, token, `{"tags":{"n":`+fmt.Sprint(i)+`}}`, "X-HTTP-Method-Override", name).want(200, "")
		if text := a.text(); !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	r.ask("POST", "/twins/d1"+version, token, `{}`).want(405, "")
	r.ask("POST", "/twins/d1"+version, token, `{}`, "X-HTTP-Method-Override", "PUT").want(405, "")
	r.ask("GET", "/twins/d1"+version, token, "", "X-HTTP-Method-Override", "PATCH").want(200, "")
}

// ServiceConnect is the right for twins, and no other.
func TestTwinsNeedServiceConnect(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	for policy, status := range map[string]int{"iothubowner": 200, "service": 200, "device": 401, "registryRead": 401, "registryReadWrite": 401} {
		for method, body := range map[string]string{"GET": "", "PATCH": "{}", "PUT": "{}"} {
			if a := r.ask(method, "/twins/d1"+version, r.policyToken(policy), body); a.Status != status {
				t.Errorf("%s with %s: status %d, want %d", method, policy, a.Status, status)
			}
		}
	}
	r.ask("GET", "/twins/d1"+version, r.deviceToken("d1"), "").want(401, "IotHubUnauthorizedAccess")
	r.ask("GET", "/twins/d1", r.policyToken("service"), "").want(400, "InvalidProtocolVersion")
}

const legalID = "-:.+%_#*?!(),=@;$'aZ0"

// Every legal character of an id can stand in the paths of twins, encoded or, where URLs allow it, as it is.
func TestEveryLegalIDHasATwin(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("iothubowner")
	r.device(legalID)
	const m = "m" + legalID // a leading $ is the hub's own
	r.module(legalID, m)
	for _, encode := range []func(string) string{url.PathEscape, url.QueryEscape} {
		path := "/Twins/" + encode(legalID)
		for path, want := range map[string]string{path: `"deviceId":"` + legalID + `"`, path + "/Modules/" + encode(m): `"moduleId":"` + m + `"`} {
			a := r.ask("GET", path+"/"+version, token, "").want(200, "")
			if !strings.Contains(a.Body, want) {
				t.Errorf("%s: %s lacks %s", path, a.Body, want)
			}
			r.ask("PATCH", path+version, token, `{"tags":{"a":1}}`).want(200, "")
			r.ask("POST", path+"/methods"+version, token, `{"methodName":"m"}`).want(404, "DeviceNotOnline")
		}
		device := "/Devices/" + encode(legalID)
		if a := r.ask("GET", device+"/Modules/"+encode(m)+"/"+version, token, "").want(200, ""); !strings.Contains(a.Body, `"moduleId":"`+m+`"`) {
			t.Errorf("the module is %s", a.Body)
		}
		r.ask("GET", device+"/modules"+version, token, "").want(200, "")
		r.ask("POST", device+"/ApplyConfigurationContent"+version, token, `{"modulesContent":{}}`).want(400, "InvalidOperation")
	}
}
