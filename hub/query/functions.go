package query

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/iolite-emulator/iolite/document"
)

// maxText is the longest text that a function may make, in bytes; a longer one is undefined. Texts in twins have at most 4 KiB.
const maxText = 16 << 10

// function is a function of the language. It evaluates its arguments itself, so that calling it costs no memory.
type function struct {
	least, most int // arguments
	apply       func(Row, []expr) value
}

// arguments says how many the function takes.
func (f function) arguments() string {
	switch {
	case f.most == 1:
		return "1 argument"
	case f.least == f.most:
		return fmt.Sprint(f.least, " arguments")
	case f.most == math.MaxInt:
		return fmt.Sprint(f.least, " or more arguments")
	}
	return fmt.Sprint(f.least, " or ", f.most, " arguments")
}

// functions are all functions by their names. The article lists IS_DEFINED for twins and jobs, and the rest for routes; tools use more of them
// on twins. Twin queries want STARTSWITH and ENDSWITH, routes STARTS_WITH and ENDS_WITH; in queries both do. Routes have those in routeFunctions.
var functions = map[string]function{
	"IS_DEFINED":   test(func(v value) bool { return v.kind != document.Undefined }),
	"IS_NULL":      test(func(v value) bool { return v.kind == document.Null }),
	"IS_BOOL":      test(func(v value) bool { return v.kind == document.Bool }),
	"IS_NUMBER":    test(func(v value) bool { return v.kind == document.Number }),
	"IS_STRING":    test(func(v value) bool { return v.kind == document.String }),
	"IS_ARRAY":     test(func(v value) bool { return v.kind == document.Array }),
	"IS_OBJECT":    test(func(v value) bool { return v.kind == document.Object }),
	"IS_PRIMITIVE": test(func(v value) bool { return v.kind != document.Undefined && v.kind < document.Array }),

	"STARTSWITH":  compareTexts(strings.HasPrefix),
	"STARTS_WITH": compareTexts(strings.HasPrefix),
	"ENDSWITH":    compareTexts(strings.HasSuffix),
	"ENDS_WITH":   compareTexts(strings.HasSuffix),
	"CONTAINS":    compareTexts(strings.Contains),
	"INDEX_OF":    {2, 2, indexOf},
	"CONCAT":      {2, math.MaxInt, concat},
	"SUBSTRING":   {2, 3, substring},
	"LENGTH":      {1, 1, length},
	"LOWER":       changeText(strings.ToLower),
	"UPPER":       changeText(strings.ToUpper),

	"ARRAY_CONTAINS": {2, 2, arrayContains},
	"ARRAY_LENGTH":   {1, 1, arrayLength},

	"AS_NUMBER": {1, 1, asNumber},
	"ABS":       {1, 1, absolute},
	"CEILING":   round(math.Ceil),
	"EXP":       compute(math.Exp),
	"FLOOR":     round(math.Floor),
	"SIGN":      compute(sign),
	"SQRT":      compute(math.Sqrt),
	"SQUARE":    compute(func(x float64) float64 { return x * x }),
	"POWER":     {2, 2, power},
}

// makers are the functions that make texts, which costs memory for every row.
var makers = map[string]bool{"CONCAT": true, "LOWER": true, "UPPER": true}

// test is a function that says something about the type of any value.
func test(is func(value) bool) function {
	return function{1, 1, func(row Row, args []expr) value { return ofBool(is(args[0].eval(row))) }}
}

// compareTexts is a function that says something about two texts.
func compareTexts(holds func(s, t string) bool) function {
	return function{2, 2, func(row Row, args []expr) value {
		s, t, ok := texts(row, args)
		if !ok {
			return value{}
		}
		return ofBool(holds(s, t))
	}}
}

// texts evaluates two arguments that must be texts.
func texts(row Row, args []expr) (s, t string, ok bool) {
	s, isText := args[0].eval(row).text()
	t, ok = args[1].eval(row).text()
	return s, t, ok && isText
}

// changeText is a function that makes a text of a text.
func changeText(change func(string) string) function {
	return function{1, 1, func(row Row, args []expr) value {
		s, ok := args[0].eval(row).text()
		if !ok {
			return value{}
		}
		return madeText(change(s))
	}}
}

// madeText is undefined for a text that is too long.
func madeText(s string) value {
	if len(s) > maxText {
		return value{}
	}
	return ofText(s)
}

