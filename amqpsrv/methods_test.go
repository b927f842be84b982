package amqpsrv

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

func TestMethodRoundTrip(t *testing.T) {
	eachIdentity(t, func(t *testing.T, r *rig, key store.Key) {
		d := r.duplex(r.asDevice(key), methodsAddress(key), "methods:1")
		// C#, C and Go send the uuid as such; Node as text when it does not know it for one; other integers than int will do.
		for i, c := range []struct {
			id     func(amqp.UUID) any
			status any
			want   int
		}{
			{func(u amqp.UUID) any { return u }, int32(200), 200},
			{func(u amqp.UUID) any { return u.String() }, int64(-7), -7},
			{func(u amqp.UUID) any { return strings.ToUpper(u.String()) }, uint8(7), 7},
		} {
			payload := fmt.Sprintf(`{"n":%d}`, i)
			call := r.invoke(key, hub.MethodCall{Name: "reboot", Payload: []byte(payload)})
			m := r.receive(d.out)
			if diff := cmp.Diff(map[string]any{"IoThub-methodname": "reboot"}, m.ApplicationProperties); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([][]byte{[]byte(payload)}, m.Data); diff != "" || len(m.DeliveryTag) != 16 {
				t.Errorf("tag %x, body %s", m.DeliveryTag, diff)
			}
			id, ok := m.Properties.CorrelationID.(amqp.UUID) // trap 7
			if !ok {
				t.Fatalf("correlation-id is a %T", m.Properties.CorrelationID)
			}
			r.must(d.respond(m, c.id(id), c.status))
			if got, err := call.wait(); err != nil || got.Status != c.want || string(got.Payload) != payload {
				t.Errorf("%d %s %v", got.Status, got.Payload, err)
			}
		}
		call := r.invoke(key, hub.MethodCall{Name: "m"})
		m := r.receive(d.out)
		if string(m.GetData()) != "null" { // C wants a data section
			t.Errorf("no payload is %q", m.GetData())
		}
		r.must(d.in.Send(r.ctx(), &amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: m.Properties.CorrelationID}, ApplicationProperties: map[string]any{methodStatus: int32(204)}}, nil))
		if got, err := call.wait(); err != nil || got.Status != 204 || string(got.Payload) != "null" {
			t.Errorf("no payload came back as %d %s %v", got.Status, got.Payload, err)
		}
	})
}

// Responses find their calls in any order, and over any pair of the identity.
func TestMethodResponsesAreMatchedByCorrelation(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	d := r.duplex(s, methodsAddress(key), "methods:1")
	other := r.pairSender(s, methodsAddress(key), "methods:2")
	var calls []*call
	requests := map[string]*amqp.Message{}
	for i := range 20 {
		calls = append(calls, r.invoke(key, hub.MethodCall{Name: "m", Payload: fmt.Append(nil, i)}))
	}
	for range calls {
		m := r.receive(d.out)
		requests[string(m.GetData())] = m
	}
	for i := len(calls) - 1; i >= 0; i-- {
		m := requests[fmt.Sprint(i)]
		if i%2 == 0 {
			d.in, other = other, d.in
		}
		r.must(d.respond(m, m.Properties.CorrelationID, int32(i)))
	}
	for i, c := range calls {
		if got, err := c.wait(); err != nil || got.Status != i || string(got.Payload) != fmt.Sprint(i) {
			t.Errorf("call %d: %d %s %v", i, got.Status, got.Payload, err)
		}
	}
}

// A device with one of the two links could not answer: it is offline for methods, and a caller who waits gets through as soon as both
// are there, whichever comes last.
func TestMethodsNeedBothLinks(t *testing.T) {
	for _, senderLast := range []bool{true, false} {
		t.Run(fmt.Sprint("sender last ", senderLast), func(t *testing.T) {
			r := newRig(t, rigOptions{})
			key := r.device("d1")
			s := r.asDevice(key)
			d := &duplex{rig: r}
			first := func() { d.out = r.pairReceiver(s, methodsAddress(key), "methods:1", 10) }
			second := func() { d.in = r.pairSender(s, methodsAddress(key), "methods:1") }
			if !senderLast {
				first, second = second, first
			}
			first()
			r.invoke(key, hub.MethodCall{Name: "m"}).fails(hub.CodeDeviceNotOnline)
			waiting := r.invoke(key, hub.MethodCall{Name: "m", ConnectTimeout: 10 * time.Second})
			second()
			m := r.receive(d.out)
			r.must(d.respond(m, m.Properties.CorrelationID, int32(200)))
			if _, err := waiting.wait(); err != nil {
				t.Error(err)
			}
			r.must(d.in.Close(r.ctx()))
			r.offline(key)
			d.in = r.pairSender(s, methodsAddress(key), "methods:1")
			again := r.invoke(key, hub.MethodCall{Name: "m"})
			m = r.receive(d.out)
			r.must(d.respond(m, m.Properties.CorrelationID, int32(200)))
			if _, err := again.wait(); err != nil {
				t.Error(err)
			}
			r.must(d.out.Close(r.ctx()))
			r.offline(key)
		})
	}
}

