package certs

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
)

func BenchmarkOpenCold(b *testing.B) {
	base := b.TempDir()
	for i := 0; b.Loop(); i++ {
		mustOpen(b, filepath.Join(base, fmt.Sprint(i)), Options{})
	}
}

func BenchmarkOpenWarm(b *testing.B) {
	dir := b.TempDir()
	mustOpen(b, dir, Options{})
	for b.Loop() {
		mustOpen(b, dir, Options{})
	}
}

func BenchmarkOpenInMemory(b *testing.B) {
	for b.Loop() {
		mustOpen(b, "", Options{})
	}
}

func BenchmarkMint(b *testing.B) {
	a := mustOpen(b, "", Options{})
	b.ReportAllocs()
	for b.Loop() {
		mustMint(b, a, "iolite.azure-devices.net")
	}
}

// What choosing the certificate adds to each handshake.
func BenchmarkCertificateKept(b *testing.B) {
	a := mustOpen(b, "", Options{})
	h := hello("iolite.azure-devices.net", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	b.ReportAllocs()
	for b.Loop() {
		if cert, err := a.certificate(h); cert == nil || err != nil {
			b.Fatal(err)
		}
	}
}

// A name that no certificate is kept for, from a hostile client over its budget.
func BenchmarkCertificateRefused(b *testing.B) {
	a := mustOpen(b, "", Options{})
	h := hello("www.example.com", nil)
	b.ReportAllocs()
	for b.Loop() {
		if cert, _ := a.certificate(h); cert != nil {
			b.Fatal("not refused")
		}
	}
}

// Both sides of a handshake on a socket, with our configuration and with one fixed certificate of the same kind.
func BenchmarkHandshake(b *testing.B) {
	a := mustOpen(b, "", Options{})
	fixed := a.TLSConfig()
	fixed.GetCertificate, fixed.Certificates = nil, []tls.Certificate{*mustMint(b, a, "localhost")}
	plain := fixed.Clone()
	plain.CurvePreferences = nil
	for name, server := range map[string]*tls.Config{"minted": a.TLSConfig(), "fixed": fixed, "fixed, all curves": plain} {
		b.Run(name, func(b *testing.B) {
			client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}
			ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Write([]byte{1})
					conn.Close()
				}
			}()
			b.ReportAllocs()
			for b.Loop() {
				conn, err := tls.Dial("tcp", ln.Addr().String(), client)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadAll(conn); err != nil {
					b.Fatal(err)
				}
				conn.Close()
			}
			ln.Close()
			<-done
		})
	}
}
