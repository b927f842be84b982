package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

func TestConnectLetsInWhoItShould(t *testing.T) {
	tests := map[string]func(*packets.ConnectParams){
		"device":            func(*packets.ConnectParams) {},
		"old user name":     func(p *packets.ConnectParams) { p.Username = []byte("h/d1/api-version=2016-11-14") },
		"no api-version":    func(p *packets.ConnectParams) { p.Username = []byte("h/d1") },
		"preview version":   func(p *packets.ConnectParams) { p.Username = []byte("h/d1/?api-version=2018-08-30-preview") },
		"clean session":     cleanSession,
		"no keep-alive":     func(p *packets.ConnectParams) { p.Keepalive = 0 },
		"longest keepalive": func(p *packets.ConnectParams) { p.Keepalive = 65535 },
		"module": func(p *packets.ConnectParams) {
			p.ClientIdentifier, p.Username = "d1/m1", []byte("h/d1/m1/?api-version=2021-04-12")
		},
		"empty password": func(p *packets.ConnectParams) { p.PasswordFlag, p.Password = true, []byte{} },
	}
	r := newRig(t)
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			r.t = t
			r.connect("d1", change).sync()
		})
	}
}

func TestConnectRefusalsCarryTheirReturnCodes(t *testing.T) {
	tests := []struct {
		name   string
		change func(*packets.ConnectParams)
		code   byte
		rule   string // empty: the hub has logged it
	}{
		{"client id of another device", func(p *packets.ConnectParams) { p.ClientIdentifier = "d2" }, 2, "client-id"},
		{"client id of a module", func(p *packets.ConnectParams) { p.ClientIdentifier = "d1/m1" }, 2, "client-id"},
		{"empty client id", func(p *packets.ConnectParams) { p.ClientIdentifier = "" }, 2, "client-id"},
		{"empty client id, clean session", func(p *packets.ConnectParams) { p.ClientIdentifier, p.Clean = "", true }, 2, "client-id"},
		{"api-version", func(p *packets.ConnectParams) { p.Username = []byte("h/d1/?api-version=newest") }, 1, "api-version"},
		{"no identity", func(p *packets.ConnectParams) { p.Username = []byte("somebody") }, 5, "user-name"},
		{"no user name", func(p *packets.ConnectParams) { p.UsernameFlag, p.Username = false, nil }, 5, "user-name"},
		{"user name in another encoding", func(p *packets.ConnectParams) { p.Username = []byte("h/d\xff/?api-version=2021-04-12") }, 5, "user-name"},
		{"unknown device", func(p *packets.ConnectParams) { p.ClientIdentifier, p.Username = "d9", []byte("h/d9") }, 5, ""},
		{"unknown module", func(p *packets.ConnectParams) { p.ClientIdentifier, p.Username = "d1/m9", []byte("h/d1/m9") }, 5, ""},
		{"disabled device", func(p *packets.ConnectParams) { p.ClientIdentifier, p.Username = "off", []byte("h/off") }, 5, ""},
		{"will elsewhere", will("devices/d2/messages/events/", 1), 5, "will"},
		{"will with QoS 2", will("devices/d1/messages/events/", 2), 5, "will"},
		{"will with a bad bag", will("devices/d1/messages/events/a=%", 1), 5, "will"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.register(store.Identity{Key: device("off"), Status: store.Disabled})
			c := r.dial()
			ack := c.hello("d1", test.change)
			if ack.ReasonCode != test.code || ack.SessionPresent {
				t.Fatalf("return code %d, session present %v, want %d", ack.ReasonCode, ack.SessionPresent, test.code)
			}
			c.expectClosed()
			if test.rule != "" {
				r.expectRule(test.rule)
			}
			if n := len(r.hub.Connections()); n != 0 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func will(topic string, qos byte) func(*packets.ConnectParams) {
	return func(p *packets.ConnectParams) {
		p.WillFlag, p.WillTopic, p.WillQos, p.WillPayload = true, topic, qos, []byte("bye")
	}
}

// MQTT-3.1.2-2: the answer to another protocol level is return code 1, in the form of 3.1.1 also for MQTT 5.
func TestConnectRefusesOtherProtocolLevels(t *testing.T) {
	for _, test := range []struct {
		name  string
		level byte
	}{{"MQTT", 5}, {"MQTT", 3}, {"MQTT", 6}, {"MQTT", 132}, {"MQIsdp", 3}} {
		t.Run(fmt.Sprint(test.name, test.level), func(t *testing.T) {
			r := newRig(t)
			c := r.dial()
			p := connectParams("d1")
			p.ProtocolName = []byte(test.name)
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: test.level, Connect: p})
			var got [4]byte
			if _, err := c.r.Read(got[:]); err != nil || got != [4]byte{0x20, 2, 0, 1} {
				t.Fatalf("got % x, %v", got, err)
			}
			c.expectClosed()
			r.expectRule("protocol-level")
		})
	}
}

func TestConnectWithASharedAccessSignature(t *testing.T) {
	r := newRig(t, withAuth)
	id := r.register(store.Identity{Key: device("sas"), Authentication: store.Authentication{Type: store.AuthSAS}})
	now := r.clock.Now()
	tests := map[string]struct {
		password string
		code     byte
	}{
		"primary key":    {sas(id.Authentication.PrimaryKey, "h/devices/sas", now.Add(time.Hour)), 0},
		"secondary key":  {sas(id.Authentication.SecondaryKey, "h/devices/sas", now.Add(time.Hour)), 0},
		"wrong key":      {sas("AAAA", "h/devices/sas", now.Add(time.Hour)), 5},
		"other resource": {sas(id.Authentication.PrimaryKey, "h/devices/d1", now.Add(time.Hour)), 5},
		"expired":        {sas(id.Authentication.PrimaryKey, "h/devices/sas", now.Add(-time.Hour)), 5},
		"garbage":        {"SharedAccessSignature sr", 5},
		"none":           {"", 5},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newClientOf(t, r)
			ack := c.hello("sas", func(p *packets.ConnectParams) {
				p.PasswordFlag, p.Password = test.password != "", []byte(test.password)
			})
			if ack.ReasonCode != test.code {
				t.Fatalf("return code %d, want %d", ack.ReasonCode, test.code)
			}
		})
	}
}

