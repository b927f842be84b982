package query

import (
	"slices"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/document"
)

// aggregate is what SELECT makes of the values of a group.
type aggregate uint8

const (
	none aggregate = iota
	count
	average
	sum
	least
	most
)

// aggregates by their names.
var aggregates = map[string]aggregate{"COUNT": count, "AVG": average, "SUM": sum, "MIN": least, "MAX": most}

// check holds the rules between the clauses of a query, and gives names to what it selects. source is where FROM names its collection.
func (p *parser) check(q *Query, source int) {
	if p.err != nil {
		return
	}
	if q.grouped && len(q.items) == 0 {
		p.fail(q.groupBy[0].at, "SELECT * and GROUP BY do not go together")
	}
	for i := range q.items {
		q.grouped = q.grouped || q.items[i].aggregate != none
	}
	if q.from == Jobs && len(q.items) > 0 { // article "Queries for IoT Hub jobs"
		p.fail(source, "queries on devices.jobs support SELECT * only: no projections, no aggregates")
	}
	p.nameItems(q)
	for i := range q.items {
		it := &q.items[i]
		if q.grouped && it.aggregate == none && !slices.ContainsFunc(q.groupBy, it.attribute.equal) {
			p.fail(it.at, strconv.Quote(shorten(it.name))+" is neither an aggregate nor in GROUP BY")
		}
	}
}

// nameItems names what has no AS: attributes by their last name, aggregates $1, $2 and so on. No name may come twice.
func (p *parser) nameItems(q *Query) {
	names, unnamed := map[string]bool{}, 0
	for i := range q.items {
		it := &q.items[i]
		switch {
		case it.name != "":
		case it.aggregate != none:
			unnamed++
			it.name = "$" + strconv.Itoa(unnamed)
		default:
			it.name = it.attribute.name()
		}
		if names[it.name] {
			p.fail(it.at, "two columns are called "+strconv.Quote(shorten(it.name))+"; AS gives one of them another name")
		}
		names[it.name] = true
	}
}

// name is the last name of an attribute.
func (a *attribute) name() string {
	for i := len(a.rest) - 1; i >= 0; i-- {
		if a.rest[i].index < 0 {
			return a.rest[i].name
		}
	}
	return a.path[len(a.path)-1]
}

func (a *attribute) equal(b *attribute) bool {
	return slices.Equal(a.path, b.path) && slices.Equal(a.rest, b.rest)
}

// maxGroupBytes bounds the memory of an Aggregation: for each group the length of its key and what groupCost says.
const maxGroupBytes = 64 << 20

// groupCost is about what a group costs beside its key and tallies, in bytes.
const groupCost = 128

// tallyCost is about what a tally costs, in bytes.
const tallyCost = 128

// GroupsError is the failure of a query whose groups need too much memory.
type GroupsError struct{ Groups int }

// Error implements error.
func (e *GroupsError) Error() string {
	return "GROUP BY makes too many groups: " + strconv.Itoa(e.Groups) + " of them take more than " + strconv.Itoa(maxGroupBytes>>20) + " MiB"
}

// Aggregation counts up the rows of an aggregate query. It is not for several goroutines at once. Its groups take at most 64 MiB together:
// Add fails with a *GroupsError when a new one would take more.
type Aggregation struct {
	query  *Query
	groups map[string]*group
	bytes  int
	key    []byte
	sorted []*group // nil while rows are added
}

// group is the rows with one value of the attributes in GROUP BY.
type group struct {
	key     string
	values  []document.Value // of the attributes in GROUP BY
	tallies []tally          // one for each item, unused for attributes
}

// Aggregate returns an Aggregation without rows; q must be an aggregate query.
func (q *Query) Aggregate() *Aggregation {
	a := &Aggregation{query: q, groups: map[string]*group{}}
	if len(q.groupBy) == 0 { // one group, even of no rows
		a.groups[""] = &group{tallies: make([]tally, len(q.items))}
	}
	return a
}

