package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// openDirEnv names the directory in which a copy of the test program opens a CA instead of running tests.
const openDirEnv = "IOLITE_TEST_OPEN_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(openDirEnv); dir != "" {
		openInChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func openInChild(dir string) {
	a, err := Open(dir, Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%x %x\n", a.issuer.root.Raw, a.issuer.cert.Raw)
}

func mustOpen(t testing.TB, dir string, opts Options) *Authority {
	t.Helper()
	a, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustHost(t testing.TB, name string) host {
	t.Helper()
	h, err := parseHost(name)
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	return h
}

// serve answers HTTPS on address until the test ends, and returns the port.
func serve(t testing.TB, address string, config *tls.Config) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "iolite\n") }),
		ErrorLog:  log.New(io.Discard, "", 0),
		TLSConfig: config,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ServeTLS(ln, "", "")
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	_, port, err = net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// verify checks a chain as a client written in Go does that wants to reach name.
func verify(a *Authority, cert *tls.Certificate, name string) error {
	between := x509.NewCertPool()
	between.AddCert(a.issuer.cert)
	_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), Intermediates: between, DNSName: name, CurrentTime: a.now()})
	return err
}
