// Package certtest makes X.509 certificates for devices in tests: self-signed ones, known to a hub by their
// thumbprints, and authorities with the chains below them. Nothing here is for use outside tests.
package certtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

// Option changes a certificate before it is signed.
type Option func(*x509.Certificate)

// Expired makes the certificate end an hour ago.
func Expired() Option {
	return func(c *x509.Certificate) { c.NotAfter = clock.Wall().Add(-time.Hour) }
}

// NotYetValid makes the certificate start in an hour.
func NotYetValid() Option {
	return func(c *x509.Certificate) { c.NotBefore = clock.Wall().Add(time.Hour) }
}

// ServerOnly makes a certificate that is not meant for clients.
func ServerOnly() Option {
	return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
}

// SelfSigned makes a device's self-signed certificate with an ECDSA P-256 key. It lasts a day.
func SelfSigned(t testing.TB, commonName string, opts ...Option) tls.Certificate {
	t.Helper()
	key := newKey(t)
	return issue(t, template(commonName, opts), nil, key, nil)
}

// SelfSignedRSA is SelfSigned with an RSA key of 2048 bits. It takes some tenths of a second.
func SelfSignedRSA(t testing.TB, commonName string, opts ...Option) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("certtest: %v", err)
	}
	return issue(t, template(commonName, opts), nil, key, nil)
}

// CA is an authority that signs devices' certificates.
type CA struct {
	Cert  *x509.Certificate
	key   crypto.Signer
	above [][]byte // the intermediates up to, and without, the root: what a device sends along
}

// NewCA makes a root.
func NewCA(t testing.TB, commonName string, opts ...Option) *CA {
	t.Helper()
	return newCA(t, commonName, nil, opts)
}

// Intermediate makes an authority below ca.
func (ca *CA) Intermediate(t testing.TB, commonName string, opts ...Option) *CA {
	t.Helper()
	return newCA(t, commonName, ca, opts)
}

// Device makes a device's certificate below ca. It lasts a day. The intermediates are part of what the device sends.
func (ca *CA) Device(t testing.TB, commonName string, opts ...Option) tls.Certificate {
	t.Helper()
	key := newKey(t)
	return issue(t, template(commonName, opts), ca, key, ca.above)
}

// PEM returns the authority's certificate, as one registers it with a hub.
func (ca *CA) PEM() []byte { return certPEM(ca.Cert.Raw) }

func newCA(t testing.TB, commonName string, parent *CA, opts []Option) *CA {
	t.Helper()
	key := newKey(t)
	tmpl := template(commonName, nil)
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage, tmpl.ExtKeyUsage = x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	for _, opt := range opts {
		opt(tmpl)
	}
	pair := issue(t, tmpl, parent, key, nil)
	ca := &CA{Cert: pair.Leaf, key: key}
	if parent != nil {
		ca.above = append([][]byte{pair.Leaf.Raw}, parent.above...)
	}
	return ca
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("certtest: %v", err)
	}
	return key
}

func template(commonName string, opts []Option) *x509.Certificate {
	now := clock.Wall()
	tmpl := &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName},
		NotBefore:   now.Add(-24 * time.Hour),
		NotAfter:    now.Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, opt := range opts {
		opt(tmpl)
	}
	return tmpl
}

// issue signs tmpl with ca, or with key itself if ca is nil.
func issue(t testing.TB, tmpl *x509.Certificate, ca *CA, key crypto.Signer, above [][]byte) tls.Certificate {
	t.Helper()
	parent, signer := tmpl, key
	if ca != nil {
		parent, signer = ca.Cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatalf("certtest: %v", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("certtest: %v", err)
	}
	return tls.Certificate{Certificate: append([][]byte{der}, above...), PrivateKey: key, Leaf: leaf}
}

// SHA1 returns the certificate's thumbprint in 40 hexadecimal digits, lower case.
func SHA1(cert tls.Certificate) string {
	sum := sha1.Sum(cert.Certificate[0])
	return hex.EncodeToString(sum[:])
}

// SHA256 returns the certificate's thumbprint in 64 hexadecimal digits, lower case.
func SHA256(cert tls.Certificate) string {
	sum := sha256.Sum256(cert.Certificate[0])
	return hex.EncodeToString(sum[:])
}

// Files writes cert's chain and its key (PKCS#8) in PEM, for clients that want files. They go away with the test.
func Files(t testing.TB, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, certPEM(der)...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatalf("certtest: %v", err)
	}
	certFile, keyFile = filepath.Join(dir, "device.pem"), filepath.Join(dir, "device.key")
	write(t, certFile, chain)
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return certFile, keyFile
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatalf("certtest: %v", err)
	}
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
