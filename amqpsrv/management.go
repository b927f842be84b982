package amqpsrv

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// The types of entities that $management tells about.
const (
	typeEventHub  = "com.microsoft:eventhub"
	typePartition = "com.microsoft:partition"
)

// management is {event hub}/$management: it tells about the event hub and its partitions.
type management struct {
	p       *peer
	service *hub.ServiceSession // nil when each request brings its own token
	message amqp10.Message
}

func (p *peer) attachManagement(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	if err := p.srv.hub.HasEventHub(a.entity); err != nil {
		return nil, p.asError(err)
	}
	l.SetMaxMessageSize(maxRequest)
	n := &management{p: p}
	if len(p.grants.general) == 0 {
		return n, nil // azure-messaging-eventhubs for Java puts no token for this link, only into the requests
	}
	var err *amqp10.Error
	if n.service, err = p.service(l, append(p.managementPaths(), a.path)...); err != nil {
		return nil, p.misspelt(err)
	}
	return n, nil
}

// managementPaths are what clients of "$management" put tokens for.
func (p *peer) managementPaths() []string {
	paths := p.srv.hub.EventHubNames()
	for i, name := range paths {
		paths[i] = name + "/$management"
	}
	return paths
}

// misspelt returns, in place of a refusal, that there is no such event hub, when that is what the connection's tokens are for: a
// client of "$management" names its event hub nowhere else at this point.
func (p *peer) misspelt(refused *amqp10.Error) *amqp10.Error {
	for _, principal := range p.grants.general {
		entity, _, _ := strings.Cut(principal.Scope, "/")
		if err := p.srv.hub.HasEventHub(entity); err != nil && principal.Rights.Has(auth.ServiceConnect) {
			return p.asError(err)
		}
	}
	return refused
}

// Detached implements amqp10.Node.
func (n *management) Detached(*amqp10.Link, *amqp10.Error) {
	if n.service != nil {
		n.p.leaveService(n.service)
	}
}

// Receive implements amqp10.Receiver.
func (n *management) Receive(l *amqp10.Link, d *amqp10.Delivery) {
	if err := n.message.Decode(d.Payload, messageLimits); err != nil {
		n.p.settle(d, badEncoding(err))
		return
	}
	d.Accept()
	reply := n.handle(&n.message)
	if err := n.p.repliesOf(l.Session(), kindManagement).send(replyTo(&n.message), reply); err != nil {
		n.p.log.Error("reply of $management not sent", "category", hub.DeviceTelemetry, "error", err)
	}
}

// handle answers a request.
func (n *management) handle(m *amqp10.Message) *amqp10.Message {
	body, err := n.read(m.ApplicationProperties)
	if err != nil {
		return n.refusal(m, err)
	}
	reply := answer(m, http.StatusOK, "OK")
	reply.Value = body
	return reply
}

// authorise returns the session to read with: the link's, or one for the request's own token, which end closes.
func (n *management) authorise(request amqp10.Map) (s *hub.ServiceSession, end func(), err error) {
	if n.service != nil {
		return n.service, func() {}, nil
	}
	principal, err := n.p.srv.hub.Authenticate(n.p.ctx, hub.Credential{Token: request.Text("security_token")}, store.Key{})
	if err != nil {
		return nil, nil, err
	}
	if s, err = n.p.srv.hub.OpenService(n.p.ctx, principal, n.p.door); err != nil {
		return nil, nil, err
	}
	return s, s.Close, nil
}

// refusal is an answer whose condition is given as Event Hubs clients expect it. azeventhubs takes 404 as final, and would try 400
// again until its deadline.
func (n *management) refusal(m *amqp10.Message, err error) *amqp10.Message {
	status := http.StatusBadRequest
	var known *hub.Error
	if errors.As(err, &known) {
		status = known.Status
	}
	e := n.p.asError(err)
	if known == nil && e.Condition == amqp10.CondNotImplemented {
		status = http.StatusNotImplemented
	}
	reply := answer(m, status, e.Description)
	reply.ApplicationProperties = append(reply.ApplicationProperties, amqp10.Entry{Key: "error-condition", Value: e.Condition})
	return reply
}

func (n *management) read(request amqp10.Map) (amqp10.Map, error) {
	if operation := request.Text("operation"); !strings.EqualFold(operation, "READ") {
		return nil, notImplemented(fmt.Sprintf("The operation %q is not known; $management takes READ.", shorten(operation)))
	}
	name := request.Text("name")
	if name == "" {
		return nil, badMessage("The request names no event hub.")
	}
	if err := n.p.srv.hub.HasEventHub(name); err != nil {
		return nil, err
	}
	service, end, err := n.authorise(request)
	if err != nil {
		return nil, err
	}
	defer end()
	switch request.Text("type") {
	case typeEventHub:
		return n.eventHub(service, name)
	case typePartition:
		return n.partition(service, name, request.Text("partition"))
	}
	return nil, badMessage(fmt.Sprintf("The entity type %q is not known.", shorten(request.Text("type"))))
}

func (n *management) eventHub(service *hub.ServiceSession, name string) (amqp10.Map, error) {
	h, err := service.EventHub(n.p.ctx, name)
	if err != nil {
		return nil, err
	}
	return amqp10.Map{
		{Key: "name", Value: h.Name},
		{Key: "type", Value: typeEventHub},
		{Key: "created_at", Value: amqp10.TimestampOf(h.Created)},
		{Key: "partition_count", Value: int32(len(h.PartitionIDs))},
		{Key: "partition_ids", Value: h.PartitionIDs},
		{Key: "georeplication_factor", Value: int32(1)},
	}, nil
}

func (n *management) partition(service *hub.ServiceSession, name, id string) (amqp10.Map, error) {
	info, err := service.Partition(n.p.ctx, name, id)
	if err != nil {
		return nil, err
	}
	last := lastOf(info.PartitionInfo)
	return amqp10.Map{
		{Key: "name", Value: info.EventHub},
		{Key: "type", Value: typePartition},
		{Key: "partition", Value: info.ID},
		{Key: "begin_sequence_number", Value: info.FirstSequence},
		{Key: "last_enqueued_sequence_number", Value: last.sequence},
		{Key: "last_enqueued_offset", Value: last.offset},
		{Key: "last_enqueued_time_utc", Value: last.enqueued},
		{Key: "is_partition_empty", Value: info.LastSequence < info.FirstSequence},
	}, nil
}

// yearOne is the time of the last event of a partition that never had one: .NET's DateTime.MinValue.
var yearOne = amqp10.TimestampOf(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))
