package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/iolite-emulator/iolite/clock"
)

// ErrDamaged is what errors.Is finds in the error about a kept CA that cannot be read as one.
var ErrDamaged = errors.New("certs: the kept development CA is damaged")

// The directory of a CA holds ca.pem, which others may read, and private/issuer.pem, from which ca.pem can be made
// again. All that must fit together is in that one file, and the directory private appears by one rename, which fails
// if it is there already: so a reader sees a whole CA or none, and of two processes that make one at once one wins.
// Nothing is synced to disk: a power cut right after the first start may leave a damaged CA, which Open reports.

func rootPath(dir string) string    { return filepath.Join(dir, "ca.pem") }
func privatePath(dir string) string { return filepath.Join(dir, "private") }
func issuerPath(dir string) string  { return filepath.Join(dir, "private", "issuer.pem") }

// maxIssuerFile bounds how much of a kept CA is read, in octets. A usual one has under 6,000.
const maxIssuerFile = 1 << 20

// loadIssuer reads the CA kept in dir. The error wraps fs.ErrNotExist if there is none.
func loadIssuer(dir string) (issuer, error) {
	path := issuerPath(dir)
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(privatePath(dir)); err == nil {
			return issuer{}, damaged(dir, errors.New("issuer.pem is missing"))
		}
		return issuer{}, err
	}
	if err != nil {
		return issuer{}, fmt.Errorf("certs: cannot read the development CA (was it made by another user, or with sudo?): %w", err)
	}
	is, err := decodeIssuer(data)
	if err != nil {
		return issuer{}, damaged(dir, err)
	}
	return is, nil
}

func damaged(dir string, err error) error {
	return fmt.Errorf("%w: %s: %w: delete %s, start again, and trust the new %s",
		ErrDamaged, issuerPath(dir), err, privatePath(dir), rootPath(dir))
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxIssuerFile))
}

// createIssuer makes a CA in dir, or loads the one that another process has just made there.
func createIssuer(dir string, limits confinement, log *slog.Logger) (issuer, error) {
	is, err := newIssuer(limits, clock.Wall())
	if err != nil {
		return issuer{}, err
	}
	if _, err := os.Stat(rootPath(dir)); err == nil {
		log.Warn("the key of the development CA is gone, so a new CA takes its place: trust it again", "path", rootPath(dir))
	}
	won, err := keepIssuer(dir, is)
	if err != nil {
		return issuer{}, fmt.Errorf("certs: cannot keep the development CA in %s: %w", dir, err)
	}
	if !won {
		return loadIssuer(dir)
	}
	log.Info("made a development CA", "path", rootPath(dir), "name", is.root.Subject.CommonName, "constrained", !limits.everything)
	return is, nil
}

// keepIssuer writes is into dir, and returns false if a CA is there already.
func keepIssuer(dir string, is issuer) (won bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	data, err := encodeIssuer(is)
	if err != nil {
		return false, err
	}
	temp, err := os.MkdirTemp(dir, ".private-") // mode 0700
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(temp)
	if err := os.WriteFile(filepath.Join(temp, "issuer.pem"), data, 0o600); err != nil {
		return false, err
	}
	err = os.Rename(temp, privatePath(dir))
	if err == nil {
		return true, nil
	}
	if _, statErr := os.Stat(privatePath(dir)); statErr == nil {
		return false, nil
	}
	return false, err
}

func encodeIssuer(is issuer) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(is.key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	b.Write(pemCertificate(is.cert.Raw))
	b.Write(pemCertificate(is.root.Raw))
	return b.Bytes(), nil
}

// decodeIssuer reads what encodeIssuer writes: the issuer's key, the issuer, the root.
func decodeIssuer(data []byte) (issuer, error) {
	keyDER, data, err := pemBlock(data, "PRIVATE KEY")
	if err != nil {
		return issuer{}, err
	}
	certDER, data, err := pemBlock(data, "CERTIFICATE")
	if err != nil {
		return issuer{}, err
	}
	rootDER, _, err := pemBlock(data, "CERTIFICATE")
	if err != nil {
		return issuer{}, err
	}
	var is issuer
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return issuer{}, err
	}
	var ok bool
	if is.key, ok = key.(*ecdsa.PrivateKey); !ok {
		return issuer{}, fmt.Errorf("the key is a %T, not an ECDSA key", key)
	}
	if is.cert, err = x509.ParseCertificate(certDER); err != nil {
		return issuer{}, err
	}
	if is.root, err = x509.ParseCertificate(rootDER); err != nil {
		return issuer{}, err
	}
	return is, is.check()
}

func pemBlock(data []byte, kind string) (der, rest []byte, err error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, nil, fmt.Errorf("no %s where one should be", kind)
	}
	return block.Bytes, rest, nil
}

// writeFile puts data that everybody may read at path by one rename, unless it is there already, so that a read-only directory
// will do.
func writeFile(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := replaceFile(path, data, 0o644); err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	return nil
}

func replaceFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails, as it should, once renamed
	_, err = f.Write(data)
	if err == nil && runtime.GOOS != "windows" {
		err = f.Chmod(mode)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
