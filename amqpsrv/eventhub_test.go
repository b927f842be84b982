package amqpsrv

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// reader is a hub with events of one device in one partition.
type reader struct {
	*rig
	partition string
	device    *amqp.Sender
	session   *amqp.Session
	count     int
}

func newReader(t testing.TB, events int) *reader {
	r := &reader{rig: newRig(t, rigOptions{})}
	r.device = r.sender(r.asDevice(r.rig.device("d1")), "/devices/d1/messages/events")
	r.session = r.asService()
	r.add(1)
	for p := range 4 { // where the device's events go
		id := strconv.Itoa(p)
		info, err := r.hub.Admin().Partition(r.ctx(), "", id)
		r.must(err)
		if info.LastSequence >= 0 {
			r.partition = id
		}
	}
	r.add(events - 1)
	return r
}

// add stores events a second apart, with their number as body.
func (r *reader) add(n int) {
	r.t.Helper()
	for range n {
		r.must(r.telemetry(r.device, strconv.Itoa(r.count)))
		r.clock.Advance(time.Second)
		r.count++
	}
}

func (r *reader) address() string { return "iolite/ConsumerGroups/$Default/Partitions/" + r.partition }

// from opens a receiver with a selector.
func (r *reader) from(selector string, credit int32) *amqp.Receiver {
	r.t.Helper()
	o := &amqp.ReceiverOptions{Credit: credit}
	if selector != "" {
		o.Filters = []amqp.LinkFilter{amqp.NewSelectorFilter(selector)}
	}
	l, err := r.session.NewReceiver(r.ctx(), r.address(), o)
	r.must(err)
	return l
}

// want receives and compares the bodies.
func (r *reader) want(l *amqp.Receiver, bodies ...int) {
	r.t.Helper()
	for _, want := range bodies {
		if m := r.receive(l); string(m.GetData()) != strconv.Itoa(want) {
			r.t.Fatalf("event %s, want %d", m.GetData(), want)
		}
	}
}

func TestEventPositions(t *testing.T) {
	r := newReader(t, 5)
	offset, third := r.offsetOf(2), r.enqueuedOf(2)
	for selector, first := range map[string]int{
		"":                                    0,
		"amqp.annotation.x-opt-offset > '-1'": 0,
		fmt.Sprintf("amqp.annotation.x-opt-offset > '%s'", offset):                  3,
		fmt.Sprintf("amqp.annotation.x-opt-offset >= '%s'", offset):                 2,
		"amqp.annotation.x-opt-sequence-number > '2'":                               3,
		"amqp.annotation.x-opt-sequence-number >= '2'":                              2,
		"amqp.annotation.x-opt-sequence-number > -1":                                0,
		fmt.Sprintf("amqp.annotation.x-opt-enqueued-time > '%d'", third):            3,
		fmt.Sprintf("amqp.annotation.x-opt-enqueued-time > '%d'", third-1):          2,
		fmt.Sprintf("amqp.annotation.x-opt-enqueuedtimeutc >= '%d'", third):         2,
		"amqp.annotation.x-opt-offset > '@latest'":                                  -1,
		"amqp.annotation.x-opt-sequence-number > '4'":                               5,
		fmt.Sprintf("amqp.annotation.x-opt-enqueued-time > '%d'", third+10_000_000): -1,
	} {
		if first < 0 {
			first = r.count // only what comes from now on
		}
		l := r.from(selector, 10)
		for body := first; body < r.count; body++ {
			r.want(l, body)
		}
		r.add(1)
		r.want(l, r.count-1)
		r.must(l.Close(r.ctx()))
	}
}

func (r *reader) annotation(body int, key string) any {
	r.t.Helper()
	l := r.from(fmt.Sprintf("amqp.annotation.x-opt-sequence-number >= '%d'", body), 1)
	defer func() { _ = l.Close(r.ctx()) }()
	return r.receive(l).Annotations[key]
}

