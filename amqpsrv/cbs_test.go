package amqpsrv

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// Trap 1: Node, C#, amenzhinsky/iothub and everybody with a certificate skip the SASL layer.
func TestTrap1BareAMQP(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	c := r.connect(nil)
	if status, text := r.put(c, r.deviceToken(key, time.Hour)); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	r.must(r.telemetry(r.sender(r.session(c), "/devices/d1/messages/events"), "hello"))
}

// Trap 2: all four mechanisms are offered, in an order in which every client finds its own, and MSSBCBS is ANONYMOUS.
func TestTrap2Mechanisms(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := &raw{t: t, conn: r.dial()}
	defer func() { _ = c.conn.Close() }()
	c.write([]byte{'A', 'M', 'Q', 'P', 3, 1, 0, 0})
	var header [8]byte
	if _, err := io.ReadFull(c.conn, header[:]); err != nil || header[4] != 3 {
		t.Fatalf("header %v, %v", header, err)
	}
	mechanisms := c.read()
	if diff := cmp.Diff([]amqp10.Symbol{"MSSBCBS", "ANONYMOUS", "PLAIN", "EXTERNAL"}, mechanisms.field(0)); diff != "" {
		t.Error(diff)
	}
	b, err := amqp10.AppendValue([]byte{0, 0, 0, 0, 2, 1, 0, 0}, amqp10.Described{Descriptor: uint64(0x41), Value: amqp10.List{amqp10.Symbol("MSSBCBS")}})
	r.must(err)
	b[3] = byte(len(b))
	c.write(b)
	if outcome := c.read(); outcome.kind != 0x44 || outcome.field(0) != uint8(0) {
		t.Errorf("outcome %+v", outcome)
	}
}

