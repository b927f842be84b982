package hub

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// jsonOf makes JSON comparable.
func jsonOf(t testing.TB, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

func wantJSON(t testing.TB, got []byte, want string) {
	t.Helper()
	if diff := cmp.Diff(jsonOf(t, []byte(want)), jsonOf(t, got)); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
}

// listener collects desired changes.
type listener struct {
	mu      sync.Mutex
	changes []DesiredChange
}

func (l *listener) deliver(c DesiredChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, c)
}

func (l *listener) heard() []DesiredChange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]DesiredChange(nil), l.changes...)
}

func TestANewTwinHasTheDocumentedShape(t *testing.T) {
	h, _ := newTestHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"})
	tw, err := h.Admin().Twin(ctx, d.Key)
	if err != nil {
		t.Fatal(err)
	}
	wantJSON(t, tw.AppendJSON(nil), `{"deviceId":"d","etag":"AAAAAAAAAAE=","deviceEtag":"`+d.ETag+`","status":"enabled","statusUpdateTime":"0001-01-01T00:00:00Z",
		"connectionState":"Disconnected","lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"authenticationType":"sas",
		"x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"modelId":"","version":2,
		"properties":{"desired":{"$metadata":{"$lastUpdated":"2026-01-01T00:00:00Z","$lastUpdatedVersion":1},"$version":1},
		"reported":{"$metadata":{"$lastUpdated":"2026-01-01T00:00:00Z"},"$version":1}},"capabilities":{"iotEdge":false}}`)
}

func TestTwinVersionsAndEtagsMoveAsDocumented(t *testing.T) {
	h, c := newTestHub(t)
	s, admin := connect(t, h, "d"), h.Admin()
	c.Advance(time.Minute)
	tw, err := admin.UpdateTwin(ctx, s.Key(), []byte(`{"tags":{"a":1},"properties":{"desired":{"p":{"q":1}},"reported":{"ignored":1}},"etag":"x","version":99}`), "")
	if err != nil {
		t.Fatal(err)
	}
	if tw.ETag() != "AAAAAAAAAAI=" || tw.Version != 3 || tw.Desired.Version != 2 || tw.Reported.Version != 1 {
		t.Fatalf("etag %s, version %d, desired %d, reported %d", tw.ETag(), tw.Version, tw.Desired.Version, tw.Reported.Version)
	}
	var shown struct {
		Tags       json.RawMessage
		Properties struct{ Desired, Reported json.RawMessage }
	}
	if err := json.Unmarshal(tw.AppendJSON(nil), &shown); err != nil {
		t.Fatal(err)
	}
	wantJSON(t, shown.Tags, `{"a":1}`)
	wantJSON(t, shown.Properties.Desired, `{"p":{"q":1},"$version":2,"$metadata":{"$lastUpdated":"2026-01-01T00:01:00Z","$lastUpdatedVersion":2,
		"p":{"$lastUpdated":"2026-01-01T00:01:00Z","$lastUpdatedVersion":2,"q":{"$lastUpdated":"2026-01-01T00:01:00Z","$lastUpdatedVersion":2}}}}`)
	version, err := s.UpdateReported(ctx, []byte(`{"r":1}`), 0)
	if err != nil || version != 2 {
		t.Fatalf("version %d, %v", version, err)
	}
	tw, _ = admin.Twin(ctx, s.Key())
	if tw.ETag() != "AAAAAAAAAAI=" || tw.Version != 4 {
		t.Errorf("after a report: etag %s, version %d", tw.ETag(), tw.Version)
	}
	tw, err = admin.UpdateTwin(ctx, s.Key(), []byte(`{"tags":{"a":2},"properties":{"desired":{}}}`), "")
	if err != nil || tw.Desired.Version != 2 || tw.ETag() != "AAAAAAAAAAM=" {
		t.Errorf("an empty desired patch: %v, desired %d, etag %s", err, tw.Desired.Version, tw.ETag())
	}
}

func TestIfMatchOfATwin(t *testing.T) {
	h, _ := newTestHub(t)
	d, admin := addDevice(t, h, store.Key{DeviceID: "d"}), h.Admin()
	for _, match := range []string{"AAAAAAAAAAE=", `"AAAAAAAAAAI="`, "*", `"*"`, ""} {
		if _, err := admin.UpdateTwin(ctx, d.Key, []byte(`{"tags":{"a":1}}`), match); err != nil {
			t.Errorf("If-Match %s: %v", match, err)
		}
	}
	_, err := admin.ReplaceTwin(ctx, d.Key, []byte(`{}`), "AAAAAAAAAAE=")
	wantCode(t, err, CodePreconditionFailed)
	if tw, _ := admin.Twin(ctx, d.Key); len(tw.Tags.Members()) != 1 {
		t.Error("the refused write was done")
	}
}

