package document_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/document"
)

func parse(t testing.TB, text string) document.Value {
	t.Helper()
	v, err := document.Parse([]byte(text))
	if err != nil {
		t.Fatalf("parse %q: %v", text, err)
	}
	return v
}

func TestParseAndWriteKeepEveryDigit(t *testing.T) {
	for text, want := range map[string]string{
		`9007199254740993`:                      `9007199254740993`,
		`-0.10`:                                 `-0.10`,
		`1e400`:                                 `1e400`,
		` { "b" : [1, {"x":null}], "a":true } `: `{"a":true,"b":[1,{"x":null}]}`,
		`{"a":1,"a":2}`:                         `{"a":2}`,
		`"\u0041\n\"\\\u2028\u0001"`:            `"A\n\"\\` + "\u2028" + `\u0001"`,
		`{}`:                                    `{}`,
		`[]`:                                    `[]`,
		`null`:                                  `null`,
	} {
		if got := string(parse(t, text).AppendJSON(nil)); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestParseRefusesWhatIsNoJSON(t *testing.T) {
	for _, text := range []string{``, ` `, `{`, `[1,]`, `{"a":1,}`, `{"a"}`, `{1:2}`, `01`, `1.`, `nul`, `"a`, `1 2`, `{}x`, `[1 2]`, "\"\x01\"", `NaN`, `'a'`, `{"a" 1}`} {
		if v, err := document.Parse([]byte(text)); err == nil {
			t.Errorf("%q was read as %s", text, v.AppendJSON(nil))
		}
	}
	if _, err := document.Parse([]byte(strings.Repeat("[", 100_000))); err == nil {
		t.Error("a hundred thousand open brackets were read")
	}
	deep := strings.Repeat("[", 101) + strings.Repeat("]", 101)
	if _, err := document.Parse([]byte(deep)); err != nil {
		t.Errorf("101 levels: %v", err)
	}
	if _, err := document.Parse([]byte("[" + deep + "]")); err == nil {
		t.Error("102 levels were read")
	}
}

func TestNumbersThatJSONCannotWriteAreUndefined(t *testing.T) {
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if v := document.OfFloat(f); v.IsDefined() {
			t.Errorf("%v became %s", f, v.AppendJSON(nil))
		}
	}
	if v := document.OfFloat(math.MaxFloat64); !v.IsDefined() {
		t.Error("the largest float64 was lost")
	}
}

// TestWritingAgreesWithEncodingJSON holds for any value that encoding/json makes.
func TestWritingAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.MapOf(rapid.String(), rapid.OneOf(rapid.String().AsAny(), rapid.Float64Range(-1e9, 1e9).AsAny(), rapid.Bool().AsAny(), rapid.SliceOf(rapid.Int()).AsAny())).Draw(t, "value")
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		v, err := document.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := document.Parse(v.AppendJSON(nil))
		if err != nil || !document.Equal(v, again) {
			t.Fatalf("%s was written as %s: %v", text, v.AppendJSON(nil), err)
		}
		var out, want any
		_ = json.Unmarshal(v.AppendJSON(nil), &out)
		_ = json.Unmarshal(text, &want)
		a, _ := json.Marshal(out)
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Fatalf("%s became %s", b, a)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e3,"x",null,true,{"b":{}}]}`, `[[[[]]]]`, `"\ud800"`, "\"\xff\"", `1e999`, `{"a":1,"a":{"a":1}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := document.Parse(text)
		if err == nil && !json.Valid(text) {
			t.Fatalf("%q is no JSON, but was read", text)
		}
		if err != nil {
			return
		}
		b := v.AppendJSON(nil)
		again, err := document.Parse(b)
		if err != nil || !document.Equal(v, again) {
			t.Fatalf("%q was written as %q: %v", text, b, err)
		}
	})
}
