package broker

import (
	"log/slog"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// window is how many cloud-to-device messages may be on their way at once: the whole queue of a device.
const window = 50

// devicebound is the push of an identity's cloud-to-device messages to its client. mu may be held while the hub is called;
// the hub calls deliver without locks.
type devicebound struct {
	mu           sync.Mutex
	subscription *hub.Subscription // nil until the client first subscribed
	active       bool              // the client is subscribed now
	qos          byte
	inflight     map[uint16]delivery // by packet id: sent with QoS 1 and not acknowledged
	unwritten    int                 // QoS 0 messages that the socket has not taken
	lastID       uint16
}

// delivery is a message that waits for its PUBACK.
type delivery struct {
	token    string
	sequence int64
}

// resumeDevicebound makes the push follow the connection's subscriptions: it begins, stops, or goes on with another QoS.
func (c *connection) resumeDevicebound() {
	d := &c.devicebound
	qos, wanted := c.subscriptions.devicebound()
	d.mu.Lock()
	defer d.mu.Unlock()
	if wanted {
		d.qos = qos
	}
	if wanted == d.active {
		return
	}
	if d.subscription == nil {
		subscription, err := c.session.SubscribeC2D(c.deliver)
		if err != nil {
			return // the session has ended, and so will the connection
		}
		d.subscription = subscription
	}
	d.active = wanted
	if wanted {
		d.subscription.SetCredit(window - len(d.inflight) - d.unwritten)
		return
	}
	// MQTT-3.10.4-3: what has been sent may still be acknowledged, so the subscription stays, without credit.
	d.subscription.SetCredit(0)
}

// deliver is the hub's push. It does not wait for the client: stream takes the packet, or is closing.
func (c *connection) deliver(m store.Message) bool {
	topic := appendBag([]byte(c.base+"/messages/devicebound/"), &m, "/"+c.base+"/messages/devicebound")
	if len(topic) > maxTopic {
		c.rejectUndeliverable(&m)
		return true
	}
	d := &c.devicebound
	d.mu.Lock()
	qos := d.qos
	if qos == 0 {
		d.unwritten++
	}
	d.mu.Unlock()
	if qos == 0 {
		return c.push(appendPublish(nil, topic, 0, 0, m.Body), func() { c.written(m.LockToken) })
	}
	id := d.track(&m)
	var flags byte = 1 << 1
	if m.DeliveryCount > 1 {
		flags |= 1 << 3 // MQTT-3.3.1-1
	}
	return c.push(appendPublish(nil, topic, flags, id, m.Body), nil)
}

// maxTopic is the longest UTF-8 string of MQTT. MQTT 1.5.3.
const maxTopic = 1<<16 - 1

// track gives a message a packet id that no other unacknowledged one has (MQTT-2.3.1-2). A message whose lock ran out
// before its PUBACK came is sent again under the id it has, and does not use up the window twice.
func (d *devicebound) track(m *store.Message) uint16 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inflight == nil {
		d.inflight = map[uint16]delivery{}
	}
	if m.DeliveryCount > 1 {
		for id, old := range d.inflight {
			if old.sequence == m.Sequence {
				d.inflight[id] = delivery{token: m.LockToken, sequence: m.Sequence}
				d.addCredit()
				return id
			}
		}
	}
	for {
		d.lastID++
		if _, taken := d.inflight[d.lastID]; d.lastID != 0 && !taken {
			d.inflight[d.lastID] = delivery{token: m.LockToken, sequence: m.Sequence}
			return d.lastID
		}
	}
}

// puback handles PUBACK: the device has handled the message. The C# SDK acknowledges QoS 0 packets too, with id 0; that
// and ids nobody waits for are ignored.
func (c *connection) puback(id uint16) {
	d := &c.devicebound
	d.mu.Lock()
	sent, ok := d.inflight[id]
	delete(d.inflight, id)
	d.mu.Unlock()
	if !ok {
		return
	}
	c.complete(sent.token)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addCredit()
}

// written is called when a QoS 0 message has been handed to the socket: nothing better will ever be known of it.
func (c *connection) written(token string) {
	c.complete(token)
	d := &c.devicebound
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unwritten--
	d.addCredit()
}

func (c *connection) complete(token string) {
	if err := c.session.CompleteC2D(c.broker.ctx, token); err != nil {
		// The lock ran out or the queue was purged: the hub has decided already what becomes of the message.
		c.broker.log.Debug("a cloud-to-device message was acknowledged too late", append(c.identity(), "category", hub.C2DCommands, "error", err)...)
	}
}

// addCredit lets one more message come. The caller holds mu.
func (d *devicebound) addCredit() {
	if d.active {
		d.subscription.AddCredit(1)
	}
}

// rejectUndeliverable dead-letters a message that MQTT cannot carry, which would hold up those behind it for ever.
func (c *connection) rejectUndeliverable(m *store.Message) {
	ruleTopicTooLong.log(c.broker.log.With("category", hub.C2DCommands).With(c.identity()...), "cloud-to-device message rejected", slog.String("messageId", clip(m.MessageID)))
	if err := c.session.RejectC2D(c.broker.ctx, m.LockToken); err != nil {
		c.broker.log.Debug("an undeliverable message was gone before it was rejected", append(c.identity(), "category", hub.C2DCommands, "error", err)...)
	}
	d := &c.devicebound
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addCredit()
}

// appendPublish appends a PUBLISH; flags are the low bits of its first byte. RETAIN is never set.
func appendPublish(b, topic []byte, flags byte, id uint16, body []byte) []byte {
	n := 2 + len(topic) + len(body)
	if flags != 0 {
		n += 2
	}
	b = appendLength(append(b, packets.Publish<<4|flags), n)
	b = append(append(b, byte(len(topic)>>8), byte(len(topic))), topic...)
	if flags != 0 {
		b = append(b, byte(id>>8), byte(id))
	}
	return append(b, body...)
}
