package store

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func upload(owner, id string, at time.Time) Upload {
	return Upload{Owner: owner, CorrelationID: id, Ends: at.Add(time.Hour), Until: at.Add(70 * time.Minute)}
}

func TestUploadsCountUntilTheyEnd(t *testing.T) {
	u := NewMemory(MemoryOptions{}).Uploads()
	begin := func(owner, id string, at time.Time) error { return u.Begin(ctx, upload(owner, id, at), at, 2) }
	wantNoError(t, begin("a", "1", blobStart), begin("a", "2", blobStart), begin("b", "1", blobStart))
	if err := begin("a", "3", blobStart.Add(time.Hour-time.Second)); !errors.Is(err, ErrFull) {
		t.Errorf("a third: %v", err)
	}
	wantNoError(t, u.Finish(ctx, "a", "1"), begin("a", "3", blobStart))
	if err := u.Finish(ctx, "a", "1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("finished twice: %v", err)
	}
	wantNoError(t, begin("a", "4", blobStart.Add(time.Hour)))
	_, err := u.Find(ctx, "a", "2", blobStart.Add(69*time.Minute)) // no longer active, but known
	wantNoError(t, err)
	if _, err := u.Find(ctx, "a", "2", blobStart.Add(70*time.Minute)); !errors.Is(err, ErrNotFound) {
		t.Errorf("forgotten: %v", err)
	}
	if _, err := u.Find(ctx, "b", "2", blobStart); !errors.Is(err, ErrNotFound) {
		t.Errorf("another's: %v", err)
	}
}

// Uploads that nobody completes take no memory for good.
func TestUploadsAreSweptOut(t *testing.T) {
	u := &memUploads{}
	u.reset()
	for i := range 100_000 {
		at := blobStart.Add(time.Duration(i) * time.Second)
		wantNoError(t, u.Begin(ctx, upload(fmt.Sprint(i), "1", at), at, 10))
	}
	if most := 2 * 70 * 60; len(u.byOwner) > most || u.count > most {
		t.Errorf("%d owners, %d uploads; at most %d should be kept", len(u.byOwner), u.count, most)
	}
}
