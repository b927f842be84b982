package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"
)

// testMachine is a Linux computer with one root, in the file that is returned.
func testMachine(t *testing.T, env map[string]string) (m machine, roots string) {
	t.Helper()
	roots = filepath.Join(t.TempDir(), "roots.crt")
	if err := os.WriteFile(roots, mustOpen(t, "", Options{}).PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return machine{goos: "linux", getenv: func(name string) string { return env[name] }, rootFiles: []string{"/does/not/exist", roots}}, roots
}

func readRoots(t *testing.T, path string) []*x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parseRoots(data)
}

// A shell that reads the lines ends up with the very values, whatever the directory is called.
func TestShellsReadTheValuesBack(t *testing.T) {
	nasty := `it's a "$HOME" dir \ %x% ;`
	if runtime.GOOS == "windows" {
		nasty = "it's a dir ;"
	}
	a := mustOpen(t, filepath.Join(t.TempDir(), nasty), Options{})
	for shell, command := range map[string][]string{
		"sh":         {"sh", "-c", `eval "$(cat "$1")"; printf %s "$NODE_EXTRA_CA_CERTS|$JAVA_TOOL_OPTIONS"`, "sh"},
		"fish":       {"fish", "-c", `cat $argv[1] | source; printf %s "$NODE_EXTRA_CA_CERTS|$JAVA_TOOL_OPTIONS"`},
		"powershell": {"pwsh", "-NoProfile", "-Command", `& {Get-Content $args[0] | Out-String | Invoke-Expression; [Console]::Out.Write("$env:NODE_EXTRA_CA_CERTS|$env:JAVA_TOOL_OPTIONS")}`},
	} {
		t.Run(shell, func(t *testing.T) {
			m, _ := testMachine(t, nil)
			lines, err := a.env(shell, m)
			if err != nil {
				t.Fatal(err)
			}
			if shell != "sh" {
				if _, err := exec.LookPath(command[0]); err != nil {
					t.Skipf("NOT TESTED: %s is missing", command[0]) // not a part of every CI machine
				}
			}
			file := filepath.Join(t.TempDir(), "env")
			if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(command[0], append(command[1:], file)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s\n%s", err, out, lines)
			}
			if want := a.Path() + "|" + a.javaOptions(m); string(out) != want {
				t.Errorf("got  %s\nwant %s", out, want)
			}
		})
	}
}

func TestLinesOfEachShell(t *testing.T) {
	for shell, want := range map[string]string{
		"sh":         `export NODE_EXTRA_CA_CERTS='/it'\''s'`,
		"fish":       `set -gx NODE_EXTRA_CA_CERTS '/it\'s'`,
		"powershell": `$env:NODE_EXTRA_CA_CERTS = '/it''s'`,
		"cmd":        `set "NODE_EXTRA_CA_CERTS=/it's"`,
	} {
		if got, err := dialects[shell].set("NODE_EXTRA_CA_CERTS", "/it's"); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", shell, got, err, want)
		}
	}
	if got, _ := dialects["cmd"].set("X", "100%"); got != `set "X=100%%"` {
		t.Errorf("cmd: got %s", got)
	}
	if _, err := dialects["cmd"].set("X", "a\"b"); err == nil {
		t.Error("cmd: a quote was taken, which cmd cannot write")
	}
}

// Every line of every shell is a comment or an assignment, so that none runs anything.
func TestEnvHoldsOnlyCommentsAndAssignments(t *testing.T) {
	assignment := map[string]string{"sh": "export ", "fish": "set -gx ", "powershell": "$env:", "cmd": `set "`}
	a := mustOpen(t, t.TempDir(), Options{})
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for _, shell := range Shells {
			m, _ := testMachine(t, nil)
			m.goos = goos
			text, err := a.env(shell, m)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(text) {
				if !strings.HasPrefix(line, dialects[shell].comment+" ") && !strings.HasPrefix(line, assignment[shell]) {
					t.Errorf("%s on %s: %s", shell, goos, line)
				}
			}
			for _, name := range []string{"NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "JAVA_TOOL_OPTIONS"} {
				if !strings.Contains(text, name) {
					t.Errorf("%s on %s: no %s", shell, goos, name)
				}
			}
		}
	}
}

// A line break in a path would end a comment, and run what follows.
func TestEnvRefusesPathsWithLineBreaks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such paths on Windows")
	}
	a := mustOpen(t, filepath.Join(t.TempDir(), "a\nb"), Options{})
	if text, err := a.Env("sh"); err == nil {
		t.Errorf("got %s", text)
	}
}

func TestUnknownShellIsAnError(t *testing.T) {
	a := mustOpen(t, t.TempDir(), Options{})
	if _, err := a.Env("tcsh"); !errors.Is(err, ErrUnknownShell) {
		t.Errorf("got error %v", err)
	}
}

