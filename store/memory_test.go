package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ctx   = context.Background()
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// must returns a value that may not fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error = %v, want %v", err, want)
	}
}

func TestResetEmptiesEverythingAndStartsSequencesAnew(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	key := Key{DeviceID: "d1"}
	must(m.Registry().Create(ctx, Identity{Key: key, Status: Disabled}))
	must(m.Devicebound().Enqueue(ctx, key, Message{}, 50))
	must(m.Feedback().Enqueue(ctx, Key{}, Message{}, 50))
	must(m.Events().Append(ctx, 0, Event{Body: []byte("x")}))
	if err := m.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	_, err := m.Registry().Get(ctx, key)
	wantErr(t, err, ErrNotFound)
	if n, disabled, _ := m.Registry().Count(ctx); n != 0 || disabled != 0 {
		t.Errorf("Count = %d, %d", n, disabled)
	}
	if n := must(m.Devicebound().Len(ctx, key)) + must(m.Feedback().Len(ctx, Key{})); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	want := PartitionInfo{FirstSequence: 0, LastSequence: -1, LastOffset: -1}
	if diff := cmp.Diff(want, must(m.Events().Info(ctx, 0))); diff != "" {
		t.Errorf("partition (-want +got):\n%s", diff)
	}
	if first := must(m.Events().Append(ctx, 0, Event{})); first != 0 {
		t.Errorf("first sequence number after reset = %d", first)
	}
}
