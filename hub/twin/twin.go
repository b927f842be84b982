// Package twin holds the rules of twin documents: what may stand in them, how a patch is merged into one, and what its metadata then says.
// It is pure: values in, values out. Source: article "Understand and use device twins in IoT Hub".
package twin

import (
	"slices"
	"time"
	"unicode/utf8"

	"github.com/iolite-emulator/iolite/document"
)

// Stamp is when a section is written, and the version it gets by that. Version is 0 for a section whose metadata has none.
type Stamp struct {
	Time    time.Time
	Version int64
}

// Merge returns the object old with patch, an object, merged into it: null removes a member, objects are merged, everything else
// replaces what was there. What was written is stamped, and so is every object that it is in. An object that loses its last member stays.
func Merge(old, patch document.Value, s Stamp) document.Value {
	before := old.Members()
	merged := make([]document.Member, 0, len(before)+len(patch.Members()))
	for _, m := range patch.Members() {
		at, found := slices.BinarySearchFunc(before, m.Name, byName)
		merged = append(merged, before[:at]...)
		before = before[at:]
		var was document.Value
		if found {
			was, before = before[0].Value, before[1:]
		}
		if m.Value.Kind() != document.Null {
			merged = append(merged, s.stamp(m.Name, mergeValue(was, m.Value, s)))
		}
	}
	return document.OfMembers(append(merged, before...))
}

func byName(m document.Member, name string) int {
	switch {
	case m.Name < name:
		return -1
	case m.Name > name:
		return 1
	}
	return 0
}

// mergeValue returns what a member of a patch makes of a member's value.
func mergeValue(was, patch document.Value, s Stamp) document.Value {
	if patch.Kind() != document.Object {
		return patch
	}
	if was.Kind() != document.Object {
		was = document.EmptyObject
	}
	return Merge(was, patch, s)
}

func (s Stamp) stamp(name string, v document.Value) document.Member {
	return document.Member{Name: name, Value: v, Updated: s.Time, Version: s.Version}
}

// Replace returns what a section is after value, an object, has replaced it: value without its nulls, everything stamped.
func Replace(value document.Value, s Stamp) document.Value {
	return Merge(document.EmptyObject, value, s)
}

// Difference returns the patch that tells who has old what replaced it: all that value holds, and null for what went.
func Difference(old, value document.Value) document.Value {
	members := slices.Clone(value.Members())
	for _, m := range old.Members() {
		at, found := slices.BinarySearchFunc(value.Members(), m.Name, byName)
		switch {
		case !found:
			members = append(members, document.Member{Name: m.Name, Value: document.NullValue})
		case m.Value.Kind() == document.Object && members[at].Value.Kind() == document.Object:
			members[at].Value = Difference(m.Value, members[at].Value)
		}
	}
	return document.OfMembers(members)
}

// Without returns an object without its members $version and $metadata, which the hub writes into sections that it shows and SDKs
// send back.
func Without(section document.Value) document.Value {
	members := section.Members()
	if len(members) == 0 || members[0].Name > "$version" {
		return section
	}
	kept := make([]document.Member, 0, len(members))
	for _, m := range members {
		if m.Name != "$version" && m.Name != "$metadata" {
			kept = append(kept, m)
		}
	}
	if len(kept) == len(members) {
		return section
	}
	return document.OfMembers(kept)
}

// Size counts an object as IoT Hub does: its names and texts in bytes of UTF-8 without control characters, 8 for a number, 4 for a
// boolean, 0 for null, and for an array or object what is in it.
func Size(v document.Value) int {
	size := 0
	switch v.Kind() {
	case document.String:
		return textSize(v.Text())
	case document.Number:
		return 8
	case document.Bool:
		return 4
	case document.Array:
		for _, e := range v.Elements() {
			size += Size(e)
		}
	case document.Object:
		for _, m := range v.Members() {
			size += textSize(m.Name) + Size(m.Value)
		}
	case document.Null, document.Undefined:
	}
	return size
}

func textSize(s string) int {
	size := len(s)
	for _, r := range s {
		if isControl(r) {
			size -= utf8.RuneLen(r)
		}
	}
	return size
}

// Length is about how many bytes the JSON of v has, and never less. Size leaves out much of it: control characters, empty texts and containers, and
// all but 8 digits of a number.
func Length(v document.Value) int {
	length := len("[]")
	switch v.Kind() {
	case document.String:
		return textLength(v.Text())
	case document.Number:
		return len(v.Text())
	case document.Bool, document.Null:
		return len("false")
	case document.Array:
		for _, e := range v.Elements() {
			length += Length(e) + len(",")
		}
	case document.Object:
		for _, m := range v.Members() {
			length += textLength(m.Name) + Length(m.Value) + len(":,")
		}
	case document.Undefined:
	}
	return length
}

func textLength(s string) int {
	length := len(s) + len(`""`)
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ':
			length += len(`\u0000`) - 1
		case c == '"', c == '\\':
			length++
		}
	}
	return length
}

// isControl reports whether r is a control character: of the Unicode segments C0 and C1.
func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r <= 0x9f }

// AppendMetadata appends the $metadata of an object: when it was last written, and the same for everything in it. updated and version are
// those of the object itself; a version of 0 is left out.
func AppendMetadata(b []byte, object document.Value, updated time.Time, version int64) []byte {
	b = append(b, `{"$lastUpdated":"`...)
	b = append(updated.UTC().AppendFormat(b, TimeFormat), '"')
	if version > 0 {
		b = append(b, `,"$lastUpdatedVersion":`...)
		b = document.OfInt(version).AppendJSON(b)
	}
	for _, m := range object.Members() {
		b = append(document.AppendString(append(b, ','), m.Name), ':')
		b = AppendMetadata(b, m.Value, m.Updated, m.Version)
	}
	return append(b, '}')
}

// TimeFormat is how twins show times: UTC, up to seven digits of a fraction.
const TimeFormat = "2006-01-02T15:04:05.9999999Z"
