package hostile

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

// mqttDial opens a byte stream to one of the two doors for MQTT.
func mqttDial(t *testing.T, d door.Door) net.Conn {
	t.Helper()
	var c net.Conn
	var err error
	if d == door.MQTTWS {
		c, err = target.backend.DialWebSocket(deadline(t), "mqtt")
	} else {
		c, err = dialTLS(target, d)
	}
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	return c
}

func eachMQTTDoor(t *testing.T, f func(t *testing.T, d door.Door)) {
	for _, d := range []door.Door{door.MQTT, door.MQTTWS} {
		t.Run(d.String(), func(t *testing.T) { f(t, d) })
	}
}

// tokenForms are credentials that must not let d in.
func tokenForms(t *testing.T, d, other backend.Device) map[string]string {
	t.Helper()
	good := target.token(t, d)
	key := d.Authentication.SymmetricKey.PrimaryKey
	resource := address + "/devices/" + d.DeviceID
	sign := func(resource, key, policy string, in time.Duration) string {
		token, err := auth.NewToken(resource, key, policy, time.Now().Add(in))
		must(t, err)
		return token
	}
	forms := map[string]string{
		"no token":               "",
		"only the scheme":        "SharedAccessSignature ",
		"no token at all":        "hunter2",
		"nothing but ampersands": "SharedAccessSignature " + strings.Repeat("&", 4000),
		"expired an hour ago":    sign(resource, key, "", -time.Hour),
		"another device's":       target.token(t, other),
		"another device's key":   sign(resource, other.Authentication.SymmetricKey.PrimaryKey, "", time.Hour),
		"another device's scope": sign(address+"/devices/"+other.DeviceID, key, "", time.Hour),
		"scope of a prefix":      sign(address+"/devices/"+d.DeviceID[:len(d.DeviceID)-2], key, "", time.Hour),
		"unknown policy":         sign(address, key, "nobody", time.Hour),
		"half a million bytes":   good + "&x=" + strings.Repeat("x", 60_000),
		"se beyond all numbers":  strings.Replace(good, "&se=", "&se=99999999999999999999", 1),
		"se negative":            strings.Replace(good, "&se=", "&se=-", 1),
		"sig not base64":         strings.Replace(good, "&sig=", "&sig=!!!", 1),
		"sig empty":              strings.Replace(good, "&sig=", "&sig=&sig2=", 1),
		"sr twice":               good + "&sr=" + address,
		"sr badly encoded":       strings.Replace(good, "sr=", "sr=%zz", 1),
		"cut short":              good[:len(good)/2],
		"a NUL inside":           strings.Replace(good, "&", "\x00&", 1),
	}
	for _, p := range target.backend.Info().Policies {
		if p.Name == "service" || p.Name == "registryRead" || p.Name == "registryReadWrite" {
			forms["policy "+p.Name] = sign(address, p.PrimaryKey, p.Name, time.Hour)
		}
	}
	return forms
}

func TestMQTTRefusesWhoIsNotAllowed(t *testing.T) {
	attack(t)
	d, other := target.device(t), target.device(t)
	eachMQTTDoor(t, func(t *testing.T, door door.Door) {
		refused := func(name, clientID, user, token string, want byte) {
			t.Run(name, func(t *testing.T) {
				c := mqttDial(t, door)
				_, err := c.Write(mqttHello(clientID, user, token))
				must(t, err)
				if said := untilClosed(t, c); !bytes.Equal(said, []byte{0x20, 2, 0, want}) {
					t.Errorf("the hub said % x, want CONNACK with return code %d", said, want)
				}
			})
		}
		for name, token := range tokenForms(t, d, other) {
			refused(name, d.DeviceID, mqttUser(d.DeviceID), token, 5)
		}
		good := target.token(t, d)
		refused("unknown device", "nobody", mqttUser("nobody"), good, 5)
		refused("unknown module", d.DeviceID+"/m", mqttUser(d.DeviceID+"/m"), good, 5)
		refused("client id of another", other.DeviceID, mqttUser(d.DeviceID), good, 2)
		refused("no user name", d.DeviceID, "", good, 5)
		refused("device id of 300 bytes", strings.Repeat("d", 300), mqttUser(strings.Repeat("d", 300)), good, 5)
		refused("bad api-version", d.DeviceID, strings.Replace(mqttUser(d.DeviceID), "2021-04-12", "now", 1), good, 1)
	})
}

