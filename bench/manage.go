package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/amqp10"
)

// manageLimit bounds all connections of this part.
const manageLimit = 10 * time.Minute

// Bounds of the devices that are registered: the exchanges use sixteen of them.
const minRegistered, maxRegistered = 100, 1_000_000

// exchange is one thing that is asked for and answered, over and over.
type exchange struct {
	name   string
	count  int // how often
	width  int // askers at the same time, each on a connection of its own
	server *process
	open   func(i int) (ask func() error, closeAll func(), err error)
}

// measureManage measures device management: twins, direct methods, queries, and what a registered device costs.
func (b *bench) measureManage(ctx context.Context) error {
	e, err := launch(ctx, b.program, b.address, filepath.Join(b.dir, "kept"))
	if err != nil {
		return err
	}
	defer e.stop()
	if err := b.measureRegistration(ctx, e, b.registered); err != nil {
		return err
	}
	list := b.exchanges(e)
	if b.peers {
		floors, stop, err := b.floors()
		defer stop()
		if err != nil {
			return err
		}
		list = append(floors, list...)
	}
	list = slices.DeleteFunc(list, func(x exchange) bool { return !b.wanted(x.name) })
	for range b.rounds {
		for i := range list {
			if err := ctx.Err(); err != nil {
				return err
			}
			figures, err := list[i].measure()
			if err != nil {
				return fmt.Errorf("%s: %w", list[i].name, err)
			}
			b.report.exchange(figures)
		}
	}
	return nil
}

// measureRegistration registers devices until there are so many, a hundred in a request, and notes what they cost.
func (b *bench) measureRegistration(ctx context.Context, e *emulator, devices int) error {
	before, err := b.settled(e.process)
	if err != nil {
		return err
	}
	cpu, err := e.cpu()
	if err != nil {
		return err
	}
	n := float64(devices - e.registered)
	begin := time.Now()
	if err := e.register(ctx, devices); err != nil {
		return err
	}
	r := registrationFigures{Devices: devices, Seconds: time.Since(begin).Seconds()}
	after, err := e.cpu()
	if err != nil {
		return err
	}
	r.CPUMicros = float64((after - cpu).Microseconds()) / n
	settled, err := b.settled(e.process)
	if err != nil {
		return err
	}
	r.Bytes = float64(settled.Resident-before.Resident) / n
	b.report.Registration = append(b.report.Registration, r)
	return nil
}

// loopbackName is the least that a round trip takes.
const loopbackName = "bare loopback: TLS, PUBLISH and PUBACK"

// methodName is a direct method.
const methodName = "direct method: REST, MQTT device, REST"

// floors are the bare servers that the round trips are compared with.
func (b *bench) floors() (list []exchange, stop func(), err error) {
	var started []*peerProcess
	stop = func() {
		for _, p := range started {
			p.stop()
		}
	}
	for _, kind := range []string{"mqtt", "http"} {
		p, err := b.startPeer(kind)
		if err != nil {
			return nil, stop, err
		}
		started = append(started, p)
	}
	mqtt, rest := started[0], started[1]
	return []exchange{
		{loopbackName, b.exchangeCount, 1, mqtt.process, func(int) (func() error, func(), error) {
			s, err := dialMQTT(mqtt.address, b.peerTLS, mqttLogin{clientID: "d"}, "topic", manageLimit)
			return func() error { _, err := one.drive(s, 1); return err }, func() { s.close() }, err
		}},
		{"bare net/http: TLS, POST and 204", b.exchangeCount, 1, rest.process, func(int) (func() error, func(), error) {
			c, err := dialTLS(rest.address, b.peerTLS, manageLimit)
			if err != nil {
				return nil, nil, err
			}
			s := newHTTPSender(c, rest.address, "/", "none")
			return func() error { _, err := one.drive(s, 1); return err }, s.close, nil
		}},
	}, stop, nil
}

// exchanges is the table of what is measured.
func (b *bench) exchanges(e *emulator) []exchange {
	n := b.exchangeCount
	device := "/twins/" + deviceID(0)
	method := []byte(`{"methodName":"echo","payload":{"n":1},"responseTimeoutInSeconds":30}`)
	patch := []byte(`{"properties":{"desired":{"interval":5}}}`)
	query := func(text string) []byte { return fmt.Appendf(nil, `{"query":%q}`, text) }
	return []exchange{
		{methodName, n, 1, e.process, e.invoking(method)},
		{"direct method: the same, 16 callers and devices", n, 16, e.process, e.invoking(method)},
		{"cloud-to-device message: AMQP, MQTT device, accepted", n, 1, e.process, e.commanding},
		{"twin: GET, REST", n, 1, e.process, e.asking("GET", device, nil)},
		{"twin: PATCH of desired, REST", n, 1, e.process, e.asking("PATCH", device, patch)},
		{"twin: GET, MQTT", n, 1, e.process, e.twinning("$iothub/twin/GET/?$rid=1", nil)},
		{"twin: PATCH of reported, MQTT", n, 1, e.process, e.twinning("$iothub/twin/PATCH/properties/reported/?$rid=1", []byte(`{"temperature":21.5}`))},
		{fmt.Sprintf("query: first 100 of %d devices", b.registered), max(n/20, 1), 1, e.process, e.asking("POST", "/devices/query", query("SELECT * FROM devices"))},
		{fmt.Sprintf("query: COUNT() with a condition, %d devices", b.registered), max(n/200, 1), 1, e.process,
			e.asking("POST", "/devices/query", query("SELECT COUNT() AS n FROM devices WHERE properties.reported.temperature > 20 OR tags.floor = 3"))},
	}
}

