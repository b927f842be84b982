package document

import (
	"strings"
	"testing"
)

// FuzzScan: the fast way reads exactly what encoding/json reads, and reads it as the same.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,2.5e3,"x",null,true,false,{"b":{}}]}`, ` [ ] `, `{}`, `"\ud83d\ude00\ud800\u00e4\n"`, "\"\xff\"", "\"\xc3\xa4\"", `-0.10e+5`, `01`, `1.`, `.5`, `-`, `1e`, `{"a":1,"a":{"a":1}}`, `{"a":1,}`, `[1,]`,
		`{"a" 1}`, `nul`, `truex`, `1 2`, "\"\x01\"", `"\x"`, `"\u12"`, `"\`, `"a`, "\u00a01", strings.Repeat("[", 101) + strings.Repeat("]", 101), strings.Repeat("[", 102) + strings.Repeat("]", 102),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		want, err := parse(text)
		got, ok := Scan(text)
		if ok != (err == nil) {
			t.Fatalf("%q: read %v, and encoding/json says %v", text, ok, err)
		}
		if ok && !Equal(got, want) {
			t.Fatalf("%q was read as %s, not as %s", text, got.AppendJSON(nil), want.AppendJSON(nil))
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := []byte(`{"deviceId":"d","temperature":21.5,"humidity":60,"location":{"building":"43","floor":1},"history":[20.5,20.8,21.1]}`)
	for name, read := range map[string]func([]byte) (Value, error){"scan": Parse, "tokens": parse} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := read(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
