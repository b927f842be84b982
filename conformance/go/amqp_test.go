package conformance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

// eachAMQPDoor runs a test through every door that carries AMQP.
func eachAMQPDoor(t *testing.T, f func(t *testing.T, d door.Door)) {
	for _, d := range []door.Door{door.AMQP, door.AMQPWS, door.PlainAMQP} {
		t.Run(d.String(), func(t *testing.T) { f(t, d) })
	}
}

func dialAMQP(t *testing.T, d door.Door) *amqp.Conn {
	t.Helper()
	conn, err := running.backend.DialAMQP(deadline(t), d)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func newSession(t *testing.T, conn *amqp.Conn) *amqp.Session {
	t.Helper()
	session, err := conn.NewSession(deadline(t), nil)
	must(t, err)
	return session
}

func eventsAddress(d backend.Device) string { return "/devices/" + d.DeviceID + "/messages/events" }

func TestAMQPManyDevicesShareOneConnectionAndFailAlone(t *testing.T) {
	eachAMQPDoor(t, func(t *testing.T, door door.Door) {
		conn := dialAMQP(t, door)
		const n = 25
		devices, senders := make([]backend.Device, n), make([]*amqp.Sender, n)
		for i := range n {
			devices[i] = newDevice(t)
			must(t, backend.PutToken(deadline(t), conn, deviceToken(t, devices[i])))
			var err error
			senders[i], err = newSession(t, conn).NewSender(deadline(t), eventsAddress(devices[i]), nil)
			must(t, err)
		}
		stranger := newDevice(t)
		forged, err := running.backend.DeviceToken(stranger.DeviceID, devices[0].Authentication.SymmetricKey.PrimaryKey)
		must(t, err)
		if err := backend.PutToken(deadline(t), conn, forged); err == nil {
			t.Error("a token signed with another device's key was accepted")
		}
		if s, err := newSession(t, conn).NewSender(deadline(t), eventsAddress(stranger), nil); err == nil {
			if err := s.Send(deadline(t), amqp.NewMessage([]byte("x")), nil); err == nil {
				t.Error("a device without a token of its own sent telemetry")
			}
		}
		must(t, running.backend.DeleteDevice(deadline(t), devices[0].DeviceID))
		var linkError *amqp.LinkError
		if err := senders[0].Send(deadline(t), amqp.NewMessage([]byte("x")), nil); !errors.As(err, &linkError) {
			t.Errorf("send of a deleted device: %v, want a link error", err)
		}
		for i := 1; i < n; i++ {
			must(t, senders[i].Send(deadline(t), amqp.NewMessage(fmt.Appendf(nil, "%d", i)), nil))
		}
	})
}

func TestAMQPDeviceSettlesCloudToDeviceMessages(t *testing.T) {
	eachAMQPDoor(t, func(t *testing.T, door door.Door) {
		d := newDevice(t)
		for i := range 3 {
			m := amqp.NewMessage(fmt.Appendf(nil, "%d", i))
			m.Properties = &amqp.MessageProperties{MessageID: fmt.Sprintf("m%d", i)}
			m.ApplicationProperties = map[string]any{"colour": "red"}
			must(t, running.backend.SendC2D(deadline(t), d.DeviceID, m))
		}
		conn := dialAMQP(t, door)
		must(t, backend.PutToken(deadline(t), conn, deviceToken(t, d)))
		second := amqp.ReceiverSettleModeSecond
		r, err := newSession(t, conn).NewReceiver(deadline(t), "/devices/"+d.DeviceID+"/messages/deviceBound", &amqp.ReceiverOptions{SettlementMode: &second})
		must(t, err)
		first := receiveC2D(t, r)
		if diff := cmp.Diff([]any{"0", "m0", "red", 16}, []any{string(first.GetData()), first.Properties.MessageID, first.ApplicationProperties["colour"], len(first.DeliveryTag)}); diff != "" {
			t.Error(diff)
		}
		must(t, r.ReleaseMessage(deadline(t), first))
		seen := map[string]int{}
		for len(seen) < 3 {
			m := receiveC2D(t, r)
			seen[string(m.GetData())]++
			must(t, r.AcceptMessage(deadline(t), m))
		}
		if diff := cmp.Diff(map[string]int{"0": 1, "1": 1, "2": 1}, seen); diff != "" {
			t.Error(diff)
		}
		shown, _, err := running.backend.Device(deadline(t), d.DeviceID)
		must(t, err)
		if shown.Queued != 0 {
			t.Errorf("%d messages are still queued", shown.Queued)
		}
	})
}

func receiveC2D(t *testing.T, r *amqp.Receiver) *amqp.Message {
	t.Helper()
	m, err := r.Receive(deadline(t), nil)
	must(t, err)
	return m
}

func TestAMQPServiceIsToldWhyAMessageIsRefused(t *testing.T) {
	d := newDevice(t)
	for name, c := range map[string]struct {
		device string
		size   int
		want   amqp.ErrCond
	}{
		"unknown device": {"nobody-knows-me", 1, amqp.ErrCondNotFound},
		"too large":      {d.DeviceID, 65*1024 + 1, amqp.ErrCondMessageSizeExceeded},
	} {
		err := running.backend.SendC2D(deadline(t), c.device, amqp.NewMessage(make([]byte, c.size)))
		if got := condition(err); got != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	for range 50 {
		must(t, running.backend.SendC2D(deadline(t), d.DeviceID, amqp.NewMessage([]byte("x"))))
	}
	if err := running.backend.SendC2D(deadline(t), d.DeviceID, amqp.NewMessage([]byte("51st"))); condition(err) != amqp.ErrCondResourceLimitExceeded {
		t.Errorf("51st message: %v, want %s", err, amqp.ErrCondResourceLimitExceeded)
	}
}

// condition returns the AMQP error condition in err.
func condition(err error) amqp.ErrCond {
	var e *amqp.Error
	if errors.As(err, &e) {
		return e.Condition
	}
	return ""
}

func TestAMQPTokenExpiresOnTheHubsClock(t *testing.T) {
	d, other := newDevice(t), newDevice(t)
	conn := dialAMQP(t, door.AMQP)
	short, err := auth.NewToken(address+"/devices/"+d.DeviceID, d.Authentication.SymmetricKey.PrimaryKey, "", time.Now().Add(10*time.Minute))
	must(t, err)
	long, err := auth.NewToken(address+"/devices/"+other.DeviceID, other.Authentication.SymmetricKey.PrimaryKey, "", time.Now().Add(24*time.Hour))
	must(t, err)
	must(t, backend.PutToken(deadline(t), conn, short))
	must(t, backend.PutToken(deadline(t), conn, long))
	session := newSession(t, conn)
	expiring, err := session.NewSender(deadline(t), eventsAddress(d), nil)
	must(t, err)
	staying, err := session.NewSender(deadline(t), eventsAddress(other), nil)
	must(t, err)
	if _, err := running.control.Advance(deadline(t), 30*time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, running.control.Reset(context.Background())) })
	var linkError *amqp.LinkError
	if err := expiring.Send(deadline(t), amqp.NewMessage([]byte("x")), nil); !errors.As(err, &linkError) || linkError.RemoteErr == nil || linkError.RemoteErr.Condition != amqp.ErrCondUnauthorizedAccess {
		t.Errorf("send after the token's end: %v, want %s", err, amqp.ErrCondUnauthorizedAccess)
	}
	must(t, staying.Send(deadline(t), amqp.NewMessage([]byte("x")), nil))
}

func TestAMQPRedirectsEventReadersOfTheHub(t *testing.T) {
	conn := dialAMQP(t, door.AMQP)
	token, err := running.backend.Token()
	must(t, err)
	must(t, backend.PutToken(deadline(t), conn, token))
	r, err := newSession(t, conn).NewReceiver(deadline(t), "messages/events/", nil)
	if err == nil {
		_, err = r.Receive(deadline(t), nil)
	}
	var e *amqp.Error
	var linkError *amqp.LinkError
	if errors.As(err, &linkError) {
		e = linkError.RemoteErr
	} else {
		errors.As(err, &e)
	}
	if e == nil || e.Condition != "amqp:link:redirect" {
		t.Fatalf("%v, want amqp:link:redirect", err)
	}
	if e.Info["hostname"] != address || e.Info["address"] != "amqps://"+address+":5671/iolite/" {
		t.Errorf("redirect to %v", e.Info)
	}
}
