package amqp10

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEncodings: every encoding of AMQP 1.6, and which of them we choose.
func TestEncodings(t *testing.T) {
	tests := []struct {
		hex    string
		value  any
		chosen bool // what AppendValue makes of value
	}{
		{"40", nil, true},
		{"41", true, true}, {"42", false, true}, {"56 01", true, false}, {"56 00", false, false},
		{"50 07", uint8(7), true},
		{"60 01 00", uint16(256), true},
		{"43", uint32(0), true}, {"52 ff", uint32(255), true}, {"70 00000100", uint32(256), true}, {"70 00000001", uint32(1), false},
		{"44", uint64(0), true}, {"53 01", uint64(1), true}, {"80 ffffffffffffffff", uint64(math.MaxUint64), true},
		{"51 ff", int8(-1), true},
		{"61 fffe", int16(-2), true},
		{"54 80", int32(-128), true}, {"71 ffffff7f", int32(-129), true}, {"71 00000001", int32(1), false},
		{"55 7f", int64(127), true}, {"81 0000000000000080", int64(128), true},
		{"72 3fc00000", float32(1.5), true},
		{"82 bff8000000000000", -1.5, true},
		{"73 0001f600", Char('😀'), true},
		{"74 01020304", Decimal32{1, 2, 3, 4}, true},
		{"84 0102030405060708", Decimal64{1, 2, 3, 4, 5, 6, 7, 8}, true},
		{"94 000102030405060708090a0b0c0d0e0f", Decimal128{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, true},
		{"83 ffffc77cedd32800", Timestamp(-62135596800000), true}, // the year 1
		{"98 000102030405060708090a0b0c0d0e0f", UUID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, true},
		{"a0 02 0102", []byte{1, 2}, true}, {"b0 00000002 0102", []byte{1, 2}, false}, {"a0 00", []byte{}, true},
		{"a1 02 c3a4", "ä", true}, {"b1 00000001 61", "a", false},
		{"a3 01 61", Symbol("a"), true}, {"b3 00000001 61", Symbol("a"), false},
		{"45", List{}, true}, {"c0 01 00", List{}, false}, {"d0 00000004 00000000", List{}, false},
		{"c0 04 02 41 5001", List{true, uint8(1)}, true}, {"d0 00000007 00000002 41 5001", List{true, uint8(1)}, false},
		{"c1 01 00", Map{}, true}, {"d1 00000004 00000000", Map{}, false},
		{"c1 06 02 a30161 5001", Map{{Symbol("a"), uint8(1)}}, true},
		{"d1 00000009 00000002 a30161 5001", Map{{Symbol("a"), uint8(1)}}, false},
		{"e0 06 02 a3 0161 0162", []Symbol{"a", "b"}, true}, {"f0 0000000e 00000002 b3 00000001 61 00000000", []Symbol{"a", ""}, false},
		{"e0 04 01 a1 0161", []string{"a"}, true},
		{"e0 02 00 a1", []string{}, true}, {"e0 02 00 a3", []Symbol{}, true}, {"e0 02 00 40", Array{}, true},
		{"e0 0a 02 71 00000001 00000002", Array{int32(1), int32(2)}, true}, {"e0 04 02 54 01 02", Array{int32(1), int32(2)}, false},
		{"e0 04 02 56 01 00", Array{true, false}, true}, {"e0 02 02 41", Array{true, true}, false},
		{"e0 07 01 b0 00000001 61", Array{[]byte("a")}, true}, {"e0 04 01 a0 01 61", Array{[]byte("a")}, false},
		{"e0 05 01 c0 02 01 40", Array{List{nil}}, false},
		{"e0 05 02 00 5309 45", Array{Described{uint64(9), List{}}, Described{uint64(9), List{}}}, false},
		{"00 5375 a0 01 61", Described{uint64(0x75), []byte("a")}, true},
		{"00 a3 01 61 00 43 40", Described{Symbol("a"), Described{uint32(0), nil}}, true},
	}
	for _, tt := range tests {
		b := unhex(t, tt.hex)
		v, rest, err := DecodeValue(append(b, 0xff), Limits{})
		if err != nil || len(rest) != 1 {
			t.Errorf("%s: %v, %d bytes left", tt.hex, err, len(rest))
			continue
		}
		if diff := cmp.Diff(tt.value, v); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.hex, diff)
		}
		d := newDecoder(b, Limits{})
		if d.skip(); d.err != nil || d.left() != 0 {
			t.Errorf("%s: skip left %d bytes, %v", tt.hex, d.left(), d.err)
		}
		if got, err := AppendValue(nil, tt.value); tt.chosen && (err != nil || !bytes.Equal(got, b)) {
			t.Errorf("%#v is encoded as %x, want %x", tt.value, got, b)
		}
	}
}

