package query_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
)

// operand makes text of an expression of any type, of what is missing, too.
var operand = rapid.SampledFrom([]string{`1`, `2`, `2.5`, `'1'`, `'a'`, `true`, `false`, `null`, `undefined`, `tags.missing`, `tags.floor`, `tags.list`, `tags.location`, `deviceId`, `tags.nothing`})

// outcome is -1 for false, 0 for undefined, 1 for true.
func outcome(t *rapid.T, condition string, r query.Row) int {
	n := 0
	for by, text := range map[int]string{1: condition, -1: "NOT (" + condition + ")"} {
		c, err := query.ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		if c.Matches(r) {
			n += by
		}
	}
	return n
}

// TestLogicHasThreeValues holds De Morgan's laws and the orders of operands for true, false and undefined.
func TestLogicHasThreeValues(t *testing.T) {
	r := parseRow(t, exampleTwin)
	rapid.Check(t, func(t *rapid.T) {
		a := operand.Draw(t, "a") + rapid.SampledFrom([]string{" = ", " != ", " < ", " >= "}).Draw(t, "operator") + operand.Draw(t, "b")
		b := operand.Draw(t, "c") + " = " + operand.Draw(t, "d")
		x, y := outcome(t, a, r), outcome(t, b, r)
		for text, want := range map[string]int{
			"(%[1]s) AND (%[2]s)": min(x, y), "(%[2]s) AND (%[1]s)": min(x, y), "(%[1]s) OR (%[2]s)": max(x, y), "(%[2]s) OR (%[1]s)": max(x, y),
			"NOT (%[1]s) OR NOT (%[2]s)": -min(x, y), "NOT ((%[1]s) OR (%[2]s))": -max(x, y),
		} {
			if got := outcome(t, fmt.Sprintf(text, a, b), r); got != want {
				t.Fatalf("%s with %s (%d) and %s (%d): got %d, want %d", text, a, x, b, y, got, want)
			}
		}
	})
}

// TestMembershipIsAChainOfComparisons holds for any values.
func TestMembershipIsAChainOfComparisons(t *testing.T) {
	r := parseRow(t, exampleTwin)
	constant := rapid.SampledFrom([]string{`1`, `3`, `2.5`, `'d1'`, `'a'`, `true`, `false`, `null`, `undefined`, `[1]`})
	rapid.Check(t, func(t *rapid.T) {
		x, a, b := operand.Draw(t, "x"), constant.Draw(t, "a"), constant.Draw(t, "b")
		for text, same := range map[string]string{
			x + " IN [ " + a + ", " + b + "]":  x + " = " + a + " OR " + x + " = " + b,
			x + " NIN [ " + a + ", " + b + "]": x + " != " + a + " AND " + x + " != " + b,
		} {
			if got, want := outcome(t, text, r), outcome(t, same, r); got != want {
				t.Fatalf("%s is %d, but %s is %d", text, got, same, want)
			}
		}
	})
}

// conditions makes conditions about device ids, joined in any way.
func conditions(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		form := rapid.IntRange(0, 8).Draw(t, "form")
		if depth == 0 {
			form %= 6
		}
		switch form {
		case 0:
			return "deviceId = " + rapid.SampledFrom([]string{`'d1'`, `'d2'`, `1`, `null`}).Draw(t, "id")
		case 1:
			return rapid.SampledFrom([]string{`'d1' == id`, `"d2" = devices.deviceId`, `deviceId[0] = 'd1'`, `deviceId.x = 'd1'`}).Draw(t, "id")
		case 2:
			return rapid.SampledFrom([]string{`deviceId != 'd1'`, `deviceId < 'd2'`, `deviceId >= 'd1'`, `deviceId = deviceId`}).Draw(t, "id")
		case 3:
			return "deviceId IN " + rapid.SampledFrom([]string{`['d1', 'd3']`, `['d2']`, `[]`, `[1, 'd1']`}).Draw(t, "ids")
		case 4:
			return "deviceId NIN " + rapid.SampledFrom([]string{`['d1', 'd3']`, `['d2']`, `[]`}).Draw(t, "ids")
		case 5:
			return rapid.SampledFrom([]string{`tags.floor = 3`, `tags.floor = 4`, `tags.missing = 1`, `tags.floor IN ['d1']`, `true`}).Draw(t, "other")
		case 6:
			return "NOT (" + conditions(depth-1).Draw(t, "of") + ")"
		}
		word := " AND "
		if form == 8 {
			word = " OR "
		}
		return "(" + conditions(depth-1).Draw(t, "left") + word + conditions(depth-1).Draw(t, "right") + ")"
	})
}

// TestNoDeviceIsMissedByItsID holds for any condition: what it selects is among the devices that it says it is about.
func TestNoDeviceIsMissedByItsID(t *testing.T) {
	r, narrowed := parseRow(t, exampleTwin), 0
	rapid.Check(t, func(t *rapid.T) {
		text := conditions(3).Draw(t, "condition")
		c, err := query.ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		ids, bounded := c.DeviceIDs()
		if bounded {
			narrowed++
		}
		if bounded && !slices.Contains(ids, "d1") && c.Matches(r) {
			t.Fatalf("%s selects d1, but says that it selects only %q", text, ids)
		}
	})
	if narrowed == 0 {
		t.Error("no condition was about certain devices")
	}
}

// TestIntegersCompareExactly holds for all of 64 bits.
func TestIntegersCompareExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.Int64().Draw(t, "a")
		b := rapid.OneOf(rapid.Int64(), rapid.Just(a), rapid.Just(a^1)).Draw(t, "b")
		r := row{document.OfMembers([]document.Member{{Name: "tags", Value: document.OfMembers([]document.Member{{Name: "n", Value: document.OfInt(a)}})}})}
		for operator, want := range map[string]bool{"=": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b} {
			text := "tags.n " + operator + " " + strconv.FormatInt(b, 10)
			c, err := query.ParseCondition(text)
			if err != nil {
				t.Fatal(err)
			}
			if c.Matches(r) != want {
				t.Fatalf("%s with %d: want %t", text, a, want)
			}
		}
	})
}

// TestEvaluationCostsNoMemory holds for conditions that make no texts.
func TestEvaluationCostsNoMemory(t *testing.T) {
	r := query.Row(parseRow(t, exampleTwin))
	for _, text := range []string{
		`tags.location.region = 'US' AND properties.reported.cfg.every >= 60`,
		`deviceId IN ['a', 'd1'] AND NOT IS_DEFINED(tags.missing) AND tags.half * 2 - 1 < 5 AND STARTSWITH(deviceId, 'd')`,
		`ARRAY_CONTAINS(parentScopes, 'x') AND LENGTH(deviceId) = 2 AND SUBSTRING(deviceId, 0, 1) = 'd' AND tags.floor != null AND ABS(-tags.floor) = 3`,
	} {
		c := parseCondition(t, text)
		if n := testing.AllocsPerRun(100, func() {
			if !c.Matches(r) {
				t.Fatalf("%s does not match", text)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}
