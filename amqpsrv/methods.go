package amqpsrv

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"math"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// Application properties of direct methods (trap 22).
const (
	methodName   = "IoThub-methodname"
	methodStatus = "IoThub-status"
)

// methods is /devices/{d}[/modules/{m}]/methods/devicebound: an identity receives direct methods on one link and responds on the other.
type methods struct{ *pair }

// methodIDs turns the hub's numbers of a session's requests into the uuids that go over the wire, and back: a uuid of version 4, drawn
// for the session, in which the last seven octets are added to without carry. Node takes only real uuids for such, and a response to
// another session of the connection must not be taken for one to this.
type methodIDs amqp10.UUID

func newMethodIDs() (ids methodIDs) {
	_, _ = rand.Read(ids[:]) // it never fails
	ids[6] = ids[6]&0x0f | 0x40
	ids[8] = ids[8]&0x3f | 0x80
	return ids
}

// low is the part of a uuid in which the number is.
func low(b []byte) uint64 { return binary.BigEndian.Uint64(b[8:]) & (1<<56 - 1) }

// uuid returns the uuid of a request; nobody makes 2^56 of them.
func (ids methodIDs) uuid(id uint64) amqp10.UUID {
	u := amqp10.UUID(ids)
	high := binary.BigEndian.Uint64(u[8:]) &^ (1<<56 - 1)
	binary.BigEndian.PutUint64(u[8:], high|low(u[:])^id)
	return u
}

// id is the inverse of uuid; false for a uuid of somebody else.
func (ids methodIDs) id(u amqp10.UUID) (uint64, bool) {
	return low(u[:]) ^ low(ids[:]), [9]byte(u[:9]) == [9]byte(ids[:9])
}

// takesMethods says whether the pair is one of methods, and whole. unit.mu is held.
func (n *pair) takesMethods() bool {
	return n.kind == kindMethods && n.in != nil && n.out.link != nil && !n.out.shut
}

// bringMethod sends a request to the newest pair that can respond. The hub calls it from any goroutine.
func (u *unit) bringMethod(r hub.MethodRequest) bool {
	id := u.methodIDs.uuid(r.ID)
	payload, err := methodRequest(id, &r)
	if err != nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := len(u.pairs) - 1; i >= 0; i-- {
		if n := u.pairs[i]; n.takesMethods() {
			n.out.send(parcel{tag: id, method: r.ID, payload: payload})
			return true
		}
	}
	return false
}

// methodRequest encodes a request: the correlation-id is a uuid (trap 7), the body one data section (trap 22).
func methodRequest(id amqp10.UUID, r *hub.MethodRequest) ([]byte, error) {
	m := amqp10.Message{
		Properties:            &amqp10.Properties{CorrelationID: id},
		ApplicationProperties: amqp10.Map{{Key: methodName, Value: r.Name}},
		Body:                  amqp10.BodyData, Data: [][]byte{r.Payload},
	}
	return m.Append(nil)
}

// lost implements talk: the call fails at once.
func (t *methods) lost(w parcel, why loss) {
	key := t.unit.key.String()
	code, details := hub.CodeConnectionClosed, []string{key}
	switch why {
	case lossFull:
		code, details = hub.CodeBadGateway, []string{key + " grants no credit for direct methods, and too many requests wait already"}
	case lossTooLarge:
		code, details = hub.CodeMessageTooLarge, []string{key + " takes no request of that size"}
	}
	t.unit.session.FailMethod(w.method, t.p.srv.hub.NewError(code, details...))
}

// refused implements talk: who refuses a request will not respond to it.
func (t *methods) refused(tag []byte, _ amqp10.DeliveryState) {
	if len(tag) != 16 {
		return
	}
	if id, ok := t.unit.methodIDs.id(amqp10.UUID(tag)); ok {
		t.unit.session.FailMethod(id, t.p.srv.hub.NewError(hub.CodeBadGateway, t.unit.key.String()+" refused the request"))
	}
}

// receive handles a response, from whichever link of the identity it comes. One to a call that nobody waits for is accepted: the hub
// ignores it.
func (t *methods) receive(d *amqp10.Delivery) {
	var m amqp10.Message
	if err := m.Decode(d.Payload, messageLimits); err != nil {
		t.p.settle(d, badEncoding(err))
		return
	}
	u, ok := uuidOf(correlation(&m))
	if !ok {
		t.p.settle(d, badMessage("the correlation-id of a response is not the uuid of its request"))
		return
	}
	if id, ours := t.unit.methodIDs.id(u); ours {
		t.p.settle(d, t.respond(id, &m))
		return
	}
	t.p.log.Debug("response to a method that was not called here", "category", hub.DirectMethods, "deviceId", t.unit.key.DeviceID, "moduleId", t.unit.key.ModuleID)
	d.Accept()
}

// respond gives the hub a response. One that cannot be read ends the call, too.
func (t *methods) respond(id uint64, m *amqp10.Message) error {
	status, body, err := methodResponseOf(m)
	if err != nil {
		t.unit.session.FailMethod(id, t.p.srv.hub.NewError(hub.CodeBadGateway, t.p.asError(err).Description))
		return err
	}
	t.unit.session.RespondMethod(id, status, body)
	return nil
}

// methodResponseOf translates a response; the body aliases m.
func methodResponseOf(m *amqp10.Message) (status int, body []byte, err error) {
	v := m.ApplicationProperties.Get(methodStatus)
	n, ok := integer(v)
	if v == nil || !ok || n < math.MinInt32 || n > math.MaxInt32 {
		return 0, nil, badMessage("the response has no application property " + methodStatus + " that is an int")
	}
	body, err = bodyOf(m)
	return int(n), body, err
}

// uuidOf reads a correlation-id that stands for a uuid: as such, or as text (Node sends that when in doubt).
func uuidOf(id any) (u amqp10.UUID, ok bool) {
	switch v := id.(type) {
	case amqp10.UUID:
		return v, true
	case string:
		return parseUUID(v)
	}
	return u, false
}

// parseUUID is the inverse of UUID.String; upper case will do.
func parseUUID(s string) (u amqp10.UUID, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, false
	}
	digits := []byte(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	_, err := hex.Decode(u[:], digits)
	return u, err == nil
}
