package amqp10

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Format codes (AMQP 1.6).
const (
	codeDescribed  = 0x00
	codeNull       = 0x40
	codeTrue       = 0x41
	codeFalse      = 0x42
	codeUint0      = 0x43
	codeUlong0     = 0x44
	codeList0      = 0x45
	codeUbyte      = 0x50
	codeByte       = 0x51
	codeSmallUint  = 0x52
	codeSmallUlong = 0x53
	codeSmallInt   = 0x54
	codeSmallLong  = 0x55
	codeBool       = 0x56
	codeUshort     = 0x60
	codeShort      = 0x61
	codeUint       = 0x70
	codeInt        = 0x71
	codeFloat      = 0x72
	codeChar       = 0x73
	codeDecimal32  = 0x74
	codeUlong      = 0x80
	codeLong       = 0x81
	codeDouble     = 0x82
	codeTimestamp  = 0x83
	codeDecimal64  = 0x84
	codeDecimal128 = 0x94
	codeUUID       = 0x98
	codeBin8       = 0xa0
	codeStr8       = 0xa1
	codeSym8       = 0xa3
	codeBin32      = 0xb0
	codeStr32      = 0xb1
	codeSym32      = 0xb3
	codeList8      = 0xc0
	codeMap8       = 0xc1
	codeList32     = 0xd0
	codeMap32      = 0xd1
	codeArray8     = 0xe0
	codeArray32    = 0xf0
)

var be = binary.BigEndian

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, codeTrue)
	}
	return append(b, codeFalse)
}

func appendUint(b []byte, v uint32) []byte {
	switch {
	case v == 0:
		return append(b, codeUint0)
	case v <= math.MaxUint8:
		return append(b, codeSmallUint, byte(v))
	}
	return be.AppendUint32(append(b, codeUint), v)
}

func appendUlong(b []byte, v uint64) []byte {
	switch {
	case v == 0:
		return append(b, codeUlong0)
	case v <= math.MaxUint8:
		return append(b, codeSmallUlong, byte(v))
	}
	return be.AppendUint64(append(b, codeUlong), v)
}

func appendInt(b []byte, v int32) []byte {
	if v >= math.MinInt8 && v <= math.MaxInt8 {
		return append(b, codeSmallInt, byte(v))
	}
	return be.AppendUint32(append(b, codeInt), uint32(v))
}

func appendLong(b []byte, v int64) []byte {
	if v >= math.MinInt8 && v <= math.MaxInt8 {
		return append(b, codeSmallLong, byte(v))
	}
	return be.AppendUint64(append(b, codeLong), uint64(v))
}

func appendTimestamp(b []byte, v Timestamp) []byte {
	return be.AppendUint64(append(b, codeTimestamp), uint64(v))
}

// appendVariable appends a variable-width value whose one-byte-size code is code; the four-byte-size code is 0x10 higher.
func appendVariable[T ~string | ~[]byte](b []byte, code byte, v T) []byte {
	if len(v) <= math.MaxUint8 {
		b = append(b, code, byte(len(v)))
	} else {
		b = be.AppendUint32(append(b, code+0x10), uint32(len(v)))
	}
	return append(b, v...)
}

func appendString(b []byte, v string) []byte { return appendVariable(b, codeStr8, v) }
func appendSymbol(b []byte, v Symbol) []byte { return appendVariable(b, codeSym8, v) }
func appendBinary(b []byte, v []byte) []byte { return appendVariable(b, codeBin8, v) }

// A compound is written with one-byte size and count, and widened when closed should it have grown too long: nearly
// everything on the wire is short.
const compoundHeader = 3

func openCompound(b []byte, code byte) (_ []byte, start int) {
	return append(b, code, 0, 0), len(b)
}

// closeCompound patches size and count of the list, map or array that starts at start.
func closeCompound(b []byte, start, count int) []byte {
	body := len(b) - start - compoundHeader
	if body+1 <= math.MaxUint8 && count <= math.MaxUint8 {
		b[start+1], b[start+2] = byte(body+1), byte(count)
		return b
	}
	b = append(b, 0, 0, 0, 0, 0, 0)
	copy(b[start+compoundHeader+6:], b[start+compoundHeader:start+compoundHeader+body])
	b[start] += 0x10
	be.PutUint32(b[start+1:], uint32(body+4))
	be.PutUint32(b[start+5:], uint32(count))
	return b
}

// AppendValue appends the encoding of v, in the shortest form of its type. It fails when v, or something inside it, has
// a Go type that AMQP has no type for.
func AppendValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, codeNull), nil
	case bool:
		return appendBool(b, v), nil
	case string:
		return appendString(b, v), nil
	case Symbol:
		return appendSymbol(b, v), nil
	case []byte:
		return appendBinary(b, v), nil
	case UUID:
		return append(append(b, codeUUID), v[:]...), nil
	case Timestamp:
		return appendTimestamp(b, v), nil
	case List:
		return appendList(b, v)
	case Map:
		return appendMap(b, v)
	case Described:
		return appendDescribed(b, v)
	case []string:
		return appendTexts(b, codeStr32, v), nil
	case []Symbol:
		return appendTexts(b, codeSym32, v), nil
	case Array:
		return appendArray(b, v)
	}
	return appendNumber(b, v)
}

