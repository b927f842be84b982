package amqpsrv

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/store"
)

// Trap 5: the body is a data section. Trap 6: the tag has 16 bytes, the lock token's.
func TestTrap5And6Delivery(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	l := r.receiver(r.asDevice(key), "/devices/d1/messages/devicebound", 10)
	r.c2d("d1", "hello", func(m *store.Message) { m.Properties = []store.Property{{Name: "a", Value: "1"}} })
	m := r.receive(l)
	if len(m.Data) != 1 || string(m.Data[0]) != "hello" {
		t.Errorf("body %q, value %v", m.Data, m.Value)
	}
	token, ok := lockToken(m.DeliveryTag)
	if !ok || token != m.Annotations["x-opt-lock-token"] {
		t.Errorf("tag %x is %s, lock token %v", m.DeliveryTag, token, m.Annotations["x-opt-lock-token"])
	}
	if m.Annotations["iothub-enqueuedtime"] != r.clock.Now().Truncate(time.Millisecond) && !m.Annotations["iothub-enqueuedtime"].(time.Time).Equal(r.clock.Now().Truncate(time.Millisecond)) {
		t.Errorf("enqueued %v", m.Annotations["iothub-enqueuedtime"])
	}
	if m.Properties.MessageID != "hello" || *m.Properties.To != "/devices/d1/messages/devicebound" || m.ApplicationProperties["a"] != "1" {
		t.Errorf("%+v %v", m.Properties, m.ApplicationProperties)
	}
}

// outcomes sends a message that asks for feedback and returns what the device's answer leads to.
func TestDeviceboundOutcomes(t *testing.T) {
	for _, mode := range []amqp.ReceiverSettleMode{amqp.ReceiverSettleModeFirst, amqp.ReceiverSettleModeSecond} {
		t.Run(fmt.Sprint("rcv ", mode), func(t *testing.T) {
			r := newRig(t, rigOptions{})
			key := r.device("d1")
			l, err := r.asDevice(key).NewReceiver(r.ctx(), "/devices/d1/messages/devicebound", &amqp.ReceiverOptions{Credit: 10, SettlementMode: mode.Ptr()})
			r.must(err)
			for _, body := range []string{"accept", "release", "modify", "reject", "undeliverable"} {
				r.c2d("d1", body, func(m *store.Message) { m.Ack = "full" })
			}
			var got []string
			for range 7 {
				m := r.receive(l)
				body := string(m.GetData())
				got = append(got, fmt.Sprint(body, " ", m.Annotations["iothub-deliverycount"]))
				switch {
				case m.Annotations["iothub-deliverycount"] == uint8(1):
					r.must(l.AcceptMessage(r.ctx(), m))
				case body == "accept":
					r.must(l.AcceptMessage(r.ctx(), m))
				case body == "release":
					r.must(l.ReleaseMessage(r.ctx(), m))
				case body == "modify":
					r.must(l.ModifyMessage(r.ctx(), m, &amqp.ModifyMessageOptions{DeliveryFailed: true}))
				case body == "undeliverable":
					r.must(l.ModifyMessage(r.ctx(), m, &amqp.ModifyMessageOptions{UndeliverableHere: true}))
				case body == "reject":
					r.must(l.RejectMessage(r.ctx(), m, nil))
				}
			}
			for _, want := range []string{"accept 0", "release 0", "modify 0", "reject 0", "undeliverable 0", "release 1", "modify 1"} {
				if !strings.Contains(strings.Join(got, ","), want) {
					t.Errorf("%q is not among %q", want, got)
				}
			}
			if n := r.c2dCount("d1"); n != 0 && mode == amqp.ReceiverSettleModeSecond {
				t.Errorf("%d messages are left", n)
			}
			r.until("the queue is empty", func() bool { return r.c2dCount("d1") == 0 })
			want := map[string]string{"accept": "Success", "release": "Success", "modify": "Success", "reject": "Rejected", "undeliverable": "Rejected"}
			if diff := cmp.Diff(want, r.feedback(5)); diff != "" {
				t.Errorf("feedback -want +got:\n%s", diff)
			}
		})
	}
}

func (r *rig) c2dCount(id string) int {
	r.t.Helper()
	d, err := r.hub.Admin().Identity(r.ctx(), store.Key{DeviceID: id})
	r.must(err)
	return d.C2DCount
}

// record is a feedback record as services read it.
type record struct{ OriginalMessageID, StatusCode, DeviceID, DeviceGenerationID, Description, EnqueuedTimeUTC string }

