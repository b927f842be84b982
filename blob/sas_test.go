package blob

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

var (
	key   = SharedKey{"devstoreaccount1", mustDecode("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")}
	file  = Resource{"uploads", "dev/a b.txt"}
	local = netip.MustParseAddr("127.0.0.1")
	noon  = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
)

func mustDecode(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func query(t testing.TB, sas string) url.Values {
	q, err := url.ParseQuery(strings.TrimPrefix(sas, "?"))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// The form is that of the article "Upload files with IoT Hub".
func TestSignBlobLooksLikeIoTHubs(t *testing.T) {
	sas := key.SignBlob(file, "rw", noon.Add(time.Hour))
	before, after, ok := strings.Cut(sas, "&sig=")
	if _, rest, _ := strings.Cut(after, "&"); !ok || before != "?sv=2018-03-28&sr=b" || rest != "se=2026-01-01T13%3A00%3A00Z&sp=rw" {
		t.Errorf("%s", sas)
	}
	g, err := key.VerifySAS(query(t, sas), file, local, noon)
	if err != nil || !g.Covers(file, false) || !g.Allows("cw") || g.Allows("d") {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestSASIsForOneResourceAndTime(t *testing.T) {
	q := query(t, key.SignBlob(file, "rw", noon.Add(time.Hour)))
	verify := func(q url.Values, r Resource, now time.Time) error {
		_, err := key.VerifySAS(q, r, local, now)
		return err
	}
	if err := verify(q, file, noon.Add(time.Hour-time.Second)); err != nil {
		t.Error(err)
	}
	if err := verify(q, file, noon.Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "time frame") {
		t.Errorf("at its end: %v", err)
	}
	for name, err := range map[string]error{
		"another blob": verify(q, Resource{"uploads", "dev/b"}, noon), "another container": verify(q, Resource{"other", file.Blob}, noon),
		"the container": verify(q, Resource{Container: "uploads"}, noon),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "Signature did not match") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for param, value := range map[string]string{"se": "2027-01-01T13:00:00Z", "sp": "rwd", "sr": "c", "sv": "2017-11-09", "sig": "AAAA", "st": "2026-01-01", "sip": "127.0.0.1", "spr": "https"} {
		forged := query(t, q.Encode())
		forged.Set(param, value)
		if verify(forged, file, noon) == nil {
			t.Errorf("%s may be forged", param)
		}
	}
	other := SharedKey{key.Account, []byte("another key")}
	if _, err := other.VerifySAS(q, file, local, noon); err == nil {
		t.Error("any key will do")
	}
}

// Signatures by @azure/storage-blob 12.32.0 (generateBlobSASQueryParameters, generateAccountSASQueryParameters) with the account above.
func TestSASOfTheStorageSDK(t *testing.T) {
	for _, c := range []struct {
		sas  string
		r    Resource
		list bool
	}{
		{"sv=2026-04-06&st=2026-01-01T00%3A00%3A00Z&se=2026-01-02T00%3A00%3A00Z&sip=127.0.0.1-127.0.0.9&sr=b&sp=racwd&rsct=text%2Fplain&sig=ArZkDSSQaVA1lncjmZs5Pp6ZuYn1wzQnLDvLDhn0Lr0%3D", file, false},
		{"sv=2026-04-06&se=2026-01-02T00%3A00%3A00Z&sr=c&sp=rl&sig=lP5St54zt1%2FDGeAcrPdOK6Or5%2B6nIOEuFo5VJkZDJk8%3D", Resource{Container: "uploads"}, true},
		{"sv=2018-11-09&se=2026-01-02T00%3A00%3A00Z&sr=b&sp=r&sig=TmEDLEZGsoNTTO0AtDqEZ2XUY%2FlZWST5ttW6n8WDJIo%3D", file, false},
		{"sv=2026-04-06&ss=b&srt=sco&st=2026-01-01T00%3A00%3A00Z&se=2026-01-02T00%3A00%3A00Z&sp=rl&sig=6628LJM0owcqZrGmnWVFwrAnvCMIQDb3bSohQp7AASg%3D", file, false},
	} {
		g, err := key.VerifySAS(query(t, c.sas), c.r, local, noon)
		if err != nil || !g.Covers(c.r, c.list) || !g.Allows("rl") {
			t.Errorf("%s: %+v, %v", c.sas, g, err)
		}
	}
}

func TestAccountSASIsForKindsOfResources(t *testing.T) {
	q := query(t, key.SignAccount("c", "c", noon.Add(time.Hour)))
	g, err := key.VerifySAS(q, Resource{Container: "new"}, local, noon)
	if err != nil || !g.Covers(Resource{Container: "new"}, false) || g.Covers(file, false) || g.Covers(Resource{}, false) {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestSourceOfASAS(t *testing.T) {
	for sip, want := range map[string]bool{"": true, "127.0.0.1": true, "127.0.0.2": false, "127.0.0.0-127.0.0.9": true, "10.0.0.0-10.0.0.9": false, "x": false, "127.0.0.1-": false} {
		if inRange(sip, netip.MustParseAddr("::ffff:127.0.0.1")) != want {
			t.Errorf("%q", sip)
		}
	}
}

func TestUnknownKindsOfSASAreRefused(t *testing.T) {
	for _, extra := range []string{"&si=policy", "&skoid=x"} {
		if _, err := key.VerifySAS(query(t, key.SignBlob(file, "r", noon)+extra), file, local, noon); !errors.Is(err, ErrNoSuchKind) {
			t.Errorf("%s: %v", extra, err)
		}
	}
}

func FuzzSAS(f *testing.F) {
	f.Add(key.SignBlob(file, "rw", noon.Add(time.Hour))[1:])
	f.Add(key.SignAccount("sco", "rwl", noon.Add(time.Hour)))
	f.Add("sv=2018-11-09&sr=c&se=2027-01-01&sp=l&sig=%2B%2F%3D&sip=1.2.3.4-5.6.7.8")
	known := map[string]bool{}
	for _, sas := range []string{key.SignBlob(file, "rw", noon.Add(time.Hour))[1:], key.SignAccount("sco", "rwl", noon.Add(time.Hour))} {
		known[query(f, sas).Get("sig")] = true
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		if _, err := key.VerifySAS(q, file, local, noon); err == nil && !known[strings.ReplaceAll(q.Get("sig"), " ", "+")] {
			t.Errorf("a signature that nobody made: %s", text)
		}
	})
}