func TestReplacingATwinClearsWhatIsMissing(t *testing.T) {
	h, _ := newTestHub(t)
	s, admin := connect(t, h, "d"), h.Admin()
	var l listener
	if err := s.SubscribeDesired(l.deliver); err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, h, s.Key(), `{"tags":{"a":1},"properties":{"desired":{"x":1,"o":{"p":1,"q":2}}}}`)
	tw, err := admin.ReplaceTwin(ctx, s.Key(), []byte(`{"properties":{"desired":{"o":{"q":3,"gone":null},"$version":1,"$metadata":{}}}}`), "*")
	if err != nil {
		t.Fatal(err)
	}
	if len(tw.Tags.Members()) != 0 {
		t.Error("the tags are still there")
	}
	wantJSON(t, tw.Desired.Value.AppendJSON(nil), `{"o":{"q":3}}`)
	eventually(t, "both changes are told", func() bool { return len(l.heard()) == 2 })
	wantJSON(t, l.heard()[1].Patch, `{"o":{"p":null,"q":3},"x":null,"$version":3}`)
}

func mustUpdate(t testing.TB, h *Hub, key store.Key, patch string) {
	t.Helper()
	if _, err := h.Admin().UpdateTwin(ctx, key, []byte(patch), ""); err != nil {
		t.Fatal(err)
	}
}

func TestBadTwinsAreRefusedWhole(t *testing.T) {
	h, _ := newTestHub(t)
	d, admin := addDevice(t, h, store.Key{DeviceID: "d"}), h.Admin()
	large := `{"tags":{"a":1},"properties":{"desired":{`
	for i := range 9 {
		large += fmt.Sprintf(`"k%d":"%s",`, i, strings.Repeat("v", 4000))
	}
	for _, body := range []string{
		``, `{`, `[]`, `null`, `"x"`, `{"tags":[]}`, `{"tags":1}`, `{"properties":[]}`, `{"properties":{"desired":"x"}}`,
		`{"tags":{"a":1},"properties":{"desired":{"b.c":1}}}`,
		`{"tags":{"$version":1,"$x":1}}`,
		`{"tags":{"a":"` + strings.Repeat("v", 4097) + `"}}`,
		`{"tags":{"a":"` + strings.Repeat("v", 4096) + `","b":"` + strings.Repeat("v", 4096) + `"}}`,
		large + `"z":1}}}`,
		`{"tags":{"a":1},"x":"` + strings.Repeat(" ", maxTwinBody) + `"}`,
	} {
		_, err := admin.UpdateTwin(ctx, d.Key, []byte(body), "")
		if codeOf(err) != CodeArgumentInvalid {
			t.Errorf("%.80s: %v", body, err)
		}
	}
	if tw, _ := admin.Twin(ctx, d.Key); tw.Version != firstVersion {
		t.Errorf("something was written: version %d", tw.Version)
	}
	_, err := admin.UpdateTwin(ctx, d.Key, []byte(`{"tags":null,"properties":{"desired":null}}`), "")
	wantCode(t, err, 0)
}

// TestGrowingTwinStaysInItsLimits: patches that are small enough each may not add up to more than the limit, nor nest deeper.
func TestGrowingTwinStaysInItsLimits(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	text := strings.Repeat("v", 4000)
	var err error
	n := 0
	for ; err == nil && n < 20; n++ {
		_, err = s.UpdateReported(ctx, fmt.Appendf(nil, `{"k%d":%q}`, n, text), 0)
	}
	wantCode(t, err, CodeArgumentInvalid)
	if n != 9 { // 8 * 4002 < 32768 < 9 * 4002
		t.Errorf("refused at patch %d", n)
	}
	if _, err := s.UpdateReported(ctx, []byte(`{"k0":null,"k9":"small"}`), 0); err != nil {
		t.Errorf("a patch that makes it smaller: %v", err)
	}
}