// Add counts a row that WHERE has selected. A row without one of the attributes in GROUP BY belongs to the group of those without it.
func (a *Aggregation) Add(row Row) error {
	a.sorted = nil
	g, err := a.group(row)
	if err != nil {
		return err
	}
	for i := range a.query.items {
		switch it := &a.query.items[i]; it.aggregate {
		case none:
		case count:
			g.tallies[i].count++
		case average, sum, least, most:
			g.tallies[i].add(it.aggregate, it.attribute.eval(row))
		}
	}
	return nil
}

// group returns the row's group.
func (a *Aggregation) group(row Row) (*group, error) {
	a.key = a.key[:0]
	for _, attribute := range a.query.groupBy {
		a.key = appendKey(a.key, attribute.eval(row))
	}
	if g := a.groups[string(a.key)]; g != nil {
		return g, nil
	}
	a.bytes += groupCost + 2*len(a.key) + len(a.query.items)*tallyCost
	if a.bytes > maxGroupBytes {
		return nil, &GroupsError{Groups: len(a.groups) + 1}
	}
	g := &group{key: string(a.key), tallies: make([]tally, len(a.query.items))}
	for _, attribute := range a.query.groupBy {
		g.values = append(g.values, attribute.find(row))
	}
	a.groups[g.key] = g
	return g, nil
}

// appendKey appends a form of v that only equal values share, and that ends itself.
func appendKey(b []byte, v value) []byte {
	b = append(b, '0'+byte(v.kind))
	if v.kind != document.Undefined {
		b = v.document().AppendJSON(b)
	}
	return append(b, 0)
}

// Len returns how many rows the result has.
func (a *Aggregation) Len() int {
	if _, limited := a.query.Top(); limited {
		return min(len(a.groups), a.query.top)
	}
	return len(a.groups)
}

// AppendRow appends row i of the result, a JSON object. Rows are in the order of their groups' values, so that the same data always makes the
// same rows. What an aggregate has no value for is left out.
func (a *Aggregation) AppendRow(b []byte, i int) []byte {
	if a.sorted == nil {
		for _, g := range a.groups {
			a.sorted = append(a.sorted, g)
		}
		slices.SortFunc(a.sorted, func(g, h *group) int { return strings.Compare(g.key, h.key) })
	}
	g := a.sorted[i]
	o := object{b: append(b, '{')}
	for j := range a.query.items {
		it := &a.query.items[j]
		if it.aggregate == none {
			o.add(it.name, g.values[slices.IndexFunc(a.query.groupBy, it.attribute.equal)])
			continue
		}
		o.add(it.name, g.tallies[j].result(it.aggregate).document())
	}
	return append(o.b, '}')
}

// tally is what an aggregate has seen of a group.
type tally struct {
	count   int64
	total   number
	extreme value
	spoilt  bool // by a value that the aggregate cannot take
}

// add takes a value. What is undefined is passed over. As in Azure Cosmos DB, a sum or an average with a value that is no number is undefined,
// and so is a least or greatest value among arrays or objects; among several types null comes before booleans, then numbers, then texts.
func (t *tally) add(a aggregate, v value) {
	switch {
	case v.kind == document.Undefined:
		return
	case a == average || a == sum:
		if v.kind != document.Number {
			t.spoilt = true
			return
		}
		total, ok := v.num, true
		if t.count > 0 {
			total, ok = t.total.add(v.num)
		}
		t.count++
		t.total, t.spoilt = total, t.spoilt || !ok
	case v.kind == document.Array || v.kind == document.Object:
		t.spoilt = true
	case t.count == 0 || (rank(v, t.extreme) < 0) == (a == least) && rank(v, t.extreme) != 0:
		t.count++
		t.extreme = v
	}
}

// rank orders primitive values of any types.
func rank(v, w value) int {
	if v.kind != w.kind {
		return int(v.kind) - int(w.kind)
	}
	order, _ := v.compare(w)
	return order
}

// result returns what comes of the values, undefined when there were none.
func (t *tally) result(a aggregate) value {
	switch {
	case a == count:
		return ofNumber(ofInt(t.count), true)
	case t.spoilt || t.count == 0:
		return value{}
	case a == average:
		return ofNumber(t.total.divide(ofInt(t.count)))
	case a == sum:
		return ofNumber(t.total, true)
	}
	return t.extreme
}
