package query

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/iolite-emulator/iolite/document"
)

// Limits of a query, beside maxLength.
const (
	maxDepth    = 64   // of parentheses, NOT, signs, arrays and calls in each other
	maxNodes    = 1000 // operators, functions and attributes
	maxItems    = 64   // in SELECT
	maxGroupBy  = 8
	maxElements = 1000 // of arrays
	maxMakers   = 32   // calls of functions that make texts
	maxPath     = 64   // names and indexes of an attribute
)

// Parse reads a query. Its error is a *SyntaxError.
func Parse(text string) (*Query, error) {
	p, err := newParser(text, false)
	if err != nil {
		return nil, err
	}
	q := p.query()
	if p.err != nil {
		return nil, p.err
	}
	return q, nil
}

// ParseCondition reads a condition that stands alone: nothing, "*", an expression, or FROM with an optional WHERE. Its error is a
// *SyntaxError.
func ParseCondition(text string) (*Condition, error) {
	p, err := newParser(text, false)
	if err != nil {
		return nil, err
	}
	c := p.condition()
	if p.err != nil {
		return nil, p.err
	}
	return c, nil
}

// parser reads a query by recursive descent, one token ahead. The first error stays; after it there are only end tokens, so that every rule
// comes to its end.
type parser struct {
	lexer      lexer
	routes     bool  // the text is a condition of a route
	token      token // the next one
	err        error // a *SyntaxError
	depth      int
	nodes      int
	elements   int
	makers     int
	alias      string
	attributes []*attribute // not resolved yet: SELECT comes before FROM
}

func newParser(text string, routes bool) (*parser, error) {
	if len(text) > maxLength && utf8.RuneCountInString(text) > maxLength {
		return nil, syntaxError(text, len(text), "the query is longer than "+strconv.Itoa(maxLength)+" characters")
	}
	if !utf8.ValidString(text) {
		return nil, syntaxError(text, validLength(text), "the query is no valid UTF-8")
	}
	p := &parser{lexer: lexer{text: text, routes: routes}, routes: routes}
	p.advance()
	return p, nil
}

// validLength returns how much of text is valid UTF-8.
func validLength(text string) int {
	return len(text) - len(strings.TrimLeftFunc(text, func(r rune) bool { return r != utf8.RuneError }))
}

// advance reads the next token.
func (p *parser) advance() {
	if p.err != nil {
		return
	}
	t, err := p.lexer.next()
	if err != nil {
		p.stop(err)
		return
	}
	p.token = t
}

func (p *parser) stop(err *SyntaxError) {
	if p.err == nil {
		p.err, p.token = err, token{at: len(p.lexer.text)}
	}
}

func (p *parser) fail(at int, message string) { p.stop(p.lexer.fail(at, message)) }

// expected fails because the next token is not what it should be.
func (p *parser) expected(what string) {
	p.fail(p.token.at, what+" must stand here, not "+p.token.String())
}

// take takes the next token if it is a certain mark or keyword.
func (p *parser) take(kind tokenKind, text string) bool {
	if p.token.kind != kind || p.token.text != text {
		return false
	}
	p.advance()
	return true
}

func (p *parser) takeKeyword(word string) bool { return p.take(keywordToken, word) }

func (p *parser) takeMark(mark string) bool { return p.take(markToken, mark) }

func (p *parser) needKeyword(word string) {
	if !p.takeKeyword(word) {
		p.expected(word)
	}
}

func (p *parser) needMark(mark string) {
	if !p.takeMark(mark) {
		p.expected(strconv.Quote(mark))
	}
}

// enter goes a level down; leave comes back.
func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.token.at, "the query is nested deeper than "+strconv.Itoa(maxDepth)+" levels")
	}
}

func (p *parser) leave() { p.depth-- }

// count counts a node that stands at an offset.
func (p *parser) count(at int) {
	if p.nodes++; p.nodes > maxNodes {
		p.fail(at, "the query has more than "+strconv.Itoa(maxNodes)+" operators, functions and attributes")
	}
}

func (p *parser) query() *Query {
	q := &Query{top: -1}
	p.needKeyword("SELECT")
	if p.takeKeyword("TOP") {
		q.top = p.integer("the number of rows")
	}
	p.selectList(q)
	p.needKeyword("FROM")
	from := p.token.at
	q.from = p.source()
	if p.takeKeyword("WHERE") {
		q.where = p.expression()
	}
	if p.takeKeyword("GROUP") {
		p.needKeyword("BY")
		p.groupBy(q)
	}
	p.end()
	p.resolve(q.from)
	p.check(q, from)
	return q
}

