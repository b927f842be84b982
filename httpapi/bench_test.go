package httpapi

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/iolite-emulator/iolite/certs"
)

// telemetryRequest is a request of 256 bytes of telemetry with a property, as an SDK keeps sending it on one connection.
func telemetryRequest(token string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nUser-Agent: bench\r\niothub-to: /devices/d1/messages/events\r\n"+
		"iothub-app-fooBar: 1\r\nContent-Length: 256\r\n\r\n%s", eventsOf, host, token, strings.Repeat("x", 256))
}

// exchangeMany sends the request b.N times over c, waiting for each answer.
func exchangeMany(b *testing.B, c *tls.Conn, request []byte) {
	in := bufio.NewReader(c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		for first := true; ; first = false {
			line, err := in.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 204")) {
				b.Fatalf("answer %s", line)
			}
			if len(line) <= 2 {
				break
			}
		}
	}
}

func BenchmarkTelemetry(b *testing.B) {
	r := newRig(b)
	r.device("d1")
	exchangeMany(b, r.dial(), telemetryRequest(r.deviceToken("d1")))
}

// BenchmarkBare204 is what BenchmarkTelemetry is measured against: net/http that reads the body and answers 204.
func BenchmarkBare204(b *testing.B) {
	ca, err := certs.Open("", certs.Options{})
	must(b, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", ca.TLSConfig())
	must(b, err)
	s := http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	})}
	done := make(chan struct{})
	go func() {
		_ = s.Serve(l)
		close(done)
	}()
	defer func() {
		_ = s.Close()
		<-done
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: ca.Pool(), ServerName: host})
	must(b, err)
	defer func(c net.Conn) { _ = c.Close() }(c)
	exchangeMany(b, c, telemetryRequest("SharedAccessSignature sr=x"))
}