// measure runs an exchange and returns its times.
func (x *exchange) measure() (roundTrip, error) {
	f := roundTrip{name: x.name, count: x.count, width: x.width}
	asks := make([]func() error, x.width)
	for i := range asks {
		ask, closeAll, err := x.open(i)
		if err != nil {
			return f, err
		}
		defer closeAll()
		for range min(x.count/x.width/10+1, 50) { // warms up
			if err := ask(); err != nil {
				return f, err
			}
		}
		asks[i] = ask
	}
	before, err := x.server.cpu()
	if err != nil {
		return f, err
	}
	var mu sync.Mutex
	var times []float64
	err = inParallel(x.width, x.width, func(i int) error {
		mine := make([]float64, 0, x.count/x.width)
		for range max(x.count/x.width, 1) {
			begin := time.Now()
			if err := asks[i](); err != nil {
				return err
			}
			mine = append(mine, float64(time.Since(begin).Nanoseconds())/1000)
		}
		mu.Lock()
		defer mu.Unlock()
		times = append(times, mine...)
		return nil
	})
	if err != nil {
		return f, err
	}
	after, err := x.server.cpu()
	slices.Sort(times)
	f.p50, f.p99, f.cpu = percentile(times, 50), percentile(times, 99), float64((after-before).Nanoseconds())/1000/float64(len(times))
	return f, err
}

