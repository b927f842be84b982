package hub

import (
	"context"
	"time"
)

// Bounds and default of how long an event hub keeps events (article "Read device-to-cloud messages from the built-in endpoint":
// one day, up to seven).
const (
	MinRetention     = 24 * time.Hour
	MaxRetention     = 7 * 24 * time.Hour
	DefaultRetention = MinRetention
)

// expireEvery is how much of the hub's time goes by before a partition that is being read is searched for what is too old, again.
const expireEvery = time.Second

// expire drops the events of a partition that are older than the retention. Whoever looks at a partition calls it first, so that
// nobody gets an event that is too old by more than expireEvery.
func (e *eventHub) expire(ctx context.Context, partition int) error {
	now := e.hub.clock.Now()
	due := &e.expired[partition]
	if last := due.Load(); last != 0 && now.UnixNano()-last < int64(expireEvery) && now.UnixNano() >= last {
		return nil
	}
	oldest, err := e.log.SeekTime(ctx, partition, now.Add(-e.hub.cfg.Retention))
	if err != nil {
		return err
	}
	due.Store(now.UnixNano())
	return e.log.Trim(ctx, partition, oldest)
}
