package amqp10

// Link is our end of one link (AMQP 2.6). Its identity is the pointer: names are unique only per session and role.
type Link struct{}

// Name returns the link's name as the client chose it.
func (l *Link) Name() string { panic("not yet") }

// Role returns our role: RoleReceiver when the client sends to us.
func (l *Link) Role() Role { panic("not yet") }

// Session returns the session the link is attached to.
func (l *Link) Session() *Session { panic("not yet") }

// Conn returns the connection the link belongs to.
func (l *Link) Conn() *Conn { panic("not yet") }

// Source returns the source the client asked for, nil when it sent null. The caller must not change it.
func (l *Link) Source() *Source { panic("not yet") }

// Target returns the target the client asked for, nil when it sent null. The caller must not change it.
func (l *Link) Target() *Target { panic("not yet") }

// Address returns the address at our end: the target's when the client sends, the source's when it receives.
func (l *Link) Address() string { panic("not yet") }

// Properties returns the properties of the client's attach. The caller must not change them.
func (l *Link) Properties() Map { panic("not yet") }

// DesiredCapabilities returns those of the client's attach.
func (l *Link) DesiredCapabilities() []Symbol { panic("not yet") }

// SndSettleMode returns the sender settle mode of the link, which is what the client asked for.
func (l *Link) SndSettleMode() SndSettleMode { panic("not yet") }

// RcvSettleMode returns the receiver settle mode of the link, which is what the client asked for.
func (l *Link) RcvSettleMode() RcvSettleMode { panic("not yet") }

// PeerMaxMessageSize returns the max-message-size of the client's attach in bytes; 0: unlimited.
func (l *Link) PeerMaxMessageSize() uint64 { panic("not yet") }

// SetMaxMessageSize sets what the attach announces, and, when the client sends, what it may send, in bytes. Only during
// Peer.Attach.
func (l *Link) SetMaxMessageSize(n uint64) { panic("not yet") }

// SetProperties sets the properties of our attach; keys are symbols. Only during Peer.Attach.
func (l *Link) SetProperties(m Map) { panic("not yet") }

// SetOfferedCapabilities sets those of our attach. Only during Peer.Attach.
func (l *Link) SetOfferedCapabilities(caps ...Symbol) { panic("not yet") }

// SetSource answers with src instead of the client's own source, which is echoed otherwise. Only during Peer.Attach.
func (l *Link) SetSource(src *Source) { panic("not yet") }

// SetTarget answers with t instead of the client's own target, which is echoed otherwise. Only during Peer.Attach.
func (l *Link) SetTarget(t *Target) { panic("not yet") }

// SetCreditWindow sets how much credit is kept granted to a client that sends: topped up when half is used, and withheld
// while Config.MaxUnsettledPerLink deliveries are unsettled. 0 grants no more; credit already granted stays.
// The default is Config.CreditWindow.
func (l *Link) SetCreditWindow(n uint32) { panic("not yet") }

// Credit returns how many deliveries Send would take now (as a sender), or the client may still send (as a receiver).
func (l *Link) Credit() uint32 { panic("not yet") }

// Send sends one message on a link whose Role is RoleSender, and uses one credit. tag (at most 32 bytes, chosen by the
// caller, unique among the link's unsettled deliveries) names the delivery in Sender.Settled; format is the
// message-format, 0 for an ordinary message; payload is an encoded message. Both are copied. settled asks for a delivery
// without settlement; the link's sender settle mode has the last word. The id returned is the delivery-id.
//
// Send never waits for the network. ErrNoCredit and ErrBusy mean not now: try again when Sender.Flow is called.
// ErrDetached and ErrTooLarge mean never.
func (l *Link) Send(tag []byte, format uint32, payload []byte, settled bool) (id uint32, err error) {
	panic("not yet")
}

// Settle tells the client that the delivery of that id is settled with state st: the answer that a client in receiver
// settle mode second waits for. It may also be used to settle a delivery the client has not answered. Unknown ids
// (settled already, or of a link that is gone) are ignored.
func (l *Link) Settle(id uint32, st DeliveryState) { panic("not yet") }

// Drained uses up the remaining credit and tells the client so (AMQP 2.6.7). Without a pending drain it does nothing.
func (l *Link) Drained() { panic("not yet") }

// Detach closes the link with err, which may be nil. It does not wait: Node.Detached follows as a callback. Calls after
// the first, or after the client's detach, do nothing.
func (l *Link) Detach(err *Error) { panic("not yet") }

// SetUserData keeps v with the link for UserData.
func (l *Link) SetUserData(v any) { panic("not yet") }

// UserData returns what SetUserData kept, nil before.
func (l *Link) UserData() any { panic("not yet") }
