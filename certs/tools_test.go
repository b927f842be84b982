package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// These tests run real clients against the CA: each must take what the CA signs inside its confinement, and refuse
// what its stolen key could sign outside. Where a client is missing they are skipped, but with CI=true they fail.

func needTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing, so nothing is known of what it thinks of the CA", name)
	}
	t.Skipf("NOT TESTED: %s is missing", name)
	return ""
}

// target is one connection that a client is to try.
type target struct {
	address, port string
	name          string // host name or address that the certificate must be for
	refused       bool
}

func (t target) String() string { return t.address + " " + t.port + " " + t.name }

func (t target) isIP() bool { _, err := netip.ParseAddr(t.name); return err == nil }

// rig is a CA and servers with it: honest ones, and one that signs whatever it likes with the CA's key.
type rig struct {
	ca      *Authority
	targets []target
}

// newRig makes a rig. Under an unconstrained CA nothing is refused: this proves that it is the constraints which
// make clients refuse, and not some flaw of the test.
func newRig(t *testing.T, opts Options) rig {
	t.Helper()
	r := rig{ca: mustOpen(t, filepath.Join(t.TempDir(), "certs dir"), opts)}
	port := serve(t, "127.0.0.1:0", r.ca.TLSConfig())
	for _, name := range []string{"localhost", "127.0.0.1", "iolite", "iolite.azure-devices.net", "foo.servicebus.windows.net"} {
		r.targets = append(r.targets, target{"127.0.0.1", port, name, false})
	}
	if hasIPv6(t) {
		r.targets = append(r.targets, target{"::1", serve(t, "[::1]:0", r.ca.TLSConfig()), "::1", false})
	}
	rogue := serve(t, "127.0.0.1:0", &tls.Config{GetCertificate: r.ca.signAnything})
	for _, name := range []string{"example.com", rogueAddress} {
		r.targets = append(r.targets, target{"127.0.0.1", rogue, name, !opts.Unconstrained})
	}
	return r
}

// rogueAddress is a name inside the confinement whose certificate from the rogue server is for a foreign address too.
const rogueAddress = "address.localhost"

// signAnything is what a thief of the issuer's key would run.
func (a *Authority) signAnything(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	hosts := []host{{dns: hello.ServerName}}
	if hello.ServerName == rogueAddress {
		hosts = append(hosts, host{addr: netip.MustParseAddr("8.8.8.8")})
	}
	return a.mint(hosts, a.ecKey)
}

func hasIPv6(t *testing.T) bool {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Logf("NOT TESTED: ::1 cannot be bound: %v", err)
		return false
	}
	ln.Close()
	return true
}

func (r rig) args() []string {
	var args []string
	for _, to := range r.targets {
		args = append(args, to.String())
	}
	return args
}

// check compares a client's lines, one for each target, with what is wanted. violation is how it names a broken
// constraint, so that a refusal for another reason does not pass.
func (r rig) check(t *testing.T, lines []string, violation string) {
	t.Helper()
	if len(lines) != len(r.targets) {
		t.Fatalf("%d answers for %d targets: %q", len(lines), len(r.targets), lines)
	}
	for i, to := range r.targets {
		switch got := lines[i]; {
		case !to.refused && got != "OK":
			t.Errorf("%s: refused: %s", to.name, got)
		case to.refused && got == "OK":
			t.Errorf("%s: accepted, although the CA may not sign for it", to.name)
		case to.refused && !strings.Contains(got, violation):
			t.Errorf("%s: refused for another reason than %q: %s", to.name, violation, got)
		}
	}
}

// command is a client in an environment as Env sets it.
func (r rig) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	m := thisMachine()
	m.getenv = func(string) string { return "" }
	from, err := r.ca.writeBundles(m)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = os.Environ()
	for _, s := range r.ca.settings(m, from) {
		if s.name != "" {
			cmd.Env = append(cmd.Env, s.name+"="+s.value)
		}
	}
	return cmd
}

