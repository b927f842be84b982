package store

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func newRegistry() Registry { return NewMemory(MemoryOptions{}).Registry() }

func TestEveryWriteChangesTheETagAndGuardsTheNext(t *testing.T) {
	r := newRegistry()
	id := must(r.Create(ctx, Identity{Key: Key{DeviceID: "d"}, Status: Enabled}))
	_, err := r.Create(ctx, Identity{Key: id.Key})
	wantErr(t, err, ErrExists)
	id.StatusReason = "first"
	second := must(r.Update(ctx, id, id.ETag))
	if second.ETag == id.ETag {
		t.Error("an update kept the etag")
	}
	_, err = r.Update(ctx, id, id.ETag)
	wantErr(t, err, ErrConflict)
	must(r.Update(ctx, id, "*"))
	_, err = r.Delete(ctx, id.Key, second.ETag)
	wantErr(t, err, ErrConflict)
	_, err = r.Delete(ctx, id.Key, "")
	wantErr(t, err, ErrConflict)
	must(r.Delete(ctx, id.Key, "*"))
	_, err = r.Delete(ctx, id.Key, "*")
	wantErr(t, err, ErrNotFound)
	_, err = r.Update(ctx, id, "*")
	wantErr(t, err, ErrNotFound)
}

// TestAnUpdateLeavesTheActivity: who read an identity before its connection ended must not bring the connection back.
func TestAnUpdateLeavesTheActivity(t *testing.T) {
	r := newRegistry()
	id := must(r.Create(ctx, Identity{Key: Key{DeviceID: "d"}}))
	id.Connected, id.ModelID, id.StatusReason = true, "old", "x"
	wantErr(t, r.Touch(ctx, id.Key, func(a *Activity) { a.ModelID = "new" }), nil)
	updated := must(r.Update(ctx, id, id.ETag))
	if got := must(r.Get(ctx, id.Key)); got.Connected || got.ModelID != "new" || got.StatusReason != "x" || !cmp.Equal(got, updated) {
		t.Errorf("%+v", got)
	}
}

func TestTouchKeepsTheETag(t *testing.T) {
	r := newRegistry()
	id := must(r.Create(ctx, Identity{Key: Key{DeviceID: "d"}}))
	err := r.Touch(ctx, id.Key, func(a *Activity) { a.Connected, a.LastActivity, a.ModelID = true, start, "dtmi:x;1" })
	if err != nil {
		t.Fatal(err)
	}
	id.Connected, id.LastActivity, id.ModelID = true, start, "dtmi:x;1"
	if diff := cmp.Diff(id, must(r.Get(ctx, id.Key))); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	wantErr(t, r.Touch(ctx, Key{DeviceID: "other"}, func(*Activity) {}), ErrNotFound)
}

func TestModulesBelongToTheirDevice(t *testing.T) {
	r := newRegistry()
	_, err := r.Create(ctx, Identity{Key: Key{"d", "m"}})
	wantErr(t, err, ErrNotFound)
	must(r.Create(ctx, Identity{Key: Key{DeviceID: "d"}}))
	for _, m := range []string{"m2", "m1", "m3"} {
		must(r.Create(ctx, Identity{Key: Key{"d", m}}))
	}
	_, err = r.Create(ctx, Identity{Key: Key{"d", "m2"}})
	wantErr(t, err, ErrExists)
	must(r.Delete(ctx, Key{"d", "m3"}, "*"))
	if diff := cmp.Diff([]string{"d/m1", "d/m2"}, names(must(r.Modules(ctx, "d")))); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	wantErr(t, r.(Twins).UpdateTwin(ctx, Key{"d", "m2"}, "", 0, Twin{Version: 7}), nil)
	removed := must(r.Delete(ctx, Key{DeviceID: "d"}, "*"))
	got := []string{}
	for _, row := range removed {
		got = append(got, fmt.Sprintf("%s:%d", row.Key, row.Twin.Version))
	}
	if !cmp.Equal(got, []string{"d:0", "d/m1:0", "d/m2:7"}) {
		t.Errorf("deleted %v", got)
	}
	if got := must(r.Modules(ctx, "d")); got != nil {
		t.Errorf("modules of a deleted device: %v", names(got))
	}
}

func names(ids []Identity) (n []string) {
	for _, id := range ids {
		n = append(n, id.Key.String())
	}
	return n
}