// Requests wait for credit and then come in order; the calls of those that still wait when the link goes fail at once.
func TestMethodRequestsWaitForCredit(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	events := r.sender(s, "/devices/d1/messages/events") // the device stays connected
	d := &duplex{r, r.pairSender(s, methodsAddress(key), "methods:1"), r.pairReceiver(s, methodsAddress(key), "methods:1", -1)}
	var calls []*call
	for i := range 3 {
		calls = append(calls, r.invoke(key, hub.MethodCall{Name: "m", Payload: fmt.Append(nil, i)}))
		r.until("the request waits", func() bool { return r.outlets() > int64(i*200) })
	}
	for i := range 2 {
		r.must(d.out.IssueCredit(1))
		m := r.receive(d.out)
		if string(m.GetData()) != fmt.Sprint(i) {
			t.Errorf("%s, want %d", m.GetData(), i)
		}
		r.must(d.respond(m, m.Properties.CorrelationID, int32(200)))
		if _, err := calls[i].wait(); err != nil {
			t.Error(err)
		}
	}
	r.must(d.out.Close(r.ctx()))
	calls[2].fails(hub.CodeConnectionClosed)
	r.must(r.telemetry(events, "x"))
	if kept := r.outlets(); kept != 0 {
		t.Errorf("%d bytes are still accounted for", kept)
	}
}

// A device is not bothered with what the caller has given up meanwhile.
func TestMethodRequestsThatNobodyWaitsForAreNotSent(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	d := &duplex{r, r.pairSender(s, methodsAddress(key), ""), r.pairReceiver(s, methodsAddress(key), "", -1)}
	late := r.invoke(key, hub.MethodCall{Name: "late", ResponseTimeout: 5 * time.Second})
	r.until("the request waits", func() bool { return r.outlets() > 0 })
	r.clock.Advance(6 * time.Second)
	late.fails(hub.CodeGatewayTimeout)
	call := r.invoke(key, hub.MethodCall{Name: "in time"})
	r.must(d.out.IssueCredit(5))
	m := r.receive(d.out)
	if name := m.ApplicationProperties[methodName]; name != "in time" {
		t.Fatalf("the device was asked for %v", name)
	}
	r.must(d.respond(m, m.Properties.CorrelationID, int32(200)))
	if _, err := call.wait(); err != nil {
		t.Error(err)
	}
}

