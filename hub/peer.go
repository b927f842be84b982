package hub

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iolite-emulator/iolite/store"
)

// peerShards is the number of locks that guard the map of peers.
const peerShards = 64

// peerShard is a part of the map of peers.
type peerShard struct {
	mu    sync.Mutex
	peers map[store.Key]*peer
}

// peer is what the hub remembers of an identity from one call to the next: its connection, the push and the timer of its
// queue, and its last poll. It exists only while there is something to remember. The queue's lock guards all of it.
type peer struct {
	queue
	session  *DeviceSession // nil when not connected
	lastPoll time.Time      // the last poll that was let through; zero when none
	online   chan struct{}  // closed when the identity takes methods; nil while nobody waits for that
	waiting  int32          // how many do
	gone     bool           // no longer in the map: look again

	activity atomic.Int64 // time of the last activity in Unix nanoseconds; needs no lock
}

func (h *Hub) shard(key store.Key) *peerShard {
	return &h.shards[maphash.Comparable(h.seed, key)%peerShards]
}

// lockPeer returns the peer of key, made if need be, with its lock held. unlockPeer gives it back.
func (h *Hub) lockPeer(key store.Key) *peer {
	for {
		s := h.shard(key)
		s.mu.Lock()
		p := s.peers[key]
		if p == nil {
			p = &peer{queue: queue{hub: h, rules: h.devicebound, key: key}}
			s.peers[key] = p
		}
		s.mu.Unlock()
		p.mu.Lock()
		if !p.gone {
			return p
		}
		p.mu.Unlock()
	}
}

// findPeer is lockPeer for callers that have no use for a new peer: it returns nil when there is none.
func (h *Hub) findPeer(key store.Key) *peer {
	s := h.shard(key)
	s.mu.Lock()
	p := s.peers[key]
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	p.mu.Lock()
	if p.gone { // one that was made since then knows nothing worth finding
		p.mu.Unlock()
		return nil
	}
	return p
}

// unlockPeer unlocks p, forgets it if there is nothing to remember, and then does what had to wait.
func (h *Hub) unlockPeer(p *peer) {
	if !p.gone && p.session == nil && len(p.subs) == 0 && p.next.IsZero() && p.lastPoll.IsZero() && p.activity.Load() == 0 && p.waiting == 0 {
		h.forget(p)
	}
	p.unlock()
}

// forget takes p out of the map. The caller holds its lock.
func (h *Hub) forget(p *peer) {
	p.gone = true
	p.rest()
	s := h.shard(p.key)
	s.mu.Lock()
	delete(s.peers, p.key)
	s.mu.Unlock()
}

// erase ends what a deleted identity has: session, pushes, queue and memory. The identity is no longer in the registry, so nothing of it
// can come back. Its messages get no feedback, and feedback that was not sent yet is deleted with it: the device they were for is no more.
// The caller holds the lock.
func (p *peer) erase(why *Error) {
	p.purge()
	p.clear(why)
	p.later(func() { p.hub.feedback.forgetDevice(p.key.DeviceID) })
}

// clear ends what the peer has in this process and forgets it. The caller holds the lock.
func (p *peer) clear(why *Error) {
	if p.session != nil {
		p.end(p.session, why)
	}
	for _, sub := range slices.Clone(p.subs) {
		p.drop(sub)
	}
	p.wake() // who waits finds that there is nothing to wait for
	p.hub.forget(p)
}

// sweep clears every peer, for Reset and Close.
func (h *Hub) sweep() {
	why := h.NewError(CodeClosed)
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		peers := slices.Collect(maps.Values(s.peers))
		s.mu.Unlock()
		for _, p := range peers {
			p.mu.Lock()
			if !p.gone {
				p.clear(why)
			}
			p.unlock()
		}
	}
}

// peerKeys lists the keys of all peers, in no order.
func (h *Hub) peerKeys() []store.Key {
	var keys []store.Key
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		for key := range s.peers {
			keys = append(keys, key)
		}
		s.mu.Unlock()
	}
	return keys
}
