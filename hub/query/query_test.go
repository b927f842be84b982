package query_test

import (
	"testing"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
)

// row is a row made of a document.
type row struct{ doc document.Value }

func (r row) Value(path []string) document.Value {
	v := r.doc
	for _, name := range path {
		v = v.Get(name)
	}
	return v
}

func parseRow(t testing.TB, text string) row {
	t.Helper()
	v, err := document.Parse([]byte(text))
	if err != nil {
		t.Fatalf("row %s: %v", text, err)
	}
	return row{v}
}

func parseCondition(t testing.TB, text string) *query.Condition {
	t.Helper()
	c, err := query.ParseCondition(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func parseQuery(t testing.TB, text string) *query.Query {
	t.Helper()
	q, err := query.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return q
}

const exampleTwin = `{
	"deviceId": "d1", "etag": "AAAAAAAAAAc=", "status": "enabled", "connectionState": "Disconnected", "version": 2,
	"lastActivityTime": "2021-05-07T00:50:38.0543092Z",
	"capabilities": {"iotEdge": true}, "parentScopes": ["ms-azure-iot-edge://e1-1", "x"],
	"x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
	"tags": {"location": {"region": "US", "plant": "Redmond43"}, "floor": 3, "half": 2.5, "ok": true, "no": false, "empty": "", "nothing": null,
		"list": [1, 2.5, "a", null, {"x": 1}, [1]], "my-tag": 1, "group": "g", "big": 9007199254740993, "text": "12", "umlaut": "äöü😀x", "Case": 1},
	"properties": {
		"desired": {"cfg": {"id": "c1", "every": 300}, "$version": 4, "$metadata": {"$lastUpdated": "2021-01-01T00:00:00Z"}},
		"reported": {"cfg": {"id": "c1", "every": 60}, "$version": 7}},
	"configurations": {"cfg-1": {"status": "Applied"}}
}`

// truth says what a condition comes to: true selects the row, false makes its negation select it, undefined does neither.
func truth(t *testing.T, condition string, r query.Row) string {
	t.Helper()
	yes, no := parseCondition(t, condition).Matches(r), parseCondition(t, "NOT ("+condition+")").Matches(r)
	switch {
	case yes && no:
		t.Fatalf("both %s and its negation are true", condition)
	case yes:
		return "true"
	case no:
		return "false"
	}
	return "undefined"
}

func TestConditions(t *testing.T) {
	r := parseRow(t, exampleTwin)
	for want, conditions := range map[string][]string{
		"true": {
			// attributes
			`deviceId = 'd1'`, `devices.deviceId = "d1"`, `id = 'd1'`, `DEVICEID = 'd1'`, `Tags.floor = 3`, `tags.[[my-tag]] = 1`, `[[tags]].floor = 3`, `tags.[[group]] = 'g'`,
			`properties.desired.$version = 4`, `properties.desired.$metadata.$lastUpdated >= '2021'`, `capabilities.iotEdge`, `capabilities.iotEdge = true`,
			`configurations.[[cfg-1]].status = 'Applied'`, `tags.list[0] = 1`, `tags.list[4].x = 1`, `tags.list[5][0] = 1`,
			// comparisons
			`tags.floor == 3`, `tags.floor != 4`, `tags.floor <> 4`, `tags.floor < 4`, `tags.floor <= 3`, `tags.floor > 2`, `tags.floor >= 3.0`, `tags.floor = 0x3`, `tags.floor = 3e0`,
			`properties.reported.cfg.every < properties.desired.cfg.every`, `properties.reported.cfg.id = properties.desired.cfg.id`,
			`'B' < 'a'`, `false < true`, `tags.big = 9007199254740993`, `tags.big != 9007199254740992`, `tags.big > 9007199254740992`, `1 = 1.0`, `-1 = 0 - 1`,
			`tags.nothing = null`, `tags.floor != null`, `tags.location != null`, `NOT (tags.floor = null)`, `null = null`,
			// IN
			`deviceId IN ['a', 'd1']`, `deviceId in ["d1"]`, `tags.floor IN [1, -2, 3.0]`, `deviceId NIN ['a', 'b']`, `deviceId nin []`, `tags.ok in [true]`, `tags.nothing in [null]`, `tags.floor in [3, 'x']`, `tags.floor NIN [null]`,
			// logic
			`true AND true`, `false OR true`, `NOT false`, `NOT NOT true`, `tags.missing = 1 OR true`, `not (false AND tags.missing = 1)`, `false AND false OR true`, `true OR false AND false`, `NOT false AND true`, `NOT tags.floor = 4`,
			// arithmetic
			`1 + 2 * 3 = 7`, `(1 + 2) * 3 = 9`, `7 % 4 = 3`, `5 / 2 = 2.5`, `-tags.floor = -3`, `2 - 1 - 1 = 0`, `tags.floor * 2 = 6`, `9223372036854775807 + 1 = 9223372036854775808`, `9007199254740993 - 1 = 9007199254740992`, `-9223372036854775808 % -1 = 0`, `5.5 % 2 = 1.5`,
			// functions
			`IS_DEFINED(tags.floor)`, `is_defined(tags.nothing)`, `NOT IS_DEFINED(tags.missing)`, `IS_NULL(tags.nothing)`, `IS_BOOL(tags.ok)`, `IS_NUMBER(tags.half)`, `IS_STRING(deviceId)`, `IS_ARRAY(tags.list)`, `IS_OBJECT(tags.location)`, `IS_PRIMITIVE(tags.nothing)`, `NOT IS_PRIMITIVE(tags.list)`,
			`STARTSWITH(deviceId, 'd')`, `STARTS_WITH(deviceId, '')`, `ENDSWITH(tags.location.plant, '43')`, `ends_with(deviceId, '1')`, `CONTAINS(tags.location.plant, 'mond')`,
			`INDEX_OF(tags.umlaut, 'x') = 4`, `INDEX_OF(deviceId, 'z') = -1`, `INDEX_OF(deviceId, 'd') = 0`, `CONCAT(deviceId, '-', tags.group2) = 'x' OR CONCAT('a', 'b', 'c') = 'abc'`, `LENGTH(tags.umlaut) = 5`, `LOWER('ÄB') = 'äb'`, `UPPER(deviceId) = 'D1'`,
			`SUBSTRING(tags.umlaut, 1) = 'öü😀x'`, `SUBSTRING(tags.umlaut, 1, 2) = 'öü'`, `SUBSTRING('abc', -1, 2) = 'ab'`, `SUBSTRING('abc', 5) = ''`, `SUBSTRING('abc', 1, 9223372036854775807) = 'bc'`, `SUBSTRING('abc', 1, 0) = ''`, `SUBSTRING('abc', 1, -1) = ''`, `SUBSTRING('abc', 0, 3) = 'abc'`,
			`ARRAY_CONTAINS(parentScopes, 'x')`, `array_contains(tags.list, 2.5)`, `ARRAY_CONTAINS(tags.list, null)`, `ARRAY_CONTAINS(tags.list, [1])`, `ARRAY_CONTAINS(['a', ['b']], deviceId) = false`, `ARRAY_LENGTH(tags.list) = 6`,
			`AS_NUMBER(tags.text) = 12`, `AS_NUMBER(tags.floor) = 3`, `ABS(-3) = 3`, `ABS(2.5) = 2.5`, `CEILING(tags.half) = 3`, `FLOOR(tags.half) = 2`, `FLOOR(9007199254740993) = tags.big`, `SIGN(-2) = -1`, `SIGN(0) = 0`, `SIGN(0.1) = 1`, `SQRT(9) = 3`, `SQUARE(3) = 9`, `POWER(2, 10) = 1024`, `EXP(0) = 1`,
			// texts
			`'it\'s' = "it's"`, `"\u0041\\\"" = 'A\\"'`, `'\ud83d\ude00' = '😀'`, "'a\nb' = 'a\nb'",
		},
		"false": {
			`deviceId = 'D1'`, `tags.floor = 4`, `deviceId != 'd1'`, `tags.no`, `deviceId IN ['a']`, `deviceId IN []`, `deviceId NIN ['d1']`, `tags.floor IN [null]`, `true AND false`, `tags.missing = 1 AND false`, `false OR false`,
			`tags.floor = null`, `tags.list = null`, `tags.nothing != null`, `IS_DEFINED(tags.missing)`, `IS_NULL(tags.missing)`, `IS_STRING(tags.missing)`, `IS_NUMBER(tags.text)`, `STARTSWITH(deviceId, 'D')`, `ARRAY_CONTAINS(parentScopes, 1)`, `IS_DEFINED(undefined)`, `IS_DEFINED(tags.case)`, `IS_DEFINED(1 / 0)`, `IS_DEFINED(tags.list[6])`,
			`IS_DEFINED(deviceId.x)`,
		},
		"undefined": {
			`tags.missing = 1`, `tags.missing != 1`, `tags.missing <> 'x'`, `tags.missing = null`, `tags.missing != null`, `tags.missing IN ['a']`, `tags.missing NIN ['a']`, `tags.missing`, `undefined`, `undefined = undefined`, `Tags.Floor = 3`,
			`tags.floor = '3'`, `tags.floor != '3'`, `tags.floor < 'x'`, `tags.ok = 1`, `tags.location = tags.location`, `tags.list = tags.list`, `tags.nothing < 1`, `tags.floor <= null`, `tags.floor IN ['a', 1]`, `tags.floor NIN ['a']`, `tags.floor IN [undefined, 4]`, `tags.list IN ['a']`,
			`deviceId`, `tags.floor`, `tags.nothing`, `tags.location`, `NOT tags.floor`, `tags.missing = 1 AND true`, `tags.missing = 1 OR false`, `true AND 5`, `false OR 'x'`,
			`1 / 0 = 1`, `5 % 0 = 1`, `'a' + 'b' = 'ab'`, `-deviceId = 1`, `tags.missing + 1 = 1`, `1e308 * 10 > 1`, `SQRT(-1) = 1`, `POWER(10, 400) > 1`, `LENGTH(5) = 1`, `CONTAINS(tags.missing, 'a')`, `CONTAINS(deviceId, 1)`, `CONCAT(deviceId, 1) = 'x'`, `SUBSTRING(deviceId, 0.5) = ''`, `SUBSTRING(deviceId, 0, 'x') = ''`, `LOWER(1) = '1'`, `AS_NUMBER('0x10') = 16`, `AS_NUMBER('') = 0`, `AS_NUMBER('1_0') = 10`, `AS_NUMBER('Infinity') > 0`, `AS_NUMBER(true) = 1`, `ARRAY_LENGTH(deviceId) = 1`, `ARRAY_CONTAINS(deviceId, 'd')`, `ARRAY_CONTAINS(parentScopes, tags.missing)`, `ABS('x') = 1`, `FLOOR(deviceId) = 1`, `INDEX_OF(1, 'x') = 0`,
		},
	} {
		for _, c := range conditions {
			if got := truth(t, c, r); got != want {
				t.Errorf("%s: got %s, want %s", c, got, want)
			}
		}
	}
}
