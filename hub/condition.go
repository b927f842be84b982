package hub

import (
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// condition selects twins: the queryCondition of a job, the targetCondition of a configuration.
type condition struct{ *query.Condition }

// parseCondition reads a condition; problem says what is wrong with it, and where.
func parseCondition(text string) (c condition, problem string) {
	parsed, err := query.ParseCondition(text)
	switch {
	case err != nil:
		return c, err.Error()
	case parsed.From() == query.Jobs:
		return c, "devices.jobs cannot be chosen from"
	}
	return condition{parsed}, ""
}

// modules reports whether the condition is about modules.
func (c condition) modules() bool { return c.From() == query.Modules }

// matches reports whether a complete row is selected.
func (c condition) matches(row *store.TwinRow) bool {
	return c.IsAll() || !c.IsNone() && c.Matches(slowRow(row))
}

// shownRow is a twin as it is shown.
type shownRow struct{ doc document.Value }

func slowRow(row *store.TwinRow) query.Row {
	t := Twin{Device: Device{Identity: row.Identity}, Twin: row.Twin}
	v, _ := document.Parse(t.AppendJSON(nil))
	return shownRow{v}
}

// Value implements query.Row.
func (r shownRow) Value(path []string) document.Value {
	v := r.doc
	for _, name := range path {
		v = v.Get(name)
	}
	return v
}
