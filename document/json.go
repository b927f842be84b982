package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"
)

// maxDepth is how deep values may be nested in a text that Parse reads: far deeper than any document of a twin may be, and shallow enough for
// every recursion over a value.
const maxDepth = 100

// Errors of Parse that are not about syntax.
var (
	ErrDeep  = fmt.Errorf("JSON is nested deeper than %d levels", maxDepth)
	ErrEmpty = errors.New("there is no JSON value")
)

// Parse reads a text that is one JSON value. Of members with the same name the last counts. The value keeps nothing of text. It fails with
// ErrDeep, ErrEmpty, or an error that names the byte offset of what is no JSON.
func Parse(text []byte) (Value, error) {
	if v, ok := Scan(text); ok {
		return v, nil
	}
	return parse(text)
}

// parse is Parse by encoding/json, which says what is wrong.
func parse(text []byte) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	p := parser{d: d}
	v, err := p.value(0)
	if errors.Is(err, io.EOF) && len(bytes.TrimSpace(text)) == 0 {
		return Value{}, ErrEmpty
	}
	if err != nil {
		return Value{}, p.locate(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Value{}, fmt.Errorf("after the JSON value something follows at offset %d", d.InputOffset())
	}
	return v, nil
}

type parser struct{ d *json.Decoder }

// locate adds where reading stopped.
func (p *parser) locate(err error) error {
	if errors.Is(err, ErrDeep) {
		return err
	}
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("no JSON at offset %d: %w", syntax.Offset, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON ends in the middle")
	}
	return fmt.Errorf("no JSON at offset %d: %w", p.d.InputOffset(), err)
}

func (p *parser) value(depth int) (Value, error) {
	if depth > maxDepth {
		return Value{}, ErrDeep
	}
	token, err := p.d.Token()
	if err != nil {
		return Value{}, err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return p.object(depth)
		}
		return p.array(depth)
	case string:
		return OfString(t), nil
	case json.Number:
		return Value{kind: Number, text: string(t)}, nil
	case bool:
		return OfBool(t), nil
	}
	return NullValue, nil
}

func (p *parser) object(depth int) (Value, error) {
	var members []Member
	for p.d.More() {
		name, err := p.d.Token()
		if err != nil {
			return Value{}, err
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		members = append(members, Member{Name: name.(string), Value: v}) // the decoder takes nothing else for a name
	}
	if _, err := p.d.Token(); err != nil {
		return Value{}, err
	}
	if members == nil {
		return EmptyObject, nil
	}
	return OfMembers(members), nil
}

func (p *parser) array(depth int) (Value, error) {
	var elements []Value
	for p.d.More() {
		v, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		elements = append(elements, v)
	}
	if _, err := p.d.Token(); err != nil {
		return Value{}, err
	}
	return OfElements(elements), nil
}

// AppendJSON appends v as JSON without spaces; nothing when it is Undefined.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.kind {
	case Undefined:
		return b
	case Null:
		return append(b, "null"...)
	case Bool, Number:
		return append(b, v.text...)
	case String:
		return AppendString(b, v.text)
	case Array:
		b = append(b, '[')
		for i, e := range v.part.elements {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.AppendJSON(b)
		}
		return append(b, ']')
	}
	b = append(b, '{')
	for i := range v.part.members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(AppendString(b, v.part.members[i].Name), ':')
		b = v.part.members[i].Value.AppendJSON(b)
	}
	return append(b, '}')
}

// MarshalJSON implements json.Marshaler; Undefined becomes null, since JSON has no word for it.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.kind == Undefined {
		return []byte("null"), nil
	}
	return v.AppendJSON(nil), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *Value) UnmarshalJSON(text []byte) (err error) {
	*v, err = Parse(text)
	return err
}

// AppendString appends s as a JSON string. What is no UTF-8 becomes U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		b = append(b, s[start:i]...)
		b = appendEscape(b, c)
		i += size
		start = i
	}
	return append(append(b, s[start:]...), '"')
}

func appendEscape(b []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch {
	case c == '"', c == '\\':
		return append(b, '\\', c)
	case c == '\n':
		return append(b, '\\', 'n')
	case c == '\r':
		return append(b, '\\', 'r')
	case c == '\t':
		return append(b, '\\', 't')
	case c >= utf8.RuneSelf:
		return append(b, "\uFFFD"...)
	}
	return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// IsInteger reports whether v is a number without a fraction, however it is written: 1, 1.0 and 1e2 are. f is the nearest float64.
func (v Value) IsInteger() (f float64, ok bool) {
	f, ok = v.Float()
	return f, ok && !math.IsInf(f, 0) && f == math.Trunc(f)
}
