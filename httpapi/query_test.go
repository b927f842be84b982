package httpapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

const queryOf = "/devices/query" + version

// queryBody returns the body of a query.
func queryBody(text string) string {
	b, _ := json.Marshal(queryJSON{text})
	return string(b)
}

func TestQueryAnswersOfEveryKind(t *testing.T) {
	r := newRig(t)
	token := r.policyToken("service")
	r.device("d1")
	r.device("d2")
	r.module("d1", "m1")
	r.ask("PATCH", "/twins/d1"+version, token, `{"tags":{"site":"north"},"properties":{"desired":{"rate":1.50}}}`).want(200, "")
	for _, q := range []struct{ name, text string }{
		{"twins", "SELECT * FROM devices WHERE tags.site = 'north'"},
		{"modules", "select * from devices.modules"},
		{"raw", "SELECT deviceId, properties.desired.rate AS rate FROM devices"},
		{"count", "SELECT COUNT() AS numberOfDevices FROM devices"},
		{"jobs", "SELECT * FROM devices.jobs"},
		{"none", "SELECT * FROM devices WHERE deviceId = 'nobody'"},
		{"wrong", "SELECT * FROM devices WHERE"},
	} {
		golden(t, "query-"+q.name, r.ask("POST", queryOf, token, queryBody(q.text), "Content-Type", "application/json; charset=utf-8").text())
	}
}

func TestQueriesComeInPages(t *testing.T) {
	r := newRig(t)
	const n = 250
	for i := range n {
		_, err := r.hub.Admin().CreateIdentity(t.Context(), store.Identity{Key: store.Key{DeviceID: fmt.Sprintf("d%03d", i)}})
		must(t, err)
	}
	token := r.policyToken("service")
	for _, test := range []struct {
		size  string
		pages []int
	}{{"", []int{100, 100, 50}}, {"100", []int{100, 100, 50}}, {"125", []int{125, 125}}, {"1000", []int{n}}, {"5000", []int{n}}} {
		var headers []string
		if test.size != "" {
			headers = []string{"x-ms-max-item-count", test.size}
		}
		seen, continuation := map[string]bool{}, ""
		for i, want := range test.pages {
			page := r.ask("POST", queryOf, token, queryBody("SELECT * FROM devices"), append(headers, "x-ms-continuation", continuation)...).want(200, "")
			var rows []struct{ DeviceID string }
			must(t, json.Unmarshal([]byte(page.Body), &rows))
			if len(rows) != want {
				t.Fatalf("page %d of %q has %d rows, want %d", i, test.size, len(rows), want)
			}
			for _, row := range rows {
				seen[row.DeviceID] = true
			}
			continuation = page.Header.Get("x-ms-continuation")
			if (continuation != "") != (i < len(test.pages)-1) {
				t.Fatalf("page %d of %q: continuation %q", i, test.size, continuation)
			}
		}
		if len(seen) != n {
			t.Errorf("pages of %q show %d devices, want %d", test.size, len(seen), n)
		}
	}
}

func TestQueriesRefuseWhatIsWrong(t *testing.T) {
	r := newRig(t)
	r.device("d1")
	r.device("d2")
	token := r.policyToken("service")
	all := queryBody("SELECT * FROM devices")
	for name, body := range map[string]string{
		"nothing": "", "half": `{"query":`, "an array": `[]`, "null": "null", "no query": `{}`, "a number": `{"query":7}`, "words": queryBody("give me all"),
		"another collection": queryBody("SELECT * FROM tables"), "deep": queryBody("SELECT * FROM devices WHERE " + strings.Repeat("(", 100_000)),
		"endless": queryBody("SELECT * FROM devices WHERE " + strings.Repeat("a=1 OR ", 100_000) + "a=1"), "NUL": queryBody("SELECT * FROM devices\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			r.ask("POST", queryOf, token, body).want(400, "ArgumentInvalid")
		})
	}
	for _, size := range []string{"0", "-1", "ten", "1e2", "99999999999999999999"} {
		r.ask("POST", queryOf, token, all, "x-ms-max-item-count", size).want(400, "ArgumentInvalid")
	}
	next := r.ask("POST", queryOf, token, all, "x-ms-max-item-count", "1").want(200, "").Header.Get("x-ms-continuation")
	r.ask("POST", queryOf, token, all, "x-ms-continuation", "nonsense").want(400, "ArgumentInvalid")
	r.ask("POST", queryOf, token, queryBody("SELECT * FROM devices WHERE tags.a = 1"), "x-ms-continuation", next).want(400, "ArgumentInvalid")
	r.ask("POST", queryOf, token, all, "Content-Type", "text/plain").want(415, "GenericUnsupportedMediaType")
	r.ask("POST", queryOf, token, queryBody(strings.Repeat(" ", 1<<20))).want(413, "MessageTooLarge")
}

// The rows go out as they stand: answering a page of a hundred twins takes no memory of its size.
func BenchmarkReplyRows(b *testing.B) {
	row := []byte(`{"deviceId":"d1","tags":{"site":"` + strings.Repeat("x", 800) + `"}}`)
	page := hub.QueryPage{ItemType: hub.ItemTwin, Rows: make([]json.RawMessage, 100)}
	for i := range page.Rows {
		page.Rows[i] = row
	}
	w := &discarded{header: map[string][]string{}}
	b.ReportAllocs()
	for b.Loop() {
		replyRows(w, &page)
	}
}
