package hostile

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/door"
)

var tlsDoors = []door.Door{door.MQTT, door.AMQP, door.HTTPS}

func tcpDial(t *testing.T, d door.Door) net.Conn {
	t.Helper()
	at, err := target.backend.Address(d)
	must(t, err)
	c, err := net.DialTimeout("tcp", at, patience)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func TestTLSHandshakesThatAreNone(t *testing.T) {
	attack(t)
	for _, d := range tlsDoors {
		for name, said := range map[string]string{
			"HTTP":                      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
			"MQTT without TLS":          string(mqttHello("x", "x", "x")),
			"AMQP without TLS":          "AMQP\x00\x01\x00\x00",
			"SSL 2":                     "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + strings.Repeat("x", 40),
			"record of 65535 bytes":     "\x16\x03\x01\xff\xff" + strings.Repeat("x", 100),
			"ClientHello of 16 MB":      "\x16\x03\x01\x40\x00\x01\xff\xff\xff" + strings.Repeat("x", 1<<14-4),
			"ClientHello of half a meg": "\x16\x03\x01\x40\x00\x01\x07\xa1\x20" + strings.Repeat("x", 1<<14-4),
			"nothing but alerts":        strings.Repeat("\x15\x03\x01\x00\x02\x01\x00", 100),
			"empty records":             strings.Repeat("\x16\x03\x01\x00\x00", 200),
			"application data first":    "\x17\x03\x03\x00\x05hello",
			"ClientHello of garbage":    "\x16\x03\x01\x00\x40\x01\x00\x00\x3c" + strings.Repeat("\xff", 60),
		} {
			t.Run(d.String()+" "+name, func(t *testing.T) {
				c := tcpDial(t, d)
				_, err := c.Write([]byte(said))
				must(t, err)
				began := time.Now()
				if d := name; d == "ClientHello of half a meg" || d == "ClientHello of 16 MB" {
					// A hub may read on until it sees too much; hanging up is then the client's part.
					_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
					_, _ = c.Read(make([]byte, 100))
					drop(c)
					return
				}
				untilClosed(t, c)
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it was closed after %v", took)
				}
			})
		}
	}
}

func TestTLSRefusesOldVersionsAndForeignNames(t *testing.T) {
	attack(t)
	for _, d := range tlsDoors {
		at, err := target.backend.Address(d)
		must(t, err)
		old := target.backend.TLS()
		old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		if c, err := tls.Dial("tcp", at, old); err == nil {
			t.Errorf("%v: TLS 1.1 was spoken", d)
			_ = c.Close()
		}
		for _, name := range []string{"www.example.com", strings.Repeat("a.", 120) + "local", "azure-devices.net.example.com"} {
			config := target.backend.TLS()
			config.ServerName = name
			if c, err := tls.Dial("tcp", at, config); err == nil {
				if name != strings.Repeat("a.", 120)+"local" {
					t.Errorf("%v: a certificate for %s", d, name)
				}
				_ = c.Close()
			}
		}
	}
}

// TestTLSFloodOfNamesIsBounded: certificates are minted for whatever name is asked for, and kept, but not without end.
func TestTLSFloodOfNamesIsBounded(t *testing.T) {
	attack(t)
	before := target.gauge(t, "process_resident_memory_bytes")
	at, err := target.backend.Address(door.MQTT)
	must(t, err)
	config := target.backend.TLS()
	for i := range 800 {
		config.ServerName = fmt.Sprintf("flood-%d.azure-devices.net", i)
		if c, err := tls.Dial("tcp", at, config); err == nil {
			_ = c.Close()
		}
	}
	if grown := target.gauge(t, "process_resident_memory_bytes") - before; grown > 100<<20 {
		t.Errorf("800 names cost %.0f MiB", grown/(1<<20))
	}
	// The names that are needed are still there.
	onlooker.undisturbed(t)
	config.ServerName = address
	c, err := tls.Dial("tcp", at, config)
	must(t, err)
	_ = c.Close()
}

// TestThousandsOfConnections that say nothing cost little and keep nobody else out.
func TestThousandsOfConnections(t *testing.T) {
	attack(t)
	before := target.gauge(t, "process_resident_memory_bytes")
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			drop(c)
		}
	}()
	for i := range 3000 {
		d := []door.Door{door.MQTT, door.AMQP, door.HTTPS, door.PlainAMQP}[i%4]
		at, err := target.backend.Address(d)
		must(t, err)
		c, err := net.DialTimeout("tcp", at, patience)
		must(t, err)
		conns = append(conns, c)
		_, _ = c.Write(bytes.Repeat([]byte{0x16}, i%2)) // half of them begin to say something
	}
	onlooker.undisturbed(t)
	d := target.device(t)
	c, err := dialTLS(target, door.MQTT)
	must(t, err)
	defer c.Close()
	if code, err := mqttConnect(c, d.DeviceID, target.token(t, d)); err != nil || code != 0 {
		t.Errorf("return code %d, %v", code, err)
	}
	if grown := target.gauge(t, "process_resident_memory_bytes") - before; grown > 3000*40<<10 {
		t.Errorf("3,000 silent connections cost %.0f MiB", grown/(1<<20))
	}
}
