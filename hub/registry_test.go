package hub

import (
	"context"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

func key64(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }

func TestWhatAnIdentityMayLookLike(t *testing.T) {
	sas := func(primary, secondary string) store.Identity {
		return store.Identity{Key: store.Key{DeviceID: "d"}, Authentication: store.Authentication{PrimaryKey: primary, SecondaryKey: secondary}}
	}
	x509 := func(primary, secondary string) store.Identity {
		return store.Identity{Key: store.Key{DeviceID: "d"}, Authentication: store.Authentication{PrimaryThumbprint: primary, SecondaryThumbprint: secondary}}
	}
	named := func(id string) store.Identity { return store.Identity{Key: store.Key{DeviceID: id}} }
	typed := func(a store.AuthType) store.Identity {
		return store.Identity{Key: store.Key{DeviceID: "d"}, Authentication: store.Authentication{Type: a}}
	}
	sha1, sha256 := strings.Repeat("aB", 20), strings.Repeat("0f", 32)
	for name, c := range map[string]struct {
		id   store.Identity
		want Code
	}{
		"every character":       {named("aZ09-:.+%_#*?!(),=@;$'"), 0},
		"128 characters":        {named(strings.Repeat("d", 128)), 0},
		"129 characters":        {named(strings.Repeat("d", 129)), CodeArgumentInvalid},
		"no id":                 {named(""), CodeArgumentInvalid},
		"a slash":               {named("a/b"), CodeArgumentInvalid},
		"a space":               {named("a b"), CodeArgumentInvalid},
		"an ampersand":          {named("a&b"), CodeArgumentInvalid},
		"keys of 16 bytes":      {sas(key64(16), key64(16)), 0},
		"keys of 64 bytes":      {sas(key64(64), key64(64)), 0},
		"a key of 15 bytes":     {sas(key64(15), key64(16)), CodeArgumentInvalid},
		"a key of 65 bytes":     {sas(key64(16), key64(65)), CodeArgumentInvalid},
		"a key that is no text": {sas("***", key64(16)), CodeArgumentInvalid},
		"one key":               {sas(key64(16), ""), CodeArgumentInvalid},
		"a SHA-1 thumbprint":    {x509(sha1, ""), 0},
		"two thumbprints":       {x509(sha1, sha256), 0},
		"a short thumbprint":    {x509(sha1[1:], ""), CodeArgumentInvalid},
		"colons in it":          {x509(sha1, strings.Repeat("0:", 20)), CodeArgumentInvalid},
		"selfSigned without":    {typed(store.AuthSelfSigned), 0},
		"CA":                    {typed(store.AuthCA), 0},
		"type none":             {typed(store.AuthNone), CodeArgumentInvalid},
		"unknown type":          {typed("tpm"), CodeArgumentInvalid},
		"disabled":              {store.Identity{Key: store.Key{DeviceID: "d"}, Status: store.Disabled}, 0},
		"unknown status":        {store.Identity{Key: store.Key{DeviceID: "d"}, Status: "asleep"}, CodeArgumentInvalid},
		"a reason of 128":       {store.Identity{Key: store.Key{DeviceID: "d"}, StatusReason: strings.Repeat("r", 128)}, 0},
		"a reason of 129":       {store.Identity{Key: store.Key{DeviceID: "d"}, StatusReason: strings.Repeat("r", 129)}, CodeArgumentInvalid},
		"a scope of no edge":    {store.Identity{Key: store.Key{DeviceID: "d"}, DeviceScope: "parent"}, CodeArgumentInvalid},
	} {
		h, _ := newTestHub(t)
		if _, err := h.Admin().CreateIdentity(ctx, c.id); codeOf(err) != c.want {
			t.Errorf("%s: %v, want code %d", name, err, c.want)
		}
	}
}

func TestAuthenticationIsCompletedForItsType(t *testing.T) {
	thumb := strings.Repeat("ab", 20)
	for name, c := range map[string]struct{ in, want store.Authentication }{
		"thumbprints make it selfSigned": {store.Authentication{PrimaryThumbprint: thumb}, store.Authentication{Type: store.AuthSelfSigned, PrimaryThumbprint: thumb}},
		"selfSigned has no keys":         {store.Authentication{Type: store.AuthSelfSigned, PrimaryKey: key64(16)}, store.Authentication{Type: store.AuthSelfSigned}},
		"CA has nothing":                 {store.Authentication{Type: store.AuthCA, PrimaryKey: key64(16), PrimaryThumbprint: thumb}, store.Authentication{Type: store.AuthCA}},
		"sas has no thumbprints": {
			store.Authentication{Type: store.AuthSAS, PrimaryKey: key64(16), SecondaryKey: key64(17), PrimaryThumbprint: thumb},
			store.Authentication{Type: store.AuthSAS, PrimaryKey: key64(16), SecondaryKey: key64(17)},
		},
	} {
		if problem := completeAuthentication(&c.in, false); problem != "" {
			t.Errorf("%s: %s", name, problem)
		}
		if diff := cmp.Diff(c.want, c.in); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	module := store.Authentication{Type: store.AuthNone}
	if problem := completeAuthentication(&module, true); problem != "" || module.Type != store.AuthSAS || !validKey(module.PrimaryKey) || module.PrimaryKey == module.SecondaryKey {
		t.Errorf("a module of type none: %s %+v", problem, module)
	}
}

func TestCreateUpdateDelete(t *testing.T) {
	h, c := newTestHub(t)
	service := h.Admin()
	id := addDevice(t, h, store.Key{DeviceID: "d"}).Identity
	_, err := service.CreateIdentity(ctx, store.Identity{Key: id.Key, ETag: id.ETag})
	wantCode(t, err, CodeDeviceAlreadyExists)
	c.Advance(time.Minute)
	id.Status, id.StatusReason = store.Disabled, "maintenance"
	updated, err := service.UpdateIdentity(ctx, id, id.ETag)
	if err != nil {
		t.Fatal(err)
	}
	want := id
	want.ETag, want.StatusUpdated = updated.ETag, start.Add(time.Minute)
	if diff := cmp.Diff(want, updated.Identity); diff != "" || updated.ETag == id.ETag {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
	_, err = service.UpdateIdentity(ctx, id, id.ETag)
	wantCode(t, err, CodePreconditionFailed)
	_, err = service.UpdateIdentity(ctx, id, "")
	wantCode(t, err, CodePreconditionFailed)
	for _, match := range []string{"*", `"*"`} {
		if _, err := service.UpdateIdentity(ctx, id, match); err != nil {
			t.Errorf("If-Match %s: %v", match, err)
		}
	}
	id.Authentication = store.Authentication{}
	renewed, err := service.UpdateIdentity(ctx, id, "*")
	if err != nil || renewed.Authentication.PrimaryKey == updated.Authentication.PrimaryKey || !validKey(renewed.Authentication.PrimaryKey) {
		t.Errorf("an update without keys gives %+v, %v", renewed.Authentication, err)
	}
	wantCode(t, service.DeleteIdentity(ctx, id.Key, ""), CodePreconditionFailed)
	wantCode(t, service.DeleteIdentity(ctx, id.Key, id.ETag), CodePreconditionFailed)
	if err := service.DeleteIdentity(ctx, id.Key, strconv.Quote(renewed.ETag)); err != nil {
		t.Error(err)
	}
	wantCode(t, service.DeleteIdentity(ctx, id.Key, "*"), CodeDeviceNotFound)
	_, err = service.UpdateIdentity(ctx, id, "*")
	wantCode(t, err, CodeDeviceNotFound)
	_, err = service.Identity(ctx, id.Key)
	wantCode(t, err, CodeDeviceNotFound)
	if again := addDevice(t, h, id.Key); again.GenerationID == id.GenerationID || len(again.GenerationID) != 18 {
		t.Errorf("generation %s after %s", again.GenerationID, id.GenerationID)
	}
}

func TestETagsAreBase64OfADecimalNumber(t *testing.T) {
	h, _ := newTestHub(t)
	etag := addDevice(t, h, store.Key{DeviceID: "d"}).ETag
	text, err := base64.StdEncoding.DecodeString(etag)
	if _, notNumber := strconv.Atoi(string(text)); err != nil || notNumber != nil {
		t.Errorf("etag %q", etag)
	}
}

func TestModules(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	_, err := service.CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "d", ModuleID: "m"}})
	wantCode(t, err, CodeDeviceNotFound)
	_, err = service.Modules(ctx, "d")
	wantCode(t, err, CodeDeviceNotFound)
	addDevice(t, h, store.Key{DeviceID: "d"})
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			_, _ = service.CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "d", ModuleID: fmt.Sprint("m", i)}})
		})
	}
	wg.Wait()
	modules, err := service.Modules(ctx, "d")
	if err != nil || len(modules) != 20 {
		t.Fatalf("%d modules, %v; want 20", len(modules), err)
	}
	_, err = service.CreateIdentity(ctx, store.Identity{Key: modules[0].Key})
	wantCode(t, err, CodeModuleAlreadyExists)
	_, err = service.CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "d", ModuleID: "new"}})
	wantCode(t, err, CodeTooManyModules)
	_, err = service.Identity(ctx, store.Key{DeviceID: "d", ModuleID: "new"})
	wantCode(t, err, CodeModuleNotFound)
}