func (r *reader) offsetOf(body int) string { return r.annotation(body, "x-opt-offset").(string) }

func (r *reader) enqueuedOf(body int) int64 {
	return r.annotation(body, "x-opt-enqueued-time").(time.Time).UnixMilli()
}

// Events have the annotations that readers rely on, in the types they rely on (F.6).
func TestEventAsRead(t *testing.T) {
	r := newReader(t, 1)
	contentType := "application/json"
	r.must(r.device.Send(r.ctx(), &amqp.Message{Properties: &amqp.MessageProperties{MessageID: "id", ContentType: &contentType},
		ApplicationProperties: map[string]any{"a": "1", "iothub-creation-time-utc": "2030-01-01T00:00:00Z"}, Data: [][]byte{[]byte("{}")}}, nil))
	l := r.from("amqp.annotation.x-opt-sequence-number > '0'", 1)
	m := r.receive(l)
	d, err := r.hub.Admin().Identity(r.ctx(), r.key())
	r.must(err)
	want := amqp.Annotations{
		"x-opt-sequence-number":                int64(1),
		"x-opt-offset":                         m.Annotations["x-opt-offset"],
		"x-opt-enqueued-time":                  r.clock.Now().Truncate(time.Millisecond),
		"x-opt-partition-key":                  "d1",
		"iothub-connection-device-id":          "d1",
		"iothub-connection-auth-method":        `{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`,
		"iothub-connection-auth-generation-id": d.GenerationID,
		"iothub-enqueuedtime":                  r.clock.Now().Truncate(time.Millisecond),
		"iothub-message-source":                "Telemetry",
	}
	if diff := cmp.Diff(want, m.Annotations); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, ok := m.Annotations["x-opt-offset"].(string); !ok || len(m.Data) != 1 || len(m.DeliveryTag) != 16 {
		t.Errorf("offset %v, %d data sections, tag %x", m.Annotations["x-opt-offset"], len(m.Data), m.DeliveryTag)
	}
	if diff := cmp.Diff(map[string]any{"a": "1", "iothub-creation-time-utc": "2030-01-01T00:00:00Z"}, m.ApplicationProperties); diff != "" {
		t.Errorf("application properties -want +got:\n%s", diff)
	}
	if m.Properties.MessageID != "id" || *m.Properties.ContentType != contentType || *m.Properties.To != "/devices/d1/messages/events" {
		t.Errorf("%+v", m.Properties)
	}
}

func TestEventReceiverRefusals(t *testing.T) {
	r := newReader(t, 1)
	for address, want := range map[string]amqp.ErrCond{
		"other/ConsumerGroups/$Default/Partitions/0":   amqp.ErrCondNotFound,
		"iolite/ConsumerGroups/other/Partitions/0":     amqp.ErrCondNotFound,
		"iolite/ConsumerGroups/$Default/Partitions/4":  "com.microsoft:argument-out-of-range",
		"iolite/ConsumerGroups/$Default/Partitions/-1": "com.microsoft:argument-out-of-range",
		"iolite/ConsumerGroups/$Default/Partitions/00": "com.microsoft:argument-out-of-range",
	} {
		_, err := r.session.NewReceiver(r.ctx(), address, nil)
		r.wantRefusal(err, want)
	}
	_, err := r.session.NewReceiver(r.ctx(), r.address(), &amqp.ReceiverOptions{Filters: []amqp.LinkFilter{amqp.NewSelectorFilter("colour = 'red'")}})
	r.wantRefusal(err, "com.microsoft:argument-error")
	for selector, want := range map[string]string{
		"amqp.annotation.x-opt-offset > '123456'":          "The supplied offset '123456' is invalid. The last offset in the system is '0'",
		"amqp.annotation.x-opt-sequence-number >= '1'":     "The supplied sequence number '1' is invalid. The last sequence number in the system is '0'",
		"amqp.annotation.x-opt-sequence-number > '999999'": "The supplied sequence number '999999' is invalid. The last sequence number in the system is '0'",
	} {
		_, err := r.session.NewReceiver(r.ctx(), r.address(), &amqp.ReceiverOptions{Filters: []amqp.LinkFilter{amqp.NewSelectorFilter(selector)}})
		if e := r.wantRefusal(err, "com.microsoft:argument-error"); e.Description != want {
			t.Errorf("%s: %s", selector, e.Description)
		}
	}
	for level, want := range map[any]amqp.ErrCond{int64(-1): "com.microsoft:argument-error", "1": "com.microsoft:argument-error"} {
		_, err := r.session.NewReceiver(r.ctx(), r.address(), &amqp.ReceiverOptions{Properties: map[string]any{"com.microsoft:epoch": level}})
		r.wantRefusal(err, want)
	}
}