// What waits for a device that grants no credit is bounded; the calls beyond fail at once, and the device stays.
func TestMethodsOfAPeerThatGrantsNoCreditAreBounded(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	d := &duplex{r, r.pairSender(s, methodsAddress(key), ""), r.pairReceiver(s, methodsAddress(key), "", -1)}
	payload := []byte(`"` + strings.Repeat("x", 120<<10) + `"`)
	var calls []*call
	for range 8 {
		before := r.outlets()
		calls = append(calls, r.invoke(key, hub.MethodCall{Name: "m", Payload: payload}))
		r.until("the request waits", func() bool { return r.outlets() > before })
	}
	r.invoke(key, hub.MethodCall{Name: "m", Payload: payload}).fails(hub.CodeBadGateway)
	for _, c := range calls {
		r.must(d.out.IssueCredit(1))
		m := r.receive(d.out)
		r.must(d.respond(m, m.Properties.CorrelationID, int32(200)))
		if _, err := c.wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestMethodsThatTheDeviceRefuses(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	in := r.pairSender(s, methodsAddress(key), "")
	out, err := s.NewReceiver(r.ctx(), methodsAddress(key), &amqp.ReceiverOptions{Credit: 5, MaxMessageSize: 2000, RequestedSenderSettleMode: amqp.SenderSettleModeUnsettled.Ptr()})
	r.must(err)
	for _, refuse := range []func(*amqp.Message) error{
		func(m *amqp.Message) error { return out.RejectMessage(r.ctx(), m, nil) },
		func(m *amqp.Message) error { return out.ReleaseMessage(r.ctx(), m) },
	} {
		call := r.invoke(key, hub.MethodCall{Name: "m"})
		r.must(refuse(r.receive(out)))
		call.fails(hub.CodeBadGateway)
	}
	// A request that the link cannot take fails alone.
	r.invoke(key, hub.MethodCall{Name: "m", Payload: []byte(`"` + strings.Repeat("x", 3000) + `"`)}).fails(hub.CodeMessageTooLarge)
	call := r.invoke(key, hub.MethodCall{Name: "m"})
	m := r.receive(out)
	r.must(out.AcceptMessage(r.ctx(), m))
	r.must((&duplex{r, in, out}).respond(m, m.Properties.CorrelationID, int32(200)))
	if _, err := call.wait(); err != nil {
		t.Error(err)
	}
}

func TestMethodResponsesThatCannotBeRead(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	d := r.duplex(r.asDevice(key), methodsAddress(key), "")
	status := map[string]any{methodStatus: int32(200)}
	for name, c := range map[string]struct {
		response amqp.Message
		rejected bool
	}{
		"no status":                  {amqp.Message{Data: [][]byte{[]byte("1")}}, true},
		"status of text":             {amqp.Message{ApplicationProperties: map[string]any{methodStatus: "200"}}, true},
		"status too large":           {amqp.Message{ApplicationProperties: map[string]any{methodStatus: int64(1) << 40}}, true},
		"body of a number":           {amqp.Message{ApplicationProperties: status, Value: int32(1)}, true},
		"body that is no JSON":       {amqp.Message{ApplicationProperties: status, Data: [][]byte{[]byte("{")}}, false}, // the hub's rule: the delivery itself is fine
		"body of 128 KiB and a byte": {amqp.Message{ApplicationProperties: status, Data: [][]byte{[]byte(`"` + strings.Repeat("x", 128<<10-1) + `"`)}}, false},
	} {
		call := r.invoke(key, hub.MethodCall{Name: "m"})
		c.response.Properties = &amqp.MessageProperties{CorrelationID: r.receive(d.out).Properties.CorrelationID}
		err := d.in.Send(r.ctx(), &c.response, nil)
		if !c.rejected {
			r.must(err)
		} else if _, mismatch := refused(err, amqp.ErrCond(condArgument)); mismatch != nil {
			t.Errorf("%s: %v", name, mismatch)
		}
		t.Run(name, func(t *testing.T) { call.fails(hub.CodeBadGateway) })
	}
	for _, id := range []any{nil, "", "x", uint64(1), []byte("0123456789abcdef"), "00112233-4455-6677-8899-aabbccddeefg", "00112233445566778899aabbccddeeff0000"} {
		err := d.in.Send(r.ctx(), &amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: id}, ApplicationProperties: status}, nil)
		r.wantRefusal(err, amqp.ErrCond(condArgument))
	}
	// Nobody called for these.
	for _, id := range []any{amqp.UUID{}, amqp.UUID(newMethodIDs().uuid(1)), "00112233-4455-4677-8899-aabbccddeeff"} {
		r.must(d.in.Send(r.ctx(), &amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: id}, ApplicationProperties: status}, nil))
	}
}

// One device cannot answer for another on the same connection, though it may have seen the correlation-id.
func TestMethodResponsesOfAnotherAreIgnored(t *testing.T) {
	r := newThree(t)
	var pairs []*duplex
	for _, key := range r.keys {
		pairs = append(pairs, r.duplex(r.session(r.conn), methodsAddress(key), "methods:"+key.DeviceID))
	}
	call := r.invoke(r.keys[0], hub.MethodCall{Name: "m"})
	m := r.receive(pairs[0].out)
	r.must(pairs[1].respond(m, m.Properties.CorrelationID, int32(666)))
	r.must(pairs[0].respond(m, m.Properties.CorrelationID, int32(200)))
	if got, err := call.wait(); err != nil || got.Status != 200 {
		t.Errorf("%d, %v", got.Status, err)
	}
	// A device that goes while it is called ends its own calls.
	gone, stays := r.invoke(r.keys[1], hub.MethodCall{Name: "m"}), r.invoke(r.keys[2], hub.MethodCall{Name: "m"})
	r.receive(pairs[1].out)
	m = r.receive(pairs[2].out)
	r.hub.Disconnect("d1")
	gone.fails(hub.CodeConnectionClosed)
	r.must(pairs[2].respond(m, m.Properties.CorrelationID, int32(200)))
	if _, err := stays.wait(); err != nil {
		t.Error(err)
	}
}

