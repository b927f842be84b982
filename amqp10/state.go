package amqp10

// DeliveryState is the state of a delivery at one end: nil, [Accepted], [Rejected], [Released], [Modified],
// [Received] or [UnknownState] (AMQP 3.4).
type DeliveryState interface{ deliveryState() }

// Accepted: the message was taken over.
type Accepted struct{}

// Rejected: the message is invalid for the receiver and must not come again.
type Rejected struct{ Error *Error }

// Released: the message was not and will not be acted upon.
type Released struct{}

// Modified: the message was not taken over and is changed for its next delivery.
type Modified struct {
	DeliveryFailed    bool // count this delivery as failed
	UndeliverableHere bool // do not offer it to this receiver again
	Annotations       Map  // merged into the message annotations
}

// Received: how much of the delivery has arrived. It is not an outcome.
type Received struct {
	SectionNumber uint32
	SectionOffset uint64
}

// UnknownState is any state outside AMQP 3.4, for instance one of a transaction.
type UnknownState struct{ Described }

func (Accepted) deliveryState()     {}
func (Rejected) deliveryState()     {}
func (Released) deliveryState()     {}
func (Modified) deliveryState()     {}
func (Received) deliveryState()     {}
func (UnknownState) deliveryState() {}