// A receiver is told when its consumer group or its event hub is deleted, with and without credit.
func TestReceiversEndWithTheirEntity(t *testing.T) {
	r := newReader(t, 1)
	_, err := r.hub.Admin().PutEventHub(r.ctx(), "alerts", 2)
	r.must(err)
	r.must(r.hub.Admin().PutConsumerGroup(r.ctx(), "", "mine"))
	for _, credit := range []int32{-1, 10} {
		l, err := r.session.NewReceiver(r.ctx(), "iolite/ConsumerGroups/mine/Partitions/0", &amqp.ReceiverOptions{Credit: credit})
		r.must(err)
		r.must(r.hub.Admin().DeleteConsumerGroup(r.ctx(), "", "mine"))
		_, err = l.Receive(r.ctx(), nil)
		r.wantRefusal(err, amqp.ErrCondNotFound)
		r.must(r.hub.Admin().PutConsumerGroup(r.ctx(), "", "mine"))
	}
	m := r.manage(r.session, "Alerts/$management", read("ALERTS", typeEventHub, ""))
	if got, _ := m.Value.(map[string]any); got["name"] != "alerts" || got["partition_count"] != int32(2) {
		t.Errorf("%v %v", m.ApplicationProperties, got)
	}
	l, err := r.session.NewReceiver(r.ctx(), "Alerts/ConsumerGroups/$Default/Partitions/1", nil)
	r.must(err)
	r.must(r.hub.Admin().DeleteEventHub(r.ctx(), "alerts"))
	_, err = l.Receive(r.ctx(), nil)
	r.wantRefusal(err, amqp.ErrCondNotFound)
}

// The forms in which Event Hubs clients write the address, and tokens that reach no further than it (B.5).
func TestEventReceiverAddressesAndScopes(t *testing.T) {
	r := newReader(t, 1)
	r.must(r.hub.Admin().PutConsumerGroup(r.ctx(), "", "mine"))
	for _, c := range []struct{ address, resource string }{
		{"iolite/ConsumerGroups/$Default/Partitions/%s", "localhost"},
		{"/iolite/ConsumerGroups/$default/Partitions/%s", "sb://localhost/iolite"},
		{"amqps://localhost:5671/IOLITE/consumergroups/%%24Default/partitions/%s", "sb://localhost/iolite/ConsumerGroups/$Default/Partitions/%s"},
		{"iolite/ConsumerGroups/mine/Partitions/%s", "amqps://LOCALHOST/iolite/consumergroups/mine"},
		{"iolite/ConsumerGroups/mine/Partitions/%s", "amqp://localhost:5672/iolite/"},
	} {
		resource := c.resource
		if len(resource) > 2 && resource[len(resource)-2:] == "%s" {
			resource = fmt.Sprintf(resource, r.partition)
		}
		s := r.as(r.policyToken(resource, "service", time.Hour))
		l, err := s.NewReceiver(r.ctx(), fmt.Sprintf(c.address, r.partition), &amqp.ReceiverOptions{DesiredCapabilities: []string{string(runtimeMetric)}})
		if err != nil {
			t.Errorf("%s with %s: %v", c.address, resource, err)
			continue
		}
		r.want(l, 0)
	}
	s := r.as(r.policyToken("sb://localhost/iolite/ConsumerGroups/$Default/Partitions/9", "service", time.Hour))
	_, err := s.NewReceiver(r.ctx(), r.address(), nil)
	r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
}

