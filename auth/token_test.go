package auth

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	testKey   = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	otherKey  = base64.StdEncoding.EncodeToString([]byte("another key that is long enough."))
	testUntil = time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC)
)

// A signature made apart from this package, by
// printf 'localhost%%2Fdevices%%2Fd1\n1767229200' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef -binary | base64
const opensslSignature = "49mwIN9pyRL66VtIpUp/+C5onMAHHnNQpqmlNPPWgNM="

func TestSignatureIsOpenSSLs(t *testing.T) {
	token, err := ParseToken("SharedAccessSignature sr=localhost%2Fdevices%2Fd1&sig=" + strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(opensslSignature) + "&se=1767229200")
	if err != nil {
		t.Fatal(err)
	}
	if !token.VerifiedBy(testKey) {
		t.Error("signature does not verify")
	}
	if token.VerifiedBy(otherKey) {
		t.Error("signature verifies with another key")
	}
}

func TestNewTokenVerifies(t *testing.T) {
	text, err := NewToken("localhost/devices/a+b%c", testKey, "device", testUntil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	host, path, err := token.Scope()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{"localhost", "devices/a+b%c", "device", testUntil, true}, []any{host, path, token.Policy, token.Expiry, token.VerifiedBy(testKey)}); diff != "" {
		t.Error(diff)
	}
}

func TestSignatureIsOverTheEncodedResource(t *testing.T) {
	mac := func(resource string) string {
		return strings.NewReplacer("+", "%2B", "/", "%2f", "=", "%3D").Replace(
			base64.StdEncoding.EncodeToString(sign([]byte("0123456789abcdef0123456789abcdef"), resource, "1767229200")))
	}
	for _, resource := range []string{"localhost%2fdevices%2fd1", "localhost%2Fdevices%2Fd1", "localhost/devices/d1"} {
		token, err := ParseToken("SharedAccessSignature sr=" + resource + "&sig=" + mac(resource) + "&se=1767229200")
		if err != nil {
			t.Fatal(err)
		}
		if !token.VerifiedBy(testKey) {
			t.Errorf("sr=%s: not verified over its own text", resource)
		}
		swapped, err := ParseToken("SharedAccessSignature sr=other&sig=" + mac(resource) + "&se=1767229200")
		if err != nil {
			t.Fatal(err)
		}
		if swapped.VerifiedBy(testKey) {
			t.Error("a token for another resource verified")
		}
	}
}

