package amqpsrv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"go.uber.org/goleak"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a hub with an AMQP head behind a loopback listener, and a clock that the test moves.
type rig struct {
	t      testing.TB
	clock  *clock.Clock
	hub    *hub.Hub
	server *Server
	tcp    net.Listener
}

type rigOptions struct {
	authOff bool
	wrap    func(net.Conn) *door.Conn // [plain AMQP over TLS's door]
	storage hub.Storage               // of file uploads [none]
	engine  store.Engine              // [store.NewMemory]
	log     io.Writer                 // [nowhere]; written to by one goroutine at a time
}

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("IOLITE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if o.log != nil {
		log = slog.New(slog.NewTextHandler(o.log, nil))
	}
	r := &rig{t: t, clock: clock.NewManual(time.Date(2030, 1, 2, 3, 4, 5, 678000000, time.UTC))}
	if o.engine == nil {
		o.engine = store.NewMemory(store.MemoryOptions{})
	}
	var err error
	r.hub, err = hub.New(hub.Config{Engine: o.engine, Clock: r.clock, Logger: log, AuthOff: o.authOff, Storage: o.storage})
	r.must(err)
	r.server = New(Config{Hub: r.hub, Logger: log})
	r.tcp, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	r.must(err)
	if o.wrap == nil {
		o.wrap = func(c net.Conn) *door.Conn { return door.Wrap(c, door.AMQP) }
	}
	go r.accept(o.wrap) // ends when the listener is closed
	t.Cleanup(func() {
		_ = r.tcp.Close()
		r.server.Close()
		r.hub.Close()
		r.clock.Stop()
	})
	return r
}

func (r *rig) accept(wrap func(net.Conn) *door.Conn) {
	for {
		c, err := r.tcp.Accept()
		if err != nil {
			return
		}
		go func() { // ends with the connection, at the latest when the server is closed
			if d := wrap(c); d != nil {
				r.server.Serve(d)
			}
		}()
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// dial opens a TCP connection to the head.
func (r *rig) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.tcp.Addr().String())
	r.must(err)
	return c
}

// ctx bounds one wait.
func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	r.t.Cleanup(cancel)
	return ctx
}

