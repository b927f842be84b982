package store

import (
	"context"
	"slices"
	"sync"
	"time"
)

// memUploads keeps uploads by owner. Those whose time is up are swept out whenever there are twice as many as the last sweep left.
type memUploads struct {
	mu      sync.Mutex
	byOwner map[string][]Upload
	count   int
	sweepAt int
}

// sweepUploads is the least number of uploads that are swept.
const sweepUploads = 64

func (u *memUploads) reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.byOwner, u.count, u.sweepAt = map[string][]Upload{}, 0, sweepUploads
}

// Begin implements Uploads.
func (u *memUploads) Begin(_ context.Context, upload Upload, now time.Time, limit int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	active := 0
	for _, other := range u.byOwner[upload.Owner] {
		if other.Ends.After(now) {
			active++
		}
	}
	if active >= limit {
		return ErrFull
	}
	if u.count >= u.sweepAt {
		u.sweep(now)
	}
	u.byOwner[upload.Owner] = append(u.byOwner[upload.Owner], upload)
	u.count++
	return nil
}

// sweep drops uploads whose time is up. The caller holds mu.
func (u *memUploads) sweep(now time.Time) {
	u.count = 0
	for owner, list := range u.byOwner {
		u.keep(owner, slices.DeleteFunc(list, func(o Upload) bool { return !o.Until.After(now) }))
		u.count += len(u.byOwner[owner])
	}
	u.sweepAt = max(2*u.count, sweepUploads)
}

func (u *memUploads) keep(owner string, list []Upload) {
	if len(list) == 0 {
		delete(u.byOwner, owner)
		return
	}
	u.byOwner[owner] = list
}

// Find implements Uploads.
func (u *memUploads) Find(_ context.Context, owner, correlationID string, now time.Time) (Upload, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := u.byOwner[owner]
	at := find(list, correlationID)
	if at < 0 || !list[at].Until.After(now) {
		return Upload{}, ErrNotFound
	}
	return list[at], nil
}

// Finish implements Uploads.
func (u *memUploads) Finish(_ context.Context, owner, correlationID string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := u.byOwner[owner]
	at := find(list, correlationID)
	if at < 0 {
		return ErrNotFound
	}
	u.keep(owner, slices.Delete(list, at, at+1))
	u.count--
	return nil
}

func find(list []Upload, correlationID string) int {
	return slices.IndexFunc(list, func(u Upload) bool { return u.CorrelationID == correlationID })
}
