package hub

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/iolite-emulator/iolite/store"
)

// HealthStatus is whether an endpoint takes messages (Azure Resource Manager: EndpointHealthStatus).
type HealthStatus string

// The health statuses.
const (
	HealthUnknown   HealthStatus = "unknown"   // no message was taken or refused yet
	HealthHealthy   HealthStatus = "healthy"   // takes messages
	HealthUnhealthy HealthStatus = "unhealthy" // takes none, and the hub tries again
	HealthDead      HealthStatus = "dead"      // has taken none for over an hour; messages as old as that are dropped
)

// EndpointHealth is the health of one custom endpoint (Azure Resource Manager: EndpointHealthData). Times are by the clock, zero when there is
// none.
type EndpointHealth struct {
	EndpointID                string // the endpoint's name
	Status                    HealthStatus
	LastKnownError            string // Transient, Unauthorized, Throttled, ...; empty when none
	LastKnownErrorTime        time.Time
	LastSuccessfulSendAttempt time.Time
	LastSendAttempt           time.Time
	Waiting                   int64 // messages that wait to be delivered; Azure does not tell
}

// EndpointHealth returns the health of the custom endpoints, in the order of the routing. An event hub of this process is healthy as soon as it
// holds a message.
func (h *Hub) EndpointHealth() []EndpointHealth {
	r := h.routings.current.Load()
	all := make([]EndpointHealth, 0, len(r.endpoints))
	for _, e := range r.endpoints[builtInPlace+1:] {
		if o := h.outlets.find(e.name); o != nil && e.external {
			all = append(all, o.tell())
			continue
		}
		one := EndpointHealth{EndpointID: e.name, Status: HealthUnknown}
		switch n := held(e.log); {
		case e.external:
			one.Waiting = n
		case n > 0:
			one.Status = HealthHealthy
		}
		all = append(all, one)
	}
	return all
}

// tell returns the health with the number of messages that wait.
func (o *outlet) tell() EndpointHealth {
	o.mu.Lock()
	health := o.health
	o.mu.Unlock()
	health.Waiting = held(o.log)
	return health
}

// held returns how many messages a log holds.
func held(log store.EventLog) (n int64) {
	for p := range log.Partitions() {
		if info, err := log.Info(context.Background(), p); err == nil {
			n += info.LastSequence + 1 - info.FirstSequence
		}
	}
	return n
}

func (o *outlet) attempting() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.health.LastSendAttempt = o.hub.clock.Now()
}

// healthy notes an attempt that was answered, and whether messages were taken.
func (o *outlet) healthy(took bool) {
	o.mu.Lock()
	before := o.health.Status
	o.health.Status = HealthHealthy
	if took {
		o.health.LastSuccessfulSendAttempt = o.health.LastSendAttempt
	}
	o.mu.Unlock()
	if before == HealthUnhealthy || before == HealthDead {
		o.note(slog.LevelInfo, "endpointHealthy", "the endpoint takes messages again")
	}
}

// refused notes that the endpoint works, but takes not every message.
func (o *outlet) refused(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.health.LastKnownError, o.health.LastKnownErrorTime = lastKnownError(err), o.hub.clock.Now()
}

// unhealthy notes an attempt in vain.
func (o *outlet) unhealthy(err error, dead bool) {
	status := HealthUnhealthy
	if dead {
		status = HealthDead
	}
	o.mu.Lock()
	before := o.health.Status
	o.health.Status, o.health.LastKnownError, o.health.LastKnownErrorTime = status, lastKnownError(err), o.hub.clock.Now()
	o.mu.Unlock()
	switch {
	case before == status:
		o.note(slog.LevelDebug, "endpointUnhealthy", "the endpoint still takes no messages", slog.Any("error", err))
	case dead:
		o.note(slog.LevelError, "endpointDead", "the endpoint has taken no messages for over an hour", slog.Any("error", err))
	default:
		o.note(slog.LevelWarn, "endpointUnhealthy", "the endpoint takes no messages; it is tried again", slog.Any("error", err))
	}
}

// died notes that the endpoint has taken nothing for an hour, when that shows without another attempt: nothing young waits.
func (o *outlet) died() {
	o.mu.Lock()
	before := o.health.Status
	o.health.Status = HealthDead
	o.mu.Unlock()
	if before != HealthDead {
		o.note(slog.LevelError, "endpointDead", "the endpoint has taken no messages for over an hour")
	}
}

// lastKnownError names an error as IoT Hub does (article "Troubleshoot message routing", section Last known errors).
func lastKnownError(err error) string {
	var named interface{ LastKnownError() string }
	if errors.As(err, &named) {
		return named.LastKnownError()
	}
	return "Transient"
}
