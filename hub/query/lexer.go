package query

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLength is the longest text of a query, in characters (article "Queries for IoT Hub device and module twins").
const maxLength = 8192

// SyntaxError says what is wrong with the text of a query, and where.
type SyntaxError struct {
	Line, Column int // from 1; columns count characters
	Message      string
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// syntaxError makes the error of the byte offset at.
func syntaxError(text string, at int, message string) *SyntaxError {
	before := text[:min(at, len(text))]
	line := strings.LastIndexByte(before, '\n') + 1
	return &SyntaxError{Line: strings.Count(before, "\n") + 1, Column: utf8.RuneCountInString(before[line:]) + 1, Message: message}
}

type tokenKind uint8

const (
	endToken tokenKind = iota
	wordToken
	keywordToken // text is in capitals
	nameToken    // [[name]]
	textToken
	numberToken
	markToken // operators and punctuation
)

// token is a piece of a query.
type token struct {
	kind   tokenKind
	text   string // as it means: without quotes and escapes
	number number
	at     int // offset of its first byte
}

// String describes the token for messages.
func (t token) String() string {
	switch t.kind {
	case endToken:
		return "the end of the query"
	case textToken:
		return "the text " + strconv.Quote(shorten(t.text))
	case nameToken:
		return "[[" + shorten(t.text) + "]]"
	case wordToken, keywordToken, numberToken, markToken:
	}
	return strconv.Quote(shorten(t.text))
}

// shorten keeps messages readable.
func shorten(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// keywords may not stand for names. The real hub refuses tags.group, too; tags.[[group]] is the way round.
var keywords = map[string]bool{
	"SELECT": true, "TOP": true, "AS": true, "FROM": true, "WHERE": true, "GROUP": true, "BY": true, "ORDER": true,
	"AND": true, "OR": true, "NOT": true, "IN": true, "NIN": true, "TRUE": true, "FALSE": true, "NULL": true, "UNDEFINED": true,
}

// lexer cuts a text into tokens.
type lexer struct {
	text   string
	at     int
	routes bool // the text is a condition of a route
}

// next returns the next token.
func (l *lexer) next() (token, *SyntaxError) {
	for l.at < len(l.text) && strings.IndexByte(" \t\r\n", l.text[l.at]) >= 0 {
		l.at++
	}
	t := token{at: l.at}
	if l.at == len(l.text) {
		return t, nil
	}
	c := l.text[l.at]
	switch {
	case c == '\'' || c == '"':
		return l.quoted(t, c)
	case c >= '0' && c <= '9':
		return l.number(t)
	case !l.routes && strings.HasPrefix(l.text[l.at:], "[["):
		return l.escapedName(t)
	}
	if word := l.word(); word != "" {
		t.kind, t.text = wordToken, word
		if upper := strings.ToUpper(word); l.keywords()[upper] {
			t.kind, t.text = keywordToken, upper
		}
		return t, nil
	}
	return l.mark(t)
}

// word takes the longest word that begins here, maybe an empty one.
func (l *lexer) word() string {
	start := l.at
	if l.routes {
		l.at += routeWord(l.text[l.at:])
		return l.text[start:l.at]
	}
	for l.at < len(l.text) {
		r, size := utf8.DecodeRuneInString(l.text[l.at:])
		if r != '_' && r != '$' && !unicode.IsLetter(r) && (l.at == start || !unicode.IsDigit(r)) {
			break
		}
		l.at += size
	}
	return l.text[start:l.at]
}

// mark takes an operator or a punctuation mark.
func (l *lexer) mark(t token) (token, *SyntaxError) {
	t.kind = markToken
	rest := l.text[l.at:]
	for _, two := range []string{"==", "!=", "<>", "<=", ">="} {
		if strings.HasPrefix(rest, two) {
			l.at += 2
			t.text = two
			return t, nil
		}
	}
	if strings.IndexByte("=<>+-*/%(),.[]", rest[0]) < 0 {
		r, _ := utf8.DecodeRuneInString(rest)
		return t, l.fail(t.at, "the character "+strconv.QuoteRune(r)+" cannot stand here"+l.wayRound())
	}
	l.at++
	t.text = rest[:1]
	return t, nil
}

// wayRound says how a name with characters that cannot stand in one is written.
func (l *lexer) wayRound() string {
	if l.routes {
		return ""
	}
	return "; unusual names are written [[name]]"
}

// escapedName takes a name in double brackets.
func (l *lexer) escapedName(t token) (token, *SyntaxError) {
	name, _, closed := strings.Cut(l.text[l.at+2:], "]]")
	switch {
	case !closed:
		return t, l.fail(t.at, "a name begins with [[ that does not end with ]]")
	case name == "":
		return t, l.fail(t.at, "[[]] names nothing")
	}
	l.at += len(name) + 4
	t.kind, t.text = nameToken, name
	return t, nil
}

// quoted takes a text between two quotes.
func (l *lexer) quoted(t token, quote byte) (token, *SyntaxError) {
	t.kind = textToken
	var b strings.Builder
	start := l.at + 1
	for i := start; i < len(l.text); {
		switch l.text[i] {
		case quote:
			b.WriteString(l.text[start:i])
			l.at = i + 1
			t.text = b.String()
			return t, nil
		case '\\':
			b.WriteString(l.text[start:i])
			r, size := unescape(l.text[i:])
			if size == 0 {
				return t, l.fail(i, `this is no escape; \' \" \\ and \uXXXX are`)
			}
			b.WriteRune(r)
			i += size
			start = i
		default:
			i++
		}
	}
	return t, l.fail(t.at, "a text begins here that does not end")
}

// unescape reads the escape that s begins with; a size of 0 means that it is none.
func unescape(s string) (r rune, size int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '\'', '"', '\\':
		return rune(s[1]), 2
	case 'u':
		r, ok := hex4(s[2:])
		if !ok {
			return 0, 0
		}
		if 0xD800 <= r && r < 0xDC00 && strings.HasPrefix(s[6:], `\u`) {
			if low, ok := hex4(s[8:]); ok && 0xDC00 <= low && low < 0xE000 {
				return (r-0xD800)<<10 + low - 0xDC00 + 0x10000, 12
			}
		}
		return r, 6 // half of a pair becomes U+FFFD when it is written
	}
	return 0, 0
}

func hex4(s string) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:4], 16, 16)
	return rune(n), err == nil
}

