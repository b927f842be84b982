package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

// Trust given once lasts: a second start finds the same CA, and writes nothing.
func TestOpenKeepsTheCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "iolite")
	first := mustOpen(t, dir, Options{})
	second := mustOpen(t, dir, Options{})
	if !first.Certificate().Equal(second.Certificate()) || !first.issuer.key.Equal(second.issuer.key) {
		t.Error("a second start made another CA")
	}
	onDisk, err := os.ReadFile(first.Path())
	if err != nil || !bytes.Equal(onDisk, first.PEM()) {
		t.Errorf("%s does not hold the CA (%v)", first.Path(), err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("temporary files were left behind: %v", entries)
	}
}

func TestOnlyTheOwnerMayReadTheKey(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes on Windows")
	}
	dir := filepath.Join(t.TempDir(), "iolite")
	a := mustOpen(t, dir, Options{})
	for path, want := range map[string]fs.FileMode{
		dir: 0o700, privatePath(dir): 0o700, issuerPath(dir): 0o600, a.Path(): 0o644,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

// The root's key must not exist: a stolen directory must not let anyone sign what Java would take from a root.
func TestKeptKeyIsNotTheRoots(t *testing.T) {
	a := mustOpen(t, t.TempDir(), Options{})
	if a.issuer.key.PublicKey.Equal(a.issuer.root.PublicKey) {
		t.Fatal("the kept key is the root's")
	}
	data, err := os.ReadFile(issuerPath(a.dir))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), "PRIVATE KEY-----\n"); n != 2 { // BEGIN and END
		t.Errorf("the file of the issuer holds %d key marks, want those of one key", n)
	}
}

// Clients check these: OpenSSL's and Python's strict mode, Java and .NET by RFC 5280, Apple's the life time.
func TestShapeOfTheCA(t *testing.T) {
	a := mustOpen(t, "", Options{})
	for name, cert := range map[string]*x509.Certificate{"root": a.issuer.root, "issuer": a.issuer.cert} {
		if !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(cert.SubjectKeyId) == 0 {
			t.Errorf("%s is not a proper CA: %+v", name, cert)
		}
		if !cert.PermittedDNSDomainsCritical || len(cert.PermittedDNSDomains) == 0 || len(cert.PermittedIPRanges) != len(privateRanges) {
			t.Errorf("%s has no critical name constraints", name)
		}
		if left := cert.NotAfter.Sub(clock.Wall()); left < 9*365*24*time.Hour || left > 11*365*24*time.Hour {
			t.Errorf("%s lasts %v, want about 10 years", name, left)
		}
	}
	if root := a.issuer.root; root.MaxPathLen != 1 {
		t.Errorf("path length of the root is %d, want 1", root.MaxPathLen)
	}
	if is := a.issuer.cert; is.MaxPathLen != 0 || !is.MaxPathLenZero || len(is.ExtKeyUsage) != 1 || is.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("the issuer may sign more than servers: %+v", is)
	}
}

// Two processes that start at once on an empty directory use one CA, else the clients of one would trust the other.
func TestProcessesStartedTogetherShareOneCA(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const processes = 8
	dir := filepath.Join(t.TempDir(), "iolite")
	outs := make([]bytes.Buffer, processes)
	cmds := make([]*exec.Cmd, processes)
	for i := range cmds {
		cmds[i] = exec.Command(exe)
		cmds[i].Env = append(os.Environ(), openDirEnv+"="+dir)
		cmds[i].Stdout, cmds[i].Stderr = &outs[i], &outs[i]
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("process %d: %v: %s", i, err, &outs[i])
		}
		if !bytes.Equal(outs[i].Bytes(), outs[0].Bytes()) {
			t.Errorf("process %d uses another CA than process 0", i)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("temporary files were left behind: %v", entries)
	}
}

