package amqpsrv

import (
	"encoding/binary"
	"time"
	"unsafe"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// Section descriptors of a message (AMQP 3.2).
const (
	sectionAnnotations           = 0x72
	sectionProperties            = 0x73
	sectionApplicationProperties = 0x74
	sectionData                  = 0x75
)

// plain reads telemetry as SDKs send it - annotations, properties and application properties of text, one data section - in
// place: the texts are those of the payload, and nothing is allocated. It gives up (ok false) at whatever it does not expect, for
// telemetryOf to read the message or to find fault with it; where both read a message they agree (FuzzPlain).
type plain struct {
	b    []byte // of the list or map that was entered, otherwise of the message
	rest []byte // what follows the list or map
	ok   bool
}

// telemetry reads one message into t, which is zero, and may be half filled if it gives up; properties is memory for its application
// properties, returned grown.
func (r *plain) telemetry(payload []byte, t *hub.Telemetry, properties []store.Property) (_ []store.Property, ok bool) {
	r.b, r.ok = payload, true
	first := len(properties)
	for last := byte(0); r.ok && len(r.b) > 0; {
		section := r.section()
		if section <= last { // in order, each once
			r.ok = false
			break
		}
		last = section
		switch section {
		case sectionAnnotations:
			r.annotations(&t.SystemProperties)
		case sectionProperties:
			r.system(&t.SystemProperties)
		case sectionApplicationProperties:
			properties = r.application(properties)
		case sectionData:
			t.Body = r.variable(0xa0)
		default:
			r.ok = false
		}
	}
	if len(properties) > first {
		t.Properties = properties[first:len(properties):len(properties)]
	}
	return properties, r.ok
}

func (r *plain) section() byte {
	if len(r.b) < 3 || r.b[0] != 0 || r.b[1] != 0x53 {
		r.ok = false
		return 0
	}
	section := r.b[2]
	r.b = r.b[3:]
	return section
}

func (r *plain) annotations(s *store.SystemProperties) {
	for n := r.compound(0xc1); n > 0 && r.ok; n -= 2 {
		key := amqp10.Symbol(inPlace(r.variable(0xa3)))
		annotation(s, key, r.text())
	}
	r.leave()
}

func (r *plain) application(properties []store.Property) []store.Property {
	for n := r.compound(0xc1); n > 0 && r.ok; n -= 2 {
		p := store.Property{Name: inPlace(r.variable(0xa1))}
		if p.Null = r.null(); !p.Null {
			p.Value = r.text()
		}
		properties = append(properties, p)
	}
	r.leave()
	return properties
}

// system reads the properties section; its fields have the order of AMQP 3.2.4.
func (r *plain) system(s *store.SystemProperties) {
	n := r.compound(0xc0)
	for field := 0; field < n && r.ok; field++ {
		if !r.null() {
			r.systemField(field, s)
		}
	}
	r.leave()
}

func (r *plain) systemField(field int, s *store.SystemProperties) {
	switch field {
	case 0:
		s.MessageID = r.text()
	case 1:
		s.UserID = inPlace(r.variable(0xa0))
	case 2:
		s.To = r.text()
	case 5:
		s.CorrelationID = r.text()
	case 6:
		s.ContentType = inPlace(r.variable(0xa3))
	case 7:
		s.ContentEncoding = inPlace(r.variable(0xa3))
	case 8:
		s.Expiry = expiry(r.timestamp())
	case 9:
		r.timestamp() // creation-time, which the hub does not keep
	default:
		r.ok = false
	}
}

// compound enters a list or map whose short code is code, and returns its count.
func (r *plain) compound(code byte) int {
	switch {
	case len(r.b) >= 3 && r.b[0] == code:
		return r.enter(2, int(r.b[1]), 1, int(r.b[2]))
	case len(r.b) >= 9 && r.b[0] == code+0x10:
		return r.enter(5, int(binary.BigEndian.Uint32(r.b[1:])), 4, int(binary.BigEndian.Uint32(r.b[5:])))
	}
	r.ok = false
	return 0
}

// enter makes the elements of a compound the input: size bytes from at on, of which the first counted hold the count.
func (r *plain) enter(at, size, counted, count int) int {
	if size > len(r.b)-at || size < counted || count > maxFields {
		r.ok = false
		return 0
	}
	r.b, r.rest = r.b[at+counted:at+size], r.b[at+size:]
	return count
}

// leave goes on behind the compound, which must have been read to its end.
func (r *plain) leave() {
	r.ok = r.ok && len(r.b) == 0
	r.b = r.rest
}

// maxFields bounds a map or list, keys and values counted apart, as messageLimits does.
const maxFields = 2048

func (r *plain) null() bool {
	if len(r.b) > 0 && r.b[0] == 0x40 {
		r.b = r.b[1:]
		return true
	}
	return false
}

func (r *plain) text() string { return inPlace(r.variable(0xa1)) }

// variable reads a binary, string or symbol whose short code is code.
func (r *plain) variable(code byte) []byte {
	var at, n int
	switch {
	case len(r.b) >= 2 && r.b[0] == code:
		at, n = 2, int(r.b[1])
	case len(r.b) >= 5 && r.b[0] == code+0x10:
		at, n = 5, int(binary.BigEndian.Uint32(r.b[1:]))
	default:
		r.ok = false
		return nil
	}
	if n > len(r.b)-at {
		r.ok = false
		return nil
	}
	v := r.b[at : at+n : at+n]
	r.b = r.b[at+n:]
	return v
}

func (r *plain) timestamp() amqp10.Timestamp {
	if len(r.b) < 9 || r.b[0] != 0x83 {
		r.ok = false
		return 0
	}
	v := binary.BigEndian.Uint64(r.b[1:])
	r.b = r.b[9:]
	return amqp10.Timestamp(v)
}

// expiry is the time that an absolute-expiry-time means; none for one that cannot be meant: amenzhinsky/iothub sends Go's zero
// time when there is no expiry.
func expiry(t amqp10.Timestamp) time.Time {
	if t <= 0 {
		return time.Time{}
	}
	return t.Time()
}

// inPlace is b as a string that shares its memory: valid as long as the delivery whose payload it is from.
func inPlace(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}
