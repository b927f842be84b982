package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

func TestTwinChangeEventsHaveTheDocumentedShape(t *testing.T) {
	h, c := newTestHub(t)
	connect(t, h, "d")
	m := addDevice(t, h, store.Key{DeviceID: "d", ModuleID: "m"}).Key
	tag(t, h, m, `{"tags":{"old":1},"properties":{"desired":{"gone":1,"kept":1}}}`)
	s, err := h.OpenDevice(ctx, owner(m), m, DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, h)
	c.Advance(1234567800 * time.Nanosecond)

	tag(t, h, m, `{"tags":{"tag1":"new value"},"properties":{"desired":{"property1":{"a":"new value"},"gone":null}}}`)
	wantNotice(t, l.one(t, ""), "twinChangeEvents", "twinChangeNotification", "updateTwin", "2026-01-01T00:00:01.2345678Z",
		`{"version":4,"tags":{"tag1":"new value"},"properties":{"desired":{"property1":{"a":"new value"},"gone":null,
			"$metadata":{"$lastUpdated":"2026-01-01T00:00:01.2345678Z","$lastUpdatedVersion":3,
				"property1":{"$lastUpdated":"2026-01-01T00:00:01.2345678Z","$lastUpdatedVersion":3,"a":{"$lastUpdated":"2026-01-01T00:00:01.2345678Z","$lastUpdatedVersion":3}}},
			"$version":3}}}`)

	tag(t, h, m, `{"tags":{"tag1":null}}`)
	wantNotice(t, l.one(t, ""), "twinChangeEvents", "twinChangeNotification", "updateTwin", "2026-01-01T00:00:01.2345678Z", `{"version":5,"tags":{"tag1":null}}`)

	c.Advance(765432200 * time.Nanosecond)
	if _, err := s.UpdateReported(ctx, []byte(`{"maxTempSinceLastReboot":9.6}`), 0); err != nil {
		t.Fatal(err)
	}
	wantNotice(t, l.one(t, ""), "twinChangeEvents", "twinChangeNotification", "updateTwin", "2026-01-01T00:00:02.0000000Z",
		`{"version":6,"properties":{"reported":{"maxTempSinceLastReboot":9.6,
			"$metadata":{"$lastUpdated":"2026-01-01T00:00:02Z","maxTempSinceLastReboot":{"$lastUpdated":"2026-01-01T00:00:02Z"}},"$version":2}}}`)

	if _, err := h.Admin().ReplaceTwin(ctx, m, []byte(`{"properties":{"desired":{"p":1}}}`), ""); err != nil {
		t.Fatal(err)
	}
	wantNotice(t, l.one(t, ""), "twinChangeEvents", "twinChangeNotification", "replaceTwin", "2026-01-01T00:00:02.0000000Z",
		`{"deviceId":"d","moduleId":"m","etag":"AAAAAAAAAAU=","version":7,"properties":{
			"desired":{"p":1,"$metadata":{"$lastUpdated":"2026-01-01T00:00:02Z","$lastUpdatedVersion":4,"p":{"$lastUpdated":"2026-01-01T00:00:02Z","$lastUpdatedVersion":4}},"$version":4},
			"reported":{"maxTempSinceLastReboot":9.6,
				"$metadata":{"$lastUpdated":"2026-01-01T00:00:02Z","maxTempSinceLastReboot":{"$lastUpdated":"2026-01-01T00:00:02Z"}},"$version":2}}}`)
}

