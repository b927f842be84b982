package amqpsrv

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

func TestTwinIsReadReportedAndToldOfDesiredProperties(t *testing.T) {
	eachIdentity(t, func(t *testing.T, r *rig, key store.Key) {
		d := r.duplex(r.asDevice(key), twinAddress(key), "twin:1")
		m := d.asked(200, "GET", "", " ") // Node and C send a space
		if diff := cmp.Diff([][]byte{[]byte(`{"desired":{"$version":1},"reported":{"$version":1}}`)}, m.Data); diff != "" {
			t.Error(diff)
		}
		m = d.asked(204, "PATCH", "/properties/reported", `{"a":{"b":1},"gone":null}`)
		if version, ok := m.Annotations["version"].(int64); !ok || version != 2 || m.Data != nil {
			t.Errorf("PATCH: version %v (%T), body %q", m.Annotations["version"], m.Annotations["version"], m.Data)
		}
		r.desire(key, `{"early":true}`) // nobody has asked for it
		if m = d.asked(200, "PUT", "/notifications/twin/properties/desired", ""); m.Data != nil {
			t.Errorf("PUT: body %q", m.Data)
		}
		for i := range 3 {
			r.desire(key, fmt.Sprintf(`{"i":%d,"early":null}`, i))
		}
		for i := range 3 {
			m := r.receive(d.out)
			if m.Properties != nil && m.Properties.CorrelationID != nil {
				t.Errorf("a notification with the correlation-id %v", m.Properties.CorrelationID)
			}
			want := amqp.Annotations{"resource": "/properties/desired", "version": int64(3 + i)}
			if diff := cmp.Diff(want, m.Annotations); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([][]byte{fmt.Appendf(nil, `{"early":null,"i":%d,"$version":%d}`, i, 3+i)}, m.Data); diff != "" {
				t.Error(diff)
			}
		}
		if m = d.asked(200, "DELETE", "/notifications/twin/properties/desired", " "); m.Data != nil {
			t.Errorf("DELETE: body %q", m.Data)
		}
		r.desire(key, `{"late":true}`)
		m = d.asked(200, "GET", "", "") // the next message is the response and no notification
		want := `{"desired":{"i":2,"late":true,"$version":6},"reported":{"a":{"b":1},"$version":2}}`
		if got := string(m.GetData()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// Trap 7: the correlation-id comes back in the type that it was sent in.
func TestTrap7CorrelationIDKeepsItsType(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	d := r.duplex(r.asDevice(key), twinAddress(key), "")
	for _, id := range []any{"Get123", amqp.UUID{1, 2, 3}, uint64(7), []byte{0, 1}} {
		d.must(d.in.Send(d.ctx(), twinRequestMessage(id, "get", "", ""), nil))
		if diff := cmp.Diff(id, r.receive(d.out).Properties.CorrelationID); diff != "" {
			t.Errorf("%T: %s", id, diff)
		}
	}
}

// Java reads the keys and values in these types, C refuses others.
func TestTwinMessagesAsTheyAreOnTheWire(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, key)
	c.attachSender(0, "TwinSenderLink", 2, "/devices/d1/twin")
	attach := c.attachReceiver(0, "TwinReceiverLink", 3, "/devices/d1/twin", 1, 0, 10)
	if attach.field(3) != uint8(1) || attach.field(4) != uint8(0) {
		t.Errorf("settle modes %v and %v were not echoed", attach.field(3), attach.field(4))
	}
	id := uint32(1)
	for operation, want := range map[string]amqp10.Map{
		"GET":   {{Key: amqp10.Symbol("status"), Value: int32(200)}},
		"PATCH": {{Key: amqp10.Symbol("status"), Value: int32(204)}, {Key: amqp10.Symbol("version"), Value: int64(2)}},
	} {
		m := text("{}")
		m.Properties = &amqp10.Properties{CorrelationID: uuid}
		m.MessageAnnotations = amqp10.Map{{Key: amqp10.Symbol("operation"), Value: operation}, {Key: amqp10.Symbol("version"), Value: nil}}
		if operation == "PATCH" {
			m.MessageAnnotations = append(m.MessageAnnotations, amqp10.Entry{Key: amqp10.Symbol("resource"), Value: "/properties/reported"})
		}
		c.transfer(0, 2, id, 0, encoded(t, m))
		f := c.message()
		if tag, _ := f.field(2).([]byte); len(tag) != 16 || f.field(4) != true {
			t.Errorf("%s: tag %x, settled %v", operation, tag, f.field(4))
		}
		response := c.decode(f)
		if diff := cmp.Diff(want, response.MessageAnnotations); diff != "" {
			t.Errorf("%s: %s", operation, diff)
		}
		if response.Properties.CorrelationID != uuid {
			t.Errorf("%s: correlation-id %v", operation, response.Properties.CorrelationID)
		}
		if code, _ := state(c.disposition(id).field(4)); code != stateAccepted { // after the response: Java waits for it
			t.Errorf("%s: settled with 0x%x", operation, code)
		}
		id++
	}
}

// Java asks for unsettled deliveries and settles each; what it has not settled does not hold up the next.
func TestTwinSettlesAsTheClientAsks(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	for _, second := range []bool{false, true} {
		in := r.pairSender(s, twinAddress(key), "")
		mode := amqp.ReceiverSettleModeFirst
		if second {
			mode = amqp.ReceiverSettleModeSecond // waits for our word
		}
		out, err := s.NewReceiver(r.ctx(), twinAddress(key), &amqp.ReceiverOptions{Credit: 2, SettlementMode: &mode, RequestedSenderSettleMode: amqp.SenderSettleModeUnsettled.Ptr()})
		r.must(err)
		for range 5 {
			r.must(in.Send(r.ctx(), twinRequestMessage("x", "GET", "", ""), nil))
			r.must(out.AcceptMessage(r.ctx(), r.receive(out)))
		}
		r.must(in.Close(r.ctx()))
		r.must(out.Close(r.ctx()))
	}
}

// A request can come before there is a link for its response: Node attaches the sender first.
func TestTwinResponsesWaitForTheReceiver(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	in := r.pairSender(s, twinAddress(key), "twin:1")
	for i := range 5 {
		r.must(in.Send(r.ctx(), twinRequestMessage(fmt.Sprint(i), "GET", "", ""), nil))
	}
	out := r.pairReceiver(s, twinAddress(key), "twin:1", -1) // and then for credit
	for i := range 5 {
		r.must(out.IssueCredit(1))
		if id := r.receive(out).Properties.CorrelationID; id != fmt.Sprint(i) {
			t.Errorf("response to %v, want %d", id, i)
		}
	}
	r.must(out.IssueCredit(3))
	r.must(out.DrainCredit(r.ctx(), nil))
}

func TestTwinRequestsThatAreRefused(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	d := r.duplex(r.asDevice(key), twinAddress(key), "")
	const reported, notify = "/properties/reported", "/notifications/twin/properties/desired"
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	for _, c := range [][3]string{
		{"", "", ""}, {"POST", reported, "{}"}, {"GET", "/properties/desired", ""}, {"PATCH", "", "{}"}, {"PATCH", "/properties/desired", "{}"},
		{"PUT", reported, "{}"}, {"DELETE", "/", ""},
		{"PATCH", reported, "{"}, {"PATCH", reported, "[]"}, {"PATCH", reported, "null"}, {"PATCH", reported, " "}, {"PATCH", reported, ""},
		{"PATCH", reported, `{"$a":1}`}, {"PATCH", reported, deep}, {"PATCH", reported, `{"a":"` + strings.Repeat("x", 33<<10) + `"}`},
	} {
		d.refusedWith(hub.CodeArgumentInvalid, c[0], c[1], c[2])
	}
	for name, m := range map[string]amqp.Annotations{
		"operation":        {"operation": int32(1)},
		"resource":         {"operation": "GET", "resource": true},
		"version":          {"operation": "PATCH", "resource": reported, "version": "one"},
		"version below 0":  {"operation": "PATCH", "resource": reported, "version": int32(-1)},
		"version too high": {"operation": "PATCH", "resource": reported, "version": uint64(1 << 63)},
	} {
		r.must(d.in.Send(r.ctx(), &amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: name}, Annotations: m, Data: [][]byte{[]byte("{}")}}, nil))
		if m := r.receive(d.out); m.Annotations["status"] != int32(400) {
			t.Errorf("%s: %v", name, m.Annotations)
		}
	}
	m := twinRequestMessage("stale", "PATCH", reported, "{}")
	m.Annotations["version"] = int32(9) // Java's type
	r.must(d.in.Send(r.ctx(), m, nil))
	if got := r.receive(d.out); got.Annotations["status"] != int32(412) {
		t.Errorf("a stale version: %v %s", got.Annotations, got.GetData())
	}
	m.Annotations["version"] = int32(1)
	r.must(d.in.Send(r.ctx(), m, nil))
	if got := r.receive(d.out); got.Annotations["status"] != int32(204) {
		t.Errorf("the right version: %v %s", got.Annotations, got.GetData())
	}
}

// A response without correlation-id would be taken for a notification, so such a request is rejected and not carried out.
func TestTwinRequestsWithoutCorrelationAreRejected(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	d := r.duplex(r.asDevice(key), twinAddress(key), "")
	for _, id := range []any{nil, "", []byte{}} {
		err := d.in.Send(r.ctx(), twinRequestMessage(id, "PATCH", "/properties/reported", `{"a":1}`), nil)
		r.wantRefusal(err, amqp.ErrCond(condArgument))
	}
	r.wantRefusal(d.in.Send(r.ctx(), &amqp.Message{Format: 0x80013700, Data: [][]byte{{}}}, nil), amqp.ErrCondNotImplemented)
	if got := string(d.asked(200, "GET", "", "").GetData()); strings.Contains(got, `"a"`) {
		t.Errorf("it was carried out: %s", got)
	}
}

// Two pairs of one identity on one session are told apart by their channel; each has the responses to its own requests, and the
// notifications that it asked for.
func TestTwinPairsKeepApart(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	a := r.duplex(s, twinAddress(key), "twin:a")
	b := r.duplex(s, twinAddress(key), "twin:b")
	c := r.duplex(s, twinAddress(key), "")
	for _, d := range []*duplex{c, a, b} {
		d.asked(200, "GET", "", "")
	}
	for _, d := range []*duplex{a, b} {
		d.asked(200, "PUT", resourceNotify, "")
	}
	r.desire(key, `{"x":1}`)
	for _, d := range []*duplex{a, b} {
		if m := r.receive(d.out); m.Annotations["version"] != int64(2) {
			t.Errorf("%v", m.Annotations)
		}
	}
	a.asked(200, "DELETE", resourceNotify, "")
	r.desire(key, `{"x":2}`)
	if m := r.receive(b.out); m.Annotations["version"] != int64(3) {
		t.Errorf("%v", m.Annotations)
	}
	for _, d := range []*duplex{a, b, c} {
		d.asked(200, "GET", "", "") // and not a notification
	}
}

// A pair whose links are in two sessions belongs together by its channel.
func TestTwinPairOverTwoSessions(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	c := r.connect(nil)
	r.put(c, r.deviceToken(key, time.Hour))
	in, out := r.pairSender(r.session(c), twinAddress(key), "twin:1"), r.pairReceiver(r.session(c), twinAddress(key), "twin:1", 5)
	(&duplex{r, in, out}).asked(200, "GET", "", "")
}

// Notifications end with either link of the pair, and begin again only with another PUT.
func TestTwinNotificationsEndWithTheLinks(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	events := r.sender(s, "/devices/d1/messages/events") // the device stays connected
	d := r.duplex(s, twinAddress(key), "twin:1")
	for _, receiver := range []bool{true, false} {
		d.asked(200, "PUT", resourceNotify, "")
		if receiver {
			r.must(d.out.Close(r.ctx()))
			d.out = r.pairReceiver(s, twinAddress(key), "twin:1", 10)
		} else {
			r.must(d.in.Close(r.ctx()))
			d.in = r.pairSender(s, twinAddress(key), "twin:1")
		}
		r.desire(key, `{"x":1}`)
		d.asked(200, "GET", "", "")
	}
	r.must(r.telemetry(events, "x"))
}

// A peer that never grants credit loses its twin links when too much waits, and nothing else.
func TestTwinOfAPeerThatGrantsNoCreditIsBounded(t *testing.T) {
	for name, attach := range map[string]bool{"no credit": true, "no receiver": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			key := r.device("d1")
			s := r.asDevice(key)
			events := r.sender(s, "/devices/d1/messages/events")
			in := r.pairSender(s, twinAddress(key), "")
			if attach {
				r.pairReceiver(s, twinAddress(key), "", -1)
			}
			r.desire(key, `{"a":"`+strings.Repeat("x", 4000)+`","b":"`+strings.Repeat("x", 4000)+`"}`)
			var err error
			n := 0
			for ; err == nil && n < 2*maxParcels; n++ {
				err = in.Send(r.ctx(), twinRequestMessage("x", "GET", "", ""), nil)
			}
			r.wantRefusal(err, amqp.ErrCondResourceLimitExceeded)
			if kept := n * 8000; kept > maxOutlet+1<<19 {
				t.Errorf("%d responses were kept", n)
			}
			r.must(r.telemetry(events, "x"))
			d := r.duplex(s, twinAddress(key), "")
			d.asked(200, "GET", "", "")
			if kept := r.outlets(); kept != 0 {
				t.Errorf("%d bytes are still accounted for", kept)
			}
		})
	}
}

