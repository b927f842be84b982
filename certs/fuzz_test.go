package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// Whatever a name is, what allows says of it is what a client says of a certificate for it, and reading its text again
// gives the same host.
func FuzzHost(f *testing.F) {
	for _, name := range append(append([]string{}, allowedNames...), refusedNames...) {
		f.Add(name)
	}
	f.Add("xn--bcher-kva.test")
	f.Add("_.local")
	f.Add("1.2.3")
	f.Add("[fe80::1%25eth0]")
	f.Add(strings.Repeat("a", 63) + ".local")
	a := mustOpen(f, "", Options{})
	f.Fuzz(func(t *testing.T, name string) {
		h, err := parseHost(name)
		if err != nil {
			return
		}
		if again, err := parseHost(h.String()); err != nil || again != h {
			t.Fatalf("%q is %q, which is %q (%v)", name, h, again, err)
		}
		err = verify(a, mustMint(t, a, name), h.String())
		if allowed := a.limits.allows(h); allowed != (err == nil) {
			t.Fatalf("%q: allowed %v, but a client says %v", name, allowed, err)
		}
	})
}

// No ClientHello makes the server panic, keep more than its bound, or show a certificate for another name.
func FuzzClientHello(f *testing.F) {
	f.Add(recordHello(f, &tls.Config{ServerName: "localhost"}))
	f.Add(recordHello(f, &tls.Config{ServerName: "example.com"}))
	f.Add(recordHello(f, &tls.Config{InsecureSkipVerify: true}))
	f.Add(recordHello(f, &tls.Config{ServerName: "iolite", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}))
	a := mustOpen(f, "", Options{})
	config := a.TLSConfig()
	pick := config.GetCertificate
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := pick(hello)
		if h, _ := parseHost(hello.ServerName); cert != nil && hello.ServerName != "" && cert.Leaf.VerifyHostname(h.String()) != nil {
			panic("certificate for " + sans(cert) + " shown to a client that wants " + hello.ServerName)
		}
		return cert, err
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := tls.Server(&deafConn{in: record}, config).HandshakeContext(ctx); err == nil {
			t.Fatal("a handshake ended well without a client")
		}
		if n := a.leaves.len(); n > maxLeaves {
			t.Fatalf("%d leaves are kept", n)
		}
	})
}

// deafConn yields in and swallows what is written.
type deafConn struct {
	net.Conn
	in  []byte
	out []byte
}

func (c *deafConn) Read(p []byte) (int, error) {
	n := copy(p, c.in)
	c.in = c.in[n:]
	if n == 0 {
		return 0, errors.New("no more input")
	}
	return n, nil
}

func (c *deafConn) Write(p []byte) (int, error) { c.out = append(c.out, p...); return len(p), nil }
func (c *deafConn) Close() error                { return nil }
func (c *deafConn) LocalAddr() net.Addr         { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// recordHello returns the bytes that a client with config sends first.
func recordHello(f *testing.F, config *tls.Config) []byte {
	f.Helper()
	conn := &deafConn{}
	_ = tls.Client(conn, config).Handshake()
	if len(conn.out) == 0 {
		f.Fatal("no ClientHello")
	}
	return conn.out
}