func TestEveryWayOfChangingATwinIsTold(t *testing.T) {
	h, blobs := newBlobHub(t)
	s := connect(t, h, "d", func(o *DeviceOptions) { o.ModelID = "dtmi:com:example:Thermostat;1" })
	key, admin := s.Key(), h.Admin()
	l := listen(t, h)
	for _, try := range []struct {
		name string
		do   func() error
		want string // the body without its metadata
	}{
		{"PATCH", func() error { _, err := admin.UpdateTwin(ctx, key, []byte(`{"tags":{"a":1}}`), ""); return err }, `{"version":3,"tags":{"a":1}}`},
		{"PUT", func() error { _, err := admin.ReplaceTwin(ctx, key, []byte(`{"tags":{"a":2}}`), ""); return err },
			`{"deviceId":"d","etag":"AAAAAAAAAAM=","version":4,"tags":{"a":2},"properties":{"desired":{"$version":2},"reported":{"$version":1}}}`},
		{"a report", func() error { _, err := s.UpdateReported(ctx, []byte(`{"r":1}`), 0); return err }, `{"version":5,"properties":{"reported":{"r":1,"$version":2}}}`},
		{"a report planted", func() error { return admin.PlantReported(ctx, key, []byte(`{"r":null}`)) }, `{"version":6,"properties":{"reported":{"r":null,"$version":3}}}`},
		{"a job", func() error { schedule(t, h, "j", tagJob("*", "")); jobWhen(t, h, "j", jobCompleted); return nil }, `{"version":7,"tags":{"a":1}}`},
		{"bulk", func() error {
			_, err := admin.Bulk(ctx, []BulkItem{{Mode: "updateTwin", Identity: store.Identity{Key: key}, Desired: documentOf(t, `{"b":1}`)}})
			return err
		}, `{"version":8,"properties":{"desired":{"b":1,"$version":3}}}`},
		{"import", func() error {
			blobs.blobs["http://storage/c?sig=s|devices.txt"] = `{"id":"d","importMode":"updateTwin","tags":{"i":1}}`
			transferDone(t, h, transferBody("import", ""))
			return nil
		}, `{"version":9,"tags":{"i":1}}`},
		{"a digital twin", func() error {
			_, err := admin.UpdateDigitalTwin(ctx, "d", []byte(`[{"op":"add","path":"/t","value":1}]`), "")
			return err
		},
			`{"version":10,"properties":{"desired":{"t":1,"$version":4}}}`},
		{"a configuration", func() error { putConfig(t, h, "c", config(1, "*", `{"properties.desired.p":1}`)); return nil },
			`{"version":11,"properties":{"desired":{"p":1,"$version":5}}}`},
		{"a configuration goes", func() error { deleteConfig(t, h, "c"); return nil }, `{"version":12,"properties":{"desired":{"p":null,"$version":6}}}`},
		{"an empty patch", func() error { _, err := admin.UpdateTwin(ctx, key, []byte(`{}`), ""); return err }, `{"version":13}`},
		{"a refused patch", func() error {
			_, err := admin.UpdateTwin(ctx, key, []byte(`{"tags":{"a":1}}`), "other")
			wantCode(t, err, CodePreconditionFailed)
			return nil
		}, ""},
		{"a refused report", func() error {
			_, err := s.UpdateReported(ctx, []byte(`{"a":1}`), 99)
			wantCode(t, err, CodePreconditionFailed)
			return nil
		}, ""},
	} {
		if err := try.do(); err != nil {
			t.Fatalf("%s: %v", try.name, err)
		}
		got := ""
		for _, e := range l.take("twinChangeEvents") {
			got += strip(t, e.Body)
		}
		if want := strip(t, []byte(try.want)); got != want {
			t.Errorf("%s: got  %s\nwant %s", try.name, got, want)
		}
	}
}

