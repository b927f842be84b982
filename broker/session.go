package broker

import (
	"sync"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// keptSession is what is kept for an identity between connections with CleanSession=0: its subscriptions. Its messages
// wait in the hub's queue, whoever connects how.
type keptSession struct {
	generation    string // of the identity; a device created anew under an old name is another device
	subscriptions subscriptions
}

// sessions keeps the sessions of identities that exist. Deleted identities are found when they are asked for and when the
// number of sessions has doubled since the last look.
type sessions struct {
	generation func(store.Key) (string, bool) // of a registered identity

	mu    sync.Mutex
	kept  map[store.Key]keptSession
	sweep int // when there are so many, look for dead ones
}

// minSweep is the smallest number of sessions that is worth a look for dead ones.
const minSweep = 1024

func newSessions(generation func(store.Key) (string, bool)) *sessions {
	return &sessions{generation: generation, kept: map[store.Key]keptSession{}, sweep: minSweep}
}

// find returns the session kept for an identity of that generation.
func (s *sessions) find(key store.Key, generation string) (keptSession, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kept[key]
	return k, ok && k.generation == generation
}

// keep stores a session.
func (s *sessions) keep(key store.Key, k keptSession) {
	s.mu.Lock()
	s.kept[key] = k
	full := len(s.kept) >= s.sweep
	s.mu.Unlock()
	if full {
		s.dropDead()
	}
}

// drop forgets a session.
func (s *sessions) drop(key store.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, key)
}

// dropDead forgets the sessions of identities that are gone. It asks the registry without holding the lock.
func (s *sessions) dropDead() {
	s.mu.Lock()
	s.sweep = 2 * len(s.kept) // whoever comes meanwhile does not look too
	candidates := make(map[store.Key]string, len(s.kept))
	for key, k := range s.kept {
		candidates[key] = k.generation
	}
	s.mu.Unlock()
	for key, kept := range candidates {
		if now, ok := s.generation(key); ok && now == kept {
			delete(candidates, key)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, generation := range candidates {
		if s.kept[key].generation == generation {
			delete(s.kept, key)
		}
	}
	s.sweep = max(minSweep, 2*len(s.kept))
}

// generation asks the registry for an identity's generation.
func (b *Broker) generation(key store.Key) (string, bool) {
	d, err := b.hub.Admin().Identity(b.ctx, key)
	return d.GenerationID, err == nil
}

// inherit takes over the identity's session or, with CleanSession=1, forgets it, and returns the flag session present.
// MQTT-3.1.2-4 to -6, MQTT-3.2.2-2.
func (c *connection) inherit(clean bool) (present byte) {
	c.clean = clean
	if clean {
		c.broker.sessions.drop(c.key)
		return 0
	}
	generation, ok := c.broker.generation(c.key)
	if !ok {
		c.clean = true // deleted this moment; the session ends at once
		return 0
	}
	c.generation = generation
	kept, ok := c.broker.sessions.find(c.key, generation)
	if !ok {
		c.setSubscriptions(subscriptions{})
		return 0
	}
	c.subscriptions = kept.subscriptions
	return 1
}

// identityGone reports whether the hub ended the session because the identity was deleted, or all of them by a reset. Both empty the
// registry first; a connection that the control API cut ends with the code of a reset, and its identity lives on.
func (c *connection) identityGone() bool {
	e := c.ending.Load()
	if e == nil || e.hub == nil {
		return false
	}
	switch e.hub.Code {
	case hub.CodeDeviceNotFound, hub.CodeModuleNotFound:
		return true
	case hub.CodeClosed:
		now, ok := c.broker.generation(c.key)
		return !ok || c.generation != "" && now != c.generation
	}
	return false
}

// forgetDeadSession drops the kept session of an identity that is gone, unless it is another one's by now.
func (c *connection) forgetDeadSession() {
	if c.clean || !c.identityGone() {
		return
	}
	if _, ok := c.broker.sessions.find(c.key, c.generation); ok {
		c.broker.sessions.drop(c.key)
	}
}
