// Package query is IoT Hub's query language: a text becomes a Query, and a Query selects rows, shows them, or counts them up. It is pure: it
// knows rows only through the interface Row and starts no search of its own.
//
// # Grammar
//
// Keywords, names of functions and of collections are written in any case. Names of properties are exact, except for the first one of an
// attribute, which is looked up in the collection's own list (DeviceId is deviceId, as in the article's examples).
//
//	query      = "SELECT" [ "TOP" integer ] list "FROM" source [ "WHERE" expression ] [ "GROUP" "BY" attribute { "," attribute } ]
//	list       = "*" | item { "," item }
//	item       = ( attribute | aggregate ) [ "AS" word ]
//	aggregate  = "COUNT" "(" ")" | ( "AVG" | "SUM" | "MIN" | "MAX" ) "(" attribute ")"
//	source     = collection [ [ "AS" ] word ]
//	collection = "devices" | "devices" "." "modules" | "devices" "." "jobs"
//	condition  = [ "*" | expression | "FROM" source [ "WHERE" expression ] ]
//	expression = conjunct { "OR" conjunct }
//	conjunct   = negated { "AND" negated }
//	negated    = "NOT" negated | relation
//	relation   = sum { ( "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) sum | ( "IN" | "NIN" ) array }
//	sum        = product { ( "+" | "-" ) product }
//	product    = unary { ( "*" | "/" | "%" ) unary }
//	unary      = ( "-" | "+" ) unary | primary
//	primary    = constant | array | function "(" [ expression { "," expression } ] ")" | attribute | "(" expression ")"
//	array      = "[" [ element { "," element } ] "]"
//	element    = [ "-" | "+" ] number | text | "true" | "false" | "null" | "undefined" | array
//	constant   = number | text | "true" | "false" | "null" | "undefined"
//	attribute  = name { "." name | "[" integer "]" }
//	name       = word | "[[" characters "]]"; two brackets always begin a name, so an array in an array is written [ [1], 2]
//	word       = a letter, "_" or "$", then letters, digits, "_" and "$"; no keyword
//	number     = decimal, with fraction and exponent as in JSON | "0x" hexadecimal digits
//	text       = characters between ' or between "; escapes are \' \" \\ \uXXXX
//
// An attribute may begin with the collection ("devices.", "devices.jobs.") or with the name that FROM gave it. ORDER BY, JOIN and the rest of
// SQL are not in IoT Hub's grammar and are refused, each by its name.
//
// # Values
//
// Logic has three values. What is not there is undefined, and so is what cannot be worked out: a comparison of different types, of arrays
// or of objects ("comparisons are supported only between primitive types"), an argument of the wrong type, a division by zero. One
// exception: = and != with null tell whether a value that is there is null, whatever its type. NOT undefined is undefined; AND is false if
// one side is, OR is true if one side is; only true selects a row.
//
// Integers of 64 bits are compared and added exactly, other numbers as float64. Texts are compared by their bytes. Positions and lengths of
// texts count Unicode characters.
//
// # Limits
//
// A text has at most 8,192 characters (article "Queries for IoT Hub device and module twins"), 64 levels, 1,000 operators, functions and
// attributes, 64 selected items, 8 attributes to group by, 1,000 elements in arrays, 32 calls of CONCAT,
// LOWER and UPPER together, and 64 names in an attribute. A text that a function makes
// from a row has at most 16 KiB, or it is undefined. There are no regular expressions: the work for a row grows with the text of the query
// and that of the row, not with their powers.
//
// Routes have a dialect of their own: RouteCondition says what is different there.
//
// Sources: articles "IoT Hub query language for device and module twins, jobs, and message routing", "Queries for IoT Hub device and module
// twins", "Queries for IoT Hub jobs"; for undefined, "Equality and comparison operators in Azure Cosmos DB for NoSQL".
package query

import "github.com/iolite-emulator/iolite/document"

// Collection is what a query reads.
type Collection uint8

// The collections.
const (
	Devices Collection = iota // device twins
	Modules                   // module twins
	Jobs                      // what jobs did to each device
)

// String returns the collection's name in FROM.
func (c Collection) String() string {
	return [...]string{"devices", "devices.modules", "devices.jobs"}[c]
}

// Row is where an expression finds the values of its attributes.
type Row interface {
	// Value returns what stands at a path of one or more names; Undefined when nothing does. The path must be neither kept nor changed.
	Value(path []string) document.Value
}

// Query is a parsed query. It never changes: any number of goroutines may use it at once.
type Query struct {
	from    Collection
	top     int // -1 without TOP
	items   []item
	where   expr // nil without WHERE
	groupBy []*attribute
	grouped bool // has an aggregate or GROUP BY
}

// item is one thing that SELECT names. A Query without items selects *.
type item struct {
	name      string
	attribute *attribute // nil for COUNT()
	aggregate aggregate  // none for an attribute
	at        int        // offset in the text
}

// From returns what the query reads.
func (q *Query) From() Collection { return q.from }

// Top returns the most rows that the query may return; limited is false without TOP.
func (q *Query) Top() (n int, limited bool) { return max(q.top, 0), q.top >= 0 }

// SelectsAll reports whether rows are shown whole: SELECT *.
func (q *Query) SelectsAll() bool { return len(q.items) == 0 }

// IsAggregate reports whether rows are to be counted up by an Aggregation instead of being shown one by one.
func (q *Query) IsAggregate() bool { return q.grouped }

// HasCondition reports whether there is a WHERE.
func (q *Query) HasCondition() bool { return q.where != nil }

// Matches reports whether WHERE selects row.
func (q *Query) Matches(row Row) bool { return selects(q.where, row) }

func selects(where expr, row Row) bool { return where == nil || where.eval(row).isTrue() }

// AppendRow appends what SELECT shows of a row, a JSON object. Attributes that are not there are left out. It is for queries that neither
// select * nor aggregate.
func (q *Query) AppendRow(b []byte, row Row) []byte {
	o := object{b: append(b, '{')}
	for i := range q.items {
		o.add(q.items[i].name, q.items[i].attribute.find(row))
	}
	return append(o.b, '}')
}

// object writes the members of a JSON object.
type object struct {
	b     []byte
	begun bool
}

func (o *object) add(name string, v document.Value) {
	if !v.IsDefined() {
		return
	}
	if o.begun {
		o.b = append(o.b, ',')
	}
	o.begun = true
	o.b = append(document.AppendString(o.b, name), ':')
	o.b = v.AppendJSON(o.b)
}

// Condition is a condition that stands alone: the queryCondition of a job, the targetCondition of a configuration. It never changes.
type Condition struct {
	from  Collection
	none  bool
	where expr // nil when everything is selected

	source, expression string // its text in two
}

// From returns what the condition is about: Devices unless its text says otherwise.
func (c *Condition) From() Collection { return c.from }

// IsNone reports whether the text was empty; then nothing is selected.
func (c *Condition) IsNone() bool { return c.none }

// Parts returns the condition's text in two: FROM and what it names, and the expression, without WHERE between them. Both may be empty.
func (c *Condition) Parts() (source, expression string) { return c.source, c.expression }

// IsAll reports whether everything is selected: "*", or FROM without WHERE.
func (c *Condition) IsAll() bool { return !c.none && c.where == nil }

// Matches reports whether the condition selects row.
func (c *Condition) Matches(row Row) bool { return !c.none && selects(c.where, row) }
