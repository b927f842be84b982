package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
)

// heads is a pair of fake protocol heads that tests steer.
type heads struct {
	mqtt, amqp chan *door.Conn
	done       chan struct{} // closed at the end: a head returns
}

// newSocketRig returns a rig with fake heads.
func newSocketRig(t testing.TB) (*rig, *heads) {
	h := &heads{make(chan *door.Conn, 10), make(chan *door.Conn, 10), make(chan struct{})}
	serve := func(to chan *door.Conn) func(*door.Conn) {
		return func(c *door.Conn) {
			to <- c
			<-h.done
		}
	}
	r := newRig(t, func(cfg *Config) { cfg.MQTT, cfg.AMQP = serve(h.mqtt), serve(h.amqp) })
	t.Cleanup(func() { close(h.done) }) // before the door waits for them
	return r, h
}

// open makes a WebSocket that offers protocols. Compression is offered, too, as browsers and .NET do.
func (r *rig) open(path string, protocols ...string) (*websocket.Conn, *http.Response, error) {
	d := websocket.Dialer{
		TLSClientConfig: r.tls.Clone(), Subprotocols: protocols, EnableCompression: true,
		NetDialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, r.door.Addr().String())
		},
	}
	ws, response, err := d.Dial("wss://"+host+path, nil)
	if err == nil {
		r.t.Cleanup(func() { _ = ws.Close() })
		_ = ws.SetReadDeadline(clock.Wall().Add(20 * time.Second))
	}
	return ws, response, err
}

// pair returns both ends of a WebSocket that speaks MQTT.
func (r *rig) pair(h *heads) (client *websocket.Conn, server *door.Conn) {
	r.t.Helper()
	ws, _, err := r.open("/$iothub/websocket", "mqtt")
	must(r.t, err)
	return ws, <-h.mqtt
}

func TestSubprotocolIsChosenAndEchoedAsOffered(t *testing.T) {
	r, h := newSocketRig(t)
	for _, test := range []struct {
		path    string
		offered []string
		chosen  string
		door    door.Door
	}{
		{"/$iothub/websocket", []string{"mqtt"}, "mqtt", door.MQTTWS},
		{"/$iothub/websocket?iothub-no-client-cert=true", []string{"MQTT"}, "MQTT", door.MQTTWS},
		{"/%24iothub/websocket/", []string{"AMQPWSB10"}, "AMQPWSB10", door.AMQPWS},
		{"/$IoTHub/WebSocket", []string{"amqpwsb10"}, "amqpwsb10", door.AMQPWS},
		{"/$servicebus/websocket", []string{"AMQPWSB10"}, "AMQPWSB10", door.AMQPWS},
		{"/$servicebus/websocket/?x=y", []string{"AMQPWSB10"}, "AMQPWSB10", door.AMQPWS},
		{"/$iothub/websocket", []string{"mqttv5", "Mqtt", "AMQPWSB10"}, "Mqtt", door.MQTTWS},
	} {
		t.Run(test.path+" "+strings.Join(test.offered, ","), func(t *testing.T) {
			r.t = t
			_, response, err := r.open(test.path, test.offered...)
			must(t, err)
			if got := response.Header.Get("Sec-WebSocket-Protocol"); got != test.chosen {
				t.Errorf("sub-protocol %q, want %q", got, test.chosen)
			}
			if got := response.Header.Get("Sec-WebSocket-Extensions"); got != "" {
				t.Errorf("extensions %q were agreed on", got)
			}
			from := h.mqtt
			if test.door == door.AMQPWS {
				from = h.amqp
			}
			if c := <-from; c.Door() != test.door || c.TLS() == nil {
				t.Errorf("door %v, TLS %v", c.Door(), c.TLS())
			}
		})
	}
}

func TestUpgradeThatCannotBeIsAnswered400(t *testing.T) {
	r, h := newSocketRig(t)
	for name, protocols := range map[string][]string{"no sub-protocol": nil, "an unknown one": {"stomp"}, "MQTT with more": {"mqttv3.1"}} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			_, response, err := r.open("/$iothub/websocket", protocols...)
			if err == nil || response == nil || response.StatusCode != 400 {
				t.Fatalf("answer %v, error %v", response, err)
			}
			if a := readAnswer(t, response); !strings.Contains(a.Body, "mqtt or AMQPWSB10") {
				t.Errorf("body %q does not say what is spoken", a.Body)
			}
		})
	}
	_, response, err := r.open("/$servicebus/websocket", "mqtt")
	if err == nil || response == nil || response.StatusCode != 400 {
		t.Errorf("MQTT for Event Hubs: answer %v, error %v", response, err)
	}
	const good = "GET /$iothub/websocket HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: mqtt\n\n"
	for _, change := range [][2]string{
		{"Connection: Upgrade\n", ""}, {"Upgrade: websocket\n", ""}, {"Version: 13", "Version: 8"}, {"Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: short"},
		{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n", ""}, {"Sec-WebSocket-Version: 13\n", ""},
	} {
		raw := strings.ReplaceAll(strings.Replace(good, change[0], change[1]+"", 1), "\n", "\r\n")
		c := r.dial()
		_, err := io.WriteString(c, raw)
		must(t, err)
		readResponse(t, bufio.NewReader(c)).want(400, "")
	}
	if len(h.mqtt)+len(h.amqp) != 0 {
		t.Error("a head was called")
	}
}

