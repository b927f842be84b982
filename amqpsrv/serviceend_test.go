package amqpsrv

import (
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/store"
)

// backEnd is a connection of a service with a link of each kind.
type backEnd struct {
	r        *reader
	conn     *amqp.Conn
	session  *amqp.Session
	events   *amqp.Receiver
	feedback *amqp.Receiver
	commands *amqp.Sender
	manage   *amqp.Sender
}

// newBackEnd connects with a token for a resource that ends in an hour.
func newBackEnd(r *reader) *backEnd {
	b := &backEnd{r: r, conn: r.connect(amqp.SASLTypeAnonymous())}
	b.put("localhost")
	b.attach()
	return b
}

func (b *backEnd) put(resource string) {
	b.r.t.Helper()
	if status, text := b.r.put(b.conn, b.r.policyToken(resource, "service", time.Hour)); status != 200 {
		b.r.t.Fatalf("put-token: %d %s", status, text)
	}
}

func (b *backEnd) attach() {
	b.r.t.Helper()
	b.session = b.r.rig.session(b.conn)
	b.events = b.r.receiver(b.session, b.r.address(), 10)
	b.feedback = b.r.receiver(b.session, "/messages/servicebound/feedback", 10)
	b.commands = b.r.sender(b.session, "/messages/devicebound")
	b.manage = b.r.sender(b.session, "iolite/$management")
}

// ended waits until every link has been detached with the condition.
func (b *backEnd) ended(want amqp.ErrCond) {
	b.r.t.Helper()
	for _, l := range []*amqp.Receiver{b.events, b.feedback} {
		_, err := l.Receive(b.r.ctx(), nil)
		b.r.wantRefusal(err, want)
	}
	for _, l := range []*amqp.Sender{b.commands, b.manage} {
		var err error
		b.r.until("the link is detached", func() bool {
			err = l.Send(b.r.ctx(), c2dMessage("/devices/d1/messages/devicebound", "x"), nil)
			return err != nil
		})
		b.r.wantRefusal(err, want)
	}
}

// works sends and receives on every link; event is the number of the next event.
func (b *backEnd) works(device *amqp.Receiver, event int) {
	b.r.t.Helper()
	b.r.want(b.events, event)
	m := c2dMessage("/devices/d1/messages/devicebound", "m")
	m.ApplicationProperties = map[string]any{"iothub-ack": "full"}
	b.r.must(b.commands.Send(b.r.ctx(), m, nil))
	b.r.must(device.AcceptMessage(b.r.ctx(), b.r.receive(device)))
	b.r.must(b.feedback.AcceptMessage(b.r.ctx(), b.r.receive(b.feedback)))
}

// The links of a back end end with its token, five minutes later, unless the same connection puts a new one in time.
func TestBackEndLinksEndWithTheirToken(t *testing.T) {
	r := newReader(t, 1)
	renewed, forgetful, mistaken := newBackEnd(r), newBackEnd(r), newBackEnd(r)
	r.want(renewed.events, 0)
	r.want(forgetful.events, 0)
	r.want(mistaken.events, 0)
	r.clock.Advance(50 * time.Minute)
	renewed.put("localhost")
	mistaken.put("localhost/iolite") // another scope: what it had is not renewed
	r.clock.Advance(14 * time.Minute)
	key := r.key()
	r.device = r.sender(r.asDevice(key), "/devices/d1/messages/events") // its own token has ended, too
	r.add(1)
	r.want(forgetful.events, 1) // the grace
	r.want(mistaken.events, 1)
	r.clock.Advance(2 * time.Minute)
	forgetful.ended(amqp.ErrCondUnauthorizedAccess)
	mistaken.ended(amqp.ErrCondUnauthorizedAccess)
	device := r.receiver(r.asDevice(key), "/devices/d1/messages/devicebound", 10)
	renewed.works(device, 1)

	_, err := r.rig.session(forgetful.conn).NewReceiver(r.ctx(), r.address(), nil)
	r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
	forgetful.put("localhost")
	forgetful.attach()
	r.want(forgetful.events, 0)
}

// A reset begins a new log: who read the old one is told, and reads the new one from its start.
func TestResetEndsBackEndLinks(t *testing.T) {
	r := newReader(t, 20)
	b := newBackEnd(r)
	for i := range 20 {
		r.want(b.events, i)
	}
	r.must(r.hub.Reset(r.ctx()))
	b.ended(amqp.ErrCondDetachForced)
	b.attach() // the token stays good: it is the connection's

	key := r.identity(store.Key{DeviceID: "d1"})
	device := r.asDevice(key)
	r.device, r.count = r.sender(device, "/devices/d1/messages/events"), 0
	r.add(2)
	m := r.receive(b.events)
	if m.Annotations["x-opt-sequence-number"] != int64(0) || string(m.GetData()) != "0" {
		t.Errorf("event %s with %v", m.GetData(), m.Annotations)
	}
	b.works(r.receiver(device, "/devices/d1/messages/devicebound", 10), 1)
}

func TestCloseOfTheHubEndsBackEndLinks(t *testing.T) {
	r := newReader(t, 1)
	b := newBackEnd(r)
	r.want(b.events, 0)
	r.hub.Close()
	b.ended(amqp.ErrCondDetachForced)
}
