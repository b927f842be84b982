package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/certs/certtest"
)

// shakeHands connects as client to a server with config and returns what each side saw.
func shakeHands(t testing.TB, server, client *tls.Config) (serverSide, clientSide tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		raw, err := ln.Accept()
		if err != nil {
			serverErr = err
			return
		}
		conn := tls.Server(raw, server)
		defer conn.Close()
		serverErr = conn.HandshakeContext(context.Background())
		serverSide = conn.ConnectionState()
	})
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, client)
	clientErr = conn.HandshakeContext(context.Background())
	clientSide = conn.ConnectionState()
	if clientErr == nil {
		// TLS 1.3 clients learn only now whether the server took their certificate; the server closes.
		_, _ = conn.Read(make([]byte, 1))
	}
	conn.Close()
	wg.Wait()
	return serverSide, clientSide, serverErr, clientErr
}

// hello is what a current client sends.
func hello(name string, local net.Addr) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        name,
		SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256},
		SupportedCurves:   []tls.CurveID{tls.X25519, tls.CurveP256},
		SupportedPoints:   []uint8{0},
		CipherSuites:      []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		Conn:              connAt{addr: local},
	}
}

// connAt is a connection that only knows its local address.
type connAt struct {
	net.Conn
	addr net.Addr
}

func (c connAt) LocalAddr() net.Addr { return c.addr }

type textAddr string

func (textAddr) Network() string  { return "test" }
func (a textAddr) String() string { return string(a) }

func sans(cert *tls.Certificate) string {
	names := append([]string(nil), cert.Leaf.DNSNames...)
	for _, ip := range cert.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return strings.Join(names, " ")
}