func appendNumber(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case uint8:
		return append(b, codeUbyte, v), nil
	case uint16:
		return be.AppendUint16(append(b, codeUshort), v), nil
	case uint32:
		return appendUint(b, v), nil
	case uint64:
		return appendUlong(b, v), nil
	case int8:
		return append(b, codeByte, byte(v)), nil
	case int16:
		return be.AppendUint16(append(b, codeShort), uint16(v)), nil
	case int32:
		return appendInt(b, v), nil
	case int64:
		return appendLong(b, v), nil
	case float32:
		return be.AppendUint32(append(b, codeFloat), math.Float32bits(v)), nil
	case float64:
		return be.AppendUint64(append(b, codeDouble), math.Float64bits(v)), nil
	case Char:
		return be.AppendUint32(append(b, codeChar), uint32(v)), nil
	case Decimal32:
		return append(append(b, codeDecimal32), v[:]...), nil
	case Decimal64:
		return append(append(b, codeDecimal64), v[:]...), nil
	case Decimal128:
		return append(append(b, codeDecimal128), v[:]...), nil
	}
	return b, fmt.Errorf("amqp10: no AMQP type for %T", v)
}

func appendList(b []byte, v List) ([]byte, error) {
	if len(v) == 0 {
		return append(b, codeList0), nil
	}
	b, start := openCompound(b, codeList8)
	for _, e := range v {
		var err error
		if b, err = AppendValue(b, e); err != nil {
			return b, err
		}
	}
	return closeCompound(b, start, len(v)), nil
}

func appendMap(b []byte, m Map) ([]byte, error) {
	b, start := openCompound(b, codeMap8)
	for i := range m {
		var err error
		if b, err = AppendValue(b, m[i].Key); err != nil {
			return b, err
		}
		if b, err = AppendValue(b, m[i].Value); err != nil {
			return b, err
		}
	}
	return closeCompound(b, start, 2*len(m)), nil
}

func appendDescribed(b []byte, v Described) ([]byte, error) {
	b, err := AppendValue(append(b, codeDescribed), v.Descriptor)
	if err != nil {
		return b, err
	}
	return AppendValue(b, v.Value)
}

// appendTexts appends an array of strings or symbols; code is the constructor with four-byte sizes.
func appendTexts[T ~string](b []byte, code byte, v []T) []byte {
	b, start := openCompound(b, codeArray8)
	short := true
	for _, e := range v {
		short = short && len(e) <= math.MaxUint8
	}
	if short {
		b = append(b, code-0x10)
	} else {
		b = append(b, code)
	}
	for _, e := range v {
		if short {
			b = append(b, byte(len(e)))
		} else {
			b = be.AppendUint32(b, uint32(len(e)))
		}
		b = append(b, e...)
	}
	return closeCompound(b, start, len(v))
}

// appendArray appends elements in the one fixed-width form their Go type has, since all share one constructor
// (AMQP 1.6.24). Elements that are themselves compound or described are not supported.
func appendArray(b []byte, v Array) ([]byte, error) {
	b, start := openCompound(b, codeArray8)
	code := byte(codeNull)
	if len(v) > 0 {
		var ok bool
		if code, ok = arrayCode(v[0]); !ok {
			return b, fmt.Errorf("amqp10: no array of %T", v[0])
		}
	}
	b = append(b, code)
	for _, e := range v {
		if c, ok := arrayCode(e); !ok || c != code {
			return b, fmt.Errorf("amqp10: array mixes %T and %T", v[0], e)
		}
		b = appendElement(b, e)
	}
	return closeCompound(b, start, len(v)), nil
}

func arrayCode(v any) (code byte, ok bool) {
	switch v.(type) {
	case nil:
		code = codeNull
	case bool:
		code = codeBool
	case uint8:
		code = codeUbyte
	case uint16:
		code = codeUshort
	case uint32:
		code = codeUint
	case uint64:
		code = codeUlong
	case int8:
		code = codeByte
	case int16:
		code = codeShort
	case int32:
		code = codeInt
	case int64:
		code = codeLong
	case float32:
		code = codeFloat
	case float64:
		code = codeDouble
	case Char:
		code = codeChar
	case Timestamp:
		code = codeTimestamp
	case UUID:
		code = codeUUID
	case Decimal32:
		code = codeDecimal32
	case Decimal64:
		code = codeDecimal64
	case Decimal128:
		code = codeDecimal128
	case []byte:
		code = codeBin32
	default:
		return 0, false
	}
	return code, true
}

// appendElement appends e without constructor, in the width arrayCode promised.
func appendElement(b []byte, e any) []byte {
	switch e := e.(type) {
	case bool:
		if e {
			return append(b, 1)
		}
		return append(b, 0)
	case uint32:
		return be.AppendUint32(b, e)
	case uint64:
		return be.AppendUint64(b, e)
	case int32:
		return be.AppendUint32(b, uint32(e))
	case int64:
		return be.AppendUint64(b, uint64(e))
	case []byte:
		return append(be.AppendUint32(b, uint32(len(e))), e...)
	case nil:
		return b
	}
	// The rest has only one form: the value's encoding less its constructor.
	at := len(b)
	b, _ = AppendValue(b, e)
	return append(b[:at], b[at+1:]...)
}
