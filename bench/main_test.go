package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTheMessageHas256Bytes(t *testing.T) {
	if len(body) != bodySize || !json.Valid(body) {
		t.Errorf("%d bytes: %s", len(body), body)
	}
}

// Every way to send gets each message acknowledged, stored, and to a reader.
func TestEverySenderIsHeard(t *testing.T) {
	e := embed(t)
	for name, dial := range map[string]func(int, time.Duration) (sender, error){
		"MQTT": e.dialMQTT, "WebSocket": e.dialWebSocket, "AMQP": e.dialAMQP, "AMQP over WebSocket": e.dialAMQPWebSocket, "links": e.dialManyLinks(3), "HTTPS": e.dialHTTPS,
	} {
		loads, conns := []load{flood, each, one}, 2
		switch name {
		case "HTTPS":
			loads = []load{one}
		case "links":
			loads, conns = []load{flood.times(3), each.times(3)}, 1 // of the same devices
		}
		for _, l := range loads {
			c := benchCase{group: name, load: l, conns: conns}
			cost, err := c.run(target{name: name, process: e.process, dial: dial, read: e.readEvents}, 500)
			if err != nil || cost.server <= 0 || cost.client <= 0 {
				t.Errorf("%s, %s: %+v us, %v", name, l.name, cost, err)
			}
		}
	}
}

// Every round trip of device management is answered.
func TestEveryExchangeIsAnswered(t *testing.T) {
	e := embed(t)
	b := bench{exchangeCount: 40, registered: minRegistered}
	if err := e.register(t.Context(), b.registered); err != nil {
		t.Fatal(err)
	}
	for _, x := range b.exchanges(e) {
		f, err := x.measure()
		if err != nil || f.p50 <= 0 || f.p99 < f.p50 {
			t.Errorf("%s: %+v, %v", x.name, f, err)
		}
	}
}

// recorder is a sender that acknowledges everything at once and remembers what it was told.
type recorder struct {
	sends    []int
	inFlight int
	most     int
}

func (r *recorder) send(n int) error {
	r.sends = append(r.sends, n)
	r.inFlight += n
	r.most = max(r.most, r.inFlight)
	return nil
}

func (r *recorder) acks() (int, error) {
	if r.inFlight == 0 {
		return 0, errors.New("waits for what was never sent")
	}
	n := min(r.inFlight, 3)
	r.inFlight -= n
	return n, nil
}

func (r *recorder) close() {}

func TestLoadsKeepTheirWindow(t *testing.T) {
	for _, test := range []struct {
		load       load
		sent, most int
	}{{flood, 112, 16}, {each, 100, 16}, {one, 100, 1}, {flood.times(2), 112, 32}} {
		var r recorder
		n, err := test.load.drive(&r, 100)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, s := range r.sends {
			sum += s
		}
		if n != test.sent || sum != test.sent || r.most != test.most || r.inFlight != 0 {
			t.Errorf("%+v: %d of %d acknowledged, %d at most in flight", test.load, n, sum, r.most)
		}
	}
}

func TestTheBarePeersAnswer(t *testing.T) {
	for name, head := range map[string]func(net.Conn){"each": answerEach, "gathered": answerGathered} {
		server, client := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			head(server)
			_ = server.Close()
		}()
		if err := mqttConnect(client, mqttLogin{clientID: "d"}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n, err := one.drive(newMQTTSender(client, "topic", unframed), 3)
		if n != 3 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		_ = client.Close()
		<-ended
	}
}

