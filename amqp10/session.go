package amqp10

// Session is one session of a connection (AMQP 2.5).
type Session struct{}

// Conn returns the connection the session belongs to.
func (s *Session) Conn() *Conn { panic("not yet") }

// End ends the session and with it all its links; err may be nil. Other sessions live on. It does not wait: Detached and
// SessionEnded follow as callbacks. Calls after the first, or after the client's end, do nothing.
func (s *Session) End(err *Error) { panic("not yet") }

// SetUserData keeps v with the session for UserData.
func (s *Session) SetUserData(v any) { panic("not yet") }

// UserData returns what SetUserData kept, nil before.
func (s *Session) UserData() any { panic("not yet") }
