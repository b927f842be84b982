package httpapi

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/hub"
)

const keys = `"symmetricKey":{"primaryKey":"cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk=","secondaryKey":"c2Vjb25kYXJ5LXNlY29uZGFyeS1zZWM="}`

func TestDeviceLifeOverHTTP(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("registryReadWrite")
	const path = "/devices/d1" + version
	created := r.ask("PUT", path, token, `{"deviceId":"d1","status":"enabled","authentication":{"type":"sas",`+keys+`},"capabilities":{"iotEdge":false}}`,
		"Content-Type", "application/json; charset=utf-8").want(200, "")
	golden(t, "device-created", created.text())
	golden(t, "device-exists", r.ask("PUT", path, token, `{"deviceId":"d1"}`).want(409, "DeviceAlreadyExists").text())
	golden(t, "device-got", r.ask("GET", path, token, "").want(200, "").text())
	golden(t, "device-missing", r.ask("GET", "/devices/nobody"+version, token, "").want(404, "DeviceNotFound").text())
	golden(t, "device-mismatch", r.ask("PUT", path, token, `{"deviceId":"d2"}`).want(400, "ArgumentInvalid").text())

	etag := created.Header.Get("ETag")
	body := `{"deviceId":"d1","status":"disabled","statusReason":"lost","authentication":{` + keys + `}}`
	golden(t, "device-stale", r.ask("PUT", path, token, body, "If-Match", `"c3RhbGU="`).want(412, "PreconditionFailed").text())
	golden(t, "device-updated", r.ask("PUT", path, token, body, "If-Match", etag).want(200, "").text())
	r.ask("PUT", path, token, body, "If-Match", etag).want(412, "PreconditionFailed")
	r.ask("PUT", "/devices/nobody"+version, token, `{"deviceId":"nobody"}`, "If-Match", "*").want(404, "DeviceNotFound")

	golden(t, "device-list", r.ask("GET", "/devices"+version, token, "").want(200, "").text())
	golden(t, "statistics-devices", r.ask("GET", "/statistics/devices"+version, token, "").want(200, "").text())
	golden(t, "statistics-service", r.ask("GET", "/statistics/service"+version, token, "").want(200, "").text())

	golden(t, "device-delete-needs-if-match", r.ask("DELETE", path, token, "").want(412, "PreconditionFailed").text())
	golden(t, "device-deleted", r.ask("DELETE", path, token, "", "If-Match", `"*"`).want(204, "").text())
	r.ask("DELETE", path, token, "", "If-Match", "*").want(404, "DeviceNotFound")
}

func TestETagsAreTakenInEveryForm(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("iothubowner")
	for name, form := range map[string]string{"quoted": `"%s"`, "bare": "%s", "weak": `W/"%s"`, "star": "*", "quoted star": `"*"`} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			path := "/devices/" + url.PathEscape(name) + version
			path = strings.ReplaceAll(path, "%20", "-")
			id := strings.ReplaceAll(name, " ", "-")
			a := r.ask("PUT", path, token, fmt.Sprintf(`{"deviceId":%q}`, id)).want(200, "")
			etag := strings.Trim(a.Header.Get("ETag"), `"`)
			a = r.ask("PUT", path, token, fmt.Sprintf(`{"deviceId":%q}`, id), "If-Match", strings.ReplaceAll(form, "%s", etag)).want(200, "")
			etag = strings.Trim(a.Header.Get("ETag"), `"`)
			r.ask("DELETE", path, token, "", "If-Match", strings.ReplaceAll(form, "%s", etag)).want(204, "")
		})
	}
}

