package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
)

// Many programs take either the system's roots or a file given to them, not both. For them the CA's directory gets
// bundle.pem, and for Java bundle.p12: the system's roots and the CA together.

func bundlePath(dir string) string     { return filepath.Join(dir, "bundle.pem") }
func javaBundlePath(dir string) string { return filepath.Join(dir, "bundle.p12") }

// rootFiles is where systems keep their roots in PEM: Debian, Ubuntu, Arch and Alpine; Fedora and RHEL; SUSE; macOS and
// FreeBSD. Windows has no such file.
var rootFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// systemRoots returns the roots that OpenSSL programs trust so far, and the file they are in: the user's own choice
// (SSL_CERT_FILE, unless it is a file of ours), or the system's. Both are empty if there is none.
func (a *Authority) systemRoots(m machine) (roots []*x509.Certificate, from string) {
	files := m.rootFiles
	if own := m.getenv("SSL_CERT_FILE"); own != "" && !a.owns(own) {
		files = append([]string{own}, files...)
	}
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil {
			return parseRoots(data), file
		}
	}
	return nil, ""
}

// owns reports whether path lies in the CA's directory.
func (a *Authority) owns(path string) bool {
	return a.dir != "" && strings.HasPrefix(filepath.Clean(path), a.dir+string(filepath.Separator))
}

// parseRoots leaves out what Go cannot read, such as the negative serial numbers of a few old roots.
func parseRoots(data []byte) []*x509.Certificate {
	var roots []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return roots
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			roots = append(roots, cert)
		}
	}
}

func encodeRoots(roots []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, root := range roots {
		b.Write(pemCertificate(root.Raw))
	}
	return b.Bytes()
}

// writeBundles brings bundle.pem and bundle.p12 up to date, and returns the file that the system's roots came from.
func (a *Authority) writeBundles(m machine) (from string, err error) {
	roots, from := a.systemRoots(m)
	roots = append([]*x509.Certificate{a.issuer.root}, roots...)
	if err := writeFile(bundlePath(a.dir), encodeRoots(roots)); err != nil {
		return "", err
	}
	// Its salt makes a trust store differ every time, so there is no telling whether the kept one is up to date.
	store, err := trustStore(roots)
	if err != nil {
		return "", err
	}
	return from, writeFile(javaBundlePath(a.dir), store)
}

// TrustStore writes ca.p12, a PKCS#12 trust store for Java that holds only this CA, beside the CA and returns its path.
// Its password is TrustStorePassword.
func (a *Authority) TrustStore() (string, error) {
	if a.dir == "" {
		return "", ErrInMemory
	}
	store, err := trustStore([]*x509.Certificate{a.issuer.root})
	if err != nil {
		return "", err
	}
	path := filepath.Join(a.dir, "ca.p12")
	return path, writeFile(path, store)
}