// strip returns a body without its metadata, in one form.
func strip(t testing.TB, body []byte) string {
	t.Helper()
	if len(body) == 0 {
		return ""
	}
	var v struct {
		Version    json.RawMessage           `json:"version"`
		DeviceID   string                    `json:"deviceId,omitempty"`
		ETag       string                    `json:"etag,omitempty"`
		Tags       json.RawMessage           `json:"tags,omitempty"`
		Properties map[string]map[string]any `json:"properties,omitempty"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for _, section := range v.Properties {
		delete(section, "$metadata")
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// follower builds a twin from events alone.
type follower struct {
	version                 string
	tags, desired, reported document.Value
}

func (f *follower) follow(e store.Event) {
	v, _ := document.Parse(e.Body)
	f.version = string(v.Get("version").AppendJSON(nil))
	whole := propertyOf(e, "opType") == "replaceTwin"
	for _, part := range []struct {
		to   *document.Value
		from document.Value
	}{{&f.tags, v.Get("tags")}, {&f.desired, v.Get("properties").Get("desired")}, {&f.reported, v.Get("properties").Get("reported")}} {
		switch {
		case whole && !part.from.IsDefined():
			*part.to = document.EmptyObject
		case whole:
			*part.to = twin.Without(part.from)
		case part.from.IsDefined():
			*part.to = twin.Merge(*part.to, twin.Without(part.from), twin.Stamp{})
		}
	}
}

// sections generates JSON objects of few names, with nulls.
func sections() *rapid.Generator[string] {
	value := rapid.SampledFrom([]string{`1`, `"t"`, `null`, `{}`, `{"x":1}`, `{"x":null,"y":{"z":1}}`, `{"y":{"z":null}}`, `[1,2]`})
	return rapid.Custom(func(t *rapid.T) string {
		members := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), value, 0, 3).Draw(t, "members")
		text := "{"
		for _, name := range []string{"a", "b", "c"} {
			if v, there := members[name]; there {
				text += fmt.Sprintf(`,%q:%s`, name, v)
			}
		}
		return strings.Replace(text, "{,", "{", 1) + "}"
	})
}

// TestReplayingTwinChangesGivesTheTwin: who has the events of a twin has the twin; and who has those of its digital twin has that.
func TestReplayingTwinChangesGivesTheTwin(t *testing.T) {
	h, _ := newTestHub(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		s := connect(t, h, "d"+strconv.Itoa(n), func(o *DeviceOptions) { o.ModelID = "dtmi:a;1" })
		defer s.Close()
		l := listen(t, h)
		f := follower{tags: document.EmptyObject, desired: document.EmptyObject, reported: document.EmptyObject}
		digital, err := h.Admin().DigitalTwin(ctx, s.Key().DeviceID)
		if err != nil {
			t.Fatal(err)
		}
		shown := digital.value()
		for range rapid.IntRange(1, 8).Draw(rt, "changes") {
			changeAnyhow(t, rt, h, s)
			for _, e := range l.take("") {
				if e.Source == "digitalTwinChangeEvents" {
					shown = applied(rt, shown, e.Body)
				} else {
					f.follow(e)
				}
			}
		}
		row, err := h.twinRow(ctx, s.Key())
		if err != nil {
			t.Fatal(err)
		}
		tw := row.Twin
		if f.version != "" && f.version != strconv.FormatInt(tw.Version, 10) {
			rt.Fatalf("followed to version %s of %d", f.version, tw.Version)
		}
		if !document.Equal(f.tags, tw.Tags) || !document.Equal(f.desired, tw.Desired.Value) || !document.Equal(f.reported, tw.Reported.Value) {
			rt.Fatalf("followed %s %s %s\nstored   %s %s %s", f.tags.AppendJSON(nil), f.desired.AppendJSON(nil), f.reported.AppendJSON(nil),
				tw.Tags.AppendJSON(nil), tw.Desired.Value.AppendJSON(nil), tw.Reported.Value.AppendJSON(nil))
		}
		if now := (&DigitalTwin{row}).value(); !document.Equal(shown, now) {
			rt.Fatalf("followed %s\nstored   %s", shown.AppendJSON(nil), now.AppendJSON(nil))
		}
	})
}

func changeAnyhow(t *testing.T, rt *rapid.T, h *Hub, s *DeviceSession) {
	t.Helper()
	admin, key := h.Admin(), s.Key()
	body := fmt.Appendf(nil, `{"tags":%s,"properties":{"desired":%s}}`, sections().Draw(rt, "tags"), sections().Draw(rt, "desired"))
	var err error
	switch rapid.IntRange(0, 4).Draw(rt, "how") {
	case 0:
		_, err = admin.UpdateTwin(ctx, key, body, "")
	case 1:
		_, err = admin.ReplaceTwin(ctx, key, body, "")
	case 2:
		_, err = s.UpdateReported(ctx, []byte(sections().Draw(rt, "reported")), 0)
	case 3:
		patch := rapid.SampledFrom([]string{`[{"op":"add","path":"/a","value":1}]`, `[{"op":"remove","path":"/b"},{"op":"add","path":"/b","value":{"x":2}}]`,
			`[{"op":"add","path":"/comp/p","value":1}]`, `[{"op":"remove","path":"/comp/p"}]`}).Draw(rt, "patch")
		_, err = admin.UpdateDigitalTwin(ctx, key.DeviceID, []byte(patch), "")
	case 4:
		_, err = s.UpdateReported(ctx, []byte(rapid.SampledFrom([]string{`{"comp":{"__t":"c","p":{"value":1,"ac":200,"av":2}}}`, `{"comp":null}`, `{"a":{"value":1,"ac":200,"av":1,"ad":"x"}}`}).Draw(rt, "report")), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// applied carries a JSON Patch out on an object: add, replace and remove at paths of objects.
func applied(t *rapid.T, v document.Value, patch []byte) document.Value {
	operations, err := document.Parse(patch)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range operations.Elements() {
		names := strings.Split(o.Get("path").Text(), "/")[1:]
		v = put(t, v, names, o.Get("op").Text(), o.Get("value"))
	}
	return v
}

func put(t *rapid.T, v document.Value, names []string, op string, value document.Value) document.Value {
	name := strings.NewReplacer("~1", "/", "~0", "~").Replace(names[0])
	there := v.Get(name).IsDefined()
	if len(names) > 1 {
		op, value = "replace", put(t, v.Get(name), names[1:], op, value)
	}
	if there != (op != "add") {
		t.Fatalf("%s of %s, which is there: %t", op, name, there)
	}
	var members []document.Member
	for _, m := range v.Members() {
		if m.Name != name {
			members = append(members, m)
		}
	}
	if op != "remove" {
		members = append(members, document.Member{Name: name, Value: value})
	}
	return document.OfMembers(members)
}

func TestDigitalTwinChangeEventsHaveTheDocumentedShape(t *testing.T) {
	h, c := newTestHub(t)
	addDevice(t, h, store.Key{DeviceID: "d"})
	l := listen(t, h)
	const source, schema = "digitalTwinChangeEvents", "digitalTwinChangeNotification"
	s := connect(t, h, "d", func(o *DeviceOptions) { o.ModelID = "dtmi:com:example:TemperatureController;1" })
	wantNotice(t, l.one(t, source), source, schema, "updateTwin", "2026-01-01T00:00:00.0000000Z",
		`[{"op":"replace","path":"/$metadata/$model","value":"dtmi:com:example:TemperatureController;1"}]`)
	connect(t, h, "d", func(o *DeviceOptions) { o.ModelID = "dtmi:com:example:TemperatureController;1" })
	if got := l.take(source); len(got) > 0 {
		t.Errorf("the same model again: %s", got[0].Body)
	}
	report := func(patch string) (twinEvent, digitalEvent store.Event) {
		t.Helper()
		if err := h.Admin().PlantReported(ctx, s.Key(), []byte(patch)); err != nil {
			t.Fatal(err)
		}
		events := l.take("")
		if len(events) != 2 || events[0].CorrelationID != events[1].CorrelationID {
			t.Fatalf("%+v", events)
		}
		return events[0], events[1]
	}
	_, e := report(`{"maxTempSinceLastReboot":34.9}`)
	wantNotice(t, e, source, schema, "updateTwin", "2026-01-01T00:00:00.0000000Z",
		`[{"op":"add","path":"/$metadata/maxTempSinceLastReboot","value":{"lastUpdateTime":"2026-01-01T00:00:00Z"}},{"op":"add","path":"/maxTempSinceLastReboot","value":34.9}]`)
	c.Advance(time.Second)
	_, e = report(`{"maxTempSinceLastReboot":16.9}`)
	wantNotice(t, e, source, schema, "updateTwin", "2026-01-01T00:00:01.0000000Z",
		`[{"op":"replace","path":"/$metadata/maxTempSinceLastReboot/lastUpdateTime","value":"2026-01-01T00:00:01Z"},{"op":"replace","path":"/maxTempSinceLastReboot","value":16.9}]`)
	_, e = report(`{"thermostat1":{"__t":"c","maxTempSinceLastReboot":29.1}}`)
	wantNotice(t, e, source, schema, "updateTwin", "2026-01-01T00:00:01.0000000Z",
		`[{"op":"add","path":"/thermostat1","value":{"$metadata":{"maxTempSinceLastReboot":{"lastUpdateTime":"2026-01-01T00:00:01Z"}},"maxTempSinceLastReboot":29.1}}]`)
	_, e = report(`{"maxTempSinceLastReboot":null}`)
	wantNotice(t, e, source, schema, "updateTwin", "2026-01-01T00:00:01.0000000Z",
		`[{"op":"remove","path":"/$metadata/maxTempSinceLastReboot"},{"op":"remove","path":"/maxTempSinceLastReboot"}]`)
	tag(t, h, s.Key(), `{"tags":{"a":1}}`)
	if got := l.take(source); len(got) > 0 {
		t.Errorf("tags: %s", got[0].Body)
	}
	other := connect(t, h, "other")
	if _, err := other.UpdateReported(ctx, []byte(`{"r":1}`), 0); err != nil {
		t.Fatal(err)
	}
	if got := l.take(source); len(got) > 0 {
		t.Errorf("without a model: %s", got[0].Body)
	}
	other.SetModel(ctx, "dtmi:b;1")
	other.SetModel(ctx, "dtmi:b;1")
	wantNotice(t, l.one(t, source), source, schema, "updateTwin", "2026-01-01T00:00:01.0000000Z", `[{"op":"replace","path":"/$metadata/$model","value":"dtmi:b;1"}]`)
}
