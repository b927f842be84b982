package query

import (
	"maps"
	"slices"

	"github.com/iolite-emulator/iolite/document"
)

// DeviceIDs returns, in ascending order, the only devices that WHERE may select, when it says so itself: deviceId = 'a', deviceId IN ['a', 'b'],
// alone or joined to others. bounded is false when any device may be selected.
func (q *Query) DeviceIDs() (ids []string, bounded bool) { return deviceIDs(q.where) }

// DeviceIDs is the same for a condition.
func (c *Condition) DeviceIDs() (ids []string, bounded bool) { return deviceIDs(c.where) }

func deviceIDs(where expr) (ids []string, bounded bool) {
	found, bounded := keys(where)
	return slices.Sorted(maps.Keys(found)), bounded
}

// keys returns the device ids with which an expression can be true.
func keys(e expr) (ids map[string]bool, bounded bool) {
	switch e := e.(type) {
	case and:
		for _, part := range e {
			if k, b := keys(part); b && (!bounded || len(k) < len(ids)) {
				ids, bounded = k, true
			}
		}
		return ids, bounded
	case or:
		ids = map[string]bool{}
		for _, part := range e {
			k, b := keys(part)
			if !b {
				return nil, false
			}
			maps.Copy(ids, k)
		}
		return ids, true
	case *comparison:
		if e.holds != comparisons["="] {
			return nil, false
		}
		if id, ok := constantID(e.left, e.right); ok {
			return map[string]bool{id: true}, true
		}
		id, ok := constantID(e.right, e.left)
		return map[string]bool{id: true}, ok
	case *membership:
		return e.in.texts, !e.negated && isDeviceID(e.of)
	}
	return nil, false
}

// constantID returns the text that the device id is compared with.
func constantID(a, b expr) (id string, ok bool) {
	c, isConstant := b.(constant)
	return c.value.doc.Text(), isConstant && c.value.kind == document.String && isDeviceID(a)
}

func isDeviceID(e expr) bool {
	a, ok := e.(*attribute)
	return ok && len(a.path) == 1 && a.path[0] == "deviceId" && len(a.rest) == 0
}
