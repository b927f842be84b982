package hub

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// config is the body of a configuration of device content.
func config(priority int, condition, content string) []byte {
	return fmt.Appendf(nil, `{"priority":%d,"targetCondition":%q,"content":{"deviceContent":%s}}`, priority, condition, content)
}

func putConfig(t testing.TB, h *Hub, id string, body []byte) Configuration {
	t.Helper()
	c, err := h.Admin().PutConfiguration(ctx, id, body, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func updateConfig(t testing.TB, h *Hub, id string, body []byte) Configuration {
	t.Helper()
	c, err := h.Admin().PutConfiguration(ctx, id, body, `"*"`)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func deleteConfig(t testing.TB, h *Hub, id string) {
	t.Helper()
	if err := h.Admin().DeleteConfiguration(ctx, id, ""); err != nil {
		t.Fatal(err)
	}
}

// wantTwin checks the desired properties and the statuses of the configurations of a twin: "a:Applied b:Targeted".
func wantTwin(t testing.TB, h *Hub, key store.Key, desired, statuses string) {
	t.Helper()
	row, err := h.twinRow(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range row.Twin.Configurations.Members() {
		got = append(got, m.Name+":"+m.Value.Get("status").Text())
	}
	if s := strings.Join(got, " "); s != statuses {
		t.Errorf("%s: configurations %q, want %q", key, s, statuses)
	}
	if diff := cmp.Diff(jsonOf(t, []byte(desired)), jsonOf(t, row.Twin.Desired.Value.AppendJSON(nil))); diff != "" {
		t.Errorf("%s: desired (-want +got)\n%s", key, diff)
	}
}

func tag(t testing.TB, h *Hub, key store.Key, patch string) {
	t.Helper()
	if _, err := h.Admin().UpdateTwin(ctx, key, []byte(patch), ""); err != nil {
		t.Fatal(err)
	}
}

func TestAConfigurationHasTheDocumentedShape(t *testing.T) {
	h, c := newTestHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	addDevice(t, h, store.Key{DeviceID: "other"})
	tag(t, h, d, `{"tags":{"env":"test"}}`)
	c.Advance(time.Minute)
	body := `{"id":"conf-1","schemaVersion":"2.0","labels":{"a":"b"},"priority":10,"targetCondition":"tags.env='test'","etag":"*",
		"content":{"deviceContent":{"properties.desired.chiller":{"temperature":66}},"modulesContent":{}},
		"metrics":{"queries":{"all":"SELECT deviceId FROM devices","counted":"SELECT COUNT() AS n FROM devices"},"results":{"all":7}},"systemMetrics":{"results":{}}}`
	conf := putConfig(t, h, "conf-1", []byte(body))
	want := `{"id":"conf-1","schemaVersion":"2.0","labels":{"a":"b"},"content":{"deviceContent":{"properties.desired.chiller":{"temperature":66}},"modulesContent":{}},
		"targetCondition":"tags.env='test'","createdTimeUtc":"2026-01-01T00:01:00Z","lastUpdatedTimeUtc":"2026-01-01T00:01:00Z","priority":10,
		"systemMetrics":{"results":{"appliedCount":1,"targetedCount":1},"queries":{"appliedCount":"select deviceId from devices where configurations.[[conf-1]].status = 'Applied'",
		"targetedCount":"select deviceId from devices where tags.env='test'"}},
		"metrics":{"results":{"all":2,"counted":1},"queries":{"all":"SELECT deviceId FROM devices","counted":"SELECT COUNT() AS n FROM devices"}},"etag":"MQ=="}`
	wantJSON(t, conf.AppendJSON(nil), want)
	got, err := h.Admin().Configuration(ctx, "conf-1")
	if err != nil {
		t.Fatal(err)
	}
	wantJSON(t, got.AppendJSON(nil), want)
	empty := putConfig(t, h, "empty", []byte(`{"labels":null,"content":{"deviceContent":{}}}`)) // the Node SDK sends back what it read
	wantJSON(t, empty.AppendJSON(nil), `{"id":"empty","schemaVersion":"1.0","labels":null,"content":{"deviceContent":{}},"targetCondition":"","createdTimeUtc":"2026-01-01T00:01:00Z",
		"lastUpdatedTimeUtc":"2026-01-01T00:01:00Z","priority":0,"systemMetrics":{"results":{"appliedCount":0,"targetedCount":0},
		"queries":{"appliedCount":"select deviceId from devices where configurations.[[empty]].status = 'Applied'","targetedCount":""}},"metrics":{"results":{},"queries":{}},"etag":"Mg=="}`)
	list, err := h.Admin().Configurations(ctx, 1)
	if err != nil || len(list) != 1 || list[0].ID != "conf-1" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAConfigurationsETagGuardsItAndItsContentStays(t *testing.T) {
	h, c := newTestHub(t)
	admin := h.Admin()
	first := putConfig(t, h, "a", config(1, "*", `{"properties.desired.p":1}`))
	put := func(body, ifMatch string) (Configuration, error) {
		return admin.PutConfiguration(ctx, "a", []byte(body), ifMatch)
	}
	other := string(config(2, "", `{"properties.desired.q":2}`))
	for ifMatch, want := range map[string]Code{
		"": CodeConfigurationAlreadyExists, first.ETag: CodeConfigurationAlreadyExists, `"eA=="`: CodePreconditionFailed,
	} {
		_, err := put(other, ifMatch)
		wantCode(t, err, want)
	}
	c.Advance(time.Hour)
	second, err := put(other, `"`+first.ETag+`"`)
	if err != nil || second.Priority != 2 || second.TargetCondition != "" || !second.Updated.After(second.Created) || second.ETag == first.ETag {
		t.Errorf("%+v, %v", second, err)
	}
	wantJSON(t, second.Content.AppendJSON(nil), `{"deviceContent":{"properties.desired.p":1}}`)
	_, err = put(`{"priority":3}`, `"*"`)
	wantCode(t, err, CodeInvalidConfigContent) // it is wanted all the same
	_, err = admin.PutConfiguration(ctx, "nobody", []byte(other), `"*"`)
	wantCode(t, err, CodeConfigurationNotFound)
	wantCode(t, admin.DeleteConfiguration(ctx, "a", `"`+first.ETag+`"`), CodePreconditionFailed)
	if err := admin.DeleteConfiguration(ctx, "a", `"`+second.ETag+`"`); err != nil {
		t.Fatal(err)
	}
	wantCode(t, admin.DeleteConfiguration(ctx, "a", ""), CodeConfigurationNotFound)
	_, err = admin.Configuration(ctx, "a")
	wantCode(t, err, CodeConfigurationNotFound)
	for i := range maxConfigurations {
		putConfig(t, h, fmt.Sprintf("c%d", i), config(1, "", `{"properties.desired.p":1}`))
	}
	_, err = admin.PutConfiguration(ctx, "one-more", config(1, "", `{"properties.desired.p":1}`), "")
	wantCode(t, err, CodeTooManyConfigurations)
}

func TestAConfigurationsBodyIsChecked(t *testing.T) {
	h, _ := newTestHub(t)
	with := func(rest string) string {
		return `{"content":{"deviceContent":{"properties.desired.p":1}}` + rest + `}`
	}
	content := func(c string) string { return `{"content":` + c + `}` }
	big := `"` + strings.Repeat("x", 4000) + `"`
	for body, want := range map[string]Code{
		`[]`: CodeArgumentInvalid, with(`,"id":"other"`): CodeArgumentInvalid, with(`,"priority":-1`): CodeArgumentInvalid, with(`,"priority":"1"`): CodeArgumentInvalid,
		with(`,"priority":1e99`): CodeArgumentInvalid, with(`,"labels":[]`): CodeArgumentInvalid, with(`,"labels":{"a":1}`): CodeArgumentInvalid, with(`,"targetCondition":1`): CodeArgumentInvalid,
		with(`,"metrics":{"queries":[]}`):  CodeArgumentInvalid,
		with(`,"targetCondition":"tags."`): CodeInvalidConfigCondition, with(`,"targetCondition":"FROM devices.modules"`): CodeInvalidConfigCondition,
		with(`,"targetCondition":"FROM devices.jobs"`):                                   CodeInvalidConfigCondition,
		`{"content":{"moduleContent":{"properties.desired.p":1}},"targetCondition":"*"}`: CodeInvalidConfigCondition,
		with(`,"metrics":{"queries":{"a":"SELECT"}}`):                                    CodeInvalidConfigMetrics, with(`,"metrics":{"queries":{"a":1}}`): CodeInvalidConfigMetrics,
		with(`,"metrics":{"queries":{"a":"SELECT * FROM devices.jobs"}}`): CodeInvalidConfigMetrics,
		with(`,"metrics":{"queries":{"a":"SELECT * FROM devices","b":"SELECT * FROM devices","c":"SELECT * FROM devices","d":"SELECT * FROM devices","e":"SELECT * FROM devices","f":"SELECT * FROM devices"}}`): CodeInvalidConfigMetrics,
		`{}`: CodeInvalidConfigContent, content(`null`): CodeInvalidConfigContent, content(`{}`): CodeInvalidConfigContent, content(`{"deviceContent":[]}`): CodeInvalidConfigContent,
		content(`{"deviceContent":{"properties.desired.a":1},"modulesContent":{"m":{"properties.desired":{}}}}`): CodeInvalidConfigContent,
		content(`{"deviceContent":{"properties.reported.a":1}}`):                                                 CodeInvalidConfigContent, content(`{"deviceContent":{"tags.a":1}}`): CodeInvalidConfigContent,
		content(`{"deviceContent":{"properties.desired":1}}`): CodeInvalidConfigContent, content(`{"deviceContent":{"properties.desired.":1}}`): CodeInvalidConfigContent,
		content(`{"deviceContent":{"properties.desired.a..b":1}}`): CodeInvalidConfigContent, content(`{"deviceContent":{"properties.desiredness":1}}`): CodeInvalidConfigContent,
		content(`{"deviceContent":{"properties.desired.$a":1}}`): CodeInvalidConfigContent, content(`{"modulesContent":{"a b":{"properties.desired":{}}}}`): CodeInvalidConfigContent,
		content(`{"modulesContent":{"$mine":{"properties.desired":{}}}}`): CodeInvalidConfigContent, content(`{"modulesContent":{"m":1}}`): CodeInvalidConfigContent,
		content(`{"deviceContent":{"properties.desired.a":` + big + `,"properties.desired.b":` + big + `,"properties.desired.c":` + big + `,"properties.desired.d":` + big +
			`,"properties.desired.e":` + big + `,"properties.desired.f":` + big + `,"properties.desired.g":` + big + `,"properties.desired.h":` + big + `,"properties.desired.i":` + big + `}}`): CodeInvalidConfigContent,
	} {
		_, err := h.Admin().PutConfiguration(ctx, "a", []byte(body), "")
		if codeOf(err) != want {
			t.Errorf("%.200s: %v, want code %d", body, err, want)
		}
	}
	for _, id := range []string{"", "A", "a b", "a/b", "a.b", strings.Repeat("x", 129)} {
		_, err := h.Admin().PutConfiguration(ctx, id, []byte(with("")), "")
		wantCode(t, err, CodeArgumentInvalid)
	}
	putConfig(t, h, "a-+%_*!'0", []byte(with("")))
}

func TestQueriesCanBeTestedBeforeTheyAreUsed(t *testing.T) {
	h, _ := newTestHub(t)
	test := func(body string) string {
		p, err := h.Admin().TestConfigurationQueries(ctx, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return string(p.AppendJSON(nil))
	}
	if got := test(`{"targetCondition":"tags.a=1","customMetricQueries":{"m":"SELECT * FROM devices"}}`); got != `{"targetConditionError":null,"customMetricQueryErrors":{}}` {
		t.Error(got)
	}
	var p struct {
		TargetConditionError    string
		CustomMetricQueryErrors map[string]string
	}
	if err := json.Unmarshal([]byte(test(`{"targetCondition":"tags.a=","customMetricQueries":{"m":"SELECT * FROM devices","n":"SELEC"}}`)), &p); err != nil {
		t.Fatal(err)
	}
	if p.TargetConditionError == "" || len(p.CustomMetricQueryErrors) != 1 || p.CustomMetricQueryErrors["n"] == "" {
		t.Errorf("%+v", p)
	}
}

func TestTheHighestPriorityWinsThenTheNewest(t *testing.T) {
	h, c := newTestHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	tag(t, h, d, `{"properties":{"desired":{"own":{"x":1},"mine":1}}}`)
	putConfig(t, h, "low", config(1, "*", `{"properties.desired.p":"low","properties.desired.q":"low","properties.desired.own.y":"low"}`))
	wantTwin(t, h, d, `{"own":{"x":1,"y":"low"},"mine":1,"p":"low","q":"low"}`, "low:Applied")
	putConfig(t, h, "high", config(5, "*", `{"properties.desired.p":"high"}`))
	wantTwin(t, h, d, `{"own":{"x":1,"y":"low"},"mine":1,"p":"high","q":"low"}`, "high:Applied low:Applied")
	c.Advance(time.Second)
	putConfig(t, h, "newer", config(5, "*", `{"properties.desired":{"p":"newer","q":"newer","own":{"y":"newer"}}}`))
	wantTwin(t, h, d, `{"own":{"x":1,"y":"newer"},"mine":1,"p":"newer","q":"newer"}`, "high:Targeted low:Targeted newer:Applied")
	updateConfig(t, h, "low", config(9, "*", `{}`))
	wantTwin(t, h, d, `{"own":{"x":1,"y":"low"},"mine":1,"p":"low","q":"low"}`, "high:Targeted low:Applied newer:Targeted")
	deleteConfig(t, h, "low")
	wantTwin(t, h, d, `{"own":{"x":1,"y":"newer"},"mine":1,"p":"newer","q":"newer"}`, "high:Targeted newer:Applied")
	deleteConfig(t, h, "newer")
	wantTwin(t, h, d, `{"own":{"x":1},"mine":1,"p":"high"}`, "high:Applied")
	deleteConfig(t, h, "high")
	wantTwin(t, h, d, `{"own":{"x":1},"mine":1}`, "")
	if h.configurations.rules.Load() != nil {
		t.Error("without configurations a change of a twin costs more than one load")
	}
}

func TestConfigurationsFollowWhatTheirConditionsSee(t *testing.T) {
	h, _ := newTestHub(t)
	putConfig(t, h, "tagged", config(2, "tags.env = 'test'", `{"properties.desired.t":1}`))
	putConfig(t, h, "reported", config(1, "properties.reported.model = '4000x'", `{"properties.desired.r":{"a":1}}`))
	putConfig(t, h, "enabled", config(0, "status = 'disabled'", `{"properties.desired.s":1}`))
	putConfig(t, h, "id", config(0, "STARTSWITH(deviceId, 'new')", `{"properties.desired.i":1}`))
	s := connect(t, h, "d")
	var heard listener
	if err := s.SubscribeDesired(heard.deliver); err != nil {
		t.Fatal(err)
	}
	wantTwin(t, h, s.Key(), `{}`, "")
	tag(t, h, s.Key(), `{"tags":{"env":"test"}}`)
	wantTwin(t, h, s.Key(), `{"t":1}`, "tagged:Applied")
	if _, err := s.UpdateReported(ctx, []byte(`{"model":"4000x"}`), 0); err != nil {
		t.Fatal(err)
	}
	wantTwin(t, h, s.Key(), `{"t":1,"r":{"a":1}}`, "reported:Applied tagged:Applied")
	tag(t, h, s.Key(), `{"tags":{"env":null}}`)
	wantTwin(t, h, s.Key(), `{"r":{"a":1}}`, "reported:Applied")
	if _, err := s.UpdateReported(ctx, []byte(`{"model":null}`), 0); err != nil {
		t.Fatal(err)
	}
	wantTwin(t, h, s.Key(), `{}`, "")
	eventually(t, "the device hears of each change", func() bool { return len(heard.heard()) == 4 })
	for i, want := range []string{`{"t":1,"$version":2}`, `{"r":{"a":1},"$version":3}`, `{"t":null,"$version":4}`, `{"r":null,"$version":5}`} {
		wantJSON(t, heard.heard()[i].Patch, want)
	}
	wantTwin(t, h, addDevice(t, h, store.Key{DeviceID: "new1"}).Key, `{"i":1}`, "id:Applied")
	d := addDevice(t, h, store.Key{DeviceID: "x"})
	d.Status = store.Disabled
	if _, err := h.Admin().UpdateIdentity(ctx, d.Identity, "*"); err != nil {
		t.Fatal(err)
	}
	wantTwin(t, h, d.Key, `{"s":1}`, "enabled:Applied")
}

func TestWhatABackEndWritesOverAConfigurationStaysUntilTheConfigurationChanges(t *testing.T) {
	h, _ := newTestHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	body := config(1, "*", `{"properties.desired.p":1}`)
	putConfig(t, h, "a", body)
	tag(t, h, d, `{"properties":{"desired":{"p":2}},"tags":{"x":1}}`)
	wantTwin(t, h, d, `{"p":2}`, "a:Applied")
	updateConfig(t, h, "a", body)
	wantTwin(t, h, d, `{"p":1}`, "a:Applied")
	before, _ := h.twinRow(ctx, d)
	updateConfig(t, h, "a", body) // nothing to do: nothing is written
	if after, _ := h.twinRow(ctx, d); after.Twin.Version != before.Twin.Version {
		t.Error("an update without effect wrote the twin")
	}
}

func TestANullInAContentRemovesAProperty(t *testing.T) {
	h, _ := newTestHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	tag(t, h, d, `{"properties":{"desired":{"p":2,"q":{"a":1,"b":2}}}}`)
	putConfig(t, h, "a", config(1, "*", `{"properties.desired.p":null,"properties.desired.q.a":null}`))
	wantTwin(t, h, d, `{"q":{"b":2}}`, "a:Applied")
}

func TestModuleContentIsForModules(t *testing.T) {
	h, _ := newTestHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	m, n := addDevice(t, h, store.Key{DeviceID: "d", ModuleID: "m"}).Key, store.Key{DeviceID: "d", ModuleID: "n"}
	putConfig(t, h, "a", []byte(`{"content":{"moduleContent":{"properties.desired.p":1}},"targetCondition":"FROM devices.modules WHERE moduleId IN ['m','n']"}`))
	addDevice(t, h, n)
	addDevice(t, h, store.Key{DeviceID: "d", ModuleID: "o"})
	wantTwin(t, h, d, `{}`, "")
	wantTwin(t, h, m, `{"p":1}`, "a:Applied")
	wantTwin(t, h, n, `{"p":1}`, "a:Applied")
	wantTwin(t, h, store.Key{DeviceID: "d", ModuleID: "o"}, `{}`, "")
	c, err := h.Admin().Configuration(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.SystemMetrics {
		if m.Result != 2 {
			t.Errorf("%+v", m)
		}
	}
}

// edge registers an IoT Edge device.
func edge(t testing.TB, h *Hub, id string) store.Key {
	t.Helper()
	d, err := h.Admin().CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: id}, IoTEdge: true})
	if err != nil {
		t.Fatal(err)
	}
	return d.Key
}

func module(device store.Key, id string) store.Key {
	return store.Key{DeviceID: device.DeviceID, ModuleID: id}
}

func deployment(priority int, agent, rest string) []byte {
	return fmt.Appendf(nil, `{"priority":%d,"targetCondition":"*","content":{"modulesContent":{"$edgeAgent":%s%s}}}`, priority, agent, rest)
}

func TestDeploymentsReachTheModulesOfEdgeDevices(t *testing.T) {
	h, c := newTestHub(t)
	before := edge(t, h, "before")
	leaf := addDevice(t, h, store.Key{DeviceID: "leaf"}).Key
	putConfig(t, h, "base", deployment(1, `{"properties.desired":{"modules":{"x":1}}}`, `,"x":{"properties.desired":{"p":1}}`))
	after := edge(t, h, "after")
	for _, d := range []store.Key{before, after} {
		wantTwin(t, h, d, `{}`, "")
		wantTwin(t, h, module(d, "$edgeAgent"), `{"modules":{"x":1}}`, "base:Applied")
		wantTwin(t, h, module(d, "$edgeHub"), `{}`, "")
		wantTwin(t, h, module(d, "x"), `{"p":1}`, "base:Applied")
	}
	if list, _ := h.registry.Modules(ctx, leaf.DeviceID); len(list) != 0 {
		t.Errorf("the leaf device has modules: %+v", list)
	}
	if x, _ := h.registry.Get(ctx, module(before, "x")); x.ManagedBy != "iotEdge" || x.Authentication.PrimaryKey == "" {
		t.Errorf("%+v", x)
	}
	c.Advance(time.Second)
	putConfig(t, h, "above", deployment(2, `{"properties.desired.modules.y":2}`, ""))
	putConfig(t, h, "below", deployment(0, `{"properties.desired.modules.z":3}`, ""))
	wantTwin(t, h, module(before, "$edgeAgent"), `{"modules":{"x":1,"y":2}}`, "above:Applied base:Applied below:Targeted")
	putConfig(t, h, "other", deployment(3, `{"properties.desired":{"modules":{"o":1}}}`, ""))
	wantTwin(t, h, module(before, "$edgeAgent"), `{"modules":{"o":1}}`, "above:Targeted base:Targeted below:Targeted other:Applied")
	conf, err := h.Admin().Configuration(ctx, "other")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"appliedCount": 2, "targetedCount": 2, "reportedFailedCount": 0, "reportedSuccessfulCount": 0}
	for _, m := range conf.SystemMetrics {
		if m.Result != want[m.Name] {
			t.Errorf("%+v", m)
		}
	}
	deleteConfig(t, h, "other")
	wantTwin(t, h, module(before, "$edgeAgent"), `{"modules":{"x":1,"y":2}}`, "above:Applied base:Applied below:Targeted")
	deleteConfig(t, h, "base") // nothing else is for the device: it keeps its modules
	wantTwin(t, h, module(before, "$edgeAgent"), `{"modules":{"x":1,"y":2}}`, "above:Targeted below:Targeted")
	wantTwin(t, h, module(before, "x"), `{"p":1}`, "")
}

func TestAContentIsAppliedToOneEdgeDevice(t *testing.T) {
	h, _ := newTestHub(t)
	admin := h.Admin()
	d := edge(t, h, "e")
	content := []byte(`{"$schema":"x","modulesContent":{"$edgeAgent":{"properties.desired":{"modules":{"m":{}}}},"$edgeHub":{"properties.desired":{"routes":{}}},"m":{"properties.desired":{"p":1}}}}`)
	if err := admin.ApplyConfiguration(ctx, "e", content); err != nil {
		t.Fatal(err)
	}
	if list, _ := h.registry.Modules(ctx, "e"); len(list) != 3 {
		t.Errorf("%+v", list)
	}
	wantTwin(t, h, module(d, "m"), `{"p":1}`, "")
	tag(t, h, module(d, "m"), `{"properties":{"desired":{"q":1}}}`)
	if err := admin.ApplyConfiguration(ctx, "e", content); err != nil { // it replaces all
		t.Fatal(err)
	}
	wantTwin(t, h, module(d, "m"), `{"p":1}`, "")
	addDevice(t, h, store.Key{DeviceID: "leaf"})
	wantCode(t, admin.ApplyConfiguration(ctx, "leaf", content), CodeInvalidOperation)
	wantCode(t, admin.ApplyConfiguration(ctx, "nobody", content), CodeDeviceNotFound)
	wantCode(t, admin.ApplyConfiguration(ctx, "e", []byte(`{"modulesContent":1}`)), CodeInvalidConfigContent)
	wantCode(t, admin.ApplyConfiguration(ctx, "e", []byte(`{`)), CodeArgumentInvalid)
}

func TestAResetForgetsConfigurations(t *testing.T) {
	h, _ := newTestHub(t)
	putConfig(t, h, "a", config(1, "*", `{"properties.desired.p":1}`))
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	wantTwin(t, h, addDevice(t, h, store.Key{DeviceID: "d"}).Key, `{}`, "")
	if list, err := h.Admin().Configurations(ctx, 0); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if h.configurations.rules.Load() != nil {
		t.Error("the rules are still there")
	}
}

// TestTwinsAreAsTheLastConfigurationsWantThem holds however changes of twins and of configurations meet.
func TestTwinsAreAsTheLastConfigurationsWantThem(t *testing.T) {
	h, _ := newTestHub(t)
	var keys []store.Key
	for i := range 20 {
		keys = append(keys, addDevice(t, h, store.Key{DeviceID: fmt.Sprintf("d%02d", i)}).Key)
	}
	var wg sync.WaitGroup
	for i, key := range keys {
		wg.Go(func() {
			for j := range 40 {
				tag(t, h, key, fmt.Sprintf(`{"tags":{"on":%t}}`, (i+j)%2 == 0))
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			putConfig(t, h, "a", config(1, "tags.on = true", `{"properties.desired.p":1}`))
			putConfig(t, h, "b", config(2, "tags.on = false", `{"properties.desired.q":1}`))
			deleteConfig(t, h, "a")
			updateConfig(t, h, "b", config(3, "*", `{}`))
			deleteConfig(t, h, "b")
		}
		putConfig(t, h, "c", config(1, "tags.on = true", `{"properties.desired.c":1}`))
	})
	wg.Wait()
	for i, key := range keys {
		if (i+39)%2 == 0 {
			wantTwin(t, h, key, `{"c":1}`, "c:Applied")
		} else {
			wantTwin(t, h, key, `{}`, "")
		}
	}
}

// TestTwinsDependOnlyOnWhatIsThereNow holds for any configurations, and any order in which they and tags come and go: a twin has what
// the configurations that are for it now want, by their precedence, and its own properties.
func TestTwinsDependOnlyOnWhatIsThereNow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h, c := newTestHub(t)
		key := store.Key{DeviceID: "d"}
		addDevice(t, h, key)
		tag(t, h, key, `{"tags":{"t":0},"properties":{"desired":{"own":1}}}`)
		type conf struct {
			priority, tag, created int
			settings               map[string]int
		}
		confs, current := map[string]*conf{}, 0
		for step := range rapid.IntRange(1, 25).Draw(rt, "steps") {
			c.Advance(time.Second)
			id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "id")
			priority, wanted := rapid.IntRange(0, 2).Draw(rt, "priority"), rapid.IntRange(0, 1).Draw(rt, "tag")
			old := confs[id]
			switch {
			case rapid.Bool().Draw(rt, "tags"):
				current = wanted
				tag(t, h, key, fmt.Sprintf(`{"tags":{"t":%d}}`, current))
			case old == nil:
				next := &conf{priority: priority, tag: wanted, created: step + 1, settings: map[string]int{}}
				for _, p := range []string{"p", "q", "r"} {
					if rapid.Bool().Draw(rt, p) {
						next.settings["properties.desired.x."+p] = step
					}
				}
				content, _ := json.Marshal(next.settings)
				putConfig(t, h, id, config(priority, fmt.Sprintf("tags.t = %d", wanted), string(content)))
				confs[id] = next
			case rapid.Bool().Draw(rt, "update"):
				old.priority, old.tag = priority, wanted
				updateConfig(t, h, id, config(priority, fmt.Sprintf("tags.t = %d", wanted), `{}`))
			default:
				deleteConfig(t, h, id)
				delete(confs, id)
			}
		}
		want, rank := map[string]int{}, map[string]int{}
		for _, conf := range confs {
			for path, v := range conf.settings {
				p, r := strings.TrimPrefix(path, "properties.desired.x."), conf.priority*1000+conf.created
				if conf.tag == current && r > rank[p] {
					want[p], rank[p] = v, r
				}
			}
		}
		row, err := h.twinRow(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		_ = json.Unmarshal(row.Twin.Desired.Value.Get("x").AppendJSON(nil), &got)
		if diff := cmp.Diff(want, got); diff != "" || row.Twin.Desired.Value.Get("own").Text() != "1" {
			rt.Fatalf("(-want +got)\n%s\n%s", diff, row.Twin.Desired.Value.AppendJSON(nil))
		}
	})
}

func TestDeploymentsLeaveADeviceThatIsNoEdgeDeviceAnyMore(t *testing.T) {
	h, _ := newTestHub(t)
	d := edge(t, h, "d")
	putConfig(t, h, "base", deployment(1, `{"properties.desired":{"modules":{"x":1}}}`, ""))
	wantTwin(t, h, module(d, "$edgeAgent"), `{"modules":{"x":1}}`, "base:Applied")
	if _, err := h.Admin().UpdateIdentity(ctx, store.Identity{Key: d}, "*"); err != nil {
		t.Fatal(err)
	}
	wantTwin(t, h, module(d, "$edgeAgent"), `{"modules":{"x":1}}`, "")
	if _, err := h.Admin().UpdateIdentity(ctx, store.Identity{Key: d, IoTEdge: true}, "*"); err != nil {
		t.Fatal(err)
	}
	wantTwin(t, h, module(d, "$edgeAgent"), `{"modules":{"x":1}}`, "base:Applied")
}

func TestTheStatusOfADeviceIsThatOfItsModulesInConditions(t *testing.T) {
	h, _ := newTestHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	m := addDevice(t, h, module(d, "m")).Key
	setStatus := func(status store.Status) {
		if _, err := h.Admin().UpdateIdentity(ctx, store.Identity{Key: d, Status: status}, "*"); err != nil {
			t.Fatal(err)
		}
	}
	setStatus(store.Disabled)
	c := putConfig(t, h, "off", []byte(`{"content":{"moduleContent":{"properties.desired.p":1}},"targetCondition":"FROM devices.modules WHERE status = 'disabled'"}`))
	wantTwin(t, h, m, `{"p":1}`, "off:Applied")
	for _, metric := range c.SystemMetrics {
		if metric.Result != 1 {
			t.Errorf("%s is %d", metric.Name, metric.Result)
		}
	}
	setStatus(store.Enabled)
	wantTwin(t, h, m, `{}`, "")
	setStatus(store.Disabled)
	wantTwin(t, h, m, `{"p":1}`, "off:Applied")
}

// TestAMetricWithTooManyGroupsSpoilsNoOther: it has no result, and the configuration is there all the same.
func TestAMetricWithTooManyGroupsSpoilsNoOther(t *testing.T) {
	h, _ := newTestHub(t)
	for i := range 20 {
		addDevice(t, h, store.Key{DeviceID: fmt.Sprintf("d%02d", i)})
		tag(t, h, store.Key{DeviceID: fmt.Sprintf("d%02d", i)}, fmt.Sprintf(`{"tags":{"n":%d}}`, i))
	}
	grouped := Configuration{SystemMetrics: []Metric{{Name: "one", Result: 1}}, CustomMetrics: []Metric{{Name: "many", Result: -1}, {Name: "two", Result: 2}}}
	var shown struct {
		Metrics struct {
			Results, Queries map[string]any
		}
	}
	grouped.Content, grouped.Metrics = document.EmptyObject, document.EmptyObject
	if err := json.Unmarshal(grouped.AppendJSON(nil), &shown); err != nil {
		t.Fatal(err)
	}
	if _, has := shown.Metrics.Results["many"]; has || len(shown.Metrics.Results) != 1 || len(shown.Metrics.Queries) != 2 {
		t.Errorf("%+v", shown)
	}
	q, err := query.Parse("SELECT tags.n, COUNT() AS c FROM devices GROUP BY tags.n")
	if err != nil {
		t.Fatal(err)
	}
	given, good := -1, 0
	counters := []metricCount{{query: q, aggregation: q.Aggregate(), result: &given}, {query: q, aggregation: q.Aggregate(), result: &good}}
	if err := h.countRows(ctx, false, counters); err != nil || given != -1 || good != 20 {
		t.Errorf("%d and %d, %v", given, good, err)
	}
}
