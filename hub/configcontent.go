package hub

import (
	"strings"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/twin"
	"github.com/iolite-emulator/iolite/store"
)

// contentKind is what a configuration is for.
type contentKind string

// The kinds, by the member of the content that they have.
const (
	deviceContent contentKind = "deviceContent"  // desired properties of devices
	moduleContent contentKind = "moduleContent"  // desired properties of modules
	edgeContent   contentKind = "modulesContent" // desired properties of the modules of an IoT Edge device: a deployment
)

// desiredPath begins every key of a content.
const desiredPath = "properties.desired"

// content is what a configuration writes into twins.
type content struct {
	kind    contentKind
	parts   map[string]part // by module id in edgeContent, otherwise one by ""
	layered bool            // edgeContent that only adds to a deployment below it
}

// part is what goes into one twin. Null stands for what is removed.
type part struct {
	whole bool           // value replaces all desired properties (edgeContent)
	value document.Value // an object
}

// parseContent reads the content of a configuration. problem says what is wrong with it, "" when nothing.
func parseContent(v document.Value) (c content, problem string) {
	if v.Kind() != document.Object {
		return c, "a JSON object is wanted"
	}
	for _, kind := range []contentKind{deviceContent, moduleContent, edgeContent} {
		of := v.Get(string(kind))
		switch {
		case !given(of), len(of.Members()) == 0 && of.Kind() == document.Object && c.kind != "":
			continue // SDKs write the ones that they do not use, too
		case of.Kind() != document.Object:
			return c, string(kind) + ": a JSON object is wanted"
		case c.kind != "" && len(c.parts) > 0:
			return c, "there is more than one of deviceContent, moduleContent and modulesContent"
		}
		if c, problem = parseKind(kind, of); problem != "" {
			return c, string(kind) + ": " + problem
		}
	}
	if c.kind == "" {
		return c, "there is none of deviceContent, moduleContent and modulesContent"
	}
	return c, ""
}

func parseKind(kind contentKind, of document.Value) (c content, problem string) {
	c = content{kind: kind, parts: map[string]part{}}
	if kind != edgeContent {
		if len(of.Members()) == 0 {
			return c, ""
		}
		c.parts[""], problem = parsePart(of, false)
		return c, problem
	}
	for _, m := range of.Members() {
		if !validID(m.Name) || m.Name[0] == '$' && m.Name != "$edgeAgent" && m.Name != "$edgeHub" {
			return c, "there can be no module of the name " + m.Name
		}
		if c.parts[m.Name], problem = parsePart(m.Value, true); problem != "" {
			return c, m.Name + ": " + problem
		}
	}
	c.layered = !c.parts["$edgeAgent"].whole
	return c, ""
}

// parsePart reads an object of paths that begin with properties.desired, and values.
func parsePart(v document.Value, edge bool) (p part, problem string) {
	if v.Kind() != document.Object {
		return p, "a JSON object is wanted"
	}
	p.value = document.EmptyObject
	for _, m := range v.Members() { // in order, so that a path comes before what is below it
		rest, ok := strings.CutPrefix(m.Name, desiredPath)
		value := m.Value
		switch {
		case ok && rest == "":
			p.whole = edge
		case ok && rest[0] == '.':
			names := strings.Split(rest[1:], ".")
			for i := len(names) - 1; i >= 0; i-- {
				value = object(names[i], value)
			}
		default:
			return p, "the path " + m.Name + " does not begin with properties.desired"
		}
		if problem := twin.Check(value); problem != "" {
			return p, m.Name + ": " + problem
		}
		p.value = overlay(p.value, value)
	}
	if twin.Size(p.value) > twin.MaxSection {
		return p, "it has " + sizes(twin.Size(p.value), twin.MaxSection)
	}
	return p, ""
}

// overlay lays one object over another: objects are merged, everything else, null too, covers what is below it.
func overlay(low, high document.Value) document.Value {
	if low.Kind() != document.Object || high.Kind() != document.Object {
		return high
	}
	members := append([]document.Member{}, low.Members()...)
	for _, m := range high.Members() {
		if below, found := low.Member(m.Name); found {
			m.Value = overlay(below.Value, m.Value)
		}
		members = append(members, document.Member{Name: m.Name, Value: m.Value})
	}
	return document.OfMembers(members)
}

// without returns the patch that takes out of have what the object old has put there, except where wanted has something, too; all reports
// whether nothing would be left.
func without(have, old, wanted document.Value) (patch document.Value, all bool) {
	var members []document.Member
	removed := 0
	for _, m := range old.Members() {
		h, w := have.Get(m.Name), wanted.Get(m.Name)
		if !h.IsDefined() || m.Value.Kind() == document.Null {
			continue
		}
		if m.Value.Kind() == document.Object && h.Kind() == document.Object {
			if w.IsDefined() && w.Kind() != document.Object {
				continue
			}
			inner, whole := without(h, m.Value, w)
			switch {
			case whole && !w.IsDefined():
				members, removed = append(members, document.Member{Name: m.Name, Value: document.NullValue}), removed+1
			case len(inner.Members()) > 0:
				members = append(members, document.Member{Name: m.Name, Value: inner})
			}
			continue
		}
		if !w.IsDefined() {
			members, removed = append(members, document.Member{Name: m.Name, Value: document.NullValue}), removed+1
		}
	}
	if members == nil {
		return document.EmptyObject, len(have.Members()) == 0
	}
	return document.OfMembers(members), removed == len(have.Members())
}

// effective returns what of a patch would change have.
func effective(have, patch document.Value) document.Value {
	var members []document.Member
	for _, m := range patch.Members() {
		h := have.Get(m.Name)
		switch {
		case m.Value.Kind() == document.Null && !h.IsDefined(), document.Equal(h, m.Value):
			continue
		case m.Value.Kind() == document.Object && h.Kind() == document.Object:
			if m.Value = effective(h, m.Value); len(m.Value.Members()) == 0 {
				continue
			}
		}
		members = append(members, m)
	}
	if members == nil {
		return document.EmptyObject
	}
	return document.OfMembers(members)
}

// rule is a configuration, ready to be applied.
type rule struct {
	store.Configuration
	content
	condition condition
}

// targets reports whether the rule is for a device or a module at all, and its condition selects it. device is the row of the module's
// device, for deployments.
func (r *rule) targets(row, device *store.TwinRow) bool {
	switch r.kind {
	case deviceContent:
		return row.ModuleID == "" && r.condition.matches(storedRow(row))
	case moduleContent:
		return row.ModuleID != "" && r.condition.matches(storedRow(row))
	case edgeContent:
		return row.ModuleID != "" && device != nil && device.IoTEdge && r.condition.matches(storedRow(device))
	}
	return false
}