// The newest whole pair gets the requests; when it goes, the one before goes on.
func TestMethodsGoToTheNewestPair(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	older, newer := r.duplex(s, methodsAddress(key), "methods:1"), r.duplex(s, methodsAddress(key), "methods:2")
	half := r.pairReceiver(s, methodsAddress(key), "methods:3", 5)
	for _, d := range []*duplex{newer, older} {
		call := r.invoke(key, hub.MethodCall{Name: "m"})
		m := r.receive(d.out)
		r.must(d.respond(m, m.Properties.CorrelationID, int32(200)))
		if _, err := call.wait(); err != nil {
			t.Error(err)
		}
		r.must(newer.out.Close(r.ctx()))
	}
	if m := half.Prefetched(); m != nil {
		t.Error("a pair without sender was asked")
	}
}

// A link that comes in the place of one that is still there pushes it out.
func TestNewerLinkOfAPairPushesOutTheOlder(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	d := r.duplex(s, methodsAddress(key), "methods:1")
	newer := r.pairReceiver(s, methodsAddress(key), "methods:1", 5)
	_, err := d.out.Receive(r.ctx(), nil)
	r.wantRefusal(err, amqp.ErrCondStolen)
	d.out = newer
	call := r.invoke(key, hub.MethodCall{Name: "m"})
	m := r.receive(d.out)
	r.must(d.respond(m, m.Properties.CorrelationID, int32(200)))
	if _, err := call.wait(); err != nil {
		t.Error(err)
	}
}

// Node takes a correlation-id for a uuid only when version and variant say so.
var nodesUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestMethodIDsAreUUIDsOfTheirSession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := newMethodIDs(), newMethodIDs()
		id := rapid.Uint64Range(0, 1<<56-1).Draw(t, "id")
		u := a.uuid(id)
		if !nodesUUID.MatchString(u.String()) {
			t.Errorf("%s is no uuid for Node", u)
		}
		if back, ours := a.id(u); !ours || back != id {
			t.Errorf("%d comes back as %d, %v", id, back, ours)
		}
		if _, ours := b.id(u); ours {
			t.Error("taken for another session's")
		}
		if back, ok := parseUUID(u.String()); !ok || back != u {
			t.Errorf("%s is read as %s", u, back)
		}
	})
}

// FuzzPairs: whatever comes on a pair's links is refused or understood, within the types that the hub wants, and the response to it
// carries the request's correlation-id unchanged.
func FuzzPairs(f *testing.F) {
	for _, m := range []*amqp10.Message{
		{Properties: &amqp10.Properties{CorrelationID: uuid}, ApplicationProperties: amqp10.Map{{Key: methodStatus, Value: int32(200)}}, Body: amqp10.BodyData, Data: [][]byte{[]byte("{}")}},
		{Properties: &amqp10.Properties{CorrelationID: "Get1"}, MessageAnnotations: amqp10.Map{{Key: amqp10.Symbol("operation"), Value: "GET"}}},
		{Properties: &amqp10.Properties{CorrelationID: uint64(1)}, Body: amqp10.BodyData, Data: [][]byte{[]byte("{}")}, MessageAnnotations: amqp10.Map{
			{Key: amqp10.Symbol("operation"), Value: "PATCH"}, {Key: amqp10.Symbol("resource"), Value: resourceReported}, {Key: amqp10.Symbol("version"), Value: int32(1)}}},
	} {
		f.Add(encoded(f, m))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var m amqp10.Message
		if m.Decode(payload, messageLimits) != nil {
			return
		}
		r, problem := twinRequestOf(&m)
		if _, known := twinResources[r.operation]; problem == "" && (!known || r.base < 0 || r.operation != "PATCH" && r.body != nil) {
			t.Errorf("%+v", r)
		}
		if status, _, err := methodResponseOf(&m); err == nil && int(int32(status)) != status {
			t.Errorf("status %d", status)
		}
		id := correlation(&m)
		response := twinResponse(200, nil)
		response.Properties = &amqp10.Properties{CorrelationID: id}
		var back amqp10.Message
		if err := back.Decode(encoded(t, response), messageLimits); err != nil || !cmp.Equal(back.Properties.CorrelationID, id) {
			t.Errorf("correlation-id %v comes back as %v, %v", id, back.Properties.CorrelationID, err)
		}
		if text, isText := id.(string); isText {
			if u, ok := parseUUID(text); ok && !strings.EqualFold(u.String(), text) {
				t.Errorf("%q is read as %s", text, u)
			}
		}
	})
}