func TestModuleIDsThatBeginWithDollarAreReserved(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	for _, edge := range []bool{false, true} {
		device := store.Key{DeviceID: fmt.Sprintf("edge-%v", edge)}
		if _, err := service.CreateIdentity(ctx, store.Identity{Key: device, IoTEdge: edge}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"$", "$mine", "$edgeAgent"} {
			_, err := service.CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: device.DeviceID, ModuleID: id}})
			wantCode(t, err, CodeArgumentInvalid)
		}
	}
}

func TestEdgeDeviceGetsScopeAndSystemModules(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	edge, err := service.CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "e"}, IoTEdge: true})
	if err != nil || edge.DeviceScope != "ms-azure-iot-edge://e-"+edge.GenerationID {
		t.Fatalf("scope %q, %v", edge.DeviceScope, err)
	}
	modules, _ := service.Modules(ctx, "e")
	if len(modules) != 2 || modules[0].ModuleID != "$edgeAgent" || modules[1].ModuleID != "$edgeHub" || modules[0].ManagedBy != "iotEdge" {
		t.Errorf("modules %+v", modules)
	}
	leaf, err := service.CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "l"}, DeviceScope: edge.DeviceScope, ParentScopes: []string{"ignored"}})
	if err != nil || !cmp.Equal(leaf.ParentScopes, []string{edge.DeviceScope}) {
		t.Errorf("leaf's parents %v, %v", leaf.ParentScopes, err)
	}
	id := edge.Identity
	id.DeviceScope = "ms-azure-iot-edge://other-1"
	_, err = service.UpdateIdentity(ctx, id, "*")
	wantCode(t, err, CodeInvalidDeviceScope)
	id.DeviceScope = ""
	if kept, err := service.UpdateIdentity(ctx, id, "*"); err != nil || kept.DeviceScope != edge.DeviceScope {
		t.Errorf("an update without a scope gives %q, %v", kept.DeviceScope, err)
	}
}

