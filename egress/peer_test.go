package egress

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.UTC)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// received is a message as the peer got it.
type received struct {
	link    string
	message amqp10.Message
}

// broker is a peer with one node for each address. It speaks AMQP with the engine of this house, which the sender under test does not use.
type broker struct {
	t        testing.TB
	listener net.Listener
	max      uint64                                       // bytes of a message; 0 for the engine's default
	settle   func(n int, d *amqp10.Delivery)              // n counts deliveries from 0
	sasl     func(mechanism string, response []byte) bool // nil: anything goes
	refuse   string                                       // addresses that are refused
	forget   bool                                         // keep no messages
	status   int32                                        // of put-token [200]

	mu         sync.Mutex
	conns      map[net.Conn]bool
	got        []received
	tokens     []string
	mechanisms []string
	serving    sync.WaitGroup
}

func newBroker(t testing.TB, secure *tls.Config, change ...func(*broker)) *broker {
	t.Helper()
	b := &broker{t: t, conns: map[net.Conn]bool{}, status: 200, settle: func(_ int, d *amqp10.Delivery) { d.Accept() }}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.listener = l
	if secure != nil {
		b.listener = tls.NewListener(l, secure)
	}
	for _, f := range change {
		f(b)
	}
	b.serving.Go(b.accept)
	t.Cleanup(func() {
		_ = l.Close()
		b.cut()
		b.serving.Wait()
	})
	return b
}

func (b *broker) accept() {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.conns[c] = true
		b.mu.Unlock()
		b.serving.Go(func() {
			_ = amqp10.NewServer(amqp10.Config{MaxMessageSize: b.max}).ServeConn(c, &brokerPeer{broker: b})
			b.mu.Lock()
			delete(b.conns, c)
			b.mu.Unlock()
		})
	}
}

// cut breaks every connection.
func (b *broker) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.Close()
	}
}

func (b *broker) address() string { return b.listener.Addr().String() }

// bodies are those of the messages so far.
func (b *broker) bodies() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.got {
		all = append(all, string(r.message.Data[0]))
	}
	return all
}

// brokerPeer is one connection to a broker, and all of its nodes.
type brokerPeer struct {
	*broker
	answers *amqp10.Link // of $cbs, once it may be sent on; guarded by broker.mu
	owed    int          // answers
}

func (p *brokerPeer) SASL(mechanism string, response []byte) amqp10.SASLCode {
	p.mu.Lock()
	p.mechanisms = append(p.mechanisms, mechanism)
	p.mu.Unlock()
	if p.sasl != nil && !p.sasl(mechanism, response) {
		return amqp10.SASLAuth
	}
	return amqp10.SASLOK
}

func (p *brokerPeer) Open(*amqp10.Conn, *amqp10.Open) *amqp10.Error { return nil }

func (p *brokerPeer) Attach(l *amqp10.Link) (amqp10.Node, *amqp10.Error) {
	if l.Role() == amqp10.RoleSender {
		return &answers{p}, nil
	}
	address := l.Target().Address
	if address == p.refuse {
		return nil, &amqp10.Error{Condition: amqp10.CondNotFound, Description: "there is no " + address}
	}
	return &node{p: p, address: address}, nil
}

func (p *brokerPeer) SessionEnded(*amqp10.Session) {}
func (p *brokerPeer) Closed(*amqp10.Conn, error)   {}

// node takes messages.
type node struct {
	p       *brokerPeer
	address string
}

func (n *node) Detached(*amqp10.Link, *amqp10.Error) {}

func (n *node) Receive(_ *amqp10.Link, d *amqp10.Delivery) {
	if n.p.forget && n.address != "$cbs" {
		d.Accept()
		return
	}
	r := received{link: n.address}
	if err := r.message.Decode(append([]byte(nil), d.Payload...), amqp10.Limits{}); err != nil {
		n.p.t.Error(err)
	}
	if n.address == "$cbs" {
		n.p.token(&r.message)
		d.Accept()
		return
	}
	n.p.mu.Lock()
	n.p.got = append(n.p.got, r)
	at := len(n.p.got) - 1
	n.p.mu.Unlock()
	n.p.settle(at, d)
}

// answers is the source of $cbs's answers.
type answers struct{ p *brokerPeer }

func (a *answers) Detached(*amqp10.Link, *amqp10.Error) {}

func (a *answers) Settled(*amqp10.Link, uint32, []byte, amqp10.DeliveryState, bool) {}

func (a *answers) Flow(l *amqp10.Link, _ uint32, _ bool) {
	a.p.mu.Lock()
	a.p.answers = l
	a.p.mu.Unlock()
	a.p.answer()
}

func (p *brokerPeer) token(m *amqp10.Message) {
	text, _ := m.Value.(string)
	p.mu.Lock()
	p.tokens = append(p.tokens, m.ApplicationProperties.Text("name")+" "+text)
	p.owed++
	p.mu.Unlock()
	p.answer()
}

// answer answers tokens when the client may be sent to.
func (p *brokerPeer) answer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ; p.answers != nil && p.owed > 0; p.owed-- {
		answer := amqp10.Message{ApplicationProperties: amqp10.Map{{Key: "status-code", Value: p.status}}, Body: amqp10.BodyValue}
		payload, err := answer.Append(nil)
		if err == nil {
			_, err = p.answers.Send([]byte("1"), 0, payload, true)
		}
		if err != nil {
			p.t.Error(err)
		}
		p.answers = nil
	}
}

// event returns a message with everything in it.
func event(sequence int64, body string) store.Event {
	return store.Event{
		SystemProperties: store.SystemProperties{
			MessageID: "m1", CorrelationID: "c1", UserID: "u1", To: "/devices/dev-1/messages/events", ContentType: "application/json", ContentEncoding: "utf-8",
			CreationTime: "2026-01-01T00:00:00Z", MessageSchema: "s1", Subject: "thermostat",
		},
		Properties: []store.Property{{Name: "level", Value: "hot"}}, Body: []byte(body), PartitionKey: "dev-1",
		DeviceID: "dev-1", ModuleID: "mod-1", GenerationID: "g1", AuthMethod: `{"scope":"device","type":"sas","issuer":"iothub"}`, Source: "Telemetry",
		ModelID: "dtmi:x;1", Enqueued: start, Sequence: sequence,
	}
}

func events(from, n int64) (all []store.Event) {
	for i := range n {
		all = append(all, event(from+i, string(rune('a'+from+i))))
	}
	return all
}

func newEgress() *Egress {
	return New(Config{Hub: "iolite", Clock: clock.NewManual(start), PartitionOf: func(key string) int { return len(key) % 4 }})
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