func TestMalformedValues(t *testing.T) {
	for _, s := range []string{
		"", "00", "00 43", "3f", "5f", "50", "60 00", "70 000000", "80 00000000000000", "98 00",
		"a1 02 61", "b1 00000002 61", "b1 ffffffff 61", "a1", "b1 0000",
		"c0", "c0 00", "c0 01 01", "c0 02 02 40", "c0 05 01 40", "d0 00000003 000000", "d0 00000005 ffffffff 40", "d0 ffffffff 00000001 40",
		"c1 03 01 40 40", "c1 02 02 40", // a key without value
		"e0 01 00", "e0 00", "e0 03 02 a1 05", "e0 03 01 00 43", "e0 03 02 50 01", "f0 00000005 7fffffff a1", "f0 00000005 ffffffff 40",
		"e0 06 01 00 43 00 43 40",
	} {
		if v, _, err := DecodeValue(unhex(t, s), Limits{}); err == nil {
			t.Errorf("%s decoded to %#v", s, v)
		}
	}
	if _, err := AppendValue(nil, Map{{"a", List{1}}}); err == nil || !strings.Contains(err.Error(), "int") {
		t.Errorf("a Go int was encoded: %v", err)
	}
	if _, err := AppendValue(nil, Array{int32(1), int64(2)}); err == nil {
		t.Error("a mixed array was encoded")
	}
}

// TestLimitsHoldBeforeMemoryIsSpent: what a length or a count claims must not be set aside on its word.
func TestLimitsHoldBeforeMemoryIsSpent(t *testing.T) {
	nested := append(bytes.Repeat([]byte{codeDescribed, codeUlong0}, 1000), codeNull)
	lists := []byte{codeNull}
	for range 40 {
		b, start := openCompound(nil, codeList8)
		lists = closeCompound(append(b, lists...), start, 1)
	}
	tests := map[string][]byte{
		"list of half a million":        unhex(t, "d0 0007a124 0007a120 40"),
		"array of half a million":       unhex(t, "f0 0007a125 0007a120 50 01"),
		"array of 2^31 of width zero":   unhex(t, "f0 00000005 7fffffff 41"),
		"array of a million empty ones": unhex(t, "f0 00000005 000f4240 45"),
		"string of half a million":      unhex(t, "b1 0007a120 61"),
		"nested descriptors":            nested,
		"nested lists":                  lists,
		"list of a million nulls":       append(unhex(t, "d0 000f4244 000f4240"), bytes.Repeat([]byte{codeNull}, 1e6)...),
		"map of a million nulls":        append(unhex(t, "d1 000f4244 000f4240"), bytes.Repeat([]byte{codeNull}, 1e6)...),
	}
	for name, b := range tests {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := DecodeValue(b, Limits{})
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: decoded", name)
		}
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 64<<10 {
			t.Errorf("%s: %d bytes allocated", name, spent)
		}
	}
	if _, _, err := DecodeValue(lists, Limits{Depth: 41}); err != nil {
		t.Errorf("lists nested 40 deep with a limit of 41: %v", err)
	}
	if _, _, err := DecodeValue(make([]byte, 11), Limits{Size: 10}); !errors.Is(err, errSize) {
		t.Errorf("beyond Size: %v", err)
	}
}