// round is a function that makes numbers whole, and leaves whole ones as they are.
func round(f func(float64) float64) function {
	return function{1, 1, func(row Row, args []expr) value {
		v := args[0].eval(row)
		if v.kind != document.Number || v.num.whole {
			return v.numeric()
		}
		return ofNumber(ofFloat(f(v.num.f)))
	}}
}

func absolute(row Row, args []expr) value {
	v := args[0].eval(row)
	if v.kind == document.Number && v.num.compare(ofInt(0)) < 0 {
		return ofNumber(ofInt(0).subtract(v.num))
	}
	return v.numeric()
}

// numeric returns a number, and undefined for everything else.
func (v value) numeric() value {
	if v.kind != document.Number {
		return value{}
	}
	return v
}

// compute is a function of a float64.
func compute(f func(float64) float64) function {
	return function{1, 1, func(row Row, args []expr) value {
		v := args[0].eval(row)
		if v.kind != document.Number {
			return value{}
		}
		return ofNumber(ofFloat(f(v.num.float())))
	}}
}

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

func power(row Row, args []expr) value {
	x, y := args[0].eval(row), args[1].eval(row)
	if x.kind != document.Number || y.kind != document.Number {
		return value{}
	}
	return ofNumber(ofFloat(math.Pow(x.num.float(), y.num.float())))
}

// asNumber turns a text into the number that it writes as JSON does; a + before it and white space around it do not matter, as in .NET.
func asNumber(row Row, args []expr) value {
	v := args[0].eval(row)
	s, ok := v.text()
	if !ok {
		return v.numeric()
	}
	s = strings.TrimSpace(s)
	if unsigned, signed := strings.CutPrefix(s, "+"); signed && !strings.HasPrefix(unsigned, "-") {
		s = unsigned
	}
	return ofNumber(parseDecimal(s))
}

// indexOf returns where the second text begins in the first one, counted in characters from 0, or -1.
func indexOf(row Row, args []expr) value {
	s, t, ok := texts(row, args)
	if !ok {
		return value{}
	}
	at := strings.Index(s, t)
	if at > 0 {
		at = utf8.RuneCountInString(s[:at])
	}
	return ofNumber(ofInt(int64(at)), true)
}

func concat(row Row, args []expr) value {
	var b strings.Builder
	for _, arg := range args {
		s, ok := arg.eval(row).text()
		if !ok || b.Len()+len(s) > maxText {
			return value{}
		}
		b.WriteString(s)
	}
	return ofText(b.String())
}

// substring returns the part of a text from a position, counted in characters from 0, with a length, or to the end. A position below 0 is 0;
// what would lie behind the text is not there.
func substring(row Row, args []expr) value {
	s, ok := args[0].eval(row).text()
	start, whole := integer(args[1].eval(row))
	if !ok || !whole {
		return value{}
	}
	start = max(start, 0)
	length := int64(math.MaxInt64)
	if len(args) > 2 {
		if length, whole = integer(args[2].eval(row)); !whole {
			return value{}
		}
	}
	return ofText(cut(s, start, start+min(max(length, 0), math.MaxInt64-start)))
}

func integer(v value) (i int64, ok bool) { return v.num.i, v.kind == document.Number && v.num.whole }

// cut returns the characters of s from start to end; both may lie behind s.
func cut(s string, start, end int64) string {
	from, n := len(s), int64(0)
	for i := range s {
		if n == start {
			from = i
		}
		if n == end {
			return s[min(from, i):i]
		}
		n++
	}
	return s[from:]
}

func length(row Row, args []expr) value {
	s, ok := args[0].eval(row).text()
	if !ok {
		return value{}
	}
	return ofNumber(ofInt(int64(utf8.RuneCountInString(s))), true)
}

// arrayContains reports whether an array has an element that equals a value; arrays and objects equal those that are the same JSON.
func arrayContains(row Row, args []expr) value {
	array, v := args[0].eval(row), args[1].eval(row)
	if array.kind != document.Array || v.kind == document.Undefined {
		return value{}
	}
	for _, e := range array.doc.Elements() {
		if e.Kind() == v.kind && equal(ofDocument(e), v) {
			return ofBool(true)
		}
	}
	return ofBool(false)
}

func equal(v, w value) bool {
	if order, ok := v.compare(w); ok {
		return order == 0
	}
	return document.Equal(v.doc, w.doc)
}

func arrayLength(row Row, args []expr) value {
	v := args[0].eval(row)
	if v.kind != document.Array {
		return value{}
	}
	return ofNumber(ofInt(int64(len(v.doc.Elements()))), true)
}
