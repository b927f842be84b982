package query

import (
	"cmp"
	"strings"

	"github.com/iolite-emulator/iolite/document"
)

// value is what an expression comes to. Booleans and numbers stand beside the document, so that computing with them costs no memory.
type value struct {
	kind  document.Kind
	truth bool           // of a boolean
	num   number         // of a number
	doc   document.Value // of a text, an array, an object
}

var null = value{kind: document.Null, doc: document.NullValue}

func ofBool(b bool) value { return value{kind: document.Bool, truth: b} }

func ofText(s string) value { return value{kind: document.String, doc: document.OfString(s)} }

// ofNumber returns undefined when there is no number, as after a division by zero.
func ofNumber(n number, ok bool) value {
	if !ok {
		return value{}
	}
	return value{kind: document.Number, num: n}
}

// ofDocument takes a value from a row.
func ofDocument(v document.Value) value {
	switch v.Kind() {
	case document.Undefined:
		return value{}
	case document.Null:
		return null
	case document.Bool:
		return ofBool(v.Bool())
	case document.Number:
		return ofNumber(parseDecimal(v.Text()))
	case document.String, document.Array, document.Object:
	}
	return value{kind: v.Kind(), doc: v}
}

// document returns the value as part of a document.
func (v value) document() document.Value {
	switch v.kind {
	case document.Bool:
		return document.OfBool(v.truth)
	case document.Number:
		return v.num.document()
	case document.Undefined, document.Null, document.String, document.Array, document.Object:
	}
	return v.doc
}

// text returns a text.
func (v value) text() (s string, ok bool) { return v.doc.Text(), v.kind == document.String }

func (v value) isTrue() bool { return v.kind == document.Bool && v.truth }

func (v value) isFalse() bool { return v.kind == document.Bool && !v.truth }

// compare orders two values of one primitive type; ok is false for all else: it cannot be compared.
func (v value) compare(w value) (order int, ok bool) {
	if v.kind != w.kind {
		return 0, false
	}
	switch v.kind {
	case document.Null:
		return 0, true
	case document.Bool:
		return cmp.Compare(boolRank(v.truth), boolRank(w.truth)), true
	case document.Number:
		return v.num.compare(w.num), true
	case document.String:
		return strings.Compare(v.doc.Text(), w.doc.Text()), true
	case document.Undefined, document.Array, document.Object:
	}
	return 0, false
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}