// feedback receives n feedback records as a service does and returns their status by message id.
func (r *rig) feedback(n int) map[string]string {
	r.t.Helper()
	l := r.receiver(r.asService(), "/messages/serviceBound/feedback", 1)
	got := map[string]string{}
	for len(got) < n {
		m := r.receive(l)
		var records []record
		r.must(json.Unmarshal(m.GetData(), &records))
		for _, one := range records {
			got[one.OriginalMessageID] = one.StatusCode
		}
		r.must(l.AcceptMessage(r.ctx(), m))
	}
	r.must(l.Close(r.ctx()))
	return got
}

// Trap 8: in receiver settle mode second the device sends an unsettled outcome and waits for the server's settled echo, which is
// accepted whatever the outcome was.
func TestTrap8SettleSecondEcho(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, key)
	if f := c.attachReceiver(0, "TelemetryReceiverLink", 2, "/devices/d1/messages/deviceBound", 2, 1, 50); f.field(4) != uint8(1) {
		t.Errorf("asked for rcv-settle-mode second, got %v", f.field(4)) // azure-amqp takes over what the reply says
	}
	for i, outcome := range []uint64{stateAccepted, stateRejected, stateReleased} {
		r.c2d("d1", fmt.Sprint(i), nil)
		f := c.message()
		if f.field(4) == true {
			t.Error("sent settled")
		}
		id := f.field(1).(uint32)
		c.send(0, performDisposition, nil, true, id, nil, false, amqp10.Described{Descriptor: outcome, Value: amqp10.List{}})
		// After release the message comes again, before the answer or after it.
		answered, again := false, outcome != stateReleased
		for !answered || !again {
			switch d := c.read(); d.kind {
			case performDisposition:
				answered = true
				if code, _ := state(d.field(4)); d.field(0) != false || d.field(1) != id || d.field(3) != true || code != stateAccepted {
					t.Errorf("answer to 0x%x: %v", outcome, d.fields)
				}
			case performTransfer:
				again = true
				if m := c.decode(d); string(m.Data[0]) != fmt.Sprint(i) {
					t.Errorf("after release: %s", m.Data)
				}
			}
		}
	}
}

// A lock that has run out is lost: who waits for an answer hears so, and the message comes again.
func TestLockLost(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, r.device("d1"))
	c.attachReceiver(0, "r", 2, "/devices/d1/messages/devicebound", 2, 1, 1)
	r.c2d("d1", "hello", nil)
	first := c.message()
	r.clock.Advance(61 * time.Second)
	c.send(0, performDisposition, nil, true, first.field(1), nil, false, amqp10.Described{Descriptor: uint64(stateAccepted), Value: amqp10.List{}})
	d := c.expect(performDisposition)
	code, fields := state(d.field(4))
	if code != stateRejected {
		t.Fatalf("0x%x", code)
	}
	if cond, info := condition(fields[0]); cond != "com.microsoft:message-lock-lost" || info.Get("com.microsoft:tracking-id") == nil {
		t.Errorf("%s %v", cond, info)
	}
	c.send(0, performFlow, nil, uint32(2), uint32(5000), uint32(2), uint32(5000), uint32(2), uint32(1), uint32(1))
	if again := c.decode(c.message()); string(again.Data[0]) != "hello" || again.MessageAnnotations.Get("iothub-deliverycount") != uint8(0) {
		t.Errorf("%s, %v", again.Data, again.MessageAnnotations)
	}
}

// One disposition may settle a range, and last may be absent.
func TestRangeDisposition(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, r.device("d1"))
	c.attachReceiver(0, "r", 2, "/devices/d1/messages/devicebound", 2, 0, 10)
	for i := range 5 {
		r.c2d("d1", fmt.Sprint(i), nil)
	}
	var ids []uint32
	for range 5 {
		ids = append(ids, c.message().field(1).(uint32))
	}
	accepted := amqp10.Described{Descriptor: uint64(stateAccepted), Value: amqp10.List{}}
	c.send(0, performDisposition, nil, true, ids[0], ids[3], true, accepted)
	r.until("four are gone", func() bool { return r.c2dCount("d1") == 1 })
	c.send(0, performDisposition, nil, true, ids[4], nil, true, accepted)
	r.until("all are gone", func() bool { return r.c2dCount("d1") == 0 })
}