func TestDeviceMayBecomeAnEdgeDevice(t *testing.T) {
	h, _ := newTestHub(t)
	id := addDevice(t, h, store.Key{DeviceID: "d"}).Identity
	id.IoTEdge = true
	edge, err := h.Admin().UpdateIdentity(ctx, id, "*")
	if err != nil || edge.DeviceScope != "ms-azure-iot-edge://d-"+id.GenerationID {
		t.Errorf("scope %q, %v", edge.DeviceScope, err)
	}
	if modules, err := h.Admin().Modules(ctx, "d"); len(modules) != 2 || err != nil {
		t.Errorf("%d modules, %v", len(modules), err)
	}
}

func TestConcurrentUpdatesOfWhateverETagAllSucceed(t *testing.T) {
	h, _ := newTestHub(t)
	id := addDevice(t, h, store.Key{DeviceID: "d"}).Identity
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if _, err := h.Admin().UpdateIdentity(ctx, id, "*"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestListingAndStatistics(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	for i := range 1200 {
		status := store.Enabled
		if i%3 == 0 {
			status = store.Disabled
		}
		if _, err := service.CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: fmt.Sprintf("d%04d", i)}, Status: status}); err != nil {
			t.Fatal(err)
		}
	}
	for top, want := range map[int]int{0: 1000, 1: 1, 1000: 1000, -1: -1, 1001: -1} {
		list, err := service.Devices(ctx, top)
		if want < 0 {
			wantCode(t, err, CodeArgumentInvalid)
		} else if err != nil || len(list) != want {
			t.Errorf("Devices(%d) = %d devices, %v", top, len(list), err)
		}
	}
	if list, _ := service.DevicesAfter(ctx, "d0999", 1000); len(list) != 200 || list[0].DeviceID != "d1000" {
		t.Errorf("DevicesAfter returned %d", len(list))
	}
	if total, enabled, disabled, err := service.DeviceStatistics(ctx); total != 1200 || enabled != 800 || disabled != 400 || err != nil {
		t.Errorf("statistics %d %d %d %v", total, enabled, disabled, err)
	}
}

