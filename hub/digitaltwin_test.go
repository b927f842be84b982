package hub

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

func TestADigitalTwinHasTheDocumentedShape(t *testing.T) {
	h, c := newTestHub(t)
	s := connect(t, h, "d", func(o *DeviceOptions) { o.ModelID = "dtmi:com:example:TemperatureController;1" })
	admin := h.Admin()
	if _, err := s.UpdateReported(ctx, []byte(`{"serialNumber":"alwin","fanSpeed":{"value":3.0,"ac":200,"av":1,"ad":"done"},
		"thermostat1":{"__t":"c","maxTemp":25.3,"targetTemperature":{"value":21.8,"ac":200,"av":2}},"thermostat2":{"__t":"c","maxTemp":1}}`), 0); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	if _, err := admin.UpdateTwin(ctx, s.Key(), []byte(`{"properties":{"desired":{"fanSpeed":2.0,"thermostat1":{"__t":"c","targetTemperature":21.9}}}}`), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.UpdateTwin(ctx, s.Key(), []byte(`{"properties":{"desired":{"location":{"x":1}}}}`), ""); err != nil {
		t.Fatal(err)
	}
	d, err := admin.DigitalTwin(ctx, "d")
	if err != nil {
		t.Fatal(err)
	}
	wantJSON(t, d.AppendJSON(nil), `{"$dtId":"d","serialNumber":"alwin","fanSpeed":3.0,
		"thermostat1":{"maxTemp":25.3,"targetTemperature":21.8,"$metadata":{"maxTemp":{"lastUpdateTime":"2026-01-01T00:00:00Z"},
			"targetTemperature":{"desiredValue":21.9,"desiredVersion":2,"ackVersion":2,"ackCode":200,"lastUpdateTime":"2026-01-01T00:00:00Z"}}},
		"thermostat2":{"maxTemp":1,"$metadata":{"maxTemp":{"lastUpdateTime":"2026-01-01T00:00:00Z"}}},
		"$metadata":{"$model":"dtmi:com:example:TemperatureController;1","serialNumber":{"lastUpdateTime":"2026-01-01T00:00:00Z"},
			"fanSpeed":{"desiredValue":2.0,"desiredVersion":2,"ackVersion":1,"ackCode":200,"ackDescription":"done","lastUpdateTime":"2026-01-01T00:00:00Z"},
			"location":{"desiredValue":{"x":1},"desiredVersion":3}}}`)
	_, err = admin.DigitalTwin(ctx, "nobody")
	wantCode(t, err, CodeDeviceNotFound)
}

func TestAPatchOfADigitalTwinChangesDesiredProperties(t *testing.T) {
	const before = `{"p":{"a":1,"b":2},"q":1,"comp":{"__t":"c","x":1,"y":2},"one":{"__t":"c","x":1}}`
	for name, try := range map[string]struct{ patch, desired, told string }{
		"a property":               {`[{"op":"add","path":"/r","value":5}]`, `{"p":{"a":1,"b":2},"q":1,"r":5,"comp":{"__t":"c","x":1,"y":2},"one":{"__t":"c","x":1}}`, `{"r":5}`},
		"replace is whole":         {`[{"op":"replace","path":"/p","value":{"b":3}}]`, `{"p":{"b":3},"q":1,"comp":{"__t":"c","x":1,"y":2},"one":{"__t":"c","x":1}}`, `{"p":{"a":null,"b":3}}`},
		"remove a property":        {`[{"op":"remove","path":"/q"}]`, `{"p":{"a":1,"b":2},"comp":{"__t":"c","x":1,"y":2},"one":{"__t":"c","x":1}}`, `{"q":null}`},
		"remove what is not there": {`[{"op":"remove","path":"/comp/z"},{"op":"remove","path":"/none/z"}]`, before, `{}`},
		"in a component":           {`[{"op":"add","path":"/comp/z","value":"t"}]`, `{"p":{"a":1,"b":2},"q":1,"comp":{"__t":"c","x":1,"y":2,"z":"t"},"one":{"__t":"c","x":1}}`, `{"comp":{"__t":"c","z":"t"}}`},
		"in a new component": {`[{"op":"add","path":"/new/z","value":{"a":{"b":true}}}]`, `{"p":{"a":1,"b":2},"q":1,"comp":{"__t":"c","x":1,"y":2},"one":{"__t":"c","x":1},"new":{"__t":"c","z":{"a":{"b":true}}}}`,
			`{"new":{"__t":"c","z":{"a":{"b":true}}}}`},
		"remove in a component":                   {`[{"op":"remove","path":"/comp/x"}]`, `{"p":{"a":1,"b":2},"q":1,"comp":{"__t":"c","y":2},"one":{"__t":"c","x":1}}`, `{"comp":{"__t":"c","x":null}}`},
		"a component goes with its last property": {`[{"op":"remove","path":"/one/x"}]`, `{"p":{"a":1,"b":2},"q":1,"comp":{"__t":"c","x":1,"y":2}}`, `{"one":null}`},
		"a whole component":                       {`[{"op":"replace","path":"/comp","value":{"y":3,"$metadata":{}}}]`, `{"p":{"a":1,"b":2},"q":1,"comp":{"__t":"c","y":3},"one":{"__t":"c","x":1}}`, `{"comp":{"__t":"c","x":null,"y":3}}`},
		"remove a component":                      {`[{"op":"remove","path":"/comp"}]`, `{"p":{"a":1,"b":2},"q":1,"one":{"__t":"c","x":1}}`, `{"comp":null}`},
		"one after the other": {`[{"op":"remove","path":"/comp"},{"op":"add","path":"/comp/x","value":7},{"op":"add","path":"/q","value":2},{"op":"remove","path":"/q"}]`,
			`{"p":{"a":1,"b":2},"comp":{"__t":"c","x":7},"one":{"__t":"c","x":1}}`, `{"comp":{"__t":"c","x":7,"y":null},"q":null}`},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newTestHub(t)
			s := connect(t, h, "d")
			tag(t, h, s.Key(), `{"properties":{"desired":`+before+`}}`)
			var heard listener
			if err := s.SubscribeDesired(heard.deliver); err != nil {
				t.Fatal(err)
			}
			etag, err := h.Admin().UpdateDigitalTwin(ctx, "d", []byte(try.patch), `"AAAAAAAAAAI="`)
			if err != nil || etag != "AAAAAAAAAAM=" {
				t.Fatalf("etag %s, %v", etag, err)
			}
			wantTwin(t, h, s.Key(), try.desired, "")
			eventually(t, "the device hears of it", func() bool { return len(heard.heard()) == 1 })
			told := strings.Replace(string(heard.heard()[0].Patch), `"$version":3`, `"$version":null`, 1)
			want := strings.Replace(strings.TrimSuffix(try.told, "}")+`,"$version":null}`, "{,", "{", 1)
			wantJSON(t, []byte(told), want)
			_, err = h.Admin().UpdateDigitalTwin(ctx, "d", []byte(try.patch), `"AAAAAAAAAAI="`)
			wantCode(t, err, CodePreconditionFailed)
		})
	}
}

