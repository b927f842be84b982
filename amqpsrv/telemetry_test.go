package amqpsrv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

func TestTelemetryIsStoredBeforeItIsAccepted(t *testing.T) {
	r := newRig(t, rigOptions{})
	l := r.sender(r.asDevice(r.device("d1")), "/devices/d1/messages/events")
	contentType, user := "application/json", []byte("u")
	r.must(l.Send(r.ctx(), &amqp.Message{
		Properties:            &amqp.MessageProperties{MessageID: amqp.UUID(uuid), CorrelationID: "c", ContentType: &contentType, UserID: user},
		ApplicationProperties: map[string]any{"a": "1"},
		Annotations:           amqp.Annotations{"iothub-interface-id": "if"},
		Data:                  [][]byte{[]byte("one "), []byte("two")},
	}, nil))
	events := r.events() // Send returned because of the disposition
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	e := events[0]
	if string(e.Body) != "one two" || e.DeviceID != "d1" || e.MessageID != "123e4567-e89b-12d3-a456-426614174000" || e.CorrelationID != "c" ||
		e.ContentType != contentType || e.UserID != "u" || e.InterfaceID != "if" || e.Source != "Telemetry" {
		t.Errorf("%+v", e)
	}
	if diff := cmp.Diff([]store.Property{{Name: "a", Value: "1"}}, e.Properties); diff != "" {
		t.Error(diff)
	}
}

// Trap 9: without a max-message-size above 1024 the C SDK sends nothing.
func TestTrap9MaxMessageSize(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.asDevice(r.device("d1"))
	if n := r.sender(s, "/devices/d1/messages/events").MaxMessageSize(); n < 256<<10 {
		t.Errorf("telemetry announces %d", n)
	}
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	if n, _ := c.attachSender(0, "s", 0, "$cbs").field(10).(uint64); n <= 1024 {
		t.Errorf("$cbs announces %d", n)
	}
	if n, _ := c.attachReceiver(0, "r", 1, "$cbs", 2, 0, 1).field(10).(uint64); n <= 1024 {
		t.Errorf("$cbs announces %d to a receiver", n)
	}
}

