package broker

import (
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/hub"
)

// maxRequestID is the longest $rid that is answered, in bytes: the topic of an answer must hold it.
const maxRequestID = maxTopic - 64

// twinRequest is what a device publishes to read its twin or to report properties.
type twinRequest struct {
	report bool   // a patch of the reported properties; otherwise a GET
	rid    string // as it came, "" when there is none
	base   int64  // $version: what the patch was made for; 0 for any
	bad    string // what is wrong with $version, "" when nothing is
}

// parseTwinTopic reads $iothub/twin/GET/?$rid={rid} and $iothub/twin/PATCH/properties/reported/?$rid={rid}[&$version={base}], in any order of
// the parameters; others are ignored. The rid points into topic.
func parseTwinTopic(topic string) (r twinRequest, ok bool) {
	rest, ok := strings.CutPrefix(topic, "$iothub/twin/")
	if !ok || strings.IndexByte(rest, '#') >= 0 {
		return r, false
	}
	query, ok := operation(rest, "GET")
	if !ok {
		if query, ok = operation(rest, "PATCH/properties/reported"); !ok {
			return r, false
		}
		r.report = true
	}
	for entry := range strings.SplitSeq(query, "&") {
		switch name, value, _ := strings.Cut(entry, "="); name {
		case "$rid":
			r.rid = value
		case "$version":
			r.base, r.bad = parseVersion(value)
		}
	}
	return r, true
}

// operation returns the query behind the name of an operation: name, name/, name/?query.
func operation(topic, name string) (query string, ok bool) {
	rest, ok := strings.CutPrefix(topic, name)
	if !ok || rest == "" || rest == "/" {
		return "", ok
	}
	return strings.CutPrefix(rest, "/?")
}

func parseVersion(text string) (version int64, problem string) {
	version, err := strconv.ParseInt(text, 10, 64)
	if err != nil || version < 1 {
		return 0, "$version is no version of a twin"
	}
	return version, ""
}

// answerTwin handles a PUBLISH to a twin topic. QoS 1 is acknowledged once the hub has done what was asked, before the answer.
func (c *connection) answerTwin(r twinRequest, pk *packets.Packet) error {
	if r.rid == "" || len(r.rid) > maxRequestID {
		c.warnRequestID(pk.TopicName)
		return c.acknowledge(pk)
	}
	answer := replies.Get().(*reply)
	defer answer.release()
	var err error
	if r.report {
		err = c.reportTwin(answer, r, pk.Payload)
	} else {
		err = c.readTwin(answer, r)
	}
	if err != nil {
		if err = c.refuseTwin(answer, r, err); err != nil {
			return err
		}
	}
	if err := c.acknowledge(pk); err != nil {
		return err
	}
	if !c.subscriptions.has(filterTwinResponses) {
		return nil // IoT Hub: "subscribe to $iothub/twin/res/#" to receive responses
	}
	answer.packet = appendPublish(answer.packet[:0], answer.topic, 0, 0, answer.body)
	return c.send(answer.packet)
}

// warnRequestID says once for each connection why a request is not answered.
func (c *connection) warnRequestID(topic string) {
	if c.ridWarned {
		return
	}
	c.ridWarned = true
	ruleNoRequestID.log(c.broker.log.With("category", hub.D2CTwinOperations).With(c.identity()...), "MQTT twin request ignored", slog.String("topic", clip(topic)))
}

// reply is the memory that the answer to one twin request is made in.
type reply struct{ topic, body, packet []byte }

var replies = sync.Pool{New: func() any { return new(reply) }}

func (r *reply) release() {
	if cap(r.packet) > keepBuffer || cap(r.body) > keepBuffer {
		*r = reply{}
	}
	r.topic, r.body, r.packet = r.topic[:0], r.body[:0], r.packet[:0]
	replies.Put(r)
}

// address begins the answer's topic. C# reads $rid as the first parameter, and both dollars as they are.
func (r *reply) address(status int, rid string) {
	r.topic = strconv.AppendInt(append(r.topic[:0], "$iothub/twin/res/"...), int64(status), 10)
	r.topic = append(append(r.topic, "/?$rid="...), rid...)
}

// readTwin answers with desired and reported properties.
func (c *connection) readTwin(answer *reply, r twinRequest) error {
	if err := c.needVersion(); err != nil {
		return err
	}
	t, err := c.session.Twin(c.broker.ctx)
	if err != nil {
		return err
	}
	answer.address(200, r.rid)
	answer.body = t.AppendJSON(answer.body[:0])
	return nil
}

// reportTwin merges a patch into the reported properties.
func (c *connection) reportTwin(answer *reply, r twinRequest, patch []byte) error {
	if err := c.needVersion(); err != nil {
		return err
	}
	if r.bad != "" {
		return c.broker.hub.NewError(hub.CodeArgumentInvalid, r.bad)
	}
	version, err := c.session.UpdateReported(c.broker.ctx, patch, r.base)
	if err != nil {
		return err
	}
	answer.address(204, r.rid)
	answer.topic = strconv.AppendInt(append(answer.topic, "&$version="...), version, 10)
	answer.body = answer.body[:0]
	return nil
}

// needVersion refuses twins to who named no api-version. Seen on the real hub: "400" to a patch.
func (c *connection) needVersion() error {
	if c.versioned {
		return nil
	}
	return c.broker.hub.NewError(hub.CodeInvalidProtocolVersion, "twins need an api-version in the user name of CONNECT")
}

// refuseTwin makes the answer that tells an error, or ends the connection because the hub has ended the session.
func (c *connection) refuseTwin(answer *reply, r twinRequest, err error) error {
	e := c.broker.hub.Answer(hub.Peer{Conn: c.conn, Key: c.key, Category: hub.D2CTwinOperations}, err)
	if endsSession(e.Code) {
		c.endedByHub(e)
		return errEnded
	}
	answer.address(e.Status, r.rid)
	answer.body = c.broker.hub.AppendError(answer.body[:0], e)
	return nil
}

// endsSession tells the errors that a session ends with from those of one request.
func endsSession(code hub.Code) bool {
	switch code {
	case hub.CodeConnectionReplaced, hub.CodeTokenExpired, hub.CodeDeviceDisabled, hub.CodeDeviceNotFound, hub.CodeModuleNotFound, hub.CodeClosed:
		return true
	}
	return false
}

// deliverDesired is the hub's push of a change of desired properties.
func (c *connection) deliverDesired(change hub.DesiredChange) {
	topic := strconv.AppendInt([]byte("$iothub/twin/PATCH/properties/desired/?$version="), change.Version, 10)
	c.push(appendPublish(nil, topic, 0, 0, change.Patch), nil)
}
