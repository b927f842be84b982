package httpapi

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func configurationBody(condition string, rest string) string {
	return `{"schemaVersion":"2.0","labels":{"owner":"unit"},"content":{"deviceContent":{"properties.desired.rate":1.50}},"targetCondition":` + fmt.Sprintf("%q", condition) +
		`,"priority":10,"metrics":{"queries":{"fast":"SELECT deviceId FROM devices WHERE properties.desired.rate > 1"}}` + rest + `}`
}

func TestConfigurationLifeOverHTTP(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.device("d2")
	token := r.policyToken("iothubowner")
	const path = "/configurations/c1" + version
	r.ask("PATCH", "/twins/d1"+version, token, `{"tags":{"site":"north"}}`).want(200, "")
	created := r.ask("PUT", path, token, configurationBody("tags.site = 'north'", "")).want(200, "")
	golden(t, "configuration-created", created.text())
	if a := r.ask("GET", "/twins/d1"+version, token, "").want(200, ""); !strings.Contains(a.Body, `"desired":{"rate":1.50,`) || !strings.Contains(a.Body, `"configurations":{"c1":{"status":"Applied"}}`) {
		t.Errorf("the twin is %s", a.Body)
	}
	etag := created.Header.Get("ETag")
	golden(t, "configuration-exists", r.ask("PUT", path, token, configurationBody("*", "")).want(409, "ConfigurationAlreadyExists").text())
	r.ask("PUT", path, token, configurationBody("*", ""), "If-Match", strings.Trim(etag, `"`)).want(409, "ConfigurationAlreadyExists") // no quotes, no condition
	golden(t, "configuration-stale", r.ask("PUT", path, token, configurationBody("*", ""), "If-Match", `"c3RhbGU="`).want(412, "PreconditionFailed").text())
	r.ask("PUT", path, token, configurationBody("*", ""), "If-Match", etag).want(200, "")
	r.ask("PUT", path, token, configurationBody("*", ""), "If-Match", `"*"`).want(200, "")
	golden(t, "configuration-got", r.ask("GET", path, token, "").want(200, "").text())
	golden(t, "configuration-list", r.ask("GET", "/configurations/"+version+"&top=1", token, "").want(200, "").text())
	golden(t, "configuration-missing", r.ask("GET", "/configurations/c2"+version, token, "").want(404, "ConfigurationNotFound").text())
	r.ask("PUT", "/configurations/c2"+version, token, configurationBody("*", ""), "If-Match", `"*"`).want(404, "ConfigurationNotFound")
	r.ask("DELETE", path, token, "", "If-Match", `"c3RhbGU="`).want(412, "PreconditionFailed")
	golden(t, "configuration-deleted", r.ask("DELETE", path, token, "").want(204, "").text())
	r.ask("DELETE", path, token, "").want(404, "ConfigurationNotFound")
	for _, top := range []string{"0", "-1", "all", ""} {
		r.ask("GET", "/configurations"+version+"&top="+top, token, "").want(400, "ArgumentInvalid")
	}
}

func TestConfigurationsRefuseBadBodies(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("iothubowner")
	for name, test := range map[string]struct{ body, code string }{
		"nothing":          {"", "ArgumentInvalid"},
		"an array":         {"[]", "ArgumentInvalid"},
		"another id":       {configurationBody("*", `,"id":"c2"`), "ArgumentInvalid"},
		"no content":       {`{"targetCondition":"*"}`, "InvalidConfigurationContent"},
		"a bad condition":  {configurationBody("tags.site is north", ""), "InvalidConfigurationTargetCondition"},
		"a bad metric":     {strings.Replace(configurationBody("*", ""), "SELECT deviceId", "PICK deviceId", 1), "InvalidConfigurationCustomMetricsQuery"},
		"a priority of -1": {strings.Replace(configurationBody("*", ""), `"priority":10`, `"priority":-1`, 1), "ArgumentInvalid"},
		"deep":             {strings.Repeat(`{"content":`, 50_000), "ArgumentInvalid"},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			r.ask("PUT", "/configurations/c1"+version, token, test.body).want(400, test.code)
		})
	}
	r.ask("PUT", "/configurations/C1"+version, token, configurationBody("*", "")).want(400, "ArgumentInvalid")
	r.ask("PUT", "/configurations/c1"+version, token, configurationBody("*", ""), "Content-Type", "text/plain").want(415, "GenericUnsupportedMediaType")
}

func TestQueriesOfConfigurationsAreTested(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("registryRead")
	const good = `{"targetCondition":"tags.site = 'north'","customMetricQueries":{"a":"SELECT deviceId FROM devices"}}`
	golden(t, "test-queries-good", r.ask("POST", "/configurations/testQueries"+version, token, good).want(200, "").text())
	golden(t, "test-queries-bad", r.ask("POST", "/Configurations/testqueries"+version, token, `{"targetCondition":"tags.site is","customMetricQueries":{"a":"PICK","b":7,"c":"SELECT deviceId FROM devices"}}`).want(200, "").text())
	r.ask("POST", "/configurations/testQueries"+version, token, `[]`).want(400, "ArgumentInvalid")
	r.ask("POST", "/configurations/c1"+version, token, good).want(405, "")
}

func TestConfigurationContentIsApplied(t *testing.T) {
	r := newRig(t)
	r.device("leaf")
	token := r.policyToken("iothubowner")
	r.ask("PUT", "/devices/edge"+version, token, `{"deviceId":"edge","capabilities":{"iotEdge":true}}`).want(200, "")
	r.ask("PUT", "/devices/edge/modules/m1"+version, token, `{"moduleId":"m1"}`).want(200, "")
	const content = `{"modulesContent":{"$edgeAgent":{"properties.desired":{"schemaVersion":"1.1"}},"$edgeHub":{"properties.desired":{"schemaVersion":"1.1"}},"m1":{"properties.desired":{"rate":1.50}}}}`
	golden(t, "apply-204", r.ask("POST", "/devices/edge/applyConfigurationContent"+version, token, content).want(204, "").text())
	if a := r.ask("GET", "/twins/edge/modules/m1"+version, token, "").want(200, ""); !strings.Contains(a.Body, `"desired":{"rate":1.50,`) {
		t.Errorf("the twin is %s", a.Body)
	}
	golden(t, "apply-to-leaf", r.ask("POST", "/devices/leaf/applyConfigurationContent"+version, token, content).want(400, "InvalidOperation").text())
	r.ask("POST", "/devices/nobody/applyConfigurationContent"+version, token, content).want(404, "DeviceNotFound")
	r.ask("POST", "/devices/edge/applyConfigurationContent"+version, token, `{}`).want(400, "InvalidConfigurationContent")
}

// Every legal character of an id can stand in the paths of configurations.
func TestEveryLegalIDNamesAConfiguration(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("iothubowner")
	const id = `az09-+%_*!'`
	for _, encode := range []func(string) string{url.PathEscape, url.QueryEscape} {
		path := "/configurations/" + encode(id) + version
		r.ask("PUT", path, token, configurationBody("", `,"id":"`+id+`"`)).want(200, "")
		if a := r.ask("GET", path, token, "").want(200, ""); !strings.Contains(a.Body, `"id":"`+id+`"`) {
			t.Errorf("the configuration is %s", a.Body)
		}
		r.ask("DELETE", path, token, "").want(204, "")
	}
}
