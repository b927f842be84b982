package query_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
)

// routed is a message as conditions of routes see it: the roots are members of a document.
type routed struct{ doc document.Value }

func (r routed) Value(path []string) document.Value {
	switch path[0] {
	case query.PropertyRoot:
		return r.property(path[1])
	case query.SystemRoot:
		if v := r.doc.Get("system").Get(path[1]); v.IsDefined() {
			return v
		}
		return r.property(path[2])
	}
	if len(path) == 1 {
		return document.Value{}
	}
	v := r.doc
	for _, name := range path {
		v = v.Get(name)
	}
	return v
}

func (r routed) property(name string) document.Value {
	return r.doc.Get("properties").Get(strings.ToLower(name))
}

// weather is the message of the article on the routing query syntax, with its twin.
const weather = `{
	"system": {"contentType": "application/json", "contentEncoding": "UTF-8", "connectionDeviceId": "d1", "connectionModuleId": "m1",
		"enqueuedTime": "2017-05-08T18:55:31.8514657Z", "messageId": "1", "dataSchema": "dtmi:a;1", "subject": "thermostat"},
	"properties": {"processingpath": "hot", "verbose": "true", "severity": "5", "my-prop": "x", "a.b": "y", "empty": "", "none": null, "$own": "o", "value": "v", "umlaut": "äöü", "in": "i",
		"$messageschema": "s"},
	"$body": {"Weather": {"Temperature": 50, "Time": "2017-03-09T00:00:00.000Z", "PrevTemperatures": [20, 30, 40], "IsEnabled": true,
		"Location": {"Street": "One Microsoft Way", "City": "Redmond", "State": "WA"},
		"HistoricalData": [{"Month": "Feb", "Temperature": 40}, {"Month": "Jan", "Temperature": 30}], "Nothing": null, "My-Field": 1, "Grid": [[1, 2], [3, 4]]}},
	"$twin": {"tags": {"deploymentLocation": {"building": "43", "floor": "1"}},
		"properties": {"desired": {"telemetryConfig": {"sendFrequency": "5m"}}, "reported": {"batteryLevel": 55}}}
}`

func parseRoute(t testing.TB, condition string) *query.RouteCondition {
	t.Helper()
	c, err := query.ParseRouteCondition(condition)
	if err != nil {
		t.Fatalf("%s: %v", condition, err)
	}
	return c
}

func parseMessage(t testing.TB, text string) routed {
	t.Helper()
	v, err := document.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return routed{v}
}

// The first block of each map has the examples of the article.
func TestRouteConditionsAsTheArticleShowsThem(t *testing.T) {
	m := parseMessage(t, weather)
	for condition, want := range map[string]bool{
		`$contentEncoding = 'UTF-8'`:                                                                       true,
		`processingPath = 'hot'`:                                                                           true,
		`$contentEncoding = 'UTF-8' AND processingPath = 'hot'`:                                            true,
		`$body.Weather.HistoricalData[0].Month = 'Feb'`:                                                    true,
		`$body.Weather.Temperature = 50 AND $body.Weather.IsEnabled`:                                       true,
		`length($body.Weather.Location.State) = 2`:                                                         true,
		`$body.Weather.Temperature = 50 AND processingPath = 'hot'`:                                        true,
		`$body[0] = 'Feb'`:                                                                                 false, // "not supported and will return undefined"
		`$twin.properties.desired.telemetryConfig.sendFrequency = '5m'`:                                    true,
		`$body.Weather.Temperature = 50 AND $twin.properties.desired.telemetryConfig.sendFrequency = '5m'`: true,
		`$twin.tags.deploymentLocation.floor = 1`:                                                          false, // the article's floor is a string
		`$twin.tags.deploymentLocation.floor = '1'`:                                                        true,
		`is_defined($body.Weather.Temperature)`:                                                            true,
		`messageType = 'alerts' AND as_number(severity) <= 2`:                                              false,
		`as_number(severity) <= 5`:                                                                         true,
		``:                                                                                                 true,
		`true`:                                                                                             true,
		`false`:                                                                                            false,
	} {
		if got, _ := parseRoute(t, condition).Matches(m); got != want {
			t.Errorf("%s: %v, want %v", condition, got, want)
		}
	}
}

