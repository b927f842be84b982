package control

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/iolite-emulator/iolite/clock"
)

func FuzzHost(f *testing.F) {
	for _, seed := range []string{"localhost:8088", "[::1]:1", "127.0.0.1", "evil.example", "[", "]:", "::ffff:127.0.0.1%lo", "0x7f.1", "localhost\x00", ".", "[::1%25lo]:80"} {
		f.Add(seed)
	}
	s := &Server{}
	local := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}
	f.Fuzz(func(t *testing.T, host string) {
		if !s.own(host, local) {
			return
		}
		name := host
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = h
		}
		name = strings.TrimSuffix(strings.Trim(name, "[]"), ".")
		if ip, err := netip.ParseAddr(name); err == nil && (ip.Unmap().IsLoopback() || ip.Unmap() == netip.MustParseAddr("10.0.0.1")) {
			return
		}
		if !strings.EqualFold(name, "localhost") {
			t.Fatalf("%q is taken for our own", host)
		}
	})
}

func FuzzCAs(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		certificates, err := parseCAs(text)
		if (err == nil) != (len(certificates) > 0) {
			t.Fatalf("%d certificates and error %v", len(certificates), err)
		}
		for _, c := range certificates {
			if !c.IsCA {
				t.Fatal("a certificate that is no CA's")
			}
		}
	})
}

func FuzzClockChange(f *testing.F) {
	for _, seed := range []string{`{"advance":"25m"}`, `{"advance":"-1h"}`, `{"advance":1e400}`, `{"advance":"9223372036854775807ns"}`, `[`, `{"advance":null}`, `{"advance":"876000h"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s := &Server{Config: Config{Clock: clock.NewManual(start)}}
		w := httptest.NewRecorder()
		s.postClock(w, httptest.NewRequest(http.MethodPost, "/iolite/v1/clock", bytes.NewReader(body)))
		moved := s.Clock.Now().Sub(start)
		if good := w.Code == http.StatusOK; good != (moved > 0) || !good && (moved != 0 || w.Code/100 != 4) {
			t.Fatalf("status %d, moved by %v", w.Code, moved)
		}
	})
}

func FuzzEventsRequest(f *testing.F) {
	for _, seed := range []string{"deviceId=d&limit=7", "timeout=5s&count=2&follow=true", "body.a.b%5B0%5D=%7B%7D&property.n=v", "since=2026-01-02T03:04:05Z&cursor=0.1.2.3", "cursor=end", "%zz", "limit=-1;=&"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := readEventsRequest(query)
		if err != nil {
			return
		}
		if q.limit < 1 || q.limit > maxEvents || q.count > q.limit || q.timeout < 0 || q.timeout > maxEventTimeout || q.count > 0 && q.timeout == 0 {
			t.Fatalf("%q asks for %+v", query, q)
		}
	})
}

// FuzzRouting: whatever a body is, it is refused, or what comes back can be put again and changes nothing.
func FuzzRouting(f *testing.F) {
	f.Add([]byte(fullRouting))
	f.Add([]byte(`{"routes":[{"name":"r","source":"DeviceMessages","condition":"$body.a[0] > 1","endpointNames":["events"],"isEnabled":false}]}`))
	f.Add([]byte(`{"enrichments":[{"key":"a","value":"$twin.properties.desired.a","endpointNames":["events"]}],"fallbackRoute":null}`))
	f.Add([]byte(`{"endpoints":{"eventHubs":[null,{"name":"A"},{"name":"a"}]}}`))
	r := newRig(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		answer := r.serve(t, http.MethodPut, "/iolite/v1/routing", body)
		if answer.Code == http.StatusBadRequest {
			return
		}
		if answer.Code != http.StatusOK {
			t.Fatalf("%q: status %d: %s", body, answer.Code, answer.Body)
		}
		again := r.serve(t, http.MethodPut, "/iolite/v1/routing", answer.Body.Bytes())
		if again.Code != http.StatusOK || again.Body.String() != answer.Body.String() {
			t.Fatalf("%q: put again: %d\n%s\n%s", body, again.Code, answer.Body, again.Body)
		}
		if cleared := r.serve(t, http.MethodPut, "/iolite/v1/routing", []byte(`{}`)); cleared.Code != http.StatusOK {
			t.Fatalf("%q cannot be cleared: %s", body, cleared.Body)
		}
	})
}

// serve asks without a connection.
func (r *rig) serve(t *testing.T, method, path string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, bytes.NewReader(body))
	request.RemoteAddr = "127.0.0.1:1"
	r.server.ServeHTTP(w, request)
	return w
}

func FuzzEventHubChange(f *testing.F) {
	for _, seed := range []string{``, `{"partitions":4,"consumerGroups":["a"]}`, `{"partitions":1e9}`, `{"consumerGroups":[null]}`, `{"partitions":-1}`, `[]`} {
		f.Add([]byte(seed), "alerts")
	}
	f.Add([]byte(`{}`), "%2F")
	r := newRig(f)
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		w := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodPut, "http://localhost/iolite/v1/eventhubs/"+url.PathEscape(name), bytes.NewReader(body))
		r.server.ServeHTTP(w, request)
		if w.Code >= 500 {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		_ = r.hub.Admin().DeleteEventHub(t.Context(), name)
	})
}
