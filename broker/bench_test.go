package broker

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/door"
)

// BenchmarkTelemetry measures QoS 1 messages of 256 bytes from one device to the store and back: flood writes 16 together,
// each keeps 16 in flight with a write for each, w1 keeps one. Allocations are the server's; the client makes none.
func BenchmarkTelemetry(b *testing.B) {
	for _, transport := range []string{"tcp", "tls"} {
		for _, mode := range []string{"flood", "each", "w1"} {
			b.Run(transport+"/"+mode, func(b *testing.B) { benchmarkTelemetry(b, transport == "tls", mode, "") })
		}
	}
	b.Run("tls/flood/bag", func(b *testing.B) {
		benchmarkTelemetry(b, true, "flood", "%24.ct=application%2Fjson&%24.ce=utf-8&%24.mid=1234&alert=true&level=3")
	})
}

func benchmarkTelemetry(b *testing.B, secure bool, mode, bag string) {
	r := newRig(b)
	var server, peer net.Conn
	if secure {
		server, peer = tlsPair(b, nil)
	} else {
		server, peer = tcpPair(b)
	}
	var serving sync.WaitGroup
	serving.Go(func() { r.broker.Serve(door.Wrap(server, door.MQTT)) })
	b.Cleanup(serving.Wait)
	c := newClient(b, peer)
	_ = peer.SetDeadline(time.Time{})
	c.hello("d1")
	message := encode(b, telemetry("devices/d1/messages/events/"+bag, 1, strings.Repeat("x", 256)))
	burst := []byte(strings.Repeat(string(message), 16))
	acks := make([]byte, 4*16)
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	b.ResetTimer()
	switch mode {
	case "flood":
		for sent := 0; sent < b.N; sent += 16 {
			mustWrite(b, peer, burst)
			mustRead(b, peer, acks)
		}
	case "each":
		for sent := 0; sent < b.N; sent += 16 {
			for range 16 {
				mustWrite(b, peer, message)
			}
			mustRead(b, peer, acks)
		}
	case "w1":
		for range b.N {
			mustWrite(b, peer, message)
			mustRead(b, peer, acks[:4])
		}
	}
	b.StopTimer()
	if t, ok := peer.(*tls.Conn); ok {
		_ = t.NetConn().Close()
	}
	_ = peer.Close()
}

// BenchmarkRequests measures twins and direct methods of one device on plain TCP, one at a time: twin-get and twin-report from the device to
// the hub and back, method from the hub to the device and back. Allocations are those of hub and broker; the client makes none for twins.
func BenchmarkRequests(b *testing.B) {
	b.Run("twin-get", func(b *testing.B) { benchmarkTwin(b, get("1"), "$iothub/twin/res/200/?$rid=1") })
	b.Run("twin-report", func(b *testing.B) {
		benchmarkTwin(b, report("1", `{"battery":55}`), "$iothub/twin/res/204/?$rid=1&$version=2")
	})
	b.Run("method", func(b *testing.B) {
		r := newRig(b)
		c := r.connect("d1")
		c.subscribe(0, methodsFilter)
		_ = c.conn.SetDeadline(time.Time{})
		b.ReportAllocs()
		for b.Loop() {
			done := r.invokeLater(device("d1"), "reboot", `{"in":5}`)
			_, id, _ := strings.Cut(c.expect(packets.Publish).TopicName, "=")
			c.send(telemetry("$iothub/methods/res/200/?$rid="+id, 0, `{"ok":true}`))
			if got := <-done; got.err != nil {
				b.Fatal(got.err)
			}
		}
	})
}

func benchmarkTwin(b *testing.B, request packets.Packet, answer string) {
	r := newRig(b)
	r.desire(device("d1"), `{"telemetryInterval":5,"mode":"eco"}`)
	c := r.connect("d1")
	c.subscribe(0, twinFilter)
	message := encode(b, request)
	c.send(request)
	c.expectPublish(answer)
	_ = c.conn.SetDeadline(time.Time{})
	b.ReportAllocs()
	for b.Loop() {
		mustWrite(b, c.conn, message)
		if _, err := c.r.Discard(1); err != nil {
			b.Fatal(err)
		}
		n, _, err := packets.DecodeLength(c.r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.r.Discard(n); err != nil {
			b.Fatal(err)
		}
	}
}

func mustWrite(b *testing.B, c net.Conn, p []byte) {
	if _, err := c.Write(p); err != nil {
		b.Fatal(err)
	}
}

func mustRead(b *testing.B, c net.Conn, p []byte) {
	if _, err := io.ReadFull(c, p); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkReadTelemetry measures what lies between mochi and the hub.
func BenchmarkReadTelemetry(b *testing.B) {
	var c connection
	_, _ = c.identify("h/d1", "d1")
	for name, bag := range map[string]string{"empty": "", "plain": "%24.mid=1&alert=true", "escaped": "%24.ct=application%2Fjson&%24.ce=utf-8"} {
		b.Run(name, func(b *testing.B) {
			pk := packets.Packet{TopicName: "devices/d1/messages/events/" + bag, Payload: make([]byte, 256)}
			b.ReportAllocs()
			for b.Loop() {
				rest, ok := c.telemetryBag(pk.TopicName)
				g := gatherings.Get().(*gathered)
				if err := readTelemetry(&g.messages[0], rest, pk.Payload, false); err != nil || !ok {
					b.Fatal(err)
				}
				g.release()
			}
		})
	}
}
