package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"
)

// issuer is what an Authority signs with.
type issuer struct {
	root *x509.Certificate // what people trust; its key no longer exists
	cert *x509.Certificate // signed by root; sent along with every leaf
	key  *ecdsa.PrivateKey // of cert
}

// caYears is how long a CA lasts. Its validity starts a day early, for clients whose clock is behind.
const caYears = 10

// newIssuer makes a root and an issuer confined to limits, and forgets the root's key.
func newIssuer(limits confinement, now time.Time) (issuer, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return issuer{}, fmt.Errorf("certs: make a key: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return issuer{}, fmt.Errorf("certs: make a key: %w", err)
	}
	mark := make([]byte, 3) // tells one person's CAs apart in a list of trusted ones
	rand.Read(mark)
	root, err := sign(caTemplate("CA", mark, limits, now), nil, &rootKey.PublicKey, rootKey)
	if err != nil {
		return issuer{}, err
	}
	template := caTemplate("issuer", mark, limits, now)
	// No certificate authority below this one, and servers only: no e-mail, no code, no clients.
	template.MaxPathLen, template.MaxPathLenZero = 0, true
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	cert, err := sign(template, root, &key.PublicKey, rootKey)
	if err != nil {
		return issuer{}, err
	}
	return issuer{root: root, cert: cert, key: key}, nil
}

func caTemplate(role string, mark []byte, limits confinement, now time.Time) *x509.Certificate {
	name := "Iolite development " + role + " " + hex.EncodeToString(mark)
	if limits.everything {
		name += " unconstrained"
	}
	return &x509.Certificate{
		Subject:                     pkix.Name{CommonName: name, Organization: []string{"Iolite"}},
		NotBefore:                   now.Add(-24 * time.Hour),
		NotAfter:                    now.AddDate(caYears, 0, 0),
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLen:                  1,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         slices.Sorted(maps.Keys(limits.domains)),
		PermittedIPRanges:           ipNets(limits),
	}
}

func ipNets(limits confinement) []*net.IPNet {
	var nets []*net.IPNet
	for _, r := range limits.ranges {
		nets = append(nets, &net.IPNet{IP: r.Addr().AsSlice(), Mask: net.CIDRMask(r.Bits(), r.Addr().BitLen())})
	}
	return nets
}

// sign makes a certificate for pub. A nil parent means self-signed.
func sign(template, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("certs: sign a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certs: read back a certificate: %w", err)
	}
	return cert, nil
}

func (is issuer) rootPEM() []byte { return pemCertificate(is.root.Raw) }

// check reports why the parts cannot be one CA.
func (is issuer) check() error {
	if !is.key.PublicKey.Equal(is.cert.PublicKey) {
		return fmt.Errorf("the key is not the issuer's")
	}
	if !is.cert.IsCA || !is.root.IsCA {
		return fmt.Errorf("a certificate is not a CA's")
	}
	if err := is.cert.CheckSignatureFrom(is.root); err != nil {
		return fmt.Errorf("the CA did not sign the issuer: %w", err)
	}
	return nil
}

// checkTime refuses an expired CA: clients would, and with less clear words.
func (is issuer) checkTime(dir string, now time.Time) error {
	if now.Before(is.cert.NotAfter) {
		return nil
	}
	return fmt.Errorf("certs: the CA in %s expired on %s: delete %s, start again, and trust the new %s",
		dir, is.cert.NotAfter.Format(time.DateOnly), privatePath(dir), rootPath(dir))
}