// number takes a number.
func (l *lexer) number(t token) (token, *SyntaxError) {
	t.kind = numberToken
	rest := l.text[l.at:]
	size := 0
	for size < len(rest) && isNumberByte(rest, size) {
		size++
	}
	t.text = rest[:size]
	var ok bool
	if len(t.text) > 2 && (t.text[:2] == "0x" || t.text[:2] == "0X") {
		t.number, ok = parseHex(t.text[2:])
	} else {
		t.number, ok = parseDecimal(t.text)
	}
	if !ok {
		return t, l.fail(t.at, strconv.Quote(shorten(t.text))+" is no number, or too large for one")
	}
	l.at += size
	return t, nil
}

// isNumberByte reports whether the byte at i may belong to a number that s begins with. Letters do, so that 12ab is one wrong number.
func isNumberByte(s string, i int) bool {
	c := s[i]
	switch {
	case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '.', c == '_':
		return true
	case c == '+' || c == '-':
		return i > 0 && (s[i-1] == 'e' || s[i-1] == 'E') && !strings.HasPrefix(s, "0x") && !strings.HasPrefix(s, "0X")
	}
	return false
}

func (l *lexer) keywords() map[string]bool {
	if l.routes {
		return routeKeywords
	}
	return keywords
}

func (l *lexer) fail(at int, message string) *SyntaxError { return syntaxError(l.text, at, message) }
