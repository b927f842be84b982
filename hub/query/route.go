package query

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/iolite-emulator/iolite/document"
)

// Roots are what the paths of attributes begin with in the conditions of routes: a Row of theirs is asked for nothing else.
const (
	// PropertyRoot is for application properties: PropertyRoot, the name. Case does not matter.
	PropertyRoot = "property"
	// SystemRoot is for system properties: SystemRoot, the name as SystemProperties lists it, and the name as it is written, with $ if it
	// has one: when a message has no such system property, an application property of that name is meant.
	SystemRoot = "system"
	// BodyRoot is for the JSON of the body: BodyRoot, then the names of members.
	BodyRoot = "$body"
	// TwinRoot is for the twin of the sender: TwinRoot, then the names of members. Case does not matter.
	TwinRoot = "$twin"
)

// systemProperties are the system properties that conditions know, by their spellings in small letters (articles "IoT Hub message routing
// query syntax" and "Create and read IoT Hub messages"): the names on the wire, and those that the first article and the storage format use.
var systemProperties = func() map[string]string {
	m := map[string]string{}
	for name, spellings := range map[string][]string{
		"messageId":                    {"message-id"},
		"correlationId":                {"correlation-id"},
		"userId":                       {"user-id"},
		"to":                           {},
		"contentType":                  {"content-type"},
		"contentEncoding":              {"content-encoding"},
		"ack":                          {"iothub-ack"},
		"enqueuedTime":                 {"iothub-enqueuedtime"},
		"creationTimeUtc":              {"iothub-creation-time-utc"},
		"messageSource":                {"iothub-message-source"},
		"messageSchema":                {"iothub-message-schema"},
		"operation":                    {"iothub-operation"},
		"outputName":                   {"iothub-outputname"},
		"interfaceId":                  {"iothub-interface-id"},
		"connectionDeviceId":           {"iothub-connection-device-id"},
		"connectionModuleId":           {"iothub-connection-module-id"},
		"connectionAuthMethod":         {"iothub-connection-auth-method"},
		"connectionDeviceGenerationId": {"iothub-connection-auth-generation-id"},
		"dataSchema":                   {"dt-dataschema"},
		"subject":                      {"dt-subject"},
	} {
		m[strings.ToLower(name)] = name
		for _, s := range spellings {
			m[s] = name
		}
	}
	return m
}()

// SystemProperty returns how a system property is called in paths. It may be written in any case and as it is on the wire.
func SystemProperty(name string) (canonical string, known bool) {
	canonical, known = systemProperties[strings.ToLower(name)]
	return canonical, known
}

// RouteCondition is the condition of a route, in the routing query language. It never changes: any number of goroutines may use it at once.
//
// The language is the one of queries, with these differences (article "IoT Hub message routing query syntax"):
//
//   - A name that stands alone is an application property, a text; case does not matter. $name is a system property and, where a message
//     has none, the application property $name. $body.a.b[0] is a part of the body, $twin.tags.a and $twin.properties.desired.a of the twin.
//   - A name has any characters but white space, quotes and ()<>@,;:\/[]?={}, so a-b and a.b are names; the first one is a letter or one of
//     _$#&~^. A ! where = follows ends a name, too.
//   - Arrays, IN, NIN and == cannot stand there. The functions are those that the article lists for routes.
//   - What can never be compared is refused when it is parsed, as the real hub's compiler does: a property, which is a text, with a number.
//   - IS_DEFINED is true for primitive values only.
//
// Source of what the articles do not say: Azure/iotedge, Microsoft.Azure.Devices.Routing.Core, grammar Condition.g4.
type RouteCondition struct {
	where expr // nil when it is always true
	roots roots
}

// roots are the parts of a message that a condition asks for.
type roots struct{ body, twin bool }

