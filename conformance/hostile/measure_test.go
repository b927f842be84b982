package hostile

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What an attack may leave behind: goroutines of connections that are being closed or that clients keep for later.
const spareGoroutines = 12

// maxMemory is the most that the hub may ever hold, in bytes: its event log of 128 MiB, the garbage collector's share of that, and
// what attackers of this suite may make it hold for a moment.
const maxMemory = 900 << 20

// gauge reads a metric without labels.
func (h *instance) gauge(t *testing.T, name string) float64 {
	t.Helper()
	r, err := http.Get("http://" + h.address + "/metrics")
	must(t, err)
	defer r.Body.Close()
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			must(t, err)
			return f
		}
	}
	t.Fatal("there is no metric ", name)
	return 0
}

// attack notes how the hub is before a test and wants, at its end, that the process is up, that nothing is left of the attackers and
// that the onlooker noticed nothing.
func attack(t *testing.T) {
	t.Helper()
	onlooker.undisturbed(t)
	before := target.gauge(t, "go_goroutines")
	t.Cleanup(func() {
		var now float64
		end := time.Now().Add(patience)
		for now = target.gauge(t, "go_goroutines"); now > before+spareGoroutines; now = target.gauge(t, "go_goroutines") {
			if time.Now().After(end) {
				t.Errorf("%v goroutines before, %v afterwards", before, now)
				break
			}
			<-time.After(20 * time.Millisecond)
		}
		onlooker.undisturbed(t)
		resident := target.gauge(t, "process_resident_memory_bytes")
		t.Logf("goroutines %v -> %v, resident %.0f MiB", before, now, resident/(1<<20))
		if resident > maxMemory {
			t.Errorf("the hub holds %.0f MiB", resident/(1<<20))
		}
	})
}
