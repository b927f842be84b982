package amqpsrv

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// Resources of twin requests and notifications.
const (
	resourceReported = "/properties/reported"
	resourceDesired  = "/properties/desired"
	resourceNotify   = "/notifications/twin/properties/desired"
)

// twin is /devices/{d}[/modules/{m}]/twin: an identity reads its twin, reports, and is told of desired properties.
type twin struct {
	*pair
	tags uint64 // guarded by unit.mu
}

// twinRequest is what a device asks of its twin.
type twinRequest struct {
	operation string // GET, PATCH, PUT or DELETE
	base      int64  // version that a patch was made for; 0: any
	body      []byte
}

// receive handles a request. It is accepted whatever the response says, and whether that has gone before or not (trap 18). A request that
// no response could be matched with is rejected, and nothing done.
func (t *twin) receive(d *amqp10.Delivery) {
	var m amqp10.Message
	if err := m.Decode(d.Payload, messageLimits); err != nil {
		t.p.settle(d, badEncoding(err))
		return
	}
	id := correlation(&m)
	if id == nil { // trap 17
		t.p.settle(d, badMessage("a request to a twin has no correlation-id"))
		return
	}
	response := t.answer(&m)
	response.Properties = &amqp10.Properties{CorrelationID: id}
	t.post(response)
	d.Accept()
}

// correlation returns the correlation-id of a message in the type that it came in (trap 7), nil when it has none or an empty one.
func correlation(m *amqp10.Message) any {
	if m.Properties == nil {
		return nil
	}
	switch id := m.Properties.CorrelationID.(type) {
	case string:
		if id == "" {
			return nil
		}
	case []byte:
		if len(id) == 0 {
			return nil
		}
	}
	return m.Properties.CorrelationID
}

// answer carries out a request and returns its response without correlation-id.
func (t *twin) answer(m *amqp10.Message) *amqp10.Message {
	r, problem := twinRequestOf(m)
	if problem != "" {
		return t.failure(t.p.srv.hub.NewError(hub.CodeArgumentInvalid, problem))
	}
	response, err := t.handle(&r)
	if err != nil {
		return t.failure(err)
	}
	return response
}

func (t *twin) handle(r *twinRequest) (*amqp10.Message, error) {
	switch r.operation {
	case "GET":
		properties, err := t.unit.session.Twin(t.p.ctx)
		if err != nil {
			return nil, err
		}
		return twinResponse(http.StatusOK, properties.AppendJSON(nil)), nil
	case "PATCH":
		version, err := t.unit.session.UpdateReported(t.p.ctx, r.body, r.base)
		if err != nil {
			return nil, err
		}
		response := twinResponse(http.StatusNoContent, nil)
		response.MessageAnnotations = append(response.MessageAnnotations, amqp10.Entry{Key: amqp10.Symbol("version"), Value: version})
		return response, nil
	}
	if err := t.listen(r.operation == "PUT"); err != nil {
		return nil, err
	}
	return twinResponse(http.StatusOK, nil), nil
}

// listen begins or ends the notifications of this pair.
func (t *twin) listen(on bool) error {
	t.unit.mu.Lock()
	was := t.listening
	t.listening = on
	t.unit.mu.Unlock()
	err := t.unit.subscribe()
	if err != nil {
		t.unit.mu.Lock()
		t.listening = was
		t.unit.mu.Unlock()
	}
	return err
}

// twinResponse has the annotations in the types that SDKs insist on, and a body of one data section or none (trap 16).
func twinResponse(status int, body []byte) *amqp10.Message {
	m := &amqp10.Message{MessageAnnotations: amqp10.Map{{Key: amqp10.Symbol("status"), Value: int32(status)}}}
	if body != nil {
		m.Body, m.Data = amqp10.BodyData, [][]byte{body}
	}
	return m
}

// failure is the response to a request that failed.
func (t *twin) failure(err error) *amqp10.Message {
	e := t.p.answer(err)
	return twinResponse(e.Status, t.p.srv.hub.AppendError(nil, e))
}

