package certs

import (
	"container/list"
	"crypto/tls"
	"sync"
	"time"
)

// leafCache keeps the most recently used leaf certificates. It makes each one once, however many ask for it together.
type leafCache struct {
	max int

	mu      sync.Mutex // guards what follows; not held while a leaf is made
	entries map[leafKey]*list.Element
	recent  list.List // of *leafEntry, the most recently used first
}

type leafEntry struct {
	key     leafKey
	renewAt time.Time
	once    sync.Once // guards what follows
	cert    *tls.Certificate
	err     error
}

func newLeafCache(max int) *leafCache {
	return &leafCache{max: max, entries: map[leafKey]*list.Element{}}
}

// get returns the leaf for key, and calls mint for it if none is kept or the kept one is due for renewal at now.
// A failure is not kept.
func (c *leafCache) get(key leafKey, now, renewAt time.Time, mint func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	e := c.entry(key, now, renewAt)
	e.once.Do(func() { e.cert, e.err = mint() })
	if e.err != nil {
		c.forget(e)
	}
	return e.cert, e.err
}

func (c *leafCache) entry(key leafKey, now, renewAt time.Time) *leafEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[key]; ok {
		if e := el.Value.(*leafEntry); now.Before(e.renewAt) {
			c.recent.MoveToFront(el)
			return e
		}
		c.remove(el)
	}
	for c.recent.Len() >= c.max {
		c.remove(c.recent.Back())
	}
	e := &leafEntry{key: key, renewAt: renewAt}
	c.entries[key] = c.recent.PushFront(e)
	return e
}

func (c *leafCache) forget(e *leafEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[e.key]; ok && el.Value.(*leafEntry) == e {
		c.remove(el)
	}
}

// remove assumes the lock.
func (c *leafCache) remove(el *list.Element) {
	delete(c.entries, el.Value.(*leafEntry).key)
	c.recent.Remove(el)
}

func (c *leafCache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len()
}
