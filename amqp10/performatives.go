package amqp10

import "math"

// The performatives as read from the client (AMQP 2.7). Only what the engine uses is kept. Slices of raw bytes alias the
// frame.

// The decode methods read the list that follows the descriptor.

func (o *Open) decode(d *decoder) {
	*o = Open{MaxFrameSize: math.MaxUint32, ChannelMax: math.MaxUint16}
	defer d.leave(d.enter())
	if d.has() {
		o.ContainerID = d.textField()
	}
	if d.has() {
		o.Hostname = d.textField()
	}
	if d.has() {
		o.MaxFrameSize = d.uintField()
	}
	if d.has() {
		o.ChannelMax = d.ushortField()
	}
	if d.has() {
		o.IdleTimeout = d.uintField()
	}
	if d.has() {
		o.OutgoingLocales = d.symbols()
	}
	if d.has() {
		o.IncomingLocales = d.symbols()
	}
	if d.has() {
		o.OfferedCapabilities = d.symbols()
	}
	if d.has() {
		o.DesiredCapabilities = d.symbols()
	}
	if d.has() {
		o.Properties = d.mapField()
	}
}

type beginFrame struct {
	nextOutgoingID uint32
	incomingWindow uint32
	handleMax      uint32
}

func (p *beginFrame) decode(d *decoder) {
	*p = beginFrame{handleMax: math.MaxUint32}
	defer d.leave(d.enter())
	if d.has() { // remote-channel: only an answer to our own begin would set it, and we never begin
		d.ushortField()
	}
	if d.has() {
		p.nextOutgoingID = d.uintField()
	}
	if d.has() {
		p.incomingWindow = d.uintField()
	}
	if d.has() { // outgoing-window: informative, we hold no transfers back on our side
		d.uintField()
	}
	if d.has() {
		p.handleMax = d.uintField()
	}
}

type attachFrame struct {
	name                 string
	handle               uint32
	role                 Role // the client's
	snd                  SndSettleMode
	rcv                  RcvSettleMode
	source, target       []byte // encoded, for the echo; nil when null
	initialDeliveryCount uint32
	maxMessageSize       uint64
	desired              []Symbol
	properties           Map
}

func (p *attachFrame) decode(d *decoder) {
	*p = attachFrame{snd: SndMixed}
	defer d.leave(d.enter())
	if d.has() {
		p.name = d.textField()
	}
	if d.has() {
		p.handle = d.uintField()
	}
	if d.has() {
		p.role = Role(d.bool())
	}
	if d.has() {
		p.snd = SndSettleMode(d.unsigned(uint64(SndMixed)))
	}
	if d.has() {
		p.rcv = RcvSettleMode(d.unsigned(uint64(RcvSecond)))
	}
	if d.has() {
		p.source = d.rawField()
	}
	if d.has() {
		p.target = d.rawField()
	}
	if d.has() { // unsettled: nothing is resumed
		d.skip()
	}
	if d.has() { // incomplete-unsettled
		d.skip()
	}
	if d.has() {
		p.initialDeliveryCount = d.uintField()
	}
	if d.has() {
		p.maxMessageSize = d.ulongField()
	}
	if d.has() { // offered-capabilities
		d.skip()
	}
	if d.has() {
		p.desired = d.symbols()
	}
	if d.has() {
		p.properties = d.mapField()
	}
}

// rawField passes over one value and returns its encoding.
func (d *decoder) rawField() []byte {
	at := d.pos
	d.skip()
	if d.err != nil {
		return nil
	}
	return d.in[at:d.pos]
}

type flowFrame struct {
	nextIncomingID opt32
	incomingWindow uint32
	handle         opt32
	deliveryCount  opt32
	linkCredit     opt32
	drain, echo    bool
}

