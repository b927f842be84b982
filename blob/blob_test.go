package blob

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sas = "sv=2021&sig=secret%3D"

// storage is as much of Blob Storage as the client uses: it checks the SAS and puts blocks together in the order of their list.
type storage struct {
	mu     sync.Mutex
	blobs  map[string][]byte
	blocks map[string][]byte
	puts   int
}

func (s *storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	q := r.URL.Query()
	blob, exists := s.blobs[r.URL.Path]
	switch {
	case q.Get("sig") != "secret=", q.Get("sv") != "2021", r.Header.Get("x-ms-version") == "":
		w.Header().Set("x-ms-error-code", "AuthenticationFailed")
		w.WriteHeader(http.StatusForbidden)
	case r.Method == http.MethodGet && !exists:
		w.Header().Set("x-ms-error-code", "BlobNotFound")
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodGet:
		_, _ = w.Write(blob)
	case exists && r.Header.Get("If-None-Match") == "*":
		w.Header().Set("x-ms-error-code", "BlobAlreadyExists")
		w.WriteHeader(http.StatusConflict)
	case r.ContentLength < 0: // Blob Storage: no chunked bodies
		w.WriteHeader(http.StatusLengthRequired)
	case q.Get("comp") == "block": // which no condition is for
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.blocks[q.Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
	case q.Get("comp") == "blocklist":
		s.blobs[r.URL.Path] = nil
		for _, id := range regexp.MustCompile(`<Latest>([^<]*)</Latest>`).FindAllSubmatch(body, -1) {
			s.blobs[r.URL.Path] = append(s.blobs[r.URL.Path], s.blocks[string(id[1])]...)
		}
		w.WriteHeader(http.StatusCreated)
	case r.Header.Get("x-ms-blob-type") != "BlockBlob":
		w.WriteHeader(http.StatusBadRequest)
	default:
		s.blobs[r.URL.Path] = body
		w.WriteHeader(http.StatusCreated)
	}
	s.puts++
}

func newStorage(t *testing.T) (*storage, string) {
	t.Helper()
	s := &storage{blobs: map[string][]byte{}, blocks: map[string][]byte{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL + "/account/container"
}

func TestABlobIsReadAsItWasWritten(t *testing.T) {
	for _, size := range []int{0, 1, blockSize - 1, blockSize, blockSize + 1, 3*blockSize + 7} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s, uri := newStorage(t)
			want := bytes.Repeat([]byte("0123456789abc"), size/13+1)[:size]
			c := New()
			if err := c.Put(t.Context(), uri+"?"+sas, "dir/devices.txt", iotest.HalfReader(bytes.NewReader(want))); err != nil {
				t.Fatal(err)
			}
			if s.puts > size/blockSize+2 {
				t.Errorf("%d requests", s.puts)
			}
			if _, there := s.blobs["/account/container/dir/devices.txt"]; !there {
				t.Errorf("blobs: %d", len(s.blobs))
			}
			body, n, err := c.Get(t.Context(), uri+"?"+sas, "dir/devices.txt")
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			if err != nil || !bytes.Equal(got, want) || n != -1 && n != int64(size) {
				t.Errorf("%d bytes of %d, size %d, %v", len(got), size, n, err)
			}
			if err := body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestANewBlobReplacesNone(t *testing.T) {
	for _, size := range []int{3, blockSize + 3} {
		s, uri := newStorage(t)
		c := New()
		if err := c.PutNew(t.Context(), uri+"?"+sas, "b", bytes.NewReader(make([]byte, size))); err != nil {
			t.Fatal(err)
		}
		if err := c.PutNew(t.Context(), uri+"?"+sas, "b", bytes.NewReader(make([]byte, size+1))); !errors.Is(err, ErrExists) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if got := len(s.blobs["/account/container/b"]); got != size {
			t.Errorf("the blob has %d bytes, not %d", got, size)
		}
	}
}

func TestAnotherAuthorityIsTrustedWhenItIsNamed(t *testing.T) {
	s := &storage{blobs: map[string][]byte{}, blocks: map[string][]byte{}}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	if err := NewTrusting(func() *x509.CertPool { return roots }).Put(t.Context(), server.URL+"/a/c?"+sas, "b", strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	if err := New().Put(t.Context(), server.URL+"/a/c?"+sas, "b", strings.NewReader("x")); err == nil {
		t.Error("the system trusts it, too")
	}
}

func TestNoErrorHoldsTheSAS(t *testing.T) {
	_, uri := newStorage(t)
	c := New()
	for name, try := range map[string]struct{ container, says string }{
		"refused":     {uri + "?sig=other&x=secret", "AuthenticationFailed"},
		"missing":     {uri + "?" + sas, "BlobNotFound"},
		"no host":     {"http://?sig=secret", "http"},
		"scheme":      {"file:///etc?sig=secret", "http"},
		"unreadable":  {"http://%zz?sig=secret", "read"},
		"unreachable": {"http://127.0.0.1:1/c?sig=secret", "refused"},
	} {
		_, _, err := c.Get(t.Context(), try.container, "b")
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), try.says) {
			t.Errorf("%s: %v does not say %q", name, err, try.says)
		}
		err = c.Put(t.Context(), try.container, "b", strings.NewReader("x"))
		if name != "missing" && (err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), try.says)) {
			t.Errorf("%s: put: %v does not say %q", name, err, try.says)
		}
	}
}

func TestAReaderThatFailsLeavesNoBlob(t *testing.T) {
	s, uri := newStorage(t)
	broken := errors.New("broken")
	for _, before := range []int{3, blockSize + 3} {
		body := io.MultiReader(bytes.NewReader(make([]byte, before)), iotest.ErrReader(broken))
		if err := New().Put(t.Context(), uri+"?"+sas, "b", body); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", before, err)
		}
	}
	if len(s.blobs) != 0 {
		t.Error("there is a blob")
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusTemporaryRedirect))
	defer server.Close()
	if _, _, err := New().Get(t.Context(), server.URL+"/c", "b"); err == nil || !strings.Contains(err.Error(), "307") {
		t.Error(err)
	}
}

func TestBlockIDsAreOfOneLength(t *testing.T) { // the storage wants that
	first, last := base64.StdEncoding.EncodeToString([]byte("00000000")), base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", maxBlocks))
	if len(first) != len(last) {
		t.Error(first, last)
	}
}
