package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

// When memory is given back to the operating system.
const (
	// memoryLook is how often it is considered.
	memoryLook = 2 * time.Second
	// busyBytes is how much a process allocates between two looks that has better things to do.
	busyBytes = 2 << 20
	// spareBytes is the least that is worth a collection; so is no less than a quarter of what is in use.
	spareBytes = 8 << 20
	// leftBytes is what a goroutine that ended leaves behind: the stack and the buffers of a connection.
	leftBytes = 12 << 10
)

// memoryUse is what the runtime knows of the process's memory, in bytes.
type memoryUse struct {
	allocated  uint64 // since the process began
	objects    uint64 // in use, or dead and not collected yet
	live       uint64 // of them, what the last collection found in use
	free       uint64 // kept for objects to come
	goroutines uint64 // their number
}

// memoryWatch finds the moment after a storm of connections, or any other, when memory can go back. Go by itself keeps what the next storm would
// need, and looks for what died when twice as much is in use, or after two minutes.
type memoryWatch struct {
	allocated uint64 // at the last look
	crowd     uint64 // the most goroutines since memory was given back
}

// due reports whether the process is quiet and has much to spare.
func (w *memoryWatch) due(u memoryUse) bool {
	quiet := u.allocated-w.allocated < busyBytes
	w.allocated = u.allocated
	w.crowd = max(w.crowd, u.goroutines)
	spare := u.free + (w.crowd-u.goroutines)*leftBytes
	if u.objects > u.live {
		spare += u.objects - u.live
	}
	if !quiet || spare < max(spareBytes, u.live/4) {
		return false
	}
	w.crowd = u.goroutines
	return true
}

// tidyMemory gives memory back whenever it is due, until ctx ends.
func tidyMemory(ctx context.Context) {
	var watch memoryWatch
	samples := memorySamples()
	for c := clock.New(); c.Sleep(ctx, memoryLook) == nil; {
		if watch.due(readMemory(samples)) {
			debug.FreeOSMemory()
		}
	}
}

func memorySamples() []metrics.Sample {
	return []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/sched/goroutines:goroutines"},
	}
}

// readMemory reads the samples of memorySamples.
func readMemory(s []metrics.Sample) memoryUse {
	metrics.Read(s)
	return memoryUse{allocated: s[0].Value.Uint64(), objects: s[1].Value.Uint64(), live: s[2].Value.Uint64(), free: s[3].Value.Uint64(), goroutines: s[4].Value.Uint64()}
}
