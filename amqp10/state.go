package amqp10

// DeliveryState is the state of a delivery at one end: nil, [Accepted], [Rejected], [Released], [Modified],
// [Received] or [UnknownState] (AMQP 3.4).
type DeliveryState interface{ deliveryState() }

// Accepted means that the message was taken over.
type Accepted struct{}

// Rejected means that the message is invalid for the receiver and must not come again.
type Rejected struct{ Error *Error }

// Released means that the message was not and will not be acted upon.
type Released struct{}

// Modified means that the message was not taken over and is changed for its next delivery.
type Modified struct {
	DeliveryFailed    bool // count this delivery as failed
	UndeliverableHere bool // do not offer it to this receiver again
	Annotations       Map  // merged into the message annotations
}

// Received says how much of the delivery has arrived. It is not an outcome.
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

// deliveryState reads a state (AMQP 3.4).
func (d *decoder) deliveryState() DeliveryState {
	at := d.pos
	switch d.descriptor() {
	case descAccepted:
		d.skip()
		return Accepted{}
	case descReleased:
		d.skip()
		return Released{}
	case descRejected:
		return d.rejected()
	case descModified:
		return d.modified()
	case descReceived:
		return d.received()
	}
	if d.err != nil {
		return nil
	}
	d.pos = at
	described, _ := d.value().(Described)
	return UnknownState{described}
}

func (d *decoder) rejected() DeliveryState {
	defer d.leave(d.enter())
	var s Rejected
	if d.has() {
		s.Error = d.errorField()
	}
	return s
}

func (d *decoder) modified() DeliveryState {
	defer d.leave(d.enter())
	var s Modified
	s.DeliveryFailed = d.has() && d.bool()
	s.UndeliverableHere = d.has() && d.bool()
	if d.has() {
		s.Annotations = d.mapField()
	}
	return s
}

func (d *decoder) received() DeliveryState {
	defer d.leave(d.enter())
	var s Received
	if d.has() {
		s.SectionNumber = d.uintField()
	}
	if d.has() {
		s.SectionOffset = d.ulongField()
	}
	return s
}

// state writes a delivery state, null for nil.
func (f *fields) state(s DeliveryState, info bool) {
	var in fields
	switch s := s.(type) {
	case nil:
		f.null()
		return
	case Accepted:
		in = openFields(f.b, descAccepted)
	case Released:
		in = openFields(f.b, descReleased)
	case Rejected:
		in = openFields(f.b, descRejected)
		in.optError(s.Error, info)
	case Modified:
		in = openFields(f.b, descModified)
		in.optTrue(s.DeliveryFailed)
		in.optTrue(s.UndeliverableHere)
		in.optMap(s.Annotations)
	case Received:
		in = openFields(f.b, descReceived)
		in.uint(s.SectionNumber)
		in.ulong(s.SectionOffset)
	case UnknownState:
		f.value(s.Described)
		return
	}
	f.b = in.close()
	f.wrote()
}
