package amqp10

import "bytes"

// Header is the header section (AMQP 3.2.1).
type Header struct {
	Durable       bool
	Priority      uint8   // 4 when absent
	TTL           *uint32 // milliseconds
	FirstAcquirer bool
	DeliveryCount uint32
}

// Properties is the properties section (AMQP 3.2.4). Empty texts are absent.
type Properties struct {
	MessageID          any // nil, uint64, UUID, []byte or string: the type on the wire
	UserID             []byte
	To                 string
	Subject            string
	ReplyTo            string
	CorrelationID      any    // like MessageID
	ContentType        string // a symbol on the wire
	ContentEncoding    string // a symbol on the wire
	AbsoluteExpiryTime *Timestamp
	CreationTime       *Timestamp
	GroupID            string
	GroupSequence      *uint32
	ReplyToGroupID     string
}

// BodyKind says what a message's body consists of.
type BodyKind uint8

// The kinds of body. BodyNone is tolerated although AMQP 3.2 asks for a body.
const (
	BodyNone     BodyKind = iota
	BodyData              // one or more data sections: Message.Data
	BodySequence          // one or more amqp-sequence sections: Message.Sequences
	BodyValue             // one amqp-value section: Message.Value
)

// Message is a message taken apart (AMQP 3.2). Absent sections are nil.
type Message struct {
	Header                *Header
	DeliveryAnnotations   Map
	MessageAnnotations    Map
	Properties            *Properties
	ApplicationProperties Map // in wire order
	Body                  BodyKind
	Data                  [][]byte
	Sequences             []List
	Value                 any
	Footer                Map
}

// Bytes returns the body as one piece: data sections joined (without copying when there is one), or an amqp-value that
// is binary, a string or a symbol. ok is false for every other body.
func (m *Message) Bytes() (b []byte, ok bool) {
	switch m.Body {
	case BodyData:
		if len(m.Data) == 1 {
			return m.Data[0], true
		}
		return bytes.Join(m.Data, nil), true
	case BodyValue:
		switch v := m.Value.(type) {
		case []byte:
			return v, true
		case string:
			return []byte(v), true
		case Symbol:
			return []byte(v), true
		}
	}
	return nil, false
}