// connect opens a connection of the go-amqp client.
func (r *rig) connect(sasl amqp.SASLType) *amqp.Conn {
	r.t.Helper()
	c, err := amqp.NewConn(r.ctx(), r.dial(), &amqp.ConnOptions{SASLType: sasl, HostName: "localhost"})
	r.must(err)
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (r *rig) session(c *amqp.Conn) *amqp.Session {
	r.t.Helper()
	s, err := c.NewSession(r.ctx(), nil)
	r.must(err)
	return s
}

// device registers a device, or a module of a registered device, and returns its key.
func (r *rig) device(id string) store.Key { return r.identity(store.Key{DeviceID: id}) }

func (r *rig) identity(key store.Key) store.Key {
	r.t.Helper()
	primary, secondary := hub.DeriveKeys(key)
	_, err := r.hub.Admin().CreateIdentity(r.ctx(), store.Identity{Key: key, Status: store.Enabled,
		Authentication: store.Authentication{Type: store.AuthSAS, PrimaryKey: primary, SecondaryKey: secondary}})
	r.must(err)
	return key
}

// deviceToken is a token of the identity's own key that ends after life.
func (r *rig) deviceToken(key store.Key, life time.Duration) string {
	primary, _ := hub.DeriveKeys(key)
	resource := "localhost/devices/" + key.DeviceID
	if key.ModuleID != "" {
		resource += "/modules/" + key.ModuleID
	}
	return r.token(resource, primary, "", life)
}

// policyToken is a token of a shared access policy.
func (r *rig) policyToken(resource, policy string, life time.Duration) string {
	return r.token(resource, r.policyKey(policy), policy, life)
}

func (r *rig) policyKey(policy string) string {
	for _, p := range r.hub.Policies() {
		if p.Name == policy {
			return p.PrimaryKey
		}
	}
	r.t.Fatalf("no policy %q", policy)
	return ""
}

func (r *rig) token(resource, key, policy string, life time.Duration) string {
	r.t.Helper()
	token, err := auth.NewToken(resource, key, policy, r.clock.Now().Add(life))
	r.must(err)
	return token
}

// put puts a token over links of its own, as eh-go and amenzhinsky/iothub do, and returns status and description.
func (r *rig) put(c *amqp.Conn, token string) (status int32, description string) {
	r.t.Helper()
	s := r.session(c)
	defer func() { _ = s.Close(r.ctx()) }()
	receiver, err := s.NewReceiver(r.ctx(), "$cbs", nil)
	r.must(err)
	sender, err := s.NewSender(r.ctx(), "$cbs", nil)
	r.must(err)
	r.must(sender.Send(r.ctx(), putToken(token), nil))
	m, err := receiver.Receive(r.ctx(), nil)
	r.must(err)
	if m.Properties.CorrelationID != "request" {
		r.t.Errorf("correlation-id %v", m.Properties.CorrelationID)
	}
	status, ok := m.ApplicationProperties["status-code"].(int32) // trap 3
	if !ok {
		r.t.Fatalf("status-code is a %T", m.ApplicationProperties["status-code"])
	}
	description, _ = m.ApplicationProperties["status-description"].(string)
	return status, description
}

func putToken(token string) *amqp.Message {
	replyTo := "cbs"
	return &amqp.Message{
		Properties:            &amqp.MessageProperties{MessageID: "request", ReplyTo: &replyTo},
		ApplicationProperties: map[string]any{"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": "localhost"},
		Value:                 token,
	}
}

// as returns a session of a connection on which the tokens have been put.
func (r *rig) as(tokens ...string) *amqp.Session {
	r.t.Helper()
	c := r.connect(amqp.SASLTypeAnonymous())
	for _, token := range tokens {
		if status, text := r.put(c, token); status != 200 {
			r.t.Fatalf("put-token: %d %s", status, text)
		}
	}
	return r.session(c)
}

// asDevice is as with the device's own token.
func (r *rig) asDevice(key store.Key) *amqp.Session { return r.as(r.deviceToken(key, time.Hour)) }

// asService is as with the token of the policy "service".
func (r *rig) asService() *amqp.Session {
	return r.as(r.policyToken("localhost", "service", time.Hour))
}

func (r *rig) sender(s *amqp.Session, address string) *amqp.Sender {
	r.t.Helper()
	l, err := s.NewSender(r.ctx(), address, nil)
	r.must(err)
	return l
}

func (r *rig) receiver(s *amqp.Session, address string, credit int32) *amqp.Receiver {
	r.t.Helper()
	l, err := s.NewReceiver(r.ctx(), address, &amqp.ReceiverOptions{Credit: credit})
	r.must(err)
	return l
}

func (r *rig) receive(l *amqp.Receiver) *amqp.Message {
	r.t.Helper()
	m, err := l.Receive(r.ctx(), nil)
	r.must(err)
	return m
}

// telemetry sends a message with a body.
func (r *rig) telemetry(l *amqp.Sender, body string) error {
	return l.Send(r.ctx(), amqp.NewMessage([]byte(body)), nil)
}

// c2d queues a message for a device.
func (r *rig) c2d(deviceID, body string, more func(*store.Message)) {
	r.t.Helper()
	m := store.Message{SystemProperties: store.SystemProperties{To: "/devices/" + deviceID + "/messages/devicebound", MessageID: body}, Body: []byte(body)}
	if more != nil {
		more(&m)
	}
	r.must(r.hub.Admin().SendC2D(r.ctx(), m))
}

// events returns the bodies of all stored events, by partition.
func (r *rig) events() []store.Event {
	r.t.Helper()
	info, err := r.hub.Admin().EventHub(r.ctx(), "")
	r.must(err)
	var out []store.Event
	for _, id := range info.PartitionIDs {
		reader, err := r.hub.Admin().OpenReader(r.ctx(), hub.ReaderOptions{Group: "$Default", Partition: id})
		r.must(err)
		events, err := reader.Next(r.ctx(), 1000)
		r.must(err)
		reader.Close()
		out = append(out, events...)
	}
	return out
}

// until waits for a condition that no event announces.
func (r *rig) until(what string, condition func() bool) {
	r.t.Helper()
	deadline := clock.Wall().Add(patience)
	for !condition() {
		if clock.Wall().After(deadline) {
			r.t.Fatalf("waited in vain: %s", what)
		}
		r.must(clock.New().Sleep(r.t.Context(), time.Millisecond))
	}
}

// refused says whether err is a refusal of a link or a delivery with the condition, and returns the error.
func refused(err error, want amqp.ErrCond) (*amqp.Error, error) {
	var link *amqp.LinkError
	var e *amqp.Error
	if errors.As(err, &link) {
		e = link.RemoteErr
	} else if !errors.As(err, &e) {
		return nil, fmt.Errorf("%w (%T), want %s", err, err, want)
	}
	if e == nil || e.Condition != want {
		return e, fmt.Errorf("%w, want %s", err, want)
	}
	return e, nil
}

// wantRefusal fails unless err is a refusal with the condition.
func (r *rig) wantRefusal(err error, want amqp.ErrCond) *amqp.Error {
	r.t.Helper()
	if err == nil {
		r.t.Fatalf("no error, want %s", want)
	}
	e, mismatch := refused(err, want)
	if mismatch != nil {
		r.t.Fatal(mismatch)
	}
	return e
}

// key is the device most tests use.
func (r *rig) key() store.Key { return store.Key{DeviceID: "d1"} }