func (p *parser) condition() *Condition {
	c := &Condition{none: p.token.kind == endToken}
	switch {
	case c.none, p.takeMark("*"):
	case p.takeKeyword("FROM"):
		c.from = p.source()
		c.source = strings.TrimSpace(p.lexer.text[:p.token.at])
		if p.takeKeyword("WHERE") {
			c.expression = strings.TrimSpace(p.lexer.text[p.token.at:])
			c.where = p.expression()
		}
	default:
		c.expression = strings.TrimSpace(p.lexer.text)
		c.where = p.expression()
	}
	p.end()
	p.resolve(c.from)
	return c
}

// elsewhere are words of SQL that a user may look for; each is refused by its name.
var elsewhere = map[string]bool{
	"ORDER": true, "JOIN": true, "HAVING": true, "LIMIT": true, "OFFSET": true, "DISTINCT": true, "BETWEEN": true, "LIKE": true, "IS": true,
	"EXISTS": true, "UNION": true, "VALUE": true,
}

// end fails unless the text ends here.
func (p *parser) end() {
	if p.token.kind == endToken {
		return
	}
	p.unsupported()
	p.expected("the end, or an operator or clause that fits,")
}

// unsupported fails when the next token is a word of SQL that IoT Hub does not have.
func (p *parser) unsupported() {
	word := strings.ToUpper(p.token.text)
	switch {
	case p.token.kind != wordToken && p.token.kind != keywordToken:
	case p.routes && missingInRoutes[word]:
		p.fail(p.token.at, word+" is not supported in conditions of routes")
	case elsewhere[word]:
		p.fail(p.token.at, word+" is not supported by IoT Hub's query language")
	}
}

func (p *parser) selectList(q *Query) {
	if p.takeMark("*") {
		return
	}
	for {
		if len(q.items) == maxItems {
			p.fail(p.token.at, "more than "+strconv.Itoa(maxItems)+" items are selected")
		}
		q.items = append(q.items, p.item())
		if !p.takeMark(",") {
			return
		}
	}
}

// item reads an attribute or an aggregate, with its name.
func (p *parser) item() item {
	i := item{at: p.token.at}
	if fn, called := p.function(); called {
		i.aggregate = p.aggregate(fn)
		if i.aggregate != count {
			i.attribute = p.attribute()
		}
		p.needMark(")")
	} else {
		p.unsupported()
		i.attribute = p.attribute()
	}
	if p.takeKeyword("AS") {
		i.name = p.word("the name of a column")
	}
	return i
}

func (p *parser) aggregate(fn token) aggregate {
	a, known := aggregates[strings.ToUpper(fn.text)]
	if !known {
		p.fail(fn.at, "SELECT shows attributes and the aggregates COUNT, AVG, SUM, MIN and MAX; "+strconv.Quote(shorten(fn.text))+" is none of them")
	}
	return a
}

// function takes a word with an open parenthesis, if they are next.
func (p *parser) function() (fn token, called bool) {
	if p.token.kind != wordToken || !p.parenthesisFollows() {
		return token{}, false
	}
	fn = p.token
	p.count(fn.at)
	p.advance()
	p.advance()
	return fn, true
}

// parenthesisFollows looks behind the next token.
func (p *parser) parenthesisFollows() bool {
	ahead := p.lexer
	t, err := ahead.next()
	return err == nil && t.kind == markToken && t.text == "("
}

// source reads what FROM names.
func (p *parser) source() Collection {
	at := p.token.at
	if name := p.word("a collection"); p.err == nil && !strings.EqualFold(name, "devices") {
		p.fail(at, "the collections are devices, devices.modules and devices.jobs, not "+strconv.Quote(shorten(name)))
	}
	c := Devices
	if p.takeMark(".") {
		at := p.token.at
		switch name := p.word("modules or jobs"); {
		case strings.EqualFold(name, "modules"):
			c = Modules
		case strings.EqualFold(name, "jobs"):
			c = Jobs
		default:
			p.fail(at, "the collections are devices, devices.modules and devices.jobs, not devices."+shorten(name))
		}
	}
	p.unsupported()
	if p.takeKeyword("AS") || p.token.kind == wordToken {
		p.alias = p.word("another name of the collection")
	}
	return c
}

func (p *parser) groupBy(q *Query) {
	q.grouped = true
	for {
		if len(q.groupBy) == maxGroupBy {
			p.fail(p.token.at, "there are more than "+strconv.Itoa(maxGroupBy)+" attributes to group by")
		}
		q.groupBy = append(q.groupBy, p.attribute())
		if !p.takeMark(",") {
			return
		}
	}
}

