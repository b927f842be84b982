package blobapi

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/iolite-emulator/iolite/blob"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	key   = blob.SharedKey{Account: "iolitestorage", Key: []byte("development")}
)

// rig is blob storage with the container uploads behind a real HTTP server.
type rig struct {
	t      testing.TB
	blobs  *store.LocalBlobs
	clock  *clock.Clock
	server *httptest.Server
	log    *bytes.Buffer
}

func newRig(t testing.TB) *rig { return newSizedRig(t, 64<<20) }

func newSizedRig(t testing.TB, limit int64) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.NewManual(start), blobs: store.NewMemoryBlobs(limit), log: &bytes.Buffer{}}
	_, err := r.blobs.CreateContainer(context.Background(), "uploads", nil, start)
	must(t, err)
	s := New(Config{Blobs: r.blobs, Key: key, Container: "uploads", Clock: r.clock, Logger: slog.New(slog.NewTextHandler(r.log, nil))})
	r.server = httptest.NewServer(s)
	t.Cleanup(func() {
		r.server.Client().CloseIdleConnections()
		r.server.Close()
		r.clock.Stop()
	})
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sas is what a device is given for a blob.
func (r *rig) sas(name, permissions string) string {
	return key.SignBlob(blob.Resource{Container: "uploads", Blob: name}, permissions, r.clock.Now().Add(time.Hour))
}

// ask sends a request for a blob with a SAS that allows it; extra is more of the query, headers are pairs.
func (r *rig) ask(method, name, extra, body string, headers ...string) *answer {
	r.t.Helper()
	return r.askRaw(method, "/uploads/"+url.PathEscape(name)+r.sas(name, "racwd")+extra, body, headers...)
}

// askAccount sends a request with an account SAS.
func (r *rig) askAccount(method, path, query, body string, headers ...string) *answer {
	r.t.Helper()
	return r.askRaw(method, path+"?"+query+"&"+key.SignAccount("sco", "rwdlacup", r.clock.Now().Add(time.Hour)), body, headers...)
}

func (r *rig) askRaw(method, uri, body string, headers ...string) *answer {
	r.t.Helper()
	request, err := http.NewRequest(method, r.server.URL+uri, strings.NewReader(body))
	must(r.t, err)
	if method == http.MethodPut && len(body) == 0 {
		request.Body = http.NoBody
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return r.do(request)
}

func (r *rig) do(request *http.Request) *answer {
	r.t.Helper()
	response, err := r.server.Client().Do(request)
	must(r.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(r.t, err)
	return &answer{r.t, response.StatusCode, response.Header, string(text)}
}

// put uploads a blob at once.
func (r *rig) put(name, text string) {
	r.t.Helper()
	r.ask("PUT", name, "", text, "x-ms-blob-type", "BlockBlob").want(201, "")
}

type answer struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   string
}

// want checks the status, and the error code, which stands in a header and in the body.
func (a *answer) want(status int, c code) *answer {
	a.t.Helper()
	if a.Status != status || a.Header.Get("x-ms-error-code") != string(c) {
		a.t.Fatalf("%d %s, want %d %s; body %s", a.Status, a.Header.Get("x-ms-error-code"), status, c, a.Body)
	}
	if a.Body != "" && c != "" && !strings.Contains(a.Body, "<Code>"+string(c)+"</Code>") {
		a.t.Fatalf("body %s does not name %s", a.Body, c)
	}
	if a.Header.Get("x-ms-request-id") == "" || a.Header.Get("x-ms-version") == "" {
		a.t.Fatalf("headers %v", a.Header)
	}
	return a
}

var volatile = []*regexp.Regexp{
	regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), regexp.MustCompile(`127\.0\.0\.1:\d+`), regexp.MustCompile(`0x8D[0-9A-F]+`),
}

// text writes the answer down without what differs from run to run.
func (a *answer) text() string {
	var b bytes.Buffer
	fmt.Fprintln(&b, http.StatusText(a.Status))
	h := a.Header.Clone()
	h.Del("Date")
	must(a.t, h.Write(&b))
	text := strings.ReplaceAll(b.String()+"\n"+a.Body, "\r\n", "\n")
	for _, p := range volatile {
		text = p.ReplaceAllString(text, "X")
	}
	return text
}

func golden(t testing.TB, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(file, []byte(text), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", file, diff)
	}
}