// ParseRouteCondition reads the condition of a route; an empty one is true. Its error is a *SyntaxError.
func ParseRouteCondition(text string) (*RouteCondition, error) {
	p, err := newParser(text, true)
	if err != nil {
		return nil, err
	}
	c := &RouteCondition{}
	if p.token.kind != endToken {
		c.where = p.expression()
		p.end()
	}
	if p.err != nil {
		return nil, p.err
	}
	if k, ok := c.where.(constant); ok && k.value.isTrue() {
		c.where = nil
	}
	for _, a := range p.attributes {
		c.roots.body = c.roots.body || a.path[0] == BodyRoot
		c.roots.twin = c.roots.twin || a.path[0] == TwinRoot
	}
	return c, nil
}

// IsAlways reports whether the condition selects every message.
func (c *RouteCondition) IsAlways() bool { return c.where == nil }

// AsksBody reports whether the condition asks for a part of the body.
func (c *RouteCondition) AsksBody() bool { return c.roots.body }

// AsksTwin reports whether the condition asks for a part of the twin.
func (c *RouteCondition) AsksTwin() bool { return c.roots.twin }

// Matches reports whether the condition selects a message, and if not, whether that is because it is undefined or null, which the real hub logs.
func (c *RouteCondition) Matches(message Row) (matches, undefined bool) {
	if c.where == nil {
		return true, false
	}
	return isTrue(c.where, message)
}

// isTrue evaluates no more than it takes to tell whether an expression is true: a part of the body that stands behind a property which decides is
// not asked for. undefined is that of the part that decided.
func isTrue(e expr, message Row) (matches, undefined bool) {
	switch e := e.(type) {
	case and:
		for _, part := range e {
			if matches, undefined = isTrue(part, message); !matches {
				return false, undefined
			}
		}
		return true, false
	case or:
		some := false
		for _, part := range e {
			if matches, undefined = isTrue(part, message); matches {
				return true, false
			}
			some = some || undefined
		}
		return false, some
	case *textComparison:
		return e.isTrue(message)
	}
	v := e.eval(message)
	return v.isTrue(), v.kind == document.Undefined || v.kind == document.Null
}

// textComparison compares an attribute with a constant text: what most conditions of routes do, in half the time of a comparison.
type textComparison struct {
	attribute *attribute
	text      string
	holds     [3]bool
}

func (c *textComparison) eval(row Row) value {
	matches, undefined := c.isTrue(row)
	if undefined {
		return value{}
	}
	return ofBool(matches)
}

func (c *textComparison) isTrue(row Row) (matches, undefined bool) {
	v := c.attribute.find(row)
	switch v.Kind() {
	case document.String:
	case document.Null: // = and != tell a value that is there from null
		matches = c.holds[0] && c.holds[2]
		return matches, c.holds[0] != c.holds[2]
	case document.Undefined, document.Bool, document.Number, document.Array, document.Object:
		return false, true
	}
	return c.holds[strings.Compare(v.Text(), c.text)+1], false
}

// compared returns a comparison, of routes as a textComparison if it is one.
func (p *parser) compared(c *comparison) expr {
	a, isAttribute := c.left.(*attribute)
	text, isConstant := c.right.(constant)
	if !p.routes || !isAttribute || !isConstant || text.value.kind != document.String {
		return c
	}
	return &textComparison{attribute: a, text: text.value.doc.Text(), holds: c.holds}
}

// routeKeywords may not stand for properties.
var routeKeywords = map[string]bool{"AND": true, "OR": true, "NOT": true, "TRUE": true, "FALSE": true, "NULL": true, "UNDEFINED": true}

// missingInRoutes are operators of queries that conditions of routes do not have.
var missingInRoutes = map[string]bool{"IN": true, "NIN": true}

// routeWord returns the length of the name that s begins with. A point may begin one: it follows an index in a path.
func routeWord(s string) int {
	for i, r := range s {
		switch {
		case r == '!' && strings.HasPrefix(s[i:], "!="), strings.ContainsRune(`()<>@,;:\/[]?={}'"`, r), unicode.IsSpace(r), r < ' ':
			return i
		case i == 0 && !unicode.IsLetter(r) && !strings.ContainsRune("_$#&~^.", r):
			return 0
		}
	}
	return len(s)
}

