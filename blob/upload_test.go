package blob

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// account is one of a storage that a test serves over HTTPS, at a path as Azurite's.
func account(t *testing.T, serve http.HandlerFunc) (Account, *Client) {
	t.Helper()
	server := httptest.NewTLSServer(serve)
	t.Cleanup(server.Close)
	a, err := ParseAccount("AccountName=" + key.Account + ";AccountKey=" + base64.StdEncoding.EncodeToString(key.Key) + ";BlobEndpoint=" + server.URL + "/" + key.Account)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return a, NewTrusting(func() *x509.CertPool { return roots })
}

func TestAccountsForDevices(t *testing.T) {
	for text, want := range map[string]string{
		"AccountName=a;AccountKey=AAAA":                                                       "",
		"AccountName=a;AccountKey=AAAA;BlobEndpoint=https://h:1/a/":                           "",
		"AccountName=a;AccountKey=AAAA;DefaultEndpointsProtocol=http":                         "https",
		"UseDevelopmentStorage=true":                                                          "https",
		"BlobEndpoint=https://h/;SharedAccessSignature=sv=2021-08-06&sig=x":                   "AccountKey",
		"AccountName=a;SharedAccessSignature=sv=2021-08-06&sig=x;BlobEndpoint=https://h:1/a/": "AccountKey",
	} {
		a, err := ParseAccount(text)
		if err == nil {
			err = a.ForDevices()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What a device is told, put together as SDKs do, is where the blob is.
func TestHostAndURIOfAnAccount(t *testing.T) {
	for text, want := range map[string]string{
		"AccountName=a;AccountKey=AAAA": "a.blob.core.windows.net", "AccountName=a;AccountKey=AAAA;EndpointSuffix=core.chinacloudapi.cn": "a.blob.core.chinacloudapi.cn",
		"AccountName=a;AccountKey=AAAA;BlobEndpoint=https://127.0.0.1:10000/a/": "127.0.0.1:10000/a",
	} {
		a, err := ParseAccount(text)
		if err != nil {
			t.Fatal(err)
		}
		if a.Host() != want {
			t.Errorf("host %s, want %s", a.Host(), want)
		}
		if got, want := a.URI(Resource{"c", "d/a b//%ü.txt"}), "https://"+want+"/c/d/a%20b//%25%C3%BC.txt"; got != want {
			t.Errorf("URI %s, want %s", got, want)
		}
	}
}

func TestStatIsAHeadWithASignature(t *testing.T) {
	answer := http.StatusOK
	a, c := account(t, func(w http.ResponseWriter, r *http.Request) {
		g, err := key.VerifySAS(r.URL.Query(), file, local, noon)
		if r.Method != http.MethodHead || r.URL.EscapedPath() != "/devstoreaccount1/uploads/dev/a%20b.txt" || err != nil || !g.Allows("r") || g.Allows("w") {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		w.Header().Set("Content-Length", "250")
		w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 11:00:00 GMT")
		w.WriteHeader(answer)
	})
	info, found, err := c.Stat(context.Background(), a, file, noon)
	if err != nil || !found || info.Size != 250 || !info.Modified.Equal(noon.Add(-time.Hour)) {
		t.Errorf("%+v, %v, %v", info, found, err)
	}
	answer = http.StatusNotFound
	if _, found, err := c.Stat(context.Background(), a, file, noon); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	answer = http.StatusForbidden
	if _, _, err := c.Stat(context.Background(), a, file, noon); err == nil || strings.Contains(err.Error(), "sig=") {
		t.Errorf("%v", err)
	}
}

func TestCreateContainerTakesOneThatIsThere(t *testing.T) {
	status, code := http.StatusCreated, ""
	a, c := account(t, func(w http.ResponseWriter, r *http.Request) {
		uploads := Resource{Container: "uploads"}
		g, err := key.VerifySAS(r.URL.Query(), uploads, local, noon)
		if r.Method != http.MethodPut || r.URL.Path != "/devstoreaccount1/uploads" || r.URL.Query().Get("restype") != "container" || err != nil || !g.Covers(uploads, false) || !g.Allows("c") {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		w.Header().Set("x-ms-error-code", code)
		w.WriteHeader(status)
	})
	create := func() error { return c.CreateContainer(context.Background(), a, "uploads", noon) }
	if err := create(); err != nil {
		t.Error(err)
	}
	if status, code = http.StatusConflict, "ContainerAlreadyExists"; create() != nil {
		t.Error("one that is there is an error")
	}
	if code = "ContainerBeingDeleted"; create() == nil {
		t.Error("one that is being deleted is none")
	}
	if status, code = http.StatusForbidden, "AuthenticationFailed"; create() == nil || strings.Contains(create().Error(), "sig=") {
		t.Errorf("%v", create())
	}
}
