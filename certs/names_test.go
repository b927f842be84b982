package certs

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseHost(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a" // 253 characters
	for in, want := range map[string]string{
		"localhost":          "localhost",
		"Iolite.Azure.NET":   "iolite.azure.net",
		"iolite.":            "iolite",
		"my_service":         "my_service",
		"xn--bcher-kva.test": "xn--bcher-kva.test",
		"127.0.0.1":          "127.0.0.1",
		"127.0.0.1.":         "127.0.0.1",
		"::1":                "::1",
		"[::1]":              "::1",
		"fe80::1%eth0":       "fe80::1",
		"::ffff:10.0.0.1":    "10.0.0.1",
		long:                 long,
		long + ".":           long,
	} {
		h, err := parseHost(in)
		if err != nil || h.String() != want {
			t.Errorf("%q: got %q, %v; want %q", in, h, err, want)
		}
	}
	for _, in := range []string{
		"", ".", "..", "a..b", ".local", "*.local", "-a", "a-", "a b", "bücher.test", "a/b", "a:443", "a\x00b", "\xff",
		strings.Repeat("a", 64), long + "a", strings.Repeat("a", 100000), "a..",
	} {
		if h, err := parseHost(in); err == nil {
			t.Errorf("%.300q was taken as %q", in, h)
		}
	}
}

var allowedNames = []string{
	"localhost", "hub.localhost", "laptop.local", "host.docker.internal", "internal", "a.b.c.test",
	"iolite", "azure-iot-hub", "hub", "eventhubs-emulator", "a.iolite",
	"iolite.azure-devices.net", "iolite.azure-devices.cn", "iolite.azure-devices.us", "global.azure-devices-provisioning.net",
	"foo.servicebus.windows.net", "foo.servicebus.chinacloudapi.cn", "foo.servicebus.usgovcloudapi.net", "foo.servicebus.cloudapi.de",
	"foo.blob.core.windows.net", "foo.blob.core.usgovcloudapi.net",
	"127.0.0.1", "127.255.0.9", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.0.1",
	"::1", "fd00::2", "fe80::1", "::ffff:127.0.0.1",
}

var refusedNames = []string{
	"example.com", "net", "windows.net", "azure.com", "notazure-devices.net", "core.windows.net", "xlocalhost", "local.example.com",
	"iolite.azure-devices.net.example.com", "iolite.com", "other",
	"8.8.8.8", "172.15.0.1", "172.32.0.1", "0.0.0.0", "100.64.0.1", "2001:db8::1", "::", "::2", "::ffff:8.8.8.8",
}

// What allows says is what a client's check of the constraints says: of every name, both ways.
func TestAllowsAgreesWithTheCertificatesConstraints(t *testing.T) {
	a := mustOpen(t, "", Options{})
	for _, name := range allowedNames {
		if !a.limits.allows(mustHost(t, name)) {
			t.Errorf("%s is refused", name)
		}
		if err := verify(a, mustMint(t, a, name), mustHost(t, name).String()); err != nil {
			t.Errorf("%s is allowed, but clients say: %v", name, err)
		}
	}
	for _, name := range refusedNames {
		if a.limits.allows(mustHost(t, name)) {
			t.Errorf("%s is allowed", name)
		}
		if err := verify(a, mustMint(t, a, name), mustHost(t, name).String()); err == nil {
			t.Errorf("%s is refused, but clients take it", name)
		}
	}
}

// mustMint signs for name whatever the constraints say.
func mustMint(t testing.TB, a *Authority, name string) *tls.Certificate {
	t.Helper()
	cert, err := a.mint([]host{mustHost(t, name)}, a.ecKey)
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	return cert
}

// Nobody on the Internet owns a name below one that every CA permits, or the CA could sign for somebody's site.
func TestPermittedNamesAreNoPublicSuffixes(t *testing.T) {
	for _, name := range slices.Concat(singleLabels, localDomains, azureDomains) {
		if isPublicSuffix(name) {
			t.Errorf("%s is a public suffix", name)
		}
	}
}

func TestConfinementSurvivesTheCertificate(t *testing.T) {
	want := wanted([]host{{dns: "build-7"}, {addr: netip.MustParseAddr("203.0.113.9")}}, false)
	is, err := newIssuer(want, mustOpen(t, "", Options{}).now())
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]*x509.Certificate{"root": is.root, "issuer": is.cert} {
		got := readConfinement(cert.PermittedDNSDomains, cert.PermittedIPRanges)
		if len(got.domains) != len(want.domains) || len(got.ranges) != len(want.ranges) || got.everything {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
		for d := range want.domains {
			if !got.domains[d] {
				t.Errorf("%s lost %s", name, d)
			}
		}
		for i := range want.ranges {
			if got.ranges[i] != want.ranges[i] {
				t.Errorf("%s: range %v became %v", name, want.ranges[i], got.ranges[i])
			}
		}
	}
}