func TestBulk(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Admin()
	have := addDevice(t, h, store.Key{DeviceID: "have"})
	item := func(id, mode, etag string) BulkItem {
		return BulkItem{Identity: store.Identity{Key: store.Key{DeviceID: id}, ETag: etag}, Mode: mode}
	}
	failed, err := service.Bulk(ctx, []BulkItem{
		item("new", "create", ""), item("have", "create", ""), item("x", "Update", ""), item("y", "createOrUpdate", ""),
		item("z", "delete", ""), item("w", "createOrUpdateIfMatchETag", "AAAA"),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Code{}
	for _, f := range failed {
		got[f.DeviceID] = f.Err.Code
	}
	if diff := cmp.Diff(map[string]Code{"have": CodeDeviceAlreadyExists, "x": CodeDeviceNotFound, "z": CodeDeviceNotFound}, got); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	failed, err = service.Bulk(ctx, []BulkItem{
		item("have", "updateIfMatchETag", have.ETag), item("new", "updateIfMatchETag", have.ETag), item("y", "deleteIfMatchETag", ""), item("w", "delete", ""),
	})
	if err != nil || len(failed) != 2 || failed[0].Err.Code != CodePreconditionFailed || failed[1].Err.Code != CodePreconditionFailed {
		t.Errorf("failures %+v, %v", failed, err)
	}
	for name, c := range map[string]struct {
		items []BulkItem
		want  Code
	}{
		"a device twice": {[]BulkItem{item("a", "create", ""), item("a", "delete", "")}, CodeDeviceDefinedMultipleTimes},
		"unknown mode":   {[]BulkItem{item("a", "upsert", "")}, CodeArgumentInvalid},
		"101 operations": {make([]BulkItem, 101), CodeTooManyDevices},
		"none":           {nil, 0},
	} {
		if _, err := service.Bulk(ctx, c.items); codeOf(err) != c.want {
			t.Errorf("%s: %v, want code %d", name, err, c.want)
		}
	}
	_, err = service.Identity(ctx, store.Key{DeviceID: "a"})
	wantCode(t, err, CodeDeviceNotFound) // a refused request does nothing
}

func TestServicesNeedTheirRights(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	key := store.Key{DeviceID: "d"}
	calls := map[string]struct {
		need auth.Rights
		call func(*ServiceSession) error
	}{
		"send":  {auth.ServiceConnect, func(s *ServiceSession) error { return s.SendC2D(ctx, toDevice("d", "m")) }},
		"purge": {auth.ServiceConnect, func(s *ServiceSession) error { _, err := s.PurgeC2D(ctx, "d"); return err }},
		"poll":  {auth.ServiceConnect, func(s *ServiceSession) error { _, _, err := s.PollFeedback(ctx); return err }},
		"feedback": {auth.ServiceConnect, func(s *ServiceSession) error {
			_, err := s.SubscribeFeedback(func(store.Message) bool { return true })
			return err
		}},
		"hub":  {auth.ServiceConnect, func(s *ServiceSession) error { _, err := s.EventHub(ctx, ""); return err }},
		"part": {auth.ServiceConnect, func(s *ServiceSession) error { _, err := s.Partition(ctx, "", "0"); return err }},
		"read": {auth.ServiceConnect, func(s *ServiceSession) error {
			_, err := s.OpenReader(ctx, ReaderOptions{Group: "$Default", Partition: "0"})
			return err
		}},
		"hubs":    {auth.ServiceConnect, func(s *ServiceSession) error { _, err := s.EventHubs(ctx); return err }},
		"make":    {auth.ServiceConnect, func(s *ServiceSession) error { _, err := s.PutEventHub(ctx, "made", 1); return err }},
		"drop":    {auth.ServiceConnect, func(s *ServiceSession) error { return s.DeleteEventHub(ctx, "iolite") }},
		"group":   {auth.ServiceConnect, func(s *ServiceSession) error { return s.PutConsumerGroup(ctx, "", "group") }},
		"ungroup": {auth.ServiceConnect, func(s *ServiceSession) error { return s.DeleteConsumerGroup(ctx, "", "nobody") }},
		"get":     {auth.RegistryRead, func(s *ServiceSession) error { _, err := s.Identity(ctx, key); return err }},
		"list":    {auth.RegistryRead, func(s *ServiceSession) error { _, err := s.Devices(ctx, 0); return err }},
		"modules": {auth.RegistryRead, func(s *ServiceSession) error { _, err := s.Modules(ctx, "d"); return err }},
		"count":   {auth.RegistryRead, func(s *ServiceSession) error { _, _, _, err := s.DeviceStatistics(ctx); return err }},
		"online":  {auth.RegistryRead, func(s *ServiceSession) error { _, err := s.ConnectedDevices(ctx); return err }},
		"update": {auth.RegistryWrite, func(s *ServiceSession) error {
			_, err := s.UpdateIdentity(ctx, store.Identity{Key: key}, "*")
			return err
		}},
		"create": {auth.RegistryWrite, func(s *ServiceSession) error {
			_, err := s.CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: newUUID()}})
			return err
		}},
		"bulk":   {auth.RegistryWrite, func(s *ServiceSession) error { _, err := s.Bulk(ctx, nil); return err }},
		"delete": {auth.RegistryWrite, func(s *ServiceSession) error { return s.DeleteIdentity(ctx, store.Key{DeviceID: "d"}, "etag") }},
	}
	for name, c := range calls {
		for _, p := range h.Policies() {
			s, err := h.OpenService(ctx, auth.Principal{Policy: p.Name, Rights: p.Rights}, nil)
			if err != nil {
				t.Fatal(err)
			}
			refused := codeOf(c.call(s)) == CodeUnauthorized
			if refused == p.Rights.Has(c.need) {
				t.Errorf("%s with policy %s: refused = %v", name, p.Name, refused)
			}
			s.Close()
			wantCode(t, c.call(s), CodeClosed)
		}
		narrow, _ := h.OpenService(ctx, auth.Principal{Policy: "iothubowner", Rights: 0xff, Scope: "somewhere/else"}, nil)
		if got := codeOf(c.call(narrow)); got != CodeUnauthorized {
			t.Errorf("%s with a token for somewhere else: code %d", name, got)
		}
		narrow.Close()
	}
	_, err := h.OpenService(ctx, owner(key), nil)
	wantCode(t, err, CodeUnauthorized)
}