// newClientOf dials for a subtest.
func newClientOf(t *testing.T, r *rig) *client {
	t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, nc)
}

func sas(key, resource string, end time.Time) string {
	sr := url.QueryEscape(resource)
	secret, _ := base64.StdEncoding.DecodeString(key)
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s\n%d", sr, end.Unix())
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%d", sr, url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))), end.Unix())
}

// IoT Hub: the certificate of the TLS handshake proves the device; there is no password then.
func TestConnectWithAClientCertificate(t *testing.T) {
	r := newRig(t, withAuth)
	mine, other := selfSigned(t), selfSigned(t)
	sum := sha256.Sum256(mine.Certificate[0])
	r.register(store.Identity{Key: device("x"), Authentication: store.Authentication{Type: store.AuthSelfSigned, PrimaryThumbprint: hex.EncodeToString(sum[:])}})
	for name, test := range map[string]struct {
		certs []tls.Certificate
		code  byte
	}{"mine": {[]tls.Certificate{mine}, 0}, "other": {[]tls.Certificate{other}, 5}, "none": {nil, 5}} {
		t.Run(name, func(t *testing.T) {
			server, peer := tlsPair(t, test.certs)
			var serving sync.WaitGroup
			serving.Go(func() { r.broker.Serve(door.Wrap(server, door.MQTT)) })
			t.Cleanup(serving.Wait)
			c := newClient(t, peer)
			if ack := c.hello("x"); ack.ReasonCode != test.code {
				t.Fatalf("return code %d, want %d", ack.ReasonCode, test.code)
			}
			_ = peer.Close()
		})
	}
}

func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"localhost"},
		NotBefore: clock.Wall().Add(-time.Hour), NotAfter: clock.Wall().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// tlsPair returns both ends of a TLS connection over loopback after the handshake.
func tlsPair(t testing.TB, certs []tls.Certificate) (server, client *tls.Conn) {
	t.Helper()
	a, b := tcpPair(t)
	server = tls.Server(a, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, ClientAuth: tls.RequestClientCert})
	client = tls.Client(b, &tls.Config{InsecureSkipVerify: true, Certificates: certs})
	var shaking sync.WaitGroup
	shaking.Go(func() { _ = server.Handshake() })
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	shaking.Wait()
	return server, client
}

func tcpPair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return server, client
}

