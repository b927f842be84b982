package amqpsrv

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/store"
)

// three is one connection with three devices, each with a session and a telemetry link of its own.
type three struct {
	*rig
	conn    *amqp.Conn
	keys    []store.Key
	senders []*amqp.Sender
}

func newThree(t *testing.T) *three {
	r := &three{rig: newRig(t, rigOptions{})}
	r.conn = r.connect(amqp.SASLTypeAnonymous())
	for i := range 3 {
		key := r.device(fmt.Sprint("d", i))
		if status, text := r.put(r.conn, r.deviceToken(key, time.Hour)); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		r.keys = append(r.keys, key)
		r.senders = append(r.senders, r.sender(r.session(r.conn), "/devices/"+key.DeviceID+"/messages/events"))
	}
	return r
}

// onlyOneFails checks that the link of device i is detached with the condition, and that the others work.
func (r *three) onlyOneFails(i int, want amqp.ErrCond) {
	r.t.Helper()
	var err error
	r.until("the link is detached", func() bool {
		err = r.telemetry(r.senders[i], "x")
		return err != nil
	})
	r.wantRefusal(err, want)
	for j, s := range r.senders {
		if j == i {
			continue
		}
		if err := r.telemetry(s, "still here"); err != nil {
			r.t.Errorf("device %d: %v", j, err)
		}
	}
}

// returns checks that a device that lost its links can come back on the same connection.
func (r *three) returns(i int) {
	r.t.Helper()
	if status, text := r.put(r.conn, r.deviceToken(r.keys[i], time.Hour)); status != 200 {
		r.t.Fatalf("%d %s", status, text)
	}
	r.senders[i] = r.sender(r.session(r.conn), "/devices/"+r.keys[i].DeviceID+"/messages/events")
	r.must(r.telemetry(r.senders[i], "back"))
}

func TestDevicesFailAlone(t *testing.T) {
	t.Run("deleted", func(t *testing.T) {
		r := newThree(t)
		r.must(r.hub.Admin().DeleteIdentity(r.ctx(), r.keys[1], "*"))
		r.onlyOneFails(1, amqp.ErrCondNotFound)
	})
	t.Run("disabled", func(t *testing.T) {
		r := newThree(t)
		d, err := r.hub.Admin().Identity(r.ctx(), r.keys[1])
		r.must(err)
		d.Status = store.Disabled
		_, err = r.hub.Admin().UpdateIdentity(r.ctx(), d.Identity, "*")
		r.must(err)
		r.onlyOneFails(1, amqp.ErrCondUnauthorizedAccess)
	})
	t.Run("replaced", func(t *testing.T) {
		r := newThree(t)
		newer := r.sender(r.asDevice(r.keys[1]), "/devices/d1/messages/events")
		r.onlyOneFails(1, amqp.ErrCondStolen)
		r.must(r.telemetry(newer, "I am d1 now"))
		r.returns(1)
	})
	t.Run("token expired", func(t *testing.T) {
		r := newThree(t)
		// The others renew; a renewed token replaces the old one's end.
		r.clock.Advance(50 * time.Minute)
		for _, i := range []int{0, 2} {
			if status, text := r.put(r.conn, r.deviceToken(r.keys[i], time.Hour)); status != 200 {
				t.Fatalf("%d %s", status, text)
			}
		}
		r.clock.Advance(20 * time.Minute)
		r.onlyOneFails(1, amqp.ErrCondUnauthorizedAccess)
		r.returns(1)
	})
	t.Run("disconnected by the hub's owner", func(t *testing.T) {
		r := newThree(t)
		if n := r.hub.Disconnect("d1"); n != 1 {
			t.Errorf("%d sessions of d1", n)
		}
		r.onlyOneFails(1, amqp.ErrCondDetachForced)
		r.returns(1)
	})
	t.Run("reset", func(t *testing.T) {
		r := newThree(t)
		r.must(r.hub.Reset(r.ctx()))
		for i, s := range r.senders {
			var err error
			r.until("the link is detached", func() bool { err = r.telemetry(s, "x"); return err != nil })
			r.wantRefusal(err, amqp.ErrCondDetachForced)
			r.identity(r.keys[i])
			r.returns(i)
		}
	})
}

// A device is connected from its first link to its last, whatever else the connection does.
func TestConnectedWhileItHasLinks(t *testing.T) {
	r := newThree(t)
	connected := func() string {
		s := ""
		for _, c := range r.hub.Connections() {
			s += c.DeviceID + " "
		}
		return s
	}
	if got := connected(); got != "d0 d1 d2 " {
		t.Fatalf("connected: %s", got)
	}
	second := r.receiver(r.session(r.conn), "/devices/d1/messages/devicebound", 1)
	r.must(r.senders[1].Close(r.ctx()))
	r.must(r.telemetry(r.senders[0], "x"))
	if got := connected(); got != "d0 d1 d2 " {
		t.Errorf("connected: %s", got)
	}
	r.must(second.Close(r.ctx()))
	r.until("d1 has gone", func() bool { return connected() == "d0 d2 " })
	r.must(r.conn.Close())
	r.until("all have gone", func() bool { return connected() == "" })
}

