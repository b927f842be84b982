package amqp10

// SASLCode is the outcome of a SASL exchange (AMQP 5.3.3.6).
type SASLCode uint8

// SASL outcome codes.
const (
	SASLOK      SASLCode = 0
	SASLAuth    SASLCode = 1 // bad credentials
	SASLSys     SASLCode = 2
	SASLSysPerm SASLCode = 3
	SASLSysTemp SASLCode = 4
)

// Peer decides, for one connection, who the client is and what stands behind each address. One Peer serves one
// connection. Its methods are called one at a time, mostly on the goroutine that reads, without engine locks, and must
// not block (see the package comment).
type Peer interface {
	// SASL judges a one-step mechanism out of those offered. response is the client's initial response, nil when it sent
	// none; it is only valid during the call. A client that skips the SASL layer never gets here.
	SASL(mechanism string, response []byte) SASLCode

	// Open is called with the client's open. A non-nil error refuses: open is answered by open and close(error).
	Open(c *Conn, o *Open) *Error

	// Attach decides what stands behind the link the client wants: a Receiver when l.Role() is RoleReceiver (the client
	// sends), a Sender when it is RoleSender (the client receives). A non-nil error refuses: the engine answers with an
	// attach whose terminus is null, then detach(closed, error) (AMQP 2.6.3), and calls no node.
	//
	// During the call the link can be shaped with SetMaxMessageSize, SetCreditWindow, SetRcvSettleMode, SetProperties,
	// SetOfferedCapabilities, SetSource, SetTarget and SetUserData. Sending on it is possible once Flow was called.
	Attach(l *Link) (Node, *Error)

	// SessionEnded is called once per session that began, after Detached of its links.
	SessionEnded(s *Session)

	// Closed is called last and exactly once, after every Detached and SessionEnded; err is what ServeConn returns. c is
	// never nil, but c.Open() is when the client never got that far.
	Closed(c *Conn, err error)
}

// Node is our end of a link.
type Node interface {
	// Detached is called exactly once for each link that was attached to the node, however it ends: the client detached
	// (err is its error, or nil), we detached (err is ours), the session or the connection ended (err is the reason as far
	// as there is one). Unsettled deliveries of the link are forgotten by the engine.
	Detached(l *Link, err *Error)
}

// Receiver is a node the client sends to. The engine grants credit and tops it up.
type Receiver interface {
	Node
	// Receive takes a whole message. Unless d.Settled(), settle it with one of d's methods, now or later, from any
	// goroutine; credit runs dry when too many deliveries stay unsettled.
	Receive(l *Link, d *Delivery)
}

// Gatherer is a Receiver that does at once what its deliveries want, when several came together. It matters only on a link that lends them
// (Link.LendDeliveries): then each, with its Payload, is valid until Gathered returns.
type Gatherer interface {
	Receiver
	// Gathered is called after one to sixteen calls of Receive, on the same goroutine, before the reader does anything else for the
	// connection, and before it waits for anything: all of their deliveries must be settled when it returns. It is not called once Detached was.
	Gathered(l *Link)
}

// Sender is a node the client receives from.
type Sender interface {
	Node
	// Flow is called when the client changed its credit, and after Send returned ErrBusy once there is room again.
	// credit is what may be sent now. With drain, send what there is and then call l.Drained (AMQP 2.6.7); should Send
	// return ErrBusy on the way, leave it at that: Flow comes again, drain still set. It may be
	// called on another goroutine than the reader's, but never at the same time as another callback of the connection.
	Flow(l *Link, credit uint32, drain bool)
	// Settled is called when the client reports the state of an unsettled delivery; id and tag (valid during the call) are
	// those of Send. With settled, the delivery is over. Without, either st is not an outcome yet, or the client uses
	// receiver settle mode second and waits for l.Settle(id, ...).
	Settled(l *Link, id uint32, tag []byte, st DeliveryState, settled bool)
}