// routeAttribute reads a property or a path.
func (p *parser) routeAttribute() expr {
	t := p.token
	a := &attribute{at: t.at}
	p.count(t.at)
	p.attributes = append(p.attributes, a)
	p.advance()
	root, rest, deep := strings.Cut(t.text, ".")
	switch {
	case strings.EqualFold(root, BodyRoot):
		a.path = append(a.path, BodyRoot)
	case strings.EqualFold(root, TwinRoot):
		a.path = append(a.path, TwinRoot)
	default:
		a.path = propertyPath(t.text)
		return a
	}
	if deep {
		p.routeNames(a, rest, t.at+len(root)+1)
	}
	p.routeIndexes(a)
	return a
}

// propertyPath returns the path of an application or a system property.
func propertyPath(written string) []string {
	if written[0] == '$' {
		if name, known := SystemProperty(written[1:]); known {
			return []string{SystemRoot, name, written}
		}
	}
	// "To query, use enqueuedTime". Readers find iothub-message-schema and its like among the application properties.
	if name, known := SystemProperty(written); known && (name == "enqueuedTime" || strings.HasPrefix(strings.ToLower(written), "iothub-")) {
		return []string{SystemRoot, name, written}
	}
	return []string{PropertyRoot, written}
}

// routeIndexes reads the indexes that follow a name of a path, and the names that follow those.
func (p *parser) routeIndexes(a *attribute) {
	for p.err == nil && p.takeMark("[") {
		a.add(step{index: p.integer("an index")})
		p.needMark("]")
		if t := p.token; t.kind == wordToken && t.text[0] == '.' {
			p.advance()
			p.routeNames(a, t.text[1:], t.at+1)
		}
		if len(a.path)+len(a.rest) > maxPath {
			p.fail(a.at, "an attribute has more than "+strconv.Itoa(maxPath)+" names")
		}
	}
}

// routeNames adds names with points between them, the first of which stands at an offset.
func (p *parser) routeNames(a *attribute, names string, at int) {
	for name := range strings.SplitSeq(names, ".") {
		switch {
		case name == "":
			p.fail(at, "a name must stand here")
			return
		case len(a.path)+len(a.rest) >= maxPath:
			p.fail(at, "an attribute has more than "+strconv.Itoa(maxPath)+" names")
			return
		}
		a.add(step{name: name, index: -1})
		at += len(name) + 1
	}
}

// routeFunction is a function as routes have it: what kinds of arguments it takes, the last for all that follow, and what it comes to.
// Undefined is any kind.
type routeFunction struct {
	takes  []document.Kind
	result document.Kind
}

var (
	anyKind   = []document.Kind{document.Undefined}
	aNumber   = []document.Kind{document.Number}
	aText     = []document.Kind{document.String}
	aPosition = []document.Kind{document.String, document.Number}
)

// routeFunctions are the functions that the article lists for conditions of routes.
var routeFunctions = map[string]routeFunction{
	"ABS": {aNumber, document.Number}, "EXP": {aNumber, document.Number}, "POWER": {aNumber, document.Number}, "SQUARE": {aNumber, document.Number},
	"CEILING": {aNumber, document.Number}, "FLOOR": {aNumber, document.Number}, "SIGN": {aNumber, document.Number}, "SQRT": {aNumber, document.Number},
	"AS_NUMBER": {anyKind, document.Number},
	"IS_ARRAY":  {anyKind, document.Bool}, "IS_BOOL": {anyKind, document.Bool}, "IS_DEFINED": {anyKind, document.Bool}, "IS_NULL": {anyKind, document.Bool},
	"IS_NUMBER": {anyKind, document.Bool}, "IS_OBJECT": {anyKind, document.Bool}, "IS_PRIMITIVE": {anyKind, document.Bool}, "IS_STRING": {anyKind, document.Bool},
	"CONCAT": {aText, document.String}, "LENGTH": {aText, document.Number}, "LOWER": {aText, document.String}, "UPPER": {aText, document.String},
	"SUBSTRING": {aPosition, document.String}, "INDEX_OF": {aText, document.Number},
	"STARTS_WITH": {aText, document.Bool}, "ENDS_WITH": {aText, document.Bool}, "CONTAINS": {aText, document.Bool},
}

