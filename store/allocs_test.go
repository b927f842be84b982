//go:build !race

package store

import "testing"

// The race detector makes sync.Pool forget on purpose, so this is counted without it.
func TestAppendDoesNotAllocatePerEvent(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1, EventBytes: 8 << 20})
	events := []Event{fullEvent()}
	if n := testing.AllocsPerRun(5000, func() { must(l.Append(ctx, 0, events...)) }); n > 0.5 {
		t.Errorf("Append allocates %.2f times", n)
	}
}

func TestReadingIntoTheSameMemoryDoesNotAllocate(t *testing.T) {
	l := newLog(MemoryOptions{Partitions: 1, EventBytes: 8 << 20})
	for range 1000 {
		must(l.Append(ctx, 0, fullEvent()))
	}
	var memory ReadMemory
	if n := testing.AllocsPerRun(100, func() {
		if got := must(l.ReadTo(ctx, &memory, 0, 10, 100, 1<<20)); len(got) != 100 {
			t.Fatalf("%d events", len(got))
		}
	}); n > 0 {
		t.Errorf("ReadTo allocates %.2f times", n)
	}
}
