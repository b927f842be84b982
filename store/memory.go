package store

import "context"

// MemoryOptions configure the in-memory engine; zero values mean the defaults in brackets.
type MemoryOptions struct {
	Partitions int   // of the event log, 1..256 [4]
	EventBytes int64 // memory for events, an equal share for each partition; in each the oldest go first [128 MiB]
	HubBytes   int64 // the same for each of EventHubs [32 MiB]
}

// Defaults of MemoryOptions. Four partitions are what a new IoT hub has.
const (
	defaultPartitions = 4
	maxPartitions     = 256
	defaultEventBytes = 128 << 20
	defaultHubBytes   = 32 << 20
)

// Memory is an Engine that lives as long as its process. Its parts lock for themselves and never call out while they hold
// a lock, so that callers may hold locks of their own around any call.
type Memory struct {
	registry    memRegistry
	jobs        memJobs
	configs     memConfigurations
	devicebound *memQueues
	feedback    *memQueues
	uploads     memUploads
	files       *memQueues
	events      *memLog
	eventHubs   memEventHubs
}

// NewMemory returns an empty engine.
func NewMemory(o MemoryOptions) *Memory {
	if o.Partitions <= 0 {
		o.Partitions = defaultPartitions
	}
	if o.EventBytes <= 0 {
		o.EventBytes = defaultEventBytes
	}
	if o.HubBytes <= 0 {
		o.HubBytes = defaultHubBytes
	}
	m := &Memory{
		devicebound: newMemQueues(),
		feedback:    newMemQueues(),
		files:       newMemQueues(),
		events:      newMemLog(min(o.Partitions, maxPartitions), o.EventBytes),
	}
	m.eventHubs.bytes = o.HubBytes
	m.registry.reset()
	m.jobs.reset()
	m.uploads.reset()
	return m
}

// Registry implements Engine.
func (m *Memory) Registry() Registry { return &m.registry }

// Twins implements Engine.
func (m *Memory) Twins() Twins { return &m.registry }

// Jobs implements Engine.
func (m *Memory) Jobs() Jobs { return &m.jobs }

// Configurations implements Engine.
func (m *Memory) Configurations() Configurations { return &m.configs }

// Devicebound implements Engine.
func (m *Memory) Devicebound() Queues { return m.devicebound }

// Feedback implements Engine.
func (m *Memory) Feedback() Queues { return m.feedback }

// Uploads implements Engine.
func (m *Memory) Uploads() Uploads { return &m.uploads }

// FileNotifications implements Engine.
func (m *Memory) FileNotifications() Queues { return m.files }

// Events implements Engine.
func (m *Memory) Events() EventLog { return m.events }

// EventHubs implements Engine.
func (m *Memory) EventHubs() EventHubs { return &m.eventHubs }

// Reset implements Engine. What readers already hold stays valid.
func (m *Memory) Reset(context.Context) error {
	m.registry.reset()
	m.jobs.reset()
	m.configs.reset()
	m.devicebound.reset()
	m.feedback.reset()
	m.uploads.reset()
	m.files.reset()
	m.events.reset()
	m.eventHubs.reset()
	return nil
}