func TestDocumentedPoliciesWithFixedKeys(t *testing.T) {
	h, _ := newTestHub(t)
	var got []string
	for _, p := range h.Policies() {
		if !validKey(p.PrimaryKey) || !validKey(p.SecondaryKey) || p.PrimaryKey == p.SecondaryKey {
			t.Errorf("keys of %s", p.Name)
		}
		got = append(got, fmt.Sprintf("%s %04b", p.Name, p.Rights))
	}
	want := []string{"iothubowner 1111", "service 0100", "device 1000", "registryRead 0001", "registryReadWrite 0011"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	// A connection string in somebody's compose file must go on working.
	primary, _ := DeriveKeys(store.Key{DeviceID: "thermostat-1"})
	for have, want := range map[string]string{
		h.Policies()[0].PrimaryKey: "MMVilWxGU0meKYKNLAJFNM6XKtWkDvPg5sV9T2W/2tE=",
		primary:                    "ZNsQQ0F5jOWOLMtLGI2wBgZCRgJ4FNjBc5n/I20KnDw=",
	} {
		if have != want {
			t.Errorf("key %s, want %s", have, want)
		}
	}
}

func FuzzETags(f *testing.F) {
	for _, seed := range []string{`"MQ=="`, "MQ==", `W/"MQ=="`, "*", `"*"`, `"`, ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got := unquoteETag(text); len(got) > len(text) || strings.HasPrefix(got, `"`) && strings.HasSuffix(text, `"`) && len(got) == len(text) && len(text) > 1 {
			t.Errorf("unquoteETag(%q) = %q", text, got)
		}
	})
}

