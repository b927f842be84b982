package store

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// memConfigurations keeps configurations in the order of their ids. There are few of them.
type memConfigurations struct {
	mu     sync.RWMutex
	all    []Configuration
	writes uint64 // counts writes; the etags come from it
}

// reset empties it. Etags are not given a second time.
func (m *memConfigurations) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = nil
}

func (m *memConfigurations) locate(id string) (at int, found bool) {
	return slices.BinarySearchFunc(m.all, id, func(c Configuration, id string) int { return strings.Compare(c.ID, id) })
}

func (m *memConfigurations) nextETag() string {
	m.writes++
	return base64.StdEncoding.EncodeToString(strconv.AppendUint(nil, m.writes, 10))
}

// match finds a configuration for a write under a condition.
func (m *memConfigurations) match(id, ifMatch string) (at int, err error) {
	at, found := m.locate(id)
	switch {
	case !found:
		return 0, ErrNotFound
	case ifMatch != "*" && ifMatch != m.all[at].ETag:
		return 0, ErrConflict
	}
	return at, nil
}

// Create implements Configurations.
func (m *memConfigurations) Create(_ context.Context, c Configuration, limit int) (Configuration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, found := m.locate(c.ID)
	switch {
	case found:
		return Configuration{}, ErrExists
	case len(m.all) >= limit:
		return Configuration{}, ErrFull
	}
	c.ID, c.ETag = strings.Clone(c.ID), m.nextETag()
	m.all = slices.Insert(m.all, at, c)
	return c, nil
}

// Get implements Configurations.
func (m *memConfigurations) Get(_ context.Context, id string) (Configuration, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if at, found := m.locate(id); found {
		return m.all[at], nil
	}
	return Configuration{}, ErrNotFound
}

// Update implements Configurations.
func (m *memConfigurations) Update(_ context.Context, c Configuration, ifMatch string) (Configuration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.match(c.ID, ifMatch)
	if err != nil {
		return Configuration{}, err
	}
	c.ID, c.ETag = m.all[at].ID, m.nextETag()
	m.all[at] = c
	return c, nil
}

// Delete implements Configurations.
func (m *memConfigurations) Delete(_ context.Context, id string, ifMatch string) (Configuration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.match(id, ifMatch)
	if err != nil {
		return Configuration{}, err
	}
	removed := m.all[at]
	m.all = slices.Delete(m.all, at, at+1)
	return removed, nil
}

// List implements Configurations.
func (m *memConfigurations) List(context.Context) ([]Configuration, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Clone(m.all), nil
}
