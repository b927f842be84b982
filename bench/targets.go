package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// target is a server as one case sees it.
type target struct {
	name string
	*process
	dial func(i int, limit time.Duration) (sender, error)
	read func(limit time.Duration) (*reader, error) // of everything; nil for none
}

// Names of what is measured; those of the second block are peers.
const (
	emulatorName = "iolite"
	againstName  = "iolite, the other" // the program of -against
	ownMQTTName  = "iolite, MQTT"      // what a WebSocket costs besides
	ownAMQPName  = "iolite, AMQP"

	mosquittoName = "mosquitto"
	rabbitmqName  = "RabbitMQ"
	protonName    = "Qpid Proton C"
	mochiName     = "bare mochi"
	bareName      = "bare Go"
	gatheredName  = "bare Go, gathered"
	netHTTPName   = "bare net/http"
)

// Devices of each way to send, so that no connection takes another's place.
const (
	mqttDevices = iota * maxConns
	webSocketDevices
	amqpDevices
	amqpWebSocketDevices
	linkDevices
	httpsDevices
	allDevices
)

// maxConns bounds the connections of one case.
const maxConns = 200

func (e *emulator) login(i int) (mqttLogin, error) {
	token, err := e.deviceToken(i)
	id := deviceID(i)
	return mqttLogin{id, e.info.Hostname + "/" + id + "/?api-version=" + apiVersion + "&DeviceClientType=bench", token}, err
}

func eventsTopic(i int) string { return "devices/" + deviceID(i) + "/messages/events/" }

func (e *emulator) dialMQTT(i int, limit time.Duration) (sender, error) {
	l, err := e.login(i + mqttDevices)
	if err != nil {
		return nil, err
	}
	return dialMQTT(e.address("mqtt"), e.tls, l, eventsTopic(i+mqttDevices), limit)
}

func dialMQTT(address string, config *tls.Config, l mqttLogin, topic string, limit time.Duration) (sender, error) {
	c, err := dialTLS(address, config, limit)
	if err != nil {
		return nil, err
	}
	if err := mqttConnect(c, l); err != nil {
		_ = c.Close()
		return nil, err
	}
	return newMQTTSender(c, topic, unframed), nil
}

func (e *emulator) dialWebSocket(i int, limit time.Duration) (sender, error) {
	l, err := e.login(i + webSocketDevices)
	if err != nil {
		return nil, err
	}
	return dialWebSocket(e.address("https"), "/$iothub/websocket", e.tls, l, eventsTopic(i+webSocketDevices), limit)
}

func dialWebSocket(address, path string, config *tls.Config, l mqttLogin, topic string, limit time.Duration) (sender, error) {
	c, err := dialTLS(address, config, limit)
	if err != nil {
		return nil, err
	}
	ws, err := upgrade(c, config.ServerName, path, "mqtt")
	if err == nil {
		err = mqttConnect(framing{ws}, l)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return newMQTTSender(ws, topic, asFrame), nil
}

func (e *emulator) dialAMQP(i int, limit time.Duration) (sender, error) {
	return e.dialLinks([]int{i + amqpDevices}, limit)
}

// dialAMQPWebSocket does the same over a WebSocket, with a frame for each message.
func (e *emulator) dialAMQPWebSocket(i int, limit time.Duration) (sender, error) {
	c, err := dialTLS(e.address("https"), e.tls, limit)
	if err != nil {
		return nil, err
	}
	ws, err := upgrade(c, e.info.Hostname, "/$iothub/websocket", "AMQPWSB10")
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	s, err := e.openLinks(framing{ws}, []int{i + amqpWebSocketDevices})
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return s, nil
}

// dialManyLinks opens one connection for n devices.
func (e *emulator) dialManyLinks(n int) func(int, time.Duration) (sender, error) {
	return func(_ int, limit time.Duration) (sender, error) {
		devices := make([]int, n)
		for i := range devices {
			devices[i] = i + linkDevices
		}
		return e.dialLinks(devices, limit)
	}
}

func (e *emulator) dialLinks(devices []int, limit time.Duration) (sender, error) {
	nc, err := dialTLS(e.address("amqp"), e.tls, limit)
	if err != nil {
		return nil, err
	}
	s, err := e.openLinks(nc, devices)
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return s, nil
}

func (e *emulator) openLinks(nc net.Conn, devices []int) (*amqpSender, error) {
	c, err := openAMQP(nc, e.info.Hostname)
	if err != nil {
		return nil, err
	}
	claims, addresses := make([]claim, len(devices)), make([]string, len(devices))
	for i, d := range devices {
		token, err := e.deviceToken(d)
		if err != nil {
			return nil, err
		}
		claims[i] = claim{e.info.Hostname + "/devices/" + deviceID(d), token}
		addresses[i] = "/devices/" + deviceID(d) + "/messages/events"
	}
	next, err := c.putTokens(uint32(len(devices)), claims)
	if err != nil {
		return nil, err
	}
	return newAMQPSender(c, next, addresses)
}

func (e *emulator) dialHTTPS(i int, limit time.Duration) (sender, error) {
	token, err := e.deviceToken(i + httpsDevices)
	if err != nil {
		return nil, err
	}
	path := "/devices/" + deviceID(i+httpsDevices) + "/messages/events?api-version=" + apiVersion
	return dialHTTPS(e.address("https"), path, token, e.tls, limit)
}

func dialHTTPS(address, path, token string, config *tls.Config, limit time.Duration) (sender, error) {
	c, err := dialTLS(address, config, limit)
	if err != nil {
		return nil, err
	}
	return newHTTPSender(c, config.ServerName, path, token), nil
}

// Files of the certificate that all peers show.
const (
	certFile = "peer.pem"
	keyFile  = "peer-key.pem"
)

// makeCertificate writes a self-signed ECDSA P-256 certificate, the kind that the emulator shows, to dir.
func makeCertificate(dir string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: until(24 * time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, certFile), cert, 0o644); err != nil {
		return nil, err
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err := os.WriteFile(filepath.Join(dir, keyFile), private, 0o644); err != nil { // mosquitto reads it as a user of its own
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return clientConfig(roots, "localhost"), nil
}

// peerProcess is a peer that listens at address.
type peerProcess struct {
	*process
	address   string
	webSocket string // of mosquitto: where it speaks MQTT over WebSocket
}

// startPeer starts this program as a peer.
func (b *bench) startPeer(kind string) (*peerProcess, error) {
	address, err := freeAddress(b.address)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := start(self, "peer", "-kind", kind, "-address", address, "-certs", b.dir)
	if err != nil {
		return nil, err
	}
	return &peerProcess{process: p, address: address}, p.awaitPort(address)
}

// errNoMosquitto is why there are no figures of mosquitto.
var errNoMosquitto = errors.New("mosquitto is not installed (Debian: apt-get install mosquitto)")

// startMosquitto starts mosquitto with TLS and without anything that would hold messages back.
func (b *bench) startMosquitto() (*peerProcess, error) {
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			return nil, errNoMosquitto
		}
	}
	plain, err := freeAddress(b.address)
	if err != nil {
		return nil, err
	}
	webSocket, err := freeAddress(b.address)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(b.dir, "mosquitto.conf")
	if err := os.WriteFile(config, []byte(b.mosquittoConfig(plain, webSocket)), 0o600); err != nil {
		return nil, err
	}
	p, err := start(program, "-c", config)
	if err != nil {
		return nil, err
	}
	b.report.Environment.peer(mosquittoVersion(program))
	m := &peerProcess{process: p, address: plain, webSocket: webSocket}
	return m, errors.Join(p.awaitPort(plain), p.awaitPort(webSocket))
}