// word takes a word that is no keyword.
func (p *parser) word(what string) string {
	t := p.token
	if t.kind != wordToken && t.kind != nameToken {
		p.expected(what)
		return ""
	}
	p.advance()
	return t.text
}

// integer takes an integer from 0 to 2,147,483,647.
func (p *parser) integer(what string) int {
	t := p.token
	if t.kind != numberToken || !t.number.whole || t.number.i > 1<<31-1 {
		p.expected(what)
		return 0
	}
	p.advance()
	return int(t.number.i)
}

// expression reads parts joined by OR.
func (p *parser) expression() expr {
	p.enter()
	defer p.leave()
	return p.joined("OR", func() expr { return p.joined("AND", p.negated, newAnd) }, newOr)
}

func newAnd(parts []expr) expr { return and(parts) }

func newOr(parts []expr) expr { return or(parts) }

// joined reads one or more parts with a keyword between them.
func (p *parser) joined(word string, part func() expr, join func([]expr) expr) expr {
	at := p.token.at
	first := part()
	if p.token.kind != keywordToken || p.token.text != word {
		return first
	}
	p.needTruth(first, at, word)
	parts := []expr{first}
	for p.token.kind == keywordToken && p.token.text == word {
		p.count(p.token.at)
		p.advance()
		at = p.token.at
		parts = append(parts, part())
		p.needTruth(parts[len(parts)-1], at, word)
	}
	return join(parts)
}

func (p *parser) negated() expr {
	at := p.token.at
	if !p.takeKeyword("NOT") {
		return p.relation()
	}
	p.count(at)
	p.enter()
	defer p.leave()
	of := p.negated()
	p.needTruth(of, at, "NOT")
	return not{of}
}

func (p *parser) relation() expr {
	left := p.sum()
	for p.err == nil {
		t := p.token
		switch holds, isComparison := comparisons[t.text]; {
		case t.kind == markToken && isComparison:
			p.count(t.at)
			p.advance()
			right := p.sum()
			p.needComparable(left, right, t)
			left = p.compared(&comparison{left: left, right: right, holds: holds})
		case p.takeKeyword("IN"), p.takeKeyword("NIN"): // in conditions of routes they are no keywords
			p.count(t.at)
			if p.token.kind != markToken || p.token.text != "[" {
				p.expected("an array such as ['a', 'b']")
			}
			left = &membership{of: left, in: newSet(p.array()), negated: t.text == "NIN"}
		default:
			p.unsupported()
			return left
		}
	}
	return left
}

func (p *parser) sum() expr { return p.arithmetic("+", "-", "-", p.product) }

func (p *parser) product() expr { return p.arithmetic("*", "/", "%", p.unary) }

// arithmetic reads parts with one of three operators between them.
func (p *parser) arithmetic(a, b, c string, part func() expr) expr {
	left := part()
	for p.token.kind == markToken && (p.token.text == a || p.token.text == b || p.token.text == c) {
		t := p.token
		p.count(t.at)
		p.advance()
		right := part()
		p.needNumbers(left, right, t)
		left = &arithmetic{left: left, right: right, compute: operators[t.text]}
	}
	return left
}

// unary reads signs. A sign before a number is part of it.
func (p *parser) unary() expr {
	t := p.token
	if t.kind != markToken || t.text != "-" && t.text != "+" {
		return p.primary()
	}
	p.advance()
	p.count(t.at)
	p.enter()
	defer p.leave()
	zero := constant{ofNumber(ofInt(0), true)}
	e := &arithmetic{left: zero, right: p.unary(), compute: operators[t.text]}
	p.needNumbers(zero, e.right, t)
	if _, isConstant := e.right.(constant); isConstant {
		return constant{e.eval(nil)}
	}
	return e
}

func (p *parser) primary() expr {
	t := p.token
	switch {
	case t.kind == markToken && t.text == "[":
		if p.routes {
			p.fail(t.at, "arrays cannot stand in conditions of routes")
		}
		return constant{arrayOf(p.array())}
	case p.takeMark("("):
		e := p.expression()
		p.needMark(")")
		return e
	case t.kind == textToken || t.kind == numberToken || t.kind == keywordToken:
		if v, ok := p.constant(); ok {
			return constant{v}
		}
	case t.kind == wordToken && p.parenthesisFollows():
		return p.call()
	case p.routes && t.kind == wordToken:
		return p.routeAttribute()
	case t.kind == wordToken || t.kind == nameToken:
		p.unsupported()
		return p.attribute()
	}
	p.unsupported()
	p.expected("a value, an attribute or a function")
	return constant{}
}

