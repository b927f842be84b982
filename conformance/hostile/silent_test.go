package hostile

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/door"
)

// silentClient says too little and waits; the hub must hang up within limit. Those are the hub's real time-outs, so the clients
// begin before all tests and are looked at after them.
type silentClient struct {
	name  string
	limit time.Duration
	conn  net.Conn
	ended chan struct{}
	took  time.Duration
	err   error
}

// keepSilent starts the clients.
func keepSilent() []*silentClient {
	const slack = 10 * time.Second // the machine may be slow
	hello := mqttHello("x", "x", "x")
	var all []*silentClient
	add := func(name string, limit time.Duration, d door.Door, overTLS bool, said []byte, drip byte) {
		s := &silentClient{name: d.String() + ": " + name, limit: limit + slack, ended: make(chan struct{})}
		all = append(all, s)
		go s.run(d, overTLS, said, drip)
	}
	for _, d := range tlsDoors {
		add("no handshake", 15*time.Second, d, false, nil, 0)
		add("a handshake byte by byte", 15*time.Second, d, false, []byte{0x16, 3, 1, 0x40, 0, 1}, 0x01)
	}
	add("no CONNECT", 20*time.Second, door.MQTT, true, nil, 0)
	add("half a CONNECT", 20*time.Second, door.MQTT, true, hello[:10], 0)
	add("a CONNECT byte by byte", 20*time.Second, door.MQTT, true, []byte{0x10, 0xE0, 0x5D}, 'x')
	for _, d := range []door.Door{door.AMQP, door.PlainAMQP} {
		tlsToo := d == door.AMQP
		add("no header", 32*time.Second, d, tlsToo, nil, 0)
		add("half a header", 32*time.Second, d, tlsToo, []byte("AMQP"), 0)
		add("header and nothing more", 32*time.Second, d, tlsToo, []byte("AMQP\x00\x01\x00\x00"), 0)
		add("SASL header and nothing more", 32*time.Second, d, tlsToo, []byte("AMQP\x03\x01\x00\x00"), 0)
		add("an open byte by byte", 32*time.Second, d, tlsToo, []byte("AMQP\x00\x01\x00\x00\x00\x00\x80\x00\x02\x00\x00\x00\x00\x53\x10\xd0\x00\x00\x70\x00\x00\x00\x00\x04"), 0x40)
	}
	add("no request", 15*time.Second, door.HTTPS, true, nil, 0)
	add("half a request line", 15*time.Second, door.HTTPS, true, []byte("GET /dev"), 0)
	add("headers byte by byte", 15*time.Second, door.HTTPS, true, []byte("GET / HTTP/1.1\r\nHost: x\r\nA: "), 'a')
	for subprotocol, limit := range map[string]time.Duration{"mqtt": 20 * time.Second, "AMQPWSB10": 32 * time.Second} {
		upgrade := "GET /$iothub/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + subprotocol + "\r\n\r\n"
		add("nothing but an upgrade to "+subprotocol, limit, door.HTTPS, true, []byte(upgrade), 0)
		add("an endless frame header of "+subprotocol, limit, door.HTTPS, true, append([]byte(upgrade), 0x82, 0xFF), 0)
		add("a message byte by byte of "+subprotocol, limit, door.HTTPS, true, append([]byte(upgrade), 0x82, 0xFE, 0x10, 0x00, 0, 0, 0, 0, 0x10, 0x80, 0x10), 0x20)
	}
	return all
}

// run connects, says what there is to say, and then drip once a second if it is not zero, until the hub hangs up.
func (s *silentClient) run(d door.Door, overTLS bool, said []byte, drip byte) {
	defer close(s.ended)
	at, err := target.backend.Address(d)
	if err == nil {
		s.conn, err = net.DialTimeout("tcp", at, patience)
	}
	if err != nil {
		s.err = err
		return
	}
	defer s.conn.Close()
	c := s.conn
	if overTLS {
		c = tls.Client(c, target.backend.TLS())
	}
	_ = c.SetDeadline(time.Now().Add(s.limit + patience))
	if _, err := c.Write(said); err != nil {
		s.err = err
		return
	}
	if len(said) == 0 && overTLS {
		if err := c.(*tls.Conn).Handshake(); err != nil {
			s.err = err
			return
		}
	}
	began := time.Now()
	done := make(chan struct{})
	defer close(done)
	if drip != 0 {
		go func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Second):
					if _, err := c.Write([]byte{drip}); err != nil {
						return
					}
				}
			}
		}()
	}
	_, err = io.Copy(io.Discard, c)
	s.took = time.Since(began)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		s.err = fmt.Errorf("the hub did not hang up: %w", err)
	}
}

func TestZSilentAndSlowClientsAreCut(t *testing.T) {
	onlooker.undisturbed(t)
	for _, s := range silent {
		t.Run(s.name, func(t *testing.T) {
			select {
			case <-s.ended:
			case <-time.After(s.limit + patience): // it began long ago, but both may be ready by now
				t.Fatal("the client is still connected")
			}
			must(t, s.err)
			if s.took > s.limit {
				t.Errorf("it was cut after %v", s.took)
			}
		})
	}
	onlooker.undisturbed(t)
}

// TestUnfinishedMessagesAreBounded: the hub does not believe a length before it has seen the bytes.
func TestUnfinishedMessagesAreBounded(t *testing.T) {
	attack(t)
	before, goroutines := target.gauge(t, "process_resident_memory_bytes"), target.gauge(t, "go_goroutines")
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			drop(c)
		}
	}()
	const n = 400
	for i := range n {
		var c net.Conn
		var err error
		if i%2 == 0 {
			if c, err = dialTLS(target, door.MQTT); err == nil { // a CONNECT of the largest length that is taken, and then nothing
				_, err = c.Write(append([]byte{0x10}, length(128<<10)...))
			}
		} else {
			at, _ := target.backend.Address(door.PlainAMQP)
			if c, err = net.DialTimeout("tcp", at, patience); err == nil {
				_, err = c.Write(append([]byte("AMQP\x00\x01\x00\x00"), 0, 1, 0, 0, 2, 0, 0, 0))
			}
		}
		must(t, err)
		conns = append(conns, c)
	}
	eventually(t, "the connections are not served", func() bool { return target.gauge(t, "go_goroutines") >= goroutines+n })
	for _, c := range conns[1:2] { // the hub has read what was said by the time it answers the last header
		_ = c.SetReadDeadline(time.Now().Add(patience))
		answer := make([]byte, 8)
		must(t, readFull(c, answer))
		if !bytes.Equal(answer, []byte("AMQP\x00\x01\x00\x00")) {
			t.Errorf("the hub said %q", answer)
		}
	}
	grown := target.gauge(t, "process_resident_memory_bytes") - before
	t.Logf("%d unfinished messages: %.0f MiB", n, grown/(1<<20))
	if grown > n*(160<<10) {
		t.Errorf("%d unfinished messages cost %.0f MiB", n, grown/(1<<20))
	}
}
