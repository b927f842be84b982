// Package document holds JSON values as twins are made of. A Value never changes: whoever merges into one makes another that shares
// what stayed the same, so a value may be read by anybody for as long as he likes, without a lock and without a copy. Numbers are kept
// as they were written, so that none loses a digit.
package document

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what a Value is.
type Kind uint8

// The kinds. The zero Value is Undefined: it stands for what is not there, and is never part of another value.
const (
	Undefined Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"undefined", "null", "boolean", "number", "string", "array", "object"}

// String returns JSON's name of the kind.
func (k Kind) String() string { return kindNames[k] }

// Value is one JSON value. Copy it freely: it is small, and what it refers to never changes.
type Value struct {
	kind Kind
	text string // of a String; the literal of a Number; "true" or "false"
	part *compound
}

// compound is what an Array or an Object is made of.
type compound struct {
	elements []Value
	members  []Member // in ascending order of their names, each name once
}

// Member is a named value of an object, and what a twin's metadata says of it. Documents without metadata leave that zero.
type Member struct {
	Name    string
	Value   Value
	Updated time.Time // when the value, or anything in it, was last written
	Version int64     // of the section at that time; 0 when the section's metadata has none
}

// NullValue is JSON's null.
var NullValue = Value{kind: Null}

// EmptyObject is an object without members.
var EmptyObject = Value{kind: Object, part: &compound{}}

// OfBool returns a boolean.
func OfBool(b bool) Value { return Value{kind: Bool, text: strconv.FormatBool(b)} }

// OfString returns a string.
func OfString(s string) Value { return Value{kind: String, text: s} }

// OfInt returns a number.
func OfInt(n int64) Value { return Value{kind: Number, text: strconv.FormatInt(n, 10)} }

// OfFloat returns a number in the shortest form that means f exactly; Undefined for one that JSON cannot write (NaN, infinities).
func OfFloat(f float64) Value {
	if f != f || f > maxFloat || f < -maxFloat {
		return Value{}
	}
	return Value{kind: Number, text: strconv.FormatFloat(f, 'g', -1, 64)}
}

const maxFloat = 0x1p1023 * (1 + (1 - 0x1p-52))

// OfElements returns an array that takes over elements.
func OfElements(elements []Value) Value {
	return Value{kind: Array, part: &compound{elements: elements}}
}

// OfMembers returns an object that takes over members, which it sorts; of two with one name the later counts.
func OfMembers(members []Member) Value {
	if !slices.IsSortedFunc(members, compareMembers) || hasTwins(members) {
		slices.SortStableFunc(members, compareMembers)
		members = lastOfEach(members)
	}
	return Value{kind: Object, part: &compound{members: members}}
}

func compareMembers(a, b Member) int { return strings.Compare(a.Name, b.Name) }

// hasTwins reports whether sorted members have a name twice.
func hasTwins(members []Member) bool {
	for i := 1; i < len(members); i++ {
		if members[i].Name == members[i-1].Name {
			return true
		}
	}
	return false
}

// lastOfEach keeps the last member of each name.
func lastOfEach(members []Member) []Member {
	kept := members[:0]
	for i := range members {
		if i+1 < len(members) && members[i+1].Name == members[i].Name {
			continue
		}
		kept = append(kept, members[i])
	}
	return kept
}

// Kind returns what v is.
func (v Value) Kind() Kind { return v.kind }

// IsDefined reports whether v is there at all; null is.
func (v Value) IsDefined() bool { return v.kind != Undefined }

// Bool returns a boolean's value, and false for everything else.
func (v Value) Bool() bool { return v.kind == Bool && v.text == "true" }

// Text returns the text of a String or the literal of a Number, and "" for everything else.
func (v Value) Text() string {
	if v.kind == String || v.kind == Number {
		return v.text
	}
	return ""
}

// Int returns a number that is an integer of 64 bits, written without fraction and exponent.
func (v Value) Int() (n int64, ok bool) {
	if v.kind != Number {
		return 0, false
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	return n, err == nil
}

// Float returns the float64 that is nearest to a number; an infinity for one that is too large. ok is false for what is no number.
func (v Value) Float() (f float64, ok bool) {
	if v.kind != Number {
		return 0, false
	}
	f, _ = strconv.ParseFloat(v.text, 64) // a literal of JSON: out of range at the worst, and then f is an infinity
	return f, true
}

// Elements returns an array's elements, which must not be changed; none of everything else.
func (v Value) Elements() []Value {
	if v.kind != Array {
		return nil
	}
	return v.part.elements
}

// Members returns an object's members in ascending order of names, which must not be changed; none of everything else.
func (v Value) Members() []Member {
	if v.kind != Object {
		return nil
	}
	return v.part.members
}

// Member returns the member of an object with that name.
func (v Value) Member(name string) (m Member, ok bool) {
	members := v.Members()
	at, found := slices.BinarySearchFunc(members, name, func(m Member, name string) int { return strings.Compare(m.Name, name) })
	if !found {
		return Member{}, false
	}
	return members[at], true
}

// Get returns the value of the member with that name, Undefined when v is no object or has none.
func (v Value) Get(name string) Value {
	m, _ := v.Member(name)
	return m.Value
}

// Equal reports whether two values are the same JSON: the same kind, numbers by their literal, members by name, metadata aside.
func Equal(a, b Value) bool {
	if a.kind != b.kind || a.text != b.text {
		return false
	}
	if a.part == b.part || a.part == nil || b.part == nil {
		return a.part == b.part
	}
	return slices.EqualFunc(a.part.elements, b.part.elements, Equal) &&
		slices.EqualFunc(a.part.members, b.part.members, func(a, b Member) bool { return a.Name == b.Name && Equal(a.Value, b.Value) })
}
