package hub

import "sync"

// outbox calls functions one after the other, in the order in which they were added, on a goroutine that lives only while there are some.
// What is added must not block for long.
type outbox struct {
	mu      sync.Mutex
	waiting []func()
	running bool
}

// add has f called. It takes no lock but its own and that of workers, and may be called under any other. After the hub's end f is forgotten.
func (o *outbox) add(h *Hub, f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = append(o.waiting, f)
	if o.running {
		return
	}
	if o.running = h.pushes.run(o.run); !o.running {
		o.waiting = nil
	}
}

func (o *outbox) run() {
	for {
		o.mu.Lock()
		work := o.waiting
		o.waiting = nil
		if len(work) == 0 {
			o.running = false
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		for _, f := range work {
			f()
		}
	}
}
