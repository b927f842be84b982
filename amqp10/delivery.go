package amqp10

// Delivery is one message the client sent. The settling methods may be called from any goroutine; the first wins, later
// calls and calls after the link ended do nothing. Settlements made close together leave together, as ranges where
// neighbours have the same outcome. When the link uses receiver settle mode second the outcome is sent unsettled and the
// client settles.
type Delivery struct {
	// Payload is the encoded message, all sections. It belongs to whoever received the delivery.
	Payload []byte
	// Format is the message-format: 0, or for instance BatchFormat.
	Format uint32
}

// Tag returns the delivery-tag the client chose, at most 32 bytes.
func (d *Delivery) Tag() []byte { panic("not yet") }

// Settled says whether the client sent the message settled: then it expects no answer.
func (d *Delivery) Settled() bool { panic("not yet") }

// Accept settles the delivery as accepted.
func (d *Delivery) Accept() { panic("not yet") }

// Reject settles the delivery as rejected. err should not be nil: some clients read the error unchecked.
func (d *Delivery) Reject(err *Error) { panic("not yet") }

// Release settles the delivery as released.
func (d *Delivery) Release() { panic("not yet") }

// Modify settles the delivery as modified.
func (d *Delivery) Modify(m Modified) { panic("not yet") }
