package main

import (
	"testing"
)

const mib = 1 << 20

func TestMemoryGoesBackWhenTheProcessIsQuietAndHasMuchToSpare(t *testing.T) {
	for name, c := range map[string]struct {
		before, now memoryUse
		due         bool
	}{
		"nothing to spare":                 {memoryUse{goroutines: 10}, memoryUse{objects: 10 * mib, live: 9 * mib, goroutines: 10}, false},
		"garbage since the collection":     {memoryUse{goroutines: 10}, memoryUse{objects: 30 * mib, live: 10 * mib, goroutines: 10}, true},
		"pages that no object is in":       {memoryUse{goroutines: 10}, memoryUse{free: 20 * mib, goroutines: 10}, true},
		"busy":                             {memoryUse{goroutines: 10}, memoryUse{allocated: 20 * mib, free: 20 * mib, goroutines: 10}, false},
		"many connections ended":           {memoryUse{goroutines: 2000}, memoryUse{objects: 20 * mib, live: 20 * mib, goroutines: 10}, true},
		"few connections ended":            {memoryUse{goroutines: 200}, memoryUse{objects: 20 * mib, live: 20 * mib, goroutines: 10}, false},
		"little beside much that is used":  {memoryUse{goroutines: 10}, memoryUse{objects: 100 * mib, live: 100 * mib, free: 20 * mib, goroutines: 10}, false},
		"a collection found more than is":  {memoryUse{goroutines: 10}, memoryUse{objects: 10 * mib, live: 12 * mib, goroutines: 10}, false},
		"the crowd grows while it is busy": {memoryUse{goroutines: 10}, memoryUse{allocated: 100 * mib, goroutines: 5000}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var w memoryWatch
			w.due(c.before)
			if got := w.due(c.now); got != c.due {
				t.Errorf("due is %v", got)
			}
		})
	}
}

func TestMemoryGoesBackOnceForEachCrowd(t *testing.T) {
	var w memoryWatch
	w.due(memoryUse{goroutines: 5000})
	if !w.due(memoryUse{goroutines: 10}) || w.due(memoryUse{goroutines: 10}) {
		t.Error("not due, or due twice")
	}
	w.due(memoryUse{goroutines: 5000})
	if !w.due(memoryUse{goroutines: 10}) {
		t.Error("not due after the second crowd")
	}
}

// The names of metrics are strings, and reading one that there is not gives no number.
func TestRuntimeTellsWhatTheMemoryWatchReads(t *testing.T) {
	if u := readMemory(memorySamples()); u.allocated == 0 || u.objects == 0 || u.goroutines == 0 {
		t.Errorf("%+v", u)
	}
}
