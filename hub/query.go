package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// Sizes of the pages of a query, in rows.
const (
	defaultQueryPage = 100
	maxQueryPage     = 1000
)

// maxPageText is when a page ends before it has all its rows, in bytes: a thousand large twins would fill a gigabyte. Iolite's own limit.
const maxPageText = 4 << 20

// queryBatch is how many rows a search looks at between two looks at its context.
const queryBatch = 256

// Item types of a query's rows, as the SDKs' enumerations spell them.
const (
	ItemTwin      = "Twin"      // SELECT * of devices and devices.modules
	ItemRaw       = "Raw"       // projections and aggregates
	ItemDeviceJob = "DeviceJob" // of devices.jobs
)

// QueryRequest asks for a page of a query's answer.
type QueryRequest struct {
	Text         string
	PageSize     int    // the most rows; 0 means 100, more than 1,000 means 1,000
	Continuation string // of the page before; "" for the first one
}

// QueryPage is a page of a query's answer.
type QueryPage struct {
	ItemType     string
	Rows         []json.RawMessage
	Continuation string // of the next page; "" on the last one
}

// size is how long the JSON of the rows is.
func (p *QueryPage) size() (n int) {
	for _, row := range p.Rows {
		n += len(row)
	}
	return n
}

// Query answers one page of a query (article "IoT Hub query language"). Rows come in the order of device and module ids, groups in that of their
// values. A page of a query that does not aggregate looks at no more rows than it takes to fill it and to find the next one: no page but the
// first is empty, because the Java SDK promises another row for as long as there is a token. A page ends early at 4 MiB. ServiceConnect.
// CodeArgumentInvalid: the query is wrong (the text names line and column), a page size below 0, a continuation token of another query, too
// many groups.
func (s *ServiceSession) Query(ctx context.Context, r QueryRequest) (p QueryPage, err error) {
	op := opQuery
	defer func() { err = s.hub.did(op, store.Key{}, s.conn, p.size(), err) }()
	if err := s.need(ctx, auth.ServiceConnect, "devices/query"); err != nil {
		return QueryPage{}, err
	}
	if r.PageSize < 0 {
		return QueryPage{}, s.hub.NewError(CodeArgumentInvalid, "the page size must not be negative")
	}
	size := defaultQueryPage
	if r.PageSize > 0 {
		size = min(r.PageSize, maxQueryPage)
	}
	q, err := s.hub.parseQuery(r.Text)
	if err != nil {
		return QueryPage{}, err
	}
	if q.From() == query.Jobs {
		op = opQueryJobs
	}
	at := firstPage(q)
	if r.Continuation != "" {
		var ours bool
		if at, ours = parseContinuation(r.Continuation, r.Text); !ours {
			return QueryPage{}, s.hub.NewError(CodeArgumentInvalid, "the continuation token does not belong to this query")
		}
	}
	return s.hub.queryPage(ctx, q, r.Text, at, size)
}

// parseQuery reads a query. CodeArgumentInvalid.
func (h *Hub) parseQuery(text string) (*query.Query, error) {
	q, err := query.Parse(text)
	if err != nil {
		return nil, h.NewError(CodeArgumentInvalid, "the query is wrong: "+err.Error())
	}
	return q, nil
}

func (h *Hub) queryPage(ctx context.Context, q *query.Query, text string, at position, size int) (QueryPage, error) {
	p, source := page{query: q, at: at, size: size}, h.rows(ctx, q)
	var err error
	if q.IsAggregate() {
		err = p.aggregate(ctx, source)
	} else {
		err = p.search(ctx, source)
	}
	var groups *query.GroupsError
	if errors.As(err, &groups) {
		err = h.NewError(CodeArgumentInvalid, err.Error())
	}
	if err != nil {
		return QueryPage{}, err
	}
	answer := QueryPage{ItemType: itemType(q), Rows: p.rows()}
	if p.more {
		answer.Continuation = p.at.continuation(text)
	}
	return answer, nil
}

func itemType(q *query.Query) string {
	switch {
	case !q.SelectsAll():
		return ItemRaw
	case q.From() == query.Jobs:
		return ItemDeviceJob
	}
	return ItemTwin
}

// queryRow is a row of a collection while a search looks at it.
type queryRow interface {
	query.Row
	key() store.DeviceJobKey             // what the collection is ordered by; twins have no job id
	appendJSON(b []byte) ([]byte, error) // the whole row, for SELECT *
}

