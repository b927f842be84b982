package httpapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

func FuzzBatch(f *testing.F) {
	for _, seed := range []string{
		`[{"body":"aGVsbG8=","properties":{"iothub-app-x":"v","iothub-messageid":"m","iothub-expiry":"2026-01-01T00:00:00Z"}}]`,
		`[{"body":"raw","base64Encoded":false},{"body":""}]`, `[{"body":null}]`, `[{}]`, `{`, `[[[[`, `[{"body":"","properties":{"iothub-app-":1e999}}]`,
		`[{"body":"","properties":{"a":{"b":[]}}}]`, `[{"Body":"aA==","body":"aA==","BASE64ENCODED":null}]`, "[{\"body\":\"\xff\"}]",
	} {
		f.Add([]byte(seed))
	}
	s := &Server{log: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, err := s.decodeBatch(body)
		if (err == nil) != (len(messages) > 0) {
			t.Fatalf("%d messages and error %v", len(messages), err)
		}
		for i := range messages {
			for _, p := range messages[i].Properties {
				if p.Name == "" {
					t.Fatal("a property has no name")
				}
			}
		}
	})
}

// The raw header block means to us what it means to net/http, but for the case of names.
func FuzzRawHeaders(f *testing.F) {
	for _, seed := range []string{
		"iothub-app-fooBar: one\r\nIOTHUB-APP-FOOBAR:two\r\n", "iothub-app-x: a\r\n b\r\n\tc\r\n", "iothub-app-x:\r\n", "Accept: */*\r\ndt-subject: c\r\n",
		"iothub-app-x: a\niothub-app-y: b\n", "iothub-app-x : a\r\n", "iothub-app-\xc3\xa4: a\r\n", "iothub-app-x: a\rb\r\n", ": v\r\n", "iothub-app-x\r\n", "x: y\r\n \r\n z\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, headers []byte) {
		raw := append([]byte("POST / HTTP/1.1\r\nHost: x\r\n"), headers...)
		raw = append(raw, "\r\n\r\n"...)
		r, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(raw), 1<<20))
		if err != nil {
			return
		}
		want := http.Header{}
		for name, values := range r.Header {
			for _, v := range values {
				if name := strings.ToLower(name); maybeProperty(name) {
					want[name] = append(want[name], strings.TrimSpace(v)) // net/http leaves the space before an empty continuation
				}
			}
		}
		end := headEnd(raw)
		if end < 0 || !startsWith(raw, r) {
			t.Fatalf("the end is at %d, startsWith %v", end, startsWith(raw, r))
		}
		got := http.Header{}
		must(t, eachRawHeader(raw[:end], func(name, value string) error {
			name = strings.ToLower(name)
			got[name] = append(got[name], value)
			return nil
		}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-net/http +ours):\n%s", diff)
		}
	})
}

