package store

import (
	"context"
	"fmt"
	"sync"
)

// memEventHubs are event logs by name. They share no glossary, so that dropping one frees all of it.
type memEventHubs struct {
	bytes int64 // memory for the events of each

	mu   sync.Mutex
	logs map[string]*memLog
}

func (m *memEventHubs) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logs = nil
}

// Open implements EventHubs.
func (m *memEventHubs) Open(_ context.Context, name string, partitions int) (EventLog, error) {
	if partitions < 1 || partitions > maxPartitions {
		return nil, fmt.Errorf("event hub %q: %d partitions are not between 1 and %d", name, partitions, maxPartitions)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.logs[name]; l != nil {
		return l, nil
	}
	if m.logs == nil {
		m.logs = map[string]*memLog{}
	}
	l := newMemLog(partitions, m.bytes)
	m.logs[name] = l
	return l, nil
}

// Drop implements EventHubs.
func (m *memEventHubs) Drop(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.logs, name)
	return nil
}
