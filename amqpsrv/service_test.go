package amqpsrv

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

func c2dMessage(to, body string) *amqp.Message {
	m := amqp.NewMessage([]byte(body))
	m.Properties = &amqp.MessageProperties{To: &to, MessageID: body}
	return m
}

// A service's message arrives as it was sent, whatever the form of the addresses.
func TestC2DFromServiceToDevice(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("a:b")
	device := r.receiver(r.asDevice(key), "/devices/a:b/messages/devicebound", 10)
	s := r.asService()
	for i, c := range []struct{ link, to string }{
		{"/messages/devicebound", "/devices/a:b/messages/devicebound"},
		{"amqps://localhost:5671/messages/deviceBound", "/devices/a%3Ab/messages/deviceBound"},
		{"amqps://localhost/messages/devicebound", "amqps://localhost/devices/a:b/messages/devicebound"},
	} {
		m := c2dMessage(c.to, fmt.Sprint("m", i))
		user := []byte("me")
		m.Properties.UserID = user
		m.ApplicationProperties = map[string]any{"a": "1", "iothub-ack": "full", "n": int64(5)}
		r.must(r.sender(s, c.link).Send(r.ctx(), m, nil))
		got := r.receive(device)
		if string(got.GetData()) != fmt.Sprint("m", i) || got.ApplicationProperties["a"] != "1" || got.ApplicationProperties["iothub-ack"] != "full" ||
			got.ApplicationProperties["n"] != "5" || *got.Properties.To != c.to || string(got.Properties.UserID) != "me" {
			t.Errorf("%s: %+v %v", c.to, got.Properties, got.ApplicationProperties)
		}
		r.must(device.AcceptMessage(r.ctx(), got))
	}
}

// Each refusal has the condition that the service SDKs make their exceptions of, and always an error: Java reads it unchecked.
func TestC2DRejections(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.device("d1")
	r.device("full")
	for i := range 50 {
		r.c2d("full", fmt.Sprint(i), nil)
	}
	l := r.sender(r.asService(), "/messages/devicebound")
	for name, c := range map[string]struct {
		m    *amqp.Message
		want amqp.ErrCond
	}{
		"unknown device": {c2dMessage("/devices/nobody/messages/devicebound", "x"), amqp.ErrCondNotFound},
		"no to":          {amqp.NewMessage([]byte("x")), "com.microsoft:argument-error"},
		"bad to":         {c2dMessage("/devices/d1", "x"), "com.microsoft:argument-error"},
		"full queue":     {c2dMessage("/devices/full/messages/devicebound", "x"), amqp.ErrCondResourceLimitExceeded},
		"too large":      {c2dMessage("/devices/d1/messages/devicebound", strings.Repeat("x", 65<<10)), amqp.ErrCondMessageSizeExceeded},
		"bad ack": {func() *amqp.Message {
			m := c2dMessage("/devices/d1/messages/devicebound", "x")
			m.ApplicationProperties = map[string]any{"iothub-ack": "perhaps"}
			return m
		}(), "com.microsoft:argument-error"},
		"expired": {func() *amqp.Message {
			m := c2dMessage("/devices/d1/messages/devicebound", "x")
			then := r.clock.Now().Add(-time.Second)
			m.Properties.AbsoluteExpiryTime = &then
			return m
		}(), "com.microsoft:argument-error"},
	} {
		if c.m.Properties != nil {
			c.m.Properties.MessageID = "id"
		}
		e, err := refused(l.Send(r.ctx(), c.m, nil), c.want)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, ok := e.Info["com.microsoft:tracking-id"].(string); !ok {
			t.Errorf("%s: no tracking id in %v", name, e.Info)
		}
	}
	r.must(l.Send(r.ctx(), c2dMessage("/devices/d1/messages/devicebound", "fine"), nil))
}

// amenzhinsky/iothub sends Go's zero time as expiry, uAMQP may send it as a long: neither means a message that has expired.
func TestC2DOddExpiry(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	l := r.sender(r.asService(), "/messages/devicebound")
	m := c2dMessage("/devices/d1/messages/devicebound", "zero")
	m.Properties.AbsoluteExpiryTime = &time.Time{}
	r.must(l.Send(r.ctx(), m, nil))
	got := r.receive(r.receiver(r.asDevice(key), "/devices/d1/messages/devicebound", 1))
	if got.Properties.AbsoluteExpiryTime != nil {
		t.Errorf("expires %v", got.Properties.AbsoluteExpiryTime)
	}
}

