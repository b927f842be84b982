// Package certs is the development certificate authority and the certificates that the TLS doors show.
//
// The authority is two certificates. The root is what people trust; its private key is thrown away the moment it has
// signed the other one, the issuer, and is never written anywhere. The issuer's key is kept and signs the doors'
// certificates on demand. Both carry critical name constraints (RFC 5280 4.2.1.10) that confine them to loopback and
// private addresses, names that never leave a machine or a local network, and Azure's own suffixes, so a stolen
// issuer key is of no use against other sites. The constraints stand in both because Java ignores those of a
// root (RFC 5280 6.2 leaves that open; seen with OpenJDK 17), while it enforces those of an issuer.
//
// OpenSSL, Node, Python (its strict mode too), Go, curl and Java accept such an authority, and refuse what it signs
// outside its confinement; the tests run all six. GnuTLS 3.7, NSS (Firefox) 3.87 and wolfSSL 5.5 did the same when tried
// by hand. A client that does not know name constraints must refuse a CA in which they are critical, and Mbed TLS
// 2.28 does: Options.Unconstrained makes a CA without them. A client that cannot check ECDSA signatures at all
// cannot use this CA: RSA certificates are for clients that offer no ECDSA cipher suite.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/iolite-emulator/iolite/clock"
)

// Options says what kind of CA is wanted. The zero value works.
type Options struct {
	// Hosts are further names and addresses that certificates are wanted for. They become part of the CA's confinement
	// when it is made; a kept CA that does not permit one of them makes Open fail. A name permits everything below it,
	// so top-level domains and other public suffixes are refused.
	Hosts []string

	// Unconstrained makes a CA without name constraints, for clients that do not know them. Whoever trusts such a CA
	// trusts its key's holder with every name on the Internet.
	Unconstrained bool

	// Logger is told of a new CA, and of names that a client asked for in vain. Nil means no log.
	Logger *slog.Logger
}

// Authority is an open development CA. All methods may be called from any goroutine.
type Authority struct {
	dir     string // absolute; "" when in memory only
	issuer  issuer
	limits  confinement
	unnamed []host // what the certificate for a client that names no host is for, besides the local address
	log     *slog.Logger
	now     func() time.Time
	stores  func() []store

	ecKey    *ecdsa.PrivateKey
	rsaKey   func() (*rsa.PrivateKey, error) // made at its first use
	leaves   *leafCache
	mints    *rate.Limiter
	warnings *rate.Limiter // of the log lines that clients can cause
}

// DefaultDir returns the directory where a user's CA is kept: iolite in the user's configuration directory.
func DefaultDir() (string, error) {
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("certs: no directory to keep the development CA in (give one): %w", err)
	}
	return filepath.Join(base, "iolite"), nil
}

// Open returns the CA kept in dir and makes one if there is none; two processes that start at once end up with the same
// CA. With dir "" the CA lives in memory only. It fails if the kept CA is damaged, unreadable or expired, or does not
// permit what opts asks for; the error says what to do.
func Open(dir string, opts Options) (*Authority, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	hosts, err := parseHosts(opts.Hosts)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, fmt.Errorf("certs: %w", err)
		}
	}
	is, err := openIssuer(dir, wanted(hosts, opts.Unconstrained), opts.Logger)
	if err != nil {
		return nil, err
	}
	return newAuthority(dir, is, hosts, opts)
}

// wanted is the confinement of a CA made for hosts.
func wanted(hosts []host, unconstrained bool) confinement {
	if unconstrained {
		return confinement{everything: true}
	}
	limits := defaultConfinement()
	for _, h := range hosts {
		if !limits.allows(h) {
			limits.add(h)
		}
	}
	return limits
}

func openIssuer(dir string, limits confinement, log *slog.Logger) (issuer, error) {
	if dir == "" {
		return newIssuer(limits, clock.Wall())
	}
	is, err := loadIssuer(dir)
	if errors.Is(err, os.ErrNotExist) {
		is, err = createIssuer(dir, limits, log)
	}
	if err != nil {
		return issuer{}, err
	}
	if err := is.checkTime(dir, clock.Wall()); err != nil {
		return issuer{}, err
	}
	return is, writeFile(rootPath(dir), is.rootPEM())
}

func newAuthority(dir string, is issuer, hosts []host, opts Options) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("certs: make a key: %w", err)
	}
	a := &Authority{
		dir:      dir,
		issuer:   is,
		limits:   readConfinement(is.cert.PermittedDNSDomains, is.cert.PermittedIPRanges),
		log:      opts.Logger,
		now:      clock.Wall,
		stores:   systemStores,
		ecKey:    key,
		rsaKey:   sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }),
		leaves:   newLeafCache(maxLeaves),
		mints:    rate.NewLimiter(mintsPerSecond, maxLeaves*2),
		warnings: rate.NewLimiter(1, 20),
	}
	if err := a.checkOptions(hosts, opts); err != nil {
		return nil, err
	}
	a.unnamed = a.unnamedHosts(hosts)
	return a, nil
}

// checkOptions refuses a kept CA that is not what was asked for, rather than letting clients find out.
func (a *Authority) checkOptions(hosts []host, opts Options) error {
	if opts.Unconstrained && !a.limits.everything {
		return fmt.Errorf("certs: the CA in %s was made with name constraints and cannot lose them: %s", a.dir, a.remedy("the same option"))
	}
	if a.limits.everything && !opts.Unconstrained {
		a.log.Warn("the development CA is not confined to local names: trust it with care", "dir", a.dir)
	}
	for _, h := range hosts {
		if err := a.allows(h); err != nil {
			return err
		}
	}
	return nil
}

// allows returns an error that names the remedy unless the CA may sign for h.
func (a *Authority) allows(h host) error {
	if a.limits.allows(h) {
		return nil
	}
	return fmt.Errorf("%w: the development CA, confined to private addresses, localhost, .local, .internal, .test, a few names without a dot and Azure's domains, may not sign for %q: "+
		"use such a name, or %s", ErrNameNotAllowed, h.String(), a.remedy("the host name "+h.String()))
}

// remedy says how to get a CA with a property that this one was not made with.
func (a *Authority) remedy(property string) string {
	if a.dir == "" {
		return fmt.Sprintf("start with %s", property)
	}
	return fmt.Sprintf("delete %s, start again with %s (a new CA is made), and trust the new %s", privatePath(a.dir), property, rootPath(a.dir))
}

// Allows returns nil if the CA may sign for name, a host name or an IP address, and otherwise an error that wraps
// ErrNameNotAllowed and says what to do.
func (a *Authority) Allows(name string) error {
	h, err := parseHost(name)
	if err != nil {
		return fmt.Errorf("%w: %q: %w", ErrNameNotAllowed, name, err)
	}
	return a.allows(h)
}

// Constrained reports whether the CA carries name constraints.
func (a *Authority) Constrained() bool { return !a.limits.everything }

// Path returns the file with the CA certificate (PEM), or "" for a CA in memory only.
func (a *Authority) Path() string {
	if a.dir == "" {
		return ""
	}
	return rootPath(a.dir)
}

// Certificate returns the CA certificate, the one to trust. Do not change it.
func (a *Authority) Certificate() *x509.Certificate { return a.issuer.root }

// PEM returns the CA certificate in PEM.
func (a *Authority) PEM() []byte { return a.issuer.rootPEM() }

// DER returns a copy of the CA certificate in DER.
func (a *Authority) DER() []byte { return append([]byte(nil), a.issuer.root.Raw...) }

// Pool returns a new pool that holds only this CA, for clients written in Go.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.issuer.root)
	return pool
}

func pemCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