// constant takes a constant that is no array, if one is next.
func (p *parser) constant() (v value, ok bool) {
	switch t := p.token; t.kind {
	case textToken:
		v = ofText(t.text)
	case numberToken:
		v = ofNumber(t.number, true)
	case keywordToken:
		if v, ok = words[t.text]; !ok {
			return v, false
		}
	case endToken, wordToken, nameToken, markToken:
		return v, false
	}
	p.advance()
	return v, true
}

// words are the constants that are keywords.
var words = map[string]value{"TRUE": ofBool(true), "FALSE": ofBool(false), "NULL": null, "UNDEFINED": {}}

// array reads constants in brackets.
func (p *parser) array() (values []value) {
	p.enter()
	defer p.leave()
	p.needMark("[")
	if p.takeMark("]") {
		return nil
	}
	for {
		if p.elements++; p.elements > maxElements {
			p.fail(p.token.at, "the query has arrays of more than "+strconv.Itoa(maxElements)+" elements")
		}
		values = append(values, p.element())
		if p.takeMark("]") {
			return values
		}
		if p.needMark(","); p.err != nil {
			return nil
		}
	}
}

func (p *parser) element() value {
	switch negative := p.takeMark("-"); {
	case negative || p.takeMark("+"):
		n := p.token.number
		if p.token.kind != numberToken {
			p.expected("a number")
		}
		p.advance()
		if negative {
			return ofNumber(ofInt(0).subtract(n))
		}
		return ofNumber(n, true)
	case p.token.kind == markToken && p.token.text == "[":
		return arrayOf(p.array())
	}
	v, ok := p.constant()
	if !ok {
		p.expected("a constant")
	}
	return v
}

// arrayOf makes an array. JSON's arrays hold nothing that is undefined.
func arrayOf(values []value) value {
	elements := make([]document.Value, 0, len(values))
	for _, v := range values {
		if d := v.document(); d.IsDefined() {
			elements = append(elements, d)
		}
	}
	return value{kind: document.Array, doc: document.OfElements(elements)}
}

// call reads a function with its arguments.
func (p *parser) call() expr {
	word, _ := p.function()
	name := strings.ToUpper(word.text)
	f, known := p.lookUp(name)
	if !known {
		if _, isAggregate := aggregates[name]; isAggregate {
			p.fail(word.at, name+" is an aggregate and stands in SELECT only")
		}
		p.fail(word.at, "there is no function "+strconv.Quote(shorten(word.text)))
	}
	if p.makers += boolRank(makers[name]); p.makers > maxMakers {
		p.fail(word.at, "CONCAT, LOWER and UPPER are called more than "+strconv.Itoa(maxMakers)+" times")
	}
	args := p.arguments()
	p.needArguments(name, args, word.at)
	if len(args) < f.least || len(args) > f.most {
		p.fail(word.at, name+" takes "+f.arguments()+", not "+strconv.Itoa(len(args)))
	}
	return &call{apply: f.apply, args: args, result: p.result(name)}
}

func (p *parser) arguments() (args []expr) {
	if p.takeMark(")") {
		return nil
	}
	for {
		args = append(args, p.expression())
		if p.takeMark(")") {
			return args
		}
		if p.needMark(","); p.err != nil {
			return nil
		}
	}
}

// attribute reads a path.
func (p *parser) attribute() *attribute {
	a := &attribute{at: p.token.at}
	p.count(a.at)
	p.attributes = append(p.attributes, a)
	a.path = append(a.path, p.word("the name of an attribute"))
	for p.err == nil {
		at := p.token.at
		switch {
		case p.takeMark("."):
			a.add(step{name: p.name(), index: -1})
		case p.takeMark("["):
			a.add(step{index: p.integer("an index")})
			p.needMark("]")
		default:
			return a
		}
		if len(a.path)+len(a.rest) > maxPath {
			p.fail(at, "an attribute has more than "+strconv.Itoa(maxPath)+" names")
		}
	}
	return a
}

// add appends a step: to the path for the row as long as there is no index.
func (a *attribute) add(s step) {
	if s.index < 0 && len(a.rest) == 0 {
		a.path = append(a.path, s.name)
		return
	}
	a.rest = append(a.rest, s)
}

// name takes a name that follows a point.
func (p *parser) name() string {
	if p.token.kind == keywordToken {
		t := p.token
		p.fail(t.at, t.text+" is a keyword; as a name it is written [["+strings.ToLower(t.text)+"]]")
	}
	return p.word("a name")
}

// resolve brings all attributes into the form that rows know.
func (p *parser) resolve(c Collection) {
	if p.err != nil {
		return
	}
	for _, a := range p.attributes {
		a.path = c.resolve(a.path, p.alias)
	}
}
