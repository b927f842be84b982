package amqp10

import "sort"

// ledger keeps what is unsettled in one direction of a session, by delivery-id. Ids only ever rise (as serial numbers,
// RFC 1982), so the entries are a queue in order; what is settled out of order leaves a hole that is closed in time.
type ledger[T any] struct {
	entries []ledgerEntry[T]
	live    int
	last    uint32 // highest id ever entered
	begun   bool
}

type ledgerEntry[T any] struct {
	id   uint32
	live bool
	v    T
}

// add enters id, and says no when it does not come after all ids before it.
func (g *ledger[T]) add(id uint32, v T) bool {
	if !g.next(id) {
		return false
	}
	if len(g.entries) == cap(g.entries) && g.live < len(g.entries)/2 {
		g.compact()
	}
	g.entries = append(g.entries, ledgerEntry[T]{id, true, v})
	g.live++
	return true
}

// next uses up id without an entry; see add.
func (g *ledger[T]) next(id uint32) bool {
	if g.begun && int32(id-g.last) <= 0 {
		return false
	}
	if len(g.entries) > 0 && int32(id-g.entries[0].id) <= 0 {
		return false
	}
	g.begun, g.last = true, id
	return true
}

// at returns the place of the first entry whose id is not before id.
func (g *ledger[T]) at(id uint32) int {
	return sort.Search(len(g.entries), func(i int) bool { return int32(g.entries[i].id-id) >= 0 })
}

// get returns a pointer to the live entry of id, valid until the ledger changes, or nil.
func (g *ledger[T]) get(id uint32) *T {
	if i := g.at(id); i < len(g.entries) && g.entries[i].id == id && g.entries[i].live {
		return &g.entries[i].v
	}
	return nil
}

// remove takes id out and says whether it was there.
func (g *ledger[T]) remove(id uint32) bool {
	i := g.at(id)
	if i >= len(g.entries) || g.entries[i].id != id || !g.entries[i].live {
		return false
	}
	g.drop(i)
	g.settle()
	return true
}

// removeIf takes out every entry from first to last for which f says so. It visits entries, never ids: a range may
// name four thousand million of them.
func (g *ledger[T]) removeIf(first, last uint32, f func(id uint32, v *T) bool) {
	for i := g.at(first); i < len(g.entries) && int32(g.entries[i].id-last) <= 0; i++ {
		if e := &g.entries[i]; e.live && f(e.id, &e.v) {
			g.drop(i)
		}
	}
	g.settle()
}

// removeAll is removeIf over all entries.
func (g *ledger[T]) removeAll(f func(id uint32, v *T) bool) {
	if len(g.entries) > 0 {
		g.removeIf(g.entries[0].id, g.entries[len(g.entries)-1].id, f)
	}
}

func (g *ledger[T]) drop(i int) {
	g.entries[i] = ledgerEntry[T]{id: g.entries[i].id}
	g.live--
}

// settle forgets the holes when nothing else is left.
func (g *ledger[T]) settle() {
	if g.live == 0 {
		g.entries = g.entries[:0]
	}
}

func (g *ledger[T]) compact() {
	kept := g.entries[:0]
	for _, e := range g.entries {
		if e.live {
			kept = append(kept, e)
		}
	}
	clear(g.entries[len(kept):])
	g.entries = kept
}

// trim gives memory back while nothing is unsettled.
func (g *ledger[T]) trim() {
	if g.live == 0 {
		g.entries = nil
	}
}