// deletingEngine is an engine whose registry calls deleted right after it has deleted something.
type deletingEngine struct {
	store.Engine
	deleted func()
}

func (e *deletingEngine) Registry() store.Registry { return deletingRegistry{e.Engine.Registry(), e} }

type deletingRegistry struct {
	store.Registry
	engine *deletingEngine
}

func (r deletingRegistry) Delete(ctx context.Context, key store.Key, ifMatch string) ([]store.TwinRow, error) {
	removed, err := r.Registry.Delete(ctx, key, ifMatch)
	r.engine.deleted()
	return removed, err
}

func TestWhoMakesADeletedDeviceAgainLosesNoMessage(t *testing.T) {
	engine := &deletingEngine{Engine: store.NewMemory(store.MemoryOptions{})}
	h, _ := newTestHub(t, func(c *Config) { c.Engine = engine })
	key := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	created, sent := make(chan error, 1), make(chan error, 1)
	engine.deleted = func() {
		go func() {
			_, err := h.Admin().CreateIdentity(ctx, store.Identity{Key: key})
			created <- err
			var m store.Message
			m.To = "/devices/d/messages/devicebound"
			sent <- h.Admin().SendC2D(ctx, m)
		}()
		wantCode(t, <-created, 0)
		for range 1000 { // the sender gets his chance
			runtime.Gosched()
		}
	}
	wantCode(t, h.Admin().DeleteIdentity(ctx, key, "*"), 0)
	wantCode(t, <-sent, 0)
	if d, err := h.Admin().Identity(ctx, key); err != nil || d.C2DCount != 1 {
		t.Errorf("%d messages, error %v", d.C2DCount, err)
	}
}

func TestTextsOfAnIdentityAreBounded(t *testing.T) {
	h, _ := newTestHub(t)
	key := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	scope := edgeScheme + strings.Repeat("x", maxScope-len(edgeScheme))
	for name, c := range map[string]struct {
		id   store.Identity
		want Code
	}{
		"a long managedBy":         {store.Identity{Key: store.Key{DeviceID: "d", ModuleID: "m"}, ManagedBy: strings.Repeat("x", maxManagedBy)}, 0},
		"a managedBy too long":     {store.Identity{Key: store.Key{DeviceID: "d", ModuleID: "n"}, ManagedBy: strings.Repeat("x", maxManagedBy+1)}, CodeArgumentInvalid},
		"a long scope":             {store.Identity{Key: key, DeviceScope: scope}, 0},
		"a scope too long":         {store.Identity{Key: key, DeviceScope: scope + "x"}, CodeArgumentInvalid},
		"many parents":             {store.Identity{Key: key, IoTEdge: true, ParentScopes: slices.Repeat([]string{scope}, maxParents)}, 0},
		"too many parents":         {store.Identity{Key: key, IoTEdge: true, ParentScopes: slices.Repeat([]string{scope}, maxParents+1)}, CodeArgumentInvalid},
		"a parent's scope so long": {store.Identity{Key: key, IoTEdge: true, ParentScopes: []string{scope + "x"}}, CodeArgumentInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if c.id.ModuleID != "" {
				_, err = h.Admin().CreateIdentity(ctx, c.id)
			} else {
				_, err = h.Admin().UpdateIdentity(ctx, c.id, "*")
			}
			wantCode(t, err, c.want)
		})
	}
}
