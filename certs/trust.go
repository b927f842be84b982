package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/smallstep/truststore"
)

// store is one place where certificates that programs trust are kept.
type store struct {
	name      string
	absent    func() error // why this computer does not have it; nil if it does
	install   func(*x509.Certificate) error
	uninstall func(*x509.Certificate) error
	byHand    string // what to do if it cannot be changed
}

// Trust adds the CA to the stores of this computer: the system's, Firefox's and other NSS programs', and Java's
// (of JAVA_HOME). It writes one line for each store to w and returns an error if one that is there could not be changed.
// On Linux and macOS it runs sudo, which may ask for a password on the terminal. Node and Python's requests look at none
// of these stores: see Env.
func (a *Authority) Trust(w io.Writer) error {
	if a.dir == "" {
		return ErrInMemory
	}
	if !a.Constrained() {
		fmt.Fprintln(w, "note: this CA has no name constraints; whoever holds its key can pose as any site to programs that trust it")
	}
	return a.eachStore(w, "trusts the CA", func(s store) error { return s.install(a.issuer.root) })
}

// Untrust takes the CA out of the stores that Trust puts it into.
func (a *Authority) Untrust(w io.Writer) error {
	if a.dir == "" {
		return ErrInMemory
	}
	return a.eachStore(w, "no longer trusts the CA", func(s store) error { return s.uninstall(a.issuer.root) })
}

// eachStore goes on after a failure, so that one locked store does not keep the others from being changed.
func (a *Authority) eachStore(w io.Writer, done string, change func(store) error) error {
	var failed error
	for _, s := range a.stores() {
		if err := s.absent(); err != nil {
			fmt.Fprintf(w, "%s: left out: %v\n", s.name, err)
			continue
		}
		if err := change(s); err != nil {
			failed = errors.Join(failed, fmt.Errorf("certs: %s: %w\n%s; the certificate is %s", s.name, explain(err), s.byHand, a.Path()))
			fmt.Fprintf(w, "%s: FAILED\n", s.name)
			continue
		}
		fmt.Fprintf(w, "%s: %s\n", s.name, done)
	}
	return failed
}

// explain adds what the failed command said.
func explain(err error) error {
	var cmd *truststore.CmdError
	if !errors.As(err, &cmd) {
		return err
	}
	if out := bytes.TrimSpace(cmd.Out()); len(out) > 0 {
		return fmt.Errorf("%w: %s", err, out)
	}
	return err
}

func systemStores() []store {
	nss, nssErr := truststore.NewNSSTrust()
	java, javaErr := truststore.NewJavaTrust()
	return []store{
		{
			name:    "system",
			absent:  func() error { return nil },
			install: func(c *x509.Certificate) error { return truststore.Install(c) },
			uninstall: func(c *x509.Certificate) error {
				return errors.Join(truststore.Uninstall(c), leftInJava(c, debianJava))
			},
			byHand: "run it again in a terminal with administrator rights, or change the system's store by hand",
		},
		otherStore("Firefox and NSS", nss, nssErr, nss.PreCheck,
			"close the browser and run it again, or import the certificate in the browser's settings"),
		otherStore("Java", java, javaErr, java.PreCheck,
			"run it again with the right to change Java's cacerts, or use the trust store of: emulator certs export"),
	}
}

// otherStore wraps one of truststore's. A nil t, which comes with an error, knows why in preCheck.
func otherStore(name string, t truststore.Trust, err error, preCheck func() error, byHand string) store {
	return store{
		name: name,
		absent: func() error {
			if why := preCheck(); why != nil {
				return why
			}
			return err
		},
		install: func(c *x509.Certificate) error {
			return truststore.Install(c, truststore.WithNoSystem(), truststore.WithTrust(t))
		},
		uninstall: func(c *x509.Certificate) error {
			return truststore.Uninstall(c, truststore.WithNoSystem(), truststore.WithTrust(t))
		},
		byHand: byHand,
	}
}

// debianJava is where Debian's ca-certificates-java copies the system's certificates for Java.
const debianJava = "/etc/ssl/certs/java/cacerts"

// leftInJava returns an error with the remedy if file, a Java key store, still holds cert: update-ca-certificates adds
// new certificates to it, but does not tell it of those whose file is gone.
func leftInJava(cert *x509.Certificate, file string) error {
	// A machine without the file has nothing left in it; the format leaves certificates as they are.
	if data, err := os.ReadFile(file); errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Contains(data, cert.Raw) {
		return nil
	} else if err != nil {
		return fmt.Errorf("see whether programs in Java still trust the CA: %w", err)
	}
	alias := strings.ToLower("debian:" + strings.ReplaceAll(cert.Subject.CommonName+" "+cert.SerialNumber.String(), " ", "_") + ".pem")
	return fmt.Errorf("programs in Java still trust the CA; to end that: sudo keytool -delete -keystore %s -storepass changeit -alias %s", file, alias)
}
