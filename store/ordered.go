package store

import (
	"slices"
	"sort"
)

// chunkIDs is how many ids a chunk holds before it is split in two.
const chunkIDs = 512

// orderedIDs is a sorted set of ids cut into chunks, so that neither adding nor removing one of a hundred thousand moves
// them all, and listing sorts nothing. No chunk is empty.
type orderedIDs struct{ chunks [][]string }

// locate returns the chunk that holds or would hold id, and the place in it. There must be a chunk.
func (o *orderedIDs) locate(id string) (chunk, at int, found bool) {
	chunk = max(sort.Search(len(o.chunks), func(i int) bool { return o.chunks[i][0] > id })-1, 0)
	at, found = slices.BinarySearch(o.chunks[chunk], id)
	return chunk, at, found
}

// add puts id in its place; adding one twice changes nothing.
func (o *orderedIDs) add(id string) {
	if len(o.chunks) == 0 {
		o.chunks = [][]string{{id}}
		return
	}
	i, at, found := o.locate(id)
	if found {
		return
	}
	o.chunks[i] = slices.Insert(o.chunks[i], at, id)
	if len(o.chunks[i]) > chunkIDs {
		o.split(i, at)
	}
}

// split cuts chunk i in two: in the middle, or before its last id when that was just added, so that ids made in order fill
// their chunks.
func (o *orderedIDs) split(i, added int) {
	full := o.chunks[i]
	cut := len(full) / 2
	if added == len(full)-1 {
		cut = added
	}
	rest := append(make([]string, 0, chunkIDs+1), full[cut:]...)
	clear(full[cut:])
	o.chunks[i] = full[:cut]
	o.chunks = slices.Insert(o.chunks, i+1, rest)
}

// remove takes id out; removing one that is not there changes nothing.
func (o *orderedIDs) remove(id string) {
	if len(o.chunks) == 0 {
		return
	}
	i, at, found := o.locate(id)
	if !found {
		return
	}
	o.chunks[i] = slices.Delete(o.chunks[i], at, at+1)
	if len(o.chunks[i]) == 0 {
		o.chunks = slices.Delete(o.chunks, i, i+1)
	}
}

// after returns up to limit ids greater than id, in order.
func (o *orderedIDs) after(id string, limit int) []string {
	if len(o.chunks) == 0 || limit <= 0 {
		return nil
	}
	i, at, found := o.locate(id)
	if found {
		at++
	}
	var ids []string
	for ; i < len(o.chunks) && len(ids) < limit; i, at = i+1, 0 {
		chunk := o.chunks[i][at:]
		ids = append(ids, chunk[:min(len(chunk), limit-len(ids))]...)
	}
	return ids
}
