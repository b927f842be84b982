package broker

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient is how long a test waits for what must happen.
const patient = 30 * time.Second

// rig is a hub with a broker on loopback, and what tests look at.
type rig struct {
	t      testing.TB
	hub    *hub.Hub
	engine store.Engine
	clock  *clock.Clock
	broker *Broker
	log    *journal
	addr   string
}

type rigOption func(*hub.Config, *Broker) // the broker is nil at first

func withAuth(c *hub.Config, _ *Broker) { c.AuthOff = false }

func withEngine(e store.Engine) rigOption { return func(c *hub.Config, _ *Broker) { c.Engine = e } }

// impatient shortens what clients are given to say something and to read something.
func impatient(connect, write time.Duration) rigOption {
	return func(_ *hub.Config, b *Broker) {
		if b != nil {
			b.connectTimeout, b.writeTimeout = connect, write
		}
	}
}

// newRig starts a hub without authentication, on a clock that stands still, and registers devices d1 and d2 with module m1.
func newRig(t testing.TB, options ...rigOption) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.NewManual(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), log: newJournal()}
	cfg := hub.Config{Engine: store.NewMemory(store.MemoryOptions{}), Clock: r.clock, Logger: slog.New(r.log), AuthOff: true}
	for _, o := range options {
		o(&cfg, nil)
	}
	r.engine = cfg.Engine
	var err error
	if r.hub, err = hub.New(cfg); err != nil {
		t.Fatal(err)
	}
	r.broker = New(Config{Hub: r.hub, Logger: slog.New(r.log)})
	for _, o := range options {
		o(&cfg, r.broker)
	}
	r.listen()
	t.Cleanup(func() {
		r.broker.Close()
		r.hub.Close()
		r.clock.Stop()
	})
	for _, key := range []store.Key{device("d1"), device("d2"), module("d1", "m1")} {
		r.register(store.Identity{Key: key})
	}
	return r
}

// listen accepts connections until the test ends.
func (r *rig) listen() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = l.Addr().String()
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			accepting.Go(func() { r.broker.Serve(door.Wrap(nc, door.MQTT)) })
		}
	})
	r.t.Cleanup(func() {
		_ = l.Close()
		r.broker.Close()
		accepting.Wait()
	})
}