// outlets is what the outlets of all connections hold, in bytes.
func (r *rig) outlets() (n int64) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for p := range r.server.peers {
		n += p.outlets.Load()
	}
	return n
}

// One connection's pairs share what may wait, so that a thousand of them cost no more than sixteen.
func TestTwinsOfOneConnectionShareABudget(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.as(r.policyToken("localhost", "device", time.Hour))
	refused := 0
	for i := range 20 {
		key := r.device(fmt.Sprint("d", i))
		r.desire(key, `{"a":"`+strings.Repeat("x", 4000)+`","b":"`+strings.Repeat("x", 4000)+`","c":"`+strings.Repeat("x", 4000)+`","d":"`+strings.Repeat("x", 4000)+`"}`)
		in := r.pairSender(s, twinAddress(key), "")
		for range 60 { // just below what one pair may keep
			if in.Send(r.ctx(), twinRequestMessage("x", "GET", "", ""), nil) != nil {
				refused++
				break
			}
		}
		if kept := r.outlets(); kept > maxOutletsPeer {
			t.Fatalf("%d bytes wait", kept)
		}
	}
	if refused == 0 {
		t.Error("twenty pairs kept all they wanted")
	}
}

// What is larger than the receiver takes ends the pair loudly: uAMQP announces 64 KiB.
func TestTwinThatTheLinkCannotTake(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asDevice(key)
	in := r.pairSender(s, twinAddress(key), "")
	out, err := s.NewReceiver(r.ctx(), twinAddress(key), &amqp.ReceiverOptions{Credit: 5, MaxMessageSize: 1000})
	r.must(err)
	r.desire(key, `{"a":"`+strings.Repeat("x", 2000)+`"}`)
	_ = in.Send(r.ctx(), twinRequestMessage("x", "GET", "", ""), nil) // it may be settled before the link is detached
	_, err = out.Receive(r.ctx(), nil)
	r.wantRefusal(err, amqp.ErrCondMessageSizeExceeded)
}