func TestFeedback(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	s := r.asService()
	l := r.receiver(s, "amqps://localhost:5671/messages/servicebound/Feedback", 1)
	device := r.receiver(r.asDevice(key), "/devices/d1/messages/devicebound", 10)
	r.c2d("d1", "done", func(m *store.Message) { m.Ack = "positive" })
	r.must(device.AcceptMessage(r.ctx(), r.receive(device)))
	m := r.receive(l)
	if *m.Properties.ContentType != "application/vnd.microsoft.iothub.feedback.json" || len(m.Properties.UserID) == 0 || len(m.DeliveryTag) != 16 || len(m.Data) != 1 {
		t.Errorf("%+v, tag %x, %d data sections", m.Properties, m.DeliveryTag, len(m.Data))
	}
	if _, ok := m.Annotations["iothub-enqueuedtime"].(time.Time); !ok {
		t.Errorf("annotations %v", m.Annotations)
	}
	if body := string(m.GetData()); !strings.HasPrefix(body, "[{") || !strings.Contains(body, `"statusCode":"Success"`) || !strings.Contains(body, `"originalMessageId":"done"`) {
		t.Errorf("%s", body)
	}
	// Released, it comes again; rejected, it does not.
	r.must(l.ReleaseMessage(r.ctx(), m))
	m = r.receive(l)
	r.must(l.RejectMessage(r.ctx(), m, nil))
	r.c2d("d1", "next", func(m *store.Message) { m.Ack = "positive" })
	r.must(device.AcceptMessage(r.ctx(), r.receive(device)))
	if body := string(r.receive(l).GetData()); !strings.Contains(body, "next") {
		t.Errorf("%s", body)
	}
}

// C# receives feedback in receiver settle mode second and waits for the answer to its outcome.
func TestFeedbackSettleSecond(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	l, err := r.asService().NewReceiver(r.ctx(), "/messages/serviceBound/feedback", &amqp.ReceiverOptions{Credit: 1, SettlementMode: amqp.ReceiverSettleModeSecond.Ptr()})
	r.must(err)
	device := r.receiver(r.asDevice(key), "/devices/d1/messages/devicebound", 10)
	r.c2d("d1", "done", func(m *store.Message) { m.Ack = "full" })
	r.must(device.AcceptMessage(r.ctx(), r.receive(device)))
	r.must(l.AcceptMessage(r.ctx(), r.receive(l)))
}

// uploads is a storage that holds whatever it is asked for.
type uploads struct{}

func (uploads) Prepare(context.Context) error { return nil }

func (uploads) Grant(blob string, _ time.Time) hub.UploadTarget {
	return hub.UploadTarget{HostName: "h", ContainerName: "c", BlobName: blob, SASToken: "?sig=x"}
}

func (uploads) Stat(_ context.Context, blob string) (hub.BlobInfo, bool, error) {
	return hub.BlobInfo{URI: "https://h/c/" + blob, Size: 3, Modified: time.Unix(0, 0)}, true, nil
}

// A back end hears of an upload that a device has completed; what it does not settle comes again.
func TestFileNotifications(t *testing.T) {
	r := newRig(t, rigOptions{storage: uploads{}})
	key := r.device("d1")
	l := r.receiver(r.asService(), "/messages/serviceBound/filenotifications", 1)
	d, err := r.hub.OpenDevice(r.ctx(), auth.Principal{DeviceID: key.DeviceID, Rights: auth.DeviceConnect}, key, hub.DeviceOptions{Transient: true})
	r.must(err)
	u, err := d.CreateFileUpload(r.ctx(), "a.txt")
	r.must(err)
	r.must(d.CompleteFileUpload(r.ctx(), hub.FileUploadResult{CorrelationID: u.CorrelationID, Success: new(true)}))
	m := r.receive(l)
	if *m.Properties.ContentType != "application/vnd.microsoft.iothub.filenotification.json" || len(m.Properties.UserID) == 0 || len(m.DeliveryTag) != 16 {
		t.Errorf("%+v, tag %x", m.Properties, m.DeliveryTag)
	}
	if body := string(m.GetData()); !strings.HasPrefix(body, `{"deviceId":"d1","blobUri":"https://h/c/d1/a.txt","blobName":"d1/a.txt","lastUpdatedTime":"1970-01-01T00:00:00+00:00","blobSizeInBytes":3,`) {
		t.Errorf("%s", body)
	}
	r.must(l.ReleaseMessage(r.ctx(), m))
	r.must(l.AcceptMessage(r.ctx(), r.receive(l)))
}

