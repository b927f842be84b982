package egress

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/iolite-emulator/iolite/blob"
	"github.com/iolite-emulator/iolite/store"
)

const (
	sasLife   = time.Hour
	maxCopies = 1000 // blobs of one name and minute
	writeBlob = 5 * time.Minute
)

// containerName is what Blob Storage allows (article "Naming and referencing containers, blobs, and metadata").
var containerName = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9])+$`)

// ContainerConfig is a blob container that messages are written to.
type ContainerConfig struct {
	ConnectionString string // of the storage account
	Container        string
	FileNameFormat   string
	MaxChunk         int             // bytes of one blob
	Wrote            func(bytes int) // called for each blob that was written
}

// Container writes batches of messages into a blob container, one blob for each partition, in lines of JSON.
type Container struct {
	egress *Egress
	ContainerConfig
	account blob.Account
	name    fileName
	written map[int]int64 // by partition: the last sequence number that is in a blob, while those of other partitions are not
}

// Container returns a sink for a blob container.
func (e *Egress) Container(cfg ContainerConfig) (*Container, error) {
	account, err := blob.ParseAccount(cfg.ConnectionString)
	if err != nil {
		return nil, err
	}
	if len(cfg.Container) < 3 || len(cfg.Container) > 63 || !containerName.MatchString(cfg.Container) {
		return nil, errors.New("a container's name has 3 to 63 lower case letters, digits and single hyphens between them")
	}
	name, err := parseFileName(cfg.FileNameFormat)
	if err != nil {
		return nil, err
	}
	return &Container{egress: e, ContainerConfig: cfg, account: account, name: name, written: map[int]int64{}}, nil
}

// Deliver writes all the messages, and returns their number once every one is in a blob; 0 otherwise. Those that were written when others
// could not be are not written again, as long as they come by the same sequence numbers.
func (c *Container) Deliver(ctx context.Context, messages []store.Event) (taken int, err error) {
	for _, partition := range c.partitions(messages) {
		if err := c.writePartition(ctx, partition, messages); err != nil {
			return 0, broken(err)
		}
	}
	clear(c.written)
	return len(messages), nil
}

// partitions lists the partitions that messages come from.
func (c *Container) partitions(messages []store.Event) []int {
	var all []int
	for i := range messages {
		if p := c.partitionOf(&messages[i]); !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return all
}

func (c *Container) partitionOf(e *store.Event) int {
	return c.egress.PartitionOf(cmp.Or(e.PartitionKey, e.DeviceID))
}

// writePartition writes the messages of one partition into as many blobs as MaxChunk takes.
func (c *Container) writePartition(ctx context.Context, partition int, messages []store.Event) error {
	var lines []byte
	last, any := int64(0), false
	for i := range messages {
		e := &messages[i]
		if done, some := c.written[partition]; c.partitionOf(e) != partition || some && e.Sequence <= done {
			continue
		}
		before := len(lines)
		lines = appendLine(lines, e)
		if len(lines) > c.MaxChunk && before > 0 {
			if err := c.write(ctx, partition, lines[:before], last); err != nil {
				return err
			}
			lines = append(lines[:0], lines[before:]...)
		}
		last, any = e.Sequence, true
	}
	if !any {
		return nil
	}
	return c.write(ctx, partition, lines, last)
}

// write makes a blob of a name that nobody has yet.
func (c *Container) write(ctx context.Context, partition int, lines []byte, last int64) error {
	ctx, cancel := context.WithTimeout(ctx, writeBlob)
	defer cancel()
	now := c.egress.Clock.Now()
	uri := c.account.Container(c.ContainerConfig.Container, "rcw", c.egress.wall().Add(sasLife))
	for copy := range maxCopies {
		err := c.egress.blobs.PutNew(ctx, uri, c.name.name(c.egress.Hub, partition, now, copy), bytes.NewReader(lines))
		if errors.Is(err, blob.ErrExists) {
			continue
		}
		if err != nil {
			return err
		}
		c.written[partition] = last
		c.Wrote(len(lines))
		return nil
	}
	return fmt.Errorf("there are %d blobs of one name in this minute", maxCopies)
}

// Close implements the sink: there is no connection.
func (c *Container) Close() error { return nil }
