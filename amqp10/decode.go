package amqp10

import (
	"errors"
	"fmt"
)

// decoder reads encoded values from in[pos:end]. The first error sticks and leaves nothing to read, so that a sequence of
// reads needs one check at the end. (A position instead of a shrinking slice: moving it costs no write barrier.)
//
// While inside a list entered with enter, has() steps from field to field: fields that are missing at the end of the list
// read like null, and fields beyond those we know are skipped by leave (AMQP 1.4).
type decoder struct {
	in     []byte
	pos    int
	end    int
	fields int  // fields left in the entered list
	values int  // values that may still be decoded
	depth  int  // levels that may still be entered
	own    bool // binary values are copied: the input will be overwritten
	err    error

	// Texts are cut out of one copy of the section they stand in, made when the first is met: one allocation for all.
	textFrom, textTo int
	text             string
}

var (
	errShort = errors.New("amqp10: value is longer than its frame or section")
	errDepth = errors.New("amqp10: values nested too deeply")
	errCount = errors.New("amqp10: too many values")
	errSize  = errors.New("amqp10: message too large")
)

func newDecoder(b []byte, lim Limits) decoder {
	lim = lim.orDefault()
	d := decoder{in: b, end: len(b), values: lim.Values, depth: lim.Depth}
	if len(b) > lim.Size {
		d.fail(errSize)
	}
	return d
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.pos, d.fields = d.end, 0
}

func (d *decoder) unexpected(code byte, want string) {
	d.fail(fmt.Errorf("amqp10: found type 0x%02x, want %s", code, want))
}

// left is the number of bytes not read yet, rest the bytes.
func (d *decoder) left() int    { return d.end - d.pos }
func (d *decoder) rest() []byte { return d.in[d.pos:d.end] }

// shareText makes the texts read from the next n bytes share one copy.
func (d *decoder) shareText(n int) { d.textFrom, d.textTo, d.text = d.pos, d.pos+n, "" }

// str returns b, the bytes just read, as a string.
func (d *decoder) str(b []byte) string {
	from := d.pos - len(b)
	if len(b) == 0 || from < d.textFrom || d.pos > d.textTo {
		return string(b)
	}
	if d.text == "" {
		d.text = string(d.in[d.textFrom:d.textTo])
	}
	return d.text[from-d.textFrom : d.pos-d.textFrom]
}

func (d *decoder) take(n uint32) []byte {
	if uint64(n) > uint64(d.left()) {
		d.fail(errShort)
		return nil
	}
	from := d.pos
	d.pos += int(n)
	return d.in[from:d.pos]
}

func (d *decoder) byte() byte {
	if d.pos >= d.end {
		d.fail(errShort)
		return codeNull
	}
	v := d.in[d.pos]
	d.pos++
	return v
}

// peek returns the next byte without reading it, codeNull when there is none.
func (d *decoder) peek() byte {
	if d.pos >= d.end {
		return codeNull
	}
	return d.in[d.pos]
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return be.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return be.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return be.Uint64(b)
	}
	return 0
}

// variable returns the contents of a variable-width value of that code.
func (d *decoder) variable(code byte) []byte {
	if code < codeBin32 {
		return d.take(uint32(d.byte()))
	}
	return d.take(d.uint32())
}

// has moves to the next field of the entered list and says whether it is there and not null.
func (d *decoder) has() bool {
	if d.fields <= 0 {
		return false
	}
	d.fields--
	if d.left() > 0 && d.peek() == codeNull {
		d.pos++
		return false
	}
	return true
}

// scope is what leave needs to return to.
type scope struct{ next, end, fields int }

// enter reads the constructor and header of a list and makes its fields the input, until leave.
func (d *decoder) enter() scope {
	size, count := d.compound(d.byte(), codeList8, "a list")
	s := scope{d.pos + size, d.end, d.fields}
	d.end, d.fields = d.pos+size, count
	if d.depth--; d.depth < 0 {
		d.fail(errDepth)
	}
	return s
}

func (d *decoder) leave(s scope) {
	d.depth++
	if d.err == nil {
		d.pos, d.end, d.fields = s.next, s.end, s.fields
	}
}

// compound reads size and count of a list or map (8 or 32 bits wide; short is the code of the former) and returns the size
// of the body that follows and the count. The body is there, and the count never exceeds its size.
func (d *decoder) compound(code, short byte, want string) (size, count int) {
	var n, width uint32
	switch {
	case code == codeList0 && short == codeList8:
		return 0, 0
	case code == short:
		n, width = uint32(d.byte()), 1
	case code == short+0x10:
		n, width = d.uint32(), 4
	default:
		d.unexpected(code, want)
		return 0, 0
	}
	if n < width || uint64(n) > uint64(d.left()) {
		d.fail(errShort)
		return 0, 0
	}
	size = int(n - width)
	if width == 1 {
		n = uint32(d.byte())
	} else {
		n = d.uint32()
	}
	if uint64(n) > uint64(size) {
		d.fail(errShort)
		return 0, 0
	}
	return size, int(n)
}