// Readers of one partition do not take events from each other, and each gets every event in order.
func TestReadersAreIndependent(t *testing.T) {
	r := newReader(t, 1)
	const readers, events = 4, 300
	var wg sync.WaitGroup
	for i := range readers {
		l := r.from("", 50)
		wg.Go(func() {
			for want := range events {
				m, err := l.Receive(r.t.Context(), nil)
				if err != nil || string(m.GetData()) != strconv.Itoa(want) {
					t.Errorf("reader %d: %v, want %d", i, err, want)
					return
				}
				if err := l.AcceptMessage(r.t.Context(), m); err != nil {
					t.Errorf("reader %d: %v", i, err)
				}
			}
		})
	}
	r.add(events - 1)
	wg.Wait()
}

// A large backlog passes through the output limit without loss.
func TestBacklogLargerThanOutput(t *testing.T) {
	r := newReader(t, 1)
	const n = 30
	for i := range n {
		r.must(r.telemetry(r.device, fmt.Sprintf("%0200000d", i)))
	}
	l := r.from("amqp.annotation.x-opt-sequence-number > '0'", 300)
	for i := range n {
		m := r.receive(l)
		if got, _ := strconv.Atoi(string(m.GetData())); got != i || len(m.GetData()) != 200000 {
			t.Fatalf("event %d of %d bytes, want %d", got, len(m.GetData()), i)
		}
	}
}

// F.5: credit is spent and not exceeded; a drain uses it up.
func TestEventCreditAndDrain(t *testing.T) {
	r := newReader(t, 5)
	l, err := r.session.NewReceiver(r.ctx(), r.address(), &amqp.ReceiverOptions{Credit: -1})
	r.must(err)
	r.must(l.IssueCredit(3))
	r.want(l, 0, 1, 2)
	r.must(l.IssueCredit(10))
	r.want(l, 3, 4)
	r.must(l.DrainCredit(r.ctx(), nil))
	r.add(1)
	if m := l.Prefetched(); m != nil {
		t.Errorf("after the drain came %s", m.GetData())
	}
	r.must(l.IssueCredit(1))
	r.want(l, 5)
}

// Settled as the peer asks; by default settled.
func TestEventsSettledAsAsked(t *testing.T) {
	r := newReader(t, 1)
	for snd, want := range map[uint8]bool{uint8(amqp10.SndSettled): true, uint8(amqp10.SndMixed): true, uint8(amqp10.SndUnsettled): false} {
		c := rawOpen(t, r.dial(), 65536)
		c.begin(0)
		c.cbsPair(0, 0)
		c.putOn(0, 0, 0, r.policyToken("localhost", "service", time.Hour))
		c.attachReceiver(0, "events", 2, r.address(), snd, 0, 1)
		if f := c.message(); (f.field(4) == true) != want {
			t.Errorf("snd-settle-mode %d: settled %v", snd, f.field(4))
		}
	}
}

