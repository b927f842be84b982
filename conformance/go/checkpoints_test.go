package conformance

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
)

// checkpoints is a checkpoint store in memory, shared by the processors of one consumer group.
type checkpoints struct {
	mu          sync.Mutex
	owners      map[string]azeventhubs.Ownership
	checkpoints map[string]azeventhubs.Checkpoint
}

func newCheckpoints() *checkpoints {
	return &checkpoints{owners: map[string]azeventhubs.Ownership{}, checkpoints: map[string]azeventhubs.Checkpoint{}}
}

// ClaimOwnership implements azeventhubs.CheckpointStore: who knows the last etag may claim.
func (s *checkpoints) ClaimOwnership(_ context.Context, wanted []azeventhubs.Ownership, _ *azeventhubs.ClaimOwnershipOptions) ([]azeventhubs.Ownership, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var claimed []azeventhubs.Ownership
	for _, o := range wanted {
		old, held := s.owners[o.PartitionID]
		if held && (o.ETag == nil || *o.ETag != *old.ETag) {
			continue
		}
		o.ETag, o.LastModifiedTime = to(azcore.ETag(rand.Text())), time.Now()
		s.owners[o.PartitionID] = o
		claimed = append(claimed, o)
	}
	return claimed, nil
}

// ListCheckpoints implements azeventhubs.CheckpointStore.
func (s *checkpoints) ListCheckpoints(context.Context, string, string, string, *azeventhubs.ListCheckpointsOptions) ([]azeventhubs.Checkpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.checkpoints)), nil
}

// ListOwnership implements azeventhubs.CheckpointStore.
func (s *checkpoints) ListOwnership(context.Context, string, string, string, *azeventhubs.ListOwnershipOptions) ([]azeventhubs.Ownership, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.owners)), nil
}

// SetCheckpoint implements azeventhubs.CheckpointStore.
func (s *checkpoints) SetCheckpoint(_ context.Context, c azeventhubs.Checkpoint, _ *azeventhubs.SetCheckpointOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkpoints[c.PartitionID] = c
	return nil
}
