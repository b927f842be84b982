package amqp10

// A note is a callback that could not be made where its cause was noticed: inside a call into the engine.
type note struct {
	kind    noteKind
	link    *Link
	session *Session
	err     *Error
}

type noteKind uint8

const (
	noteFlow noteKind = iota
	noteDetached
	noteSessionEnded
)

// note keeps n for runNotes. mu is held.
func (c *Conn) note(n note) {
	c.notes = append(c.notes, n)
	c.noted.Store(true)
}

// runNotes makes the callbacks noted. Whoever is in a callback already makes them on its way out, so that calls from
// outside never wait. Neither calls nor mu is held.
func (c *Conn) runNotes() {
	for c.noted.Load() && c.calls.TryLock() {
		for _, n := range c.takeNotes() {
			c.run(n)
		}
		c.calls.Unlock()
	}
}

func (c *Conn) takeNotes() []note {
	c.mu.Lock()
	defer c.mu.Unlock()
	notes := c.notes
	c.notes = nil
	c.noted.Store(false)
	return notes
}

// run makes the callback n. calls is held.
func (c *Conn) run(n note) {
	switch n.kind {
	case noteFlow:
		n.link.callFlow()
	case noteDetached:
		n.link.callDetached(n.err)
	case noteSessionEnded:
		c.peer.SessionEnded(n.session)
	}
}