func TestDeviceJSONOfEachKind(t *testing.T) {
	print := strings.Repeat("aB", 20)
	for name, body := range map[string]string{
		"self-signed":           `{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"` + print + `","secondaryThumbprint":null}}}`,
		"certificate-authority": `{"deviceId":"certificate-authority","authentication":{"type":"certificateAuthority"}}`,
		"edge":                  `{"deviceId":"edge","authentication":{` + keys + `},"capabilities":{"iotEdge":true}}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			golden(t, "device-"+name, r.ask("PUT", "/devices/"+name+version, r.policyToken("iothubowner"), body).want(200, "").text())
		})
	}
}

func TestModuleLifeOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("iothubowner")
	const path = "/devices/d1/modules/m1" + version
	golden(t, "module-created", r.ask("PUT", path, token, `{"deviceId":"d1","moduleId":"m1","managedBy":null,"authentication":{`+keys+`}}`).want(200, "").text())
	golden(t, "module-exists", r.ask("PUT", path, token, `{"moduleId":"m1"}`).want(409, "ModuleAlreadyExistsOnDevice").text())
	golden(t, "module-got", r.ask("GET", path, token, "").want(200, "").text())
	golden(t, "module-missing", r.ask("GET", "/devices/d1/modules/m2"+version, token, "").want(404, "ModuleNotFound").text())
	golden(t, "module-list", r.ask("GET", "/devices/d1/modules"+version, token, "").want(200, "").text())
	golden(t, "module-updated", r.ask("PUT", path, token, `{"moduleId":"m1","managedBy":"me","authentication":{`+keys+`}}`, "If-Match", "*").want(200, "").text())
	r.ask("PUT", path, token, `{"moduleId":"m2"}`).want(400, "ArgumentInvalid")
	r.ask("DELETE", path, token, "").want(412, "PreconditionFailed")
	r.ask("DELETE", path, token, "", "If-Match", "*").want(204, "")
	r.ask("GET", path, token, "").want(404, "ModuleNotFound")
}

func TestBulkTellsWhichItemsFailed(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	token := r.policyToken("registryReadWrite")
	golden(t, "bulk-200", r.ask("POST", "/devices"+version, token,
		`[{"id":"b1","importMode":"create","authentication":{`+keys+`},"tags":{},"properties":{"desired":{}}},{"id":"b2","importMode":"create","status":"disabled"}]`).want(200, "").text())
	golden(t, "bulk-400", r.ask("POST", "/devices"+version, token,
		`[{"id":"d1","importMode":"create"},{"id":"b3","importMode":"create"},{"id":"b1","eTag":"c3RhbGU=","importMode":"deleteIfMatchETag"}]`).want(400, "").text())
	r.ask("GET", "/devices/b3"+version, token, "").want(200, "")
	r.ask("POST", "/devices"+version, token, `[{"id":"b1","importMode":"delete"},{"id":"b1","importMode":"delete"}]`).want(400, "DeviceDefinedMultipleTimes")
	r.ask("POST", "/devices"+version, token, `{"id":"b1"}`).want(400, "ArgumentInvalid")
	many, err := json.Marshal(make([]bulkItemJSON, 101))
	must(t, err)
	r.ask("POST", "/devices"+version, token, string(many)).want(413, "TooManyDevices")
}

func TestABulkRequestOfNothingCostsLittle(t *testing.T) {
	text := []byte("[" + strings.Repeat("{},", maxJSON/3-1) + "{}]")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var body bulkJSON
	must(t, json.Unmarshal(text, &body))
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; len(body) != hub.MaxBulk+1 || grown > 4*maxJSON {
		t.Errorf("%d items took %d bytes", len(body), grown)
	}
}

func TestMalformedJSONIsAnsweredWithItsPlace(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("iothubowner")
	for name, test := range map[string]struct{ body, text string }{
		"nothing":       {"", "byte 0"},
		"half":          {`{"deviceId":`, "byte 12"},
		"a comma more":  {`{"deviceId":"d1",}`, "byte 18"},
		"another kind":  {`{"deviceId":7}`, "deviceId"},
		"text behind":   {`{"deviceId":"d1"} x`, "byte 19"},
		"deeply nested": {strings.Repeat("[", 20_000), "byte"},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			a := r.ask("PUT", "/devices/d1"+version, token, test.body).want(400, "ArgumentInvalid")
			if !strings.Contains(a.Body, test.text) {
				t.Errorf("body %s does not say %q", a.Body, test.text)
			}
		})
	}
	r.ask("PUT", "/devices/d1"+version, token, `{"statusReason":"`+strings.Repeat("x", 2<<20)+`"}`).want(413, "MessageTooLarge")
}

func TestListWantsASensibleTop(t *testing.T) {
	r := newRig(t)
	for i := range 5 {
		r.device(fmt.Sprint("d", i))
	}
	token := r.policyToken("registryRead")
	var list []deviceJSON
	must(t, json.Unmarshal([]byte(r.ask("GET", "/devices/"+version+"&top=3", token, "").want(200, "").Body), &list))
	if len(list) != 3 {
		t.Errorf("%d devices, want 3", len(list))
	}
	for _, top := range []string{"0", "-1", "1001", "all", ""} {
		r.ask("GET", "/devices"+version+"&top="+top, token, "").want(400, "ArgumentInvalid")
	}
}

// Every id that the registry allows can be named in a path, however a client encodes it.
func TestEveryLegalIDCanStandInAPath(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("iothubowner")
	const legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-:.+%_#*?!(),=@;$'"
	everything := func(id string) string { // Node's encodeUriComponentStrict and worse
		var b strings.Builder
		for _, c := range []byte(id) {
			fmt.Fprintf(&b, "%%%02x", c)
		}
		return b.String()
	}
	encodings := []func(string) string{url.PathEscape, url.QueryEscape, everything}
	seen := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringOfN(rapid.SampledFrom([]rune(legal)), 1, 128, 128).Draw(t, "id")
		if id == "." || id == ".." || seen[id] { // HTTP clients resolve dot segments themselves
			t.Skip()
		}
		seen[id] = true
		path := "/Devices/" + rapid.SampledFrom(encodings).Draw(t, "encode")(id)
		body, err := json.Marshal(map[string]string{"deviceId": id})
		if err != nil {
			t.Fatal(err)
		}
		r.ask("PUT", path+"/"+version, token, string(body)).want(200, "")
		var got deviceJSON
		if err := json.Unmarshal([]byte(r.ask("GET", path+version, token, "").want(200, "").Body), &got); err != nil || got.DeviceID != id {
			t.Fatalf("asked for %q, got %q (%v)", id, got.DeviceID, err)
		}
		r.ask("DELETE", path+version, token, "", "If-Match", "*").want(204, "")
	})
}

func TestBulkWritesTwinsOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.module("d1", "m1")
	token := r.policyToken("iothubowner")
	golden(t, "bulk-twins-400", r.ask("POST", "/devices"+version, token, `[
		{"id":"b1","importMode":"create","tags":{"site":"north"},"properties":{"desired":{"rate":1.50}}},
		{"id":"d1","importMode":"updateTwin","tags":{"site":"south"},"properties":null},
		{"id":"d1","moduleId":"m1","importMode":"updateTwinIfMatchETag","twinETag":"c3RhbGU=","tags":{}},
		{"id":"nobody","importMode":"updateTwin","tags":{"a":1}},
		{"id":"b2","importMode":"create","tags":{"a.b":1}},
		{"id":"b3","importMode":"create","tags":[]}]`).want(400, "").text())
	for path, want := range map[string]string{"/twins/b1": `"tags":{"site":"north"},"properties":{"desired":{"rate":1.50,`, "/twins/d1": `"tags":{"site":"south"}`} {
		if a := r.ask("GET", path+version, token, "").want(200, ""); !strings.Contains(a.Body, want) {
			t.Errorf("%s lacks %s", a.Body, want)
		}
	}
	r.ask("GET", "/devices/b2"+version, token, "").want(404, "DeviceNotFound")
	r.ask("POST", "/devices"+version, r.policyToken("registryReadWrite"), `[{"id":"d1","importMode":"updateTwin","tags":{}}]`).want(401, "IotHubUnauthorizedAccess")
	r.ask("POST", "/devices"+version, token, `[{"id":"d1","importMode":"updateTwin","tags":`+strings.Repeat(`{"a":`, 200)+`1`+strings.Repeat("}", 200)+`}]`).want(400, "ArgumentInvalid")
}

func TestKeysAreRenewedOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.module("d1", "m1")
	token := r.policyToken("registryReadWrite")
	const path = "/devices/keys/regenerate?api-version=2024-03-31"
	golden(t, "keys-207", keyless(r.ask("POST", path, token, `{"policyKey":"primaryKey","devices":[{"id":"d1"},{"id":"d1","moduleId":"m1"},{"id":"nobody"}]}`).want(207, "").text()))
	golden(t, "keys-200", keyless(r.ask("POST", path, token, `{"policyKey":"both","devices":[{"id":"d1","moduleId":null}]}`).want(200, "").text()))
	golden(t, "keys-400", r.ask("POST", path, token, `{"policyKey":"both","devices":[{"id":"nobody","moduleId":"m1"}]}`).want(400, "").text())
	golden(t, "keys-policy", r.ask("POST", path, token, `{"policyKey":"tertiary","devices":[]}`).want(400, "InvalidPolicyKey").text())
	r.ask("POST", path, r.policyToken("service"), `{"policyKey":"both","devices":[]}`).want(401, "IotHubUnauthorizedAccess")
	r.ask("GET", boundOf+version, r.deviceToken("d1"), "").want(401, "IotHubUnauthorizedAccess") // the old key is no good any more
}

// keyless takes out keys that are made.
func keyless(text string) string {
	return regexp.MustCompile(`Key":"[A-Za-z0-9+/]{43}="`).ReplaceAllString(text, `Key":"KEY"`)
}
