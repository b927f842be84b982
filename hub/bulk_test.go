package hub

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/store"
)

func parseValue(t *testing.T, text string) document.Value {
	t.Helper()
	v, err := document.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// codesOf returns the failures of a bulk request by identity.
func codesOf(failed []BulkError) map[string]Code {
	codes := map[string]Code{}
	for _, f := range failed {
		codes[f.String()] = f.Err.Code
	}
	return codes
}

func TestBulkWritesTwins(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	addDevice(t, h, store.Key{DeviceID: "have"})
	addDevice(t, h, store.Key{DeviceID: "have", ModuleID: "m"})
	item := func(id, mode, tags, desired string) BulkItem {
		device, module, _ := strings.Cut(id, "/")
		i := BulkItem{Identity: store.Identity{Key: store.Key{DeviceID: device, ModuleID: module}}, Mode: mode}
		if tags != "" {
			i.Tags = parseValue(t, tags)
		}
		if desired != "" {
			i.Desired = parseValue(t, desired)
		}
		return i
	}
	failed, err := service.Bulk(ctx, []BulkItem{
		item("new", "create", `{"a":1}`, `{"rate":2,"gone":null}`),
		item("have", "updateTwin", `{"b":true}`, `{"$version":7,"x":{"y":[1]}}`),
		item("have/m", "UpdateTwin", `null`, `{"z":1}`),
		item("nobody", "updateTwin", `{}`, ``),
		item("have/nobody", "updateTwin", `{}`, ``),
		item("bad", "create", `{"a.b":1}`, ``),
		item("text", "create", `"text"`, ``),
		item("long", "create", ``, `{"a":"`+strings.Repeat("x", 4097)+`"}`),
		item("late", "createOrUpdate", `{"late":1}`, ``),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Code{"nobody": CodeDeviceNotFound, "have/nobody": CodeDeviceNotFound, "bad": CodeArgumentInvalid, "text": CodeArgumentInvalid, "long": CodeArgumentInvalid}
	if diff := cmp.Diff(want, codesOf(failed)); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	for id, want := range map[string][2]string{
		"new": {`{"a":1}`, `{"rate":2,"$version":2}`}, "have": {`{"b":true}`, `{"x":{"y":[1]},"$version":2}`}, "have/m": {`{}`, `{"z":1,"$version":2}`}, "late": {`{"late":1}`, `{"$version":1}`},
	} {
		device, module, _ := strings.Cut(id, "/")
		twin, err := service.Twin(ctx, store.Key{DeviceID: device, ModuleID: module})
		if err != nil {
			t.Fatal(err)
		}
		got := [2]string{string(twin.Tags.AppendJSON(nil)), string(appendSection(nil, twin.Desired.Value, twin.Desired.Version))}
		if got != want {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
	for _, id := range []string{"bad", "text", "long"} { // a bad twin keeps its device from being made
		_, err := service.Identity(ctx, store.Key{DeviceID: id})
		wantCode(t, err, CodeDeviceNotFound)
	}
}

func TestBulkMatchesTheTwinsETag(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	key := store.Key{DeviceID: "d"}
	addDevice(t, h, key)
	before, err := service.Twin(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	etag := before.ETag()
	for _, c := range []struct {
		mode, etag string
		want       Code
	}{
		{"updateTwinIfMatchETag", "", CodePreconditionFailed},
		{"updateTwinIfMatchETag", "c3RhbGU=", CodePreconditionFailed},
		{"updateTwin", "c3RhbGU=", 0},
		{"updateTwinIfMatchETag", etag, CodePreconditionFailed}, // the write before has moved it
		{"updateTwinIfMatchETag", "*", 0},
		{"createOrUpdate", etag, CodePreconditionFailed},
		{"createOrUpdate", "", 0},
	} {
		failed, err := service.Bulk(ctx, []BulkItem{{Identity: store.Identity{Key: key}, Mode: c.mode, Tags: parseValue(t, `{"a":1}`), TwinETag: c.etag}})
		if err != nil {
			t.Fatal(err)
		}
		if got := codesOf(failed)["d"]; got != c.want {
			t.Errorf("%s with %q: code %d, want %d", c.mode, c.etag, got, c.want)
		}
	}
}

func TestBulkTwinModesNeedServiceConnect(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	registry, err := h.OpenService(ctx, auth.Principal{Policy: "registryReadWrite", Rights: auth.RegistryRead | auth.RegistryWrite}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = registry.Bulk(ctx, []BulkItem{{Identity: store.Identity{Key: store.Key{DeviceID: "d"}}, Mode: "updateTwin"}})
	wantCode(t, err, CodeUnauthorized)
}

// Back ends read the twins of an edge device's system modules; only configurations write them.
func TestTwinsOfSystemModulesAreReserved(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	if _, err := service.CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "edge"}, IoTEdge: true}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"$edgeAgent", "$edgeHub"} {
		key := store.Key{DeviceID: "edge", ModuleID: name}
		_, err := service.UpdateTwin(ctx, key, []byte(`{"tags":{"a":1}}`), "")
		wantCode(t, err, CodeSystemModule)
		_, err = service.ReplaceTwin(ctx, key, []byte(`{}`), "*")
		wantCode(t, err, CodeSystemModule)
		failed, err := service.Bulk(ctx, []BulkItem{{Identity: store.Identity{Key: key}, Mode: "updateTwin", Tags: parseValue(t, `{"a":1}`)}})
		if err != nil || codesOf(failed)[key.String()] != CodeSystemModule {
			t.Errorf("%s: %+v, %v", key, failed, err)
		}
		if twin, err := service.Twin(ctx, key); err != nil || len(twin.Tags.Members()) > 0 {
			t.Errorf("%s: %+v, %v", key, twin.Tags, err)
		}
	}
}

func TestKeysAreRenewed(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	key, module, cert := store.Key{DeviceID: "d"}, store.Key{DeviceID: "d", ModuleID: "m"}, store.Key{DeviceID: "cert"}
	addDevice(t, h, key)
	addDevice(t, h, module)
	if _, err := service.CreateIdentity(ctx, store.Identity{Key: cert, Authentication: store.Authentication{Type: store.AuthCA}}); err != nil {
		t.Fatal(err)
	}
	old, err := service.Identity(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	was := old.Authentication
	for _, c := range []struct {
		policyKey          string
		primary, secondary func(store.Authentication) bool // whether the key is as it should be
	}{
		{"secondaryKey", func(a store.Authentication) bool { return a.PrimaryKey == was.PrimaryKey }, func(a store.Authentication) bool { return a.SecondaryKey != was.SecondaryKey }},
		{"primary", func(a store.Authentication) bool { return a.PrimaryKey != was.PrimaryKey }, func(a store.Authentication) bool { return a.SecondaryKey == was.SecondaryKey }},
		{"Swap", func(a store.Authentication) bool { return a.PrimaryKey == was.SecondaryKey }, func(a store.Authentication) bool { return a.SecondaryKey == was.PrimaryKey }},
		{"both", func(a store.Authentication) bool { return a.PrimaryKey != was.PrimaryKey }, func(a store.Authentication) bool { return a.SecondaryKey != was.SecondaryKey }},
	} {
		renewed, failed, err := service.RegenerateKeys(ctx, c.policyKey, []store.Key{key, cert, {DeviceID: "nobody"}, module})
		if err != nil || len(renewed) != 2 || renewed[0].Key != key || renewed[1].Key != module {
			t.Fatalf("%s: %+v, %v", c.policyKey, renewed, err)
		}
		if diff := cmp.Diff(map[string]Code{"cert": CodeInvalidOperation, "nobody": CodeDeviceNotFound}, codesOf(failed)); diff != "" {
			t.Errorf("%s: failures (-want +got):\n%s", c.policyKey, diff)
		}
		stored, err := service.Identity(ctx, key)
		if err != nil || stored.Authentication != renewed[0].Authentication {
			t.Errorf("%s: stored %+v, %v", c.policyKey, stored.Authentication, err)
		}
		if a := stored.Authentication; !c.primary(a) || !c.secondary(a) || !validKey(a.PrimaryKey) || !validKey(a.SecondaryKey) {
			t.Errorf("%s: %+v becomes %+v", c.policyKey, was, a)
		}
		was = stored.Authentication
	}
	for name, c := range map[string]struct {
		policyKey string
		keys      []store.Key
		want      Code
	}{
		"no policy key": {"", nil, CodeInvalidPolicyKey},
		"twice":         {"both", []store.Key{key, key}, CodeDeviceDefinedMultipleTimes},
		"101":           {"both", make([]store.Key, 101), CodeTooManyDevices},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := service.RegenerateKeys(ctx, c.policyKey, c.keys)
			wantCode(t, err, c.want)
		})
	}
}

// A module has no status of its own: it is shown with its device's.
func TestStatusOfAModuleIsItsDevices(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	module := store.Key{DeviceID: "d", ModuleID: "m"}
	d := addDevice(t, h, store.Key{DeviceID: "d"})
	addDevice(t, h, module)
	d.Status, d.StatusReason = store.Disabled, "lost"
	if _, err := service.UpdateIdentity(ctx, d.Identity, "*"); err != nil {
		t.Fatal(err)
	}
	twin, err := service.Twin(ctx, module)
	if err != nil || twin.Status != store.Disabled || twin.StatusReason != "lost" {
		t.Errorf("status %q %q, %v", twin.Status, twin.StatusReason, err)
	}
	page, err := service.Query(ctx, QueryRequest{Text: "SELECT moduleId FROM devices.modules WHERE status = 'disabled' AND statusReason = 'lost'"})
	if err != nil || len(page.Rows) != 1 {
		t.Errorf("%d rows, %v", len(page.Rows), err)
	}
}

func TestScopesOfEdgeDevices(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	put := func(id store.Identity, ifMatch string) (Device, error) {
		if ifMatch == "" {
			return service.CreateIdentity(ctx, id)
		}
		return service.UpdateIdentity(ctx, id, ifMatch)
	}
	top, err := put(store.Identity{Key: store.Key{DeviceID: "top"}, IoTEdge: true}, "")
	if err != nil || !strings.HasPrefix(top.DeviceScope, "ms-azure-iot-edge://top-") || top.ParentScopes != nil {
		t.Fatalf("%+v, %v", top, err)
	}
	child, err := put(store.Identity{Key: store.Key{DeviceID: "child"}, IoTEdge: true, ParentScopes: []string{top.DeviceScope}}, "")
	if err != nil || !strings.HasPrefix(child.DeviceScope, "ms-azure-iot-edge://child-") || len(child.ParentScopes) != 1 || child.ParentScopes[0] != top.DeviceScope {
		t.Fatalf("%+v, %v", child, err)
	}
	leaf, err := put(store.Identity{Key: store.Key{DeviceID: "leaf"}, DeviceScope: child.DeviceScope}, "")
	if err != nil || leaf.DeviceScope != child.DeviceScope || len(leaf.ParentScopes) != 1 || leaf.ParentScopes[0] != child.DeviceScope {
		t.Fatalf("%+v, %v", leaf, err)
	}
	moved := child.Identity
	moved.DeviceScope = top.DeviceScope
	_, err = put(moved, "*")
	wantCode(t, err, CodeInvalidDeviceScope)
	for _, parents := range [][]string{{"https://top"}, {child.DeviceScope}, {""}} {
		own := child.Identity
		own.ParentScopes = parents
		_, err = put(own, "*")
		wantCode(t, err, CodeArgumentInvalid)
	}
	plain := child.Identity
	plain.IoTEdge, plain.ParentScopes = false, nil
	if d, err := put(plain, "*"); err != nil || d.DeviceScope != "" || d.ParentScopes != nil {
		t.Errorf("no edge device any more: %+v, %v", d, err)
	}
}
