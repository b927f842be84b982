package egress

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/clock"
)

func emulatorString(b *broker) string {
	return "Endpoint=sb://" + b.address() + ";SharedAccessKeyName=RootManage;SharedAccessKey=s3cret;UseDevelopmentEmulator=true;EntityPath=hub1"
}

func eventHub(t *testing.T, b *broker) *Sender {
	t.Helper()
	s, err := newEgress().EventHub(emulatorString(b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// texts are the entries of a map whose values are texts.
func texts(m amqp10.Map) map[string]string {
	all := map[string]string{}
	for _, e := range m {
		key, ok := e.Key.(amqp10.Symbol)
		if !ok {
			key = amqp10.Symbol(e.Key.(string))
		}
		if value, ok := e.Value.(string); ok {
			all[string(key)] = value
		}
	}
	return all
}

// stamped are the names of article "Create and read messages", section System property names, and what belongs to them.
var stamped = map[string]string{
	"iothub-connection-device-id": "dev-1", "iothub-connection-module-id": "mod-1", "iothub-connection-auth-generation-id": "g1",
	"iothub-connection-auth-method": `{"scope":"device","type":"sas","issuer":"iothub"}`, "iothub-message-source": "Telemetry",
	"dt-dataschema": "dtmi:x;1", "dt-subject": "thermostat",
}

func TestAnEventHubGetsWhatTheHubStampedAsAnnotations(t *testing.T) {
	b := newBroker(t, nil)
	if taken, err := eventHub(t, b).Deliver(testContext(t), events(0, 1)); taken != 1 || err != nil {
		t.Fatal(taken, err)
	}
	m := &b.got[0].message
	want := map[string]string{"x-opt-partition-key": "dev-1"}
	for name, value := range stamped {
		want[name] = value
	}
	if diff := cmp.Diff(want, texts(m.MessageAnnotations)); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if at, _ := m.MessageAnnotations.Get("iothub-enqueuedtime").(amqp10.Timestamp); at != amqp10.TimestampOf(start) {
		t.Errorf("iothub-enqueuedtime is %v", at)
	}
	wantProperties := map[string]string{"level": "hot", "iothub-creation-time-utc": "2026-01-01T00:00:00Z", "iothub-message-schema": "s1"}
	if diff := cmp.Diff(wantProperties, texts(m.ApplicationProperties)); diff != "" {
		t.Errorf("application properties (-want +got):\n%s", diff)
	}
	wantSystem := &amqp10.Properties{
		MessageID: "m1", CorrelationID: "c1", UserID: []byte("u1"), To: "/devices/dev-1/messages/events", ContentType: "application/json", ContentEncoding: "utf-8",
	}
	if diff := cmp.Diff(wantSystem, m.Properties); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
	if string(m.Data[0]) != "a" || b.got[0].link != "hub1" || m.Header == nil || !m.Header.Durable {
		t.Errorf("%q at %q, header %+v", m.Data, b.got[0].link, m.Header)
	}
}

func TestAQueueGetsWhatTheHubStampedAsApplicationProperties(t *testing.T) {
	b := newBroker(t, nil)
	s, err := newEgress().Queue(emulatorString(b))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if taken, err := s.Deliver(testContext(t), events(0, 1)); taken != 1 || err != nil {
		t.Fatal(taken, err)
	}
	want := map[string]string{"level": "hot", "iothub-creation-time-utc": "2026-01-01T00:00:00Z", "iothub-message-schema": "s1"}
	for name, value := range stamped {
		want[name] = value
	}
	if diff := cmp.Diff(want, texts(b.got[0].message.ApplicationProperties)); diff != "" {
		t.Errorf("application properties (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"x-opt-partition-key": "dev-1"}, texts(b.got[0].message.MessageAnnotations)); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
}

func TestEveryMessageIsDeliveredOnceAndInOrder(t *testing.T) {
	b := newBroker(t, nil)
	s := eventHub(t, b)
	var want []string
	for from := int64(0); from < 4000; from += 500 { // more than the credit
		batch := events(from, 500)
		taken, err := s.Deliver(testContext(t), batch)
		if taken != 500 || err != nil {
			t.Fatal(taken, err)
		}
		for i := range batch {
			want = append(want, string(batch[i].Body))
		}
	}
	if got := b.bodies(); !reflect.DeepEqual(got, want) {
		t.Errorf("%d messages came, not %d, or in another order", len(got), len(want))
	}
	if len(b.tokens) != 1 || len(b.mechanisms) != 1 {
		t.Errorf("%d connections, %d tokens", len(b.mechanisms), len(b.tokens))
	}
}

// The rule of the signature is that of article "Generate SAS token": HMAC-SHA256 over the escaped URI, a line feed and the expiry.
func TestATokenIsPutAsEventHubsAndServiceBusWant(t *testing.T) {
	b := newBroker(t, nil)
	s := eventHub(t, b)
	now := start
	s.egress.wall = func() time.Time { return now }
	deliver := func(sequence int64) {
		t.Helper()
		if taken, err := s.Deliver(testContext(t), events(sequence, 1)); taken != 1 || err != nil {
			t.Fatal(taken, err)
		}
	}
	deliver(0)
	name, token, _ := strings.Cut(b.tokens[0], " ")
	fields, err := url.ParseQuery(strings.TrimPrefix(token, "SharedAccessSignature "))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte("s3cret"))
	mac.Write([]byte("amqp%3A%2F%2F127.0.0.1%2Fhub1\n1767326645")) // start and an hour, by date -d
	want := url.Values{"sr": {"amqp://127.0.0.1/hub1"}, "se": {"1767326645"}, "skn": {"RootManage"}, "sig": {base64.StdEncoding.EncodeToString(mac.Sum(nil))}}
	if diff := cmp.Diff(want, fields); diff != "" || name != "amqp://127.0.0.1/hub1" || b.mechanisms[0] != "ANONYMOUS" {
		t.Errorf("%s for %s by %s (-want +got):\n%s", token, name, b.mechanisms[0], diff)
	}
	now = now.Add(tokenLife/2 - time.Second)
	deliver(1)
	if len(b.tokens) != 1 {
		t.Error("the token was renewed too early")
	}
	now = now.Add(time.Second)
	deliver(2)
	if len(b.tokens) != 2 || len(b.mechanisms) != 1 {
		t.Errorf("%d tokens on %d connections", len(b.tokens), len(b.mechanisms))
	}
}

func TestABrokerGetsUserAndPasswordAndNoToken(t *testing.T) {
	b := newBroker(t, nil, func(b *broker) {
		b.sasl = func(_ string, response []byte) bool { return string(response) == "\x00gu:est\x00p@ss" }
	})
	for connection, ok := range map[string]bool{"Endpoint=amqp://gu%3Aest:p%40ss@" + b.address() + ";EntityPath=q": true, "Endpoint=amqp://guest:wrong@" + b.address() + ";EntityPath=q": false} {
		s, err := newEgress().Queue(connection)
		if err != nil {
			t.Fatal(err)
		}
		taken, err := s.Deliver(testContext(t), events(0, 1))
		var e *Error
		if (taken == 1 && err == nil) != ok || !ok && (!errors.As(err, &e) || e.Kind != Unauthorized || strings.Contains(err.Error(), "wrong")) {
			t.Errorf("%d taken, %v", taken, err)
		}
		_ = s.Close()
	}
	if len(b.tokens) != 0 || b.mechanisms[0] != "PLAIN" {
		t.Errorf("%d tokens, by %v", len(b.tokens), b.mechanisms)
	}
}

func TestWithoutAUserABrokerIsTalkedToAnonymously(t *testing.T) {
	b := newBroker(t, nil)
	s, err := newEgress().Queue("Endpoint=amqp://" + b.address() + ";EntityPath=q")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if taken, err := s.Deliver(testContext(t), events(0, 1)); taken != 1 || err != nil || b.mechanisms[0] != "ANONYMOUS" || len(b.tokens) != 0 {
		t.Error(taken, err, b.mechanisms, b.tokens)
	}
}

func TestOverTLSOnlyTrustedCertificatesDo(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	t.Cleanup(server.Close)
	b := newBroker(t, &tls.Config{Certificates: server.TLS.Certificates})
	connection := strings.ReplaceAll(emulatorString(b), "UseDevelopmentEmulator=true;", "")
	for _, trusts := range []bool{true, false} {
		e := newEgress()
		if trusts {
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			e.Roots = func() *x509.CertPool { return roots }
		}
		s, err := e.EventHub(connection)
		if err != nil {
			t.Fatal(err)
		}
		taken, err := s.Deliver(testContext(t), events(0, 1))
		var unknown x509.UnknownAuthorityError
		if trusts && (taken != 1 || err != nil) || !trusts && (taken != 0 || !errors.As(err, &unknown)) {
			t.Errorf("trusted %v: %d, %v", trusts, taken, err)
		}
		_ = s.Close()
	}
}

func TestOnlyARejectionThatBlamesTheMessageIsFinal(t *testing.T) {
	for name, try := range map[string]struct {
		settle func(*amqp10.Delivery)
		kind   Kind
		final  bool
	}{
		"too large":     {reject("amqp:link:message-size-exceeded"), TooLarge, true},
		"decode":        {reject("amqp:decode-error"), InvalidForTheNode, true},
		"argument":      {reject("com.microsoft:argument-error"), InvalidForTheNode, true},
		"undeliverable": {func(d *amqp10.Delivery) { d.Modify(amqp10.Modified{UndeliverableHere: true}) }, InvalidForTheNode, true},
		"busy":          {reject("com.microsoft:server-busy"), Throttled, false},
		"full":          {reject("amqp:resource-limit-exceeded"), QuotaExceeded, false},
		"disabled":      {reject("com.microsoft:entity-disabled"), Disabled, false},
		"unknown":       {reject("com.example:who-knows"), Transient, false},
		"no reason":     {func(d *amqp10.Delivery) { d.Reject(nil) }, Transient, false},
		"released":      {func(d *amqp10.Delivery) { d.Release() }, Transient, false},
		"modified":      {func(d *amqp10.Delivery) { d.Modify(amqp10.Modified{DeliveryFailed: true}) }, Transient, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, nil, func(b *broker) {
				b.settle = func(n int, d *amqp10.Delivery) {
					if n == 1 {
						try.settle(d)
						return
					}
					d.Accept()
				}
			})
			s := eventHub(t, b)
			taken, err := s.Deliver(testContext(t), events(0, 3))
			var e *Error
			if taken != 1 || !errors.As(err, &e) || e.Kind != try.kind || e.LastKnownError() != string(try.kind) || errors.Is(err, ErrRefused) != try.final {
				t.Fatalf("%d taken, %v", taken, err)
			}
			// What comes next is what was not taken; the third message was accepted and is not sent again.
			next := events(1, 2)
			if try.final {
				next = next[1:]
			}
			if taken, err := s.Deliver(testContext(t), next); taken != len(next) || err != nil {
				t.Fatalf("%d taken, %v", taken, err)
			}
			want := "a b c b"
			if try.final {
				want = "a b c"
			}
			if got := strings.Join(b.bodies(), " "); got != want {
				t.Errorf("the peer got %s, not %s", got, want)
			}
			if len(s.ahead) != 0 {
				t.Errorf("%d messages are remembered for nothing", len(s.ahead))
			}
			if len(b.mechanisms) != 1 {
				t.Errorf("there were %d connections", len(b.mechanisms))
			}
		})
	}
}

func TestAcceptedMessagesThatWillNotComeAgainAreForgotten(t *testing.T) {
	b := newBroker(t, nil, func(b *broker) {
		b.settle = func(n int, d *amqp10.Delivery) {
			if n == 0 {
				d.Release()
				return
			}
			d.Accept()
		}
	})
	s := eventHub(t, b)
	if taken, err := s.Deliver(testContext(t), events(0, 3)); taken != 0 || err == nil || len(s.ahead) != 2 {
		t.Fatal(taken, err, s.ahead)
	}
	if taken, err := s.Deliver(testContext(t), events(3, 1)); taken != 1 || err != nil || len(s.ahead) != 0 {
		t.Error(taken, err, s.ahead)
	}
}

func reject(condition amqp10.Symbol) func(*amqp10.Delivery) {
	return func(d *amqp10.Delivery) { d.Reject(&amqp10.Error{Condition: condition, Description: "no"}) }
}

func TestAMessageTooLargeForTheLinkIsRefusedWithoutBeingSent(t *testing.T) {
	b := newBroker(t, nil, func(b *broker) { b.max = 2048 })
	s := eventHub(t, b)
	messages := events(0, 3)
	messages[1].Body = make([]byte, 4096)
	if taken, err := s.Deliver(testContext(t), messages); taken != 1 || !errors.Is(err, ErrRefused) {
		t.Fatal(taken, err)
	}
	if taken, err := s.Deliver(testContext(t), messages[2:]); taken != 1 || err != nil {
		t.Fatal(taken, err)
	}
	if got := b.bodies(); !reflect.DeepEqual(got, []string{"a", "c"}) || len(b.mechanisms) != 1 {
		t.Errorf("%v on %d connections", got, len(b.mechanisms))
	}
}

// The peer hangs up between what it took and what it did not say anything about.
func TestWhatHasNoOutcomeWhenThePeerDiesIsSentAgain(t *testing.T) {
	var died atomic.Bool
	b := newBroker(t, nil, func(b *broker) {
		b.settle = func(n int, d *amqp10.Delivery) {
			switch {
			case n < 10 || died.Load():
				d.Accept()
			case n == 10:
				died.Store(true)
				b.cut()
			}
		}
	})
	s := eventHub(t, b)
	messages := events(0, 100)
	for next := 0; next < len(messages); {
		taken, err := s.Deliver(testContext(t), messages[next:])
		if err == nil && taken == 0 {
			t.Fatal("nothing was taken, without a reason")
		}
		next += taken
	}
	seen := map[string]bool{}
	for _, body := range b.bodies() {
		seen[body] = true
	}
	if len(seen) != len(messages) || !died.Load() {
		t.Errorf("%d of %d messages came", len(seen), len(messages))
	}
}

func TestAConnectionThatEndedUnnoticedIsReplacedAtOnce(t *testing.T) {
	b := newBroker(t, nil)
	s := eventHub(t, b)
	for i := range int64(3) {
		if taken, err := s.Deliver(testContext(t), events(i, 1)); taken != 1 || err != nil {
			t.Fatal(taken, err)
		}
		b.cut()
	}
	if got := len(b.bodies()); got != 3 {
		t.Errorf("%d messages came", got)
	}
}

func TestErrorsHaveTheirDocumentedNames(t *testing.T) {
	missing := newBroker(t, nil, func(b *broker) { b.refuse = "hub1" })
	closed := newBroker(t, nil)
	_ = closed.listener.Close()
	strict := newBroker(t, nil, func(b *broker) { b.status = 401 })
	for name, try := range map[string]struct {
		b    *broker
		kind Kind
	}{"no such entity": {missing, NotFound}, "nobody listens": {closed, Transient}, "token refused": {strict, Unauthorized}} {
		taken, err := eventHub(t, try.b).Deliver(testContext(t), events(0, 1))
		var e *Error
		if taken != 0 || !errors.As(err, &e) || e.Kind != try.kind || errors.Is(err, ErrRefused) {
			t.Errorf("%s: %d, %v", name, taken, err)
		}
	}
}

func TestDeliverEndsWithItsContext(t *testing.T) {
	started := make(chan struct{}, 1)
	b := newBroker(t, nil, func(b *broker) {
		b.settle = func(int, *amqp10.Delivery) { started <- struct{}{} } // and never an outcome
	})
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		<-started
		cancel()
	}()
	if taken, err := eventHub(t, b).Deliver(ctx, events(0, 1)); taken != 0 || !errors.Is(err, context.Canceled) {
		t.Error(taken, err)
	}
}

// stuck is when whoever waits for an endpoint that does not move has waited too long.
const stuck = 10 * time.Second

func TestDeliverEndsWithItsContextAlthoughThePeerSaysNothing(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := newEgress().Queue("Endpoint=amqp://" + l.Addr().String() + ";EntityPath=q")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		c, err := l.Accept()
		cancel()
		if err == nil {
			defer c.Close()
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	began := time.Now()
	if taken, err := s.Deliver(ctx, events(0, 1)); taken != 0 || err == nil || time.Since(began) > stuck {
		t.Error(taken, err, time.Since(began))
	}
	_ = s.Close()
}

// wall stands between a sender and a broker; once it is up, nothing is read from the sender any more.
type wall struct {
	net.Listener
	up, down chan struct{}
	passing  sync.WaitGroup
}

func newWall(t *testing.T, b *broker) *wall {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wall{l, make(chan struct{}), make(chan struct{}), sync.WaitGroup{}}
	w.passing.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		to, err := net.Dial("tcp", b.address())
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()
		w.passing.Go(func() { _, _ = io.Copy(c, to) })
		w.pass(c, to)
	})
	t.Cleanup(func() {
		close(w.down)
		_ = l.Close()
		w.passing.Wait()
	})
	return w
}