// The same race inside one process, where the loser's whole path is seen by the race detector.
func TestLoserOfTheRaceUsesTheWinnersCA(t *testing.T) {
	dir := t.TempDir()
	winner := mustOpen(t, dir, Options{})
	is, err := createIssuer(dir, defaultConfinement(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if !is.cert.Equal(winner.issuer.cert) {
		t.Error("the loser made a CA of its own")
	}
}

func TestDamagedCAIsAnErrorThatSaysWhatToDo(t *testing.T) {
	other := mustOpen(t, t.TempDir(), Options{})
	otherFile, err := os.ReadFile(issuerPath(other.dir))
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(good []byte) []byte{
		"empty":         func([]byte) []byte { return nil },
		"cut short":     func(good []byte) []byte { return good[:len(good)*2/3] },
		"not PEM":       func([]byte) []byte { return bytes.Repeat([]byte{0xff}, 4000) },
		"a bit flipped": func(good []byte) []byte { good[len(good)/2] ^= 4; return good },
		"another CA's key": func(good []byte) []byte {
			return append(otherFile[:bytes.Index(otherFile, []byte("-----BEGIN CERT"))], good[bytes.Index(good, []byte("-----BEGIN CERT")):]...)
		},
		"without its root": func(good []byte) []byte { return good[:bytes.LastIndex(good, []byte("-----BEGIN CERT"))] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustOpen(t, dir, Options{})
			good, err := os.ReadFile(issuerPath(dir))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(issuerPath(dir), damage(good), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Open(dir, Options{})
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "delete "+privatePath(dir)) {
				t.Errorf("got error %v", err)
			}
		})
	}
}

func TestMissingIssuerFileIsDamage(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir, Options{})
	if err := os.Remove(issuerPath(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("got error %v, want ErrDamaged", err)
	}
}

func TestUnusableDirectoryIsAnError(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "iolite"), Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a directory below a file: got error %v, want one that names it", err)
	}
	mustOpen(t, dir, Options{})
	if err := os.RemoveAll(issuerPath(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(issuerPath(dir), 0o700); err != nil { // unreadable even for root
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "cannot read") {
		t.Errorf("an unreadable file: got error %v", err)
	}
}

// The public half is made anew from the private one, so a deleted or outdated ca.pem mends itself.
func TestCAFileIsMended(t *testing.T) {
	dir := t.TempDir()
	a := mustOpen(t, dir, Options{})
	if err := os.WriteFile(a.Path(), []byte("something else"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir, Options{})
	if got, _ := os.ReadFile(a.Path()); !bytes.Equal(got, a.PEM()) {
		t.Error("ca.pem was not mended")
	}
}

func TestExpiredCAIsAnError(t *testing.T) {
	dir := t.TempDir()
	is, err := newIssuer(defaultConfinement(), clock.Wall().AddDate(-caYears, 0, -1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keepIssuer(dir, is); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "expired on") {
		t.Errorf("got error %v", err)
	}
}

// A name given with --hostname is in the confinement of a new CA, and a kept CA without it is refused at start.
func TestHostsBelongToTheCAFromItsBirth(t *testing.T) {
	dir := t.TempDir()
	hosts := []string{"Build-7", "hub.example.org", "203.0.113.9", "2001:db8::7"}
	a := mustOpen(t, dir, Options{Hosts: hosts})
	for _, name := range hosts {
		if err := a.Allows(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"example.org", "203.0.113.10", "2001:db8::8"} {
		if err := a.Allows(name); !errors.Is(err, ErrNameNotAllowed) {
			t.Errorf("%s: got %v, want ErrNameNotAllowed", name, err)
		}
	}
	mustOpen(t, dir, Options{Hosts: hosts[:1]})
	_, err := Open(dir, Options{Hosts: []string{"build-8"}})
	if !errors.Is(err, ErrNameNotAllowed) || !strings.Contains(err.Error(), "delete "+privatePath(dir)) {
		t.Errorf("a further host on a kept CA: got error %v", err)
	}
}

func TestHostsThatWouldOpenTheConfinementAreRefused(t *testing.T) {
	for _, name := range []string{"com", "DE", "dev.", "io", "co.uk", "azure"} {
		if _, err := Open("", Options{Hosts: []string{name}}); !errors.Is(err, ErrNameNotAllowed) {
			t.Errorf("%s: got error %v, want ErrNameNotAllowed", name, err)
		}
	}
	if _, err := Open("", Options{Hosts: []string{"*.example.org"}}); err == nil {
		t.Error("a wildcard was taken")
	}
}

// Whether a CA is confined can be seen in the kept certificate, also by people, and is not changed by a later start.
func TestUnconstrainedIsVisibleAndStays(t *testing.T) {
	dir := t.TempDir()
	a := mustOpen(t, dir, Options{Unconstrained: true})
	if a.Constrained() || !strings.Contains(a.Certificate().Subject.CommonName, "unconstrained") {
		t.Errorf("CA %q does not say that it is unconstrained", a.Certificate().Subject)
	}
	var log bytes.Buffer
	again := mustOpen(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if again.Constrained() || !strings.Contains(log.String(), "not confined") {
		t.Errorf("a later start without the option is silent about it: %q", log.String())
	}
	if err := a.Allows("example.com"); err != nil {
		t.Error(err)
	}
	confined := mustOpen(t, t.TempDir(), Options{})
	if _, err := Open(confined.dir, Options{Unconstrained: true}); err == nil {
		t.Error("a constrained CA was opened as an unconstrained one")
	}
}

func TestNewCAInPlaceOfALostOneIsLogged(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir, Options{})
	if err := os.RemoveAll(privatePath(dir)); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	mustOpen(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if !strings.Contains(log.String(), "trust it again") {
		t.Errorf("log: %q", log.String())
	}
}

func TestInMemoryCAHasNoFiles(t *testing.T) {
	a := mustOpen(t, "", Options{})
	if a.Path() != "" {
		t.Errorf("path %q", a.Path())
	}
	_, envErr := a.Env("sh")
	_, storeErr := a.TrustStore()
	for _, err := range []error{envErr, storeErr, a.Trust(os.Stderr), a.Untrust(os.Stderr)} {
		if !errors.Is(err, ErrInMemory) {
			t.Errorf("got error %v, want ErrInMemory", err)
		}
	}
}

func TestDefaultDirIsInTheUsersConfiguration(t *testing.T) {
	base, err := os.UserConfigDir()
	if err != nil {
		t.Setenv("HOME", t.TempDir())
		base, _ = os.UserConfigDir()
	}
	if got, err := DefaultDir(); err != nil || got != filepath.Join(base, "iolite") {
		t.Errorf("got %s, %v", got, err)
	}
}
