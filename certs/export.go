package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strconv"

	"software.sslmate.com/src/go-pkcs12"
)

// ErrInMemory is returned where a file is needed and the CA was opened without a directory.
var ErrInMemory = errors.New("certs: this development CA is kept in memory only and has no files")

// ErrUnknownFormat is what errors.Is finds in the error about an export format that does not exist.
var ErrUnknownFormat = errors.New("certs: unknown export format")

// Formats lists what Export can write: the CA certificate in PEM or DER, a PKCS#12 trust store that holds it (for
// Java; its password is TrustStorePassword), and PEM with this system's roots and the CA.
var Formats = []string{"pem", "der", "p12", "bundle"}

// TrustStorePassword opens the PKCS#12 trust stores. They hold no secret.
const TrustStorePassword = "changeit"

// Export writes the CA certificate to w in one of Formats. Private keys are never exported.
func (a *Authority) Export(format string, w io.Writer) error {
	var data []byte
	var err error
	switch format {
	case "pem":
		data = a.PEM()
	case "der":
		data = a.issuer.root.Raw
	case "p12":
		data, err = trustStore([]*x509.Certificate{a.issuer.root})
	case "bundle":
		roots, _ := a.systemRoots(thisMachine())
		data = encodeRoots(append([]*x509.Certificate{a.issuer.root}, roots...))
	default:
		return fmt.Errorf("%w: %q (there are %q)", ErrUnknownFormat, format, Formats)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// trustStore makes a PKCS#12 file for Java. It uses the algorithms that every Java since 8 reads: the contents are
// public, so that they are old does not matter.
func trustStore(roots []*x509.Certificate) ([]byte, error) {
	entries := make([]pkcs12.TrustStoreEntry, len(roots))
	for i, root := range roots {
		// Java keeps one entry per alias, so each needs its own.
		entries[i] = pkcs12.TrustStoreEntry{Cert: root, FriendlyName: "iolite-" + strconv.Itoa(i)}
	}
	data, err := pkcs12.LegacyDES.EncodeTrustStoreEntries(entries, TrustStorePassword)
	if err != nil {
		return nil, fmt.Errorf("certs: make a trust store: %w", err)
	}
	return data, nil
}