// TestWhatTheLimitDoesNotCountIsBoundedToo: control characters and empty values have no size, but take memory.
func TestWhatTheLimitDoesNotCountIsBoundedToo(t *testing.T) {
	for name, value := range map[string]string{
		"control characters": `"` + strings.Repeat(`\u0001`, 4000) + `"`,
		"empty objects":      "[" + strings.Repeat("{},", 8000) + "{}]",
		"empty texts":        "[" + strings.Repeat(`"",`, 8000) + `""]`,
		"nothing":            "[" + strings.Repeat(`[[[]]],`, 4000) + `[]]`,
	} {
		h, _ := newTestHub(t)
		s := connect(t, h, "d")
		var err error
		n := 0
		for ; err == nil && n < 20; n++ {
			_, err = s.UpdateReported(ctx, fmt.Appendf(nil, `{"k%d":%s}`, n, value), 0)
		}
		if codeOf(err) != CodeArgumentInvalid || n*len(value) > 512<<10 {
			t.Errorf("%s: %d patches of %d bytes, %v", name, n, len(value), err)
		}
		if _, err = s.UpdateReported(ctx, []byte(`{"k0":null,"k9":"small"}`), 0); err != nil {
			t.Errorf("%s: a patch that makes it smaller: %v", name, err)
		}
	}
}

func TestReportedPatches(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	for _, patch := range []string{``, `{`, `[1]`, `null`, `7`, `{"$version":1}`, `{"$metadata":{}}`, `{"a b":1}`, `{"a":[null]}`, `{"a":5283920058631410000}`} {
		if _, err := s.UpdateReported(ctx, []byte(patch), 0); codeOf(err) != CodeArgumentInvalid {
			t.Errorf("%s: %v", patch, err)
		}
	}
	version, err := s.UpdateReported(ctx, []byte(`{"a":{"b":1,"c":4503599627370495}}`), 1)
	if err != nil || version != 2 {
		t.Fatal(version, err)
	}
	_, err = s.UpdateReported(ctx, []byte(`{"a":null}`), 1)
	wantCode(t, err, CodePreconditionFailed)
	if version, err = s.UpdateReported(ctx, []byte(`{}`), 0); err != nil || version != 3 {
		t.Errorf("an empty patch: version %d, %v", version, err)
	}
	p, err := s.Twin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wantJSON(t, p.AppendJSON(nil), `{"desired":{"$version":1},"reported":{"a":{"b":1,"c":4503599627370495},"$version":3}}`)
	if !strings.Contains(string(p.AppendJSON(nil)), "4503599627370495") {
		t.Error("the integer lost digits")
	}
}

func TestDesiredChangesAreToldInOrder(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	var l listener
	mustUpdate(t, h, s.Key(), `{"properties":{"desired":{"before":1}}}`)
	if err := s.SubscribeDesired(l.deliver); err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 50
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range each {
				mustUpdate(t, h, s.Key(), fmt.Sprintf(`{"properties":{"desired":{"n":%d}}}`, i))
			}
		})
	}
	wg.Wait()
	eventually(t, "all changes are told", func() bool { return len(l.heard()) == writers*each })
	for i, c := range l.heard() {
		if c.Version != int64(i+3) {
			t.Fatalf("change %d has version %d", i, c.Version)
		}
	}
	s.UnsubscribeDesired()
	mustUpdate(t, h, s.Key(), `{"properties":{"desired":{"after":1}}}`)
	s.Close()
	mustUpdate(t, h, s.Key(), `{"properties":{"desired":{"later":1}}}`)
	if n := len(l.heard()); n != writers*each {
		t.Errorf("%d changes were told", n)
	}
}

func TestConcurrentWritersLoseNothing(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				if _, err := s.UpdateReported(ctx, fmt.Appendf(nil, `{"k%d_%d":1}`, w, i), 0); err != nil {
					t.Error(err)
				}
				mustUpdate(t, h, s.Key(), fmt.Sprintf(`{"tags":{"k%d_%d":1}}`, w, i))
			}
		})
	}
	wg.Wait()
	tw, _ := h.Admin().Twin(ctx, s.Key())
	if r, g := len(tw.Reported.Value.Members()), len(tw.Tags.Members()); r != 200 || g != 200 || tw.Version != firstVersion+400 {
		t.Errorf("%d reported, %d tags, version %d", r, g, tw.Version)
	}
}

