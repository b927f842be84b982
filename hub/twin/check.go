package twin

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/iolite-emulator/iolite/document"
)

// Limits of twins (articles "Understand and use device twins in IoT Hub", sections Device twin size and Tags and properties format, and
// "IoT Hub quotas and throttling").
const (
	MaxTags     = 8 << 10  // bytes, as Size counts them
	MaxSection  = 32 << 10 // bytes of desired and of reported properties each
	MaxStretch  = 8        // Iolite's own: how many times longer than those the JSON of a part may be
	maxName     = 1 << 10  // bytes
	maxText     = 4 << 10  // bytes
	maxDepth    = 10       // objects and arrays inside each other, the section itself not counted
	maxInteger  = 1<<52 - 1
	minInteger  = -1 << 52
	maxShown    = 64 // bytes of a name in an error
	maxLiteral  = 64 // bytes of a number: more digits than any computer keeps
	badNameText = "names may hold no control characters and none of . $ # and space"
)

// Check returns what is wrong with an object that is to become part of a twin, or "". In a patch null means removal; nulls inside arrays
// mean nothing and are refused.
func Check(object document.Value) string {
	if object.Kind() != document.Object {
		return "a JSON object is wanted, not a value of type " + object.Kind().String()
	}
	return checkMembers(object, 0, false)
}

func checkMembers(object document.Value, depth int, inArray bool) string {
	for _, m := range object.Members() {
		if problem := checkName(m.Name); problem != "" {
			return problem
		}
		if problem := checkValue(m.Name, m.Value, depth+1, inArray); problem != "" {
			return problem
		}
	}
	return ""
}

func checkName(name string) string {
	switch {
	case name == "":
		return "a property has no name"
	case len(name) > maxName:
		return fmt.Sprintf("the property name %q is longer than %d bytes", shown(name), maxName)
	case strings.ContainsAny(name, ".$# ") || strings.ContainsFunc(name, isControl):
		return fmt.Sprintf("the property name %q is not allowed: %s", shown(name), badNameText)
	}
	return ""
}

// checkValue checks a value that would stand in depth containers, one of them an array or not.
func checkValue(name string, v document.Value, depth int, inArray bool) string {
	switch v.Kind() {
	case document.String:
		if len(v.Text()) > maxText {
			return fmt.Sprintf("the text of property %q is longer than %d bytes", shown(name), maxText)
		}
	case document.Number:
		return checkNumber(name, v)
	case document.Array, document.Object:
		if depth > maxDepth {
			return fmt.Sprintf("the property %q is nested deeper than %d levels", shown(name), maxDepth)
		}
		if v.Kind() == document.Object {
			return checkMembers(v, depth, inArray)
		}
		return checkElements(name, v, depth)
	case document.Null:
		if inArray {
			return fmt.Sprintf("an array holds null at %q", shown(name))
		}
	case document.Bool, document.Undefined:
	}
	return ""
}

func checkElements(name string, array document.Value, depth int) string {
	for _, e := range array.Elements() {
		if problem := checkValue(name, e, depth+1, true); problem != "" {
			return problem
		}
	}
	return ""
}

// checkNumber refuses integers of more than 52 bits and a sign, as the hub does. They are not rounded: a number stays as it was written.
func checkNumber(name string, v document.Value) string {
	if len(v.Text()) > maxLiteral {
		return fmt.Sprintf("the number %q is longer than %d digits", shown(name), maxLiteral)
	}
	n, ok := v.IsInteger()
	if f, _ := v.Float(); f > 1.7976931348623157e308 || f < -1.7976931348623157e308 {
		return fmt.Sprintf("the number %q is too large", shown(name))
	}
	if ok && !strings.ContainsAny(v.Text(), ".eE") && (n > maxInteger || n < minInteger) {
		return fmt.Sprintf("the integer %q is not from %d to %d", shown(name), int64(minInteger), int64(maxInteger))
	}
	return ""
}

// shown is as much of a name as an error tells.
func shown(name string) string {
	if len(name) <= maxShown {
		return name
	}
	cut := maxShown
	for !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut] + "..."
}
