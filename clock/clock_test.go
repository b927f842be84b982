package clock

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestAdvanceFiresEveryExpiryBetweenInOrderAtItsOwnTime(t *testing.T) {
	c := NewManual(start)
	type firing struct {
		Name string
		At   time.Duration
	}
	var got []firing
	note := func(name string) func() {
		return func() { got = append(got, firing{name, c.Now().Sub(start)}) }
	}
	c.AfterFunc(3*time.Minute, note("third"))
	c.AfterFunc(time.Minute, func() {
		note("first")()
		c.AfterFunc(time.Minute, note("second, made on the way"))
	})
	c.AfterFunc(time.Hour, note("never"))
	c.Advance(5 * time.Minute)
	want := []firing{{"first", time.Minute}, {"second, made on the way", 2 * time.Minute}, {"third", 3 * time.Minute}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("firings (-want +got):\n%s", diff)
	}
	if now := c.Now(); !now.Equal(start.Add(5 * time.Minute)) {
		t.Errorf("Now() = %v after Advance", now)
	}
}

func TestSettleWaitsForTheEndOfAnAdvance(t *testing.T) {
	c := NewManual(start)
	settled := make(chan time.Time, 1)
	c.AfterFunc(time.Minute, func() {
		started := make(chan struct{})
		go func() {
			close(started)
			c.Settle()
			settled <- c.Now()
		}()
		<-started
		select {
		case at := <-settled:
			t.Errorf("settled at %v, in the middle", at)
		case <-time.After(10 * time.Millisecond): // can only be too short to notice
		}
	})
	c.Advance(time.Hour)
	if at := <-settled; !at.Equal(start.Add(time.Hour)) {
		t.Errorf("settled at %v", at)
	}
}

func TestStoppedTimerDoesNotFireAndResetMovesIt(t *testing.T) {
	c := NewManual(start)
	fired := 0
	timer := c.AfterFunc(time.Minute, func() { fired++ })
	if !timer.Stop() {
		t.Error("Stop of a pending timer = false")
	}
	if timer.Stop() {
		t.Error("second Stop = true")
	}
	c.Advance(time.Hour)
	if fired != 0 {
		t.Fatal("a stopped timer fired")
	}
	timer.ResetAt(c.Now().Add(time.Minute))
	c.Advance(59 * time.Second)
	if fired != 0 {
		t.Fatal("fired too early")
	}
	c.Advance(time.Second)
	if fired != 1 {
		t.Fatalf("fired %d times, want 1", fired)
	}
}

func TestRealClockRunsAndCanBeMoved(t *testing.T) {
	c := New()
	defer c.Stop()
	fired := make(chan time.Time, 2)
	c.AfterFunc(time.Hour, func() { fired <- c.Now() })
	c.AfterFunc(time.Millisecond, func() { fired <- c.Now() })
	<-fired
	c.Advance(2 * time.Hour)
	<-fired
	if off := c.Offset(); off < time.Hour {
		t.Errorf("Offset() = %v", off)
	}
	c.Restore()
	if off := c.Offset(); off != 0 {
		t.Errorf("Offset() = %v after Restore", off)
	}
	c.AfterFunc(time.Millisecond, func() { fired <- c.Now() })
	<-fired
}

func TestEarlierTimerIsNotHeldUpByLaterOne(t *testing.T) {
	c := New()
	defer c.Stop()
	c.AfterFunc(time.Hour, func() {})
	done := make(chan struct{})
	c.AfterFunc(time.Millisecond, func() { close(done) })
	<-done
}

func TestSleepEndsWithItsContext(t *testing.T) {
	c := NewManual(start)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("Sleep = %v", err)
	}
}

func TestClockIsSafeForManyGoroutines(t *testing.T) {
	c := NewManual(start)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				timer := c.AfterFunc(time.Second, func() {})
				c.Now()
				timer.Stop()
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			c.Advance(time.Millisecond)
		}
	})
	wg.Wait()
}

func TestATimerMayBeResetWhileItIsDue(t *testing.T) {
	const turns = 50_000
	c := NewManual(start)
	defer c.Stop()
	timer := c.AfterFunc(time.Second, func() {})
	var resetting sync.WaitGroup
	resetting.Go(func() {
		for i := range turns {
			timer.ResetAt(start.Add(time.Duration(i) * time.Second)) // due, or about to be
		}
	})
	for range turns {
		c.Advance(time.Second)
	}
	resetting.Wait()
	if got, want := c.Now(), start.Add(turns*time.Second); !got.Equal(want) {
		t.Errorf("the clock is at %s, not at %s", got, want)
	}
}