// The reply echoes the source with its filter; what has no effect here is left out (AMQP 3.5.3).
func TestSourceIsEchoed(t *testing.T) {
	r := newReader(t, 1)
	l, err := r.session.NewReceiver(r.ctx(), r.address(), &amqp.ReceiverOptions{
		Filters: []amqp.LinkFilter{amqp.NewSelectorFilter("amqp.annotation.x-opt-offset > '-1'")}})
	r.must(err)
	if got := l.LinkSourceFilterValue("apache.org:selector-filter:string"); got != "amqp.annotation.x-opt-offset > '-1'" {
		t.Errorf("filter %v", got)
	}
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	c.cbsPair(0, 0)
	c.putOn(0, 0, 0, r.policyToken("localhost", "service", time.Hour))
	selector := amqp10.Described{Descriptor: amqp10.Symbol(selectorFilter), Value: "amqp.annotation.x-opt-offset > '-1'"}
	c.send(0, performAttach, nil, "events", uint32(2), true, uint8(2), uint8(0), amqp10.Described{Descriptor: uint64(describedSource), Value: amqp10.List{
		r.address(), nil, nil, nil, nil, nil, nil, amqp10.Map{{Key: amqp10.Symbol("strange"), Value: "x"}, {Key: amqp10.Symbol(selectorFilter), Value: selector}}}}, target("t"))
	_, fields := state(c.expect(performAttach).field(5))
	if diff := cmp.Diff(amqp10.List{r.address(), amqp10.Map{{Key: amqp10.Symbol(selectorFilter), Value: selector}}}, amqp10.List{fields[0], fields[7]}); diff != "" {
		t.Errorf("source -want +got:\n%s", diff)
	}
}

// Who desires runtime metrics is told with every event where the partition ends.
func TestRuntimeMetrics(t *testing.T) {
	r := newReader(t, 3)
	l, err := r.session.NewReceiver(r.ctx(), r.address(), &amqp.ReceiverOptions{DesiredCapabilities: []string{string(runtimeMetric)}})
	r.must(err)
	m := r.receive(l)
	if m.DeliveryAnnotations["last_enqueued_sequence_number"] != int64(2) {
		t.Errorf("%v", m.DeliveryAnnotations)
	}
	if _, ok := m.DeliveryAnnotations["last_enqueued_offset"].(string); !ok {
		t.Errorf("last_enqueued_offset is a %T", m.DeliveryAnnotations["last_enqueued_offset"])
	}
	for _, key := range []string{"last_enqueued_time_utc", "runtime_info_retrieval_time_utc"} {
		if _, ok := m.DeliveryAnnotations[key].(time.Time); !ok {
			t.Errorf("%s is a %T", key, m.DeliveryAnnotations[key])
		}
	}
	if m := r.receive(r.from("", 1)); m.DeliveryAnnotations != nil {
		t.Errorf("undesired %v", m.DeliveryAnnotations)
	}
}

// level opens a receiver with an owner level; below 0 without.
func (r *reader) level(level int64) (*amqp.Receiver, error) {
	o := &amqp.ReceiverOptions{Credit: 1}
	if level >= 0 {
		o.Properties = map[string]any{"com.microsoft:epoch": level}
	}
	return r.session.NewReceiver(r.ctx(), r.address(), o)
}

// F.4: the rules of owner levels.
func TestOwnerLevels(t *testing.T) {
	r := newReader(t, 1)
	r.must(r.hub.Admin().PutConsumerGroup(r.ctx(), "", "other"))
	plain, err := r.level(-1)
	r.must(err)
	first, err := r.level(1)
	r.must(err)
	r.ends(plain) // displaced by who has a level
	_, err = r.level(-1)
	r.wantRefusal(err, amqp.ErrCondStolen) // not while somebody has one
	_, err = r.level(0)
	r.wantRefusal(err, amqp.ErrCondStolen) // lower
	r.want(first, 0)
	second, err := r.level(1)
	r.must(err)
	r.ends(first) // an equal level displaces
	third, err := r.level(7)
	r.must(err)
	r.ends(second)
	other, err := r.session.NewReceiver(r.ctx(), "iolite/ConsumerGroups/other/Partitions/"+r.partition, nil)
	r.must(err) // groups do not mind each other
	r.want(other, 0)
	r.must(third.Close(r.ctx()))
	r.until("the partition is free", func() bool {
		l, err := r.level(-1)
		if err == nil {
			r.want(l, 0)
		}
		return err == nil
	})
}

// ends waits for a receiver to be displaced.
func (r *reader) ends(l *amqp.Receiver) {
	r.t.Helper()
	for {
		if _, err := l.Receive(r.ctx(), nil); err != nil {
			r.wantRefusal(err, amqp.ErrCondStolen)
			return
		}
	}
}