func TestAPatchOfADigitalTwinIsChecked(t *testing.T) {
	h, _ := newTestHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	tag(t, h, d, `{"properties":{"desired":{"plain":{"x":1},"comp":{"__t":"c","x":1}}}}`)
	one := func(rest string) string { return `[{"op":"add",` + rest + `}]` }
	deep := strings.Repeat(`{"a":`, 6) + "1" + strings.Repeat("}", 6)
	for patch, want := range map[string]Code{
		``: CodeInvalidDigitalTwinPatch, `{`: CodeInvalidDigitalTwinPatch, `{}`: CodeInvalidDigitalTwinPatch, `[]`: CodeInvalidDigitalTwinPatch, `[1]`: CodeInvalidDigitalTwinPatch,
		`[{"op":"test","path":"/a","value":1}]`: CodeInvalidDigitalTwinPatch, `[{"op":"move","from":"/a","path":"/b"}]`: CodeInvalidDigitalTwinPatch, `[{"path":"/a","value":1}]`: CodeInvalidDigitalTwinPatch,
		one(`"path":"/a"`): CodeInvalidDigitalTwinPatch, one(`"path":"/a","value":null`): CodeInvalidDigitalTwinPatch, one(`"path":"/a","value":[1]`): CodeInvalidDigitalTwinPatch,
		one(`"path":"/a","value":{"b":[1]}`): CodeInvalidDigitalTwinPatch, one(`"path":"/a","value":{"b c":1}`): CodeInvalidDigitalTwinPatch, one(`"path":"/a","value":` + deep): CodeInvalidDigitalTwinPatch,
		one(`"path":"/a","value":{"$metadata":1}`): CodeInvalidDigitalTwinPatch, one(`"path":"/a/b","value":{"$metadata":{}}`): CodeInvalidDigitalTwinPatch,
		one(`"value":1`): CodeInvalidDigitalTwinPath, one(`"path":"","value":1`): CodeInvalidDigitalTwinPath, one(`"path":"/","value":1`): CodeInvalidDigitalTwinPath, one(`"path":"a","value":1`): CodeInvalidDigitalTwinPath,
		one(`"path":"/a/b/c","value":1`): CodeInvalidDigitalTwinPath, one(`"path":"/a/","value":1`): CodeInvalidDigitalTwinPath, one(`"path":"/$metadata/a","value":1`): CodeInvalidDigitalTwinPath,
		one(`"path":"/1a","value":1`): CodeInvalidDigitalTwinPath, one(`"path":"/a_","value":1`): CodeInvalidDigitalTwinPath, one(`"path":"/__t","value":1`): CodeInvalidDigitalTwinPath,
		one(`"path":"/a~1b","value":1`): CodeInvalidDigitalTwinPath, one(`"path":"/` + strings.Repeat("a", 65) + `","value":1`): CodeInvalidDigitalTwinPath,
		one(`"path":"/plain/x","value":1`): CodeArgumentInvalid, one(`"path":"/comp","value":1`): CodeArgumentInvalid, one(`"path":"/plain","value":{"x":1,"$metadata":{}}`): CodeArgumentInvalid,
		`[{"op":"add","path":"/a","value":{"x":1,"y":2}},{"op":"remove","path":"/a/x"}]`:           CodeArgumentInvalid,
		`[{"op":"add","path":"/a/x","value":1},{"op":"replace","path":"/a","value":2}]`:            CodeArgumentInvalid,
		"[" + strings.Repeat(`{"op":"remove","path":"/a"},`, 100) + `{"op":"remove","path":"/a"}]`: CodeInvalidDigitalTwinPatch,
		one(`"path":"/a","value":"` + strings.Repeat("x", 5000) + `"`):                             CodeArgumentInvalid,
	} {
		_, err := h.Admin().UpdateDigitalTwin(ctx, "d", []byte(patch), "")
		if codeOf(err) != want {
			t.Errorf("%.100s: %v, want code %d", patch, err, want)
		}
	}
	wantTwin(t, h, d, `{"plain":{"x":1},"comp":{"__t":"c","x":1}}`, "")
	_, err := h.Admin().UpdateDigitalTwin(ctx, "nobody", []byte(one(`"path":"/a","value":1`)), "")
	wantCode(t, err, CodeDeviceNotFound)
}

