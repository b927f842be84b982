package auth

import (
	"crypto/sha1" //nolint:gosec // IoT Hub's thumbprints are SHA-1 or SHA-256 by definition
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxChain bounds how many certificates of a handshake are looked at.
const maxChain = 10

// MatchThumbprint reports whether the certificate's SHA-1 (40 hex digits) or SHA-256 (64) is one of the two thumbprints, in
// any case. An empty thumbprint matches nothing.
func MatchThumbprint(cert *x509.Certificate, primary, secondary string) bool {
	return matches(cert, primary) || matches(cert, secondary)
}

func matches(cert *x509.Certificate, thumbprint string) bool {
	switch len(thumbprint) {
	case 2 * sha1.Size:
		sum := sha1.Sum(cert.Raw) //nolint:gosec // see the import
		return strings.EqualFold(hex.EncodeToString(sum[:]), thumbprint)
	case 2 * sha256.Size:
		sum := sha256.Sum256(cert.Raw)
		return strings.EqualFold(hex.EncodeToString(sum[:]), thumbprint)
	}
	return false
}

// VerifyChain reports why the certificates of a TLS handshake, leaf first, do not chain up to one of the registered CAs at the
// hub's time now, or nil. The leaf needs no extended key usage: IoT Hub asks for none.
func VerifyChain(certs, registered []*x509.Certificate, now time.Time) error {
	if len(certs) == 0 {
		return errors.New("no client certificate")
	}
	if len(certs) > maxChain {
		return fmt.Errorf("client certificate chain is longer than %d", maxChain)
	}
	if len(registered) == 0 {
		return errors.New("no CA is registered with the hub")
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, ca := range registered {
		roots.AddCert(ca)
	}
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}