// Trap 12: the node is found whatever the form of its address.
func TestTrap12AddressForms(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.asDevice(r.device("a+b:c"))
	for _, address := range []string{
		"/devices/a+b:c/messages/events", "devices/a%2Bb%3Ac/messages/events", "amqps://localhost/devices/a%2bb%3ac/messages/events",
		"amqps://localhost:5671/DEVICES/a+b:c/Messages/Events/",
	} {
		if _, err := s.NewSender(r.ctx(), address, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"amqps://localhost:5671/devices/a%2Bb%3Ac/messages/deviceBound", "/devices/a+b:c/messages/devicebound"} {
		if _, err := s.NewReceiver(r.ctx(), address, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// Trap 13: a batch is one delivery and as many events; the C SDK sends every message so.
func TestTrap13Batch(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, r.device("d1"))
	c.attachSender(0, "telemetry", 2, "/devices/d1/messages/events")
	one, two := text("one"), text("two")
	one.ApplicationProperties = amqp10.Map{{Key: "n", Value: "1"}}
	envelope := &amqp10.Message{MessageAnnotations: amqp10.Map{{Key: amqp10.Symbol("x-opt-partition-key"), Value: "k"}},
		Body: amqp10.BodyData, Data: [][]byte{encoded(t, one), encoded(t, two)}}
	c.transfer(0, 2, 1, amqp10.BatchFormat, encoded(t, envelope))
	if d := c.disposition(1); d.field(3) != true {
		t.Errorf("not settled: %v", d.fields)
	} else if code, _ := state(d.field(4)); code != stateAccepted {
		t.Errorf("0x%x", code)
	}
	var got []string
	for _, e := range r.events() {
		got = append(got, string(e.Body))
	}
	if diff := cmp.Diff([]string{"one", "two"}, got); diff != "" {
		t.Error(diff)
	}
}

// A batch with a broken message is refused as a whole.
func TestBatchAllOrNone(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, r.device("d1"))
	c.attachSender(0, "telemetry", 2, "/devices/d1/messages/events")
	for i, envelope := range []*amqp10.Message{
		{Body: amqp10.BodyData, Data: [][]byte{encoded(t, text("one")), {0, 0x53, 0x75, 0xa0, 200}}},
		{Body: amqp10.BodyData, Data: [][]byte{encoded(t, text("one")), encoded(t, &amqp10.Message{Body: amqp10.BodyValue, Value: int32(1)})}},
		{Body: amqp10.BodyValue, Value: "one"},
	} {
		c.transfer(0, 2, uint32(i+1), amqp10.BatchFormat, encoded(t, envelope))
		if code, _ := state(c.disposition(uint32(i + 1)).field(4)); code != stateRejected {
			t.Errorf("%d: 0x%x", i, code)
		}
	}
	if n := len(r.events()); n != 0 {
		t.Errorf("%d events", n)
	}
}

// What cannot be taken is rejected, with an error, and the link lives on: Node takes released for success, Java reads the error
// unchecked.
func TestTelemetryRejections(t *testing.T) {
	var log journal
	r := newRig(t, rigOptions{log: &log})
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, r.device("d1"))
	c.attachSender(0, "telemetry", 2, "/devices/d1/messages/events")
	for i, test := range []struct {
		format  uint32
		message []byte
		want    amqp10.Symbol
	}{
		{0, []byte{0, 0x53, 0x75, 0xb0, 0xff, 0xff, 0xff, 0xff}, amqp10.CondDecodeError},
		{0, []byte{1, 2, 3}, amqp10.CondDecodeError},
		{0, encoded(t, &amqp10.Message{Body: amqp10.BodyValue, Value: int32(1)}), condArgument},
		{0, encoded(t, &amqp10.Message{Properties: &amqp10.Properties{MessageID: strings.Repeat("x", 129)}}), condArgument},
		{7, encoded(t, text("x")), amqp10.CondNotImplemented},
	} {
		c.transfer(0, 2, uint32(i+1), test.format, test.message)
		d := c.disposition(uint32(i + 1))
		code, fields := state(d.field(4))
		if code != stateRejected || len(fields) == 0 {
			t.Fatalf("%d: 0x%x %v", i, code, fields)
		}
		cond, info := condition(fields[0])
		if cond != test.want {
			t.Errorf("%d: %s, want %s", i, cond, test.want)
		}
		if id := info.Text(string(trackingID)); id == "" || strings.Count(log.String(), id) != 1 {
			t.Errorf("%d: the tracking id %q does not stand in one line of the log:\n%s", i, id, log.String())
		}
	}
	c.transfer(0, 2, 100, 0, encoded(t, text("fine")))
	if code, _ := state(c.disposition(100).field(4)); code != stateAccepted {
		t.Errorf("0x%x", code)
	}
}

// Messages that are read together are stored together, and each has an outcome of its own: what was before one that is refused is stored, and
// so is what comes after it, in order.
func TestTelemetryThatComesTogetherHasOutcomesOfItsOwn(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, r.device("d1"))
	c.attachSender(0, "telemetry", 2, "/devices/d1/messages/events")
	badID := func(body string) []byte {
		m := text(body)
		m.Properties = &amqp10.Properties{MessageID: "not an id"}
		return encoded(t, m)
	}
	batch := encoded(t, &amqp10.Message{Body: amqp10.BodyData, Data: [][]byte{encoded(t, text("7")), encoded(t, text("8"))}})
	var together []byte
	for i, m := range []struct {
		format  uint32
		message []byte
		settled bool
	}{
		{0, encoded(t, text("1")), false}, {0, encoded(t, text("2")), false}, {0, badID("3"), false}, {0, badID("4"), false}, {0, encoded(t, text("5")), false},
		{0, encoded(t, text("6")), true}, {amqp10.BatchFormat, batch, false}, {0, []byte{1, 2, 3}, false}, {0, badID("9"), true},
		{0, encoded(t, text("10")), false}, {7, encoded(t, text("11")), false}, {0, encoded(t, text("12")), false},
	} {
		together = append(together, c.frame(0, performTransfer, m.message, uint32(2), uint32(i+1), []byte{byte(i)}, m.format, m.settled)...)
	}
	c.write(together)
	var outcomes []string
	for done := false; !done; {
		f := c.expect(performDisposition)
		code, _ := state(f.field(4))
		first, last := f.field(1).(uint32), f.field(1).(uint32)
		if v, ok := f.field(2).(uint32); ok {
			last = v
		}
		outcomes = append(outcomes, fmt.Sprintf("%d-%d %s", first, last, map[uint64]string{stateAccepted: "accepted", stateRejected: "rejected"}[code]))
		done = last == 12
	}
	want := []string{"1-2 accepted", "3-3 rejected", "4-4 rejected", "5-5 accepted", "7-7 accepted", "8-8 rejected", "10-10 accepted", "11-11 rejected", "12-12 accepted"}
	if diff := cmp.Diff(want, outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	var bodies []string
	for _, e := range r.events() {
		bodies = append(bodies, string(e.Body))
	}
	if diff := cmp.Diff([]string{"1", "2", "5", "6", "7", "8", "10", "12"}, bodies); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// journal is a log that tests read.
type journal struct {
	mu sync.Mutex
	b  strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// A refused link says in its error under which tracking id the log has the cause.
func TestRefusedLinksHaveATrackingIDThatTheLogKnows(t *testing.T) {
	var log journal
	r := newRig(t, rigOptions{log: &log})
	session := r.asDevice(r.device("d1"))
	for _, address := range []string{"/devices/other/messages/events", "/nothing/here", "/messages/devicebound"} {
		_, err := session.NewSender(r.t.Context(), address, nil)
		e, _ := refused(err, "")
		if e == nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if id, _ := e.Info[string(trackingID)].(string); id == "" || strings.Count(log.String(), id) != 1 || !strings.Contains(log.String(), "category=") {
			t.Errorf("%s: the tracking id %q does not stand in one line of the log:\n%s", address, id, log.String())
		}
	}
}

func TestTelemetryTooLarge(t *testing.T) {
	r := newRig(t, rigOptions{})
	l := r.sender(r.asDevice(r.device("d1")), "/devices/d1/messages/events")
	r.must(r.telemetry(l, strings.Repeat("x", 256<<10-100)))
	e := r.wantRefusal(r.telemetry(l, strings.Repeat("x", 256<<10+1)), amqp.ErrCondMessageSizeExceeded)
	if _, ok := e.Info["com.microsoft:tracking-id"].(string); !ok {
		t.Errorf("no tracking id: %v", e.Info)
	}
	r.must(r.telemetry(l, "fine"))
}

// A message sent settled is stored, and nobody answers.
func TestTelemetrySentSettled(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.asDevice(r.device("d1"))
	l, err := s.NewSender(r.ctx(), "/devices/d1/messages/events", &amqp.SenderOptions{SettlementMode: amqp.SenderSettleModeSettled.Ptr()})
	r.must(err)
	r.must(r.telemetry(l, "one"))
	r.until("stored", func() bool { return len(r.events()) == 1 })
}

func TestForeignLinksAreRefused(t *testing.T) {
	r := newRig(t, rigOptions{})
	d1 := r.device("d1")
	r.device("d2")
	r.identity(store.Key{DeviceID: "d1", ModuleID: "m1"})
	s := r.asDevice(d1)
	own := r.sender(s, "/devices/d1/messages/events")
	for _, address := range []string{"/devices/d2/messages/events", "/devices/D1/messages/events", "/devices/nobody/messages/events", "/messages/devicebound"} {
		_, err := s.NewSender(r.ctx(), address, nil)
		r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
	}
	for _, address := range []string{"/devices/d2/messages/devicebound", "/messages/servicebound/feedback", "iolite/ConsumerGroups/$Default/Partitions/0"} {
		_, err := s.NewReceiver(r.ctx(), address, nil)
		r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
	}
	for _, address := range []string{"", "/devices/d1", "/nowhere/at/all"} {
		_, err := s.NewSender(r.ctx(), address, nil)
		r.wantRefusal(err, amqp.ErrCondNotFound)
	}
	r.must(r.telemetry(own, "the connection lives on"))
}

// Without any token there is no link.
func TestNothingProven(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.device("d1")
	s := r.session(r.connect(amqp.SASLTypeAnonymous()))
	_, err := s.NewSender(r.ctx(), "/devices/d1/messages/events", nil)
	r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
	_, err = s.NewSender(r.ctx(), "/messages/devicebound", nil)
	r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
}

// uAMQP, below Python's azure-iot-hub, asks for receiver settle mode second where it sends, and then waits for us to settle.
func TestSendersSettleModeSecond(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, r.device("d1"))
	c.send(0, performAttach, nil, "s", uint32(2), false, uint8(0), uint8(1), source(""), target("/devices/d1/messages/events"), nil, nil, uint32(0))
	if f := c.expect(performAttach); f.field(4) != uint8(0) && f.field(4) != nil {
		t.Errorf("rcv-settle-mode %v", f.field(4))
	}
	c.transfer(0, 2, 1, 0, encoded(t, text("x")))
	if d := c.disposition(1); d.field(3) != true {
		t.Errorf("not settled: %v", d.fields)
	}
}

// The model may be named on any link of a device, and counts from then on; the first to say who the client is counts for that.
func TestModelAndUserAgent(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.asDevice(r.device("d1"))
	attach := func(address string, properties map[string]any) *amqp.Sender {
		l, err := s.NewSender(r.ctx(), address, &amqp.SenderOptions{Properties: properties})
		r.must(err)
		return l
	}
	first := attach("/devices/d1/messages/events", map[string]any{"com.microsoft:client-version": "sdk/1.0", "com.microsoft:api-version": "2021-04-12"})
	r.must(r.telemetry(first, "without"))
	attach("/devices/d1/messages/events/", map[string]any{"com.microsoft:model-id": "dtmi:a;1", "com.microsoft:client-version": "other"})
	r.must(r.telemetry(first, "with"))
	events := r.events()
	if events[0].ModelID != "" || events[1].ModelID != "dtmi:a;1" {
		t.Errorf("models %q, %q", events[0].ModelID, events[1].ModelID)
	}
	if list := r.hub.Connections(); len(list) != 1 || list[0].UserAgent != "sdk/1.0" {
		t.Errorf("%+v", list)
	}
}

// What is not there yet is refused loudly.
func TestNotImplementedYet(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.asDevice(r.device("d1"))
	_, err := s.NewSender(r.ctx(), "/messages/serviceBound/feedback", nil)
	if e := r.wantRefusal(err, amqp.ErrCondNotImplemented); !strings.Contains(e.Description, "Iolite") {
		t.Errorf("%q", e.Description)
	}
}

// certificate makes a self-signed client certificate and its SHA-256 thumbprint.
func certificate(t *testing.T, name string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: clock.Wall().Add(-time.Hour), NotAfter: clock.Wall().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, hex.EncodeToString(sum[:])
}

// A device with a certificate skips SASL and $cbs: the link's address says who it is, the TLS handshake proves it.
func TestX509(t *testing.T) {
	server, _ := certificate(t, "localhost")
	r := newRig(t, rigOptions{wrap: func(c net.Conn) *door.Conn {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequestClientCert})
		if s.Handshake() != nil {
			_ = c.Close()
			return nil
		}
		return door.Wrap(s, door.AMQP)
	}})
	own, thumbprint := certificate(t, "x1")
	other, _ := certificate(t, "x1")
	_, err := r.hub.Admin().CreateIdentity(r.ctx(), store.Identity{Key: store.Key{DeviceID: "x1"}, Status: store.Enabled,
		Authentication: store.Authentication{Type: store.AuthSelfSigned, PrimaryThumbprint: thumbprint}})
	r.must(err)
	r.device("d1")
	connect := func(cert tls.Certificate, sasl amqp.SASLType) *amqp.Session {
		tc := tls.Client(r.dial(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
		c, err := amqp.NewConn(r.ctx(), tc, &amqp.ConnOptions{SASLType: sasl})
		r.must(err)
		t.Cleanup(func() { _ = c.Close() })
		return r.session(c)
	}
	for _, sasl := range []amqp.SASLType{nil, amqp.SASLTypeExternal("")} {
		s := connect(own, sasl)
		r.must(r.telemetry(r.sender(s, "/devices/x1/messages/events"), "hello"))
		_, err = s.NewSender(r.ctx(), "/devices/d1/messages/events", nil)
		r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
	}
	_, err = connect(other, nil).NewSender(r.ctx(), "/devices/x1/messages/events", nil)
	r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
}

// TestMessagesOfOneReadAreKeptApart: payloads are lent, and the next ones are read into the same memory. What is read otherwise than in
// place (values that are no text) is no exception.
func TestMessagesOfOneReadAreKeptApart(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, r.device("d1"))
	c.attachSender(0, "telemetry", 2, "/devices/d1/messages/events")
	const n = 200
	var want, got []string
	for i := range uint32(n) {
		digits := fmt.Sprintf("%03d", i)
		m := text("body " + digits)
		m.Properties = &amqp10.Properties{MessageID: "id-" + digits, ContentType: "type/" + digits}
		m.ApplicationProperties = amqp10.Map{{Key: "name" + digits, Value: "value" + digits}}
		if i%3 == 0 {
			m.ApplicationProperties = append(m.ApplicationProperties, amqp10.Entry{Key: "number", Value: int32(i)})
		}
		c.transfer(0, 2, 1+i, 0, encoded(t, m))
		want = append(want, fmt.Sprintf("body %s id-%s type/%s name%s=value%s", digits, digits, digits, digits, digits))
	}
	for !c.settledTo(n) {
	}
	for _, e := range r.events() {
		got = append(got, fmt.Sprintf("%s %s %s %s=%s", e.Body, e.MessageID, e.ContentType, e.Properties[0].Name, e.Properties[0].Value))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