// The end of a chunked body is where net/http finds it, wherever the stream is cut.
func FuzzChunks(f *testing.F) {
	for _, seed := range []string{
		"5\r\nhello\r\n0\r\n\r\nPOST", "0\r\n\r\n", "A;x=y\r\n0123456789\r\n0\r\nTrailer: v\r\n\r\nnext", "05\r\nhello\r\n000\r\n\r\n", "5\nhello\r\n0\n\r\n",
		"ffffffffffffffff\r\n", "10000000000000000\r\n", "zz\r\n", "5\r\nhello0\r\n\r\n",
	} {
		f.Add([]byte(seed), uint16(3))
	}
	f.Fuzz(func(t *testing.T, body []byte, cut uint16) {
		raw := append([]byte("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), body...)
		in := bufio.NewReaderSize(bytes.NewReader(raw), 1<<20)
		r, err := http.ReadRequest(in)
		must(t, err)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		want, err := io.ReadAll(in)
		must(t, err)
		var c chunks
		first := min(int(cut), len(body))
		rest, done := c.skip(body[:first])
		if done {
			rest = body[first-len(rest):]
		} else {
			rest, done = c.skip(body[first:])
		}
		if !done || !bytes.Equal(rest, want) {
			t.Fatalf("done %v, rest %q, net/http leaves %q", done, rest, want)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/devices/d1/messages/events", "/Devices/%64/", "//", "/%2f", "/devices/a%2Fb/modules/%24edgeAgent", "", "*", "/%24iothub/WebSocket/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := canonical(path)
		if got == "" || got[0] != '/' || len(got) > 1 && got[len(got)-1] == '/' && !strings.HasSuffix(path, "//") {
			t.Fatalf("%q becomes %q", path, got)
		}
		id := url.PathEscape(path)
		if want := "/devices/" + id + "/messages/events"; id != "" && canonical("/DEVICES/"+id+"/%6Dessages/Events/") != want {
			t.Fatalf("%q becomes %q, want %q", path, canonical("/DEVICES/"+id+"/%6Dessages/Events/"), want)
		}
	})
}

// scripted is a connection whose peer says something, hears nothing and hangs up.
type scripted struct {
	in  *bytes.Reader
	out int
}

func (s *scripted) Read(p []byte) (int, error)     { return s.in.Read(p) }
func (s *scripted) Write(p []byte) (int, error)    { s.out += len(p); return len(p), nil }
func (*scripted) Close() error                     { return nil }
func (*scripted) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }
func (*scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000} }
func (*scripted) SetDeadline(time.Time) error      { return nil }
func (*scripted) SetReadDeadline(time.Time) error  { return nil }
func (*scripted) SetWriteDeadline(time.Time) error { return nil }

// heard is a scripted peer that keeps what it hears.
type heard struct {
	scripted
	said bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) { return h.said.Write(p) }

// serviceRoutes are the routes that read a body.
var serviceRoutes = []struct{ method, path string }{
	{"PUT", "/devices/d2"}, {"POST", "/devices"}, {"PUT", "/devices/d1/modules/m1"}, {"POST", "/devices/query"}, {"POST", "/devices/keys/regenerate"},
	{"PATCH", "/twins/d1"}, {"PUT", "/twins/d1"}, {"POST", "/twins/d1/methods"}, {"PUT", "/jobs/v2/j1"}, {"POST", "/jobs/create"},
	{"PUT", "/configurations/c1"}, {"POST", "/configurations/testQueries"}, {"POST", "/devices/d1/applyConfigurationContent"},
	{"PATCH", "/digitaltwins/d1"}, {"POST", "/digitaltwins/d1/commands/c1"},
}

// Whatever a back end sends, it is answered, with JSON or nothing, and never with an error of ours.
func FuzzServiceBody(f *testing.F) {
	for i, seed := range []string{
		`{"deviceId":"d2","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":null}},"capabilities":{"iotEdge":true},"parentScopes":["ms-azure-iot-edge://x"]}`,
		`[{"id":"b1","importMode":"create","tags":{"a":[1e400,{"b":null}]},"properties":{"desired":null}},{"id":"d1","importMode":"updateTwin","twinETag":"*","tags":{}}]`,
		`{"moduleId":"m1","managedBy":"x"}`, `{"query":"SELECT COUNT() AS n, tags.a FROM devices WHERE tags.a > 1 GROUP BY tags.a"}`,
		`{"policyKey":"both","devices":[{"id":"d1"},{"id":"d1","moduleId":"m1"}]}`, `{"tags":{"a":{"b":1.0}},"properties":{"desired":{"$version":7,"x":[{"y":"\u0000"}]}}}`,
		`{"properties":{"desired":{"a":4503599627370496}}}`, `{"methodName":"m","payload":{"a" : 1.50},"connectTimeoutInSeconds":10,"responseTimeoutInSeconds":20}`,
		`{"type":"scheduleUpdateTwin","queryCondition":"tags.a = 1","updateTwin":{"etag":"*","tags":{"b":2}},"maxExecutionTimeInSeconds":10}`,
		`{"type":"export","outputBlobContainerUri":"https://storage.example/c?sig=s"}`,
		`{"content":{"deviceContent":{"properties.desired.a":1}},"targetCondition":"tags.a = 1","metrics":{"queries":{"q":"SELECT deviceId FROM devices"}}}`,
		`{"targetCondition":"*","customMetricQueries":{"q":"SELECT"}}`, `{"modulesContent":{"$edgeAgent":{"properties.desired":{}}}}`,
		`[{"op":"add","path":"/a~1b","value":{"$metadata":{}}},{"op":"remove","path":"/c/d"}]`, `"text"`,
	} {
		f.Add(uint8(i), []byte(seed))
	}
	log := &lockedBuffer{}
	manual := clock.NewManual(start)
	h, err := hub.New(hub.Config{Engine: store.NewMemory(store.MemoryOptions{EventBytes: 1 << 20}), Clock: manual, Logger: slog.New(slog.DiscardHandler), AuthOff: true})
	must(f, err)
	s := New(Config{Hub: h, Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))})
	f.Cleanup(func() {
		s.Close()
		h.Close()
		manual.Stop()
	})
	_, err = h.Admin().CreateIdentity(f.Context(), store.Identity{Key: store.Key{DeviceID: "d1"}, IoTEdge: true})
	must(f, err)
	f.Fuzz(func(t *testing.T, route uint8, body []byte) {
		to := serviceRoutes[int(route)%len(serviceRoutes)]
		raw := fmt.Appendf(nil, "%s %s%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", to.method, to.path, version, len(body), body)
		c := &heard{scripted: scripted{in: bytes.NewReader(raw)}}
		s.Serve(door.Wrap(c, door.HTTPS))
		response, err := http.ReadResponse(bufio.NewReader(&c.said), nil)
		must(t, err)
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		must(t, err)
		if text := log.String(); response.StatusCode >= 500 && response.StatusCode != http.StatusNotImplemented || text != "" {
			t.Fatalf("status %d: %s\n%s", response.StatusCode, answer, text)
		}
		if len(answer) > 0 && !json.Valid(answer) {
			t.Fatalf("the answer is %q", answer)
		}
	})
}