// The sink in C takes what devices send over AMQP, on one link and on several, and asks for nothing.
func TestTheSinkAcceptsEveryMessage(t *testing.T) {
	b := &bench{dir: t.TempDir(), address: "127.0.0.1"}
	config, err := makeCertificate(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := b.startProton(t.Context())
	if errors.Is(err, errNoProton) {
		t.Skip("SKIPPED: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer sink.stop()
	for links, loads := range map[int][]load{1: {flood, each, one}, 3: {flood.times(3), each.times(3)}} {
		for _, l := range loads {
			s, err := sink.dialAMQP(config, protonAddress, links)(0, benchLimit)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := l.drive(s, 5000); n < 5000 || err != nil { // more than the credit that it grants at first
				t.Errorf("%d links, %s: %d messages, %v", links, l.name, n, err)
			}
			s.close()
		}
	}
}

// A peer that chose another cipher would be compared by its cipher.
func TestEveryPeerSpeaksTheSameTLS(t *testing.T) {
	b := &bench{dir: t.TempDir(), address: "127.0.0.1"}
	config, err := makeCertificate(b.dir)
	if err == nil {
		err = os.Chmod(b.dir, 0o755) // mosquitto reads it as a user of its own
	}
	if err != nil {
		t.Fatal(err)
	}
	e := embed(t)
	agreed := func(address string, config *tls.Config) string {
		c, err := dialTLS(address, config, benchLimit)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		s := c.ConnectionState()
		return fmt.Sprint(tls.VersionName(s.Version), " ", tls.CipherSuiteName(s.CipherSuite), " ", s.CurveID)
	}
	want := agreed(e.address("mqtt"), e.tls)
	for _, peer := range []struct {
		name  string
		start func() (*peerProcess, error)
		none  error
	}{
		{protonName, func() (*peerProcess, error) { return b.startProton(t.Context()) }, errNoProton}, {mosquittoName, b.startMosquitto, errNoMosquitto},
	} {
		t.Run(peer.name, func(t *testing.T) {
			p, err := peer.start()
			if errors.Is(err, peer.none) {
				t.Skip("SKIPPED: ", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer p.stop()
			if got := agreed(p.address, config); got != want {
				t.Errorf("%s, the emulator %s", got, want)
			}
		})
	}
}

// A machine without a compiler has a peer less, and the report says so.
func TestAMissingCompilerIsAMissingPeer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	b := &bench{dir: t.TempDir(), address: "127.0.0.1"}
	if p, err := b.startProton(t.Context()); p != nil || !errors.Is(err, errNoProton) {
		t.Errorf("%+v, %v", p, err)
	}
	b.report.Environment.missing(errNoProton)
	var text bytes.Buffer
	if err := b.report.writeText(&text); err != nil || !strings.Contains(text.String(), "missing: "+errNoProton.Error()) {
		t.Errorf("%v: %s", err, text.String())
	}
}

// What abuse sends to the bare peers ends the connection at most.
func TestTheBarePeersOutliveGarbage(t *testing.T) {
	for _, garbage := range [][]byte{{0x30, 0, 0x30, 1, 9, 0x32, 3, 0xFF, 0xFF, 0}, append([]byte{0x30, 0xFF, 0xFF, 0x7F}, make([]byte, 32<<10)...)} {
		server, client := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			answerEach(server)
			_ = server.Close()
		}()
		_, _ = client.Write(garbage)
		_ = client.Close()
		<-ended
	}
}

func TestRefusalsAreErrors(t *testing.T) {
	s := amqpSender{}
	rejected := newList(descDisposition).bool(true).uint(0).null().bool(true).add(newList(0x25).encode()...).encode()
	p, err := parsePerformative(rejected)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.count(p); err == nil {
		t.Errorf("%d messages settled by a rejection", n)
	}
	server, client := net.Pipe()
	defer func() { _, _ = server.Close(), client.Close() }()
	go func() {
		_, _ = server.Read(make([]byte, 1024))
		_, _ = server.Write([]byte("HTTP/1.1 401 Unauthorized\r\n\r\n"))
	}()
	h := newHTTPSender(client, "h", "/", "")
	go func() { _ = h.send(1) }()
	if _, err := h.acks(); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("401 is taken for %v", err)
	}
}

func TestTheProcessIsSeen(t *testing.T) {
	p := &process{pid: os.Getpid()}
	before, err := p.cpu()
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Millisecond); time.Now().Before(end); { // uses the processor, on purpose
	}
	after, err := p.cpu()
	if err != nil || after <= before {
		t.Errorf("CPU time went from %v to %v (%v)", before, after, err)
	}
	m, err := p.memory()
	if err != nil || m.Resident < 1<<20 || m.Anonymous > m.Resident {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestMediansAndRatios(t *testing.T) {
	var r report
	for _, v := range []float64{4, 1, 3} {
		r.cost("g", "l", emulatorName, spent{v, 2 * v})
		r.cost("g", "l", "peer", spent{2, 7})
	}
	r.finish()
	c := r.Telemetry[0]
	if c.Servers[0].Median != 3 || c.Servers[0].Min != 1 || c.Servers[0].Max != 4 || c.Ratios["peer"].Median != 1.5 || c.Ratios["peer"].Min != 0.5 || c.Ratios["peer"].Max != 2 {
		t.Errorf("%+v", c)
	}
	var text, markdown, out bytes.Buffer
	if err := errors.Join(r.writeText(&text), r.writeMarkdown(&markdown), r.writeJSON(&out)); err != nil || !json.Valid(out.Bytes()) {
		t.Errorf("%v: %s", err, out.Bytes())
	}
	const row = "| g | l | peer | 2.00 | 2.00 | 2.00 | 1.50 | 0.50..2.00 | 7.00 |"
	if !strings.Contains(markdown.String(), row) || !strings.Contains(text.String(), " 0.50..2.00  7.00") {
		t.Errorf("no ratio in\n%s\n%s", text.String(), markdown.String())
	}
}

// A WebSocket is compared with our own MQTT or AMQP under the same load.
func TestWebSocketsAreComparedWithWhatTheyCarry(t *testing.T) {
	var r report
	for round := range 3 {
		r.cost(groupMQTT, "each", emulatorName, spent{server: float64(10 + round)})
		r.cost(groupWebSocket, "each", emulatorName, spent{server: float64(2 * (10 + round))})
		r.cost(groupWebSocket, "flood", emulatorName, spent{server: 1})
		r.cost(groupAMQP, "each", emulatorName, spent{server: float64(10 + round)})
		r.cost(groupAMQPWS, "each", emulatorName, spent{server: float64(3 * (10 + round))})
	}
	r.finish()
	if ratio := r.Telemetry[1].Ratios[ownMQTTName]; ratio.Median != 2 || ratio.Min != 2 || ratio.Max != 2 {
		t.Errorf("%+v", ratio)
	}
	if ratio := r.Telemetry[4].Ratios[ownAMQPName]; ratio.Median != 3 {
		t.Errorf("%+v", ratio)
	}
	if r.Telemetry[2].Ratios != nil {
		t.Errorf("compared with what was not measured: %+v", r.Telemetry[2].Ratios)
	}
}
