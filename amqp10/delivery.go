package amqp10

// Delivery is one message the client sent. The settling methods may be called from any goroutine; the first wins, later
// calls and calls after the link ended do nothing. Settlements made close together leave together, as ranges where
// neighbours have the same outcome. When the link uses receiver settle mode second the outcome is sent unsettled and the
// client settles.
type Delivery struct {
	// Payload is the encoded message, all sections. It belongs to whoever received the delivery, unless the link lends it.
	Payload []byte
	// Format is the message-format: 0, or for instance BatchFormat.
	Format uint32

	link       *Link
	id         uint32
	tag        [maxTag]byte
	tagLen     uint8
	presettled bool
	second     bool // the client waits for our outcome and settles then
	done       bool // an outcome was given; guarded by the connection's mu
}

// Tag returns the delivery-tag the client chose, at most 32 bytes.
func (d *Delivery) Tag() []byte { return d.tag[:d.tagLen] }

// Settled says whether the client sent the message settled: then it expects no answer.
func (d *Delivery) Settled() bool { return d.presettled }

// Accept settles the delivery as accepted.
func (d *Delivery) Accept() { d.give(Accepted{}) }

// Reject settles the delivery as rejected. err should not be nil: some clients read the error unchecked.
func (d *Delivery) Reject(err *Error) { d.give(Rejected{err}) }

// Release settles the delivery as released.
func (d *Delivery) Release() { d.give(Released{}) }

// Modify settles the delivery as modified.
func (d *Delivery) Modify(m Modified) { d.give(m) }

func (d *Delivery) give(st DeliveryState) {
	c := d.link.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !d.presettled {
		d.settle(st)
	}
}

// settle reports the outcome st. mu is held.
func (d *Delivery) settle(st DeliveryState) {
	l := d.link
	if d.done || l.state != linkAttached || !l.session.alive() {
		return
	}
	d.done = true
	if !d.second {
		l.forget(d)
	}
	l.session.settle(RoleReceiver, d.id, st, !d.second)
	l.topUp()
}
