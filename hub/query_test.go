package hub

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// answer asks for all pages of a query and returns the rows, and the sizes of the pages.
func answer(t testing.TB, h *Hub, text string, size int) (rows []string, sizes []int) {
	t.Helper()
	r := QueryRequest{Text: text, PageSize: size}
	for {
		page, err := h.Admin().Query(ctx, r)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for _, row := range page.Rows {
			rows = append(rows, string(row))
		}
		sizes = append(sizes, len(page.Rows))
		if r.Continuation = page.Continuation; r.Continuation == "" {
			return rows, sizes
		}
	}
}

func wantRows(t testing.TB, h *Hub, text string, want ...string) {
	t.Helper()
	if got, _ := answer(t, h, text, 0); !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", text, got, want)
	}
}

// newFleet returns a hub with the devices d000, d001 and so on, each with its number and its rest by 10 in the tags.
func newFleet(t testing.TB, n int) *Hub {
	h, _ := newTestHub(t)
	for i := range n {
		addTagged(t, h, store.Key{DeviceID: fmt.Sprintf("d%03d", i)}, fmt.Sprintf(`{"tags":{"n":%d,"rest":%d}}`, i, i%10))
	}
	return h
}

func addTagged(t testing.TB, h *Hub, key store.Key, patch string) {
	t.Helper()
	addDevice(t, h, key)
	mustUpdate(t, h, key, patch)
}

func TestQueriesSelectTwins(t *testing.T) {
	h := newFleet(t, 3)
	rows, _ := answer(t, h, `SELECT * FROM devices WHERE tags.n = 1`, 0)
	twin, err := h.Admin().Twin(ctx, store.Key{DeviceID: "d001"})
	if err != nil {
		t.Fatal(err)
	}
	if want := string(twin.AppendJSON(nil)); len(rows) != 1 || rows[0] != want {
		t.Errorf("got %s, want %s", rows, want)
	}
	wantRows(t, h, `SELECT deviceId FROM devices WHERE tags.n >= 1`, `{"deviceId":"d001"}`, `{"deviceId":"d002"}`)
	wantRows(t, h, `SELECT deviceId FROM devices WHERE deviceId IN ['d002', 'd000', 'x'] AND tags.n < 9`, `{"deviceId":"d000"}`, `{"deviceId":"d002"}`)
	wantRows(t, h, `SELECT COUNT() AS n FROM devices`, `{"n":3}`)
	wantRows(t, h, `SELECT tags.rest, COUNT() AS n FROM devices GROUP BY tags.rest`, `{"rest":0,"n":1}`, `{"rest":1,"n":1}`, `{"rest":2,"n":1}`)
}

func TestItemTypes(t *testing.T) {
	h := newFleet(t, 1)
	for text, want := range map[string]string{
		`SELECT * FROM devices`: ItemTwin, `SELECT * FROM devices.modules`: ItemTwin, `SELECT deviceId FROM devices`: ItemRaw, `SELECT COUNT() FROM devices`: ItemRaw,
	} {
		page, err := h.Admin().Query(ctx, QueryRequest{Text: text})
		if err != nil || page.ItemType != want {
			t.Errorf("%s: got %q, %v, want %q", text, page.ItemType, err, want)
		}
	}
}

func TestQueriesOnModules(t *testing.T) {
	h := newFleet(t, 3)
	for _, key := range []store.Key{{DeviceID: "d002", ModuleID: "b"}, {DeviceID: "d000", ModuleID: "b"}, {DeviceID: "d000", ModuleID: "a"}} {
		addTagged(t, h, key, `{"tags":{"of":"`+key.String()+`"}}`)
	}
	for _, size := range []int{1, 2, 3, 100} {
		rows, _ := answer(t, h, `SELECT deviceId, moduleId FROM devices.modules`, size)
		if want := []string{`{"deviceId":"d000","moduleId":"a"}`, `{"deviceId":"d000","moduleId":"b"}`, `{"deviceId":"d002","moduleId":"b"}`}; !slices.Equal(rows, want) {
			t.Errorf("pages of %d: got %s, want %s", size, rows, want)
		}
	}
	wantRows(t, h, `SELECT tags.of FROM devices.modules WHERE devices.deviceId = 'd000' AND moduleId != 'a'`, `{"of":"d000/b"}`)
	wantRows(t, h, `SELECT COUNT() AS n FROM devices WHERE IS_DEFINED(moduleId)`, `{"n":0}`)
}

