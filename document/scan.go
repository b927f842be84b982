package document

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"unicode/utf8"
)

// scanner reads a text that is JSON five times as fast as encoding/json's tokens do, since every message of a hub whose routes look at bodies
// is read. It says nothing of a text that is none: whoever uses it has encoding/json find out what is wrong.
type scanner struct {
	text []byte
	at   int

	// Of the objects and arrays that have begun: what is in one is copied from here when it ends, so that it takes no more memory than it needs.
	members  []Member
	elements []Value
}

var scanners = sync.Pool{New: func() any { return new(scanner) }}

// maxScratch is how many members or elements a scanner may have room for that is used again.
const maxScratch = 256

// Scan is Parse for whoever does not ask what is wrong with a text: ok is false when it is not one JSON value, or nested too deep. A text that is
// none costs no more than one that is.
func Scan(text []byte) (v Value, ok bool) {
	s := scanners.Get().(*scanner)
	defer s.release()
	s.text, s.at = text, 0
	if v, ok = s.value(0); !ok {
		return Value{}, false
	}
	s.space()
	return v, s.at == len(text)
}

// release keeps nothing of what was read.
func (s *scanner) release() {
	if cap(s.members) > maxScratch || cap(s.elements) > maxScratch {
		return
	}
	clear(s.members[:cap(s.members)])
	clear(s.elements[:cap(s.elements)])
	s.text, s.members, s.elements = nil, s.members[:0], s.elements[:0]
	scanners.Put(s)
}

func (s *scanner) space() {
	for s.at < len(s.text) && (s.text[s.at] == ' ' || s.text[s.at] == '\n' || s.text[s.at] == '\r' || s.text[s.at] == '\t') {
		s.at++
	}
}

// next returns the next byte that is no white space, without taking it; 0 at the end.
func (s *scanner) next() byte {
	s.space()
	if s.at == len(s.text) {
		return 0
	}
	return s.text[s.at]
}

// take takes the next byte if it is c.
func (s *scanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) word(w string, v Value) (Value, bool) {
	if !bytes.HasPrefix(s.text[s.at:], []byte(w)) {
		return Value{}, false
	}
	s.at += len(w)
	return v, true
}

func (s *scanner) value(depth int) (v Value, ok bool) {
	if depth > maxDepth {
		return v, false
	}
	switch c := s.next(); {
	case c == '{':
		s.at++
		return s.object(depth)
	case c == '[':
		s.at++
		return s.array(depth)
	case c == '"':
		text, ok := s.string()
		return OfString(text), ok
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return s.word("true", OfBool(true))
	case c == 'f':
		return s.word("false", OfBool(false))
	case c == 'n':
		return s.word("null", NullValue)
	}
	return v, false
}

func (s *scanner) object(depth int) (v Value, ok bool) {
	if s.take('}') {
		return EmptyObject, true
	}
	begun := len(s.members)
	for {
		if s.next() != '"' {
			return v, false
		}
		m := Member{}
		if m.Name, ok = s.string(); !ok || !s.take(':') {
			return v, false
		}
		if m.Value, ok = s.value(depth + 1); !ok {
			return v, false
		}
		s.members = append(s.members, m)
		if s.take('}') {
			members := slices.Clone(s.members[begun:])
			s.members = s.members[:begun]
			return OfMembers(members), true
		}
		if !s.take(',') {
			return v, false
		}
	}
}

func (s *scanner) array(depth int) (v Value, ok bool) {
	if s.take(']') {
		return OfElements(nil), true
	}
	begun := len(s.elements)
	for {
		if v, ok = s.value(depth + 1); !ok {
			return Value{}, false
		}
		s.elements = append(s.elements, v)
		if s.take(']') {
			elements := slices.Clone(s.elements[begun:])
			s.elements = s.elements[:begun]
			return OfElements(elements), true
		}
		if !s.take(',') {
			return Value{}, false
		}
	}
}

// string takes a string, at whose quote it stands.
func (s *scanner) string() (text string, ok bool) {
	start := s.at
	plain := true // neither escapes nor anything but ASCII
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return unquote(s.text[start:s.at], plain)
		case c < ' ':
			return "", false
		case c == '\\':
			plain = false
			s.at++ // whatever follows belongs to the escape
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	return "", false
}

// unquote returns what a string with its quotes means.
func unquote(quoted []byte, plain bool) (text string, ok bool) {
	inside := quoted[1 : len(quoted)-1]
	if plain || bytes.IndexByte(inside, '\\') < 0 && utf8.Valid(inside) {
		return string(inside), true
	}
	return text, json.Unmarshal(quoted, &text) == nil
}

// number takes a number: [-] digits without leading zeros [. digits] [e [+-] digits].
func (s *scanner) number() (v Value, ok bool) {
	start := s.at
	if s.text[s.at] == '-' {
		s.at++
	}
	first := s.at
	if n := s.digits(); n == 0 || n > 1 && s.text[first] == '0' {
		return v, false
	}
	if s.has('.') {
		s.at++
		if s.digits() == 0 {
			return v, false
		}
	}
	if s.has('e') || s.has('E') {
		s.at++
		if s.has('+') || s.has('-') {
			s.at++
		}
		if s.digits() == 0 {
			return v, false
		}
	}
	return Value{kind: Number, text: string(s.text[start:s.at])}, true
}

// has reports whether the very next byte is c.
func (s *scanner) has(c byte) bool { return s.at < len(s.text) && s.text[s.at] == c }

// digits takes digits and returns how many they are.
func (s *scanner) digits() int {
	start := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at - start
}
