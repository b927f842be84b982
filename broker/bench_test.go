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
				s := scratches.Get().(*scratch)
				if err := readTelemetry(&s.messages[0], rest, pk.Payload, false); err != nil || !ok {
					b.Fatal(err)
				}
				s.release()
			}
		})
	}
}
