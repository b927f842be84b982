package exposition

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Process adds what the Go runtime knows of this process and, on Linux, what the kernel does, under the names that Prometheus's own libraries use.
func (p *Page) Process() {
	p.runtime()
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return // not Linux
	}
	p.kernel(stat)
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		p.Gauge(Family{Name: "process_open_fds", Help: "Number of open file descriptors."}, float64(len(files)))
	}
	if seconds, ok := bootTime(); ok {
		p.Gauge(Family{Name: "process_start_time_seconds", Help: "Start time of the process since unix epoch in seconds."}, seconds+statField(stat, statStart)/userHertz)
	}
}

func (p *Page) runtime() {
	gauge := func(name, help string, value float64) { p.Gauge(Family{Name: name, Help: help}, value) }
	counter := func(name, help string, value float64) { p.Counter(Family{Name: name, Help: help}, value) }
	threads, _ := runtime.ThreadCreateProfile(nil)
	gauge("go_goroutines", "Number of goroutines that currently exist.", float64(runtime.NumGoroutine()))
	gauge("go_threads", "Number of OS threads created.", float64(threads))
	gauge("go_sched_gomaxprocs_threads", "The current runtime.GOMAXPROCS setting.", float64(runtime.GOMAXPROCS(0)))
	p.Gauge(Family{Name: "go_info", Help: "Information about the Go environment.", Labels: []string{"version"}}, 1, runtime.Version())
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	counter("go_memstats_alloc_bytes_total", "Bytes allocated in heap until now, even if released already.", float64(m.TotalAlloc))
	counter("go_memstats_mallocs_total", "Heap objects allocated, live or not.", float64(m.Mallocs))
	counter("go_memstats_frees_total", "Heap objects freed.", float64(m.Frees))
	gauge("go_memstats_alloc_bytes", "Bytes allocated in heap and in use.", float64(m.Alloc))
	gauge("go_memstats_sys_bytes", "Bytes obtained from the system.", float64(m.Sys))
	gauge("go_memstats_heap_alloc_bytes", "Heap bytes allocated and in use.", float64(m.HeapAlloc))
	gauge("go_memstats_heap_sys_bytes", "Heap bytes obtained from the system.", float64(m.HeapSys))
	gauge("go_memstats_heap_idle_bytes", "Heap bytes waiting to be used.", float64(m.HeapIdle))
	gauge("go_memstats_heap_inuse_bytes", "Heap bytes that are in use.", float64(m.HeapInuse))
	gauge("go_memstats_heap_released_bytes", "Heap bytes released to the system.", float64(m.HeapReleased))
	gauge("go_memstats_heap_objects", "Heap objects.", float64(m.HeapObjects))
	gauge("go_memstats_stack_inuse_bytes", "Bytes of stacks in use.", float64(m.StackInuse))
	gauge("go_memstats_next_gc_bytes", "Heap bytes when the next garbage collection will take place.", float64(m.NextGC))
	gauge("go_memstats_last_gc_time_seconds", "Seconds since 1970 of the last garbage collection.", float64(m.LastGC)/1e9)
	p.Summary(Family{Name: "go_gc_duration_seconds", Help: "Pauses of garbage collections."}, uint64(m.NumGC), float64(m.PauseTotalNs)/1e9)
}

// Fields of /proc/PID/stat, counted from 1 (proc_pid_stat(5)).
const (
	statUser     = 14 // ticks
	statSystem   = 15 // ticks
	statStart    = 22 // ticks after boot
	statVirtual  = 23 // bytes
	statResident = 24 // pages
)

// userHertz is how many ticks a second has, on every architecture that Go knows.
const userHertz = 100

func (p *Page) kernel(stat []byte) {
	p.Counter(Family{Name: "process_cpu_seconds_total", Help: "Total user and system CPU time spent in seconds."}, (statField(stat, statUser)+statField(stat, statSystem))/userHertz)
	p.Gauge(Family{Name: "process_virtual_memory_bytes", Help: "Virtual memory size in bytes."}, statField(stat, statVirtual))
	p.Gauge(Family{Name: "process_resident_memory_bytes", Help: "Resident memory size in bytes."}, statField(stat, statResident)*float64(os.Getpagesize()))
}

// statField returns a field after the second one, the program's name in brackets, which may hold anything.
func statField(stat []byte, n int) float64 {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if n -= 3; n >= len(fields) {
		return 0
	}
	value, _ := strconv.ParseFloat(string(fields[n]), 64)
	return value
}

// bootTime is when the machine started, in seconds since 1970.
func bootTime() (float64, bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	_, after, found := strings.Cut(string(text), "\nbtime ")
	line, _, _ := strings.Cut(after, "\n")
	seconds, err := strconv.ParseFloat(line, 64)
	return seconds, found && err == nil
}
