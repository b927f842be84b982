package amqpsrv

import (
	"errors"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/amqp10"
)

// What a producer sends to an event hub beside the built-in one comes out as it went in, with what another IoT hub has stamped.
func TestProducedEventsAreRead(t *testing.T) {
	r := newRig(t, rigOptions{})
	_, err := r.hub.Admin().PutEventHub(r.ctx(), "alerts", 2)
	r.must(err)
	s := r.asService()
	to, contentType := "/devices/d1/messages/events", "application/json"
	sent := &amqp.Message{
		Annotations: amqp.Annotations{"x-opt-partition-key": "d1", "iothub-connection-device-id": "d1", "iothub-message-source": "Telemetry",
			"iothub-connection-auth-generation-id": "g", "iothub-connection-module-id": "m", "dt-subject": "thermostat", "x-opt-unknown": "dropped"},
		Properties:            &amqp.MessageProperties{MessageID: "id", To: &to, ContentType: &contentType},
		ApplicationProperties: map[string]any{"a": "1", "n": int32(5)},
		Data:                  [][]byte{[]byte("{}")},
	}
	for address, partition := range map[string]string{"Alerts/Partitions/0": "0", "amqps://localhost/alerts/Partitions/1": "1"} {
		r.must(r.sender(s, address).Send(r.ctx(), sent, nil))
		m := r.receive(r.receiver(s, "alerts/ConsumerGroups/$Default/Partitions/"+partition, 1))
		if m.Annotations["x-opt-sequence-number"] != int64(0) {
			t.Errorf("%s: %v", address, m.Annotations)
		}
		for _, stamped := range []string{"x-opt-sequence-number", "x-opt-offset", "x-opt-enqueued-time", "iothub-enqueuedtime"} {
			delete(m.Annotations, stamped)
		}
		want := amqp.Annotations{"x-opt-partition-key": "d1", "iothub-connection-device-id": "d1", "iothub-message-source": "Telemetry",
			"iothub-connection-auth-generation-id": "g", "iothub-connection-module-id": "m", "dt-subject": "thermostat"}
		if diff := cmp.Diff(want, m.Annotations); diff != "" {
			t.Errorf("%s: annotations (-want +got):\n%s", address, diff)
		}
		if diff := cmp.Diff(map[string]any{"a": "1", "n": "5"}, m.ApplicationProperties); diff != "" || string(m.GetData()) != "{}" || m.Properties.MessageID != "id" {
			t.Errorf("%s: %+v %s %s", address, m.Properties, m.GetData(), diff)
		}
	}
}

// A batch stays together, in the partition of its key.
func TestProducedBatches(t *testing.T) {
	r := newRig(t, rigOptions{})
	_, err := r.hub.Admin().PutEventHub(r.ctx(), "alerts", 2)
	r.must(err)
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	c.cbsPair(0, 0)
	c.putOn(0, 0, 0, r.policyToken("localhost/alerts", "service", time.Hour))
	c.attachSender(0, "s", 2, "alerts")
	batch := func(bodies ...string) []byte {
		m := amqp10.Message{MessageAnnotations: amqp10.Map{{Key: amqp10.Symbol("x-opt-partition-key"), Value: "key"}}, Body: amqp10.BodyData}
		for _, body := range bodies {
			m.Data = append(m.Data, encoded(t, &amqp10.Message{Body: amqp10.BodyData, Data: [][]byte{[]byte(body)}}))
		}
		return encoded(t, &m)
	}
	c.transfer(0, 2, 1, amqp10.BatchFormat, batch("a", "b", "c"))
	if code, _ := state(c.disposition(1).field(4)); code != stateAccepted {
		t.Fatalf("0x%x", code)
	}
	c.transfer(0, 2, 2, amqp10.BatchFormat, encoded(t, &amqp10.Message{Body: amqp10.BodyValue, Value: "no batch"}))
	if code, _ := state(c.disposition(2).field(4)); code != stateRejected {
		t.Fatalf("0x%x", code)
	}
	total := int64(0)
	for _, id := range []string{"0", "1"} {
		info, err := r.hub.Admin().Partition(r.ctx(), "alerts", id)
		r.must(err)
		if n := info.LastSequence + 1; n != 0 && n != 3 {
			t.Errorf("%d events in partition %s", n, id)
		}
		total += info.LastSequence + 1
	}
	if total != 3 {
		t.Errorf("%d events", total)
	}
}