// anyValue draws a value of any AMQP type that can be encoded.
func anyValue(depth int) *rapid.Generator[any] {
	simple := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Uint8().AsAny(), rapid.Uint16().AsAny(), rapid.Uint32().AsAny(), rapid.Uint64().AsAny(),
		rapid.Int8().AsAny(), rapid.Int16().AsAny(), rapid.Int32().AsAny(), rapid.Int64().AsAny(), rapid.Float32().AsAny(), rapid.Float64().AsAny(),
		rapid.Custom(func(t *rapid.T) any { return Char(rapid.Rune().Draw(t, "char")) }),
		rapid.Custom(func(t *rapid.T) any { return Timestamp(rapid.Int64().Draw(t, "ms")) }),
		rapid.Custom(func(t *rapid.T) any { return UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")) }),
		rapid.Custom(func(t *rapid.T) any { return Symbol(rapid.StringN(0, 300, 300).Draw(t, "symbol")) }),
		rapid.StringN(0, 300, 300).AsAny(), rapid.SliceOfN(rapid.Byte(), 0, 300).AsAny(),
		rapid.SliceOf(rapid.String()).AsAny(),
	}
	simple = append(simple, rapid.Custom(func(t *rapid.T) any {
		elements := rapid.SampledFrom(simple).Draw(t, "element type")
		if _, ok := arrayCode(elements.Draw(t, "example")); !ok {
			return []Symbol{"a", "b"}
		}
		return append(Array{}, rapid.SliceOfN(elements, 0, 5).Draw(t, "array")...)
	}))
	if depth == 0 {
		return rapid.OneOf(simple...)
	}
	inner := anyValue(depth - 1)
	return rapid.OneOf(append(simple,
		rapid.Custom(func(t *rapid.T) any { return append(List{}, rapid.SliceOfN(inner, 0, 4).Draw(t, "list")...) }),
		rapid.Custom(func(t *rapid.T) any { return anyMap(inner).Draw(t, "map") }),
		rapid.Custom(func(t *rapid.T) any { return Described{inner.Draw(t, "descriptor"), inner.Draw(t, "described")} }),
	)...)
}

func anyMap(values *rapid.Generator[any]) *rapid.Generator[Map] {
	return rapid.Custom(func(t *rapid.T) Map {
		m := Map{}
		for range rapid.IntRange(0, 4).Draw(t, "entries") {
			m = append(m, Entry{values.Draw(t, "key"), values.Draw(t, "value")})
		}
		return m
	})
}

// equalValues compares by encoding, so that NaN equals itself.
func equalValues(a, b any) bool {
	x, err1 := AppendValue(nil, a)
	y, err2 := AppendValue(nil, b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func TestValuesSurviveTheirEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyValue(3).Draw(t, "value")
		b, err := AppendValue(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, err := DecodeValue(b, Limits{})
		if err != nil || len(rest) != 0 || !equalValues(v, got) {
			t.Fatalf("%#v became %#v, %v, %d bytes left", v, got, err, len(rest))
		}
	})
}

func TestMapLookup(t *testing.T) {
	m := Map{{Symbol("a"), "1"}, {"b", Symbol("2")}, {"a", "later"}, {uint64(3), "x"}, {"null", nil}}
	if m.Text("a") != "1" || m.Text("b") != "2" || m.Text("null") != "" || m.Get("c") != nil {
		t.Errorf("found %q, %q, %q, %v", m.Text("a"), m.Text("b"), m.Text("null"), m.Get("c"))
	}
	if _, ok := m.Lookup("null"); !ok {
		t.Error("a null value counts as absent")
	}
}

func TestSymbolsField(t *testing.T) {
	for in, want := range map[any][]Symbol{
		Symbol("a"): {"a"}, "a": {"a"}, nil: nil,
	} {
		b, _ := AppendValue(nil, in)
		d := newDecoder(b, Limits{})
		if got := d.symbols(); d.err != nil || !cmp.Equal(got, want) {
			t.Errorf("%v: %v, %v", in, got, d.err)
		}
	}
	for _, tt := range []struct {
		in   any
		want []Symbol
	}{{[]Symbol{"a", "b"}, []Symbol{"a", "b"}}, {[]string{"a"}, []Symbol{"a"}}, {List{Symbol("a"), int32(1)}, []Symbol{"a"}}, {Array{}, nil}} {
		b, _ := AppendValue(nil, tt.in)
		d := newDecoder(b, Limits{})
		if got := d.symbols(); d.err != nil || !cmp.Equal(got, tt.want) {
			t.Errorf("%v: %v, %v", tt.in, got, d.err)
		}
	}
	d := newDecoder([]byte{codeTrue}, Limits{})
	if d.symbols(); d.err == nil {
		t.Error("a boolean passed for symbols")
	}
}

// TestIntegersOfTheWrongWidth are understood as long as they fit.
func TestIntegersOfTheWrongWidth(t *testing.T) {
	for _, v := range []any{uint8(7), uint16(7), uint32(7), uint64(7), int8(7), int16(7), int32(7), int64(7), Timestamp(7), uint32(0), uint64(0)} {
		b, _ := AppendValue(nil, v)
		d := newDecoder(b, Limits{})
		if got := d.uintField(); d.err != nil || got != 7 && got != 0 {
			t.Errorf("%T: %d, %v", v, got, d.err)
		}
	}
	for _, v := range []any{int8(-1), int16(-1), int32(-1), int64(-1), uint64(1 << 32), "7"} {
		b, _ := AppendValue(nil, v)
		d := newDecoder(b, Limits{})
		if d.uintField(); d.err == nil {
			t.Errorf("%T %v passed for a uint", v, v)
		}
	}
}

func TestText(t *testing.T) {
	u := UUID(unhex(t, "0f8fad5bd9cb469fa16570867728950e"))
	if got := u.String(); got != "0f8fad5b-d9cb-469f-a165-70867728950e" {
		t.Error(got)
	}
	if got := Timestamp(-62135596800000).Time().String(); got != "0001-01-01 00:00:00 +0000 UTC" {
		t.Error(got)
	}
	if at := Timestamp(1234567890123); TimestampOf(at.Time()) != at {
		t.Error(TimestampOf(at.Time()))
	}
	if got := (&Error{"c", "d", nil}).Error() + (&Error{Condition: "e"}).Error(); got != "c: de" {
		t.Error(got)
	}
	if RoleSender.String()+RoleReceiver.String() != "senderreceiver" {
		t.Error("roles are misnamed")
	}
}
