package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/iolite-emulator/iolite/certs"
)

type certsCmd struct {
	Export  certsExportCmd  `cmd:"" help:"Write the CA certificate."`
	Env     certsEnvCmd     `cmd:"" help:"Print lines for a shell that make Node, Python, Java, .NET, Go and curl trust the CA."`
	Trust   certsTrustCmd   `cmd:"" help:"Add the CA to this computer's trust stores."`
	Untrust certsUntrustCmd `cmd:"" help:"Take the CA out of them."`
}

// caFlags find the CA. The CA is made if there is none yet, so that trust can be given before the first start.
type caFlags struct {
	CertsDir string `default:"${certsDir}" help:"Where the development CA is kept."`
}

func (f caFlags) open(stderr io.Writer) (*certs.Authority, error) {
	if f.CertsDir == "" {
		return nil, errors.New("no directory for the development CA: give one with --certs-dir")
	}
	return certs.Open(f.CertsDir, certs.Options{Logger: newLogger(stderr, "text", slog.LevelInfo.String())})
}

type certsExportCmd struct {
	caFlags
	Format string `env:"-" default:"pem" enum:"pem,der,p12,bundle" help:"pem, der, p12 (Java trust store, password changeit) or bundle (this system's roots and the CA)."`
	Out    string `env:"-" short:"o" default:"-" help:"File to write, - for standard output." placeholder:"FILE"`
}

// Run writes the certificate.
func (c *certsExportCmd) Run(a *app) error {
	ca, err := c.open(a.stderr)
	if err != nil {
		return err
	}
	if c.Out == "-" {
		return ca.Export(c.Format, a.stdout)
	}
	f, err := os.Create(c.Out)
	if err != nil {
		return err
	}
	return errors.Join(ca.Export(c.Format, f), f.Close())
}

type certsEnvCmd struct {
	caFlags
	Shell string `env:"-" enum:"sh,fish,powershell,cmd," default:"" help:"sh, fish, powershell or cmd; guessed when not given."`
}

// Run prints the lines.
func (c *certsEnvCmd) Run(a *app) error {
	ca, err := c.open(a.stderr)
	if err != nil {
		return err
	}
	lines, err := ca.Env(c.Shell)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(a.stdout, lines)
	return err
}

type certsTrustCmd struct{ caFlags }

// Run adds the CA to the trust stores.
func (c *certsTrustCmd) Run(a *app) error {
	ca, err := c.open(a.stderr)
	if err != nil {
		return err
	}
	return ca.Trust(a.stdout)
}

type certsUntrustCmd struct{ caFlags }

// Run takes the CA out of the trust stores.
func (c *certsUntrustCmd) Run(a *app) error {
	ca, err := c.open(a.stderr)
	if err != nil {
		return err
	}
	return ca.Untrust(a.stdout)
}
