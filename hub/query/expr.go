package query

import "github.com/iolite-emulator/iolite/document"

// expr is an expression. To evaluate one for a row costs no memory, unless a function makes a text.
type expr interface{ eval(Row) value }

// constant is a value that stands in the query.
type constant struct{ value value }

func (c constant) eval(Row) value { return c.value }

// attribute is a value of the row.
type attribute struct {
	path []string // what the row is asked for
	rest []step   // where to go in the answer
	at   int      // offset in the text
}

// step leads from a document to a part of it.
type step struct {
	name  string // of a member, unless this is an element
	index int    // of an element, -1 for a member
}

func (a *attribute) eval(row Row) value { return ofDocument(a.find(row)) }

func (a *attribute) find(row Row) document.Value {
	v := row.Value(a.path)
	for _, s := range a.rest {
		if s.index < 0 {
			v = v.Get(s.name)
			continue
		}
		elements := v.Elements()
		if s.index >= len(elements) {
			return document.Value{}
		}
		v = elements[s.index]
	}
	return v
}

// not turns true and false round; everything else is undefined.
type not struct{ of expr }

func (n not) eval(row Row) value {
	v := n.of.eval(row)
	if v.kind != document.Bool {
		return value{}
	}
	return ofBool(!v.truth)
}

// and is false if one of its parts is, true if all are, and undefined otherwise.
type and []expr

func (a and) eval(row Row) value {
	all := ofBool(true)
	for _, e := range a {
		switch v := e.eval(row); {
		case v.isFalse():
			return v
		case !v.isTrue():
			all = value{}
		}
	}
	return all
}

// or is true if one of its parts is, false if all are, and undefined otherwise.
type or []expr

func (o or) eval(row Row) value {
	all := ofBool(false)
	for _, e := range o {
		switch v := e.eval(row); {
		case v.isTrue():
			return v
		case !v.isFalse():
			all = value{}
		}
	}
	return all
}

// comparison compares two values. holds tells, for less, equal and greater, whether it is true.
type comparison struct {
	left, right expr
	holds       [3]bool
}

// comparisons are the operators by their marks.
var comparisons = map[string][3]bool{
	"=": {false, true, false}, "==": {false, true, false}, "!=": {true, false, true}, "<>": {true, false, true},
	"<": {true, false, false}, "<=": {true, true, false}, ">": {false, false, true}, ">=": {false, true, true},
}

func (c *comparison) eval(row Row) value {
	l, r := c.left.eval(row), c.right.eval(row)
	if order, ok := l.compare(r); ok {
		return ofBool(c.holds[order+1])
	}
	// = and != with null ask whether a value that is there is null; they do not order.
	if c.holds[0] == c.holds[2] && l.kind != document.Undefined && r.kind != document.Undefined && (l.kind == document.Null || r.kind == document.Null) {
		return ofBool(c.holds[0])
	}
	return value{}
}

// membership is IN and NIN. It is what a chain of = with OR, or of != with AND, comes to.
type membership struct {
	of      expr
	in      set
	negated bool
}

func (m *membership) eval(row Row) value {
	v := m.of.eval(row)
	found, decided := m.in.find(v)
	if !found && !decided {
		return value{}
	}
	return ofBool(found != m.negated)
}

// set holds the constants of an array. Its size does not slow a look-up.
type set struct {
	texts   map[string]bool
	numbers map[number]bool
	bools   [2]bool
	null    bool
	kinds   [document.Object + 1]bool // that are in the array
}

func newSet(values []value) set {
	s := set{texts: map[string]bool{}, numbers: map[number]bool{}}
	for _, v := range values {
		s.kinds[v.kind] = true
		switch v.kind {
		case document.String:
			s.texts[v.doc.Text()] = true
		case document.Number:
			s.numbers[v.num] = true
		case document.Bool:
			s.bools[boolRank(v.truth)] = true
		case document.Null:
			s.null = true
		case document.Undefined, document.Array, document.Object:
		}
	}
	return s
}

// find reports whether v is in the set, and if not, whether it could be compared with everything there.
func (s *set) find(v value) (found, decided bool) {
	switch v.kind {
	case document.String:
		found = s.texts[v.doc.Text()]
	case document.Number:
		found = s.numbers[v.num]
	case document.Bool:
		found = s.bools[boolRank(v.truth)]
	case document.Null:
		found = s.null
	case document.Undefined:
		return false, false
	case document.Array, document.Object:
	}
	for kind, there := range s.kinds {
		k := document.Kind(kind)
		if there && (k == document.Undefined || (k != v.kind || k >= document.Array) && k != document.Null && v.kind != document.Null) {
			return found, false
		}
	}
	return found, true
}

// arithmetic computes with two numbers.
type arithmetic struct {
	left, right expr
	compute     func(number, number) (number, bool)
}

// operators are the arithmetic ones by their marks.
var operators = map[string]func(number, number) (number, bool){
	"+": number.add, "-": number.subtract, "*": number.multiply, "/": number.divide, "%": number.modulo,
}

func (a *arithmetic) eval(row Row) value {
	l, r := a.left.eval(row), a.right.eval(row)
	if l.kind != document.Number || r.kind != document.Number {
		return value{}
	}
	return ofNumber(a.compute(l.num, r.num))
}

// call is a call of a function.
type call struct {
	apply  func(Row, []expr) value
	args   []expr
	result document.Kind // what it comes to when it is defined; Undefined when that is not known
}

func (c *call) eval(row Row) value { return c.apply(row, c.args) }
