package amqpsrv

import (
	"strconv"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/store"
)

// lastEnqueued is what peers are told about the newest event of a partition.
type lastEnqueued struct {
	sequence  int64
	offset    string
	enqueued  amqp10.Timestamp
	retrieved amqp10.Timestamp
}

// lastOf describes the end of a partition, which retention does not change. One that never had an event has the sequence number and
// the offset -1.
func lastOf(info store.PartitionInfo) lastEnqueued {
	l := lastEnqueued{sequence: info.LastSequence, offset: decimal(info.LastOffset), enqueued: amqp10.TimestampOf(info.LastEnqueued)}
	if info.LastEnqueued.IsZero() {
		l.enqueued = yearOne
	}
	return l
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