// definedInRoutes is IS_DEFINED. IoT Hub: "you can use the is_defined() function (when the value is a primitive type)".
var definedInRoutes = function{1, 1, functions["IS_PRIMITIVE"].apply}

// lookUp returns a function by its name in capitals.
func (p *parser) lookUp(name string) (f function, known bool) {
	f, known = functions[name]
	if !p.routes {
		return f, known
	}
	if _, known = routeFunctions[name]; name == "IS_DEFINED" {
		f = definedInRoutes
	}
	return f, known
}

// result returns the kind that a function of a route comes to.
func (p *parser) result(name string) document.Kind {
	if !p.routes {
		return document.Undefined
	}
	return routeFunctions[name].result
}

// kindOf returns the kind of what an expression comes to; ok is false when that depends on the message, or it is undefined or null, which
// fit everywhere.
func kindOf(e expr) (k document.Kind, ok bool) {
	switch e := e.(type) {
	case constant:
		k = e.value.kind
	case *attribute:
		if len(e.path) > 0 && (e.path[0] == PropertyRoot || e.path[0] == SystemRoot) {
			k = document.String
		}
	case *call:
		k = e.result
	case *arithmetic:
		k = document.Number
	case *comparison, *textComparison, *membership, not, and, or:
		k = document.Bool
	}
	return k, k != document.Undefined && k != document.Null
}

// needTruth fails when an operand of AND, OR or NOT can never be true or false. It stands at an offset.
func (p *parser) needTruth(e expr, at int, operator string) {
	if k, ok := kindOf(e); p.routes && ok && k != document.Bool {
		p.fail(at, operator+" takes what is true or false, and this is a "+k.String())
	}
}

// needComparable fails when what stands on both sides of an operator can never be compared.
func (p *parser) needComparable(left, right expr, operator token) {
	if !p.routes {
		return
	}
	if operator.text == "==" {
		p.fail(operator.at, "== is not supported in conditions of routes; = compares")
		return
	}
	l, knownLeft := kindOf(left)
	r, knownRight := kindOf(right)
	if knownLeft && knownRight && l != r {
		p.fail(operator.at, operator.text+" cannot compare a "+l.String()+" with a "+r.String()+advice(max(l, r), min(l, r))) // a string is the greater kind
	}
}

// advice helps with what is most often meant: properties are texts.
func advice(have, want document.Kind) string {
	if have == document.String && want == document.Number {
		return "; properties are strings, AS_NUMBER makes numbers of them"
	}
	return ""
}

// needNumbers fails when an operand of an arithmetic operator can never be a number.
func (p *parser) needNumbers(left, right expr, operator token) {
	if !p.routes {
		return
	}
	for _, e := range []expr{left, right} {
		if k, ok := kindOf(e); ok && k != document.Number {
			p.fail(operator.at, operator.text+" takes numbers, not a "+k.String()+advice(k, document.Number))
		}
	}
}

// needArguments fails when an argument of a function can never be of the kind that it takes.
func (p *parser) needArguments(name string, args []expr, at int) {
	takes := routeFunctions[name].takes
	if !p.routes || len(takes) == 0 {
		return
	}
	for i, arg := range args {
		want := takes[min(i, len(takes)-1)]
		if k, ok := kindOf(arg); ok && want != document.Undefined && k != want {
			p.fail(at, name+" takes a "+want.String()+" as argument "+strconv.Itoa(i+1)+", not a "+k.String()+advice(k, want))
		}
	}
}