// A token of a policy with DeviceConnect opens the links of any device (C#'s grouped pooling); one without does not.
func TestPolicyTokenActsForAnyDevice(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.device("d1")
	r.device("d2")
	s := r.as(r.policyToken("localhost", "device", time.Hour))
	for _, id := range []string{"d1", "d2"} {
		r.must(r.telemetry(r.sender(s, "/devices/"+id+"/messages/events"), "x"))
	}
	_, err := s.NewSender(r.ctx(), "/messages/devicebound", nil)
	r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
	_, err = r.asService().NewSender(r.ctx(), "/devices/d1/messages/events", nil)
	r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
}

// A policy's token for one device opens that device alone.
func TestScopedPolicyToken(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.device("a:b")
	r.device("d2")
	for _, resource := range []string{"localhost/devices/a:b", "localhost/devices/a%3Ab"} { // C# encodes the id, and then all
		s := r.as(r.policyToken(resource, "device", time.Hour))
		r.must(r.telemetry(r.sender(s, "/devices/a%3Ab/messages/events"), "x"))
		_, err := s.NewSender(r.ctx(), "/devices/d2/messages/events", nil)
		r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
	}
}

// Trap 11: C# gives the links of all pooled devices the same names; each session is its own world.
func TestTrap11SameLinkNames(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	c.cbsPair(0, 0)
	for i := range uint16(4) {
		key := r.device(fmt.Sprint("d", i))
		c.putOn(0, 0, uint32(i), r.deviceToken(key, time.Hour))
		c.begin(i + 1)
		c.attachSender(i+1, "TelemetrySenderLink", 0, "/devices/"+key.DeviceID+"/messages/events")
	}
	for i := range uint16(4) {
		c.transfer(i+1, 0, 0, 0, encoded(t, text(fmt.Sprint("d", i))))
		if code, _ := state(c.disposition(0).field(4)); code != stateAccepted {
			t.Errorf("device %d: 0x%x", i, code)
		}
	}
	r.must(r.hub.Admin().DeleteIdentity(r.ctx(), store.Key{DeviceID: "d2"}, "*"))
	if f := c.expect(performDetach); f.channel != c.ours[3] || f.field(1) != true {
		t.Errorf("detach on channel %d: %v", f.channel, f.fields)
	}
	c.transfer(4, 0, 1, 0, encoded(t, text("d3")))
	c.disposition(1)
	for _, e := range r.events() {
		if e.DeviceID != string(e.Body) {
			t.Errorf("%s sent as %s", e.Body, e.DeviceID)
		}
	}
}

// An identity's links go with its session: Java unregisters a device by ending it.
func TestEndedSessionReleasesLinks(t *testing.T) {
	r := newThree(t)
	s := r.session(r.conn)
	r.must(r.senders[1].Close(r.ctx()))
	r.sender(s, "/devices/d1/messages/events")
	r.must(s.Close(r.ctx()))
	r.until("d1 has gone", func() bool { return len(r.hub.Connections()) == 2 })
	r.must(r.telemetry(r.senders[0], "x"))
	r.returns(1)
}

// Hundreds of devices fit on one connection.
func TestManyDevices(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	c.cbsPair(0, 0)
	const n = 500
	for i := range uint16(n) {
		key := r.device(fmt.Sprint("d", i))
		c.putOn(0, 0, uint32(i), r.deviceToken(key, time.Hour))
		c.begin(i + 1)
		c.attachSender(i+1, "TelemetrySenderLink", 0, "/devices/"+key.DeviceID+"/messages/events")
		c.attachReceiver(i+1, "TelemetryReceiverLink", 1, "/devices/"+key.DeviceID+"/messages/deviceBound", 2, 1, 50)
		if i%100 == 0 { // keep the session's window open
			c.send(0, performFlow, nil, uint32(i+1), uint32(5000), uint32(i+1), uint32(5000), uint32(1), uint32(0), uint32(1000))
		}
	}
	if got := len(r.hub.Connections()); got != n {
		t.Errorf("%d connected", got)
	}
	r.c2d("d7", "hello", nil)
	if f := c.message(); f.channel != c.ours[8] {
		t.Errorf("delivered on channel %d", f.channel)
	}
	_ = c.conn.Close()
	r.until("all have gone", func() bool { return len(r.hub.Connections()) == 0 })
}

// When the server closes, every connection hears amqp:connection:forced and nothing is left running (goleak).
func TestServerClose(t *testing.T) {
	r := newThree(t)
	silent := r.dial() // has not even said what it speaks
	defer func() { _ = silent.Close() }()
	reading := r.receiver(r.asService(), "iolite/ConsumerGroups/$Default/Partitions/0", 10)
	r.server.Close()
	_, err := reading.Receive(context.Background(), nil)
	r.wantRefusal(err, amqp.ErrCond(amqp10.CondConnectionForced))
	if len(r.hub.Connections()) != 0 {
		t.Errorf("still connected: %v", r.hub.Connections())
	}
	late := r.dial()
	defer func() { _ = late.Close() }()
	if _, err := amqp.NewConn(r.ctx(), late, nil); err == nil {
		t.Error("a closed server lets in")
	}
}
