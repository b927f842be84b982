package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/certs/certtest"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// document is as much of OpenAPI as openapi.yaml uses.
type document struct {
	Paths      map[string]map[string]operation `yaml:"paths"`
	Components struct {
		Responses map[string]response `yaml:"responses"`
		Schemas   map[string]*schema  `yaml:"schemas"`
	} `yaml:"components"`
}

type operation struct {
	OperationID string              `yaml:"operationId"`
	Responses   map[string]response `yaml:"responses"`
}

type response struct {
	Ref     string `yaml:"$ref"`
	Content map[string]struct {
		Schema *schema `yaml:"schema"`
	} `yaml:"content"`
}

type schema struct {
	Ref                  string             `yaml:"$ref"`
	Type                 string             `yaml:"type"`
	Format               string             `yaml:"format"`
	Enum                 []string           `yaml:"enum"`
	Properties           map[string]*schema `yaml:"properties"`
	Required             []string           `yaml:"required"`
	AdditionalProperties additional         `yaml:"additionalProperties"`
	Items                *schema            `yaml:"items"`
}

// additional is false, or the schema of properties that have any name.
type additional struct {
	forbidden bool
	schema    *schema
}

// UnmarshalYAML implements yaml.BytesUnmarshaler.
func (a *additional) UnmarshalYAML(text []byte) error {
	if a.forbidden = strings.TrimSpace(string(text)) == "false"; a.forbidden {
		return nil
	}
	a.schema = new(schema)
	return yaml.Unmarshal(text, a.schema)
}

func readDocument(t *testing.T) *document {
	t.Helper()
	var d document
	must(t, yaml.Unmarshal(openAPI, &d))
	return &d
}

// check returns what is wrong with value by the schema.
func (d *document) check(s *schema, value any, at string) []string {
	if s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	if s.Type == "" {
		return nil // any JSON
	}
	switch v := value.(type) {
	case map[string]any:
		return d.checkObject(s, v, at)
	case []any:
		var wrong []string
		if s.Type != "array" {
			return []string{at + " is a list"}
		}
		for i := range v {
			wrong = append(wrong, d.check(s.Items, v[i], fmt.Sprintf("%s[%d]", at, i))...)
		}
		return wrong
	case string:
		if _, err := time.Parse(time.RFC3339Nano, v); s.Type != "string" || s.Format == "date-time" && err != nil || s.Enum != nil && !slices.Contains(s.Enum, v) {
			return []string{at + " is " + v}
		}
	case float64:
		if s.Type != "integer" || v != float64(int64(v)) {
			return []string{fmt.Sprint(at, " is ", v)}
		}
	case bool:
		if s.Type != "boolean" {
			return []string{at + " is a boolean"}
		}
	default:
		return []string{fmt.Sprint(at, " is ", v)}
	}
	return nil
}

func (d *document) checkObject(s *schema, v map[string]any, at string) []string {
	if s.Type != "object" || !s.AdditionalProperties.forbidden && s.AdditionalProperties.schema == nil {
		return []string{at + " is an object, and the schema names not all of it"}
	}
	var wrong []string
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			wrong = append(wrong, at+"."+name+" is missing")
		}
	}
	for name, value := range v {
		of := s.Properties[name]
		if of == nil {
			of = s.AdditionalProperties.schema
		}
		if of == nil {
			wrong = append(wrong, at+"."+name+" is not in the schema")
			continue
		}
		wrong = append(wrong, d.check(of, value, at+"."+name)...)
	}
	return wrong
}

func TestEveryRouteIsDescribedAndNoOther(t *testing.T) {
	r := newRig(t)
	var described, served []string
	ids := map[string]bool{}
	for path, operations := range readDocument(t).Paths {
		for method, o := range operations {
			described = append(described, strings.ToUpper(method)+" "+path)
			if o.OperationID == "" || ids[o.OperationID] {
				t.Errorf("%s %s: operationId %q is empty or not the only one", method, path, o.OperationID)
			}
			ids[o.OperationID] = true
		}
	}
	must(t, chi.Walk(r.server.routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		served = append(served, method+" "+route)
		return nil
	}))
	slices.Sort(described)
	slices.Sort(served)
	if diff := cmp.Diff(described, served); diff != "" {
		t.Errorf("(-described +served):\n%s", diff)
	}
}