func TestSubprotocolWithoutHeadIsRefused(t *testing.T) {
	r := newRig(t)
	_, response, err := r.open("/$iothub/websocket", "mqtt")
	if err == nil || response == nil || response.StatusCode != 400 {
		t.Errorf("answer %v, error %v", response, err)
	}
}

// MQTT-6.0.0-4, AMQP WebSocket binding 2.4: message boundaries mean nothing.
func TestMessagesAreAStreamOfBytes(t *testing.T) {
	r, h := newSocketRig(t)
	client, server := r.pair(h)
	want := make([]byte, 100_000)
	_, _ = rand.Read(want)
	go func() {
		sizes := []int{1, 0, 2, 3, 125, 126, 127, 65535, 1, 20_000}
		rest := want
		for i := 0; len(rest) > 0; i++ {
			n := min(sizes[i%len(sizes)], len(rest))
			w, _ := client.NextWriter(websocket.BinaryMessage) // each Write beyond the buffer is a frame of its own
			_, _ = w.Write(rest[:n/2])
			_, _ = w.Write(rest[n/2 : n])
			_ = w.Close()
			rest = rest[n:]
		}
		_ = client.WriteControl(websocket.PingMessage, []byte("are you there"), clock.Wall().Add(time.Second))
	}()
	got := make([]byte, len(want))
	_, err := io.ReadFull(server, got)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatal("the bytes differ")
	}
	if n := server.BytesIn(); n != int64(len(want)) {
		t.Errorf("%d bytes in, want %d", n, len(want))
	}
}

func TestEachWriteIsOneMessageOfBoundedSize(t *testing.T) {
	r, h := newSocketRig(t)
	client, server := r.pair(h)
	for _, size := range []int{1, 100, 4096, 32 << 10} {
		n, err := server.Write(make([]byte, size))
		if n != size || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, size, err)
		}
		kind, message, err := client.ReadMessage()
		must(t, err)
		if kind != websocket.BinaryMessage || len(message) != size {
			t.Errorf("message of kind %d and %d bytes, want binary and %d", kind, len(message), size)
		}
	}
	_, err := server.Write(make([]byte, 80_000))
	must(t, err)
	for total := 0; total < 80_000; {
		_, message, err := client.ReadMessage()
		must(t, err)
		if total += len(message); len(message) > 32<<10 {
			t.Errorf("message of %d bytes: the Java SDK buffers 65 KiB", len(message))
		}
	}
	if n, err := server.Write(nil); n != 0 || err != nil {
		t.Errorf("empty write: %d, %v", n, err)
	}
}

func TestPingIsAnswered(t *testing.T) {
	r, h := newSocketRig(t)
	client, server := r.pair(h)
	pong := make(chan string, 1)
	client.SetPongHandler(func(s string) error { pong <- s; return errors.New("enough") })
	go func() { _, _ = server.Read(make([]byte, 1)) }() // control frames are handled while reading
	must(t, client.WriteControl(websocket.PingMessage, []byte("hello"), clock.Wall().Add(time.Second)))
	_, _, _ = client.ReadMessage()
	if got := <-pong; got != "hello" {
		t.Errorf("pong %q", got)
	}
}

func TestWhatIsNoBinaryMessageOfASaneSizeEndsTheStream(t *testing.T) {
	for _, test := range []struct {
		name string
		send func(*websocket.Conn)
		code int
	}{
		{"text", func(c *websocket.Conn) { _ = c.WriteMessage(websocket.TextMessage, []byte("hello")) }, websocket.CloseUnsupportedData},
		{"oversize", func(c *websocket.Conn) { _ = c.WriteMessage(websocket.BinaryMessage, make([]byte, maxMessageIn+1)) }, websocket.CloseMessageTooBig},
		{"reserved bits", func(c *websocket.Conn) {
			_, _ = c.NetConn().Write([]byte{0xc2, 0x81, 1, 2, 3, 4, 5})
		}, websocket.CloseProtocolError},
		{"unmasked", func(c *websocket.Conn) { _, _ = c.NetConn().Write([]byte{0x82, 1, 5}) }, websocket.CloseProtocolError},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, h := newSocketRig(t)
			client, server := r.pair(h)
			go test.send(client)
			if _, err := io.Copy(io.Discard, server); err == nil {
				t.Error("the stream ended as if in order")
			}
			_, _, err := client.ReadMessage()
			if !websocket.IsCloseError(err, test.code) {
				t.Errorf("the client saw %v, want close code %d", err, test.code)
			}
		})
	}
}

