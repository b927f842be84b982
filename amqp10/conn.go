package amqp10

// Open is what the client said in its open frame (AMQP 2.7.1).
type Open struct {
	ContainerID         string
	Hostname            string
	MaxFrameSize        uint32 // bytes
	ChannelMax          uint16
	IdleTimeout         uint32 // milliseconds; 0: none
	OutgoingLocales     []Symbol
	IncomingLocales     []Symbol
	OfferedCapabilities []Symbol
	DesiredCapabilities []Symbol
	Properties          Map
}

// Conn is one client's connection.
type Conn struct{}

// Open returns the client's open, nil before it came. The caller must not change it.
func (c *Conn) Open() *Open { panic("not yet") }

// Close closes in good order: close(err), a short wait for the client's close, then the socket is dropped. err may be nil.
// It does not wait. Calls after the first do nothing.
func (c *Conn) Close(err *Error) { panic("not yet") }

// Abort drops the socket at once; the client sees no close frame. It does not wait.
func (c *Conn) Abort() { panic("not yet") }

// SetUserData keeps v with the connection for UserData.
func (c *Conn) SetUserData(v any) { panic("not yet") }

// UserData returns what SetUserData kept, nil before.
func (c *Conn) UserData() any { panic("not yet") }