// post sends a message on the pair.
func (t *twin) post(m *amqp10.Message) {
	payload, err := m.Append(nil)
	if err != nil {
		t.p.log.Error("twin message cannot be encoded", "category", hub.D2CTwinOperations, "error", err)
		return
	}
	t.unit.mu.Lock()
	defer t.unit.mu.Unlock()
	t.send(payload)
}

// send sends an encoded message on the pair. unit.mu is held.
func (t *twin) send(payload []byte) {
	t.tags++
	w := parcel{payload: payload}
	binary.BigEndian.PutUint64(w.tag[8:], t.tags)
	t.out.send(w)
}

// tellDesired notifies every pair of the unit that listens. The hub calls it once at a time.
func (u *unit) tellDesired(c hub.DesiredChange) {
	m := &amqp10.Message{ // trap 17: without correlation-id
		MessageAnnotations: amqp10.Map{
			{Key: amqp10.Symbol("resource"), Value: resourceDesired},
			{Key: amqp10.Symbol("version"), Value: c.Version},
		},
		Body: amqp10.BodyData, Data: [][]byte{c.Patch},
	}
	payload, _ := m.Append(nil) // texts, a number and octets always encode
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, n := range u.pairs {
		if t, ok := n.talk.(*twin); ok && n.listening {
			t.send(payload)
		}
	}
}

// lost implements talk. A client that misses a response waits in vain, and one that misses a notification is wrong about its twin; so it
// loses its links, and starts afresh.
func (t *twin) lost(_ parcel, why loss) {
	switch why {
	case lossFull:
		t.giveUp(&amqp10.Error{Condition: amqp10.CondResourceLimitExceeded,
			Description: "Too many responses and notifications of the twin wait for credit on the link that receives them."})
	case lossTooLarge:
		t.giveUp(&amqp10.Error{Condition: amqp10.CondMessageSizeExceeded,
			Description: "A message of the twin is larger than the max-message-size of the link that receives it."})
	}
}

// refused implements talk.
func (t *twin) refused(_ []byte, st amqp10.DeliveryState) {
	t.p.log.Info("a message of the twin was refused by its receiver", "category", hub.D2CTwinOperations, "deviceId", t.unit.key.DeviceID, "moduleId", t.unit.key.ModuleID, "outcome", fmt.Sprintf("%T", st))
}

// twinRequestOf translates a request; problem says what is wrong with it. The body aliases m.
func twinRequestOf(m *amqp10.Message) (r twinRequest, problem string) {
	operation, resource := annotationText(m, "operation"), annotationText(m, "resource")
	if operation == nil || resource == nil {
		return r, "the annotations operation and resource must be strings"
	}
	r.operation = strings.ToUpper(*operation)
	want, known := twinResources[r.operation]
	switch {
	case !known:
		return r, fmt.Sprintf("the operation %q is not GET, PATCH, PUT or DELETE", shorten(*operation))
	case !strings.EqualFold(strings.TrimSuffix(*resource, "/"), want):
		return r, fmt.Sprintf("the resource %q does not know %s", shorten(*resource), r.operation)
	}
	if r.operation != "PATCH" {
		return r, "" // what SDKs send as body means nothing: a space, or no body at all
	}
	var ok bool
	if r.base, ok = integer(m.MessageAnnotations.Get("version")); !ok || r.base < 0 {
		return r, "the annotation version is not an integer from 0"
	}
	body, err := bodyOf(m)
	if err != nil {
		return r, "the body is neither data nor an amqp-value of text or binary"
	}
	r.body = body
	return r, ""
}

// twinResources names the resource of each operation.
var twinResources = map[string]string{"GET": "", "PATCH": resourceReported, "PUT": resourceNotify, "DELETE": resourceNotify}

// annotationText returns the text of an annotation, empty when it is absent or null (C# sends nulls), nil when it is no text.
func annotationText(m *amqp10.Message, key string) *string {
	switch v := m.MessageAnnotations.Get(key).(type) {
	case nil:
		return new(string)
	case string:
		return &v
	case amqp10.Symbol:
		text := string(v)
		return &text
	}
	return nil
}

// integer reads an integer of any AMQP type; null is 0.
func integer(v any) (n int64, ok bool) {
	switch v := v.(type) {
	case nil:
		return 0, true
	case int8:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case uint64:
		return int64(v), v < 1<<63
	}
	return 0, false
}