func TestAtMostFivePlainReceivers(t *testing.T) {
	r := newReader(t, 1)
	var last *amqp.Receiver
	for range 5 {
		l, err := r.level(-1)
		r.must(err)
		last = l
	}
	_, err := r.level(-1)
	r.wantRefusal(err, amqp.ErrCondResourceLimitExceeded)
	r.must(last.Close(r.ctx()))
	r.until("there is room again", func() bool { _, err := r.level(-1); return err == nil })
}

// manage sends a READ and returns the reply.
func (r *rig) manage(s *amqp.Session, address string, properties map[string]any) *amqp.Message {
	r.t.Helper()
	replyTo := "client"
	receiver, err := s.NewReceiver(r.ctx(), address, &amqp.ReceiverOptions{TargetAddress: replyTo})
	r.must(err)
	sender := r.sender(s, address)
	r.must(sender.Send(r.ctx(), &amqp.Message{Properties: &amqp.MessageProperties{MessageID: amqp.UUID(uuid), ReplyTo: &replyTo}, ApplicationProperties: properties}, nil))
	m := r.receive(receiver)
	if m.Properties.CorrelationID != amqp.UUID(uuid) {
		r.t.Errorf("correlation-id %v", m.Properties.CorrelationID)
	}
	r.must(receiver.Close(r.ctx()))
	r.must(sender.Close(r.ctx()))
	return m
}

func read(name, kind, partition string) map[string]any {
	return map[string]any{"operation": "READ", "name": name, "type": kind, "partition": partition, "security_token": "x", "server-timeout": uint32(1000)}
}