func TestCountFollowsTheStatus(t *testing.T) {
	r := newRegistry()
	a := must(r.Create(ctx, Identity{Key: Key{DeviceID: "a"}, Status: Enabled}))
	must(r.Create(ctx, Identity{Key: Key{DeviceID: "b"}, Status: Disabled}))
	must(r.Create(ctx, Identity{Key: Key{"b", "m"}, Status: Disabled}))
	a.Status = Disabled
	must(r.Update(ctx, a, "*"))
	must(r.Delete(ctx, Key{DeviceID: "b"}, "*"))
	if n, disabled, _ := r.Count(ctx); n != 1 || disabled != 1 {
		t.Errorf("Count = %d devices, %d disabled; want 1, 1", n, disabled)
	}
}

func TestScopesAreNotSharedWithCallers(t *testing.T) {
	r := newRegistry()
	scopes := []string{"one"}
	must(r.Create(ctx, Identity{Key: Key{DeviceID: "d"}, ParentScopes: scopes}))
	scopes[0] = "changed"
	if got := must(r.Get(ctx, Key{DeviceID: "d"})).ParentScopes[0]; got != "one" {
		t.Errorf("ParentScopes = %q", got)
	}
}

func TestOrderedIDsAreASortedSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o orderedIDs
		model := map[string]bool{}
		for range rapid.IntRange(0, 3000).Draw(t, "steps") {
			id := fmt.Sprint(rapid.IntRange(0, 1500).Draw(t, "id"))
			if rapid.IntRange(0, 3).Draw(t, "op") == 0 {
				o.remove(id)
				delete(model, id)
			} else {
				o.add(id)
				model[id] = true
			}
		}
		want := make([]string, 0, len(model))
		for id := range model {
			want = append(want, id)
		}
		slices.Sort(want)
		after := rapid.SampledFrom(append([]string{"", "zzz"}, want...)).Draw(t, "after")
		limit := rapid.IntRange(0, 2000).Draw(t, "limit")
		at, found := slices.BinarySearch(want, after)
		if found {
			at++
		}
		want = want[at:min(at+limit, len(want))]
		if got := o.after(after, limit); !slices.Equal(got, want) {
			t.Fatalf("after(%q, %d) = %v, want %v", after, limit, got, want)
		}
	})
}

func TestRegistryIsSafeForManyGoroutines(t *testing.T) {
	r := newRegistry()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 {
				key := Key{DeviceID: fmt.Sprintf("%d", (i*7+g)%50)}
				_, _ = r.Create(ctx, Identity{Key: key})
				_ = r.Touch(ctx, key, func(a *Activity) { a.Connected = true })
				_, _ = r.Get(ctx, key)
				_, _ = r.Devices(ctx, "", 100)
				_, _ = r.Delete(ctx, key, "*")
			}
		})
	}
	wg.Wait()
}

// device returns an identity as the hub registers it.
func device(i int) Identity {
	key := strings.Repeat("k", 44)
	return Identity{
		Key: Key{DeviceID: fmt.Sprintf("device-%06d", i)}, GenerationID: fmt.Sprintf("%018d", i), Status: Enabled,
		Authentication: Authentication{Type: AuthSAS, PrimaryKey: strings.Clone(key), SecondaryKey: strings.Clone(key)},
	}
}

func TestRegisteredDeviceTakesUnderOneKilobyte(t *testing.T) {
	const n = 50_000
	ids := rand.Perm(n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := newRegistry()
	for _, i := range ids {
		must(r.Create(ctx, device(i)))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := (after.HeapAlloc - before.HeapAlloc) / n; per > 1024 {
		t.Errorf("a device takes %d bytes", per)
	} else {
		t.Logf("a device takes %d bytes", per)
	}
	runtime.KeepAlive(r)
}

func BenchmarkCreate100000InAnyOrder(b *testing.B) {
	ids := rand.Perm(100_000)
	for b.Loop() {
		r := newRegistry()
		for _, i := range ids {
			must(r.Create(ctx, Identity{Key: Key{DeviceID: fmt.Sprintf("device-%06d", i)}}))
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(time.Microsecond)/float64(b.N)/float64(len(ids)), "µs/device")
}

func BenchmarkGet(b *testing.B) {
	r := newRegistry()
	for i := range 10_000 {
		must(r.Create(ctx, device(i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		must(r.Get(ctx, Key{DeviceID: "device-005000"}))
	}
}

func BenchmarkListThousandOf100000(b *testing.B) {
	r := newRegistry()
	for i := range 100_000 {
		must(r.Create(ctx, device(i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		must(r.Devices(ctx, "device-050000", 1000))
	}
}