// A policy without ServiceConnect has no business at the service's nodes.
func TestServiceNodesNeedServiceConnect(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.as(r.policyToken("localhost", "registryRead", time.Hour))
	for _, address := range []string{"/messages/devicebound", "iolite/$management", "$management"} {
		_, err := s.NewSender(r.ctx(), address, nil)
		r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
	}
	for _, address := range []string{"/messages/servicebound/feedback", "/messages/servicebound/filenotifications", "iolite/ConsumerGroups/$Default/Partitions/0", "messages/events/"} {
		_, err := s.NewReceiver(r.ctx(), address, nil)
		r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
	}
}

// F.1: amenzhinsky/iothub cuts the address between ":5671/" and its last character, and connects to hostname.
func TestRedirect(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.asService()
	for address, want := range map[string]string{
		"messages/events/": "amqps://localhost:5671/iolite/",
		"/messages/events/ConsumerGroups/$Default/Partitions/1":                  "amqps://localhost:5671/iolite/ConsumerGroups/$Default/Partitions/1/",
		"amqps://localhost/messages/events/ConsumerGroups/$default/Partitions/0": "amqps://localhost:5671/iolite/ConsumerGroups/$default/Partitions/0/",
		"/messages/events/ConsumerGroups/%24Default/Partitions/0/":               "amqps://localhost:5671/iolite/ConsumerGroups/$Default/Partitions/0/",
		"Messages/Events/ConsumerGroups/nobody/Partitions/77":                    "amqps://localhost:5671/iolite/ConsumerGroups/nobody/Partitions/77/", // refused there
		"messages/events/ConsumerGroups/$Default":                                "amqps://localhost:5671/iolite/ConsumerGroups/$Default/",
		"messages/events/$management":                                            "amqps://localhost:5671/iolite/$management/",
		"messages/events/Partitions/0":                                           "amqps://localhost:5671/iolite/Partitions/0/",
	} {
		_, err := s.NewReceiver(r.ctx(), address, nil)
		e := r.wantRefusal(err, amqp.ErrCondLinkRedirect)
		if e.Info["address"] != want || e.Info["hostname"] != "localhost" || e.Info["network-host"] != "localhost" || e.Info["port"] != uint32(5671) {
			t.Errorf("%s: %v", address, e.Info)
		}
	}
	_, err := s.NewSender(r.ctx(), "messages/events/$management", nil)
	r.wantRefusal(err, amqp.ErrCondLinkRedirect)
	scoped := r.as(r.policyToken("localhost/messages/events", "service", time.Hour))
	_, err = scoped.NewReceiver(r.ctx(), "messages/events/ConsumerGroups/$Default/Partitions/0", nil)
	r.wantRefusal(err, amqp.ErrCondLinkRedirect)
}

// The redirect's address is a receiver's address here.
func TestRedirectLeadsSomewhere(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.asService()
	_, err := s.NewReceiver(r.ctx(), "/messages/events/ConsumerGroups/$Default/Partitions/1", nil)
	e := r.wantRefusal(err, amqp.ErrCondLinkRedirect)
	r.receiver(s, e.Info["address"].(string), 1)
}

func TestProducersAreRefused(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := r.asService()
	for address, want := range map[string]amqp.ErrCond{
		"iolite": amqp.ErrCondUnauthorizedAccess, "amqps://localhost/iolite/Partitions/0": amqp.ErrCondUnauthorizedAccess, "other": amqp.ErrCondNotFound,
	} {
		_, err := s.NewSender(r.ctx(), address, nil)
		r.wantRefusal(err, want)
	}
}

// ids of the messages that Python's uAMQP sends may be ulongs; the text is what everybody sees.
func TestC2DNumericID(t *testing.T) {
	r := newRig(t, rigOptions{})
	key := r.device("d1")
	c := rawOpen(t, r.dial(), 65536)
	c.begin(0)
	c.cbsPair(0, 0)
	c.putOn(0, 0, 0, r.policyToken("localhost", "service", time.Hour))
	c.attachSender(0, "s", 2, "/messages/devicebound")
	expiry := amqp10.TimestampOf(r.clock.Now().Add(time.Minute))
	c.transfer(0, 2, 1, 0, encoded(t, &amqp10.Message{
		Properties: &amqp10.Properties{To: "/devices/d1/messages/devicebound", MessageID: uint64(7), AbsoluteExpiryTime: &expiry},
		Body:       amqp10.BodyValue, Value: "text",
	}))
	if code, _ := state(c.disposition(1).field(4)); code != stateAccepted {
		t.Fatalf("0x%x", code)
	}
	m := r.receive(r.receiver(r.asDevice(key), "/devices/d1/messages/devicebound", 1))
	if m.Properties.MessageID != "7" || string(m.GetData()) != "text" || !m.Properties.AbsoluteExpiryTime.Equal(expiry.Time()) {
		t.Errorf("%+v %q", m.Properties, m.GetData())
	}
}