// F.3: types are what eh-go and amenzhinsky/iothub assert.
func TestManagementReads(t *testing.T) {
	r := newReader(t, 3)
	for _, address := range []string{"$management", "iolite/$management", "amqps://localhost/iolite/$management"} {
		m := r.manage(r.session, address, read("iolite", typeEventHub, ""))
		if m.ApplicationProperties["status-code"] != int32(200) {
			t.Fatalf("%v", m.ApplicationProperties)
		}
		got, _ := m.Value.(map[string]any)
		if _, ok := got["created_at"].(time.Time); !ok {
			t.Errorf("created_at is a %T", got["created_at"])
		}
		delete(got, "created_at")
		want := map[string]any{"name": "iolite", "type": typeEventHub, "partition_count": int32(4), "partition_ids": []string{"0", "1", "2", "3"}, "georeplication_factor": int32(1)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	got := r.manage(r.session, "$management", read("IOLITE", typePartition, r.partition)).Value.(map[string]any)
	offset, ok := got["last_enqueued_offset"].(string)
	if !ok {
		t.Errorf("last_enqueued_offset is a %T", got["last_enqueued_offset"])
	}
	if want := r.offsetOf(2); offset != want {
		t.Errorf("last_enqueued_offset %s, want %s", offset, want)
	}
	delete(got, "last_enqueued_offset")
	want := map[string]any{"name": "iolite", "type": typePartition, "partition": r.partition, "begin_sequence_number": int64(0), "last_enqueued_sequence_number": int64(2),
		"last_enqueued_time_utc": time.UnixMilli(r.enqueuedOf(2)).UTC(), "is_partition_empty": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestManagementEmptyPartition(t *testing.T) {
	r := newRig(t, rigOptions{})
	got := r.manage(r.asService(), "$management", read("iolite", typePartition, "0")).Value
	want := map[string]any{"name": "iolite", "type": typePartition, "partition": "0", "begin_sequence_number": int64(0), "last_enqueued_sequence_number": int64(-1),
		"last_enqueued_offset": "-1", "last_enqueued_time_utc": time.Time{}, "is_partition_empty": true}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// After a day everything has gone, but not where the partition was: readers that come back go on there.
func TestManagementAfterTheRetention(t *testing.T) {
	r := newReader(t, 3)
	offset, enqueued := r.offsetOf(2), r.enqueuedOf(2)
	r.clock.Advance(hub.DefaultRetention + time.Minute)
	r.session = r.asService()
	got := r.manage(r.session, "$management", read("iolite", typePartition, r.partition)).Value
	want := map[string]any{"name": "iolite", "type": typePartition, "partition": r.partition, "begin_sequence_number": int64(3), "last_enqueued_sequence_number": int64(2),
		"last_enqueued_offset": offset, "last_enqueued_time_utc": time.UnixMilli(enqueued).UTC(), "is_partition_empty": true}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	readers := []*amqp.Receiver{
		r.from("amqp.annotation.x-opt-offset > '-1'", 10), r.from(fmt.Sprintf("amqp.annotation.x-opt-offset > '%s'", offset), 10),
		r.from("amqp.annotation.x-opt-sequence-number >= '0'", 10), r.from(fmt.Sprintf("amqp.annotation.x-opt-enqueued-time > '%d'", enqueued), 10),
	}
	r.device = r.sender(r.asDevice(r.key()), "/devices/d1/messages/events")
	r.add(1)
	for _, l := range readers {
		r.want(l, 3)
	}
}

func TestManagementRefusals(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.asService()
	for name, c := range map[string]struct {
		request   map[string]any
		status    int32
		condition string
	}{
		"entity":    {read("other", typeEventHub, ""), 404, "amqp:not-found"},
		"partition": {read("iolite", typePartition, "17"), 404, "com.microsoft:argument-out-of-range"},
		"type":      {read("iolite", "com.microsoft:topic", ""), 400, "com.microsoft:argument-error"},
		"operation": {map[string]any{"operation": "DELETE", "name": "iolite", "type": typeEventHub}, 501, "amqp:not-implemented"},
		"nothing":   {nil, 501, "amqp:not-implemented"},
	} {
		m := r.manage(s, "$management", c.request)
		if m.ApplicationProperties["status-code"] != c.status || m.ApplicationProperties["error-condition"] != c.condition {
			t.Errorf("%s: %v", name, m.ApplicationProperties)
		}
	}
	_, err := s.NewSender(r.ctx(), "other/$management", nil)
	r.wantRefusal(err, amqp.ErrCondNotFound)
}

// eh-go and eh-js put a token for {event hub}/$management.
func TestManagementScope(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.as(r.policyToken("amqps://localhost/iolite/$management", "service", time.Hour))
	if m := r.manage(s, "$management", read("iolite", typePartition, "0")); m.ApplicationProperties["status-code"] != int32(200) {
		t.Errorf("%v", m.ApplicationProperties)
	}
}

// azure-messaging-eventhubs for Java attaches $management without a token and puts one into every request.
func TestManagementTokenInRequest(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.session(r.connect(amqp.SASLTypeAnonymous()))
	for name, c := range map[string]struct {
		token string
		want  int32
	}{
		"host":        {r.policyToken("sb://localhost", "service", time.Hour), 200},
		"event hub":   {r.policyToken("amqp://localhost/iolite", "iothubowner", time.Hour), 200},
		"node":        {r.policyToken("amqp://localhost/iolite/$management", "service", time.Hour), 200},
		"wrong right": {r.policyToken("sb://localhost", "registryRead", time.Hour), 401},
		"elsewhere":   {r.policyToken("amqp://localhost/other", "service", time.Hour), 401},
		"expired":     {r.policyToken("sb://localhost", "service", -time.Hour), 401},
		"device":      {r.deviceToken(r.device("d1"), time.Hour), 401},
		"none":        {"", 401},
	} {
		request := read("iolite", typeEventHub, "")
		request["security_token"] = c.token
		if m := r.manage(s, "iolite/$management", request); m.ApplicationProperties["status-code"] != c.want {
			t.Errorf("%s: %v", name, m.ApplicationProperties)
		}
	}
}