func TestPropertiesInRouteConditions(t *testing.T) {
	m := parseMessage(t, weather)
	for condition, want := range map[string]bool{
		`PROCESSINGPATH = 'hot'`:                    true, // "property names are case insensitive"
		`processingPath = 'HOT'`:                    false,
		`my-prop = 'x'`:                             true,
		`a.b = 'y'`:                                 true,
		`value = 'v'`:                               true, // words of SQL may be properties
		`in = 'i'`:                                  true,
		`umlaut = "äöü"`:                            true,
		`umlaut = '\u00e4öü'`:                       true,
		`empty = ''`:                                true,
		`none = null`:                               true,
		`none != 'x'`:                               true,
		`none = 'x' OR none < 'x'`:                  false,
		`NOT (none = 'x')`:                          true,
		`NOT (none < 'x')`:                          false,
		`$body.Weather.Nothing <> 'x'`:              true,
		`is_null(none)`:                             true,
		`missing = 'x'`:                             false,
		`NOT (missing = 'x')`:                       false, // undefined
		`NOT is_defined(missing)`:                   true,
		`is_defined(missing) = false`:               true,
		`is_string(processingPath)`:                 true,
		`processingPath!='hot'`:                     false,
		`processingPath <> 'cold'`:                  true,
		`$CONTENTTYPE = 'application/json'`:         true,
		`$content-type = 'application/json'`:        true,
		`$connectionDeviceId = 'd1'`:                true,
		`$iothub-connection-device-id = 'd1'`:       true,
		`$connectionModuleId = 'm1'`:                true,
		`enqueuedTime > '2017-05-08'`:               true,
		`$enqueuedTime > '2017-05-09'`:              false,
		`$iothub-enqueuedtime < '2018'`:             true,
		`$dt-dataschema = 'dtmi:a;1'`:               true,
		`$dt-subject = 'thermostat'`:                true,
		`$own = 'o'`:                                true, // not among the system properties: an application property
		`$messageSchema = 's'`:                      true, // a system property that this message does not have
		`$messageId = '1' OR $correlationId = '2'`:  true,
		`$correlationId = '2' AND $messageId = '1'`: false,
		`starts_with(processingPath, 'h')`:          true,
		`ends_with(processingPath, 't') AND contains(processingPath, 'o')`: true,
		`index_of(processingPath, 'o') = 1`:                                true,
		`concat(processingPath, '-', verbose) = 'hot-true'`:                true,
		`upper(lower(processingPath)) = 'HOT'`:                             true,
		`substring(processingPath, 1) = 'ot'`:                              true,
		`substring(processingPath, 0, 2) = 'ho'`:                           true,
		`length(umlaut) = 3`:                                               true,
		`power(as_number(severity), 2) = square(5)`:                        true,
		`abs(-2) + ceiling(1.2) + floor(1.9) + sign(-3) + sqrt(16) = 8`:    true,
		`exp(0) = 1`:                      true,
		`as_number(severity) * 2 % 4 = 2`: true,
		`-as_number(severity) < 0`:        true,
		`as_number(processingPath) > 0`:   false,
		`as_number(' +5.50 ') = 5.5`:      true,
		`is_defined(as_number('+-5'))`:    false,
		`is_defined(as_number('5 5')) OR is_defined(as_number('')) OR is_defined(as_number('+'))`: false,
		`0x10 = 16`:                                 true,
		`verbose = 'true' OR missing = 'x'`:         true,
		`missing = 'x' OR verbose = 'true'`:         true,
		`missing = 'x' AND verbose = 'false'`:       false,
		`NOT (missing = 'x' AND verbose = 'false')`: true,
		`undefined`:           false,
		`null = null`:         true,
		`1 = 1 AND NOT 2 = 1`: true,
	} {
		if got, _ := parseRoute(t, condition).Matches(m); got != want {
			t.Errorf("%s: %v, want %v", condition, got, want)
		}
	}
}

func TestBodyAndTwinInRouteConditions(t *testing.T) {
	m := parseMessage(t, weather)
	for condition, want := range map[string]bool{
		`$body.Weather.PrevTemperatures[2] = 40`:                                  true,
		`$body.Weather.PrevTemperatures[3] = 40`:                                  false,
		`$body.Weather.Grid[1][0] = 3`:                                            true,
		`$body.Weather.HistoricalData[1].Temperature - 30 = 0`:                    true,
		`$body.Weather.My-Field = 1`:                                              true,
		`$BODY.Weather.Temperature > 49.5`:                                        true,
		`$body.weather.Temperature = 50`:                                          false, // names in the body are exact
		`$body.Weather.Temperature = '50'`:                                        false,
		`$body.Weather.Temperature != '50'`:                                       false, // what cannot be compared is undefined
		`$body.Weather.Temperature < 100 AND $body.Weather.Temperature > 0`:       true,
		`$body.Weather.Missing.Deep[3].Path = 1`:                                  false,
		`$body`:                                                                   false,
		`is_defined($body)`:                                                       false,
		`$body.Weather.Nothing = null`:                                            true,
		`is_null($body.Weather.Nothing)`:                                          true,
		`is_defined($body.Weather.Nothing)`:                                       true,
		`is_defined($body.Weather.Missing)`:                                       false,
		`is_defined($body.Weather.Location)`:                                      false, // "when the value is a primitive type"
		`is_object($body.Weather.Location)`:                                       true,
		`is_array($body.Weather.PrevTemperatures)`:                                true,
		`is_primitive($body.Weather.Temperature)`:                                 true,
		`is_primitive($body.Weather.Location)`:                                    false,
		`is_bool($body.Weather.IsEnabled)`:                                        true,
		`is_number($body.Weather.Temperature)`:                                    true,
		`$body.Weather.Location = $body.Weather.Location`:                         false,
		`as_number($body.Weather.Temperature) = 50`:                               true,
		`$twin.properties.reported.batteryLevel > 50`:                             true,
		`$twin.tags.missing = 'x' OR $twin.properties.reported.batteryLevel = 55`: true,
	} {
		if got, _ := parseRoute(t, condition).Matches(m); got != want {
			t.Errorf("%s: %v, want %v", condition, got, want)
		}
	}
}