func (p *flowFrame) decode(d *decoder) {
	*p = flowFrame{}
	defer d.leave(d.enter())
	p.nextIncomingID = d.optUint()
	if d.has() {
		p.incomingWindow = d.uintField()
	}
	d.optUint() // next-outgoing-id and outgoing-window: we count what arrives
	d.optUint()
	p.handle = d.optUint()
	p.deliveryCount = d.optUint()
	p.linkCredit = d.optUint()
	d.optUint() // available
	p.drain = d.has() && d.bool()
	p.echo = d.has() && d.bool()
}

type transferFrame struct {
	handle     uint32
	deliveryID opt32
	tag        []byte
	format     uint32
	settled    bool
	more       bool
	rcvFirst   bool // overrides receiver settle mode second of the link
	aborted    bool
}

func (p *transferFrame) decode(d *decoder) {
	*p = transferFrame{}
	defer d.leave(d.enter())
	if d.has() {
		p.handle = d.uintField()
	}
	p.deliveryID = d.optUint()
	if d.has() {
		p.tag = d.octets()
	}
	if d.has() {
		p.format = d.uintField()
	}
	p.settled = d.has() && d.bool()
	p.more = d.has() && d.bool()
	if d.has() {
		p.rcvFirst = RcvSettleMode(d.unsigned(uint64(RcvSecond))) == RcvFirst
	}
	if d.has() { // state: a sender's view of a delivery changes nothing for us
		d.skip()
	}
	if d.has() { // resume: nothing is resumed
		d.bool()
	}
	p.aborted = d.has() && d.bool()
}

type dispositionFrame struct {
	role        Role
	first, last uint32
	settled     bool
	state       DeliveryState
}

func (p *dispositionFrame) decode(d *decoder) {
	*p = dispositionFrame{}
	defer d.leave(d.enter())
	p.role = Role(d.has() && d.bool())
	if d.has() {
		p.first = d.uintField()
	}
	p.last = p.first
	if d.has() {
		p.last = d.uintField()
	}
	p.settled = d.has() && d.bool()
	if d.has() {
		p.state = d.deliveryState()
	}
}

type detachFrame struct {
	handle uint32
	closed bool
	err    *Error
}

func (p *detachFrame) decode(d *decoder) {
	*p = detachFrame{}
	defer d.leave(d.enter())
	if d.has() {
		p.handle = d.uintField()
	}
	p.closed = d.has() && d.bool()
	if d.has() {
		p.err = d.errorField()
	}
}

// decodeOnlyError reads the one field that end and close have.
func decodeOnlyError(d *decoder) (err *Error) {
	defer d.leave(d.enter())
	if d.has() {
		err = d.errorField()
	}
	return err
}

// errorField reads an error (AMQP 2.8.14).
func (d *decoder) errorField() *Error {
	if desc := d.descriptor(); desc != descError {
		d.skip()
		return &Error{Condition: CondInternalError, Description: "peer sent an error of an unknown type"}
	}
	defer d.leave(d.enter())
	e := new(Error)
	if d.has() {
		e.Condition = Symbol(d.textField())
	}
	if d.has() {
		e.Description = d.textField()
	}
	if d.has() {
		e.Info = d.mapField()
	}
	return e
}

// The longest description of an error, in bytes: of a whole one, and where there is no room for that.
const (
	maxDescription   = 1024
	shortDescription = 256
)

// appendError appends an error, whole or without its info and with a short description.
func appendError(b []byte, e *Error, whole bool) []byte {
	f := openFields(b, descError)
	f.symbol(e.Condition)
	if whole {
		f.optText(clip(e.Description, maxDescription))
		f.optMap(e.Info)
	} else {
		f.optText(clip(e.Description, shortDescription))
	}
	return f.closeWhole(3)
}

// clip cuts s to at most n bytes without cutting through a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

func (f *fields) optError(e *Error, whole bool) {
	if e == nil {
		f.null()
		return
	}
	f.b = appendError(f.b, e, whole)
	f.wrote()
}