func TestMQTTRefusesDisabledDevices(t *testing.T) {
	attack(t)
	d := target.device(t)
	token := target.token(t, d)
	status, _ := rest(t, http.MethodPut, "/devices/"+d.DeviceID, `{"deviceId":"`+d.DeviceID+`","status":"disabled","authentication":{"type":"sas","symmetricKey":{"primaryKey":"`+
		d.Authentication.SymmetricKey.PrimaryKey+`","secondaryKey":"`+d.Authentication.SymmetricKey.SecondaryKey+`"}}}`, "*")
	if status != http.StatusOK {
		t.Fatal("disabling the device: status ", status)
	}
	eachMQTTDoor(t, func(t *testing.T, door door.Door) {
		if code, err := mqttConnect(mqttDial(t, door), d.DeviceID, token); err != nil || code != 5 {
			t.Errorf("return code %d, %v, want 5", code, err)
		}
	})
}

func TestMQTTRefusesTheWrongCertificate(t *testing.T) {
	attack(t)
	right, wrong := certificate(t), certificate(t)
	sum := sha1.Sum(right.Certificate[0])
	thumbprint := strings.ToUpper(hex.EncodeToString(sum[:]))
	id := "cert-" + strings.ToLower(rand.Text()[:8])
	if status, body := rest(t, http.MethodPut, "/devices/"+id, `{"deviceId":"`+id+`","status":"enabled","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"`+
		thumbprint+`","secondaryThumbprint":"`+thumbprint+`"}}}`, ""); status != http.StatusOK {
		t.Fatal("creating the device: ", status, body)
	}
	for name, test := range map[string]struct {
		shown []tls.Certificate
		want  byte
	}{"right": {[]tls.Certificate{right}, 0}, "wrong": {[]tls.Certificate{wrong}, 5}, "none": {nil, 5}} {
		t.Run(name, func(t *testing.T) {
			config := target.backend.TLS()
			config.Certificates = test.shown
			c, err := tls.Dial("tcp", address+":8883", config)
			must(t, err)
			defer c.Close()
			_, err = c.Write(mqttPacket(0x10, mqttText("MQTT"), []byte{4, 0x82, 0, 60}, mqttText(id), mqttText(mqttUser(id))))
			must(t, err)
			answer := make([]byte, 4)
			_ = c.SetReadDeadline(time.Now().Add(patience))
			must(t, readFull(c, answer))
			if answer[3] != test.want {
				t.Errorf("return code %d, want %d", answer[3], test.want)
			}
		})
	}
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// length is a remaining length as it stands on the wire.
func length(n int) []byte {
	return mqttPacket(0, make([]byte, n))[1 : len(mqttPacket(0, make([]byte, n)))-n]
}

// TestMQTTEndsConnectionsThatDoNotBeginWell: no answer, the connection is closed at once, not at a time-out.
func TestMQTTEndsConnectionsThatDoNotBeginWell(t *testing.T) {
	attack(t)
	d := target.device(t)
	hello := mqttHello(d.DeviceID, mqttUser(d.DeviceID), target.token(t, d))
	connect := func(name string, level, flags byte, rest ...[]byte) []byte {
		return mqttPacket(0x10, append([][]byte{mqttText(name), {level, flags, 0, 60}}, rest...)...)
	}
	cases := map[string][]byte{
		"another protocol":                 []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"PUBLISH first":                    mqttPublish("devices/x/messages/events/", 1, 1, nil),
		"PINGREQ first":                    {0xC0, 0},
		"reserved type 0":                  {0x00, 0},
		"reserved type 15":                 {0xF0, 0},
		"CONNECT with flags":               append([]byte{0x1F}, hello[1:]...),
		"CONNECT of 268435455 bytes":       {0x10, 0xFF, 0xFF, 0xFF, 0x7F},
		"CONNECT of half a million bytes":  append([]byte{0x10}, length(500_000)...),
		"remaining length of five bytes":   {0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F},
		"empty CONNECT":                    {0x10, 0},
		"a name longer than the packet":    {0x10, 4, 0xFF, 0xFF, 'M', 'Q'},
		"no protocol name":                 connect("", 4, 2, mqttText("x")),
		"reserved bit":                     connect("MQTT", 4, 3, mqttText("x")),
		"password without user name":       connect("MQTT", 4, 0x42, mqttText("x"), mqttText("p")),
		"Will of QoS 3":                    connect("MQTT", 4, 0x1E, mqttText("x"), mqttText("w"), mqttText("w")),
		"flags promise what is not there":  connect("MQTT", 4, 0xC6, mqttText("x")),
		"client id is no UTF-8":            connect("MQTT", 4, 2, mqttText("\xff\xfe")),
		"user name holds NUL":              mqttHello(d.DeviceID, mqttUser(d.DeviceID)+"\x00", "x"),
		"MQTT 5 properties of 2^28 bytes":  connect("MQTT", 5, 2, []byte{0xFF, 0xFF, 0xFF, 0x7F}, mqttText("x")),
		"trailing bytes after the payload": mqttPacket(0x10, mqttText("MQTT"), []byte{4, 2, 0, 60}, mqttText("x"), []byte("more")),
	}
	eachMQTTDoor(t, func(t *testing.T, door door.Door) {
		for name, said := range cases {
			t.Run(name, func(t *testing.T) {
				c := mqttDial(t, door)
				_, err := c.Write(said)
				must(t, err)
				if answer := untilClosed(t, c); len(answer) > 0 && (answer[0] != 0x20 || answer[3] == 0) {
					t.Errorf("the hub said % x", answer)
				}
			})
		}
	})
}

// TestMQTTEndsConnectionsThatGoWrong: a device that has connected breaks a rule and is closed without an acknowledgement.
func TestMQTTEndsConnectionsThatGoWrong(t *testing.T) {
	attack(t)
	d, other := target.device(t), target.device(t)
	token := target.token(t, d)
	own := "devices/" + d.DeviceID + "/messages/events/"
	subscribe := func(id uint16, filters ...string) []byte {
		body := []byte{byte(id >> 8), byte(id)}
		for _, f := range filters {
			body = append(append(body, mqttText(f)...), 1)
		}
		return mqttPacket(0x82, body)
	}
	cases := map[string][]byte{
		"QoS 2":                               mqttPublish(own, 2, 1, []byte("x")),
		"QoS 3":                               mqttPublish(own, 3, 1, []byte("x")),
		"packet id 0":                         mqttPublish(own, 1, 0, []byte("x")),
		"another device's topic":              mqttPublish("devices/"+other.DeviceID+"/messages/events/", 1, 1, []byte("x")),
		"a longer name's topic":               mqttPublish("devices/"+d.DeviceID+"x/messages/events/", 1, 1, []byte("x")),
		"a module's topic":                    mqttPublish("devices/"+d.DeviceID+"/modules/m/messages/events/", 1, 1, []byte("x")),
		"no topic of IoT Hub":                 mqttPublish("home/temperature", 1, 1, []byte("x")),
		"empty topic":                         mqttPublish("", 1, 1, []byte("x")),
		"topic with NUL":                      mqttPublish(own+"a=\x00", 1, 1, nil),
		"topic is no UTF-8":                   mqttPublish(own+"a=\xff", 1, 1, nil),
		"wildcard in the topic":               mqttPublish(own+"#", 1, 1, nil),
		"property bag badly encoded":          mqttPublish(own+"a=%zz", 1, 1, nil),
		"topic of 65535 bytes":                mqttPublish(own+"a="+strings.Repeat("%", 65535-len(own)-2), 1, 1, nil),
		"one byte over 256 KiB":               mqttPublish(own, 1, 1, make([]byte, 256<<10+1)),
		"256 KiB and properties":              mqttPublish(own+"a=b", 1, 1, make([]byte, 256<<10)),
		"half a million bytes":                mqttPublish(own, 1, 1, make([]byte, 500_000)),
		"a length of half a million, no body": append([]byte{0x32}, length(500_000)...),
		"a length of 268435455":               {0x32, 0xFF, 0xFF, 0xFF, 0x7F},
		"remaining length of five bytes":      {0x32, 0x80, 0x80, 0x80, 0x80, 0x01},
		"a topic longer than the packet":      mqttPacket(0x32, []byte{0xFF, 0xFF, 'd', 0, 1}),
		"PUBLISH without a packet id":         mqttPacket(0x32, mqttText(own)),
		"second CONNECT":                      mqttHello(d.DeviceID, mqttUser(d.DeviceID), token),
		"CONNACK":                             {0x20, 2, 0, 0},
		"PUBREC":                              {0x50, 2, 0, 1},
		"PUBREL":                              {0x62, 2, 0, 1},
		"PUBCOMP":                             {0x70, 2, 0, 1},
		"AUTH":                                {0xF0, 0},
		"PUBACK of three bytes":               {0x40, 3, 0, 1, 0},
		"PUBACK of one byte":                  {0x40, 1, 0},
		"PINGREQ with a body":                 {0xC0, 1, 0},
		"DISCONNECT with a body":              {0xE0, 2, 0, 0},
		"SUBSCRIBE without filters":           subscribe(1),
		"SUBSCRIBE with id 0":                 subscribe(0, "devices/"+d.DeviceID+"/messages/devicebound/#"),
		"SUBSCRIBE to everything":             subscribe(1, "#"),
		"SUBSCRIBE to $SYS":                   subscribe(1, "$SYS/#"),
		"SUBSCRIBE to another device":         subscribe(1, "devices/"+other.DeviceID+"/messages/devicebound/#"),
		"SUBSCRIBE to an empty filter":        subscribe(1, ""),
		"SUBSCRIBE with bad flags":            append([]byte{0x80}, subscribe(1, "devices/"+d.DeviceID+"/messages/devicebound/#")[1:]...),
		"UNSUBSCRIBE without filters":         mqttPacket(0xA2, []byte{0, 1}),
	}
	eachMQTTDoor(t, func(t *testing.T, door door.Door) {
		for name, said := range cases {
			t.Run(name, func(t *testing.T) {
				c := mqttDial(t, door)
				if code, err := mqttConnect(c, d.DeviceID, token); err != nil || code != 0 {
					t.Fatal("return code ", code, err)
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				_, _ = c.Write(said) // the hub may be quicker to close than we to write
				if answer := untilClosed(t, c); len(answer) > 0 {
					t.Errorf("the hub said % x", answer)
				}
			})
		}
	})
}

// TestMQTTConnectionsThatDieInTheMiddle of a packet leave nothing behind, and nothing of the half packet is stored.
func TestMQTTConnectionsThatDieInTheMiddle(t *testing.T) {
	attack(t)
	d := target.device(t)
	token := target.token(t, d)
	whole := mqttPublish("devices/"+d.DeviceID+"/messages/events/", 1, 7, bytes.Repeat([]byte("x"), 300))
	eachMQTTDoor(t, func(t *testing.T, door door.Door) {
		for _, cut := range []int{1, 2, 5, 40, len(whole) - 1} {
			c := mqttDial(t, door)
			if code, err := mqttConnect(c, d.DeviceID, token); err != nil || code != 0 {
				t.Fatal("return code ", code, err)
			}
			_, err := c.Write(whole[:cut])
			must(t, err)
			drop(c)
		}
		for cut := range 20 {
			c := mqttDial(t, door)
			_, err := c.Write(mqttHello(d.DeviceID, mqttUser(d.DeviceID), token)[:1+cut*5])
			must(t, err)
			drop(c)
		}
	})
}

// drop resets a connection.
func drop(c net.Conn) {
	type below interface{ NetConn() net.Conn }
	for raw := c; raw != nil; {
		if tcp, ok := raw.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
			return
		}
		b, ok := raw.(below)
		if !ok {
			break
		}
		raw = b.NetConn()
	}
	_ = c.Close()
}

// TestMQTTClientThatDoesNotReadIsNoBurden: it pings without end and never reads; the hub stops reading from it, and its memory stays.
func TestMQTTClientThatDoesNotReadIsNoBurden(t *testing.T) {
	attack(t)
	before := target.gauge(t, "process_resident_memory_bytes")
	for range 8 {
		d := target.device(t)
		c := mqttDial(t, door.MQTT)
		if code, err := mqttConnect(c, d.DeviceID, target.token(t, d)); err != nil || code != 0 {
			t.Fatal("return code ", code, err)
		}
		pings := bytes.Repeat([]byte{0xC0, 0}, 32<<10)
		_ = c.SetWriteDeadline(time.Now().Add(2 * time.Second))
		written := 0
		for written < 64<<20 {
			n, err := c.Write(pings)
			written += n
			if err != nil {
				break // the hub no longer reads: just right
			}
		}
		if written >= 64<<20 {
			t.Error("the hub took 64 MiB of PINGREQ from a client that reads no answer")
		}
	}
	if grown := target.gauge(t, "process_resident_memory_bytes") - before; grown > 64<<20 {
		t.Errorf("eight clients that do not read cost %.0f MiB", grown/(1<<20))
	}
}

// TestNewerConnectionsOfOneIdentityCloseTheOlder, however fast they come; the last one works.
func TestNewerConnectionsOfOneIdentityCloseTheOlder(t *testing.T) {
	attack(t)
	d := target.device(t)
	token := target.token(t, d)
	results := make(chan error, 60)
	for range cap(results) {
		go func() {
			c, err := dialTLS(target, door.MQTT)
			if err != nil {
				results <- err
				return
			}
			defer c.Close()
			code, err := mqttConnect(c, d.DeviceID, token)
			if err == nil && code != 0 {
				err = fmt.Errorf("return code %d", code)
			}
			results <- err
		}()
	}
	accepted := 0
	for range cap(results) {
		if <-results == nil {
			accepted++
		}
	}
	if accepted == 0 {
		t.Error("none of them was accepted")
	}
	c := mqttDial(t, door.MQTT)
	if code, err := mqttConnect(c, d.DeviceID, token); err != nil || code != 0 {
		t.Fatal("afterwards: return code ", code, err)
	}
	_, err := c.Write(mqttPublish("devices/"+d.DeviceID+"/messages/events/", 1, 9, []byte("last")))
	must(t, err)
	ack := make([]byte, 4)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	must(t, readFull(c, ack))
	if ack[0] != 0x40 {
		t.Errorf("telemetry was answered with % x", ack)
	}
}