func TestTwinsOfModules(t *testing.T) {
	h, _ := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	key := store.Key{DeviceID: "d", ModuleID: "m"}
	addDevice(t, h, key)
	mustUpdate(t, h, key, `{"tags":{"a":1}}`)
	tw, err := h.Admin().Twin(ctx, key)
	if err != nil || !strings.Contains(string(tw.AppendJSON(nil)), `"moduleId":"m"`) || len(tw.Tags.Members()) != 1 {
		t.Errorf("%s, %v", tw.AppendJSON(nil), err)
	}
	if tw, _ := h.Admin().Twin(ctx, store.Key{DeviceID: "d"}); tw.Version != firstVersion {
		t.Error("the device's twin was written")
	}
	_, err = h.Admin().Twin(ctx, store.Key{DeviceID: "d", ModuleID: "missing"})
	wantCode(t, err, CodeDeviceNotFound) // IoT Hub: 404001, not 404010
}

func TestATwinDiesWithItsIdentity(t *testing.T) {
	h, c := newTestHub(t)
	s, admin := connect(t, h, "d"), h.Admin()
	mustUpdate(t, h, s.Key(), `{"tags":{"a":1}}`)
	if err := admin.DeleteIdentity(ctx, s.Key(), "*"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Twin(ctx)
	wantCode(t, err, CodeDeviceNotFound)
	_, err = s.UpdateReported(ctx, []byte(`{}`), 0)
	wantCode(t, err, CodeDeviceNotFound)
	_, err = admin.UpdateTwin(ctx, s.Key(), []byte(`{}`), "")
	wantCode(t, err, CodeDeviceNotFound)
	c.Advance(time.Hour)
	addDevice(t, h, s.Key())
	if tw, _ := admin.Twin(ctx, s.Key()); tw.Version != firstVersion || !tw.Reported.Updated.Equal(start.Add(time.Hour)) {
		t.Errorf("the new device has version %d, reported %v", tw.Version, tw.Reported.Updated)
	}
}

func TestTwinsNeedServiceConnect(t *testing.T) {
	h, _ := newTestHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"})
	for _, p := range []auth.Principal{
		{Policy: "registryReadWrite", Rights: auth.RegistryRead | auth.RegistryWrite},
		{Policy: "service", Rights: auth.ServiceConnect, Scope: "twins/other"},
		{Policy: "device", Rights: auth.DeviceConnect},
	} {
		s, err := h.OpenService(ctx, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Twin(ctx, d.Key)
		wantCode(t, err, CodeUnauthorized)
		_, err = s.UpdateTwin(ctx, d.Key, []byte(`{}`), "")
		wantCode(t, err, CodeUnauthorized)
		_, err = s.InvokeMethod(ctx, d.Key, MethodCall{Name: "m"})
		wantCode(t, err, CodeUnauthorized)
	}
	s, _ := h.OpenService(ctx, auth.Principal{Policy: "service", Rights: auth.ServiceConnect, Scope: "twins/d"}, nil)
	_, err := s.Twin(ctx, d.Key)
	wantCode(t, err, 0)
}

func TestAResetForgetsTwinsAndRefusesOldWriters(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	mustUpdate(t, h, s.Key(), `{"tags":{"a":1}}`)
	old, _ := h.OpenService(ctx, admin, nil)
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	addDevice(t, h, s.Key())
	_, err := old.UpdateTwin(ctx, s.Key(), []byte(`{"tags":{"b":1}}`), "")
	wantCode(t, err, CodeClosed)
	_, err = s.UpdateReported(ctx, []byte(`{"b":1}`), 0)
	wantCode(t, err, CodeClosed)
	if tw, _ := h.Admin().Twin(ctx, s.Key()); tw.Version != firstVersion {
		t.Error("the new device has the old one's twin")
	}
}

func TestTwinTellsQueueModelAndConnection(t *testing.T) {
	h, c := newTestHub(t)
	s := connect(t, h, "d", func(o *DeviceOptions) { o.ModelID = "dtmi:com:example:Thermostat;1" })
	c.Advance(time.Minute)
	if _, err := s.Twin(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Admin().SendC2D(ctx, store.Message{SystemProperties: store.SystemProperties{To: "/devices/d/messages/devicebound"}}); err != nil {
		t.Fatal(err)
	}
	tw, _ := h.Admin().Twin(ctx, s.Key())
	for _, want := range []string{`"connectionState":"Connected"`, `"modelId":"dtmi:com:example:Thermostat;1"`, `"cloudToDeviceMessageCount":1`, `"lastActivityTime":"2026-01-01T00:01:00Z"`} {
		if !strings.Contains(string(tw.AppendJSON(nil)), want) {
			t.Errorf("%s is not in %s", want, tw.AppendJSON(nil))
		}
	}
}
