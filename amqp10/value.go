package amqp10

import (
	"bytes"
	"errors"
	"math"
)

// DecodeValue decodes the value at the front of b and returns what follows it. Binary values alias b.
func DecodeValue(b []byte, lim Limits) (v any, rest []byte, err error) {
	d := newDecoder(b, lim)
	v = d.value()
	return v, d.rest(), d.err
}

// value decodes any value.
func (d *decoder) value() any {
	code := d.byte()
	if code == codeDescribed {
		return d.describedBody()
	}
	return d.body(code)
}

func (d *decoder) describedBody() any {
	if !d.down() {
		return nil
	}
	defer d.up()
	descriptor := d.value()
	v := d.value()
	if d.err != nil {
		return nil
	}
	return Described{descriptor, v}
}

func (d *decoder) down() bool {
	if d.depth--; d.depth < 0 {
		d.depth++
		d.fail(errDepth)
		return false
	}
	return true
}

func (d *decoder) up() { d.depth++ }

// body decodes the value whose constructor code was read.
func (d *decoder) body(code byte) any {
	if d.values--; d.values < 0 {
		d.fail(errCount)
	}
	if d.err != nil {
		return nil
	}
	switch code {
	case codeNull:
		return nil
	case codeBin8, codeBin32:
		return d.binary(d.variable(code))
	case codeStr8, codeStr32:
		return d.str(d.variable(code))
	case codeSym8, codeSym32:
		return Symbol(d.str(d.variable(code)))
	case codeList0, codeList8, codeList32:
		return d.listBody(code)
	case codeMap8, codeMap32:
		return d.mapBody(code)
	case codeArray8, codeArray32:
		return d.arrayBody(code)
	}
	return d.fixedBody(code)
}

// binary returns b, a part of the input, as a value of its own.
func (d *decoder) binary(b []byte) []byte {
	if d.own {
		return bytes.Clone(b)
	}
	return b[:len(b):len(b)]
}

func (d *decoder) fixedBody(code byte) any {
	switch code {
	case codeTrue:
		return true
	case codeFalse:
		return false
	case codeBool:
		return d.byte() != 0
	case codeUbyte:
		return d.byte()
	case codeByte:
		return int8(d.byte())
	case codeUshort:
		return d.uint16()
	case codeShort:
		return int16(d.uint16())
	case codeUint0:
		return uint32(0)
	case codeSmallUint:
		return uint32(d.byte())
	case codeUint:
		return d.uint32()
	case codeUlong0:
		return uint64(0)
	case codeSmallUlong:
		return uint64(d.byte())
	case codeUlong:
		return d.uint64()
	case codeSmallInt:
		return int32(int8(d.byte()))
	case codeInt:
		return int32(d.uint32())
	case codeSmallLong:
		return int64(int8(d.byte()))
	case codeLong:
		return int64(d.uint64())
	}
	return d.rareBody(code)
}

func (d *decoder) rareBody(code byte) any {
	switch code {
	case codeFloat:
		return math.Float32frombits(d.uint32())
	case codeDouble:
		return math.Float64frombits(d.uint64())
	case codeChar:
		return Char(d.uint32())
	case codeTimestamp:
		return Timestamp(d.uint64())
	case codeUUID:
		var v UUID
		copy(v[:], d.take(16))
		return v
	case codeDecimal32:
		var v Decimal32
		copy(v[:], d.take(4))
		return v
	case codeDecimal64:
		var v Decimal64
		copy(v[:], d.take(8))
		return v
	case codeDecimal128:
		var v Decimal128
		copy(v[:], d.take(16))
		return v
	}
	d.unexpected(code, "a value")
	return nil
}

func (d *decoder) listBody(code byte) List {
	size, n := d.compound(code, codeList8, "a list")
	if !d.affordable(n) || !d.down() {
		return nil
	}
	defer d.up()
	end := d.narrow(size)
	out := make(List, 0, n)
	for range n {
		out = append(out, d.value())
	}
	return finish(d, end, out)
}

func (d *decoder) mapBody(code byte) Map {
	size, n := d.compound(code, codeMap8, "a map")
	if n%2 != 0 {
		d.fail(errors.New("amqp10: map with a key that has no value"))
	}
	if !d.affordable(n) || !d.down() {
		return nil
	}
	defer d.up()
	end := d.narrow(size)
	out := make(Map, 0, n/2)
	for range n / 2 {
		k := d.value()
		out = append(out, Entry{k, d.value()})
	}
	return finish(d, end, out)
}

// narrow makes the next size bytes the input. finish returns to what follows them, or gives up v after an error.
func (d *decoder) narrow(size int) (end int) {
	end = d.end
	d.end = d.pos + size
	return end
}

func finish[T any](d *decoder, end int, v T) T {
	if d.err != nil {
		var none T
		return none
	}
	d.pos, d.end = d.end, end
	return v
}

// affordable says whether n more values are within the limit, before memory is set aside for them.
func (d *decoder) affordable(n int) bool {
	if d.err == nil && n > d.values {
		d.fail(errCount)
	}
	return d.err == nil
}

// arrayBody decodes an array: size, count, one constructor for all elements (AMQP 1.6.24).
func (d *decoder) arrayBody(code byte) any {
	var size, n uint32
	if code == codeArray8 {
		size = uint32(d.byte()) - 1
		n = uint32(d.byte())
	} else {
		size = d.uint32() - 4
		n = d.uint32()
	}
	// There must be a constructor at least. A size too small for the count has wrapped around.
	if size == 0 || uint64(size) > uint64(d.left()) {
		d.fail(errShort)
	}
	// Elements of width zero take no bytes, so the count is checked against the limit and not only against the bytes.
	if n > uint32(math.MaxInt32) || !d.affordable(int(n)) || !d.down() {
		d.fail(errCount)
		return nil
	}
	defer d.up()
	end := d.narrow(int(size))
	v := d.elements(int(n))
	return finish(d, end, v)
}

func (d *decoder) elements(n int) any {
	code := d.byte()
	switch code {
	case codeStr8, codeStr32:
		return texts[string](d, code, n)
	case codeSym8, codeSym32:
		return texts[Symbol](d, code, n)
	case codeDescribed:
		return d.describedElements(n)
	}
	out := make(Array, 0, min(n, d.left()))
	for range n {
		out = append(out, d.body(code))
		if d.err != nil {
			return nil
		}
	}
	return out
}

func texts[T ~string](d *decoder, code byte, n int) []T {
	if n > d.left() {
		d.fail(errShort)
		return nil
	}
	out := make([]T, 0, n)
	for range n {
		out = append(out, T(d.str(d.variable(code))))
	}
	d.values -= n
	return out
}

// describedElements decodes elements that share a descriptor as well as a constructor.
func (d *decoder) describedElements(n int) any {
	descriptor := d.value()
	code := d.byte()
	if code == codeDescribed {
		d.fail(errDepth)
		return nil
	}
	out := make(Array, 0, min(n, d.left()))
	for range n {
		out = append(out, Described{descriptor, d.body(code)})
		if d.err != nil {
			return nil
		}
	}
	return out
}
