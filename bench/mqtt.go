package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// maxBurst is the most messages that a sender writes together.
const maxBurst = 16

// bodySize is the length of the telemetry message that everybody sends.
const bodySize = 256

// body is that message, in JSON.
var body = []byte(`{"temperature":21.5,"humidity":40,"pad":"` + strings.Repeat("x", bodySize-43) + `"}`)

// dialTLS opens a TLS connection that ends by itself after limit. The handshake is the one that today's SDKs do: TLS 1.3, X25519.
func dialTLS(address string, config *tls.Config, limit time.Duration) (*tls.Conn, error) {
	nc, err := net.DialTimeout("tcp", address, limit)
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(until(limit)); err != nil {
		return nil, err
	}
	c := tls.Client(nc, config)
	if err := c.Handshake(); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	return c, nil
}

// mqttLogin is what a CONNECT carries.
type mqttLogin struct{ clientID, user, password string }

// mqttConnect does CONNECT and CONNACK on c.
func mqttConnect(c net.Conn, l mqttLogin) error {
	if _, err := c.Write(connectPacket(l)); err != nil {
		return err
	}
	ack := make([]byte, 4)
	if _, err := io.ReadFull(c, ack); err != nil {
		return fmt.Errorf("CONNACK: %w", err)
	}
	if ack[0] != 0x20 || ack[3] != 0 {
		return fmt.Errorf("CONNECT of %s refused: % x", l.clientID, ack)
	}
	return nil
}

// connectPacket is a CONNECT with CleanSession=1 and the longest keep-alive that Azure allows, 1177 s.
func connectPacket(l mqttLogin) []byte {
	flags := byte(0x02)
	payload := mqttText(nil, l.clientID)
	if l.user != "" {
		flags |= 0xC0
		payload = mqttText(mqttText(payload, l.user), l.password)
	}
	head := append(mqttText(nil, "MQTT"), 4, flags, 1177>>8, 1177&0xFF)
	return mqttPacket(0x10, append(head, payload...))
}

func mqttText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// mqttPacket puts the fixed header before a packet's rest.
func mqttPacket(first byte, rest []byte) []byte {
	b := []byte{first}
	n := len(rest)
	for ; n > 0x7F; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(append(b, byte(n)), rest...)
}

// mqttSender sends QoS 1 messages that were encoded once; only their packet identifiers change.
type mqttSender struct {
	c     net.Conn
	burst []byte // maxBurst packets
	size  int    // of one
	idAt  int    // where the packet identifier stands in one
	id    uint16
	in    []byte
	have  int
}

// newMQTTSender makes a sender on a connection that has been accepted. wrap dresses a packet for the transport, and must lengthen it
// only at its beginning.
func newMQTTSender(c net.Conn, topic string, wrap func([]byte) []byte) *mqttSender {
	rest := append(binary.BigEndian.AppendUint16(mqttText(nil, topic), 1), body...)
	packet := wrap(mqttPacket(0x32, rest))
	idAt := len(packet) - len(body) - 2
	return &mqttSender{c: c, burst: bytes.Repeat(packet, maxBurst), size: len(packet), idAt: idAt, in: make([]byte, 4<<10)}
}

func (s *mqttSender) send(n int) error {
	for i := range n {
		if s.id++; s.id == 0 {
			s.id = 1
		}
		binary.BigEndian.PutUint16(s.burst[i*s.size+s.idAt:], s.id)
	}
	_, err := s.c.Write(s.burst[:n*s.size])
	return err
}

func (s *mqttSender) acks() (int, error) {
	for {
		n, err := s.c.Read(s.in[s.have:])
		if err != nil {
			return 0, err
		}
		s.have += n
		used, acks := 0, 0
		for ; s.have-used >= 4; used += 4 {
			if s.in[used] != 0x40 || s.in[used+1] != 2 {
				return 0, fmt.Errorf("expected PUBACK, got % x", s.in[used:used+4])
			}
			acks++
		}
		s.have = copy(s.in, s.in[used:s.have])
		if acks > 0 {
			return acks, nil
		}
	}
}

func (s *mqttSender) close() { _ = s.c.Close() }

// mqttSubscribe subscribes to a filter with QoS 0 and waits for SUBACK.
func mqttSubscribe(c net.Conn, filter string) error {
	rest := append(mqttText([]byte{0, 1}, filter), 0)
	if _, err := c.Write(mqttPacket(0x82, rest)); err != nil {
		return err
	}
	ack := make([]byte, 5)
	if _, err := io.ReadFull(c, ack); err != nil {
		return fmt.Errorf("SUBACK: %w", err)
	}
	if ack[0] != 0x90 || ack[4] > 2 {
		return fmt.Errorf("SUBSCRIBE refused: % x", ack)
	}
	return nil
}

// countPublishes counts the PUBLISH packets that come in until the connection ends.
func countPublishes(c net.Conn, seen func(n int)) error {
	in := make([]byte, 64<<10)
	have := 0
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return err
		}
		have += n
		used, count := 0, 0
		for {
			size := mqttSize(in[used:have])
			if size == 0 {
				break
			}
			if in[used]>>4 != 3 {
				return errors.New("expected PUBLISH")
			}
			used, count = used+size, count+1
		}
		have = copy(in, in[used:have])
		seen(count)
	}
}

// mqttSize returns the length of the packet at the beginning of b, 0 when it is not complete.
func mqttSize(b []byte) int {
	rest := 0
	for i := 1; i < len(b) && i <= 4; i++ {
		rest |= int(b[i]&0x7F) << (7 * (i - 1))
		if b[i] < 0x80 {
			if size := 1 + i + rest; size <= len(b) {
				return size
			}
			return 0
		}
	}
	return 0
}