func TestRouteConditionsSayWhetherTheyAreUndefined(t *testing.T) {
	m := parseMessage(t, weather)
	for condition, want := range map[string]bool{
		`processingPath = 'hot'`: false, `processingPath = 'cold'`: false, `missing = 'x'`: true, `null`: true, `undefined`: true, `'text'`: false,
		`$body.Weather.Temperature = 'x'`: true,
	} {
		if _, got := parseRoute(t, condition).Matches(m); got != want {
			t.Errorf("%s: undefined %v, want %v", condition, got, want)
		}
	}
}

func TestRouteConditionsSayWhatTheyAskFor(t *testing.T) {
	for condition, want := range map[string][3]bool{ // always, body, twin
		``: {true, false, false}, `true`: {true, false, false}, `(true)`: {true, false, false}, `a = '1'`: {}, `$body.a = 1`: {false, true, false},
		`$twin.tags.a = 1 AND a = '1'`: {false, false, true}, `is_defined($body.a) OR is_null($twin.tags.a)`: {false, true, true},
	} {
		c := parseRoute(t, condition)
		if got := [3]bool{c.IsAlways(), c.AsksBody(), c.AsksTwin()}; got != want {
			t.Errorf("%s: %v, want %v", condition, got, want)
		}
	}
}

func TestBrokenRouteConditionsAreRefusedWhereTheyBreak(t *testing.T) {
	for condition, want := range map[string]string{
		`a =`:                          `line 1, column 4: a value, an attribute or a function must stand here, not the end of the query`,
		"a = 'x' AND\n  b = ":          `line 2, column 7: a value, an attribute or a function must stand here, not the end of the query`,
		`a = 'x`:                       `line 1, column 5: a text begins here that does not end`,
		`a = 'x')`:                     `line 1, column 8: the end, or an operator or clause that fits, must stand here, not ")"`,
		`(a = 'x'`:                     `line 1, column 9: ")" must stand here, not the end of the query`,
		`a = 'x' b = 'y'`:              `line 1, column 9: the end, or an operator or clause that fits, must stand here, not "b"`,
		`a == 'x'`:                     `line 1, column 3: == is not supported in conditions of routes; = compares`,
		`a IN ['x', 'y']`:              `line 1, column 3: IN is not supported in conditions of routes`,
		`a LIKE 'x'`:                   `line 1, column 3: LIKE is not supported by IoT Hub's query language`,
		`[1] = a`:                      `line 1, column 1: arrays cannot stand in conditions of routes`,
		`a = 5`:                        `line 1, column 3: = cannot compare a string with a number; properties are strings, AS_NUMBER makes numbers of them`,
		`severity > 2`:                 `line 1, column 10: > cannot compare a string with a number; properties are strings, AS_NUMBER makes numbers of them`,
		`a = true`:                     `line 1, column 3: = cannot compare a string with a boolean`,
		`a AND b = 'x'`:                `line 1, column 1: AND takes what is true or false, and this is a string`,
		`b = 'x' OR 5`:                 `line 1, column 12: OR takes what is true or false, and this is a number`,
		`NOT a`:                        `line 1, column 1: NOT takes what is true or false, and this is a string`,
		`a + 1 = 2`:                    `line 1, column 3: + takes numbers, not a string; properties are strings, AS_NUMBER makes numbers of them`,
		`-a = 2`:                       `line 1, column 1: - takes numbers, not a string; properties are strings, AS_NUMBER makes numbers of them`,
		`abs(a) = 1`:                   `line 1, column 1: ABS takes a number as argument 1, not a string; properties are strings, AS_NUMBER makes numbers of them`,
		`length(5) = 1`:                `line 1, column 1: LENGTH takes a string as argument 1, not a number`,
		`substring(a, 'x') = 'y'`:      `line 1, column 1: SUBSTRING takes a number as argument 2, not a string; properties are strings, AS_NUMBER makes numbers of them`,
		`length(a, b) = 1`:             `line 1, column 1: LENGTH takes 1 argument, not 2`,
		`startswith(a, 'x')`:           `line 1, column 1: there is no function "startswith"`,
		`count() = 1`:                  `line 1, column 1: COUNT is an aggregate and stands in SELECT only`,
		`$body. = 1`:                   `line 1, column 7: a name must stand here`,
		`$body.a..b = 1`:               `line 1, column 9: a name must stand here`,
		`$body.a[x] = 1`:               `line 1, column 9: an index must stand here, not "x"`,
		`$body.a[0 = 1`:                `line 1, column 11: "]" must stand here, not "="`,
		`{$body.a} = 1`:                `line 1, column 1: the character '{' cannot stand here`,
		`a = 'x' ; b`:                  `line 1, column 9: the character ';' cannot stand here`,
		strings.Repeat("(", 100) + "a": `line 1, column 65: the query is nested deeper than 64 levels`,
		"a = '" + strings.Repeat("x", 9000) + "'":      `line 1, column 9007: the query is longer than 8192 characters`,
		"$body" + strings.Repeat(".a", 65) + " = 1":    `line 1, column 133: an attribute has more than 64 names`,
		"$body.a" + strings.Repeat("[0]", 65) + " = 1": `line 1, column 1: an attribute has more than 64 names`,
		"\xff = 'x'": `line 1, column 1: the query is no valid UTF-8`,
	} {
		_, err := query.ParseRouteCondition(condition)
		if err == nil || err.Error() != want {
			t.Errorf("%.60s: %v, want %s", condition, err, want)
		}
		if syntax := (*query.SyntaxError)(nil); !errors.As(err, &syntax) {
			t.Errorf("%.60s: the error is a %T", condition, err)
		}
	}
}