// rowSource goes through a collection for one search.
type rowSource interface {
	// scan calls visit with up to limit rows whose keys follow after, in ascending order, until it returns false; with at least one, unless none
	// follows. A row is good until visit returns. ended reports that no row follows those.
	scan(ctx context.Context, after store.DeviceJobKey, limit int, visit func(queryRow) (goOn bool)) (ended bool, err error)
}

// rows returns the rows that a query goes through.
func (h *Hub) rows(ctx context.Context, q *query.Query) rowSource {
	if q.From() == query.Jobs {
		h.jobs.expire()
		return &jobRows{hub: h}
	}
	if ids, bounded := q.DeviceIDs(); bounded && q.From() == query.Devices {
		return &chosenRows{row: twinRow{ctx: ctx, hub: h}, ids: ids}
	}
	return &allRows{row: twinRow{ctx: ctx, hub: h}, modules: q.From() == query.Modules}
}

// page is what a search fills.
type page struct {
	query *query.Query
	size  int
	at    position // after the last row that was looked at
	more  bool     // there may be more rows

	text    []byte // the rows, one behind the other
	ends    []int
	failure error
}

// rows cuts the text into rows.
func (p *page) rows() []json.RawMessage {
	rows, start := make([]json.RawMessage, len(p.ends)), 0
	for i, end := range p.ends {
		rows[i], start = p.text[start:end:end], end
	}
	return rows
}

func (p *page) add(text []byte) { p.text, p.ends = text, append(p.ends, len(text)) }

// search fills the page with rows that the query selects.
func (p *page) search(ctx context.Context, source rowSource) error {
	for !p.more && !p.exhausted() {
		ended, err := source.scan(ctx, p.at.key, p.batch(), p.visit)
		if err = cmp.Or(err, p.failure, ctx.Err()); err != nil {
			return err
		}
		if ended {
			return nil
		}
	}
	return nil
}

func (p *page) full() bool { return len(p.ends) == p.size || len(p.text) >= maxPageText }

// exhausted reports whether TOP allows no more rows.
func (p *page) exhausted() bool { return p.at.limited && p.at.left == 0 }

// batch is how many rows to look at next: no more than can be shown, and one to see whether more follow, when all are selected.
func (p *page) batch() int {
	if p.query.HasCondition() {
		return queryBatch
	}
	n := p.size - len(p.ends) + 1
	if p.at.limited {
		n = min(n, p.at.left)
	}
	return n
}

// visit looks at a row.
func (p *page) visit(row queryRow) (goOn bool) {
	if p.query.Matches(row) {
		if p.more = p.full(); p.more {
			return false
		}
		if p.failure = p.show(row); p.failure != nil {
			return false
		}
	}
	p.at.key = row.key()
	return !p.exhausted()
}

// show adds a row to the page.
func (p *page) show(row queryRow) error {
	text, err := p.text, error(nil)
	if p.query.SelectsAll() {
		text, err = row.appendJSON(text)
	} else {
		text = p.query.AppendRow(text, row)
	}
	if err != nil {
		return err
	}
	p.add(text)
	if p.at.limited {
		p.at.left--
	}
	return nil
}

// aggregate fills the page with groups. Each page counts them anew, so that nothing is kept between pages.
func (p *page) aggregate(ctx context.Context, source rowSource) error {
	a, err := aggregate(ctx, p.query, source)
	if err != nil {
		return err
	}
	for ; p.at.shown < a.Len(); p.at.shown++ {
		if p.more = p.full(); p.more {
			break
		}
		p.add(a.AppendRow(p.text, p.at.shown))
	}
	return nil
}

// aggregate counts up all rows that a query selects.
func aggregate(ctx context.Context, q *query.Query, source rowSource) (*query.Aggregation, error) {
	a := q.Aggregate()
	var (
		after   store.DeviceJobKey
		failure error
	)
	for ended := false; !ended; {
		var err error
		ended, err = source.scan(ctx, after, queryBatch, func(row queryRow) bool {
			if after = row.key(); q.Matches(row) {
				failure = a.Add(row)
			}
			return failure == nil
		})
		if err = cmp.Or(err, failure, ctx.Err()); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// position is where a page begins.
type position struct {
	key     store.DeviceJobKey // of the last row before it; twins have no job id
	shown   int                // groups before it
	limited bool               // by TOP
	left    int                // of TOP
}

func firstPage(q *query.Query) (at position) {
	at.left, at.limited = q.Top()
	return at
}