// TestEveryDocumentedAttributeCanBeAskedFor compares what a query sees with the document that GET /twins answers.
func TestEveryDocumentedAttributeCanBeAskedFor(t *testing.T) {
	h, _ := newTestHub(t)
	edge := store.Identity{Key: store.Key{DeviceID: "e"}, IoTEdge: true, StatusReason: "because"}
	edge.Authentication = store.Authentication{Type: store.AuthSelfSigned, PrimaryThumbprint: strings.Repeat("AB", 20)}
	if _, err := h.Admin().CreateIdentity(ctx, edge); err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, h, edge.Key, `{"tags":{"a":{"b":1}},"properties":{"desired":{"x":{"y":[1,{"z":2}]},"n":4503599627370495}}}`)
	row, err := h.twins.Twin(ctx, edge.Key)
	if err != nil {
		t.Fatal(err)
	}
	configured := row.Twin
	configured.Version++
	configured.Configurations, _ = document.Parse([]byte(`{"c-1":{"status":"Applied"}}`))
	if err := h.twins.UpdateTwin(ctx, edge.Key, row.GenerationID, row.Twin.Version, configured); err != nil {
		t.Fatal(err)
	}
	twin, err := h.Admin().Twin(ctx, edge.Key)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := document.Parse(twin.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	eachPath(whole, nil, func(path []string, v document.Value) {
		seen++
		text := `SELECT ` + path[0]
		for _, name := range path[1:] {
			text += ".[[" + name + "]]"
		}
		rows, _ := answer(t, h, text+` AS v FROM devices`, 0)
		if want := `{"v":` + string(v.AppendJSON(nil)) + `}`; rows[0] != want {
			t.Errorf("%s: got %s, want %s", text, rows[0], want)
		}
	})
	if seen < 40 {
		t.Errorf("only %d attributes were looked at in %s", seen, whole.AppendJSON(nil))
	}
	for _, path := range []string{"tags.c", "deviceId.x", "capabilities.x", "properties.x", "properties.desired.x.q", "properties.reported.[[$metadata]].[[$lastUpdatedVersion]]", "properties.desired.[[$metadata]].q", "x509Thumbprint.x", "nonsense", "moduleId", "configurations.[[c-2]]", "parentScopes.x"} {
		wantRows(t, h, `SELECT COUNT() AS n FROM devices WHERE IS_DEFINED(`+path+`)`, `{"n":0}`)
	}
}

// eachPath calls visit with every object member at every level.
func eachPath(v document.Value, path []string, visit func([]string, document.Value)) {
	for _, m := range v.Members() {
		down := append(slices.Clone(path), m.Name)
		visit(down, m.Value)
		eachPath(m.Value, down, visit)
	}
}

func TestQueriesSeeWhatTheStoreDoesNotHold(t *testing.T) {
	h := newFleet(t, 2)
	if err := h.Admin().SendC2D(ctx, toDevice("d001", "x")); err != nil {
		t.Fatal(err)
	}
	wantRows(t, h, `SELECT deviceId, cloudToDeviceMessageCount AS n FROM devices WHERE cloudToDeviceMessageCount > 0`, `{"deviceId":"d001","n":1}`)
}

// TestPagesMakeUpTheWholeAnswer holds for any page size, TOP and condition.
func TestPagesMakeUpTheWholeAnswer(t *testing.T) {
	h := newFleet(t, 30)
	whole, _ := answer(t, h, `SELECT deviceId FROM devices`, 0)
	rapid.Check(t, func(r *rapid.T) {
		size, top := rapid.IntRange(1, 40).Draw(r, "size"), rapid.IntRange(0, 40).Draw(r, "top")
		rest := rapid.IntRange(-1, 9).Draw(r, "rest")
		want, where := whole, ""
		if rest >= 0 {
			want, where = nil, fmt.Sprint(" WHERE tags.rest = ", rest)
			for i := rest; i < 30; i += 10 {
				want = append(want, whole[i])
			}
		}
		want = want[:min(top, len(want))]
		rows, sizes := answer(t, h, fmt.Sprint(`SELECT TOP `, top, ` deviceId FROM devices`, where), size)
		if !slices.Equal(rows, want) || len(sizes) > len(want)/size+1 {
			r.Fatalf("pages of %d, TOP %d%s: got %s in pages of %v, want %s", size, top, where, rows, sizes, want)
		}
	})
}