// routeOperand makes text of an expression of any type, of what is missing, too.
var routeOperand = rapid.SampledFrom([]string{`$body.Weather.Temperature`, `$body.Weather.IsEnabled`, `$body.Weather.Missing`, `$body.Weather.Location`, `$body.Weather.Nothing`,
	`$twin.tags.deploymentLocation.floor`, `null`, `undefined`})

func TestRouteLogicHasThreeValues(t *testing.T) {
	m := parseMessage(t, weather)
	outcome := func(t *rapid.T, text string) (n int) {
		for by, text := range map[int]string{1: text, -1: "NOT (" + text + ")"} {
			c, err := query.ParseRouteCondition(text)
			if err != nil {
				t.Fatal(err)
			}
			if matches, _ := c.Matches(m); matches {
				n += by
			}
		}
		return n
	}
	rapid.Check(t, func(t *rapid.T) {
		comparison := func(name string) string {
			return "(" + routeOperand.Draw(t, name) + rapid.SampledFrom([]string{" = ", " != ", " < ", " >= "}).Draw(t, name+" operator") + routeOperand.Draw(t, name+" right") + ")"
		}
		a, b := comparison("a"), comparison("b")
		x, y := outcome(t, a), outcome(t, b)
		for text, want := range map[string]int{
			a + " AND " + b: min(x, y), b + " AND " + a: min(x, y), a + " OR " + b: max(x, y), b + " OR " + a: max(x, y), "NOT " + a: -x,
			"NOT (" + a + " OR " + b + ")": -max(x, y),
		} {
			if got := outcome(t, text); got != want {
				t.Fatalf("%s with %d and %d: got %d, want %d", text, x, y, got, want)
			}
		}
	})
}

// FuzzParseRouteCondition: whatever a condition is, it is refused at a place inside it, or can be asked of any message.
func FuzzParseRouteCondition(f *testing.F) {
	for _, seed := range []string{
		`$body.Weather.HistoricalData[0].Month = 'Feb'`, `$twin.tags.a.b = 1 AND as_number(severity) <= 2`, `NOT (a-b != "x\u00e4")`, `$iothub-connection-device-id = 'd' OR is_defined($body.a)`,
		`a IN ['x']`, `$body[0]`, `$`, `.`, `a.`, `$body.a[0][1].b.c`, `-0x1F % 3 = -1e3`, `concat(a, b, 'c') = substring(d, 1, 2)`, "a\t=\n'x'", `!= '`, `$twin.properties.desired.$version > 1`,
	} {
		f.Add(seed)
	}
	m := parseMessage(f, weather)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := query.ParseRouteCondition(text)
		if syntax := (*query.SyntaxError)(nil); errors.As(err, &syntax) {
			if lines := strings.Split(text, "\n"); syntax.Line < 1 || syntax.Line > len(lines) || syntax.Column < 1 || syntax.Column > len([]rune(lines[syntax.Line-1]))+1 {
				t.Fatalf("%q is wrong at line %d, column %d", text, syntax.Line, syntax.Column)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if matches, undefined := c.Matches(m); matches && undefined {
			t.Fatalf("%q matches and is undefined", text)
		}
	})
}
