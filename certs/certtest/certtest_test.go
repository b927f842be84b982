package certtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/iolite-emulator/iolite/certs/certtest"
)

// A device sends its intermediates, so that whoever knows only the root can verify it.
func TestDeviceBelowIntermediatesVerifiesAgainstRoot(t *testing.T) {
	root := certtest.NewCA(t, "Root")
	device := root.Intermediate(t, "Factory").Intermediate(t, "Line 1").Device(t, "device-1")
	if got := len(device.Certificate); got != 3 {
		t.Fatalf("device sends %d certificates, want itself and two intermediates", got)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(root.PEM())
	for _, der := range device.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(cert)
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := device.Leaf.Verify(opts); err != nil {
		t.Errorf("device below intermediates: %v", err)
	}
	stranger := certtest.NewCA(t, "Root").Device(t, "device-1")
	if _, err := stranger.Leaf.Verify(opts); err == nil {
		t.Error("a device of another root with the same name verifies")
	}
	expired := root.Device(t, "device-1", certtest.Expired())
	if _, err := expired.Leaf.Verify(opts); err == nil {
		t.Error("an expired device verifies")
	}
	server := root.Device(t, "device-1", certtest.ServerOnly())
	if _, err := server.Leaf.Verify(opts); err == nil {
		t.Error("a server's certificate verifies as a client's")
	}
}

func TestFilesHoldTheKeyPair(t *testing.T) {
	for name, cert := range map[string]tls.Certificate{
		"EC":  certtest.SelfSigned(t, "device-1"),
		"RSA": certtest.SelfSignedRSA(t, "device-1", certtest.NotYetValid()),
	} {
		certFile, keyFile := certtest.Files(t, cert)
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, want := certtest.SHA256(pair), certtest.SHA256(cert); got != want || len(got) != 64 || len(certtest.SHA1(cert)) != 40 {
			t.Errorf("%s: thumbprint %s after a round trip, was %s", name, got, want)
		}
	}
}