func TestACommandIsADirectMethod(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	err := s.SubscribeMethods(func(r MethodRequest) bool {
		s.RespondMethod(r.ID, 201, fmt.Appendf(nil, "%q", r.Name+string(r.Payload)))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for component, want := range map[string]string{"": `"reboot5"`, "thermostat1": `"thermostat1*reboot5"`} {
		r, err := h.Admin().InvokeCommand(ctx, "d", component, MethodCall{Name: "reboot", Payload: []byte("5")})
		if err != nil || r.Status != 201 || string(r.Payload) != want || r.RequestID == "" {
			t.Errorf("%+v, %v", r, err)
		}
	}
	_, err = h.Admin().InvokeCommand(ctx, "nobody", "", MethodCall{Name: "reboot"})
	wantCode(t, err, CodeDeviceNotFound)
}

// FuzzDigitalTwinPatch: whatever a patch is, it is refused or leaves desired properties that a twin may hold, and what the device is told
// brings one that has the old ones to the new ones.
func FuzzDigitalTwinPatch(f *testing.F) {
	for _, patch := range []string{
		`[{"op":"add","path":"/r","value":5}]`, `[{"op":"replace","path":"/comp","value":{"y":3,"$metadata":{}}}]`, `[{"op":"remove","path":"/one/x"}]`,
		`[{"op":"remove","path":"/comp"},{"op":"add","path":"/comp/x","value":7}]`, `[{"op":"add","path":"/p","value":{"a":{"b":null}}}]`,
	} {
		f.Add(patch)
	}
	h, _ := newTestHub(f)
	before, err := document.Parse([]byte(`{"p":{"a":1,"b":2},"q":1,"comp":{"__t":"c","x":1,"y":2},"one":{"__t":"c","x":1}}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		patch, err := h.parsePatch([]byte(text))
		if err != nil {
			if codeOf(err) == -1 {
				t.Fatal(err)
			}
			return
		}
		tw := store.Twin{Desired: store.Section{Value: before, Version: 1}, Reported: store.Section{Value: document.EmptyObject}}
		told := applyPatch(&tw, patch, start)
		if problem := twin.Check(told); problem != "" && !strings.Contains(problem, "longer") && !strings.Contains(problem, "integer") && !strings.Contains(problem, "large") {
			t.Errorf("told %s: %s", told.AppendJSON(nil), problem)
		}
		if device := twin.Merge(before, told, twin.Stamp{}); !document.Equal(device, tw.Desired.Value) {
			t.Errorf("told %s, the device has %s, the hub %s", told.AppendJSON(nil), device.AppendJSON(nil), tw.Desired.Value.AppendJSON(nil))
		}
	})
}

// FuzzConfigurationContent: whatever a content is, it is refused or can be put into a twin and be taken out again.
func FuzzConfigurationContent(f *testing.F) {
	for _, content := range []string{
		`{"deviceContent":{"properties.desired.a":1,"properties.desired.a.b":2}}`, `{"deviceContent":{"properties.desired":{"x":{"y":null}}}}`,
		`{"modulesContent":{"$edgeAgent":{"properties.desired":{}},"m":{"properties.desired.p.q":{"r":1}}}}`, `{"moduleContent":{"properties.desired.x":{"n":1}}}`,
	} {
		f.Add(content)
	}
	before, err := document.Parse([]byte(`{"x":{"y":1,"z":2},"own":1}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := document.Parse([]byte(text))
		if err != nil {
			return
		}
		c, problem := parseContent(v)
		if problem != "" {
			return
		}
		for id, part := range c.parts {
			if problem := twin.Check(part.value); problem != "" {
				t.Errorf("%s: %s", id, problem)
			}
			with := twin.Merge(before, part.value, twin.Stamp{})
			again := twin.Merge(with, effective(with, part.value), twin.Stamp{})
			if !document.Equal(with, again) {
				t.Errorf("a second time changed %s to %s", with.AppendJSON(nil), again.AppendJSON(nil))
			}
			patch, _ := without(with, part.value, document.EmptyObject)
			left := twin.Merge(with, patch, twin.Stamp{})
			if own := left.Get("own"); !part.value.Get("own").IsDefined() && own.Text() != "1" {
				t.Errorf("%s took out what it had not put in: %s", text, left.AppendJSON(nil))
			}
			if kept, _ := without(left, part.value, document.EmptyObject); len(kept.Members()) > 0 {
				t.Errorf("%s left something behind: %s", text, left.AppendJSON(nil))
			}
		}
	})
}