func TestSASLPlain(t *testing.T) {
	r := newRig(t, rigOptions{})
	d1, m1 := r.device("d1"), r.identity(store.Key{DeviceID: "d1", ModuleID: "m1"})
	for name, c := range map[string]struct{ user, password, address string }{
		"device": {"d1@sas.iolite", r.deviceToken(d1, time.Hour), "/devices/d1/messages/events"},
		"module": {"d1/modules/m1@sas.iolite", r.deviceToken(m1, time.Hour), "/devices/d1/modules/m1/messages/events"},
		"policy": {"service@sas.root.iolite", r.policyToken("localhost", "service", time.Hour), "/messages/devicebound"},
		"key":    {"service", r.policyKey("service"), "/messages/devicebound"}, // amenzhinsky/iothub
	} {
		s := r.session(r.connect(amqp.SASLTypePlain(c.user, c.password)))
		if _, err := s.NewSender(r.ctx(), c.address, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct{ user, password string }{
		"wrong key":    {"service", "d3Jvbmc="},
		"other device": {"d2@sas.iolite", r.deviceToken(d1, time.Hour)},
		"expired":      {"d1@sas.iolite", r.deviceToken(d1, -time.Hour)},
		"no token":     {"d1@sas.iolite", ""},
	} {
		if _, err := amqp.NewConn(r.ctx(), r.dial(), &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(c.user, c.password)}); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
}

func TestPlainResponse(t *testing.T) {
	user, password, err := plainResponse([]byte("\x00user\x00pass word"))
	if user != "user" || password != "pass word" || err != nil {
		t.Errorf("%q, %q, %v", user, password, err)
	}
	for _, bad := range []string{"", "user", "\x00user", "\x00\x00\x00"} {
		if _, _, err := plainResponse([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// EXTERNAL says that TLS has proven who the peer is; without a certificate it has not.
func TestSASLExternalWantsCertificate(t *testing.T) {
	r := newRig(t, rigOptions{})
	if _, err := amqp.NewConn(r.ctx(), r.dial(), &amqp.ConnOptions{SASLType: amqp.SASLTypeExternal("")}); err == nil {
		t.Error("let in")
	}
}

// request is a put-token message with the given message-id.
func request(id any, token string) *amqp10.Message {
	return &amqp10.Message{
		Properties: &amqp10.Properties{MessageID: id, ReplyTo: "cbs"},
		ApplicationProperties: amqp10.Map{{Key: "operation", Value: "put-token"}, {Key: "type", Value: "servicebus.windows.net:sastoken"},
			{Key: "name", Value: "localhost/devices/d1"}},
		Body: amqp10.BodyValue, Value: token,
	}
}

// cbsPair attaches both $cbs links on a channel, the sender with the handle and the receiver with the next.
func (r *raw) cbsPair(channel uint16, handle uint32) {
	r.t.Helper()
	r.attachSender(channel, "cbs-sender", handle, "$cbs")
	r.attachReceiver(channel, "cbs-receiver", handle+1, "$cbs", uint8(amqp10.SndMixed), uint8(amqp10.RcvFirst), 100)
}

// Trap 3: the correlation-id is the request's message-id in its own type, or absent, and status-code is an int.
func TestTrap3CorrelationTypes(t *testing.T) {
	r := newRig(t, rigOptions{})
	token := r.deviceToken(r.device("d1"), time.Hour)
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	c.cbsPair(0, 0)
	for i, id := range []any{"text", uuid, uint64(0), uint64(1 << 40), []byte{1, 2}, nil} {
		c.transfer(0, 0, uint32(i), 0, encoded(t, request(id, token)))
		m := c.decode(c.message())
		var got any
		if m.Properties != nil {
			got = m.Properties.CorrelationID
		}
		if diff := cmp.Diff(id, got); diff != "" {
			t.Errorf("message-id %v (-want +got):\n%s", id, diff)
		}
		if code, ok := m.ApplicationProperties.Get("status-code").(int32); !ok || code != 200 {
			t.Errorf("status-code %#v", m.ApplicationProperties.Get("status-code"))
		}
		if _, ok := m.ApplicationProperties.Get("status-description").(string); !ok {
			t.Error("no status-description")
		}
	}
}

// Trap 4: replies go to the receiver of $cbs on the same session, whatever reply-to says; trap 11: the sessions' links have the
// same names.
func TestTrap4RepliesStayOnTheirSession(t *testing.T) {
	r := newRig(t, rigOptions{})
	token := r.deviceToken(r.device("d1"), time.Hour)
	c := rawOpen(t, r.dial(), 65536)
	for channel := range uint16(3) {
		c.begin(channel)
		c.cbsPair(channel, 7)
	}
	for _, channel := range []uint16{2, 0, 1} {
		c.transfer(channel, 7, 0, 0, encoded(t, request(fmt.Sprint("id", channel), token)))
		f := c.message()
		if m := c.decode(f); f.channel != c.ours[channel] || m.Properties.CorrelationID != fmt.Sprint("id", channel) {
			t.Errorf("reply to %v on channel %d, want %d", m.Properties.CorrelationID, f.channel, c.ours[channel])
		}
	}
}

// A reply waits for a receiver link and for its credit: eh-java grants one for each request, after it.
func TestReplyWaitsForLinkAndCredit(t *testing.T) {
	r := newRig(t, rigOptions{})
	token := r.deviceToken(r.device("d1"), time.Hour)
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	c.attachSender(0, "cbs-sender", 0, "$cbs")
	c.transfer(0, 0, 0, 0, encoded(t, request("early", token)))
	if code, _ := state(c.expect(performDisposition).field(4)); code != stateAccepted {
		t.Fatalf("request settled with 0x%x", code)
	}
	c.attachReceiver(0, "cbs-receiver", 1, "$cbs", 2, 0, 0)
	c.send(0, performFlow, nil, uint32(0), uint32(5000), uint32(1), uint32(5000), uint32(1), uint32(0), uint32(1))
	if m := c.decode(c.message()); m.Properties.CorrelationID != "early" {
		t.Errorf("reply to %v", m.Properties.CorrelationID)
	}
}

// With several receivers on a session the one that reply-to names gets the reply.
func TestReplyToNamesALink(t *testing.T) {
	r := newRig(t, rigOptions{})
	token := r.deviceToken(r.device("d1"), time.Hour)
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	c.attachSender(0, "cbs-sender", 0, "$cbs")
	c.attachReceiver(0, "cbs", 1, "$cbs", 2, 0, 10)
	c.attachReceiver(0, "other", 2, "$cbs", 2, 0, 10)
	c.transfer(0, 0, 0, 0, encoded(t, request("x", token)))
	first := c.message()
	m := request("y", token)
	m.Properties.ReplyTo = "other"
	c.transfer(0, 0, 1, 0, encoded(t, m))
	if second := c.message(); second.field(0) == first.field(0) {
		t.Errorf("both replies went to handle %v", first.field(0))
	}
}

// Receivers that ask for settled transfers get them (B.1), and every tag has 16 bytes (trap 6).
func TestRepliesSettledAsAsked(t *testing.T) {
	r := newRig(t, rigOptions{})
	token := r.deviceToken(r.device("d1"), time.Hour)
	for snd, want := range map[uint8]bool{uint8(amqp10.SndSettled): true, uint8(amqp10.SndUnsettled): false} {
		c := rawOpen(t, r.dial(), 65536)
		c.begin(0)
		c.attachSender(0, "cbs-sender", 0, "$cbs")
		if f := c.attachReceiver(0, "cbs-receiver", 1, "$cbs", snd, 0, 10); f.field(3) != snd {
			t.Errorf("asked for snd-settle-mode %d, got %v", snd, f.field(3))
		}
		c.transfer(0, 0, 0, 0, encoded(t, request("x", token)))
		f := c.message()
		if got := f.field(4) == true; got != want {
			t.Errorf("snd-settle-mode %d: settled %v", snd, got)
		}
		if tag, _ := f.field(2).([]byte); len(tag) != 16 {
			t.Errorf("tag %x", tag)
		}
	}
}

func TestPutTokenRefusals(t *testing.T) {
	r := newRig(t, rigOptions{})
	d1 := r.device("d1")
	good := r.deviceToken(d1, time.Hour)
	primary, _ := hub.DeriveKeys(d1)
	unknown, _ := hub.DeriveKeys(store.Key{DeviceID: "nobody"})
	for name, test := range map[string]struct {
		change func(*amqp10.Message)
		want   int32
	}{
		"good":              {func(*amqp10.Message) {}, 200},
		"any case":          {func(m *amqp10.Message) { m.ApplicationProperties[1].Value = "AZURE-devices.net:SasToken" }, 200},
		"token as data":     {func(m *amqp10.Message) { m.Body, m.Data, m.Value = amqp10.BodyData, [][]byte{[]byte(good)}, nil }, 200},
		"name of another":   {func(m *amqp10.Message) { m.ApplicationProperties[2].Value = "localhost/devices/other" }, 200},
		"wrong signature":   {func(m *amqp10.Message) { m.Value = r.token("localhost/devices/d1", unknown, "", time.Hour) }, 401},
		"expired":           {func(m *amqp10.Message) { m.Value = r.deviceToken(d1, -time.Hour) }, 401},
		"unknown device":    {func(m *amqp10.Message) { m.Value = r.token("localhost/devices/nobody", unknown, "", time.Hour) }, 401},
		"unknown policy":    {func(m *amqp10.Message) { m.Value = r.token("localhost", primary, "nobody", time.Hour) }, 401},
		"no token":          {func(m *amqp10.Message) { m.Value = "SharedAccessSignature" }, 400},
		"cut":               {func(m *amqp10.Message) { m.Value = good[:len(good)/2] }, 400},
		"empty":             {func(m *amqp10.Message) { m.Value = "" }, 400},
		"no text":           {func(m *amqp10.Message) { m.Value = int32(1) }, 400},
		"too long":          {func(m *amqp10.Message) { m.Value = good + strings.Repeat("a", 10000) }, 400},
		"unknown type":      {func(m *amqp10.Message) { m.ApplicationProperties[1].Value = "magic" }, 400},
		"no type":           {func(m *amqp10.Message) { m.ApplicationProperties = m.ApplicationProperties[:1] }, 400},
		"unknown operation": {func(m *amqp10.Message) { m.ApplicationProperties[0].Value = "take-token" }, 400},
		"no properties":     {func(m *amqp10.Message) { m.ApplicationProperties = nil }, 400},
	} {
		t.Run(name, func(t *testing.T) {
			c := rawOpen(t, r.dial(), 65536)
			c.begin(0)
			c.cbsPair(0, 0)
			m := request("x", good)
			test.change(m)
			c.transfer(0, 0, 0, 0, encoded(t, m))
			// The request is accepted whatever its answer: Node, uAMQP and pyamqp take a rejection for a broken link. The two
			// come in any order.
			var status any
			outcome := uint64(0)
			for status == nil || outcome == 0 {
				switch f := c.read(); f.kind {
				case performTransfer:
					status = c.decode(f).ApplicationProperties.Get("status-code")
				case performDisposition:
					outcome, _ = state(f.field(4))
				}
			}
			if status != test.want || outcome != stateAccepted {
				t.Errorf("status %v, want %d; request settled with 0x%x", status, test.want, outcome)
			}
		})
	}
}

// A token that is refused leaves the one that was put before.
func TestRefusedTokenChangesNothing(t *testing.T) {
	r := newRig(t, rigOptions{})
	d1 := r.device("d1")
	c := r.connect(amqp.SASLTypeAnonymous())
	if status, _ := r.put(c, r.deviceToken(d1, time.Hour)); status != 200 {
		t.Fatal(status)
	}
	if status, _ := r.put(c, r.deviceToken(d1, -time.Hour)); status != 401 {
		t.Fatal(status)
	}
	r.must(r.telemetry(r.sender(r.session(c), "/devices/d1/messages/events"), "hello"))
}

// A request that is no message is rejected and does no further harm.
func TestBrokenRequest(t *testing.T) {
	r := newRig(t, rigOptions{})
	token := r.deviceToken(r.device("d1"), time.Hour)
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	c.cbsPair(0, 0)
	c.transfer(0, 0, 0, 0, []byte{0, 0x53, 0x77, 0xb1, 0xff, 0xff, 0xff, 0xff})
	code, fields := state(c.expect(performDisposition).field(4))
	if cond, _ := condition(fields[0]); code != stateRejected || cond != amqp10.CondDecodeError {
		t.Errorf("0x%x %v", code, fields)
	}
	c.transfer(0, 0, 1, 0, encoded(t, request("x", token)))
	if got := c.decode(c.message()).ApplicationProperties.Get("status-code"); got != int32(200) {
		t.Errorf("status %v", got)
	}
}

// With authentication off anybody may do anything, also without $cbs.
func TestAuthOff(t *testing.T) {
	r := newRig(t, rigOptions{authOff: true})
	r.device("d1")
	c := r.connect(nil)
	r.must(r.telemetry(r.sender(r.session(c), "/devices/d1/messages/events"), "hello"))
	r.sender(r.session(c), "/messages/devicebound")
	if status, text := r.put(c, "Bearer anything"); status != 200 {
		t.Errorf("%d %s", status, text)
	}
}

// Trap 14: expiration may be there or not, in whatever type, and so may other keys; only the token counts.
func TestTrap14ExpirationDoesNotMatter(t *testing.T) {
	r := newRig(t, rigOptions{})
	token := r.deviceToken(r.device("d1"), time.Hour)
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	c.cbsPair(0, 0)
	for i, more := range []amqp10.Map{
		nil,
		{{Key: "expiration", Value: amqp10.TimestampOf(r.clock.Now().Add(-time.Hour))}, {Key: "server-timeout", Value: uint32(5000)}},
		{{Key: "expiration", Value: "never"}, {Key: "locales", Value: "en"}},
	} {
		m := request("x", token)
		m.ApplicationProperties = append(m.ApplicationProperties, more...)
		c.transfer(0, 0, uint32(i), 0, encoded(t, m))
		if got := c.decode(c.message()).ApplicationProperties.Get("status-code"); got != int32(200) {
			t.Errorf("%v: status %v", more, got)
		}
	}
}

// Trap 15: a peer that wants to hear from us at least every 300 ms does, with links or without.
func TestTrap15Heartbeats(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := &raw{t: t, conn: r.dial()}
	defer func() { _ = c.conn.Close() }()
	c.write([]byte{'A', 'M', 'Q', 'P', 0, 1, 0, 0})
	c.send(0, performOpen, nil, "raw", "localhost", uint32(65536), uint16(10), uint32(300))
	r.must(c.conn.SetReadDeadline(clock.Wall().Add(patience)))
	var header [8]byte
	if _, err := io.ReadFull(c.conn, header[:]); err != nil {
		t.Fatal(err)
	}
	c.expect(performOpen)
	for range 3 {
		var frame [8]byte
		if _, err := io.ReadFull(c.conn, frame[:]); err != nil || frame != [8]byte{0, 0, 0, 8, 2} {
			t.Fatalf("%v, %v", frame, err)
		}
	}
}
