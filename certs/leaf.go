package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"time"
)

// Leaf certificates are renewed when less than renewBefore is left of leafLife, which stays under the 398 days beyond
// which browsers and Apple's systems refuse a certificate. They start leafEarly ago, for clients whose clock is behind.
const (
	leafLife    = 390 * 24 * time.Hour
	leafEarly   = 12 * time.Hour
	renewBefore = 30 * 24 * time.Hour
)

// mint signs a certificate for hosts and the public half of key.
func (a *Authority) mint(hosts []host, key crypto.Signer) (*tls.Certificate, error) {
	now := a.now()
	template := &x509.Certificate{
		// Not a name of the host: some clients take a common name that looks like one for a further name.
		Subject:     pkix.Name{CommonName: "Iolite development server"},
		NotBefore:   later(now.Add(-leafEarly), a.issuer.cert.NotBefore),
		NotAfter:    earlier(now.Add(leafLife), a.issuer.cert.NotAfter),
		KeyUsage:    keyUsage(key),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if h.addr.IsValid() {
			template.IPAddresses = append(template.IPAddresses, h.addr.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, h.dns)
		}
	}
	leaf, err := sign(template, a.issuer.cert, key.Public(), a.issuer.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.issuer.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func keyUsage(key crypto.Signer) x509.KeyUsage {
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		return x509.KeyUsageDigitalSignature
	}
	return x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// leafKey is what a leaf certificate is kept under.
type leafKey struct {
	host    host // the zero host: a client that names none, on a local address that the CA may not sign for
	unnamed bool // the client names no host; host is the local address
	rsa     bool
}

// signer returns the key that leaves of this kind share.
func (a *Authority) signer(key leafKey) (crypto.Signer, error) {
	if !key.rsa {
		return a.ecKey, nil
	}
	return a.rsaKey()
}
