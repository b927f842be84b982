package amqpsrv

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

func num(n int64) *int64 { return &n }

func TestSelectorPositions(t *testing.T) {
	for text, want := range map[string]hub.Position{
		"amqp.annotation.x-opt-offset > '-1'":                       {},
		"amqp.annotation.x-opt-offset > '@latest'":                  {Latest: true},
		"amqp.annotation.x-opt-offset > '@LATEST'":                  {Latest: true},
		"amqp.annotation.x-opt-offset >= '120'":                     {Offset: num(120)},
		"amqp.annotation.x-opt-offset > '120'":                      {Offset: num(120), Exclusive: true},
		"amqp.annotation.x-opt-sequence-number > '7'":               {Sequence: num(7), Exclusive: true},
		"amqp.annotation.x-opt-sequence-number >= '0'":              {Sequence: num(0)},
		"amqp.annotation.x-opt-sequence-number > '-1'":              {},
		"amqp.annotation.x-opt-sequence-number > 2995":              {Sequence: num(2995), Exclusive: true},
		"  AMQP.annotation.x-opt-sequence-number>\t'7' ":            {Sequence: num(7), Exclusive: true},
		`amqp.annotation.x-opt-sequence-number > "7"`:               {Sequence: num(7), Exclusive: true},
		"amqp.annotation.x-opt-enqueued-time > '1700000000000'":     {Enqueued: time.UnixMilli(1700000000001).UTC()},
		"amqp.annotation.x-opt-enqueued-time >= '1700000000000'":    {Enqueued: time.UnixMilli(1700000000000).UTC()},
		"amqp.annotation.x-opt-enqueuedtimeutc >= '1700000000000'":  {Enqueued: time.UnixMilli(1700000000000).UTC()},
		"amqp.annotation.x-opt-enqueued-time > '-62135596800000'":   {},
		"amqp.annotation.x-opt-enqueued-time > '-1'":                {},
		"amqp.annotation.x-opt-offset > '9223372036854775807'":      {Offset: num(1<<63 - 1), Exclusive: true},
		"amqp.annotation.x-opt-offset >= ' 12 '":                    {Offset: num(12)},
		"amqp.annotation.x-opt-enqueued-time >= '253402300799999'":  {Enqueued: time.UnixMilli(253402300799999).UTC()},
		"amqp.annotation.x-opt-enqueued-time > '1700000000000'    ": {Enqueued: time.UnixMilli(1700000000001).UTC()},
	} {
		got, err := parseSelector(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestSelectorRefusals(t *testing.T) {
	for _, text := range []string{
		"", ">", "x-opt-offset > '1'", "amqp.annotation.x-opt-offset", "amqp.annotation.x-opt-offset = '1'", "amqp.annotation.x-opt-offset < '1'",
		"amqp.annotation.x-opt-offset > '1", "amqp.annotation.x-opt-offset > one", "amqp.annotation.x-opt-offset > ''", "amqp.annotation.x-opt-offset > '1' AND true",
		"amqp.annotation.x-opt-partition-key > '1'", "amqp.annotation.x-opt-enqueued-time > '9223372036854775807'", "amqp.annotation.x-opt-offset > '99999999999999999999'",
	} {
		if p, err := parseSelector(text); err == nil {
			t.Errorf("%q is taken for %+v", text, p)
		}
	}
}

// A filter's value comes described by number or symbol, or bare, as a string, a symbol or binary.
func TestSelectorForms(t *testing.T) {
	const text = "amqp.annotation.x-opt-offset >= '120'"
	for _, v := range []any{
		amqp10.Described{Descriptor: uint64(0x0000468C00000004), Value: text},
		amqp10.Described{Descriptor: amqp10.Symbol(selectorFilter), Value: text},
		amqp10.Described{Descriptor: amqp10.Symbol(selectorFilter), Value: []byte(text)},
		text, []byte(text), amqp10.Symbol(text),
	} {
		p, ignored, err := positionOf(amqp10.Map{{Key: amqp10.Symbol("other"), Value: true}, {Key: amqp10.Symbol(selectorFilter), Value: v}})
		if err != nil || p.Offset == nil || *p.Offset != 120 || !cmp.Equal(ignored, []string{"other"}) {
			t.Errorf("%#v: %+v, %v, %v", v, p, ignored, err)
		}
	}
	if _, _, err := positionOf(amqp10.Map{{Key: amqp10.Symbol(selectorFilter), Value: int32(1)}}); err == nil {
		t.Error("a number is taken for a selector")
	}
	if p, _, err := positionOf(nil); err != nil || p != (hub.Position{}) {
		t.Errorf("no filter: %+v, %v", p, err)
	}
}

// FuzzSelector: no text panics, and every accepted selector names at most one place.
func FuzzSelector(f *testing.F) {
	f.Add("amqp.annotation.x-opt-offset > '@latest'")
	f.Add("amqp.annotation.x-opt-sequence-number >= 12")
	f.Add("amqp.annotation.x-opt-enqueued-time > '1700000000000'")
	f.Add("a>'")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseSelector(text)
		if err != nil {
			return
		}
		places := 0
		for _, set := range []bool{p.Latest, p.Sequence != nil, p.Offset != nil, !p.Enqueued.IsZero()} {
			if set {
				places++
			}
		}
		if places > 1 || (p.Offset != nil && *p.Offset < 0) || (p.Sequence != nil && *p.Sequence < 0) {
			t.Fatalf("%q: %+v", text, p)
		}
	})
}
