package query_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
)

// run answers a query over rows.
func run(t testing.TB, text string, rows ...string) []string {
	t.Helper()
	q := parseQuery(t, text)
	var answer []string
	var a *query.Aggregation
	if q.IsAggregate() {
		a = q.Aggregate()
	}
	for _, text := range rows {
		r := parseRow(t, text)
		switch {
		case !q.Matches(r):
		case a == nil:
			answer = append(answer, string(q.AppendRow(nil, r)))
		default:
			if err := a.Add(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := 0; a != nil && i < a.Len(); i++ {
		answer = append(answer, string(a.AppendRow(nil, i)))
	}
	return answer
}

func TestSelectShowsWhatIsThere(t *testing.T) {
	for text, want := range map[string]string{
		`SELECT DeviceId, LastActivityTime FROM devices`:                             `{"deviceId":"d1","lastActivityTime":"2021-05-07T00:50:38.0543092Z"}`,
		`SELECT devices.deviceId AS name, tags.location FROM devices`:                `{"name":"d1","location":{"plant":"Redmond43","region":"US"}}`,
		`SELECT tags.missing, tags.big, tags.nothing FROM devices`:                   `{"big":9007199254740993,"nothing":null}`,
		`SELECT tags.missing FROM devices`:                                           `{}`,
		`SELECT tags.list[1], tags.list[4].x, configurations.[[cfg-1]] FROM devices`: `{"list":2.5,"x":1,"cfg-1":{"status":"Applied"}}`,
		`SELECT id AS [[the "id"]] FROM devices`:                                     `{"the \"id\"":"d1"}`,
		`SELECT id FROM devices`:                                                     `{"deviceId":"d1"}`,
	} {
		if got := strings.Join(run(t, text, exampleTwin), ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestAggregates(t *testing.T) {
	rows := []string{
		`{"tags":{"s":"b","n":1,"g":"x"}}`, `{"tags":{"s":"a","n":2.5,"g":"y"}}`, `{"tags":{"s":null,"n":-4,"g":"x"}}`, `{"tags":{}}`,
		`{"tags":{"s":true,"g":1}}`, `{"tags":{"g":1.0,"o":{}}}`, `{"tags":{"g":"1"}}`, `{"tags":{"g":null,"mixed":"x"}}`, `{"tags":{"mixed":3}}`,
	}
	for text, want := range map[string]string{
		`SELECT COUNT() AS n FROM devices`:                                                            `{"n":9}`,
		`SELECT COUNT() AS n FROM devices WHERE tags.g = 'nobody'`:                                    `{"n":0}`,
		`SELECT COUNT(), SUM(tags.n), AVG(tags.n), MIN(tags.n), MAX(tags.n) FROM devices`:             `{"$1":9,"$2":-0.5,"$3":-0.16666666666666666,"$4":-4,"$5":2.5}`,
		`SELECT MIN(tags.s) AS a, MAX(tags.s) AS b FROM devices`:                                      `{"a":null,"b":"b"}`,
		`SELECT SUM(tags.mixed) AS a, AVG(tags.mixed) AS b, MIN(tags.mixed) AS c FROM devices`:        `{"c":3}`,
		`SELECT SUM(tags.none) AS a, AVG(tags.none) AS b, MAX(tags.o) AS c FROM devices`:              `{}`,
		`SELECT tags.g, COUNT() AS n FROM devices GROUP BY tags.g`:                                    `{"n":2}{"g":null,"n":1}{"g":1,"n":2}{"g":"1","n":1}{"g":"x","n":2}{"g":"y","n":1}`,
		`SELECT COUNT() AS n, SUM(tags.n) AS s FROM devices WHERE tags.n != 1 GROUP BY tags.g`:        `{"n":1,"s":-4}{"n":1,"s":2.5}`,
		`SELECT tags.g AS group1 FROM devices WHERE IS_STRING(tags.g) GROUP BY tags.g`:                `{"group1":"1"}{"group1":"x"}{"group1":"y"}`,
		`SELECT TOP 2 COUNT() AS n FROM devices GROUP BY tags.g`:                                      `{"n":2}{"n":1}`,
		`SELECT COUNT() AS n FROM devices WHERE tags.g = 'nobody' GROUP BY tags.g`:                    ``,
		`SELECT tags.g, tags.s, COUNT() AS n FROM devices WHERE tags.g = 'x' GROUP BY tags.g, tags.s`: `{"g":"x","s":null,"n":1}{"g":"x","s":"b","n":1}`,
	} {
		if got := strings.Join(run(t, text, rows...), ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestSumsOfIntegersAreExact(t *testing.T) {
	got := run(t, `SELECT SUM(tags.n) AS s FROM devices`, `{"tags":{"n":9007199254740993}}`, `{"tags":{"n":9007199254740993}}`)
	if want := `{"s":18014398509481986}`; got[0] != want {
		t.Errorf("got %s, want %s", got[0], want)
	}
	got = run(t, `SELECT SUM(tags.n) AS s FROM devices`, `{"tags":{"n":9223372036854775807}}`, `{"tags":{"n":9223372036854775807}}`)
	if want := `{"s":1.8446744073709552e+19}`; got[0] != want {
		t.Errorf("got %s, want %s", got[0], want)
	}
}

func TestGroupsHaveBoundedMemory(t *testing.T) {
	a := parseQuery(t, `SELECT COUNT() FROM devices GROUP BY deviceId`).Aggregate()
	text := strings.Repeat("x", 4096)
	var err error
	n := 0
	for ; err == nil && n < 100_000; n++ {
		err = a.Add(row{document.OfMembers([]document.Member{{Name: "deviceId", Value: document.OfString(fmt.Sprint(n, text))}})})
	}
	var tooMany *query.GroupsError
	if !errors.As(err, &tooMany) || n > 64<<20/4096 {
		t.Errorf("after %d groups of 4 KiB each: %v", n, err)
	}
}

// TestGroupingPartitionsTheRows holds for any rows: the counts of the groups add up to the count of all, and a value is in one group only.
func TestGroupingPartitionsTheRows(t *testing.T) {
	q := parseQuery(t, `SELECT tags.g, COUNT() AS n FROM devices GROUP BY tags.g`)
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOf(rapid.SampledFrom([]string{`{}`, `{"g":1}`, `{"g":1.0}`, `{"g":1e0}`, `{"g":"1"}`, `{"g":null}`, `{"g":true}`, `{"g":[1]}`, `{"g":{"a":1}}`, `{"g":""}`})).Draw(t, "rows")
		a, distinct := q.Aggregate(), map[string]bool{}
		for _, text := range texts {
			v, err := document.Parse([]byte(`{"tags":` + text + `}`))
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Add(row{v}); err != nil {
				t.Fatal(err)
			}
			distinct[strings.NewReplacer("1.0", "1", "1e0", "1").Replace(text)] = true
		}
		total := int64(0)
		for i := range a.Len() {
			v, err := document.Parse(a.AppendRow(nil, i))
			if err != nil {
				t.Fatal(err)
			}
			n, _ := v.Get("n").Int()
			total += n
		}
		if total != int64(len(texts)) || a.Len() != len(distinct) {
			t.Fatalf("%d rows of %d values became %d groups of %d rows", len(texts), len(distinct), a.Len(), total)
		}
	})
}