// The device gets what its credit allows, in order, and the rest when it grants more.
func TestDeviceboundCredit(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	for i := range 20 { // before the device is there
		r.c2d("d1", fmt.Sprint(i), nil)
	}
	c := rawOpen(t, r.dial(), 65536)
	c.put(r, key)
	c.attachReceiver(0, "r", 2, "/devices/d1/messages/devicebound", 2, 0, 2)
	for i := range 20 {
		if i%2 == 0 && i > 0 { // used up
			c.send(0, performFlow, nil, uint32(i+1), uint32(5000), uint32(2), uint32(5000), uint32(2), uint32(i), uint32(2))
		}
		if m := c.decode(c.message()); string(m.Data[0]) != fmt.Sprint(i) {
			t.Errorf("message %d is %s", i, m.Data[0])
		}
	}
}

// What a device received and did not settle comes again when it is gone.
func TestUnsettledReturns(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	r.c2d("d1", "hello", nil)
	first := r.receiver(r.asDevice(key), "/devices/d1/messages/devicebound", 1)
	r.receive(first)
	r.must(first.Close(r.ctx()))
	second := r.receiver(r.asDevice(key), "/devices/d1/messages/devicebound", 1)
	m := r.receive(second)
	if string(m.GetData()) != "hello" || m.Annotations["iothub-deliverycount"] != uint8(0) {
		t.Errorf("%s, %v", m.GetData(), m.Annotations)
	}
	r.must(second.AcceptMessage(r.ctx(), m))
	r.until("the queue is empty", func() bool { return r.c2dCount("d1") == 0 })
}

// A second link of the same device takes over; the first hears so.
func TestNewerLinkTakesOver(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.asDevice(r.device("d1"))
	first := r.receiver(s, "/devices/d1/messages/devicebound", 1)
	second := r.receiver(s, "/devices/d1/messages/devicebound", 1)
	_, err := first.Receive(r.ctx(), nil)
	r.wantRefusal(err, amqp.ErrCondStolen)
	r.c2d("d1", "hello", nil)
	r.must(second.AcceptMessage(r.ctx(), r.receive(second)))
}

// A receiver that asks for settled deliveries gets them, and they are done when they are sent.
func TestDeviceboundSentSettled(t *testing.T) {
	r := newRig(t, rigOptions{})
	l, err := r.asDevice(r.device("d1")).NewReceiver(r.ctx(), "/devices/d1/messages/devicebound",
		&amqp.ReceiverOptions{Credit: 5, RequestedSenderSettleMode: amqp.SenderSettleModeSettled.Ptr()})
	r.must(err)
	r.c2d("d1", "hello", nil)
	r.receive(l)
	r.until("the queue is empty", func() bool { return r.c2dCount("d1") == 0 })
}

// Trap 10: no frame above the peer's max-frame-size; the Java device announces 4096.
func TestTrap10SmallFrames(t *testing.T) {
	for _, size := range []uint32{512, 4096} {
		r := newRig(t, rigOptions{})
		key := r.device("d1")
		body := strings.Repeat("0123456789", 6000)
		r.c2d("d1", body[:100], func(m *store.Message) { m.Body = []byte(body); m.MessageID = "m" })
		c := rawOpen(t, r.dial(), size)
		c.largest = size
		c.put(r, key)
		c.attachReceiver(0, "r", 2, "/devices/d1/messages/devicebound", 2, 0, 10)
		if m := c.decode(c.message()); string(m.Data[0]) != body {
			t.Errorf("frames of %d: body of %d bytes", size, len(m.Data[0]))
		}
		_ = c.conn.Close()
	}
}

// A message that can never fit the peer's max-message-size is not lost in silence.
func TestDeviceboundTooLargeForPeer(t *testing.T) {
	r := newRig(t, rigOptions{})
	l, err := r.asDevice(r.device("d1")).NewReceiver(r.ctx(), "/devices/d1/messages/devicebound", &amqp.ReceiverOptions{Credit: 5, MaxMessageSize: 1000})
	r.must(err)
	r.c2d("d1", "m", func(m *store.Message) { m.Body = make([]byte, 2000) })
	_, err = l.Receive(r.ctx(), nil)
	r.wantRefusal(err, amqp.ErrCondMessageSizeExceeded)
	if n := r.c2dCount("d1"); n != 1 {
		t.Errorf("%d messages in the queue", n)
	}
}

// A module has a queue of its own.
func TestModuleDevicebound(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.device("d1")
	key := r.identity(store.Key{DeviceID: "d1", ModuleID: "m1"})
	l := r.receiver(r.asDevice(key), "/devices/d1/modules/m1/messages/devicebound", 1)
	r.c2d("d1/modules/m1", "hello", func(m *store.Message) { m.MessageID = "x" })
	m := r.receive(l)
	if m.Annotations["iothub-connection-module-id"] != "m1" {
		t.Errorf("%v", m.Annotations)
	}
}