func (r *rig) register(id store.Identity) store.Identity {
	r.t.Helper()
	d, err := r.hub.Admin().CreateIdentity(context.Background(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return d.Identity
}

// sendC2D queues messages with these bodies for d1.
func (r *rig) sendC2D(bodies ...string) {
	r.t.Helper()
	for _, body := range bodies {
		m := store.Message{Body: []byte(body)}
		m.To = "/devices/d1/messages/devicebound"
		if err := r.hub.Admin().SendC2D(context.Background(), m); err != nil {
			r.t.Fatal(err)
		}
	}
}

// queued returns how many messages wait for d1.
func (r *rig) queued() int {
	r.t.Helper()
	n, err := r.engine.Devicebound().Len(context.Background(), device("d1"))
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// events returns all stored telemetry, by partition.
func (r *rig) events() []store.Event {
	r.t.Helper()
	var all []store.Event
	for p := range r.engine.Events().Partitions() {
		for from := int64(0); ; {
			events, err := r.engine.Events().Read(context.Background(), p, from, 1000, 1<<20)
			if err != nil {
				r.t.Fatal(err)
			}
			if len(events) == 0 {
				break
			}
			all = append(all, events...)
			from = events[len(events)-1].Sequence + 1
		}
	}
	return all
}

// bodies returns the bodies of all stored telemetry.
func (r *rig) bodies() []string {
	var all []string
	for _, e := range r.events() {
		all = append(all, string(e.Body))
	}
	return all
}

// eventually waits until the condition holds.
func (r *rig) eventually(what string, holds func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	for !holds() {
		if clock.New().Sleep(ctx, time.Millisecond) != nil {
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// client is a raw MQTT client.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// dial opens a connection without a CONNECT.
func (r *rig) dial() *client {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	return newClient(r.t, nc)
}

// pipe opens a connection without any buffer in between.
func (r *rig) pipe() *client {
	server, peer := net.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() { r.broker.Serve(door.Wrap(server, door.MQTT)) })
	r.t.Cleanup(func() {
		_ = peer.Close()
		serving.Wait()
	})
	return newClient(r.t, peer)
}

// connections returns how many connections the broker serves.
func (r *rig) connections() int {
	r.broker.mu.Lock()
	defer r.broker.mu.Unlock()
	return len(r.broker.conns)
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(clock.Wall().Add(patient)); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, conn: nc, r: bufio.NewReader(nc)}
}

// connectParams is the CONNECT of an identity as the SDKs send it: CleanSession=0.
func connectParams(id string) packets.ConnectParams {
	return packets.ConnectParams{
		ProtocolName: []byte("MQTT"), ClientIdentifier: id, Keepalive: 240,
		UsernameFlag: true, Username: []byte("localhost/" + id + "/?api-version=2021-04-12&DeviceClientType=test"),
	}
}

// connect connects an identity and expects to be let in.
func (r *rig) connect(id string, change ...func(*packets.ConnectParams)) *client {
	r.t.Helper()
	c := r.dial()
	if ack := c.hello(id, change...); ack.ReasonCode != 0 {
		r.t.Fatalf("CONNECT of %s: return code %d", id, ack.ReasonCode)
	}
	return c
}

// hello sends CONNECT and returns the CONNACK.
func (c *client) hello(id string, change ...func(*packets.ConnectParams)) packets.Packet {
	c.t.Helper()
	p := connectParams(id)
	for _, f := range change {
		f(&p)
	}
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4, Connect: p})
	return c.expect(packets.Connack)
}

func cleanSession(p *packets.ConnectParams) { p.Clean = true }

// send writes packets in one go.
func (c *client) send(pks ...packets.Packet) {
	c.t.Helper()
	if _, err := c.conn.Write(encode(c.t, pks...)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func encode(t testing.TB, pks ...packets.Packet) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, pk := range pks {
		if pk.ProtocolVersion == 0 {
			pk.ProtocolVersion = 4
		}
		var err error
		switch pk.FixedHeader.Type {
		case packets.Connect:
			err = pk.ConnectEncode(&b)
		case packets.Publish:
			err = pk.PublishEncode(&b)
		case packets.Puback:
			err = pk.PubackEncode(&b)
		case packets.Subscribe:
			pk.FixedHeader.Qos = 1
			err = pk.SubscribeEncode(&b)
		case packets.Unsubscribe:
			pk.FixedHeader.Qos = 1
			err = pk.UnsubscribeEncode(&b)
		case packets.Pingreq:
			err = pk.PingreqEncode(&b)
		case packets.Disconnect:
			err = pk.DisconnectEncode(&b)
		default:
			err = fmt.Errorf("no client packet: %d", pk.FixedHeader.Type)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// read returns the next packet.
func (c *client) read() (packets.Packet, error) {
	first, err := c.r.ReadByte()
	if err != nil {
		return packets.Packet{}, err
	}
	pk := packets.Packet{ProtocolVersion: 4}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(c.r)
	if err != nil {
		return pk, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return pk, err
	}
	switch pk.FixedHeader.Remaining = n; pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	}
	return pk, err
}

// expect returns the next packet, which must be of that type.
func (c *client) expect(packetType byte) packets.Packet {
	c.t.Helper()
	pk, err := c.read()
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", packets.PacketNames[packetType], err)
	}
	if pk.FixedHeader.Type != packetType {
		c.t.Fatalf("got %s, want %s", packets.PacketNames[pk.FixedHeader.Type], packets.PacketNames[packetType])
	}
	return pk
}

// expectClosed fails unless the server closes the connection without another packet.
func (c *client) expectClosed() {
	c.t.Helper()
	pk, err := c.read()
	if err == nil {
		c.t.Fatalf("got %s, want the connection closed", packets.PacketNames[pk.FixedHeader.Type])
	}
	if isTimeout(err) {
		c.t.Fatal("the connection stayed open")
	}
}

// sync makes sure that everything sent so far has been handled, and that nothing was said about it.
func (c *client) sync() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.expect(packets.Pingresp)
}

// disconnect says goodbye and waits for the server to close.
func (c *client) disconnect() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	c.expectClosed()
}

// subscribe subscribes with a QoS and returns the granted codes.
func (c *client) subscribe(qos byte, filters ...string) []byte {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 77}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	c.send(pk)
	ack := c.expect(packets.Suback)
	if ack.PacketID != 77 {
		c.t.Fatalf("SUBACK of %d", ack.PacketID)
	}
	return ack.ReasonCodes
}

func (c *client) puback(id uint16) {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
}

// telemetry is a PUBLISH with QoS 1, or 0 when id is 0.
func telemetry(topic string, id uint16, body string) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: topic, PacketID: id, Payload: []byte(body)}
	if id > 0 {
		pk.FixedHeader.Qos = 1
	}
	return pk
}

// journal keeps log records for tests.
type journal struct {
	mu      *sync.Mutex
	records *[]record
	attrs   []slog.Attr
}

type record struct {
	level   slog.Level
	message string
	attrs   map[string]string
}

func newJournal() *journal { return &journal{mu: new(sync.Mutex), records: new([]record)} }

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	entry := record{level: r.Level, message: r.Message, attrs: map[string]string{}}
	for _, a := range j.attrs {
		entry.attrs[a.Key] = a.Value.String()
	}
	r.Attrs(func(a slog.Attr) bool {
		entry.attrs[a.Key] = a.Value.String()
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	*j.records = append(*j.records, entry)
	return nil
}

func (j *journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journal{mu: j.mu, records: j.records, attrs: slices.Concat(j.attrs, attrs)}
}

func (j *journal) WithGroup(string) slog.Handler { return j }

// clear forgets the records.
func (j *journal) clear() {
	j.mu.Lock()
	defer j.mu.Unlock()
	*j.records = nil
}

// warned returns the warnings that name a rule.
func (j *journal) warned(rule string) []record {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []record
	for _, r := range *j.records {
		if r.level >= slog.LevelWarn && r.attrs["rule"] == rule {
			found = append(found, r)
		}
	}
	return found
}

// find returns the first record with that attribute.
func (j *journal) find(name, value string) (record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range *j.records {
		if r.attrs[name] == value {
			return r, true
		}
	}
	return record{}, false
}

// expectRule waits for exactly one warning about the rule.
func (r *rig) expectRule(rule string) record {
	r.t.Helper()
	r.eventually("a warning about "+rule, func() bool { return len(r.log.warned(rule)) > 0 })
	found := r.log.warned(rule)
	if len(found) != 1 || found[0].attrs["reason"] == "" {
		r.t.Fatalf("warnings about %s: %v", rule, found)
	}
	return found[0]
}
