package broker

import (
	"strconv"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/hub"
)

// methodResponse is what a device publishes when it has carried out a direct method.
type methodResponse struct {
	status int
	id     uint64 // of the request; 0 for a $rid that the hub never gave
}

// parseMethodTopic reads $iothub/methods/res/{status}/?$rid={id}. ok is false for what is no such topic: a status that is no integer of 32 bits,
// or no $rid at all.
func parseMethodTopic(topic string) (r methodResponse, ok bool) {
	rest, ok := strings.CutPrefix(topic, "$iothub/methods/res/")
	if !ok {
		return r, false
	}
	status, query, ok := strings.Cut(rest, "/?")
	if !ok || strings.IndexByte(query, '#') >= 0 {
		return r, false
	}
	n, err := strconv.ParseInt(status, 10, 32)
	if err != nil {
		return r, false
	}
	for entry := range strings.SplitSeq(query, "&") {
		if id, ok := strings.CutPrefix(entry, "$rid="); ok {
			return methodResponse{status: int(n), id: parseMethodID(id)}, true
		}
	}
	return r, false
}

// parseMethodID returns the id that the hub gave a request, 0 for what it never gives.
func parseMethodID(text string) uint64 {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return id
}

// respond handles a PUBLISH to a response topic. The hub ignores a response that nobody waits for; it is acknowledged all the same.
func (c *connection) respond(r methodResponse, pk *packets.Packet) error {
	if r.id != 0 {
		c.session.RespondMethod(r.id, r.status, pk.Payload)
	}
	return c.acknowledge(pk)
}

// deliverMethod is the hub's push of a direct method. IoT Hub: with QoS 0, whatever the subscription's. C# takes the name and the rest of the
// last segment as they are, so nothing is encoded and nothing follows the rid.
func (c *connection) deliverMethod(r hub.MethodRequest) bool {
	topic := append(append([]byte("$iothub/methods/POST/"), r.Name...), "/?$rid="...)
	topic = strconv.AppendUint(topic, r.ID, 10)
	return c.push(appendPublish(nil, topic, 0, 0, r.Payload), nil)
}
