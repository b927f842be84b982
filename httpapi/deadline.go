package httpapi

import (
	"os"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

// deadlineSlack is by how much a time-out of HTTP may come early.
const deadlineSlack = 2 * time.Second

// deadline is a deadline of a connection that is set only when it makes a difference: net/http sets eight for a request that has
// come and gone within the same millisecond, and each costs as much as the hub's work on it.
type deadline struct {
	wanted, applied time.Time
	busy            bool // an operation is under way, which a new deadline must reach
}

// differs reports whether the connection has to be told the wanted deadline before the next operation.
func (d *deadline) differs(slack time.Duration) bool {
	if d.wanted.IsZero() || d.applied.IsZero() {
		return !d.wanted.Equal(d.applied)
	}
	early := d.wanted.Sub(d.applied)
	return early < 0 || early > slack
}

// set is what SetReadDeadline and SetWriteDeadline do; apply is that of the connection below.
func (d *deadline) set(t time.Time, apply func(time.Time) error) error {
	d.wanted = t
	if !d.busy {
		return nil
	}
	d.applied = t
	return apply(t)
}

// begin makes sure that the operation about to start has its deadline.
func (d *deadline) begin(slack time.Duration, apply func(time.Time) error) error {
	d.busy = true
	if !d.differs(slack) {
		return nil
	}
	d.applied = d.wanted
	return apply(d.wanted)
}

// SetReadDeadline implements net.Conn.
func (w *wire) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.woken.Broadcast()
	return w.reads.set(t, w.Conn.SetReadDeadline)
}

// SetWriteDeadline implements net.Conn.
func (w *wire) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writes.set(t, w.Conn.SetWriteDeadline)
}

// SetDeadline implements net.Conn.
func (w *wire) SetDeadline(t time.Time) error {
	if err := w.SetReadDeadline(t); err != nil {
		return err
	}
	return w.SetWriteDeadline(t)
}

// slack is how early deadlines may be: other protocols keep their own, which are short and exact. The caller holds mu.
func (w *wire) slack() time.Duration {
	if w.state == passing {
		return 0
	}
	return deadlineSlack
}

// beginRead prepares a read of n bytes.
func (w *wire) beginRead(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n == 1 && w.answering() && !w.park() {
		return os.ErrDeadlineExceeded
	}
	return w.reads.begin(w.slack(), w.Conn.SetReadDeadline)
}

// answering reports whether a request has been read to its end and its answer is under way. The caller holds mu.
func (w *wire) answering() bool { return w.state == collecting && w.headLen > 0 }

// park waits until the read deadline has passed, or reports true when the read is wanted after all. Once a request has been read to its end,
// net/http reads one byte more on another goroutine, to notice a client that hangs up before the answer, and ends that read with a deadline
// in the past. Few handlers wait for anything but their own work; the others have no use for the news, and asking the kernel would cost a
// sixth of a telemetry request. The caller holds mu.
func (w *wire) park() (read bool) {
	for !w.closed && !w.listening && (w.reads.wanted.IsZero() || w.reads.wanted.After(clock.Wall())) {
		w.woken.Wait()
	}
	return w.listening && !w.closed
}