// Answers of real calls have the status, the type and the form that the description promises.
func TestAnswersAreAsDescribed(t *testing.T) {
	r := newRig(t)
	d := readDocument(t)
	r.connect("d1")
	r.violate("d2")
	r.send("d3", hub.Telemetry{Body: []byte(`{"a":[1]}`), Properties: []store.Property{{Name: "n", Value: "v"}}})
	r.send("d4", hub.Telemetry{Body: []byte{0xff}})
	level := int64(3)
	_, err := r.hub.Admin().OpenReader(t.Context(), hub.ReaderOptions{Group: "$Default", Partition: "1", OwnerLevel: &level, Name: "r"})
	must(t, err)
	r.hub.AddCA(certtest.NewCA(t, "CA").Cert)
	calls := []struct{ method, path, route, body string }{
		{"GET", "/", "", ""},
		{"GET", "/livez", "", ""},
		{"GET", "/readyz", "", ""},
		{"GET", "/metrics", "", ""},
		{"GET", "/iolite/v1/openapi.yaml", "", ""},
		{"GET", "/iolite/v1/info", "", ""},
		{"GET", "/iolite/v1/ca.pem", "", ""},
		{"GET", "/iolite/v1/cas", "", ""},
		{"POST", "/iolite/v1/cas", "", string(certtest.NewCA(t, "CA two").PEM())},
		{"POST", "/iolite/v1/cas", "", "no PEM"},
		{"GET", "/iolite/v1/clock", "", ""},
		{"POST", "/iolite/v1/clock", "", `{"advance":"1s"}`},
		{"POST", "/iolite/v1/clock", "", `{}`},
		{"GET", "/iolite/v1/connections", "", ""},
		{"GET", "/iolite/v1/events", "", ""},
		{"GET", "/iolite/v1/events?timeout=1ms&deviceId=nobody", "/iolite/v1/events", ""},
		{"DELETE", "/iolite/v1/connections/d1", "/iolite/v1/connections/{deviceId}", ""},
		{"PUT", "/iolite/v1/eventhubs/alerts", "/iolite/v1/eventhubs/{name}", `{"partitions":2,"consumerGroups":["a"]}`},
		{"PUT", "/iolite/v1/eventhubs/alerts", "/iolite/v1/eventhubs/{name}", `{"partitions":3}`},
		{"GET", "/iolite/v1/eventhubs/iolite", "/iolite/v1/eventhubs/{name}", ""},
		{"GET", "/iolite/v1/eventhubs", "", ""},
		{"PUT", "/iolite/v1/eventhubs/alerts/consumergroups/b", "/iolite/v1/eventhubs/{name}/consumergroups/{group}", ""},
		{"GET", "/iolite/v1/eventhubs/iolite/consumergroups/$Default", "/iolite/v1/eventhubs/{name}/consumergroups/{group}", ""},
		{"DELETE", "/iolite/v1/eventhubs/alerts/consumergroups/b", "/iolite/v1/eventhubs/{name}/consumergroups/{group}", ""},
		{"DELETE", "/iolite/v1/eventhubs/alerts", "/iolite/v1/eventhubs/{name}", ""},
		{"GET", "/iolite/v1/violations", "", ""},
		{"DELETE", "/iolite/v1/violations", "", ""},
		{"PUT", "/iolite/v1/routing", "", fullRouting},
		{"GET", "/iolite/v1/routing", "", ""},
		{"GET", "/iolite/v1/routing/health", "", ""},
		{"PUT", "/iolite/v1/routing", "", `{"routes":[{"name":"r"}]}`},
		{"POST", "/iolite/v1/routing/test", "", `{"message":{"body":"{}"}}`},
		{"POST", "/iolite/v1/routing/test", "", `{}`},
		{"POST", "/iolite/v1/routing/testroute", "", `{"route":{"condition":"a = "}}`},
		{"POST", "/iolite/v1/reset", "", ""},
	}
	called := map[string]bool{}
	for _, c := range calls {
		route := c.path
		if c.route != "" {
			route = c.route
		}
		called[c.method+" "+route] = true
		d.checkAnswer(t, d.Paths[route][strings.ToLower(c.method)], c.method+" "+c.path, r.ask(c.method, c.path, c.body))
	}
	r.ready = false
	d.checkAnswer(t, d.Paths["/readyz"]["get"], "GET /readyz", r.ask("GET", "/readyz", ""))
	d.checkAnswer(t, d.Paths["/livez"]["get"], "GET /livez", r.ask("GET", "/livez", "", "Host", "evil.example"))
	for path, operations := range d.Paths {
		for method := range operations {
			if !called[strings.ToUpper(method)+" "+path] {
				t.Errorf("%s %s is not tried", method, path)
			}
		}
	}
}

func (d *document) checkAnswer(t *testing.T, o operation, call string, a *answer) {
	t.Helper()
	promised, ok := o.Responses[fmt.Sprint(a.Status)]
	if !ok {
		promised = o.Responses["default"]
		if a.Status < 400 {
			t.Errorf("%s: status %d is not described", call, a.Status)
		}
	}
	if promised.Ref != "" {
		promised = d.Components.Responses[strings.TrimPrefix(promised.Ref, "#/components/responses/")]
	}
	if promised.Content == nil {
		if a.Body != "" {
			t.Errorf("%s: a body that is not described: %s", call, a.Body)
		}
		return
	}
	kind, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	content, ok := promised.Content[kind]
	if !ok {
		t.Errorf("%s: Content-Type %q, described are %v", call, kind, slices.Collect(maps.Keys(promised.Content)))
		return
	}
	if kind != "application/json" {
		return
	}
	var value any
	must(t, json.Unmarshal([]byte(a.Body), &value))
	for _, wrong := range d.check(content.Schema, value, call) {
		t.Error(wrong)
	}
}

// The checker itself must be able to fail.
func TestSchemaCheckFindsWhatIsWrong(t *testing.T) {
	d := readDocument(t)
	s := d.Components.Schemas["Clock"]
	for _, bad := range []string{`{}`, `{"now":"yesterday","offset":"0s"}`, `{"now":"2026-01-01T00:00:00Z","offset":"0s","more":1}`, `{"now":"2026-01-01T00:00:00Z","offset":7}`, `[]`, `null`} {
		var value any
		must(t, json.Unmarshal([]byte(bad), &value))
		if len(d.check(s, value, "")) == 0 {
			t.Errorf("nothing is wrong with %s", bad)
		}
	}
}