// The Java SDK takes a token for the promise of another row.
func TestNoPageButTheFirstIsEmpty(t *testing.T) {
	h := newFleet(t, 3*queryBatch)
	for text, want := range map[string][]int{
		`SELECT deviceId FROM devices WHERE tags.n < 10`:               {5, 5},
		`SELECT * FROM devices WHERE tags.n < 5`:                       {5},
		`SELECT * FROM devices WHERE tags.n < 6`:                       {5, 1},
		`SELECT * FROM devices WHERE tags.n < 4 OR tags.n = 767`:       {5},
		`SELECT TOP 5 * FROM devices WHERE tags.n >= 0`:                {5},
		`SELECT * FROM devices WHERE tags.n < 0`:                       {0},
		`SELECT tags.n FROM devices WHERE tags.n < 10 GROUP BY tags.n`: {5, 5},
	} {
		if _, sizes := answer(t, h, text, 5); !slices.Equal(sizes, want) {
			t.Errorf("%s: pages of %v, want %v", text, sizes, want)
		}
	}
}

// TestDevicesThatAreNotThereDoNotHoldUpAQuery would never end if a search did not get past them.
func TestDevicesThatAreNotThereDoNotHoldUpAQuery(t *testing.T) {
	h := newFleet(t, 3)
	ids := make([]string, 0, 900)
	for i := range cap(ids) {
		ids = append(ids, fmt.Sprintf("'%03d'", i))
	}
	list := "[" + strings.Join(ids, ",") + ",'d002','d001','z']"
	for _, size := range []int{1, 2, 0} {
		if rows, _ := answer(t, h, `SELECT deviceId FROM devices WHERE deviceId IN `+list, size); len(rows) != 2 {
			t.Errorf("pages of %d: got %s", size, rows)
		}
	}
	wantRows(t, h, `SELECT COUNT() AS n FROM devices WHERE id IN `+list, `{"n":2}`)
}

func TestPageSizes(t *testing.T) {
	h := newFleet(t, 250)
	for size, want := range map[int][]int{0: {100, 100, 50}, 125: {125, 125}, 250: {250}, 5000: {250}} {
		if _, sizes := answer(t, h, `SELECT deviceId FROM devices`, size); !slices.Equal(sizes, want) {
			t.Errorf("page size %d: got pages of %v, want %v", size, sizes, want)
		}
	}
	_, err := h.Admin().Query(ctx, QueryRequest{Text: `SELECT * FROM devices`, PageSize: -1})
	wantCode(t, err, CodeArgumentInvalid)
}

func TestGroupsComeInPages(t *testing.T) {
	h := newFleet(t, 25)
	rows, sizes := answer(t, h, `SELECT tags.rest AS r, COUNT() AS n FROM devices GROUP BY tags.rest`, 4)
	if want := []int{4, 4, 2}; !slices.Equal(sizes, want) {
		t.Errorf("got pages of %v, want %v", sizes, want)
	}
	for i, row := range rows {
		if want := fmt.Sprintf(`{"r":%d,"n":%d}`, i, 2+(9-i)/5); row != want {
			t.Errorf("row %d: got %s, want %s", i, row, want)
		}
	}
}

