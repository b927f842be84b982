package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestEveryWriteOfAJobIsACompareAndSwap(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	jobs := m.Jobs()
	first := must(jobs.Create(ctx, Job{ID: "j", Status: "a"}))
	_, err := jobs.Create(ctx, Job{ID: "j"})
	wantErr(t, err, ErrExists)
	second := first
	second.Status = "b"
	second = must(jobs.Update(ctx, second))
	_, err = jobs.Update(ctx, first)
	wantErr(t, err, ErrConflict)
	if err := m.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = jobs.Update(ctx, second)
	wantErr(t, err, ErrNotFound)
	if again := must(jobs.Create(ctx, Job{ID: "j"})); again.Version == first.Version || again.Version == second.Version {
		t.Error("a version was given twice")
	}
	wantErr(t, jobs.Delete(ctx, "k"), ErrNotFound)
	wantErr(t, jobs.AddDevices(ctx, "k", nil), ErrNotFound)
	wantErr(t, jobs.SetDevice(ctx, "j", DeviceJob{}), ErrNotFound)
}

// TestJobStatisticsAreThoseOfTheDevices holds for any changes of the devices, and a job's own writes change none of them.
func TestJobStatisticsAreThoseOfTheDevices(t *testing.T) {
	statuses := []DeviceJobStatus{DevicePending, DeviceRunning, DeviceCompleted, DeviceFailed, DeviceCanceled}
	rapid.Check(t, func(t *rapid.T) {
		jobs := NewMemory(MemoryOptions{}).Jobs()
		job := must(jobs.Create(ctx, Job{ID: "j"}))
		keys := make([]Key, rapid.IntRange(0, 20).Draw(t, "devices"))
		now := make([]DeviceJobStatus, len(keys))
		for i := range keys {
			keys[i], now[i] = Key{DeviceID: fmt.Sprintf("d%02d", i)}, DevicePending
		}
		cut := rapid.IntRange(0, len(keys)).Draw(t, "cut")
		_, _ = jobs.AddDevices(ctx, "j", keys[:cut]), jobs.AddDevices(ctx, "j", keys[cut:])
		for len(keys) > 0 && rapid.Bool().Draw(t, "more") {
			i := rapid.IntRange(0, len(keys)-1).Draw(t, "which")
			now[i] = rapid.SampledFrom(statuses).Draw(t, "status")
			if err := jobs.SetDevice(ctx, "j", DeviceJob{Key: keys[i], Status: now[i]}); err != nil {
				t.Fatal(err)
			}
		}
		job = must(jobs.Update(ctx, job))
		want := JobStatistics{Devices: len(keys)}
		for _, s := range now {
			want.count(s, 1)
		}
		if job.Statistics != want {
			t.Fatalf("%+v, want %+v", job.Statistics, want)
		}
	})
}

// TestDevicesOfJobsArePagedInOrder holds for any jobs, devices and size of page.
func TestDevicesOfJobsArePagedInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs := NewMemory(MemoryOptions{}).Jobs()
		var want []DeviceJobKey
		for j := range rapid.IntRange(0, 5).Draw(t, "jobs") {
			id := fmt.Sprintf("j%d", j)
			must(jobs.Create(ctx, Job{ID: id}))
			var keys []Key
			for d := range rapid.IntRange(0, 5).Draw(t, "devices") {
				keys = append(keys, Key{DeviceID: fmt.Sprintf("d%d", d/2), ModuleID: []string{"", "m"}[d%2]})
			}
			for _, key := range keys {
				want = append(want, DeviceJobKey{id, key})
			}
			if err := jobs.AddDevices(ctx, id, keys); err != nil {
				t.Fatal(err)
			}
		}
		size := rapid.IntRange(1, 7).Draw(t, "page")
		var got []DeviceJobKey
		for after := (DeviceJobKey{}); ; after = got[len(got)-1] {
			rows, err := jobs.Devices(ctx, after, size, nil)
			if err != nil || len(rows) > size {
				t.Fatal(len(rows), err)
			}
			if len(rows) == 0 {
				break
			}
			for _, row := range rows {
				got = append(got, DeviceJobKey{row.Job.ID, row.Key})
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

func TestConfigurationsAreGuardedByETagsAndLimited(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	c := m.Configurations()
	b := must(c.Create(ctx, Configuration{ID: "b"}, 2))
	must(c.Create(ctx, Configuration{ID: "a"}, 2))
	_, err := c.Create(ctx, Configuration{ID: "b"}, 2)
	wantErr(t, err, ErrExists)
	_, err = c.Create(ctx, Configuration{ID: "c"}, 2)
	wantErr(t, err, ErrFull)
	b.Priority = 7
	second := must(c.Update(ctx, b, b.ETag))
	if second.ETag == b.ETag {
		t.Error("an update kept the etag")
	}
	_, err = c.Update(ctx, b, b.ETag)
	wantErr(t, err, ErrConflict)
	_, err = c.Update(ctx, Configuration{ID: "c"}, "*")
	wantErr(t, err, ErrNotFound)
	if got := must(c.Get(ctx, "b")); got.Priority != 7 {
		t.Errorf("%+v", got)
	}
	if list := must(c.List(ctx)); len(list) != 2 || list[0].ID != "a" {
		t.Errorf("%+v", list)
	}
	_, err = c.Delete(ctx, "b", b.ETag)
	wantErr(t, err, ErrConflict)
	must(c.Delete(ctx, "b", "*"))
	if _, err := c.Get(ctx, "b"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