// percentile returns a percentile of sorted samples.
func percentile(sorted []float64, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

// rest is an HTTPS connection of a back end that is kept open.
type rest struct {
	c     net.Conn
	in    *bufio.Reader
	host  string
	token string
}

func (e *emulator) dialREST() (*rest, error) {
	claim, err := e.ownerClaim("")
	if err != nil {
		return nil, err
	}
	c, err := dialTLS(e.address("https"), e.tls, manageLimit)
	if err != nil {
		return nil, err
	}
	return &rest{c, bufio.NewReader(c), e.info.Hostname, claim.token}, nil
}

// prepare encodes a request once.
func (r *rest) prepare(method, path string, body []byte) []byte {
	head := method + " " + path + "?api-version=" + apiVersion + " HTTP/1.1\r\nHost: " + r.host + "\r\nAuthorization: " + r.token +
		"\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	return append([]byte(head), body...)
}

// ask sends a request and reads the whole answer, which must be 200.
func (r *rest) ask(request []byte) error {
	if _, err := r.c.Write(request); err != nil {
		return err
	}
	answer, err := http.ReadResponse(r.in, nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return err
}

// asking asks one thing over REST.
func (e *emulator) asking(method, path string, body []byte) func(int) (func() error, func(), error) {
	return func(int) (func() error, func(), error) {
		r, err := e.dialREST()
		if err != nil {
			return nil, nil, err
		}
		request := r.prepare(method, path, body)
		return func() error { return r.ask(request) }, func() { _ = r.c.Close() }, nil
	}
}

// invoking calls a method of an MQTT device that answers with what it got.
func (e *emulator) invoking(body []byte) func(int) (func() error, func(), error) {
	return func(i int) (func() error, func(), error) {
		c, err := e.dialDevice(i)
		if err != nil {
			return nil, nil, err
		}
		if err := mqttSubscribe(c, "$iothub/methods/POST/#"); err != nil {
			_ = c.Close()
			return nil, nil, err
		}
		done := make(chan struct{})
		go func() { // ends with the connection
			defer close(done)
			_ = answerMethods(c)
		}()
		ask, closeREST, err := e.asking("POST", "/twins/"+deviceID(i)+"/methods", body)(i)
		return ask, func() {
			if closeREST != nil {
				closeREST()
			}
			_ = c.Close()
			<-done
		}, err
	}
}

func (e *emulator) dialDevice(i int) (net.Conn, error) {
	l, err := e.login(i)
	if err != nil {
		return nil, err
	}
	c, err := dialTLS(e.address("mqtt"), e.tls, manageLimit)
	if err != nil {
		return nil, err
	}
	if err := mqttConnect(c, l); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// answerMethods answers every direct method with status 200 and the payload that came.
func answerMethods(c net.Conn) error {
	in := packetReader{c: c}
	for {
		topic, payload, err := in.next()
		if err != nil {
			return err
		}
		at := bytes.Index(topic, []byte("/?$rid="))
		if at < 0 {
			return fmt.Errorf("unexpected topic %s", topic)
		}
		if _, err := c.Write(publishPacket("$iothub/methods/res/200"+string(topic[at:]), payload)); err != nil {
			return err
		}
	}
}

// commanding sends a message as a back end over AMQP and waits until an MQTT device that subscribed with QoS 0 has got it, and until it
// is accepted.
func (e *emulator) commanding(i int) (func() error, func(), error) {
	c, err := e.dialDevice(i)
	if err != nil {
		return nil, nil, err
	}
	s, err := e.dialCommands(i)
	if err == nil {
		err = mqttSubscribe(c, "devices/"+deviceID(i)+"/messages/devicebound/#")
	}
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	in := packetReader{c: c}
	ask := func() error {
		if err := s.send(1); err != nil {
			return err
		}
		if _, _, err := in.next(); err != nil {
			return err
		}
		_, err := s.acks()
		return err
	}
	return ask, func() {
		s.close()
		_ = c.Close()
	}, nil
}

// dialCommands opens a back end's link for cloud-to-device messages.
func (e *emulator) dialCommands(i int) (*amqpSender, error) {
	nc, err := dialTLS(e.address("amqp"), e.tls, manageLimit)
	if err != nil {
		return nil, err
	}
	s, err := e.openCommands(nc, i)
	if err != nil {
		_ = nc.Close()
	}
	return s, err
}

func (e *emulator) openCommands(nc net.Conn, i int) (*amqpSender, error) {
	c, err := openAMQP(nc, e.info.Hostname)
	if err != nil {
		return nil, err
	}
	owner, err := e.ownerClaim("messages/devicebound")
	if err != nil {
		return nil, err
	}
	next, err := c.putTokens(1, []claim{owner})
	if err != nil {
		return nil, err
	}
	message := amqp10.Message{Properties: &amqp10.Properties{To: "/devices/" + deviceID(i) + "/messages/devicebound"}, Body: amqp10.BodyData, Data: [][]byte{body}}
	return newAMQPSenderOf(c, next, []string{"/messages/devicebound"}, message)
}

// twinning publishes a twin request and waits for its response.
func (e *emulator) twinning(topic string, body []byte) func(int) (func() error, func(), error) {
	return func(i int) (func() error, func(), error) {
		c, err := e.dialDevice(i)
		if err != nil {
			return nil, nil, err
		}
		if err := mqttSubscribe(c, "$iothub/twin/res/#"); err != nil {
			_ = c.Close()
			return nil, nil, err
		}
		in, request := packetReader{c: c}, publishPacket(topic, body)
		ask := func() error {
			if _, err := c.Write(request); err != nil {
				return err
			}
			topic, _, err := in.next()
			if err == nil && !bytes.HasPrefix(topic, []byte("$iothub/twin/res/20")) {
				err = fmt.Errorf("answered %s", topic)
			}
			return err
		}
		return ask, func() { _ = c.Close() }, nil
	}
}

// publishPacket is a PUBLISH with QoS 0.
func publishPacket(topic string, payload []byte) []byte {
	return mqttPacket(0x30, append(mqttText(nil, topic), payload...))
}

// packetReader reads the PUBLISH packets with QoS 0 that come in.
type packetReader struct {
	c          net.Conn
	buf        []byte
	used, have int
}

// next returns a packet's topic and payload, valid until the next call.
func (p *packetReader) next() (topic, payload []byte, err error) {
	if p.buf == nil {
		p.buf = make([]byte, 64<<10)
	}
	for {
		if size := mqttSize(p.buf[p.used:p.have]); size > 0 {
			packet := p.buf[p.used : p.used+size]
			p.used += size
			return splitPublish(packet)
		}
		p.have = copy(p.buf, p.buf[p.used:p.have])
		p.used = 0
		n, err := p.c.Read(p.buf[p.have:])
		if err != nil {
			return nil, nil, err
		}
		p.have += n
	}
}

func splitPublish(packet []byte) (topic, payload []byte, err error) {
	if packet[0] != 0x30 {
		return nil, nil, fmt.Errorf("expected PUBLISH, got %#x", packet[0])
	}
	at := 2
	for packet[at-1] >= 0x80 {
		at++
	}
	n := int(binary.BigEndian.Uint16(packet[at:]))
	if at+2+n > len(packet) {
		return nil, nil, errors.New("the topic is longer than its packet")
	}
	return packet[at+2 : at+2+n], packet[at+2+n:], nil
}
