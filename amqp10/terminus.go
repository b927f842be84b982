package amqp10

// Source is where the messages of a link come from (AMQP 3.5.3).
type Source struct {
	Address               string // "" when absent
	Durable               uint32
	ExpiryPolicy          Symbol
	Timeout               uint32 // seconds
	Dynamic               bool
	DynamicNodeProperties Map
	DistributionMode      Symbol
	Filter                Map // symbol to Described, as the client sent it
	DefaultOutcome        DeliveryState
	Outcomes              []Symbol
	Capabilities          []Symbol
}

// Target is where the messages of a link go to (AMQP 3.5.4).
type Target struct {
	Address               string // "" when absent
	Durable               uint32
	ExpiryPolicy          Symbol
	Timeout               uint32 // seconds
	Dynamic               bool
	DynamicNodeProperties Map
	Capabilities          []Symbol
}

// decodeSource decodes a source. ok is false when it is of another type.
func decodeSource(b []byte, lim Limits) (s *Source, ok bool, err error) {
	d := newDecoder(b, lim)
	d.own = true
	if d.descriptor() != descSource {
		return nil, false, d.err
	}
	s = new(Source)
	s.decode(&d)
	return s, true, d.err
}

func (s *Source) decode(d *decoder) {
	defer d.leave(d.enter())
	if d.has() {
		s.Address = d.textField()
	}
	if d.has() {
		s.Durable = d.uintField()
	}
	if d.has() {
		s.ExpiryPolicy = Symbol(d.textField())
	}
	if d.has() {
		s.Timeout = d.uintField()
	}
	s.Dynamic = d.has() && d.bool()
	if d.has() {
		s.DynamicNodeProperties = d.mapField()
	}
	if d.has() {
		s.DistributionMode = Symbol(d.textField())
	}
	if d.has() {
		s.Filter = d.mapField()
	}
	if d.has() {
		s.DefaultOutcome = d.deliveryState()
	}
	if d.has() {
		s.Outcomes = d.symbols()
	}
	if d.has() {
		s.Capabilities = d.symbols()
	}
}

func (s *Source) append(b []byte) ([]byte, error) {
	f := openFields(b, descSource)
	f.optText(s.Address)
	f.optUint(opt32{s.Durable, s.Durable != 0})
	f.optSymbol(s.ExpiryPolicy)
	f.optUint(opt32{s.Timeout, s.Timeout != 0})
	f.optTrue(s.Dynamic)
	f.optMap(s.DynamicNodeProperties)
	f.optSymbol(s.DistributionMode)
	f.optMap(s.Filter)
	f.state(s.DefaultOutcome, true)
	f.optSymbols(s.Outcomes)
	f.optSymbols(s.Capabilities)
	return f.close(), f.err
}

// decodeTarget decodes a target. ok is false when it is of another type, such as a transaction coordinator.
func decodeTarget(b []byte, lim Limits) (t *Target, ok bool, err error) {
	d := newDecoder(b, lim)
	d.own = true
	if d.descriptor() != descTarget {
		return nil, false, d.err
	}
	t = new(Target)
	t.decode(&d)
	return t, true, d.err
}

func (t *Target) decode(d *decoder) {
	defer d.leave(d.enter())
	if d.has() {
		t.Address = d.textField()
	}
	if d.has() {
		t.Durable = d.uintField()
	}
	if d.has() {
		t.ExpiryPolicy = Symbol(d.textField())
	}
	if d.has() {
		t.Timeout = d.uintField()
	}
	t.Dynamic = d.has() && d.bool()
	if d.has() {
		t.DynamicNodeProperties = d.mapField()
	}
	if d.has() {
		t.Capabilities = d.symbols()
	}
}

func (t *Target) append(b []byte) ([]byte, error) {
	f := openFields(b, descTarget)
	f.optText(t.Address)
	f.optUint(opt32{t.Durable, t.Durable != 0})
	f.optSymbol(t.ExpiryPolicy)
	f.optUint(opt32{t.Timeout, t.Timeout != 0})
	f.optTrue(t.Dynamic)
	f.optMap(t.DynamicNodeProperties)
	f.optSymbols(t.Capabilities)
	return f.close(), f.err
}
