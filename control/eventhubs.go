package control

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/hub"
)

// maxEventHubBody bounds the body of a PUT of an event hub, in bytes: twenty names of consumer groups fit many times.
const maxEventHubBody = 16 << 10

// EventHub describes an event hub: the built-in Event Hubs-compatible endpoint, or another one in this process.
type EventHub struct {
	Name           string      `json:"name"`
	BuiltIn        bool        `json:"builtIn"`
	CreatedAt      time.Time   `json:"createdAt"`
	Partitions     []Partition `json:"partitions"`
	ConsumerGroups []string    `json:"consumerGroups"`

	ConnectionString         string `json:"connectionString"`         // over TLS
	EmulatorConnectionString string `json:"emulatorConnectionString"` // plain AMQP, with UseDevelopmentEmulator=true
}

// Partition describes a partition, as $management does.
type Partition struct {
	ID                         string     `json:"id"`
	BeginSequenceNumber        int64      `json:"beginSequenceNumber"`
	LastEnqueuedSequenceNumber int64      `json:"lastEnqueuedSequenceNumber"`    // one less than the first when there was none
	LastEnqueuedOffset         string     `json:"lastEnqueuedOffset"`            // "-1" when there was none
	LastEnqueuedTime           *time.Time `json:"lastEnqueuedTimeUtc,omitempty"` // absent when there was none
	IsEmpty                    bool       `json:"isEmpty"`
}

// EventHubs is the answer of GET /iolite/v1/eventhubs.
type EventHubs struct {
	EventHubs []EventHub `json:"eventHubs"`
}

// EventHubChange is the body of PUT /iolite/v1/eventhubs/{name}.
type EventHubChange struct {
	Partitions     int      `json:"partitions,omitempty"` // 1 to 32 [4]
	ConsumerGroups []string `json:"consumerGroups"`       // besides $Default
}

// ConsumerGroup describes a consumer group and who reads for it.
type ConsumerGroup struct {
	EventHub  string    `json:"eventHub"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"createdAt"`
	Readers   []Reader  `json:"readers"`
}

// Reader describes a receiver of one partition.
type Reader struct {
	Partition  string `json:"partition"`
	OwnerLevel *int64 `json:"ownerLevel,omitempty"` // absent for one without
	Name       string `json:"name,omitempty"`
	Remote     string `json:"remote,omitempty"`
}

// eventHub describes one event hub with its partitions.
func (s *Server) eventHub(r *http.Request, admin *hub.ServiceSession, e *hub.EventHub) (EventHub, error) {
	out := EventHub{Name: e.Name, BuiltIn: e.BuiltIn, CreatedAt: e.Created, Partitions: []Partition{}, ConsumerGroups: e.ConsumerGroups}
	info := s.Info()
	out.ConnectionString = forEntity(info.EventHubsConnectionString, info.Hub, e.Name)
	out.EmulatorConnectionString = forEntity(info.EmulatorConnectionString, info.Hub, e.Name)
	for _, id := range e.PartitionIDs {
		info, err := admin.Partition(r.Context(), e.Name, id)
		if err != nil {
			return out, err
		}
		out.Partitions = append(out.Partitions, partitionOf(&info))
	}
	return out, nil
}

// forEntity is the built-in endpoint's connection string for another event hub.
func forEntity(connection, builtIn, name string) string {
	return strings.TrimSuffix(connection, "EntityPath="+builtIn) + "EntityPath=" + name
}

func partitionOf(info *hub.Partition) Partition {
	p := Partition{
		ID: info.ID, BeginSequenceNumber: info.FirstSequence, LastEnqueuedSequenceNumber: info.LastSequence,
		LastEnqueuedOffset: strconv.FormatInt(info.LastOffset, 10), IsEmpty: info.LastSequence < info.FirstSequence,
	}
	if !info.LastEnqueued.IsZero() {
		p.LastEnqueuedTime = &info.LastEnqueued
	}
	return p
}

// getEventHubs is GET /iolite/v1/eventhubs.
func (s *Server) getEventHubs(w http.ResponseWriter, r *http.Request) {
	admin := s.Hub.Admin()
	all, err := admin.EventHubs(r.Context())
	if err != nil {
		failed(w, err)
		return
	}
	list := EventHubs{EventHubs: []EventHub{}}
	for i := range all {
		if e, err := s.eventHub(r, admin, &all[i]); err == nil { // else it has gone meanwhile
			list.EventHubs = append(list.EventHubs, e)
		}
	}
	reply(w, http.StatusOK, list)
}

// getEventHub is GET /iolite/v1/eventhubs/{name}.
func (s *Server) getEventHub(w http.ResponseWriter, r *http.Request) {
	e, err := s.Hub.Admin().EventHub(r.Context(), param(r, "name"))
	s.replyEventHub(w, r, &e, err)
}

func (s *Server) replyEventHub(w http.ResponseWriter, r *http.Request, e *hub.EventHub, err error) {
	if err != nil {
		failed(w, err)
		return
	}
	out, err := s.eventHub(r, s.Hub.Admin(), e)
	if err != nil {
		failed(w, err)
		return
	}
	reply(w, http.StatusOK, out)
}

// putEventHub is PUT /iolite/v1/eventhubs/{name}; the body may be empty.
func (s *Server) putEventHub(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, maxEventHubBody)
	if !ok {
		return
	}
	change := EventHubChange{Partitions: 4}
	if len(body) > 0 {
		if err := decode(body, &change); err != nil {
			problem(w, http.StatusBadRequest, `the body must be like {"partitions":4,"consumerGroups":["dashboard"]}: `+err.Error())
			return
		}
	}
	e, err := s.Hub.Admin().PutEventHub(r.Context(), param(r, "name"), change.Partitions, change.ConsumerGroups...)
	s.replyEventHub(w, r, &e, err)
}

// deleteEventHub is DELETE /iolite/v1/eventhubs/{name}.
func (s *Server) deleteEventHub(w http.ResponseWriter, r *http.Request) {
	done(w, s.Hub.Admin().DeleteEventHub(r.Context(), param(r, "name")))
}

// getConsumerGroup is GET /iolite/v1/eventhubs/{name}/consumergroups/{group}.
func (s *Server) getConsumerGroup(w http.ResponseWriter, r *http.Request) {
	g, err := s.Hub.Admin().ConsumerGroup(r.Context(), param(r, "name"), param(r, "group"))
	if err != nil {
		failed(w, err)
		return
	}
	out := ConsumerGroup{EventHub: g.EventHub, Name: g.Name, CreatedAt: g.Created, Readers: []Reader{}}
	for _, one := range g.Readers {
		out.Readers = append(out.Readers, Reader(one))
	}
	reply(w, http.StatusOK, out)
}

// putConsumerGroup is PUT /iolite/v1/eventhubs/{name}/consumergroups/{group}, without a body.
func (s *Server) putConsumerGroup(w http.ResponseWriter, r *http.Request) {
	if err := s.Hub.Admin().PutConsumerGroup(r.Context(), param(r, "name"), param(r, "group")); err != nil {
		failed(w, err)
		return
	}
	s.getConsumerGroup(w, r)
}

// deleteConsumerGroup is DELETE /iolite/v1/eventhubs/{name}/consumergroups/{group}.
func (s *Server) deleteConsumerGroup(w http.ResponseWriter, r *http.Request) {
	done(w, s.Hub.Admin().DeleteConsumerGroup(r.Context(), param(r, "name"), param(r, "group")))
}
