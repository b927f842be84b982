package blob

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

var until = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const emulatorString = "DefaultEndpointsProtocol=http;AccountName=" + emulatorAccount + ";AccountKey=" + emulatorKey + ";BlobEndpoint=" + emulatorEndpoint + ";"

// The signature was computed with another implementation: Python's hmac over the string that "Create a service SAS" gives.
func TestAContainersSASIsSignedAsDocumented(t *testing.T) {
	a, err := ParseAccount(emulatorString)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(a.Container("routed", "rcw", until))
	if err != nil {
		t.Fatal(err)
	}
	if got := u.Scheme + "://" + u.Host + u.Path; got != emulatorEndpoint+"/routed" {
		t.Error(got)
	}
	want := map[string]string{"sv": "2018-11-09", "sr": "c", "sp": "rcw", "se": "2026-01-02T03:04:05Z", "sig": "XqtZ93l9ddOQzPj18kbO/ifwT0rPOJ8jCGfv3hz/woI="}
	for name, value := range want {
		if got := u.Query().Get(name); got != value {
			t.Errorf("%s=%s, not %s", name, got, value)
		}
	}
	u, err = url.Parse(a.Blob("routed", "dir/a b.json", "cw", until))
	if err != nil {
		t.Fatal(err)
	}
	if u.Path != "/"+emulatorAccount+"/routed/dir/a b.json" || u.Query().Get("sr") != "b" || u.Query().Get("sig") != "mRX++l+NEA53Od4oHIaz4oJeuEJjqnMDGwQklTqN4R0=" {
		t.Error(u)
	}
}

func TestStorageConnectionStrings(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte("secret"))
	for connection, want := range map[string]string{
		"UseDevelopmentStorage=true":        emulatorEndpoint,
		"AccountName=acc;AccountKey=" + key: "https://acc.blob.core.windows.net",
		"DefaultEndpointsProtocol=http;AccountName=acc;AccountKey=" + key + ";EndpointSuffix=core.chinacloudapi.cn": "http://acc.blob.core.chinacloudapi.cn",
		"BlobEndpoint=https://h:1/acc/ ; SharedAccessSignature=?sv=1&sig=x":                                         "https://h:1/acc",
		" accountname = acc ;accountkey=" + key + ";;blobendpoint=http://127.0.0.1/acc":                             "http://127.0.0.1/acc",
	} {
		a, err := ParseAccount(connection)
		if err != nil || a.Endpoint() != want {
			t.Errorf("%s: %v %v", connection, a, err)
		}
	}
	a, err := ParseAccount("BlobEndpoint=https://h/acc;SharedAccessSignature=?sv=1&sig=x")
	if got := a.Container("c", "w", until); err != nil || got != "https://h/acc/c?sv=1&sig=x" {
		t.Error(got, err)
	}
}

func TestBrokenStorageConnectionStringsAreRefusedWithoutTheirSecret(t *testing.T) {
	for _, connection := range []string{
		"", "AccountName=a", "AccountName=a;AccountKey=!secret!", "AccountKey=c2VjcmV0", "secret", "AccountName=a;AccountName=b;AccountKey=c2VjcmV0",
		"AccountName=a;AccountKey=c2VjcmV0;BlobEndpoint=ftp://secret", "AccountName=a;AccountKey=c2VjcmV0;BlobEndpoint=https://", "=secret;AccountName=a",
		"AccountName=a/b?c;AccountKey=c2VjcmV0", "AccountName=a;AccountKey=c2VjcmV0;BlobEndpoint=http://u:secret@h", strings.Repeat("a", maxConnectionString+1),
	} {
		_, err := ParseAccount(connection)
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%.80s: %v", connection, err)
		}
	}
}

func TestAnAccountIsPrintedWithoutItsKey(t *testing.T) {
	a, err := ParseAccount("AccountName=acc;AccountKey=c2VjcmV0")
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(form, a); got != "acc at https://acc.blob.core.windows.net" {
			t.Errorf("%s: %s", form, got)
		}
	}
}

func FuzzParseAccount(f *testing.F) {
	f.Add(emulatorString)
	f.Add("BlobEndpoint=https://h/acc;SharedAccessSignature=?sv=1&sig=x")
	f.Add("UseDevelopmentStorage=true")
	f.Fuzz(func(t *testing.T, connection string) {
		a, err := ParseAccount(connection)
		if err != nil {
			return
		}
		u, err := url.Parse(a.Container("c", "w", until))
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || !strings.HasSuffix(u.Path, "/c") {
			t.Errorf("%q makes %v, %v", connection, u, err)
		}
	})
}
