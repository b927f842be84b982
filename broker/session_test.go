package broker

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/store"
)

// MQTT-3.1.2-4 to -6: subscriptions live on with CleanSession=0, and C2D comes without a new SUBSCRIBE.
func TestSubscriptionsSurviveWithCleanSession0(t *testing.T) {
	keep := func(*packets.ConnectParams) {}
	steps := []struct {
		how       func(*packets.ConnectParams)
		present   bool
		delivered bool // without SUBSCRIBE
		subscribe bool
	}{
		{keep, false, false, true},
		{keep, true, true, false},
		{keep, true, true, false},
		{cleanSession, false, false, true},
		{keep, false, false, false},
		{keep, true, false, true},
		{cleanSession, false, false, false},
		{keep, false, false, false},
	}
	r := newRig(t)
	for i, step := range steps {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			c := newClientOf(t, r)
			if ack := c.hello("d1", step.how); ack.ReasonCode != 0 || ack.SessionPresent != step.present {
				t.Fatalf("return code %d, session present %v", ack.ReasonCode, ack.SessionPresent)
			}
			r.sendC2D("x")
			if step.delivered {
				pk := c.expect(packets.Publish)
				c.puback(pk.PacketID)
			}
			c.sync()
			if step.subscribe {
				c.subscribe(1, c2dFilter)
				pk := c.expect(packets.Publish)
				c.puback(pk.PacketID)
			}
			c.disconnect()
			r.eventually("the end of the session", func() bool { return len(r.hub.Connections()) == 0 })
			if _, err := r.hub.Admin().PurgeC2D(context.Background(), "d1"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestUnsubscribeIsKeptToo(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(1, c2dFilter)
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: c2dFilter}}})
	c.expect(packets.Unsuback)
	c.disconnect()
	r.sendC2D("x")
	r.connect("d1").sync()
}

// A device that is deleted and created anew is another device: it inherits no subscription. So is every device after a reset.
func TestSessionsEndWithTheirIdentity(t *testing.T) {
	ctx := context.Background()
	for name, remove := range map[string]func(*rig) error{
		"deleted": func(r *rig) error { return r.hub.Admin().DeleteIdentity(ctx, device("d1"), "*") },
		"reset":   func(r *rig) error { return r.hub.Reset(ctx) },
	} {
		for _, connected := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " connected ", connected), func(t *testing.T) {
				r := newRig(t)
				c := r.connect("d1")
				c.subscribe(1, c2dFilter)
				if !connected {
					c.disconnect()
					r.eventually("the end of the session", func() bool { return len(r.hub.Connections()) == 0 })
				}
				if err := remove(r); err != nil {
					t.Fatal(err)
				}
				if connected {
					c.expectClosed()
					r.eventually("the session to be forgotten", func() bool { return r.keptSessions() == 0 })
				}
				r.register(store.Identity{Key: device("d1")})
				again := r.dial()
				if ack := again.hello("d1"); ack.SessionPresent {
					t.Error("session present")
				}
				r.sendC2D("x")
				again.sync()
			})
		}
	}
}

// A connection that the control API cuts is lost like any other: the session is kept.
func TestASessionOutlivesACut(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(1, c2dFilter)
	r.hub.Disconnect("d1")
	c.expectClosed()
	r.eventually("the end of the connection", func() bool { return r.connections() == 0 })
	again := newClientOf(t, r)
	if ack := again.hello("d1"); !ack.SessionPresent {
		t.Error("no session present")
	}
	r.sendC2D("x")
	again.expect(packets.Publish)
}

func (r *rig) keptSessions() int {
	r.broker.sessions.mu.Lock()
	defer r.broker.sessions.mu.Unlock()
	return len(r.broker.sessions.kept)
}

// Sessions of devices that come and go do not pile up.
func TestSessionsOfDeletedIdentitiesAreSweptUp(t *testing.T) {
	alive := map[store.Key]string{device("d1"): "1"}
	s := newSessions(func(key store.Key) (string, bool) { g, ok := alive[key]; return g, ok })
	s.keep(device("d1"), keptSession{generation: "1"})
	for i := range 100 * minSweep {
		s.keep(device(strconv.Itoa(i)), keptSession{generation: "1"})
		if len(s.kept) > minSweep {
			t.Fatalf("%d sessions are kept for one device", len(s.kept))
		}
	}
	if _, ok := s.find(device("d1"), "1"); !ok {
		t.Error("the living one was swept away")
	}
}