func TestLeafIsForWhatTheClientAskedFor(t *testing.T) {
	a := mustOpen(t, "", Options{Hosts: []string{"build-7"}})
	unnamed := func(first string) string {
		dns := "localhost " + strings.Join(singleLabels, " ") + " build-7"
		return strings.TrimSpace(dns + " " + strings.TrimSpace(first+" 127.0.0.1 ::1"))
	}
	for _, c := range []struct {
		name  string
		local net.Addr
		want  string
	}{
		{"localhost", nil, "localhost 127.0.0.1 ::1"},
		{"LocalHost", nil, "localhost 127.0.0.1 ::1"},
		{"iolite.azure-devices.net", nil, "iolite.azure-devices.net"},
		{"Iolite", nil, "iolite"},
		{"127.0.0.1", nil, "localhost 127.0.0.1 ::1"}, // some clients send addresses, against RFC 6066 3
		{"127.0.0.5", nil, "localhost 127.0.0.5 127.0.0.1 ::1"},
		{"10.0.0.1", nil, "10.0.0.1"},
		{"", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443}, unnamed("")},
		{"", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 443}, unnamed("127.0.0.2")},
		{"", &net.TCPAddr{IP: net.ParseIP("fe80::9"), Zone: "eth0"}, unnamed("fe80::9")},
		{"", &net.TCPAddr{IP: net.ParseIP("172.17.0.2")}, unnamed("172.17.0.2")},
		{"", &net.TCPAddr{IP: net.IPv4(8, 8, 8, 8)}, unnamed("")},
		{"", textAddr("192.168.7.7:443"), unnamed("192.168.7.7")},
		{"", textAddr("pipe"), unnamed("")},
		{"", nil, unnamed("")},
	} {
		t.Run(fmt.Sprintf("%s at %v", c.name, c.local), func(t *testing.T) {
			cert, err := a.certificate(hello(c.name, c.local))
			if err != nil || cert == nil {
				t.Fatalf("got %v, %v", cert, err)
			}
			if diff := cmp.Diff(c.want, sans(cert)); diff != "" {
				t.Error(diff)
			}
			for _, ip := range cert.Leaf.IPAddresses {
				if err := verify(a, cert, ip.String()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Apple's systems and browsers refuse certificates of 398 days and more; strict ones want the server's purpose.
func TestShapeOfALeaf(t *testing.T) {
	a := mustOpen(t, "", Options{})
	leaf := mustMint(t, a, "localhost").Leaf
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life >= 398*24*time.Hour {
		t.Errorf("it lasts %v", life)
	}
	if early := a.now().Sub(leaf.NotBefore); early < time.Hour {
		t.Errorf("it is valid since %v: too short for a client whose clock is behind", early)
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || leaf.IsCA || !bytes.Equal(leaf.AuthorityKeyId, a.issuer.cert.SubjectKeyId) {
		t.Errorf("not a proper server certificate: %+v", leaf)
	}
}

func TestKeyTypeFollowsTheClient(t *testing.T) {
	a := mustOpen(t, "", Options{})
	for name, c := range map[string]struct {
		client  *tls.Config
		wantRSA bool
	}{
		"TLS 1.3":            {&tls.Config{MinVersion: tls.VersionTLS13}, false},
		"TLS 1.2":            {&tls.Config{MaxVersion: tls.VersionTLS12}, false},
		"TLS 1.2, ECDSA":     {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, false},
		"TLS 1.2, RSA":       {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, true},
		"TLS 1.2, RSA, CBC":  {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}, true},
		"TLS 1.2, no P-256":  {&tls.Config{MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.X25519}}, true},
		"without P-256, 1.3": {&tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.client.RootCAs, c.client.ServerName = a.Pool(), "iolite.azure-devices.net"
			_, got, serverErr, clientErr := shakeHands(t, a.TLSConfig(), c.client)
			if err := errors.Join(serverErr, clientErr); err != nil {
				t.Fatal(err)
			}
			if _, isRSA := got.PeerCertificates[0].PublicKey.(*rsa.PublicKey); isRSA != c.wantRSA {
				t.Errorf("the certificate's key is a %T", got.PeerCertificates[0].PublicKey)
			}
		})
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	a := mustOpen(t, "", Options{})
	_, _, serverErr, _ := shakeHands(t, a.TLSConfig(), &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, RootCAs: a.Pool(), ServerName: "localhost"})
	if serverErr == nil {
		t.Error("TLS 1.1 was spoken")
	}
}

// A client's certificate is asked for, may be missing, and is passed on whoever signed it and whenever it ended.
func TestClientCertificateIsRequestedNotRequired(t *testing.T) {
	a := mustOpen(t, "", Options{})
	device := certtest.SelfSigned(t, "device-1", certtest.Expired())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", MaxVersion: version}
		server, _, serverErr, clientErr := shakeHands(t, a.TLSConfig(), client)
		if err := errors.Join(serverErr, clientErr); err != nil || len(server.PeerCertificates) != 0 {
			t.Errorf("%s without a certificate: %v", tls.VersionName(version), err)
		}
		client.Certificates = []tls.Certificate{device}
		server, _, serverErr, clientErr = shakeHands(t, a.TLSConfig(), client)
		if err := errors.Join(serverErr, clientErr); err != nil {
			t.Fatalf("%s with a certificate: %v", tls.VersionName(version), err)
		}
		if len(server.PeerCertificates) != 1 || !server.PeerCertificates[0].Equal(device.Leaf) {
			t.Errorf("%s: the server did not get the device's certificate", tls.VersionName(version))
		}
	}
}

// Resumption saves the signature on reconnects; the resumed connection still proves the same device.
func TestSessionsResumeWithTheClientsCertificate(t *testing.T) {
	a := mustOpen(t, "", Options{})
	server := a.TLSConfig()
	device := certtest.SelfSigned(t, "device-1")
	client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{device}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for i, want := range []bool{false, true} {
		serverSide, clientSide, serverErr, clientErr := shakeHands(t, server, client)
		if err := errors.Join(serverErr, clientErr); err != nil {
			t.Fatal(err)
		}
		if clientSide.DidResume != want || len(serverSide.PeerCertificates) != 1 {
			t.Errorf("connection %d: resumed %v with %d client certificates", i, clientSide.DidResume, len(serverSide.PeerCertificates))
		}
	}
}

// A name outside the confinement gets no certificate that the client would refuse with less clear words, but an alert,
// and the log tells the operator what to do, at a bounded rate.
func TestNameOutsideTheConfinementIsRefusedLoudly(t *testing.T) {
	var log bytes.Buffer
	a := mustOpen(t, "", Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, name := range []string{"example.com", "my-service"} {
		_, _, serverErr, clientErr := shakeHands(t, a.TLSConfig(), &tls.Config{ServerName: name, RootCAs: a.Pool()})
		if clientErr == nil || !strings.Contains(clientErr.Error(), "unrecognized name") || serverErr == nil {
			t.Errorf("%s: client got %v, server %v", name, clientErr, serverErr)
		}
		if !strings.Contains(log.String(), `may not sign for \"`+name) || !strings.Contains(log.String(), "host name "+name) {
			t.Errorf("%s: log does not name the remedy: %s", name, log.String())
		}
	}
	for range 1000 {
		if cert, err := a.certificate(hello("example.com", nil)); cert != nil || err != nil {
			t.Fatalf("got %v, %v", cert, err)
		}
	}
	if lines := strings.Count(log.String(), "\n"); lines > 30 {
		t.Errorf("1,000 refusals wrote %d log lines", lines)
	}
	if n := a.leaves.len(); n != 0 {
		t.Errorf("%d leaves were made", n)
	}
}

func TestThousandHandshakesTogetherMintOnce(t *testing.T) {
	a := mustOpen(t, "", Options{})
	certs := make([]*tls.Certificate, 1000)
	var wg sync.WaitGroup
	for i := range certs {
		wg.Go(func() { certs[i], _ = a.certificate(hello("iolite.azure-devices.net", nil)) })
	}
	wg.Wait()
	for i, cert := range certs {
		if cert == nil || cert != certs[0] {
			t.Fatalf("handshake %d got another certificate", i)
		}
	}
}

// Hostile clients with ever new names cost a bounded number of certificates and bytes.
func TestManyNamesAreBoundedInMemoryAndNumber(t *testing.T) {
	a := mustOpen(t, "", Options{})
	at := a.now()
	a.now = func() time.Time { return at }
	minted := 0
	for i := range 5000 {
		if cert, _ := a.certificate(hello(fmt.Sprintf("hub-%d.localhost", i), nil)); cert != nil {
			minted++
		}
	}
	if a.leaves.len() > maxLeaves {
		t.Errorf("%d leaves are kept, want at most %d", a.leaves.len(), maxLeaves)
	}
	if minted > 2*maxLeaves {
		t.Errorf("%d leaves were minted at one moment, want at most %d", minted, 2*maxLeaves)
	}
	a.now = func() time.Time { return at.Add(time.Second) }
	if cert, _ := a.certificate(hello("localhost", nil)); cert == nil {
		t.Error("a second later there is still no certificate for localhost")
	}
}

func TestLeastRecentlyUsedLeafGoesFirst(t *testing.T) {
	a := mustOpen(t, "", Options{})
	a.leaves = newLeafCache(2)
	get := func(name string) *tls.Certificate {
		cert, err := a.leaf(leafKey{host: mustHost(t, name)})
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	one, two := get("one.test"), get("two.test")
	if get("one.test") != one {
		t.Fatal("a kept leaf was made again")
	}
	get("three.test")
	if get("one.test") != one {
		t.Error("the leaf used last was dropped")
	}
	if get("two.test") == two {
		t.Error("the leaf used longest ago was kept")
	}
}

// A process that runs for more than a year goes on.
func TestLeafIsRenewedBeforeItEnds(t *testing.T) {
	a := mustOpen(t, "", Options{})
	start := a.now()
	last, _ := a.certificate(hello("localhost", nil))
	for _, c := range []struct {
		days int
		kept bool
	}{{0, true}, {300, true}, {365, false}, {366, true}, {800, false}} {
		a.now = func() time.Time { return start.AddDate(0, 0, c.days) }
		got, err := a.certificate(hello("localhost", nil))
		if err != nil {
			t.Fatal(err)
		}
		if (got == last) != c.kept {
			t.Errorf("after %d days: kept %v, want %v", c.days, got == last, c.kept)
		}
		if left := got.Leaf.NotAfter.Sub(a.now()); left < 20*24*time.Hour {
			t.Errorf("after %d days the leaf has %v left", c.days, left)
		}
		last = got
	}
}

// A leaf cannot outlive its CA, and near the CA's end is not minted again for every handshake.
func TestLeafNearTheEndOfTheCA(t *testing.T) {
	a := mustOpen(t, "", Options{})
	at := a.issuer.cert.NotAfter.AddDate(0, 0, -10)
	a.now = func() time.Time { return at }
	first, _ := a.certificate(hello("localhost", nil))
	second, _ := a.certificate(hello("localhost", nil))
	if first == nil || first != second {
		t.Error("the leaf is minted again every time")
	}
	if !first.Leaf.NotAfter.Equal(a.issuer.cert.NotAfter) {
		t.Errorf("the leaf ends on %v, the CA on %v", first.Leaf.NotAfter, a.issuer.cert.NotAfter)
	}
}

// A failure to make a leaf is not kept: the next client may be served.
func TestFailedMintIsTriedAgain(t *testing.T) {
	a := mustOpen(t, "", Options{})
	broken := errors.New("no entropy")
	a.rsaKey = func() (*rsa.PrivateKey, error) { return nil, broken }
	key := leafKey{host: host{dns: "localhost"}, rsa: true}
	if _, err := a.leaf(key); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	a.rsaKey = mustOpen(t, "", Options{}).rsaKey
	if _, err := a.leaf(key); err != nil {
		t.Errorf("the failure was kept: %v", err)
	}
}

// One RSA key serves all names, and none is made as long as no client needs it.
func TestKeysAreMadeOncePerProcess(t *testing.T) {
	a := mustOpen(t, "", Options{})
	made := 0
	real := a.rsaKey
	a.rsaKey = func() (*rsa.PrivateKey, error) { made++; return real() }
	for _, name := range []string{"localhost", "iolite"} {
		cert, err := a.certificate(hello(name, nil))
		if err != nil {
			t.Fatal(err)
		}
		if cert.PrivateKey.(*ecdsa.PrivateKey) != a.ecKey {
			t.Error("a leaf has a key of its own")
		}
	}
	if made != 0 {
		t.Error("an RSA key was made that nobody needs")
	}
}

func TestLocalHostOfAWrappedConnection(t *testing.T) {
	want := host{addr: netip.MustParseAddr("10.0.0.7")}
	if got := localHost(connAt{addr: &net.TCPAddr{IP: net.ParseIP("::ffff:10.0.0.7")}}); got != want {
		t.Errorf("got %v", got)
	}
	if got := localHost(nil); got != (host{}) {
		t.Errorf("no connection: got %v", got)
	}
}