// Whatever a client sends, the server neither panics nor hangs.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"POST " + eventsOf + " HTTP/1.1\r\nHost: x\r\niothub-app-Xy: z\r\nContent-Length: 5\r\n\r\nhello",
		"POST " + eventsOf + " HTTP/1.1\r\nHost: x\r\nContent-Type: " + batchType + "\r\nContent-Length: 20\r\n\r\n[{\"body\":\"aGVsbG8=\"}]",
		"POST " + eventsOf + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET " + boundOf + version + " HTTP/1.1\r\nHost: x\r\n\r\n", "DELETE " + boundOf + "/%00" + version + "&reject HTTP/1.1\r\nHost: x\r\n\r\n",
		"PUT /devices/d2" + version + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "GET /devices" + version + "&top=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /devices" + version + " HTTP/1.1\r\nHost: x\r\nContent-Length: 32\r\n\r\n[{\"id\":\"b1\",\"importMode\":\"create\"}]",
		"GET /$iothub/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n\x82\x81aaaaa",
		"PATCH /twins/d1" + version + " HTTP/1.1\r\nHost: x\r\nIf-Match: W/\"*\"\r\nContent-Length: 2\r\n\r\n{}", "GET /jobs/v2/query" + version + "&jobType=x HTTP/1.1\r\nHost: x\r\nx-ms-continuation: ajE\r\n\r\n",
		"POST /twins/d1/methods HTTP/1.1\r\nHost: x\r\nx-ms-edge-moduleId: d1/%2f\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://x/devices HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	log := &lockedBuffer{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	manual := clock.NewManual(start)
	h, err := hub.New(hub.Config{Engine: store.NewMemory(store.MemoryOptions{EventBytes: 1 << 20}), Clock: manual, Logger: logger, AuthOff: true, Poll: hub.PollOff})
	must(f, err)
	read := func(c *door.Conn) { _, _ = io.Copy(io.Discard, c) }
	s := New(Config{Hub: h, Logger: logger, MQTT: read, AMQP: read})
	f.Cleanup(func() {
		s.Close()
		h.Close()
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := &scripted{in: bytes.NewReader(raw)}
		s.Serve(door.Wrap(c, door.HTTPS))
		if text := log.take(); strings.Contains(text, "panic") || strings.Contains(text, "request failed") {
			t.Fatalf("the log says:\n%s", text)
		}
	})
}