// mosquittoVersion is the first line of its help.
func mosquittoVersion(program string) string {
	text, _ := exec.Command(program, "-h").Output() // its exit status is 3
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// mosquittoConfig listens on addresses, the second of which speaks WebSocket. Left alone, mosquitto would choose a longer key than the others do.
func (b *bench) mosquittoConfig(addresses ...string) string {
	text := "user root\nlog_type error\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nmax_keepalive 65535\n"
	for i, address := range addresses {
		host, port, _ := net.SplitHostPort(address)
		text += fmt.Sprintf("listener %s %s\ncertfile %s\nkeyfile %s\nciphers_tls1.3 TLS_AES_128_GCM_SHA256\n", port, host, filepath.Join(b.dir, certFile), filepath.Join(b.dir, keyFile))
		if i == 1 {
			text += "protocol websockets\n"
		}
	}
	return text
}

// awaitPort waits until address accepts connections.
func (p *process) awaitPort(address string) error {
	for end := until(readyLimit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
		if err := p.failed(); err != nil {
			return err
		}
	}
	return fmt.Errorf("nothing listens at %s: %s", address, p.stderr)
}

// dialMQTT connects senders to a peer that takes anybody.
func (p *peerProcess) dialMQTT(config *tls.Config) func(int, time.Duration) (sender, error) {
	return func(i int, limit time.Duration) (sender, error) {
		return dialMQTT(p.address, config, mqttLogin{clientID: deviceID(i)}, eventsTopic(i), limit)
	}
}

// dialAMQP connects senders with so many links to one address of a peer that takes anybody.
func (p *peerProcess) dialAMQP(config *tls.Config, address string, links int) func(int, time.Duration) (sender, error) {
	return func(_ int, limit time.Duration) (sender, error) {
		nc, err := dialTLS(p.address, config, limit)
		if err != nil {
			return nil, err
		}
		c, err := openAMQP(nc, config.ServerName)
		if err != nil {
			_ = nc.Close()
			return nil, err
		}
		s, err := newAMQPSender(c, 0, slices.Repeat([]string{address}, links))
		if err != nil {
			_ = nc.Close()
			return nil, err
		}
		return s, nil
	}
}

// readAll subscribes to everything.
func (p *peerProcess) readAll(config *tls.Config) func(time.Duration) (*reader, error) {
	return func(limit time.Duration) (*reader, error) {
		c, err := dialTLS(p.address, config, limit)
		if err != nil {
			return nil, err
		}
		if err = mqttConnect(c, mqttLogin{clientID: "reader"}); err == nil {
			err = mqttSubscribe(c, "#")
		}
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		return startReader(c, func(seen func(int)) error { return countPublishes(c, seen) }), nil
	}
}
