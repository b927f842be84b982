package hub

import (
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

// parse reads one operation of a JSON Patch. problem says what is wrong with it.
func (o *patchOperation) parse(v document.Value) (code Code, problem string) {
	if v.Kind() != document.Object {
		return CodeInvalidDigitalTwinPatch, "a JSON object is wanted"
	}
	if problem := o.parsePath(v.Get("path")); problem != "" {
		return CodeInvalidDigitalTwinPath, problem
	}
	switch v.Get("op").Text() {
	case "add", "replace":
		if o.value = v.Get("value"); !o.value.IsDefined() {
			return CodeInvalidDigitalTwinPatch, "there is no value"
		}
		return CodeInvalidDigitalTwinPatch, o.checkValue()
	case "remove":
		return 0, ""
	}
	return CodeInvalidDigitalTwinPatch, "op is none of add, replace and remove"
}

// parsePath reads /property, /component and /component/property. Which of the first two it is shows later, with the value or in the twin.
func (o *patchOperation) parsePath(v document.Value) string {
	path, ok := strings.CutPrefix(v.Text(), "/")
	if !ok {
		return "the path does not begin with /"
	}
	first, second, deeper := strings.Cut(path, "/")
	if !validDTDLName(first) || deeper && !validDTDLName(second) {
		return "the path is not of one or two names: 1 to 64 letters, digits and _, a letter first and no _ last"
	}
	if o.property = first; deeper {
		o.component, o.property = first, second
	}
	return ""
}

// validDTDLName reports whether a name may be one of a component, a property or a field (DTDL v2).
func validDTDLName(name string) bool {
	letter := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	if name == "" || len(name) > maxDTDLName || !letter(name[0]) || name[len(name)-1] == '_' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !letter(c) && c != '_' && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// checkValue returns what is wrong with the value to be set. One with the marker "$metadata":{} is a whole component.
func (o *patchOperation) checkValue() string {
	marker := o.value.Get("$metadata")
	if !marker.IsDefined() {
		return checkProperty(o.value, 1)
	}
	if o.component != "" || marker.Kind() != document.Object || len(marker.Members()) > 0 {
		return "$metadata is not the marker of a component: an empty object at /{component}"
	}
	o.component, o.property = o.property, ""
	o.value = twin.Without(o.value)
	for _, m := range o.value.Members() {
		if problem := checkField(m, 1); problem != "" {
			return problem
		}
	}
	return ""
}

func checkProperty(v document.Value, depth int) string {
	switch v.Kind() {
	case document.Null:
		return "a property cannot be null; remove it"
	case document.Array:
		return "a property cannot be an array, or have one in it"
	case document.Object:
		if depth > maxPropertyDepth {
			return "a property is nested deeper than 5 levels"
		}
		for _, m := range v.Members() {
			if problem := checkField(m, depth+1); problem != "" {
				return problem
			}
		}
	case document.Undefined, document.Bool, document.Number, document.String:
	}
	return ""
}

func checkField(m document.Member, depth int) string {
	if !validDTDLName(m.Name) {
		return "a name in the value is not of 1 to 64 letters, digits and _, a letter first and no _ last"
	}
	return checkProperty(m.Value, depth)
}

// conflict returns the name that the first operation is wrong about, as those before it leave the twin; "" when none is.
func conflict(t store.Twin, patch []patchOperation) string {
	for i := range patch {
		if name := patch[i].conflict(&t); name != "" {
			return name
		}
		for _, step := range patch[i].steps(t.Desired.Value) {
			t.Desired.Value = twin.Merge(t.Desired.Value, step, twin.Stamp{})
		}
	}
	return ""
}

// conflict returns the name of what stands in the twin and is a property where the operation means a component, or the other way round.
func (o *patchOperation) conflict(t *store.Twin) string {
	name, component := o.component, true
	if name == "" {
		name, component = o.property, false
	}
	for _, section := range []document.Value{t.Desired.Value, t.Reported.Value} {
		v := section.Get(name)
		switch {
		case !v.IsDefined(), isComponent(v) == component:
		case !component && !o.value.IsDefined(): // it removes the component
		default:
			return name
		}
	}
	return ""
}

// applyPatch carries operations out, one after the other, and returns what the device is to be told.
func applyPatch(t *store.Twin, patch []patchOperation, now time.Time) document.Value {
	old := t.Desired.Value
	next(&t.Desired, now)
	stamp, told := stampOf(t.Desired), document.EmptyObject
	for i := range patch {
		for _, step := range patch[i].steps(t.Desired.Value) {
			t.Desired.Value = twin.Merge(t.Desired.Value, step, stamp)
			told = overlay(told, step)
		}
	}
	return overlay(told, removed(old, t.Desired.Value))
}

// steps returns the changes of desired properties that an operation comes to.
func (o *patchOperation) steps(desired document.Value) []document.Value {
	mark := document.OfString("c")
	switch {
	case o.component == "" && o.value.IsDefined():
		// What is set replaces what was there, whole.
		return []document.Value{object(o.property, document.NullValue), object(o.property, o.value)}
	case o.component == "":
		return []document.Value{object(o.property, document.NullValue)}
	case o.property == "":
		return []document.Value{object(o.component, document.NullValue), object(o.component, overlay(o.value, object(componentMark, mark)))}
	case o.value.IsDefined():
		set := func(v document.Value) document.Value {
			return object(o.component, object(componentMark, mark, o.property, v))
		}
		return []document.Value{set(document.NullValue), set(o.value)}
	}
	component := desired.Get(o.component)
	if !component.Get(o.property).IsDefined() {
		return nil
	}
	if len(component.Members()) <= 2 { // the mark and the property: the component goes with its last one
		return []document.Value{object(o.component, document.NullValue)}
	}
	return []document.Value{object(o.component, object(componentMark, mark, o.property, document.NullValue))}
}

// removed returns the patch of nulls for what was in old and is not in value.
func removed(old, value document.Value) document.Value {
	var members []document.Member
	for _, m := range old.Members() {
		v := value.Get(m.Name)
		switch {
		case !v.IsDefined():
			members = append(members, document.Member{Name: m.Name, Value: document.NullValue})
		case m.Value.Kind() == document.Object && v.Kind() == document.Object:
			if inner := removed(m.Value, v); len(inner.Members()) > 0 {
				members = append(members, document.Member{Name: m.Name, Value: inner})
			}
		}
	}
	if members == nil {
		return document.EmptyObject
	}
	return document.OfMembers(members)
}