// SDKs retry after return code 3, and give up after 5.
func TestConnectToAClosedHubIsUnavailable(t *testing.T) {
	r := newRig(t)
	r.hub.Close()
	if ack := r.dial().hello("d1"); ack.ReasonCode != 3 {
		t.Fatalf("return code %d", ack.ReasonCode)
	}
}

func TestConnectTellsTheHubAboutTheConnection(t *testing.T) {
	r := newRig(t)
	r.connect("d1", func(p *packets.ConnectParams) {
		p.Username = []byte("h/d1/?api-version=2021-04-12&DeviceClientType=sdk%2F1&model-id=dtmi%3Aa%3Bb%3B1")
	})
	got := r.hub.Connections()
	if len(got) != 1 || got[0].Key != device("d1") || got[0].UserAgent != "sdk/1" || got[0].Door != "mqtt" || got[0].BytesIn == 0 {
		t.Errorf("connections: %+v", got)
	}
	d, err := r.hub.Admin().Identity(context.Background(), device("d1"))
	if err != nil || d.ModelID != "dtmi:a;b;1" || !d.Connected {
		t.Errorf("identity: %+v, %v", d, err)
	}
}

// What is no MQTT 3.1.1 is closed without an answer, and named in the log.
func TestMalformedBeginningsAreClosed(t *testing.T) {
	hello := encode(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4, Connect: connectParams("d1")})
	with := func(change func(b []byte)) []byte {
		b := append([]byte(nil), hello...)
		change(b)
		return b
	}
	tests := []struct {
		name  string
		bytes []byte
		rule  string
	}{
		{"PUBLISH first", encode(t, telemetry("devices/d1/messages/events/", 1, "x")), "first-packet-connect"},
		{"PINGREQ first", []byte{0xC0, 0}, "first-packet-connect"},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), "malformed-packet"},
		{"TLS", []byte{0x16, 3, 1, 2, 0, 1, 0}, "malformed-packet"},
		{"zeros", make([]byte, 16), "first-packet-connect"},
		{"reserved header flags", with(func(b []byte) { b[0] |= 1 }), "malformed-packet"},
		{"reserved connect flag", with(func(b []byte) { b[9] |= 1 }), "malformed-packet"},
		{"will QoS without will", with(func(b []byte) { b[9] |= 1 << 3 }), "malformed-packet"},
		{"password without user name", with(func(b []byte) { b[9] = 1 << 6 }), "malformed-packet"},
		{"protocol name", with(func(b []byte) { b[4] = 'm' }), "malformed-packet"},
		{"client id too long for the packet", with(func(b []byte) { b[12] = 0xFF }), "malformed-packet"},
		{"empty packet", []byte{0x10, 0}, "malformed-packet"},
		{"giant remaining length", []byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F}, "packet-too-large"},
		{"too large by one", append([]byte{0x10}, appendLength(nil, maxConnect+1)...), "packet-too-large"},
		{"remaining length of five bytes", []byte{0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F}, "malformed-packet"},
		{"two CONNECTs", append(hello[:len(hello):len(hello)], hello...), "one-connect"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			c := r.dial()
			if _, err := c.conn.Write(test.bytes); err != nil {
				t.Fatal(err)
			}
			if test.rule == "one-connect" {
				c.expect(packets.Connack)
			}
			c.expectClosed()
			r.expectRule(test.rule)
		})
	}
}

// A client that says nothing, or stops in the middle of its CONNECT, is let go.
func TestASilentClientIsClosed(t *testing.T) {
	hello := encode(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4, Connect: connectParams("d1")})
	for name, beginning := range map[string][]byte{"nothing": nil, "one byte": hello[:1], "half": hello[:len(hello)/2]} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, impatient(50*time.Millisecond, writeTimeout))
			c := r.dial()
			if _, err := c.conn.Write(beginning); err != nil {
				t.Fatal(err)
			}
			c.expectClosed()
			r.expectRule("connect-timeout")
		})
	}
}

// A packet must be complete in time; a byte now and then does not gain any.
func TestADribblingClientIsClosed(t *testing.T) {
	r := newRig(t, impatient(200*time.Millisecond, writeTimeout))
	c := r.dial()
	hello := encode(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4, Connect: connectParams("d1")})
	began := clock.Wall()
	for _, b := range hello {
		if _, err := c.conn.Write([]byte{b}); err != nil {
			break
		}
		_ = clock.New().Sleep(context.Background(), 50*time.Millisecond) // the client's pace
	}
	r.expectRule("connect-timeout")
	if waited := clock.Wall().Sub(began); waited > 2*time.Second {
		t.Errorf("it took %v", waited)
	}
}