func TestCloseHandshake(t *testing.T) {
	t.Run("by the client", func(t *testing.T) {
		r, h := newSocketRig(t)
		client, server := r.pair(h)
		must(t, client.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "bye"), clock.Wall().Add(time.Second)))
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("error %v, want EOF", err)
		}
		_, _, err := client.ReadMessage()
		if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Errorf("the client saw %v, want its close echoed", err)
		}
	})
	t.Run("by the server", func(t *testing.T) {
		r, h := newSocketRig(t)
		client, server := r.pair(h)
		must(t, server.Close())
		_, _, err := client.ReadMessage()
		if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Errorf("the client saw %v, want close code 1000", err)
		}
		if _, err := server.Write([]byte("x")); err == nil {
			t.Error("a closed stream takes bytes")
		}
		_ = server.Close()
	})
	t.Run("by nobody", func(t *testing.T) {
		r, h := newSocketRig(t)
		client, server := r.pair(h)
		must(t, client.NetConn().Close())
		if _, err := server.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("error %v: a lost connection is no orderly end", err)
		}
	})
	t.Run("by a cut", func(t *testing.T) {
		r, h := newSocketRig(t)
		client, server := r.pair(h)
		server.Cut()
		if _, _, err := client.ReadMessage(); err == nil || websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Errorf("the client saw %v, want a lost connection", err)
		}
	})
}

func TestDeadlinesOfAStream(t *testing.T) {
	r, h := newSocketRig(t)
	_, server := r.pair(h)
	must(t, server.SetReadDeadline(clock.Wall().Add(20*time.Millisecond)))
	if _, err := server.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("read: %v, want a time-out (half-open clients end this way)", err)
	}
	_, server = r.pair(h)
	must(t, server.SetWriteDeadline(clock.Wall().Add(50*time.Millisecond)))
	var err error
	for err == nil { // the client reads nothing: TCP's buffers fill
		_, err = server.Write(make([]byte, 1<<20))
	}
	if !isTimeout(err) {
		t.Errorf("write: %v, want a time-out", err)
	}
	_, server = r.pair(h)
	stuck := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = server.Write(make([]byte, 1<<20))
		}
		stuck <- err
	}()
	poll(t, "the writer is stuck", func() bool { return server.BytesOut() > 1<<20 })
	must(t, server.SetWriteDeadline(clock.Wall()))
	if err := <-stuck; !isTimeout(err) {
		t.Errorf("write on its way: %v, want a time-out", err)
	}
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

func TestConcurrentWritesDoNotMix(t *testing.T) {
	r, h := newSocketRig(t)
	client, server := r.pair(h)
	const writers, each = 8, 50
	for i := range writers {
		go func() {
			for range each {
				_, _ = server.Write(bytes.Repeat([]byte{byte(i)}, 1000+i))
			}
		}()
	}
	for range writers * each {
		_, m, err := client.ReadMessage()
		must(t, err)
		if len(m) != 1000+int(m[0]) || bytes.Count(m, m[:1]) != len(m) {
			t.Fatal("messages are mixed")
		}
	}
}

// A server that is closed takes its WebSockets along, and Serve returns when the head does.
func TestCloseCutsWebSockets(t *testing.T) {
	r, h := newSocketRig(t)
	client, server := r.pair(h)
	r.server.Close()
	if _, err := server.Read(make([]byte, 1)); err == nil {
		t.Error("the stream goes on")
	}
	if _, _, err := client.ReadMessage(); err == nil {
		t.Error("the client goes on")
	}
}

func TestPagesOfOtherHostsMayNotOpenAWebSocket(t *testing.T) {
	for origin, want := range map[string]bool{
		"": true, "https://hub.local": true, "https://HUB.local:8443": true, "http://localhost:3000": true, "http://127.0.0.1:5173": true, "http://[::1]:80": true,
		"https://example.com": false, "https://hub.local.example.com": false, "null": false, "https://10.0.0.1": false, "%zz": false,
	} {
		r := &http.Request{Host: "hub.local:443", Header: http.Header{}}
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		if got := ownOrigin(r); got != want {
			t.Errorf("origin %q: %v", origin, got)
		}
	}
}
