package twin_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
)

var stamp = twin.Stamp{Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Version: 7}

func parse(t testing.TB, text string) document.Value {
	t.Helper()
	v, err := document.Parse([]byte(text))
	if err != nil {
		t.Fatalf("parse %q: %v", text, err)
	}
	return v
}

func write(v document.Value) string { return string(v.AppendJSON(nil)) }

func TestMerge(t *testing.T) {
	for _, c := range []struct{ rule, old, patch, want string }{
		{"a member is added", `{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`},
		{"a member is replaced", `{"a":1}`, `{"a":"x"}`, `{"a":"x"}`},
		{"null removes", `{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		{"null of what is not there does nothing", `{"b":2}`, `{"a":null}`, `{"b":2}`},
		{"objects are merged", `{"o":{"a":1,"b":2}}`, `{"o":{"b":3}}`, `{"o":{"a":1,"b":3}}`},
		{"null removes at any depth", `{"o":{"p":{"a":1,"b":2}}}`, `{"o":{"p":{"a":null}}}`, `{"o":{"p":{"b":2}}}`},
		{"an object that loses its last member stays", `{"o":{"a":1}}`, `{"o":{"a":null}}`, `{"o":{}}`},
		{"an empty object changes no object", `{"o":{"a":1}}`, `{"o":{}}`, `{"o":{"a":1}}`},
		{"an object replaces what is none, without its nulls", `{"o":1}`, `{"o":{"a":1,"b":null}}`, `{"o":{"a":1}}`},
		{"an array is replaced whole", `{"a":[1,2,3]}`, `{"a":[4]}`, `{"a":[4]}`},
		{"an array replaces an object", `{"a":{"b":1}}`, `{"a":[{"c":2}]}`, `{"a":[{"c":2}]}`},
		{"integers keep every digit", `{}`, `{"a":4503599627370495,"b":0.10}`, `{"a":4503599627370495,"b":0.10}`},
		{"an empty patch changes nothing", `{"a":1}`, `{}`, `{"a":1}`},
	} {
		if got := write(twin.Merge(parse(t, c.old), parse(t, c.patch), stamp)); got != c.want {
			t.Errorf("%s: %s with %s became %s, not %s", c.rule, c.old, c.patch, got, c.want)
		}
	}
}

// documents generates objects of a few names, so that patches meet what is there.
func documents(nulls bool) *rapid.Generator[map[string]any] {
	leaves := []*rapid.Generator[any]{rapid.Bool().AsAny(), rapid.IntRange(-9, 9).AsAny(), rapid.StringN(0, 3, 9).AsAny(), rapid.SliceOfN(rapid.Int8(), 0, 2).AsAny()}
	if nulls {
		leaves = append(leaves, rapid.Just[any](nil))
	}
	value := rapid.OneOf(leaves...)
	for range 3 {
		value = rapid.OneOf(value, rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), value, 0, 3).AsAny())
	}
	return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), value, 0, 4)
}

func of(t *rapid.T, v any) document.Value {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d, err := document.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// naive is RFC 7396, which the twin's rule is, in its shortest form.
func naive(old any, patch map[string]any) map[string]any {
	merged := map[string]any{}
	if o, ok := old.(map[string]any); ok {
		maps.Copy(merged, o)
	}
	for name, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(merged, name)
		case map[string]any:
			merged[name] = naive(merged[name], v)
		default:
			merged[name] = v
		}
	}
	return merged
}

func TestMergeIsAJSONMergePatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, patch := documents(false).Draw(t, "old"), documents(true).Draw(t, "patch")
		before := of(t, old)
		text := write(before)
		got := twin.Merge(before, of(t, patch), stamp)
		if want := of(t, naive(old, patch)); !document.Equal(got, want) {
			t.Fatalf("%s, not %s", write(got), write(want))
		}
		if write(before) != text {
			t.Fatal("the old document was changed")
		}
	})
}

func TestMergingTwiceIsMergingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, patch := of(t, documents(false).Draw(t, "old")), of(t, documents(true).Draw(t, "patch"))
		once := twin.Merge(old, patch, stamp)
		if twice := twin.Merge(once, patch, stamp); !document.Equal(once, twice) {
			t.Fatalf("%s, then %s", write(once), write(twice))
		}
	})
}

// TestDifferenceTellsAReplacement: whoever has the old document and merges the difference has the new one.
func TestDifferenceTellsAReplacement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, value := of(t, documents(false).Draw(t, "old")), of(t, documents(true).Draw(t, "value"))
		replaced := twin.Replace(value, stamp)
		if got := twin.Merge(old, twin.Difference(old, replaced), stamp); !document.Equal(got, replaced) {
			t.Fatalf("%s and %s: %s", write(old), write(replaced), write(got))
		}
	})
}

// TestMetadataHasTheShapeOfItsSection: a $lastUpdated for every member at every depth, stamped where the patch wrote.
func TestMetadataHasTheShapeOfItsSection(t *testing.T) {
	later := twin.Stamp{Time: stamp.Time.Add(time.Hour), Version: 8}
	rapid.Check(t, func(t *rapid.T) {
		patch := of(t, documents(true).Draw(t, "patch"))
		old := twin.Replace(of(t, documents(true).Draw(t, "old")), stamp)
		got := twin.Merge(old, patch, later)
		checkStamps(t, got, patch, old, later)
		var meta, section map[string]any
		if err := json.Unmarshal(twin.AppendMetadata(nil, got, later.Time, later.Version), &meta); err != nil {
			t.Fatal(err)
		}
		_ = json.Unmarshal([]byte(write(got)), &section)
		if !reflect.DeepEqual(shape(meta), shape(section)) {
			t.Fatalf("metadata %v of %v", meta, section)
		}
	})
}

func checkStamps(t *rapid.T, got, patch, old document.Value, later twin.Stamp) {
	for _, m := range got.Members() {
		want := later
		p, written := patch.Member(m.Name)
		if !written {
			o, _ := old.Member(m.Name)
			want = twin.Stamp{Time: o.Updated, Version: o.Version}
		}
		if !m.Updated.Equal(want.Time) || m.Version != want.Version {
			t.Fatalf("%q is stamped %v %d, not %v", m.Name, m.Updated, m.Version, want)
		}
		if written && m.Value.Kind() == document.Object {
			checkStamps(t, m.Value, p.Value, old.Get(m.Name), later)
		}
	}
}

// shape keeps the names of what may be in an object.
func shape(o map[string]any) map[string]any {
	names := map[string]any{}
	for name, v := range o {
		if name == "$lastUpdated" || name == "$lastUpdatedVersion" {
			continue
		}
		inner, _ := v.(map[string]any)
		names[name] = shape(inner)
	}
	return names
}

func TestMetadataOfReportedHasNoVersions(t *testing.T) {
	v := twin.Merge(document.EmptyObject, parse(t, `{"o":{"a":1}}`), twin.Stamp{Time: stamp.Time})
	want := `{"$lastUpdated":"2026-01-01T00:00:00Z","o":{"$lastUpdated":"2026-01-01T00:00:00Z","a":{"$lastUpdated":"2026-01-01T00:00:00Z"}}}`
	if got := string(twin.AppendMetadata(nil, v, stamp.Time, 0)); got != want {
		t.Errorf("got %s", got)
	}
}

func nest(levels int) string {
	return strings.Repeat(`{"n":`, levels) + "1" + strings.Repeat("}", levels)
}

func TestCheckAllows(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"a":null,"b":true,"c":"","d":[1,"x",{"e":[]}],"f":{}}`,
		`{"a":4503599627370495,"b":-4503599627370496,"c":1e300,"d":123456789012345678.5}`,
		`{"` + strings.Repeat("k", 1024) + `":"` + strings.Repeat("v", 4096) + `"}`,
		`{"tags":` + nest(10)[len(`{"n":`):len(nest(10))-1] + `}`,
		`{"é-_:@/%\"":"\u0000"}`,
		nest(11), // ten objects inside the section
	} {
		if problem := twin.Check(parse(t, text)); problem != "" {
			t.Errorf("%.60s: %s", text, problem)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for text, why := range map[string]string{
		`[]`:                                    "array",
		`{"":1}`:                                "no name",
		`{"a.b":1}`:                             "not allowed",
		`{"$a":1}`:                              "not allowed",
		`{"$version":1}`:                        "not allowed",
		`{"a b":1}`:                             "not allowed",
		`{"a#":1}`:                              "not allowed",
		`{"a\u0007":1}`:                         "not allowed",
		`{"a\u0085":1}`:                         "not allowed",
		`{"o":{"p":[{"$x":1}]}}`:                "not allowed",
		`{"a":[1,null]}`:                        "null",
		`{"a":[[null]]}`:                        "null",
		`{"a":[{"b":{"c":null}}]}`:              "null",
		`{"a":4503599627370496}`:                "integer",
		`{"a":-4503599627370497}`:               "integer",
		`{"a":5283920058631410000}`:             "integer", // azure-iot-sdk-csharp, issue 2958
		`{"a":1e400}`:                           "too large",
		`{"a":` + strings.Repeat("1", 65) + `}`: "digits",
		`{"` + strings.Repeat("é", 513) + `":1}`:    "longer",
		`{"a":"` + strings.Repeat("é", 2049) + `"}`: "longer",
		nest(12):                        "deeper",
		`{"a":[[[[[[[[[[[1]]]]]]]]]]]}`: "deeper",
	} {
		if problem := twin.Check(parse(t, text)); !strings.Contains(problem, why) {
			t.Errorf("%.60s: %q, not %q", text, problem, why)
		}
	}
}

// TestSize follows the article's section Device twin size.
func TestSize(t *testing.T) {
	for text, want := range map[string]int{
		`{}`:                         0,
		`{"abc":"defg"}`:             7,
		`{"é":"ü"}`:                  4,
		`{"a":1,"b":1.5e3}`:          18,
		`{"a":true,"b":false}`:       10,
		`{"o":{"a":1},"l":[1,"xy"]}`: 1 + 1 + 8 + 1 + 8 + 2,
		`{"a":"x\u0001\u0085y"}`:     3,
		`{"a":null}`:                 1,
	} {
		if got := twin.Size(parse(t, text)); got != want {
			t.Errorf("%s has %d bytes, not %d", text, got, want)
		}
	}
}

// TestLength: what Size leaves out counts, and nothing counts less than it takes.
func TestLength(t *testing.T) {
	for text, want := range map[string]int{`{}`: 2, `{"a":[{},{}]}`: 15, `{"a":"\u0001\u0001"}`: 21, `{"a":12345678901234567890}`: 27, `{"\"":[true,null,"é"]}`: 27} {
		if got := twin.Length(parse(t, text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := of(t, documents(true).Draw(t, "document"))
		if length, written := twin.Length(v), len(write(v)); length < written || length > 3*written+10 {
			t.Errorf("%s: %d, and %d bytes", write(v), length, written)
		}
	})
}

func TestWithoutDropsWhatTheHubWrites(t *testing.T) {
	for text, want := range map[string]string{
		`{"$metadata":{"a":1},"$version":3,"a":1}`: `{"a":1}`,
		`{"a":1}`:                    `{"a":1}`,
		`{"$other":1}`:               `{"$other":1}`,
		`{"$etag":"x","$version":1}`: `{"$etag":"x"}`,
		`{"!":1,"$version":1}`:       `{"!":1}`,
		`{}`:                         `{}`,
	} {
		if got := write(twin.Without(parse(t, text))); got != want {
			t.Errorf("%s became %s", text, got)
		}
	}
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1}}`), []byte(`{"a":{"b":null,"c":[1,{"d":null}]}}`))
	f.Add([]byte(`{"$version":1}`), []byte(nest(40)))
	f.Fuzz(func(t *testing.T, old, patch []byte) {
		o, err := document.Parse(old)
		p, err2 := document.Parse(patch)
		if err != nil || err2 != nil || twin.Check(o) != "" || twin.Check(p) != "" {
			return
		}
		merged := twin.Merge(o, p, stamp)
		if again := twin.Merge(merged, p, stamp); !document.Equal(merged, again) {
			t.Fatalf("%s, then %s", write(merged), write(again))
		}
		if size := twin.Size(merged); size > twin.Size(o)+twin.Size(p) {
			t.Fatalf("%s is larger than its parts", write(merged))
		}
		if !json.Valid(twin.AppendMetadata(nil, merged, stamp.Time, 1)) {
			t.Fatal(fmt.Sprint("the metadata is no JSON: ", write(merged)))
		}
	})
}