// Only the identity that ends loses its links; the others' twins go on.
func TestTwinsEndAlone(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*three)
		want amqp.ErrCond
	}{
		"deleted": {func(r *three) { r.must(r.hub.Admin().DeleteIdentity(r.ctx(), r.keys[1], "*")) }, amqp.ErrCondNotFound},
		"disabled": {func(r *three) {
			d, err := r.hub.Admin().Identity(r.ctx(), r.keys[1])
			r.must(err)
			d.Status = store.Disabled
			_, err = r.hub.Admin().UpdateIdentity(r.ctx(), d.Identity, "*")
			r.must(err)
		}, amqp.ErrCondUnauthorizedAccess},
		"token expired": {func(r *three) {
			r.clock.Advance(50 * time.Minute)
			for _, i := range []int{0, 2} {
				r.put(r.conn, r.deviceToken(r.keys[i], time.Hour))
			}
			r.clock.Advance(20 * time.Minute)
		}, amqp.ErrCondUnauthorizedAccess},
		"replaced": {func(r *three) { r.duplex(r.asDevice(r.keys[1]), twinAddress(r.keys[1]), "") }, amqp.ErrCondStolen},
	} {
		t.Run(name, func(t *testing.T) {
			r := newThree(t)
			var twins []*duplex
			for _, key := range r.keys {
				d := r.duplex(r.session(r.conn), twinAddress(key), "twin:"+key.DeviceID)
				d.asked(200, "PUT", resourceNotify, "")
				twins = append(twins, d)
			}
			c.end(r)
			_, err := twins[1].out.Receive(r.ctx(), nil)
			r.wantRefusal(err, c.want)
			r.wantRefusal(twins[1].in.Send(r.ctx(), twinRequestMessage("x", "GET", "", ""), nil), c.want)
			for _, i := range []int{0, 2} {
				r.desire(r.keys[i], `{"x":1}`)
				r.receive(twins[i].out)
				twins[i].asked(200, "GET", "", "")
			}
		})
	}
}

// A device's token opens no twin but its own.
func TestTwinOfAnotherIsRefused(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.device("d2")
	s := r.asDevice(r.device("d1"))
	for _, address := range []string{"/devices/d2/twin", "/devices/d2/methods/devicebound"} {
		_, err := s.NewSender(r.ctx(), address, nil)
		r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
		_, err = s.NewReceiver(r.ctx(), address, nil)
		r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
	}
	_, err := r.asService().NewReceiver(r.ctx(), "/devices/d2/twin", nil)
	r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
}