// IoT Hub: the server waits 1.5 times the keep-alive, and never longer than 29.45 minutes.
func TestPatienceIsOneAndAHalfKeepAlives(t *testing.T) {
	for keepAlive, want := range map[uint16]time.Duration{0: 1767 * time.Second, 1: 1500 * time.Millisecond, 240: 360 * time.Second,
		1177: 1765500 * time.Millisecond, 1178: 1767 * time.Second, 65535: 1767 * time.Second} {
		if got := patience(keepAlive); got != want {
			t.Errorf("keep-alive %d: %v, want %v", keepAlive, got, want)
		}
	}
}

// MQTT-3.1.2-24. A client that dribbles bytes of one packet has not sent a packet.
func TestKeepAliveEndsASilentConnectionAndSendsItsWill(t *testing.T) {
	t.Parallel()
	for name, dribble := range map[string][]byte{"silent": nil, "half a packet": {0x30, 100, 0, 5}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := r.connect("d1", will("devices/d1/messages/events/", 1), func(p *packets.ConnectParams) { p.Keepalive = 1 })
			c.sync()
			began := clock.Wall()
			if _, err := c.conn.Write(dribble); err != nil {
				t.Fatal(err)
			}
			c.expectClosed()
			if waited := clock.Wall().Sub(began); waited < 1400*time.Millisecond {
				t.Errorf("closed after %v", waited)
			}
			r.expectRule("keep-alive")
			r.eventually("the Will", func() bool { return strings.Join(r.bodies(), ",") == "bye" })
		})
	}
}

// One identity has one connection: the newer one wins (400027), and the older one's end does not end it.
func TestANewerConnectionClosesTheOlder(t *testing.T) {
	r := newRig(t)
	older := r.connect("d1")
	newer := r.connect("d1")
	older.expectClosed()
	if w := r.expectRule("session-ended"); w.attrs["resultType"] != "400027" {
		t.Errorf("warning: %v", w)
	}
	newer.sync()
	if n := len(r.hub.Connections()); n != 1 {
		t.Errorf("%d connections", n)
	}
	r.connect("d1/m1").sync()
	newer.sync() // the module is another identity
}

// The hub's ends of a session close the connection: deleted, disabled, expired token, reset.
func TestTheHubEndsConnections(t *testing.T) {
	ctx := context.Background()
	tests := map[string]struct {
		end  func(r *rig) error
		code string
	}{
		"deleted": {func(r *rig) error { return r.hub.Admin().DeleteIdentity(ctx, device("d1"), "*") }, "404001"},
		"disabled": {func(r *rig) error {
			d, err := r.hub.Admin().Identity(ctx, device("d1"))
			if err != nil {
				return err
			}
			d.Status = store.Disabled
			_, err = r.hub.Admin().UpdateIdentity(ctx, d.Identity, "*")
			return err
		}, "403012"},
		"disconnected":  {func(r *rig) error { r.hub.Disconnect("d1"); return nil }, ""},
		"reset":         {func(r *rig) error { return r.hub.Reset(ctx) }, ""},
		"broker closed": {func(r *rig) error { r.broker.Close(); return nil }, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.connect("d1")
			c.sync()
			if err := test.end(r); err != nil {
				t.Fatal(err)
			}
			c.expectClosed()
			if test.code != "" {
				if w := r.expectRule("session-ended"); w.attrs["resultType"] != test.code {
					t.Errorf("warning: %v", w)
				}
			}
		})
	}
}

func TestAnExpiredTokenEndsTheConnection(t *testing.T) {
	r := newRig(t, withAuth)
	id := r.register(store.Identity{Key: device("sas"), Authentication: store.Authentication{Type: store.AuthSAS}})
	c := r.connect("sas", func(p *packets.ConnectParams) {
		p.PasswordFlag, p.Password = true, []byte(sas(id.Authentication.PrimaryKey, "h/devices/sas", r.clock.Now().Add(time.Hour)))
	})
	c.sync()
	r.clock.Advance(2 * time.Hour)
	c.expectClosed()
	if w := r.expectRule("session-ended"); w.attrs["resultType"] != fmt.Sprint(int(hub.CodeTokenExpired)) {
		t.Errorf("warning: %v", w)
	}
}