func (d *decoder) bool() bool {
	switch code := d.byte(); code {
	case codeTrue:
		return true
	case codeFalse:
		return false
	case codeBool:
		return d.byte() != 0
	default:
		d.unexpected(code, "a boolean")
		return false
	}
}

// unsigned reads any integer type, so that a client that mistakes int for uint is understood, and checks it against max.
func (d *decoder) unsigned(max uint64) uint64 {
	var v uint64
	switch code := d.byte(); code {
	case codeUint0, codeUlong0:
	case codeSmallUint, codeSmallUlong, codeUbyte:
		v = uint64(d.byte())
	case codeByte, codeSmallInt, codeSmallLong:
		v = uint64(int64(int8(d.byte())))
	case codeUshort:
		v = uint64(d.uint16())
	case codeShort:
		v = uint64(int64(int16(d.uint16())))
	case codeUint:
		v = uint64(d.uint32())
	case codeInt:
		v = uint64(int64(int32(d.uint32())))
	case codeUlong, codeLong, codeTimestamp:
		v = d.uint64()
	default:
		d.unexpected(code, "an integer")
	}
	if v > max {
		d.fail(fmt.Errorf("amqp10: integer %d out of range", int64(v)))
		return 0
	}
	return v
}

func (d *decoder) uintField() uint32   { return uint32(d.unsigned(1<<32 - 1)) }
func (d *decoder) ulongField() uint64  { return d.unsigned(1<<64 - 1) }
func (d *decoder) ushortField() uint16 { return uint16(d.unsigned(1<<16 - 1)) }
func (d *decoder) ubyteField() uint8   { return uint8(d.unsigned(1<<8 - 1)) }

// timestampField takes a long too: Python's uAMQP sends one (IoT Hub service client).
func (d *decoder) timestampField() Timestamp { return Timestamp(d.ulongField()) }

// octets reads a binary, string or symbol and returns its bytes, a part of the input.
func (d *decoder) octets() []byte {
	switch code := d.byte(); code {
	case codeBin8, codeBin32, codeStr8, codeStr32, codeSym8, codeSym32:
		return d.variable(code)
	default:
		d.unexpected(code, "a string, symbol or binary")
		return nil
	}
}

func (d *decoder) textField() string { return d.str(d.octets()) }

// symbols reads a field with multiple="true": one symbol or an array of them.
func (d *decoder) symbols() []Symbol {
	switch d.peek() {
	case codeSym8, codeSym32, codeStr8, codeStr32:
		return []Symbol{Symbol(d.textField())}
	}
	switch v := d.value().(type) {
	case []Symbol:
		return v
	case []string:
		out := make([]Symbol, len(v))
		for i := range v {
			out[i] = Symbol(v[i])
		}
		return out
	case Array:
		if len(v) == 0 {
			return nil
		}
	case List: // not legal, but clear
		out := make([]Symbol, 0, len(v))
		for _, e := range v {
			if s, ok := e.(Symbol); ok {
				out = append(out, s)
			}
		}
		return out
	case nil:
		return nil
	}
	d.fail(errors.New("amqp10: want an array of symbols"))
	return nil
}

// mapField reads a map; null reads as nil.
func (d *decoder) mapField() Map {
	switch code := d.byte(); code {
	case codeNull:
		return nil
	default:
		return d.mapBody(code)
	}
}

// descriptor reads the descriptor of a described value and returns its numeric form. Symbolic descriptors of the types we
// know are legal too (AMQP 1.5); 0 stands for any other.
func (d *decoder) descriptor() uint64 {
	if code := d.byte(); code != codeDescribed {
		d.unexpected(code, "a described type")
		return 0
	}
	switch code := d.byte(); code {
	case codeSmallUlong:
		return uint64(d.byte())
	case codeUlong:
		return d.uint64()
	case codeUlong0:
		return 0
	case codeSym8, codeSym32:
		return symbolicDescriptors[string(d.variable(code))]
	default:
		d.unexpected(code, "a descriptor")
		return 0
	}
}

// skip passes over one value without decoding it.
func (d *decoder) skip() {
	code := d.byte()
	for depth := d.depth; code == codeDescribed && d.err == nil; depth-- {
		if depth <= 0 {
			d.fail(errDepth)
			return
		}
		// A descriptor that is itself described is legal and useless; only simple ones are taken.
		if code = d.byte(); code == codeDescribed {
			d.fail(errDepth)
			return
		}
		d.skipBody(code)
		code = d.byte()
	}
	d.skipBody(code)
}

// skipBody passes over the value whose constructor code was read. The high half of a code gives the width (AMQP 1.2.1).
func (d *decoder) skipBody(code byte) {
	switch code >> 4 {
	case 0x4:
	case 0x5:
		d.take(1)
	case 0x6:
		d.take(2)
	case 0x7:
		d.take(4)
	case 0x8:
		d.take(8)
	case 0x9:
		d.take(16)
	case 0xa, 0xc, 0xe:
		d.take(uint32(d.byte()))
	case 0xb, 0xd, 0xf:
		d.take(d.uint32())
	default:
		d.unexpected(code, "a value")
	}
}
