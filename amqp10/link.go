package amqp10

// linkState is how far a link has come.
type linkState uint8

const (
	linkAttaching linkState = iota // the peer is being asked
	linkAttached
	linkDetaching // our detach is sent; what the client still sends is dropped until its detach
	linkDetached
)

// Link is our end of one link (AMQP 2.6). Its identity is the pointer: names are unique only per session and role.
type Link struct {
	session *Session

	// What the client's attach said; fixed.
	name         string
	role         Role // ours
	snd          SndSettleMode
	rcv          RcvSettleMode
	source       *Source
	target       *Target
	properties   Map
	desired      []Symbol
	peerMax      uint64
	in, out      uint32 // the client's handle and ours
	initialCount uint32
	attachBytes  int // of the frame

	reply *reply // what our attach will say; nil after it
	node  Node   // nil when refused; fixed after the attach
	gone  bool   // Detached was called; guarded by calls

	// Guarded by the connection's mu.
	state         linkState
	detach        *detachWish // asked for before the attach was answered
	deliveryCount uint32
	credit        uint32
	unsettled     int
	owesFlow      bool
	maxMessage    uint64
	user          any

	// As a receiver.
	window     uint32
	partial    *Delivery // a delivery of which frames are still to come
	discarding bool      // the rest of it is dropped: it is too large
	lends      bool      // see LendDeliveries; fixed after the attach
	gathers    bool      // and the node is a Gatherer; the same

	// As a sender.
	drain   bool // the client asked for it and waits for Drained
	drained bool // the next flow says so
	waiting bool // Send returned ErrBusy: in conn.waiting
}

// reply is what the node wants the attach to say.
type reply struct {
	source     *Source
	target     *Target
	properties Map
	offered    []Symbol
}

type detachWish struct{ err *Error }

// Name returns the link's name as the client chose it.
func (l *Link) Name() string { return l.name }

// Role returns our role: RoleReceiver when the client sends to us.
func (l *Link) Role() Role { return l.role }

// Session returns the session the link is attached to.
func (l *Link) Session() *Session { return l.session }

// Conn returns the connection the link belongs to.
func (l *Link) Conn() *Conn { return l.session.conn }

// Source returns the source the client asked for, nil when it sent null. The caller must not change it.
func (l *Link) Source() *Source { return l.source }

// Target returns the target the client asked for, nil when it sent null. The caller must not change it.
func (l *Link) Target() *Target { return l.target }

// Address returns the address at our end: the target's when the client sends, the source's when it receives.
func (l *Link) Address() string {
	switch {
	case l.role == RoleReceiver && l.target != nil:
		return l.target.Address
	case l.role == RoleSender && l.source != nil:
		return l.source.Address
	}
	return ""
}

// Properties returns the properties of the client's attach. The caller must not change them.
func (l *Link) Properties() Map { return l.properties }

// DesiredCapabilities returns those of the client's attach.
func (l *Link) DesiredCapabilities() []Symbol { return l.desired }

// SndSettleMode returns the sender settle mode of the link, which is what the client asked for.
func (l *Link) SndSettleMode() SndSettleMode { return l.snd }

// RcvSettleMode returns the receiver settle mode of the link: what the client asked for unless SetRcvSettleMode changed it.
func (l *Link) RcvSettleMode() RcvSettleMode { return l.rcv }

// SetRcvSettleMode answers with another receiver settle mode than the client asked for. As the receiver we may choose
// (AMQP 2.6.12), and do what we chose. Only during Peer.Attach.
func (l *Link) SetRcvSettleMode(m RcvSettleMode) { l.shape(func(*reply) { l.rcv = m }) }

// PeerMaxMessageSize returns the max-message-size of the client's attach in bytes; 0: unlimited.
func (l *Link) PeerMaxMessageSize() uint64 { return l.peerMax }

// SetMaxMessageSize sets what the attach announces, and, when the client sends, what it may send, in bytes. Only during
// Peer.Attach.
func (l *Link) SetMaxMessageSize(n uint64) {
	l.session.conn.mu.Lock()
	defer l.session.conn.mu.Unlock()
	l.maxMessage = n
}

// SetProperties sets the properties of our attach; keys are symbols. Only during Peer.Attach.
func (l *Link) SetProperties(m Map) { l.shape(func(r *reply) { r.properties = m }) }

// SetOfferedCapabilities sets those of our attach. Only during Peer.Attach.
func (l *Link) SetOfferedCapabilities(caps ...Symbol) { l.shape(func(r *reply) { r.offered = caps }) }

// SetSource answers with src instead of the client's own source, which is echoed otherwise. Only during Peer.Attach.
func (l *Link) SetSource(src *Source) { l.shape(func(r *reply) { r.source = src }) }

// SetTarget answers with t instead of the client's own target, which is echoed otherwise. Only during Peer.Attach.
func (l *Link) SetTarget(t *Target) { l.shape(func(r *reply) { r.target = t }) }

func (l *Link) shape(f func(*reply)) {
	l.session.conn.mu.Lock()
	defer l.session.conn.mu.Unlock()
	if l.reply != nil {
		f(l.reply)
	}
}

// SetCreditWindow sets how much credit is kept granted to a client that sends: topped up when half is used, and withheld
// while Config.MaxUnsettledPerLink deliveries are unsettled. 0 grants no more; credit already granted stays.
// The default is Config.CreditWindow.
func (l *Link) SetCreditWindow(n uint32) {
	l.session.conn.mu.Lock()
	defer l.session.conn.mu.Unlock()
	l.window = n
	if l.role == RoleReceiver && l.session.alive() {
		l.topUp()
	}
}

// LendDeliveries saves the node what it does not need: each Delivery it receives, with its Payload, is valid until Receive returns,
// which must have settled it, or, of a Gatherer, until Gathered returns. Only during Peer.Attach.
func (l *Link) LendDeliveries() { l.shape(func(*reply) { l.lends = true }) }

// Credit returns how many deliveries Send would take now (as a sender), or the client may still send (as a receiver).
func (l *Link) Credit() uint32 {
	l.session.conn.mu.Lock()
	defer l.session.conn.mu.Unlock()
	return l.credit
}

// SetUserData keeps v with the link for UserData.
func (l *Link) SetUserData(v any) {
	l.session.conn.mu.Lock()
	defer l.session.conn.mu.Unlock()
	l.user = v
}

// UserData returns what SetUserData kept, nil before.
func (l *Link) UserData() any {
	l.session.conn.mu.Lock()
	defer l.session.conn.mu.Unlock()
	return l.user
}