// TestAPageGoesOnWhereTheLastOneEnded holds although devices come and go in between.
func TestAPageGoesOnWhereTheLastOneEnded(t *testing.T) {
	h := newFleet(t, 4)
	page, err := h.Admin().Query(ctx, QueryRequest{Text: `SELECT deviceId FROM devices`, PageSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Admin().DeleteIdentity(ctx, store.Key{DeviceID: "d001"}, "*"); err != nil {
		t.Fatal(err)
	}
	addDevice(t, h, store.Key{DeviceID: "d0000"})
	page, err = h.Admin().Query(ctx, QueryRequest{Text: `SELECT deviceId FROM devices`, Continuation: page.Continuation})
	if err != nil || len(page.Rows) != 2 || string(page.Rows[0]) != `{"deviceId":"d002"}` {
		t.Errorf("got %s, %v", page.Rows, err)
	}
}

func TestForeignContinuationTokensAreRefused(t *testing.T) {
	h := newFleet(t, 3)
	const text = `SELECT * FROM devices`
	page, err := h.Admin().Query(ctx, QueryRequest{Text: text, PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	bent, _ := base64.RawURLEncoding.DecodeString(page.Continuation)
	bent[4] ^= 1
	for name, r := range map[string]QueryRequest{
		"another query": {Text: text + " ", Continuation: page.Continuation},
		"no token":      {Text: text, Continuation: "token"},
		"no base64":     {Text: text, Continuation: "!"},
		"a bent token":  {Text: text, Continuation: base64.RawURLEncoding.EncodeToString(bent)},
		"too long":      {Text: text, Continuation: strings.Repeat("A", 100_000)},
	} {
		if _, err := h.Admin().Query(ctx, r); err == nil {
			t.Errorf("%s was taken", name)
		} else {
			wantCode(t, err, CodeArgumentInvalid)
		}
	}
}

func FuzzParseContinuation(f *testing.F) {
	f.Add(position{}.continuation("q"), "q")
	f.Add(position{key: store.DeviceJobKey{JobID: "j", Key: store.Key{DeviceID: "d", ModuleID: "m"}}, limited: true, left: 3, shown: 1 << 20}.continuation("q"), "q")
	f.Add("AQAAAAA", "")
	f.Fuzz(func(t *testing.T, token, text string) {
		if p, ours := parseContinuation(token, text); ours && p.continuation(text) != token {
			t.Fatalf("%q is taken for %+v, whose token is %q", token, p, p.continuation(text))
		}
	})
}

func TestWrongQueriesNameThePosition(t *testing.T) {
	h := newFleet(t, 0)
	_, err := h.Admin().Query(ctx, QueryRequest{Text: "SELECT *\nFROM devices WHERE ?"})
	wantCode(t, err, CodeArgumentInvalid)
	if want := "line 2, column 20"; !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q in it", err, want)
	}
}

func TestQueriesNeedServiceConnect(t *testing.T) {
	h := newFleet(t, 1)
	for _, test := range []struct {
		rights auth.Rights
		scope  string
		ok     bool
	}{{auth.ServiceConnect, "", true}, {auth.RegistryRead | auth.RegistryWrite, "", false}, {auth.ServiceConnect, "devices/d000", false}, {auth.ServiceConnect, "devices/query", true}} {
		s, err := h.OpenService(ctx, auth.Principal{Policy: "p", Rights: test.rights, Scope: test.scope, Method: auth.MethodSAS}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Query(ctx, QueryRequest{Text: `SELECT * FROM devices`})
		if test.ok && err != nil {
			t.Errorf("rights %v, scope %q: %v", test.rights, test.scope, err)
		}
		if !test.ok {
			wantCode(t, err, CodeUnauthorized)
		}
	}
}

// countingTwins counts the rows that are looked at, and tells of each scan.
type countingTwins struct {
	store.Twins
	looked  int
	scanned func()
}

func (c *countingTwins) Scan(ctx context.Context, modules bool, after store.Key, limit int, rows []store.TwinRow) ([]store.TwinRow, error) {
	before := len(rows)
	rows, err := c.Twins.Scan(ctx, modules, after, limit, rows)
	c.looked += len(rows) - before
	if c.scanned != nil {
		c.scanned()
	}
	return rows, err
}

func TestTheFirstPageLooksAtNoMoreThanItNeeds(t *testing.T) {
	h := newFleet(t, 900)
	counting := &countingTwins{Twins: h.twins}
	h.twins = counting
	for text, most := range map[string]int{
		`SELECT * FROM devices`:                                   11,
		`SELECT TOP 3 * FROM devices`:                             3,
		`SELECT deviceId FROM devices WHERE tags.rest >= 0`:       queryBatch,
		`SELECT * FROM devices WHERE deviceId = 'd800'`:           0,
		`SELECT * FROM devices WHERE tags.rest = 0 AND id = 'd0'`: 0,
	} {
		counting.looked = 0
		if _, err := h.Admin().Query(ctx, QueryRequest{Text: text, PageSize: 10}); err != nil {
			t.Fatal(err)
		}
		if counting.looked > most {
			t.Errorf("%s: %d rows were looked at, want at most %d", text, counting.looked, most)
		}
	}
}

func TestAQueryEndsWithItsContext(t *testing.T) {
	h := newFleet(t, 600)
	for _, text := range []string{`SELECT COUNT() FROM devices`, `SELECT * FROM devices WHERE tags.n < 0`} {
		cancelled, cancel := context.WithCancel(ctx)
		counting := &countingTwins{Twins: h.twins, scanned: cancel}
		h.twins = counting
		_, err := h.Admin().Query(cancelled, QueryRequest{Text: text})
		h.twins = counting.Twins
		if !errors.Is(err, context.Canceled) || counting.looked > queryBatch {
			t.Errorf("%s: %v after %d rows", text, err, counting.looked)
		}
	}
}

func TestQueriesOnJobs(t *testing.T) {
	h := newFleet(t, 4)
	schedule(t, h, "tag", tagJob("*", ""))
	schedule(t, h, "again", tagJob("*", ""))
	jobWhen(t, h, "tag", jobCompleted)
	jobWhen(t, h, "again", jobCompleted)
	page, err := h.Admin().Query(ctx, QueryRequest{Text: `SELECT * FROM devices.jobs WHERE devices.jobs.deviceId = 'd001'`})
	if err != nil || page.ItemType != ItemDeviceJob || len(page.Rows) != 2 {
		t.Fatalf("got %d rows of %s: %v", len(page.Rows), page.ItemType, err)
	}
	wantJSON(t, page.Rows[1], `{"deviceId":"d001","jobId":"tag","jobType":"scheduleUpdateTwin","status":"completed","createdDateTimeUtc":"2026-01-01T00:00:00Z",
		"lastUpdatedDateTimeUtc":"2026-01-01T00:00:00Z","startTimeUtc":"2026-01-01T00:00:00Z","endTimeUtc":"2026-01-01T00:00:00Z","outcome":{"deviceMethodResponse":null}}`)
	for _, size := range []int{1, 3, 8} {
		if rows, sizes := answer(t, h, `SELECT * FROM devices.jobs WHERE status = 'completed'`, size); len(rows) != 8 || sizes[0] != size {
			t.Errorf("pages of %d: got %d rows in pages of %v", size, len(rows), sizes)
		}
	}
}

func TestConditionsSeeTwinsAsQueriesDo(t *testing.T) {
	h := newFleet(t, 2)
	c, err := query.ParseCondition(`tags.n = 1 AND deviceId = 'd001'`)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"d000": false, "d001": true} {
		row, err := h.twinRow(ctx, store.Key{DeviceID: id})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Matches(h.queryRow(ctx, &row)); got != want {
			t.Errorf("%s: got %t, want %t", id, got, want)
		}
	}
}

// TestAConditionUnderADevicesLockTakesNone would never end if it did.
func TestAConditionUnderADevicesLockTakesNone(t *testing.T) {
	h := newFleet(t, 1)
	connect(t, h, "d000")
	row, err := h.twinRow(ctx, store.Key{DeviceID: "d000"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := query.ParseCondition(`lastActivityTime >= '0001' AND NOT IS_DEFINED(cloudToDeviceMessageCount)`)
	if err != nil {
		t.Fatal(err)
	}
	p := h.lockPeer(row.Key)
	defer h.unlockPeer(p)
	if !c.Matches(storedRow(&row)) {
		t.Error("the condition does not select what is stored")
	}
}

// TestTwinsAreReadWhileAQueryRuns holds at every moment between two batches of a search.
func TestTwinsAreReadWhileAQueryRuns(t *testing.T) {
	h := newFleet(t, 300)
	reads := 0
	h.twins = &countingTwins{Twins: h.twins, scanned: func() {
		mustUpdate(t, h, store.Key{DeviceID: "d299"}, fmt.Sprintf(`{"tags":{"seen":%d}}`, reads))
		if _, err := h.Admin().Twin(ctx, store.Key{DeviceID: "d000"}); err != nil {
			t.Error(err)
		}
		reads++
	}}
	rows, _ := answer(t, h, `SELECT COUNT() AS n FROM devices WHERE IS_DEFINED(tags.seen)`, 0)
	if reads < 2 || rows[0] != `{"n":1}` {
		t.Errorf("%d reads, %s", reads, rows)
	}
}

// newBigFleet returns a hub with n devices whose twins have tags and properties.
func newBigFleet(b *testing.B, n int) *Hub {
	h, _ := newTestHub(b)
	tags := make([]document.Value, 10)
	for i := range tags {
		tags[i], _ = document.Parse(fmt.Appendf(nil, `{"location":{"region":"r%d","plant":"Redmond43"},"n":%d}`, i, i))
	}
	desired, _ := document.Parse([]byte(`{"telemetryConfig":{"configId":"db00ebf5","sendFrequencyInSecs":300}}`))
	for i := range n {
		id, err := h.registry.Create(ctx, store.Identity{Key: store.Key{DeviceID: fmt.Sprintf("device-%06d", i)}, Status: store.Enabled, GenerationID: "638361234567890123"})
		if err != nil {
			b.Fatal(err)
		}
		if err := h.twins.UpdateTwin(ctx, id.Key, id.GenerationID, 0, store.Twin{
			Version: 3, Writes: 2, Tags: tags[i%10], Desired: store.Section{Value: desired, Version: 2, Updated: start}, Reported: store.Section{Value: document.EmptyObject, Version: 1, Updated: start},
		}); err != nil {
			b.Fatal(err)
		}
	}
	return h
}

// BenchmarkQuery asks over 100,000 twins: the first page of everything, a page that a condition picks, one device, and full counts.
func BenchmarkQuery(b *testing.B) {
	h := newBigFleet(b, 100_000)
	admin := h.Admin()
	for name, text := range map[string]string{
		"first page":            `SELECT * FROM devices`,
		"first page of a tenth": `SELECT * FROM devices WHERE tags.location.region = 'r3'`,
		"one device":            `SELECT * FROM devices WHERE deviceId = 'device-077777'`,
		"nothing selected":      `SELECT * FROM devices WHERE tags.location.region = 'nowhere'`,
		"count":                 `SELECT COUNT() AS n FROM devices`,
		"count of a tenth":      `SELECT COUNT() AS n FROM devices WHERE tags.location.region = 'r3' AND properties.desired.telemetryConfig.sendFrequencyInSecs >= 60`,
		"groups":                `SELECT tags.location.region, COUNT() AS n FROM devices GROUP BY tags.location.region`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := admin.Query(ctx, QueryRequest{Text: text}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestAPageOfLargeTwinsEndsEarly(t *testing.T) {
	h, _ := newTestHub(t)
	const devices = 300
	text := strings.Repeat("x", 4000)
	patch := fmt.Appendf(nil, `{"a":%q,"b":%q,"c":%q,"d":%q,"e":%q}`, text, text, text, text, text)
	for i := range devices {
		key := addDevice(t, h, store.Key{DeviceID: fmt.Sprintf("d%03d", i)}).Key
		if err := h.Admin().PlantReported(ctx, key, patch); err != nil {
			t.Fatal(err)
		}
	}
	for _, query := range []string{"SELECT * FROM devices", "SELECT deviceId, properties.reported.a AS a, properties.reported AS r FROM devices WHERE IS_DEFINED(properties)",
		"SELECT properties.reported AS r, deviceId, COUNT() FROM devices GROUP BY deviceId, properties.reported"} {
		seen, pages := 0, 0
		for token := ""; pages == 0 || token != ""; pages++ {
			page, err := h.Admin().Query(ctx, QueryRequest{Text: query, PageSize: 1000, Continuation: token})
			if err != nil {
				t.Fatal(err)
			}
			size := 0
			for _, row := range page.Rows {
				if id := fmt.Sprintf(`"deviceId":"d%03d"`, seen); !strings.Contains(string(row), id) {
					t.Fatalf("%s: row %d is not about %s", query, seen, id)
				}
				seen, size = seen+1, size+len(row)
			}
			if size > maxPageText+64<<10 {
				t.Errorf("%s: a page of %d bytes", query, size)
			}
			token = page.Continuation
		}
		if seen != devices || pages < 2 {
			t.Errorf("%s: %d rows on %d pages", query, seen, pages)
		}
	}
}

// fadingContext is over once it has been asked five times.
type fadingContext struct {
	context.Context
	asked int
}

func (c *fadingContext) Err() error {
	if c.asked++; c.asked > 5 {
		return context.Canceled
	}
	return nil
}

func TestASearchEndsWithItsContextFromOneRowToTheNext(t *testing.T) {
	h, _ := newTestHub(t)
	var ids []string
	for i := range 100 {
		id := fmt.Sprintf("d%03d", i)
		addDevice(t, h, store.Key{DeviceID: id})
		ids = append(ids, "'"+id+"'")
	}
	for _, text := range []string{"SELECT * FROM devices WHERE tags.a = 1", "SELECT COUNT() FROM devices", "SELECT * FROM devices WHERE deviceId IN [" + strings.Join(ids, ",") + "] AND tags.a = 1"} {
		if _, err := h.Admin().Query(&fadingContext{Context: ctx}, QueryRequest{Text: text}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", text, err)
		}
	}
	putConfig(t, h, "c", config(1, "tags.a = 1", `{"properties.desired.p":1}`))
	if _, err := h.Admin().Configuration(&fadingContext{Context: ctx}, "c"); !errors.Is(err, context.Canceled) {
		t.Errorf("metrics: %v", err)
	}
}
