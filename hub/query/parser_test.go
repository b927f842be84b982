package query_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/iolite-emulator/iolite/hub/query"
)

// TestOfficialQueriesParse holds the texts that official tools and articles send.
func TestOfficialQueriesParse(t *testing.T) {
	for _, text := range []string{
		`select * from devices`,
		`select * from devices where capabilities.iotEdge = true`,
		`select * from devices where deviceId in ['a','b']`,
		`SELECT deviceId, deviceScope FROM devices`,
		`select deviceId from devices where array_contains(parentScopes, 'ms-azure-iot-edge://..')`,
		`select count() AS numberOfDevices from devices`,
		`select * from devices.modules where devices.deviceId = 'x'`,
		`select * from devices.modules where moduleId = '$edgeHub'`,
		`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '..'`,
		`SELECT * FROM devices.jobs WHERE devices.jobs.deviceId = 'd' AND devices.jobs.createdTimeUtc > '2016-09-01'`,
		`SELECT * FROM devices WHERE STARTSWITH(id, 'prefix')`,
		`select deviceId from devices.modules where moduleId = '$edgeAgent' and configurations.[[cfg]].status = 'Applied'`,
		`SELECT properties.reported.telemetryConfig.status AS status, COUNT() AS numberOfDevices FROM devices GROUP BY properties.reported.telemetryConfig.status`,
		`SELECT DeviceId, LastActivityTime FROM devices WHERE status = 'enabled' AND connectionState = 'Disconnected'`,
		"SELECT TOP 5 *\r\nFROM devices\r\n\tWHERE\r\n tags.location.region = 'US'\n AND properties.reported.telemetryConfig.sendFrequencyInSecs >= 60",
		`SELECT AVG(tags.a), SUM(tags.a), MIN(tags.a), MAX(tags.a) FROM devices`,
		`SELECT d.deviceId FROM devices AS d WHERE d.tags.x = 1`,
		`SELECT d.deviceId FROM devices d`,
	} {
		parseQuery(t, text)
	}
}

