package hostile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestWebSocketUpgradesThatAreNone(t *testing.T) {
	attack(t)
	good := map[string]string{
		"Host": "x", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "mqtt",
	}
	for name, test := range map[string]struct {
		method, path  string
		header, value string // "-" drops it
	}{
		"no key":                    {"GET", "/$iothub/websocket", "Sec-WebSocket-Key", "-"},
		"key of 5 bytes":            {"GET", "/$iothub/websocket", "Sec-WebSocket-Key", "aGVsbG8="},
		"key not base64":            {"GET", "/$iothub/websocket", "Sec-WebSocket-Key", "!!!"},
		"version 8":                 {"GET", "/$iothub/websocket", "Sec-WebSocket-Version", "8"},
		"no version":                {"GET", "/$iothub/websocket", "Sec-WebSocket-Version", "-"},
		"no sub-protocol":           {"GET", "/$iothub/websocket", "Sec-WebSocket-Protocol", "-"},
		"unknown sub-protocol":      {"GET", "/$iothub/websocket", "Sec-WebSocket-Protocol", "chat, superchat"},
		"60 KB of sub-protocols":    {"GET", "/$iothub/websocket", "Sec-WebSocket-Protocol", strings.Repeat("x,", 30_000)},
		"MQTT where AMQP is spoken": {"GET", "/$servicebus/websocket", "Sec-WebSocket-Protocol", "mqtt"},
		"no Upgrade":                {"GET", "/$iothub/websocket", "Upgrade", "-"},
		"Upgrade to h2c":            {"GET", "/$iothub/websocket", "Upgrade", "h2c"},
		"Connection: keep-alive":    {"GET", "/$iothub/websocket", "Connection", "keep-alive"},
		"POST":                      {"POST", "/$iothub/websocket", "Host", "x"},
		"elsewhere":                 {"GET", "/$iothub/webseite", "Host", "x"},
		"elsewhere below":           {"GET", "/$iothub/websocket/x", "Host", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			c := httpsDial(t)
			said := test.method + " " + test.path + " HTTP/1.1\r\n"
			for header, value := range good {
				if header == test.header {
					value = test.value
				}
				if value != "-" {
					said += header + ": " + value + "\r\n"
				}
			}
			_, _ = io.WriteString(c, said+"\r\n")
			answer, err := http.ReadResponse(bufio.NewReader(c), nil)
			must(t, err)
			if answer.StatusCode < 400 || answer.StatusCode >= 500 {
				t.Errorf("status %d", answer.StatusCode)
			}
		})
	}
}

// upgraded is a raw WebSocket, so that frames can be wrong.
func upgraded(t *testing.T, subprotocol, extensions string) net.Conn {
	t.Helper()
	c := httpsDial(t)
	_, err := fmt.Fprintf(c, "GET /$iothub/websocket?iothub-no-client-cert=true HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n%s\r\n", subprotocol, extensions)
	must(t, err)
	r := bufio.NewReaderSize(c, 1) // it must not swallow frames; the hub sends none yet
	answer, err := http.ReadResponse(r, nil)
	must(t, err)
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-WebSocket-Protocol") != subprotocol {
		t.Fatalf("status %d, %v", answer.StatusCode, answer.Header)
	}
	if e := answer.Header.Get("Sec-WebSocket-Extensions"); e != "" {
		t.Fatal("the hub agreed to ", e)
	}
	return c
}

// wsFrame masks with zeros, which is legal and readable.
func wsFrame(first byte, payload []byte) []byte {
	f := []byte{first}
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), uint64(n))
	}
	return append(append(f, 0, 0, 0, 0), payload...)
}

func TestWebSocketFramesThatAreNone(t *testing.T) {
	attack(t)
	hello := mqttHello("nobody", mqttUser("nobody"), "x")
	for name, said := range map[string][]byte{
		"not masked":                      append([]byte{0x82, byte(len(hello))}, hello...),
		"text":                            wsFrame(0x81, []byte("hello")),
		"compressed":                      wsFrame(0xC2, hello),
		"RSV2 and RSV3":                   wsFrame(0xB2, hello),
		"reserved opcode":                 wsFrame(0x83, hello),
		"reserved control opcode":         wsFrame(0x8B, nil),
		"continuation of nothing":         wsFrame(0x80, hello),
		"a message inside a message":      append(wsFrame(0x02, hello[:3]), wsFrame(0x82, hello[3:])...),
		"ping of 126 bytes":               wsFrame(0x89, make([]byte, 126)),
		"ping in fragments":               wsFrame(0x09, []byte("x")),
		"4 GB":                            {0x82, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 'x'},
		"2^63 bytes":                      {0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'x'},
		"2^63-1 bytes":                    {0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 'x'},
		"close with one byte":             wsFrame(0x88, []byte{3}),
		"close with a code that is none":  wsFrame(0x88, []byte{0, 5}),
		"close with a reason not in UTF8": wsFrame(0x88, []byte{3, 0xE8, 0xFF}),
		"close":                           wsFrame(0x88, []byte{3, 0xE8}),
	} {
		for _, subprotocol := range []string{"mqtt", "AMQPWSB10"} {
			t.Run(name+" "+subprotocol, func(t *testing.T) {
				c := upgraded(t, subprotocol, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame\r\n")
				_, err := c.Write(said)
				must(t, err)
				began := time.Now()
				untilClosed(t, c)
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it was closed after %v", took)
				}
			})
		}
	}
}

// TestWebSocketFragmentsAreOneStream: a packet may come a byte per fragment with pings in between, and empty fragments cost nothing.
func TestWebSocketFragmentsAreOneStream(t *testing.T) {
	attack(t)
	d := target.device(t)
	c := upgraded(t, "mqtt", "")
	hello := mqttHello(d.DeviceID, mqttUser(d.DeviceID), target.token(t, d))
	var said []byte
	for i, b := range hello {
		opcode := byte(0)
		if i == 0 {
			opcode = 2
		}
		said = append(said, wsFrame(opcode, []byte{b})...)
		said = append(said, wsFrame(0, nil)...)
	}
	said = append(said, wsFrame(0x80, nil)...)
	_, err := c.Write(said)
	must(t, err)
	connack := make([]byte, 6)
	must(t, readFull(c, connack))
	if connack[0] != 0x82 || connack[2] != 0x20 || connack[5] != 0 {
		t.Errorf("the hub said % x", connack)
	}
	// Empty messages and pings without end: at last the client must say something.
	for range 2000 {
		if _, err := c.Write(append(wsFrame(0x82, nil), wsFrame(0x8A, nil)...)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = c.Write(wsFrame(0x82, mqttPublish("devices/"+d.DeviceID+"/messages/events/", 1, 1, []byte("x"))))
	must(t, err)
	ack := make([]byte, 6)
	must(t, readFull(c, ack))
	if ack[2] != 0x40 {
		t.Errorf("telemetry was answered with % x", ack)
	}
}