func TestGuessedShell(t *testing.T) {
	for _, c := range []struct{ goos, shell, want string }{
		{"linux", "/usr/bin/fish", "fish"}, {"darwin", "/bin/zsh", "sh"}, {"linux", "", "sh"},
		{"windows", "", "powershell"}, {"windows", "/usr/bin/bash", "sh"},
	} {
		m := machine{goos: c.goos, getenv: func(string) string { return c.shell }}
		if got := m.shell(); got != c.want {
			t.Errorf("%s with %s: got %s, want %s", c.goos, c.shell, got, c.want)
		}
	}
}

// SSL_CERT_FILE and Java's trust store replace the system's roots, so both files must hold them too.
func TestBundlesHoldTheSystemsRootsAndTheCA(t *testing.T) {
	m, file := testMachine(t, nil)
	a := mustOpen(t, t.TempDir(), Options{})
	text, err := a.env("sh", m)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "what is in "+file) {
		t.Errorf("the comments do not say where the roots are from:\n%s", text)
	}
	store, err := os.ReadFile(javaBundlePath(a.dir))
	if err != nil {
		t.Fatal(err)
	}
	inStore, err := pkcs12.DecodeTrustStore(store, TrustStorePassword)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]*x509.Certificate{"bundle.pem": readRoots(t, bundlePath(a.dir)), "bundle.p12": inStore} {
		if len(got) != 2 || !got[0].Equal(a.Certificate()) || !got[1].Equal(readRoots(t, file)[0]) {
			t.Errorf("%s holds %d certificates, want the CA and the system's root", name, len(got))
		}
	}
}

// The user's own choice of roots is kept, and a bundle is not built upon itself, however often env is used.
func TestBundleStartsFromTheUsersChoiceOfRoots(t *testing.T) {
	a := mustOpen(t, t.TempDir(), Options{})
	company := filepath.Join(t.TempDir(), "company.pem")
	if err := os.WriteFile(company, mustOpen(t, "", Options{}).PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"SSL_CERT_FILE": company}
	m, file := testMachine(t, env)
	if _, from := a.systemRoots(m); from != company {
		t.Errorf("roots are from %s, want %s", from, company)
	}
	env["SSL_CERT_FILE"] = bundlePath(a.dir)
	for range 3 {
		if from, err := a.writeBundles(m); from != file || err != nil {
			t.Errorf("roots are from %s (%v), want %s", from, err, file)
		}
	}
	if n := len(readRoots(t, bundlePath(a.dir))); n != 2 {
		t.Errorf("after three times the bundle holds %d certificates", n)
	}
}

func TestWithoutSystemRootsTheCommentSaysSo(t *testing.T) {
	m, _ := testMachine(t, nil)
	m.rootFiles = nil
	text, err := mustOpen(t, t.TempDir(), Options{}).env("sh", m)
	if err != nil || strings.Count(text, "THIS CA ONLY") != 2 {
		t.Errorf("got %v:\n%s", err, text)
	}
}

func TestJavaOptionsOfTheUserAreKept(t *testing.T) {
	a := mustOpen(t, t.TempDir(), Options{})
	env := map[string]string{"JAVA_TOOL_OPTIONS": "-Xmx64m"}
	m, _ := testMachine(t, env)
	once := a.javaOptions(m)
	if !strings.HasPrefix(once, "-Xmx64m -Djavax.net.ssl.trustStore=") {
		t.Errorf("got %s", once)
	}
	env["JAVA_TOOL_OPTIONS"] = once
	if twice := a.javaOptions(m); twice != once {
		t.Errorf("a second time: got %s", twice)
	}
}

func TestExport(t *testing.T) {
	a := mustOpen(t, "", Options{})
	read := map[string]func([]byte) ([]*x509.Certificate, error){
		"pem":    func(b []byte) ([]*x509.Certificate, error) { return parseRoots(b), nil },
		"bundle": func(b []byte) ([]*x509.Certificate, error) { return parseRoots(b), nil },
		"der":    x509.ParseCertificates,
		"p12":    func(b []byte) ([]*x509.Certificate, error) { return pkcs12.DecodeTrustStore(b, TrustStorePassword) },
	}
	for _, format := range Formats {
		var b bytes.Buffer
		if err := a.Export(format, &b); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		got, err := read[format](b.Bytes())
		if err != nil || len(got) == 0 || !got[0].Equal(a.Certificate()) {
			t.Errorf("%s: holds %d certificates, %v", format, len(got), err)
		}
		if bytes.Contains(b.Bytes(), []byte("PRIVATE")) {
			t.Errorf("%s: holds a private key", format)
		}
	}
	if err := a.Export("jks", &bytes.Buffer{}); !errors.Is(err, ErrUnknownFormat) {
		t.Errorf("unknown format: got %v", err)
	}
}

func TestTrustStoreIsWrittenBesideTheCA(t *testing.T) {
	a := mustOpen(t, t.TempDir(), Options{})
	path, err := a.TrustStore()
	if err != nil || filepath.Dir(path) != a.dir {
		t.Fatalf("got %s, %v", path, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pkcs12.DecodeTrustStore(data, TrustStorePassword); err != nil || len(got) != 1 || !got[0].Equal(a.Certificate()) {
		t.Errorf("holds %d certificates, %v", len(got), err)
	}
}
