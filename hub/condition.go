package hub

import (
	"strings"

	"github.com/iolite-emulator/iolite/store"
)

// condition selects twins: the queryCondition of a job, the targetCondition of a configuration.
type condition struct {
	modules bool // it is about modules
	none    bool // it selects nothing: the empty text
}

// parseCondition reads a condition; problem says what is wrong with it.
func parseCondition(text string) (c condition, problem string) {
	switch text = strings.TrimSpace(text); text {
	case "":
		return condition{none: true}, ""
	case "*":
		return condition{}, ""
	}
	return condition{}, "not supported yet"
}

// matches reports whether a complete row is selected.
func (c *condition) matches(_ *store.TwinRow) bool { return !c.none }