// run gives a script all targets at once and returns the lines that it prints.
func (r rig) run(t *testing.T, name string, args ...string) []string {
	t.Helper()
	cmd := r.command(t, name, append(args, r.args()...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, &stderr)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// both runs a client's test under a confined CA and under one that is not.
func both(t *testing.T, test func(t *testing.T, r rig)) {
	t.Run("constrained", func(t *testing.T) { test(t, newRig(t, Options{})) })
	t.Run("unconstrained", func(t *testing.T) { test(t, newRig(t, Options{Unconstrained: true})) })
}

func TestNode(t *testing.T) {
	node := needTool(t, "node")
	both(t, func(t *testing.T, r rig) {
		r.check(t, r.run(t, node, "testdata/connect.js"), "permitted subtree violation")
	})
}

func TestPython(t *testing.T) {
	python := needTool(t, "python3")
	both(t, func(t *testing.T, r rig) {
		r.check(t, r.run(t, python, "testdata/connect.py", "default"), "permitted subtree violation")
		r.check(t, r.run(t, python, "testdata/connect.py", "strict"), "permitted subtree violation")
	})
}

func TestJava(t *testing.T) {
	java, javac := needTool(t, "java"), needTool(t, "javac")
	classes := t.TempDir()
	if out, err := exec.Command(javac, "-J-XX:TieredStopAtLevel=1", "-d", classes, "testdata/Connect.java").CombinedOutput(); err != nil {
		t.Fatalf("javac: %v: %s", err, out)
	}
	both(t, func(t *testing.T, r rig) {
		r.check(t, r.run(t, java, "-XX:TieredStopAtLevel=1", "-cp", classes, "Connect"), "name constraints check failed")
	})
}

func TestCurl(t *testing.T) {
	curl := needTool(t, "curl")
	both(t, func(t *testing.T, r rig) {
		var lines []string
		for _, to := range r.targets {
			args := []string{"-sS", "--noproxy", "*", "-o", os.DevNull, "https://" + net.JoinHostPort(to.name, to.port) + "/"}
			if !to.isIP() {
				args = append(args, "--resolve", to.name+":"+to.port+":"+to.address)
			}
			cmd := r.command(t, curl, args...)
			lines = append(lines, answer(cmd))
		}
		r.check(t, lines, "permitted subtree violation")
	})
}

// answer runs a client for one target and gives its output the form that check reads.
func answer(cmd *exec.Cmd) string {
	out, err := cmd.CombinedOutput()
	if err == nil {
		return "OK"
	}
	return strings.ReplaceAll(string(out), "\n", " ") + err.Error()
}

func TestOpenSSL(t *testing.T) {
	openssl := needTool(t, "openssl")
	both(t, func(t *testing.T, r rig) {
		for mode, args := range map[string][]string{
			"TLS 1.2 ECDSA": {"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"},
			"TLS 1.2 RSA":   {"-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"},
			"TLS 1.3":       {"-tls1_3"},
		} {
			t.Run(mode, func(t *testing.T) { r.check(t, r.openssl(t, openssl, mode, args), "permitted subtree violation") })
		}
	})
}

func (r rig) openssl(t *testing.T, openssl, mode string, args []string) []string {
	var lines []string
	for _, to := range r.targets {
		if to.name == "example.com" || to.name == rogueAddress {
			args = args[:1] // the rogue server has no RSA certificate
		}
		all := append([]string{"s_client", "-verify_return_error", "-x509_strict", "-CAfile", r.ca.Path(), "-connect", net.JoinHostPort(to.address, to.port)}, args...)
		if to.isIP() {
			all = append(all, "-noservername", "-verify_ip", to.name)
		} else {
			all = append(all, "-servername", to.name, "-verify_hostname", to.name)
		}
		lines = append(lines, answer(r.command(t, openssl, all...)))
	}
	return lines
}

// A client written in Go that is given only the root.
func TestGo(t *testing.T) {
	both(t, func(t *testing.T, r rig) {
		var lines []string
		for _, to := range r.targets {
			conn, err := tls.Dial("tcp", net.JoinHostPort(to.address, to.port), &tls.Config{RootCAs: r.ca.Pool(), ServerName: to.name})
			if err != nil {
				lines = append(lines, err.Error())
				continue
			}
			conn.Close()
			lines = append(lines, "OK")
		}
		r.check(t, lines, "is not permitted by any constraint")
	})
}
