package hub

import (
	"github.com/iolite-emulator/iolite/hub/query"
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

// matches reports whether a row is selected.
func (c condition) matches(row query.Row) bool { return !c.IsNone() && c.Matches(row) }