func TestParseTokenToleratesWhatTheServiceTolerates(t *testing.T) {
	sig := strings.TrimRight(strings.Repeat("A", 43), "") + "%3D"
	for name, text := range map[string]string{
		"any order":          "SharedAccessSignature se=1767229200&sig=" + sig + "&sr=h",
		"names in any case":  "SharedAccessSignature SR=h&Sig=" + sig + "&SE=1767229200",
		"lower-case hex":     "SharedAccessSignature sr=h&sig=" + strings.ToLower("%3D") + "&se=1",
		"unknown parameters": "SharedAccessSignature sr=h&sig=" + sig + "&se=1767229200&extra=1",
	} {
		if name == "lower-case hex" {
			text = "SharedAccessSignature sr=h&sig=" + strings.Replace(sig, "%3D", "%3d", 1) + "&se=1767229200"
		}
		if _, err := ParseToken(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseTokenRefusesMalformedOnes(t *testing.T) {
	sig := strings.Repeat("A", 43) + "="
	for name, text := range map[string]string{
		"empty":              "",
		"another scheme":     "Bearer sr=h&sig=" + sig + "&se=1",
		"no parameters":      "SharedAccessSignature ",
		"no sr":              "SharedAccessSignature sig=" + sig + "&se=1",
		"no se":              "SharedAccessSignature sr=h&sig=" + sig,
		"negative se":        "SharedAccessSignature sr=h&sig=" + sig + "&se=-1",
		"fractional se":      "SharedAccessSignature sr=h&sig=" + sig + "&se=1.5",
		"se out of range":    "SharedAccessSignature sr=h&sig=" + sig + "&se=99999999999999999999",
		"no sig":             "SharedAccessSignature sr=h&se=1",
		"short sig":          "SharedAccessSignature sr=h&sig=QUJD&se=1",
		"sig not base64":     "SharedAccessSignature sr=h&sig=***&se=1",
		"bad escape":         "SharedAccessSignature sr=h&sig=%zz&se=1",
		"parameter twice":    "SharedAccessSignature sr=h&SR=g&sig=" + sig + "&se=1",
		"value-less":         "SharedAccessSignature sr&sig=" + sig + "&se=1",
		"longer than limits": "SharedAccessSignature sr=" + strings.Repeat("h", MaxTokenLength) + "&sig=" + sig + "&se=1",
	} {
		if _, err := ParseToken(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestScopeIsPathBelowAnyHost(t *testing.T) {
	for resource, want := range map[string][2]string{
		"Localhost":                    {"localhost", ""},
		"h%2Fdevices%2Fd1":             {"h", "devices/d1"},
		"h%2fdevices%2fd1%2f":          {"h", "devices/d1"},
		"sb%3A%2F%2Fh%2Fiolite":        {"h", "iolite"},
		"amqps://h:5671/":              {"h:5671", ""},
		"h%2Fdevices%2Fa%2525":         {"h", "devices/a%25"},
		"h/devices/d1/modules/m1":      {"h", "devices/d1/modules/m1"},
		"sb://h/e/ConsumerGroups/$d/P": {"h", "e/ConsumerGroups/$d/P"},
	} {
		host, path, err := Token{Resource: resource}.Scope()
		if err != nil || host != want[0] || path != want[1] {
			t.Errorf("%s: %q %q %v, want %q", resource, host, path, err, want)
		}
	}
	if _, _, err := (Token{Resource: "h%zz"}).Scope(); err == nil {
		t.Error("bad escape accepted")
	}
}

func TestCoversIsSegmentWise(t *testing.T) {
	for _, c := range []struct {
		scope, resource string
		want            bool
	}{
		{"", "devices/d1", true},
		{"devices", "devices/d1/messages/events", true},
		{"devices/d1", "/devices/d1/messages/events", true},
		{"devices/d1", "devices/d10", false},
		{"devices/d1", "devices", false},
		{"Devices/d1", "devices/d1", true},
		{"devices/D1", "devices/d1", false},
		{"devices/d1/modules/m1", "devices/d1/modules/m1/messages/events", true},
		{"devices/d1/modules/M1", "devices/d1/modules/m1", false},
		{"devices/d1/modules/m1", "devices/d1", false},
		{"devices/a%2Bb", "devices/a+b", true},
		{"Messages/DeviceBound", "messages/devicebound", true},
		{"iolite", "iolite/ConsumerGroups/$Default/Partitions/0", true},
	} {
		if got := (Principal{Scope: c.scope}).Covers(c.resource); got != c.want {
			t.Errorf("%q covers %q = %v", c.scope, c.resource, got)
		}
	}
}

func TestRegistryWriteImpliesRead(t *testing.T) {
	if !RegistryWrite.Has(RegistryRead) || RegistryRead.Has(RegistryWrite) || ServiceConnect.Has(DeviceConnect) {
		t.Error("rights are confused")
	}
}

func FuzzParseToken(f *testing.F) {
	text, err := NewToken("localhost/devices/d1", testKey, "p", testUntil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("SharedAccessSignature sr=%&sig=%&se=1")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			return
		}
		if token.VerifiedBy(otherKey) {
			t.Fatal("a forged token verified")
		}
		_, path, err := token.Scope()
		if err != nil {
			return
		}
		ScopeIdentity(path)
		if p := (Principal{Scope: path}); !p.Covers(path) {
			t.Errorf("scope %q does not cover itself", path)
		}
	})
}
