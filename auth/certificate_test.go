package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"testing"
	"time"
)

type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue signs a certificate; without a parent it signs itself.
func issue(t *testing.T, name string, isCA bool, parent *issuer) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: testUntil.Add(-time.Hour), NotAfter: testUntil.Add(time.Hour), IsCA: isCA, BasicConstraintsValid: true,
	}
	by := &issuer{template, key}
	if parent != nil {
		by = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{cert, key}
}

func TestThumbprintIsSHA1OrSHA256InAnyCase(t *testing.T) {
	cert := issue(t, "d1", false, nil).cert
	short, long := fmt.Sprintf("%x", sha1.Sum(cert.Raw)), fmt.Sprintf("%X", sha256.Sum256(cert.Raw))
	if !MatchThumbprint(cert, short, "") || !MatchThumbprint(cert, "", long) {
		t.Error("own thumbprint does not match")
	}
	if MatchThumbprint(cert, "", "") || MatchThumbprint(cert, short[:39]+"g", long[:63]) {
		t.Error("a foreign thumbprint matches")
	}
}

func TestChainMustReachARegisteredCA(t *testing.T) {
	root, other := issue(t, "root", true, nil), issue(t, "other", true, nil)
	middle := issue(t, "middle", true, root)
	leaf := issue(t, "d1", false, middle)
	registered := []*x509.Certificate{root.cert}
	if err := VerifyChain([]*x509.Certificate{leaf.cert, middle.cert}, registered, testUntil); err != nil {
		t.Errorf("good chain: %v", err)
	}
	for name, err := range map[string]error{
		"without its intermediate": VerifyChain([]*x509.Certificate{leaf.cert}, registered, testUntil),
		"of another CA":            VerifyChain([]*x509.Certificate{leaf.cert, middle.cert}, []*x509.Certificate{other.cert}, testUntil),
		"expired":                  VerifyChain([]*x509.Certificate{leaf.cert, middle.cert}, registered, testUntil.Add(2*time.Hour)),
		"no certificate":           VerifyChain(nil, registered, testUntil),
		"no CA":                    VerifyChain([]*x509.Certificate{leaf.cert}, nil, testUntil),
		"endless":                  VerifyChain(make([]*x509.Certificate, maxChain+1), registered, testUntil),
	} {
		if err == nil {
			t.Errorf("chain %s accepted", name)
		}
	}
}