func (w *wall) pass(from, to net.Conn) {
	buf := make([]byte, 4096)
	for {
		select {
		case <-w.up:
			<-w.down
			return
		default:
		}
		n, err := from.Read(buf)
		if _, err2 := to.Write(buf[:n]); err != nil || err2 != nil {
			return
		}
	}
}

func TestDeliverEndsWithItsContextAlthoughThePeerDoesNotRead(t *testing.T) {
	first := make(chan struct{}, 1)
	b := newBroker(t, nil, func(b *broker) {
		b.settle = func(n int, _ *amqp10.Delivery) {
			if n == 0 {
				first <- struct{}{}
			}
		}
	})
	w := newWall(t, b)
	s, err := newEgress().Queue("Endpoint=amqp://" + w.Addr().String() + ";EntityPath=q")
	if err != nil {
		t.Fatal(err)
	}
	messages := events(0, 100)
	for i := range messages {
		messages[i].Body = make([]byte, 256<<10) // more than sockets hold
	}
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		<-first
		close(w.up)
		_ = clock.New().Sleep(ctx, 500*time.Millisecond) // the sender is stuck in a write by then
		cancel()
	}()
	start := time.Now()
	if taken, err := s.Deliver(ctx, messages); taken != 0 || !errors.Is(err, context.Canceled) {
		t.Error(taken, err)
	}
	if took := time.Since(start); took > stuck {
		t.Errorf("it took %v", took)
	}
	_ = s.Close()
}

// BenchmarkDeliver counts messages of 256 bytes that a peer in this process accepts, 256 at once.
func BenchmarkDeliver(b *testing.B) {
	peer := newBroker(b, nil, func(p *broker) { p.forget = true })
	s, err := newEgress().EventHub(emulatorString(peer))
	if err != nil {
		b.Fatal(err)
	}
	messages := events(0, 256)
	for i := range messages {
		messages[i].Body = make([]byte, 256)
	}
	b.ReportAllocs()
	for b.Loop() {
		if taken, err := s.Deliver(b.Context(), messages); taken != len(messages) || err != nil {
			b.Fatal(taken, err)
		}
	}
	b.ReportMetric(float64(len(messages)*b.N)/b.Elapsed().Seconds(), "messages/s")
	_ = s.Close()
}