func TestProducersNeedTheRightAndTheScope(t *testing.T) {
	r := newRig(t, rigOptions{})
	_, err := r.hub.Admin().PutEventHub(r.ctx(), "alerts", 2)
	r.must(err)
	for name, c := range map[string]struct {
		token, address string
		want           amqp.ErrCond
	}{
		"elsewhere":         {r.policyToken("localhost/iolite", "service", time.Hour), "alerts", amqp.ErrCondUnauthorizedAccess},
		"another partition": {r.policyToken("localhost/alerts/Partitions/1", "service", time.Hour), "alerts/Partitions/0", amqp.ErrCondUnauthorizedAccess},
		"another right":     {r.policyToken("localhost", "registryReadWrite", time.Hour), "alerts", amqp.ErrCondUnauthorizedAccess},
		"a reader's node":   {r.policyToken("localhost", "service", time.Hour), "alerts/ConsumerGroups/$Default/Partitions/0", amqp.ErrCondNotFound},
		"no such partition": {r.policyToken("localhost", "service", time.Hour), "alerts/Partitions/2", "com.microsoft:argument-out-of-range"},
	} {
		_, err := r.as(c.token).NewSender(r.ctx(), c.address, nil)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		r.wantRefusal(err, c.want)
	}
	_, err = r.as(r.policyToken("localhost/alerts/Partitions/1", "service", time.Hour)).NewSender(r.ctx(), "alerts/Partitions/1", nil)
	r.must(err)
}

// FuzzProducer: whatever a producer sends is refused, or understood and can be sent on to readers.
func FuzzProducer(f *testing.F) {
	m := &amqp10.Message{MessageAnnotations: amqp10.Map{{Key: amqp10.Symbol("x-opt-partition-key"), Value: "k"}, {Key: amqp10.Symbol("dt-dataschema"), Value: int32(1)}},
		ApplicationProperties: amqp10.Map{{Key: "a", Value: true}}, Body: amqp10.BodyData, Data: [][]byte{[]byte("x")}}
	one := encoded(f, m)
	f.Add(one, false)
	m.Data = [][]byte{one, one}
	f.Add(encoded(f, m), true)
	f.Fuzz(func(t *testing.T, payload []byte, batch bool) {
		n := &producer{}
		d := &amqp10.Delivery{Payload: payload}
		if batch {
			d.Format = amqp10.BatchFormat
		}
		if n.decode(d) != nil {
			return
		}
		for i := range n.events {
			var w eventWriter
			var back amqp10.Message
			if err := back.Decode(w.event(&n.events[i], nil), amqp10.Limits{}); err != nil {
				t.Fatalf("%+v cannot be read: %v", n.events[i], err)
			}
		}
	})
}

// A producer of an event hub that was deleted loses its link, and finds with another one the event hub of that name that was made since.
func TestProducersEndWithTheirEventHub(t *testing.T) {
	r := newRig(t, rigOptions{})
	admin := r.hub.Admin()
	_, err := admin.PutEventHub(r.ctx(), "alerts", 1)
	r.must(err)
	s := r.asService()
	m := &amqp.Message{Data: [][]byte{[]byte("{}")}}
	old := r.sender(s, "alerts")
	r.must(old.Send(r.ctx(), m, nil))
	r.must(admin.DeleteEventHub(r.ctx(), "alerts"))
	r.wantRefusal(old.Send(r.ctx(), m, nil), amqp.ErrCondNotFound)
	_, err = admin.PutEventHub(r.ctx(), "alerts", 1)
	r.must(err)
	var ended *amqp.LinkError
	if err := old.Send(r.ctx(), m, nil); !errors.As(err, &ended) {
		t.Errorf("the link of the one that is gone: %v", err)
	}
	r.must(r.sender(s, "alerts").Send(r.ctx(), m, nil))
	r.receive(r.receiver(s, "alerts/ConsumerGroups/$Default/Partitions/0", 1))
}
