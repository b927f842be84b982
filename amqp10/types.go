package amqp10

import (
	"encoding/hex"
	"time"
)

// The Go types that values of AMQP types are decoded to, and encoded from (AMQP 1.6):
//
//	null       nil          boolean    bool        char       Char
//	ubyte      uint8        byte       int8        timestamp  Timestamp
//	ushort     uint16       short      int16       uuid       UUID
//	uint       uint32       int        int32       binary     []byte
//	ulong      uint64       long       int64       string     string
//	float      float32      double     float64     symbol     Symbol
//	decimal32  Decimal32    decimal64  Decimal64   decimal128 Decimal128
//	list       List         map        Map         described  Described
//	array      []string, []Symbol, or Array for any other element type
//
// Nothing else can be encoded: a Go int is an error, not a guess.

// Symbol is an AMQP symbol: ASCII text of a constrained domain.
type Symbol string

// Char is one Unicode code point.
type Char rune

// UUID is an RFC 4122 UUID in network byte order.
type UUID [16]byte

// String returns the canonical lower-case text.
func (u UUID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], u[0:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:36], u[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// Timestamp is a point in time, in milliseconds since the Unix epoch (AMQP 1.6.17). It reaches back before 1970.
type Timestamp int64

// TimestampOf rounds t down to the millisecond.
func TimestampOf(t time.Time) Timestamp { return Timestamp(t.UnixMilli()) }

// Time returns the time in UTC.
func (t Timestamp) Time() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Decimal32 is an IEEE 754 decimal as on the wire; the engine only carries it.
type Decimal32 [4]byte

// Decimal64 is like Decimal32.
type Decimal64 [8]byte

// Decimal128 is like Decimal32.
type Decimal128 [16]byte

// List is an AMQP list.
type List []any

// Array is an AMQP array whose elements are neither strings nor symbols. All elements have the same Go type.
// An empty Array is encoded with elements of type null.
type Array []any

// Described is a value with a descriptor (a uint64 or a Symbol, as a rule).
type Described struct {
	Descriptor any
	Value      any
}

// Entry is one key and its value in a Map.
type Entry struct {
	Key   any
	Value any
}

// Map is an AMQP map in wire order. The engine does not check that keys are distinct.
type Map []Entry

// Get returns the value of the first entry whose key is the string or symbol key, and nil when there is none.
func (m Map) Get(key string) any {
	v, _ := m.Lookup(key)
	return v
}

// Lookup is Get that tells an absent key from a null value.
func (m Map) Lookup(key string) (any, bool) {
	for i := range m {
		switch k := m[i].Key.(type) {
		case string:
			if k == key {
				return m[i].Value, true
			}
		case Symbol:
			if string(k) == key {
				return m[i].Value, true
			}
		}
	}
	return nil, false
}

// Text returns the value of key when it is a string or a symbol, and "" otherwise.
func (m Map) Text(key string) string {
	switch v := m.Get(key).(type) {
	case string:
		return v
	case Symbol:
		return string(v)
	}
	return ""
}

// Role says which end of a link (or of a disposition) someone is (AMQP 2.8.1).
type Role bool

// The two roles.
const (
	RoleSender   Role = false
	RoleReceiver Role = true
)

func (r Role) String() string {
	if r == RoleReceiver {
		return "receiver"
	}
	return "sender"
}

// SndSettleMode says whether a sender settles before sending (AMQP 2.8.2).
type SndSettleMode uint8

// Sender settle modes.
const (
	SndUnsettled SndSettleMode = 0
	SndSettled   SndSettleMode = 1
	SndMixed     SndSettleMode = 2 // the default
)

// RcvSettleMode says whether a receiver settles at once or waits for the sender to settle (AMQP 2.8.3).
type RcvSettleMode uint8

// Receiver settle modes.
const (
	RcvFirst  RcvSettleMode = 0 // the default
	RcvSecond RcvSettleMode = 1
)