func TestQueryTellsWhatItReads(t *testing.T) {
	for text, want := range map[string]query.Collection{
		`SELECT * FROM Devices`: query.Devices, `SELECT * FROM devices . modules`: query.Modules, `SELECT * FROM devices.JOBS`: query.Jobs,
	} {
		if got := parseQuery(t, text).From(); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	if n, limited := parseQuery(t, `SELECT TOP 7 * FROM devices`).Top(); n != 7 || !limited {
		t.Errorf("TOP 7: got %d, %t", n, limited)
	}
	if n, limited := parseQuery(t, `SELECT * FROM devices`).Top(); n != 0 || limited {
		t.Errorf("no TOP: got %d, %t", n, limited)
	}
}

func TestConditionsAlone(t *testing.T) {
	r := parseRow(t, `{"deviceId":"a","moduleId":"m","tags":{"x":"y"}}`)
	for _, test := range []struct {
		text      string
		from      query.Collection
		none, all bool
		matches   bool
	}{
		{text: ``, none: true},
		{text: " \n", none: true},
		{text: `*`, all: true, matches: true},
		{text: `deviceId in ['a','b']`, matches: true},
		{text: `tags.x='z'`},
		{text: `tags.x='y'`, matches: true},
		{text: `FROM devices`, all: true, matches: true},
		{text: `from devices.modules where moduleId = 'm'`, from: query.Modules, matches: true},
		{text: `from devices.modules where devices.modules.moduleId = 'n'`, from: query.Modules},
	} {
		c := parseCondition(t, test.text)
		if c.From() != test.from || c.IsNone() != test.none || c.IsAll() != test.all || c.Matches(r) != test.matches {
			t.Errorf("%q: got %s, none %t, all %t, matches %t", test.text, c.From(), c.IsNone(), c.IsAll(), c.Matches(r))
		}
	}
}

func TestSyntaxErrorsNameThePosition(t *testing.T) {
	for text, want := range map[string]string{
		``:                                 `line 1, column 1: SELECT must stand here, not the end of the query`,
		`SELECT`:                           `line 1, column 7: the name of an attribute must stand here, not the end of the query`,
		`SELECT * FROM`:                    `line 1, column 14: a collection must stand here, not the end of the query`,
		`SELECT * FROM c`:                  `line 1, column 15: the collections are devices, devices.modules and devices.jobs, not "c"`,
		`SELECT * FROM devices.twins`:      `line 1, column 23: the collections are devices, devices.modules and devices.jobs, not devices.twins`,
		`SELECT * FROM devices WHERE`:      `line 1, column 28: a value, an attribute or a function must stand here, not the end of the query`,
		"SELECT *\nFROM devices\n WHERE !": `line 3, column 8: the character '!' cannot stand here; unusual names are written [[name]]`,
		"SELECT * FROM devices WHERE 'äöü' = §":              `line 1, column 37: the character '§' cannot stand here; unusual names are written [[name]]`,
		`SELECT * FROM devices WHERE tags.a = 'x`:            `line 1, column 38: a text begins here that does not end`,
		`SELECT * FROM devices WHERE tags.a = 'x\n'`:         `line 1, column 40: this is no escape; \' \" \\ and \uXXXX are`,
		`SELECT * FROM devices WHERE tags.a = '\u12'`:        `line 1, column 39: this is no escape; \' \" \\ and \uXXXX are`,
		`SELECT * FROM devices WHERE tags.[[a = 1`:           `line 1, column 34: a name begins with [[ that does not end with ]]`,
		`SELECT * FROM devices WHERE tags.[[]] = 1`:          `line 1, column 34: [[]] names nothing`,
		`SELECT * FROM devices WHERE tags.group = 1`:         `line 1, column 34: GROUP is a keyword; as a name it is written [[group]]`,
		`SELECT * FROM devices WHERE tags. = 1`:              `line 1, column 35: a name must stand here, not "="`,
		`SELECT * FROM devices WHERE tags.5 = 1`:             `line 1, column 34: a name must stand here, not "5"`,
		`SELECT * FROM devices WHERE tags.a = 12ab`:          `line 1, column 38: "12ab" is no number, or too large for one`,
		`SELECT * FROM devices WHERE tags.a = 1e400`:         `line 1, column 38: "1e400" is no number, or too large for one`,
		`SELECT * FROM devices WHERE tags.a = 0x`:            `line 1, column 38: "0x" is no number, or too large for one`,
		`SELECT * FROM devices WHERE tags.a = 1.`:            `line 1, column 38: "1." is no number, or too large for one`,
		`SELECT * FROM devices WHERE (tags.a = 1`:            `line 1, column 40: ")" must stand here, not the end of the query`,
		`SELECT * FROM devices WHERE tags.a = 1)`:            `line 1, column 39: the end, or an operator or clause that fits, must stand here, not ")"`,
		`SELECT * FROM devices WHERE tags.a IN ('a')`:        `line 1, column 39: an array such as ['a', 'b'] must stand here, not "("`,
		`SELECT * FROM devices WHERE tags.a IN [tags.b]`:     `line 1, column 40: a constant must stand here, not "tags"`,
		`SELECT * FROM devices WHERE tags.a NOT IN ['a']`:    `line 1, column 36: the end, or an operator or clause that fits, must stand here, not "NOT"`,
		`SELECT * FROM devices WHERE tags.a[-1] = 1`:         `line 1, column 36: an index must stand here, not "-"`,
		`SELECT * FROM devices WHERE tags.a LIKE 'x'`:        `line 1, column 36: LIKE is not supported by IoT Hub's query language`,
		`SELECT * FROM devices ORDER BY deviceId`:            `line 1, column 23: ORDER is not supported by IoT Hub's query language`,
		`SELECT * FROM devices WHERE true ORDER BY deviceId`: `line 1, column 34: ORDER is not supported by IoT Hub's query language`,
		`SELECT * FROM devices JOIN devices.modules`:         `line 1, column 23: JOIN is not supported by IoT Hub's query language`,
		`SELECT DISTINCT deviceId FROM devices`:              `line 1, column 8: DISTINCT is not supported by IoT Hub's query language`,
		`SELECT TOP -1 * FROM devices`:                       `line 1, column 12: the number of rows must stand here, not "-"`,
		`SELECT TOP 1.5 * FROM devices`:                      `line 1, column 12: the number of rows must stand here, not "1.5"`,
		`SELECT TOP 2147483648 * FROM devices`:               `line 1, column 12: the number of rows must stand here, not "2147483648"`,
		`SELECT *, deviceId FROM devices`:                    `line 1, column 9: FROM must stand here, not ","`,
		`SELECT LOWER(deviceId) FROM devices`:                `line 1, column 8: SELECT shows attributes and the aggregates COUNT, AVG, SUM, MIN and MAX; "LOWER" is none of them`,
		`SELECT COUNT(*) FROM devices`:                       `line 1, column 14: ")" must stand here, not "*"`,
		`SELECT SUM() FROM devices`:                          `line 1, column 12: the name of an attribute must stand here, not ")"`,
		`SELECT tags.a + 1 FROM devices`:                     `line 1, column 15: FROM must stand here, not "+"`,
		`SELECT tags.a AS FROM devices`:                      `line 1, column 18: the name of a column must stand here, not "FROM"`,
		`SELECT tags.a, properties.reported.a FROM devices`:  `line 1, column 16: two columns are called "a"; AS gives one of them another name`,
		`SELECT deviceId, COUNT() FROM devices`:              `line 1, column 8: "deviceId" is neither an aggregate nor in GROUP BY`,
		`SELECT * FROM devices GROUP BY tags.a`:              `line 1, column 32: SELECT * and GROUP BY do not go together`,
		`SELECT jobId FROM devices.jobs`:                     `line 1, column 19: queries on devices.jobs support SELECT * only: no projections, no aggregates`,
		`SELECT * FROM devices WHERE COUNT() > 1`:            `line 1, column 29: COUNT is an aggregate and stands in SELECT only`,
		`SELECT * FROM devices WHERE MATCHES(deviceId, 'x')`: `line 1, column 29: there is no function "MATCHES"`,
		`SELECT * FROM devices WHERE LOWER() = 'x'`:          `line 1, column 29: LOWER takes 1 argument, not 0`,
		`SELECT * FROM devices WHERE POWER(1) = 1`:           `line 1, column 29: POWER takes 2 arguments, not 1`,
		`SELECT * FROM devices WHERE CONCAT('a') = 1`:        `line 1, column 29: CONCAT takes 2 or more arguments, not 1`,
		`SELECT * FROM devices WHERE SUBSTRING('a') = 1`:     `line 1, column 29: SUBSTRING takes 2 or 3 arguments, not 1`,
		`SELECT * FROM devices;`:                             `line 1, column 22: the character ';' cannot stand here; unusual names are written [[name]]`,
		"SELECT * FROM devices WHERE tags.\xff = 1":          `line 1, column 34: the query is no valid UTF-8`,
	} {
		_, err := query.Parse(text)
		var syntax *query.SyntaxError
		if !errors.As(err, &syntax) || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

// TestExplosiveQueriesAreRefused holds for the texts that would cost the most if they were not.
func TestExplosiveQueriesAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ condition, want string }{
		"characters":  {`tags.a = '` + strings.Repeat("x", 8192) + `'`, "longer than 8192 characters"},
		"parentheses": {strings.Repeat("(", 4000) + "true" + strings.Repeat(")", 4000), "deeper than 64 levels"},
		"NOT":         {strings.Repeat("NOT ", 2000) + "true", "deeper than 64 levels"},
		"signs":       {strings.Repeat("-", 8000) + "1 = 1", "deeper than 64 levels"},
		"calls":       {strings.Repeat("ABS(", 1300), "deeper than 64 levels"},
		"arrays":      {"ARRAY_LENGTH(" + strings.Repeat("[ ", 4000), "deeper than 64 levels"},
		"clauses":     {strings.Repeat("a=1 OR ", 1100) + "true", "more than 1000 operators"},
		"sums":        {strings.Repeat("1+", 4000) + "1 = 1", "more than 1000 operators"},
		"comparisons": {strings.Repeat("1=", 4000) + "1", "more than 1000 operators"},
		"elements":    {"deviceId IN [" + strings.Repeat("1,", 4000) + "1]", "more than 1000 elements"},
		"texts":       {strings.Repeat("UPPER(id)='' OR ", 200) + "true", "more than 32 times"},
		"names":       {"tags" + strings.Repeat(".a", 4000) + " = 1", "more than 64 names"},
		"indexes":     {"tags" + strings.Repeat("[0]", 2000) + " = 1", "more than 64 names"},
	} {
		if _, err := query.ParseCondition(test.condition); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	var items, groups []string
	for i := range 65 {
		items = append(items, fmt.Sprint("tags.a", i))
		groups = append(groups, fmt.Sprint("tags.a", i%9))
	}
	for text, want := range map[string]string{
		"SELECT " + strings.Join(items, ",") + " FROM devices":                      "more than 64 items",
		"SELECT COUNT() FROM devices GROUP BY " + strings.Join(groups, ","):         "more than 8 attributes",
		"SELECT * FROM devices WHERE " + strings.Repeat("äää=1 OR ", 2000) + "true": "longer than 8192 characters",
	} {
		if _, err := query.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestLimitsThemselvesAreAllowed(t *testing.T) {
	for _, condition := range []string{
		strings.Repeat("(", 63) + "true" + strings.Repeat(")", 63),
		strings.Repeat("NOT ", 63) + "true",
		strings.Repeat("a=1 OR ", 333) + "true",
		"deviceId IN [" + strings.Repeat("1,", 999) + "1]",
		"tags" + strings.Repeat(".a", 63) + " = 1",
		`'` + strings.Repeat("ä", 8186) + `' = 1`,
	} {
		parseCondition(t, condition)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`SELECT * FROM devices WHERE tags.a = 'x' AND NOT (b < 1.5e3 OR c IN [1, "y", null]) AND LOWER(d) != e.[[f g]][0]`,
		`SELECT TOP 3 tags.a AS x, COUNT(), SUM(tags.b) FROM devices.modules m WHERE -1 % 2 + 0x1F / 3 > 0 GROUP BY tags.a, tags.c`,
		`FROM devices WHERE ARRAY_CONTAINS(['\u0041', [true, undefined]], SUBSTRING(id, 0, 1))`, `*`, ``, `[[`, `'\`, `0x`, "\xff", `((((`,
		`CONCAT(tags.s, tags.s) = POWER(tags.n, 99)`,
	} {
		f.Add(seed)
	}
	r := parseRow(f, exampleTwin)
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := query.ParseCondition(text); err == nil && c.Matches(r) {
			if ids, bounded := c.DeviceIDs(); bounded && !slices.Contains(ids, "d1") {
				t.Fatalf("%q selects d1, but says that it selects only %q", text, ids)
			}
		}
		q, err := query.Parse(text)
		var syntax *query.SyntaxError
		switch {
		case err == nil:
			useQuery(t, q, r)
		case !errors.As(err, &syntax):
			t.Fatalf("%q: %v is no syntax error", text, err)
		case syntax.Line < 1 || syntax.Line > strings.Count(text, "\n")+1 || syntax.Column < 1 || syntax.Column > len(text)+1:
			t.Fatalf("%q: %v is outside the text", text, err)
		}
	})
}

// useQuery does with a query all that can be done.
func useQuery(t *testing.T, q *query.Query, r row) {
	q.Matches(r)
	switch {
	case q.IsAggregate():
		a := q.Aggregate()
		for range 2 {
			if err := a.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		for i := range a.Len() {
			parseRow(t, string(a.AppendRow(nil, i)))
		}
	case !q.SelectsAll():
		parseRow(t, string(q.AppendRow(nil, r)))
	}
}
